"""`platformops init`: one spec and one short app file to start from."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from platformops.cli.options import AsJson
from platformops.errors import UserError

Name = Annotated[str, typer.Argument(help="Of the system: a-z 0-9 . _ -", show_default=False)]
App = Annotated[str, typer.Option(help="Kind of application: image.")]
Source = Annotated[
    str, typer.Option(help="Where the data is: class folders, Parquet, s3://, torchvision://, sklearn://digits.")
]
To = Annotated[Path | None, typer.Option(help="Folder to write to; default one with the system's name.")]


def init(name: Name, app: App = "image", source: Source = "", to: To = None, json_: AsJson = False) -> None:
    """Write a spec and an app to start from; nothing that exists is overwritten."""
    from platformops.cli.output import next_step, print_json, say
    from platformops.spec.echo import did_you_mean, shown
    from platformops.spec.types import APPS

    if app not in APPS:
        raise UserError(f"there is no application {shown(app)}{did_you_mean(app, APPS)}")
    written = _write(_texts(name, source, to))
    if json_:
        print_json({"system": name, "spec": str(written[0]), "app": str(written[1])})
        return
    for path in written:
        say(f"wrote {path}")
    next_step(f"platformops up {written[0]}")


def _texts(name: str, source: str, to: Path | None) -> Mapping[Path, str]:
    """Path -> content, checked as `up` would check it; raises SpecError before anything is written."""
    from platformops.spec.names import checked_name
    from platformops.spec.templates import DIGITS, app_text, spec_text

    folder = to or Path(checked_name(name, "NAME"))
    file = folder / f"{name}.yaml"
    _check(name, source or DIGITS)
    text = spec_text(name, file=file.name, source=_from_folder(source, folder) if source else DIGITS)
    return {file: text, folder / "app.py": app_text(name)}


def _check(name: str, source: str) -> None:
    """The spec as it would be here: its folder and its app are not there yet, so the built-in one stands in."""
    from platformops.cli import settings
    from platformops.spec.document import parse
    from platformops.spec.load import validated
    from platformops.spec.templates import spec_text

    document = parse(spec_text(name, file="", source=source), "--source")
    assert isinstance(document.tree, dict)
    document.tree = {**document.tree, "app": "image"}
    validated(document, "--source", root=Path.cwd(), data_root=settings.data_root())


def _from_folder(source: str, folder: Path) -> str:
    """A path as it was typed, seen from the spec's own folder."""
    if ":" in source or os.path.isabs(source):
        return source
    return os.path.relpath(source, folder)


def _write(texts: Mapping[Path, str]) -> list[Path]:
    there = [str(path) for path in texts if path.is_symlink() or path.exists()]
    if there:
        raise UserError(f"{' and '.join(there)}: already there", remedy="choose another name or folder (--to)")
    for path, text in texts.items():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("x", encoding="utf-8") as file:
                file.write(text)
        except OSError as error:
            raise UserError(f"{path}: cannot be written: {error.strerror}") from None
    return list(texts)
