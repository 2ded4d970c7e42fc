"""`platformops build`: a wheel of a system, and the recipe of an image that runs it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from platformops.cli.options import AsJson, Overrides, SpecFile

if TYPE_CHECKING:
    from platformops.delivery.packaging.image import ImageRecipe

To = Annotated[Path, typer.Option(metavar="FOLDER", help="Where the files go.")]
Base = Annotated[str, typer.Option(help="Image to build on, NAME@sha256:...; default `ci.image` of the spec.")]
Tag = Annotated[str, typer.Option("--image", metavar="TAG", help="Build the image with buildah, under this name.")]
ISOLATED = ("--storage-driver", "vfs")
"""Needs no kernel module and no daemon, so that it builds within a container as well."""


def build(
    spec: SpecFile,
    set_: Overrides = None,
    to: To = Path(".platformops/dist"),
    base: Base = "",
    image: Tag = "",
    json_: AsJson = False,
) -> None:
    """Write a wheel of the system, one of the platform, exact requirements, an SBOM and a Containerfile.

    Equal code makes equal files. With --image the image is built as well.
    """
    from platformops.cli.output import next_step, print_json, say

    files, recipe = _files(spec, set_, base)
    _written(to, files)
    if image:
        _built(to, image)
    if json_:
        print_json({"system": recipe.system, "folder": str(to), "files": sorted(files), "image": image or None,
                    "revision": recipe.tree.revision, "fingerprints": dict(recipe.fingerprints)})  # fmt: skip
        return
    say(f"wrote {', '.join(sorted(files))} to {to}")
    if image:
        say(f"built {image}")
    if "@sha256:" not in recipe.base:
        say(f"{recipe.base} may change: name the base by its digest, --base NAME@sha256:...")
    next_step(f"buildah build --tag {recipe.system} {to}" if not image else f"platformops export kube {spec}")


def _files(spec: Path, overrides: list[str] | None, base: str) -> tuple[dict[str, bytes], ImageRecipe]:
    """Name -> content of all that is written."""
    from importlib.metadata import version

    from platformops.cli import packages, settings
    from platformops.cli.planning import planned
    from platformops.cli.revision import provenance_in
    from platformops.clock import SystemClock
    from platformops.delivery.packaging.image import ImageRecipe, containerfile, requirements, sbom
    from platformops.delivery.packaging.wheel import data_path, wheel, wheel_name

    with settings.opened_store(settings.home()) as store:
        made = planned(spec, overrides, store=store, clock=SystemClock())
    release, system = version("platformops"), made.spec.system
    name, own, needed = f"{system}-system", packages.own_files(made, spec), packages.required()
    placed = {data_path(name, release, f"share/platformops/{system}/{path}"): body for path, body in own.items()}
    wheels = {
        wheel_name(name, release): wheel(name, release, placed, {}),
        wheel_name("platformops", release): wheel(
            "platformops", release, packages.platform_files(), packages.platform_info()
        ),
    }
    recipe = ImageRecipe(
        system=system,
        spec=spec.name,
        base=base or made.spec.ci.image,
        version=release,
        tree=provenance_in(made.root),
        fingerprints={step.stage.name: step.fingerprint for step in made.plan.steps},
        wheels=tuple(sorted(wheels)),
    )
    digests = {path: sha256(body).hexdigest() for path, body in own.items()}
    texts = {
        "Containerfile": containerfile(recipe),
        "requirements.lock": requirements(needed),
        "sbom.json": sbom(recipe, needed, digests),
    }
    return {**wheels, **{path: text.encode() for path, text in texts.items()}}, recipe


def _written(folder: Path, files: Mapping[str, bytes]) -> None:
    from platformops.errors import UserError

    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            (folder / name).write_bytes(content)
    except OSError as error:
        raise UserError(f"{folder}: cannot be written to: {error.strerror}", remedy="name another folder") from None


def _built(folder: Path, tag: str) -> None:
    from platformops.errors import StageFailed, UserError

    buildah = shutil.which("buildah")
    if buildah is None:
        raise UserError("buildah is not installed", remedy=f"build the recipe with what is: podman build {folder}")
    command = [buildah, *ISOLATED, "build", "--isolation", "chroot", "--network", "host", "--tag", tag]
    done = subprocess.run([*command, str(folder)], stdout=sys.stderr, check=False)
    if done.returncode:
        raise StageFailed(f"buildah ended with {done.returncode}", remedy="what it said stands above")
