"""A YAML file as a frozen spec: all of its problems at once, each with file, place, value and the nearest spelling."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import ValidationError

from platformops.errors import SpecError
from platformops.spec.checks import whole_spec_problems
from platformops.spec.document import Document, parse, read_text
from platformops.spec.echo import escaped
from platformops.spec.files import file_problems
from platformops.spec.overrides import overridden
from platformops.spec.problems import line, translated
from platformops.spec.types import PlatformSpec


def load_spec(
    path: Path, *, overrides: Sequence[str] = (), data_root: Path | None = None, check_files: bool = True
) -> PlatformSpec:
    """The spec in the file at `path`, with `overrides` (`train.epochs=3`) laid over it.

    Raises SpecError with every problem. `data_root` is where `data://` points. With `check_files` the app, the code
    of stages and local data must exist; relative paths start at the file's own folder, code also at the working one.
    """
    name = escaped(str(path))
    document = overridden(parse(read_text(path), name), overrides)
    root = path.parent if check_files else None
    return validated(document, name, root=root, data_root=data_root)


def validated(document: Document, name: str, *, root: Path | None, data_root: Path | None) -> PlatformSpec:
    """The spec in `document`; `name` stands before each problem. Without `root` no file is looked for."""
    tree, spec = document.tree, None
    if not isinstance(tree, Mapping):
        if not document.problems:
            document.add((), "is empty" if tree is None else "must be a section with keys such as `system:`")
        raise _refusal(document, name)
    try:
        # By way of JSON: strict mode takes a list for a tuple there, and still no number for a text.
        spec = PlatformSpec.model_validate_json(json.dumps(tree))
    except ValidationError as error:
        document.add_all(translated(error, document, PlatformSpec).items())
    document.add_all(whole_spec_problems(tree))
    if root is not None:
        document.add_all(file_problems(tree, root=root, code_roots=(root, Path.cwd()), data_root=data_root))
    if spec is None or document.problems:
        raise _refusal(document, name)
    return spec


def _refusal(document: Document, name: str) -> SpecError:
    lines = []
    for place, problem in sorted(document.problems.items(), key=lambda item: [str(part) for part in item[0]]):
        ways = [
            document.overridden[place[:end]] for end in range(len(place), 0, -1) if place[:end] in document.overridden
        ]
        lines.append(line(ways[0] if ways else name, place, problem))
    return SpecError(lines, remedy="correct it and run the command again; `platformops schema` lists every key")
