"""Whether the files that a spec names are there: the app, the code of its stages, the data on this machine."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from glob import has_magic
from pathlib import Path

from platformops.spec.checks import Problem, entries, section
from platformops.spec.document import Place
from platformops.spec.echo import did_you_mean, escaped, nearest, shown
from platformops.spec.types import APPS
from platformops.store.records import Json

SCHEMES = ("sklearn", "torchvision", "s3", "gs", "data", "stage")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):(//)?(.*)", re.DOTALL)
_PACKAGE = Path(__file__).resolve().parents[1]


def file_problems(
    tree: Mapping[str, Json], *, root: Path, code_roots: Sequence[Path], data_root: Path | None
) -> Iterator[Problem]:
    """What is missing below `root`, the spec's folder, below `code_roots`, or below `data_root` (`data://`)."""
    app = tree.get("app")
    if isinstance(app, str) and app not in APPS and app.endswith(".py") and not _is_file_below(root, app):
        yield ("app",), f"there is no file {escaped(app)} beside the spec{_near_file(root, app)}"
    for place, source in _sources(tree):
        problem = source_problem(source, root=root, data_root=data_root) or _app_source_problem(tree, place, source)
        if problem:
            yield place, problem
    for i, stage in enumerate(entries(tree, "stages")):
        uses = stage.get("uses") if isinstance(stage, Mapping) else None
        problem = _uses_problem(uses, code_roots) if isinstance(uses, str) and uses.count(":") == 1 else None
        if problem:
            yield ("stages", i, "uses"), problem


def _sources(tree: Mapping[str, Json]) -> Iterator[tuple[Place, str]]:
    for key in ("source", "test"):
        value = section(tree, "data").get(key)
        if isinstance(value, str):
            yield ("data", key), value
    for i, stage in enumerate(entries(tree, "stages")):
        for j, value in enumerate(entries(stage, "sources")):
            if isinstance(value, str):
                yield ("stages", i, "sources", j), value


def source_problem(source: str, *, root: Path, data_root: Path | None) -> str | None:
    """Why `source` cannot be read, or None; places on other machines are taken at their word."""
    scheme = _SCHEME.fullmatch(source)
    if not scheme:
        return None if _is_there(root, source) else f"there is no such file or folder (got {shown(source)})"
    name, slashes, rest = scheme[1], scheme[2], scheme[3]
    if not slashes or name not in SCHEMES:
        known = ", ".join(f"{s}://" for s in SCHEMES)
        return f"must be a path or one of {known} (got {shown(source)}){nearest(name, SCHEMES)}"
    if name == "data":
        return _data_problem(source, rest, data_root)
    return None if re.fullmatch(r"\w[\w./*?=-]*", rest) else f"names nothing (got {shown(source)})"


def _app_source_problem(tree: Mapping[str, Json], place: Place, source: str) -> str | None:
    """Of scikit-learn's data sets only the digits are images."""
    scheme, _, rest = source.partition("://")
    if place[0] == "data" and tree.get("app") in APPS and scheme == "sklearn" and rest != "digits":
        return f"holds no images (got {shown(source)}); did you mean 'sklearn://digits'?"
    return None


def _data_problem(source: str, rest: str, data_root: Path | None) -> str | None:
    if data_root is None:
        return f"needs the data folder (got {shown(source)}); set PLATFORMOPS_DATA to it"
    if ".." in rest.split("/") or rest.startswith("/"):
        return f"must stay below the data folder (got {shown(source)})"
    if _is_there(data_root, rest):
        return None
    return f"there is no such file or folder below {escaped(str(data_root))} (got {shown(source)})"


def _is_there(root: Path, relative: str) -> bool:
    try:
        if has_magic(relative) and not Path(relative).is_absolute():
            return any(True for _ in root.glob(relative))
        if has_magic(relative):
            path = Path(relative)
            return any(True for _ in Path(path.anchor).glob(str(path.relative_to(path.anchor))))
        return bool(relative) and (root / relative).exists()
    except (OSError, ValueError, NotImplementedError):
        return False


def _is_file_below(root: Path, relative: str) -> bool:
    try:
        path = (root / relative).resolve()
        return path.is_relative_to(root.resolve()) and path.is_file()
    except (OSError, ValueError):
        return False


def _near_file(root: Path, relative: str) -> str:
    try:
        names = [f"./{p.name}" for p in sorted(root.glob("*.py"))[:200]]
    except OSError:
        names = []
    return nearest(relative, names)


def _uses_problem(uses: str, code_roots: Sequence[Path]) -> str | None:
    """Code comes from the user's own folders or this package: a spec that says `os:system` must not reach it."""
    module, _, function = uses.partition(":")
    top, *below = module.split(".")
    if top in sys.stdlib_module_names:
        return (
            f"{top} is a module of Python itself; a stage is a function in a file beside the spec (got {shown(uses)})"
        )
    for root in [_PACKAGE.parent] if top == _PACKAGE.name else code_roots:
        base = root.joinpath(top, *below)
        for path in (base.with_suffix(".py"), base / "__init__.py"):
            if path.is_file():
                return _function_problem(path, function, uses)
    return f"there is no {'/'.join([top, *below])}.py beside the spec (got {shown(uses)})"


def _function_problem(path: Path, function: str, uses: str) -> str | None:
    try:
        body = ast.parse(path.read_bytes()).body
    except (SyntaxError, ValueError) as error:
        return f"{path.name} is not Python that can be read: {escaped(str(error))}"
    functions = {n.name: n for n in body if isinstance(n, ast.FunctionDef)}
    if function in functions:
        arguments = functions[function].args
        takes_context = bool(arguments.posonlyargs or arguments.args)
        return None if takes_context else f"{function} must take a StageContext first (got {shown(uses)})"
    imported = {a.asname or a.name for n in body if isinstance(n, ast.ImportFrom) for a in n.names}
    if function in imported:
        return None
    return f"{path.name} has no function {function}{did_you_mean(function, functions)} (got {shown(uses)})"
