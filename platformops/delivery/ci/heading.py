"""What every file says at its top."""

from __future__ import annotations

from platformops.delivery.ci.records import CiPipeline


def heading(pipeline: CiPipeline, name: str, secrets: str, *, comment: str = "#") -> str:
    """Comment lines: how the file is made, what of it is kept, where its secrets are. `name` is of the CI system."""
    lines = [
        f"Written by `platformops ci write {name} {pipeline.spec}`; change the `ci` section of that spec, write again.",
        "What stands between the marks is replaced; what stands outside is yours and is kept.",
        "The same on a laptop: `platformops ci run`, or one stage of it: `platformops ci run --stage evaluate`.",
        *([f"{secrets}: {', '.join(pipeline.secrets)}."] if pipeline.secrets else []),
    ]
    return "\n".join(f"{comment} {line}" for line in lines)
