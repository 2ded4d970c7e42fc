"""`platformops export kube`: manifests for KubeRay, and a Helm chart of the same."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from platformops.cli.options import AsJson, Overrides, SpecFile

To = Annotated[Path, typer.Option(metavar="FOLDER", help="Where the files go; those of the same names are replaced.")]
Image = Annotated[str, typer.Option(help="The image, by its digest where you can: `platformops build` describes it.")]
Workers = Annotated[int, typer.Option(min=1, max=10_000, help="Most pods beside the head.")]


def export_kube(
    spec: SpecFile,
    set_: Overrides = None,
    to: To = Path("deploy"),
    image: Image = "",
    workers: Workers = 4,
    json_: AsJson = False,
) -> None:
    """Write RayCluster, RayJob, RayService, PodMonitor, NetworkPolicy and volume for KubeRay v1, and a Helm chart."""
    from platformops.cli import settings
    from platformops.cli.output import next_step, print_json, say
    from platformops.cli.reporting import write_files
    from platformops.delivery.kube.chart import chart
    from platformops.delivery.kube.manifests import as_yaml, manifests
    from platformops.delivery.kube.settings import KubeSettings
    from platformops.spec.load import load_spec

    loaded = load_spec(spec, overrides=set_ or (), data_root=settings.data_root())
    wanted = KubeSettings(
        system=_kube_name(loaded.system),
        spec=spec.as_posix(),
        image=image or f"{loaded.system}:latest",
        ray_version=version("ray"),
        revision=_stable(loaded.system),
        workers_min=1,
        workers_max=workers,
    )
    plain = {f"{name}.yaml": as_yaml(manifest) for name, manifest in manifests(wanted).items()}
    written = {**plain, **{f"chart/{path}": text for path, text in chart(wanted, version("platformops")).items()}}
    for folder in sorted({Path(path).parent for path in written}):
        write_files(to / folder, _within(written, folder))
    if json_:
        print_json({"system": loaded.system, "folder": str(to), "files": sorted(written)})
        return
    say(f"wrote {len(written)} files to {to}; they are valid by KubeRay's schemas and were never applied to a cluster")
    next_step(f"helm install {wanted.system} {to / 'chart'}")


def _stable(system: str) -> str:
    """The name of the revision that has the traffic here, for the service to serve; empty before the first release."""
    from platformops.cli import settings
    from platformops.delivery.systems import load_system

    with settings.opened_store(settings.home()) as store:
        known, _ = load_system(store, system)
    return known.stable.name if known and known.stable else ""


def _within(written: Mapping[str, str], folder: Path) -> dict[str, str]:
    return {Path(path).name: text for path, text in written.items() if Path(path).parent == folder}


def _kube_name(system: str) -> str:
    """A system's name as a name of Kubernetes; raises UserError for one that cannot be."""
    from platformops.errors import UserError

    name = system.replace("_", "-").replace(".", "-")
    if len(name) > 40 or name.endswith("-") or not name[0].isalpha():
        raise UserError(
            f"{system}: cannot be a name in Kubernetes", remedy="at most 40 of a-z 0-9 -, from a letter to no dash"
        )
    return name
