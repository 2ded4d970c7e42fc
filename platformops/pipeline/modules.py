"""Finds the source of a module without importing it, and digests what it does rather than how it is laid out."""

from __future__ import annotations

import difflib
import hashlib
import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import platformops
from platformops.errors import AppError

PLATFORM = "platformops"
PLATFORM_ROOT = Path(platformops.__file__).resolve().parent.parent


@dataclass(frozen=True, slots=True)
class Module:
    name: str
    path: Path


def import_roots(spec_folder: Path) -> tuple[Path, ...]:
    """Where a user's own modules may lie: the folder of the spec, then the working directory."""
    return tuple(dict.fromkeys((spec_folder.resolve(), Path.cwd())))


def find_module(name: str, roots: Iterable[Path]) -> Module:
    """The module's source file below `roots`, or in PlatformOps itself. Raises AppError for anything else."""
    top = name.partition(".")[0]
    if not all(part.isidentifier() for part in name.split(".")):
        raise AppError(f"{name}: not the name of a module", remedy="write `folder.file:function`, without `.py`")
    if top == PLATFORM:
        return _found(name, [PLATFORM_ROOT]) or _missing(name, [PLATFORM_ROOT])
    if top in sys.stdlib_module_names:
        raise AppError(
            f"{name}: {top} belongs to Python itself; a stage is a function of your own",
            remedy="name a module below the folder of the spec, and not like one of Python's",
        )
    places = list(roots)
    return _found(name, places) or _missing(name, places)


def _found(name: str, roots: Iterable[Path]) -> Module | None:
    for root in roots:
        place = os.path.join(root, *name.split("."))  # text, not Path: this is asked for every step of every run
        for path in (f"{place}.py", os.path.join(place, "__init__.py")):
            if os.path.isfile(path):
                _refuse_outside(path, root)
                return Module(name, Path(path))
    return None


def _refuse_outside(path: str, root: Path) -> None:
    # A link that leads out of the root would let a spec run any file of the machine.
    if not os.path.realpath(path).startswith(os.path.join(os.path.realpath(root), "")):
        raise AppError(
            f"{os.path.basename(path)}: is a link to a file outside {root.name}/", remedy="copy the file there"
        )


def _missing(name: str, roots: Iterable[Path]) -> Module:
    places = list(roots)
    near = difflib.get_close_matches(name, [module.name for root in places for module in _shallow(root)], n=1)
    raise AppError(
        f"{name}: there is no such module below the spec's folder, the working directory or PlatformOps",
        remedy=f"did you mean {near[0]!r}?" if near else f"create {name.replace('.', '/')}.py beside the spec",
    )


def _shallow(root: Path) -> Iterator[Module]:
    for path in sorted([*root.glob("*.py"), *root.glob("*/*.py")])[:1000]:
        yield Module(".".join(path.relative_to(root).with_suffix("").parts), path)


def modules_of(name: str, roots: Iterable[Path]) -> tuple[Module, ...]:
    """The module; of a package all modules in and below it, in order of their names."""
    module = find_module(name, roots)
    if module.path.name != "__init__.py":
        return (module,)
    folder = module.path.parent
    found = []
    for path in sorted(folder.rglob("*.py")):
        parts = path.relative_to(folder).with_suffix("").parts
        found.append(Module(".".join((name, *(p for p in parts if p != "__init__"))), path))
    return tuple(found)


def own_imports(module: Module, imported: Iterable[str], roots: Iterable[Path]) -> tuple[Module, ...]:
    """The user's own modules among `imported`, with the packages around them, whose code runs on import."""
    places = list(roots)
    found: dict[str, Module] = {}
    for name in (*imported, module.name):
        parts = name.split(".")
        if not all(part.isidentifier() for part in parts):  # a file of a code entry has no module name
            continue
        for depth in range(1, len(parts) + 1):
            part = ".".join(parts[:depth])
            if parts[0] != PLATFORM and parts[0] not in sys.stdlib_module_names and (own := _found(part, places)):
                found[part] = own
    return tuple(found[name] for name in sorted(found))


@dataclass(frozen=True, slots=True)
class Source:
    """What one source file contributes to an identity."""

    digest: str
    imports: tuple[str, ...]
    """Absolute names of what it imports, candidates only: `from a import b` gives `a` and `a.b`."""


def read_source(module: Module) -> Source:
    """Digest of the syntax tree without docstrings: comments and layout do not count. Raises AppError."""
    import ast  # only when a file is new: a cached run recalls its digests

    try:
        tree = ast.parse(module.path.read_bytes(), filename=module.path.name)
    except (SyntaxError, ValueError) as error:
        line = getattr(error, "lineno", None)
        where = f"{module.path.name}:{line}" if line else module.path.name
        raise AppError(f"{where}: cannot be read as Python: {error}", remedy="correct the file") from error
    imports = tuple(sorted(_imports(tree, module)))
    _drop_docstrings(tree)
    text = ast.dump(tree, annotate_fields=False)
    return Source(hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest(), imports)


def _drop_docstrings(tree: object) -> None:
    import ast

    assert isinstance(tree, ast.AST)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and type(first.value.value) is str:
                node.body = node.body[1:]


def _imports(tree: object, module: Module) -> Iterator[str]:
    import ast

    assert isinstance(tree, ast.AST)
    package = module.name.split(".") if module.path.name == "__init__.py" else module.name.split(".")[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield from ([base] if base else [])
            yield from (f"{base}.{alias.name}" if base else alias.name for alias in node.names)
