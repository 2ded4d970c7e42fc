"""The recipe of an OCI image, and the list of what is in it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from platformops.registry.records import UNKNOWN, Provenance
from platformops.store.records import Json

USER = 1000
_REVISION, _SOURCE = "org.opencontainers.image.revision", "org.opencontainers.image.source"


@dataclass(frozen=True, slots=True)
class Component:
    """A distribution from the package index, by its exact version."""

    name: str
    version: str


@dataclass(frozen=True, slots=True)
class ImageRecipe:
    system: str
    spec: str
    """Name of the spec file within the system's folder."""
    base: str
    """Image to build on; by its digest where it shall not change."""
    version: str
    """Of the platform."""
    tree: Provenance
    fingerprints: Mapping[str, str]
    """Stage -> fingerprint of what the spec makes."""
    wheels: tuple[str, ...]

    @property
    def folder(self) -> str:
        """Where the spec and its code lie in the image."""
        return f"/usr/local/share/platformops/{self.system}"


def containerfile(recipe: ImageRecipe) -> str:
    """A Containerfile: exact versions, no root, labelled with the revision and the fingerprints it was made for."""
    labels = " \\\n".join(f"      {name}={json.dumps(value)}" for name, value in _labels(recipe).items())
    wheels, local = " ".join(recipe.wheels), " ".join(f"./{name}" for name in recipe.wheels)
    return f"""\
# Written by `platformops build`; build it with: buildah build -f Containerfile
ARG BASE={recipe.base}
# hadolint ignore=DL3006
FROM ${{BASE}}
LABEL {labels.lstrip()}
WORKDIR /opt/platformops
COPY requirements.lock {wheels} ./
RUN python3 -m venv /opt/venv \\
    && /opt/venv/bin/pip install --no-cache-dir --requirement requirements.lock \\
    && /opt/venv/bin/pip install --no-cache-dir --no-deps {local} \\
    && mkdir -p /usr/local/share /var/lib/platformops \\
    && ln -s /opt/venv/share/platformops /usr/local/share/platformops \\
    && chown {USER}:{USER} /var/lib/platformops
COPY sbom.json /opt/platformops/
ENV PATH="/opt/venv/bin:$PATH" \\
    HOME=/var/lib/platformops \\
    PLATFORMOPS_HOME=/var/lib/platformops \\
    RAY_AUTH_MODE=token
WORKDIR {recipe.folder}
USER {USER}:{USER}
ENTRYPOINT ["platformops"]
CMD ["plan", "{recipe.spec}"]
"""


def _labels(recipe: ImageRecipe) -> dict[str, str]:
    tree = recipe.tree
    known = {
        "org.opencontainers.image.title": recipe.system,
        "org.opencontainers.image.version": recipe.version,
        _REVISION: tree.revision if tree.revision != UNKNOWN else "",
        _SOURCE: tree.remote,
        "io.platformops.tree": " ".join(tree.unclean) or "clean",
        **{f"io.platformops.fingerprint.{stage}": value for stage, value in recipe.fingerprints.items()},
    }
    return {name: value for name, value in known.items() if value}


def requirements(components: Sequence[Component]) -> str:
    """Exact versions, a line each."""
    return "".join(f"{c.name}=={c.version}\n" for c in sorted(components, key=lambda c: c.name.lower()))


def sbom(recipe: ImageRecipe, components: Sequence[Component], files: Mapping[str, str]) -> str:
    """A CycloneDX 1.5 document: distributions by package URL, and the system's own `files` by SHA-256.

    Without a serial number and a date, so that equal content is an equal document.
    """
    packages: list[Json] = [
        {
            "type": "library",
            "name": c.name,
            "version": c.version,
            "purl": f"pkg:pypi/{c.name.lower().replace('_', '-')}@{c.version}",
        }
        for c in sorted(components, key=lambda c: c.name.lower())
    ]
    own: list[Json] = [
        {"type": "file", "name": name, "hashes": [{"alg": "SHA-256", "content": digest}]}
        for name, digest in sorted(files.items())
    ]
    document: Json = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": {"type": "application", "name": recipe.system, "version": recipe.version}},
        "components": [*packages, *own],
    }
    return json.dumps(document, indent=1) + "\n"
