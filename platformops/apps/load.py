"""Turns the spec's `app` into functions: a built-in application, or a Python file with the same functions."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from types import ModuleType

from platformops.apps.contract import App
from platformops.errors import AppError

BUILT_IN = {"image": "platformops.apps.image"}
"""Name in a spec -> module. A file may name one as BASE and write only what differs."""

POSITIONAL = {
    "parts": 2,
    "rows": 1,
    "decode": 1,
    "operations": 1,
    "settle": 2,
    "transform": 2,
    "augment": 3,
    "build_model": 1,
    "encode": 2,
    "score": 3,
}
"""Function -> how many positional arguments it is called with."""


def load_app(ref: str, root: Path) -> App:
    """The application that `ref` names: `image`, or the path of a Python file (relative ones start at `root`).

    Raises AppError that lists every function which is missing or takes the wrong arguments.
    """
    if ref in BUILT_IN:
        return _checked(ref, vars(importlib.import_module(BUILT_IN[ref])), where=ref)
    if not ref.endswith(".py"):
        raise AppError(
            f"app {ref!r} is not known", remedy=f"write one of {sorted(BUILT_IN)}, or a file such as ./app.py"
        )
    path = (root / ref).resolve()
    module = _imported(path)
    functions = dict(vars(module))
    base = getattr(module, "BASE", None)
    if base is not None:
        functions = {**_base_functions(base, path), **functions}
    return _checked(path.stem, functions, where=str(path))


def _base_functions(base: object, path: Path) -> Mapping[str, object]:
    if not isinstance(base, str) or base not in BUILT_IN:
        raise AppError(f"{path}: BASE is {base!r}", remedy=f"write one of {sorted(BUILT_IN)}")
    return vars(importlib.import_module(BUILT_IN[base]))


def _imported(path: Path) -> ModuleType:
    if not path.is_file():
        raise AppError(f"app file {path} is not there", remedy="`platformops init --app image NAME` writes one")
    name = f"platformops_app_{hashlib.sha256(str(path).encode()).hexdigest()[:12]}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses and pickling of its functions look their module up here
    try:
        spec.loader.exec_module(module)
    except Exception as exc:
        del sys.modules[spec.name]
        raise AppError(f"app file {path} cannot be imported: {type(exc).__name__}: {exc}") from exc
    return module


def _checked(name: str, functions: Mapping[str, object], *, where: str) -> App:
    wanted = [field.name for field in fields(App) if field.name != "name"]
    problems = [problem for function in wanted if (problem := _problem(function, functions.get(function)))]
    if problems:
        raise AppError(
            f"app {where}: " + "; ".join(problems),
            remedy='write these functions, or take the rest from a built-in app with `BASE = "image"`',
        )
    return App(name, **{function: functions[function] for function in wanted})  # type: ignore[arg-type]


def _problem(name: str, function: object) -> str:
    if function is None:
        return f"{name} is missing"
    if not callable(function):
        return f"{name} is a {type(function).__name__}, not a function"
    keywords = {"max_pixels": 1} if name == "decode" else {}
    try:
        signature = inspect.signature(function)
    except ValueError:
        return ""
    try:
        signature.bind(*range(POSITIONAL[name]), **keywords)
    except TypeError as exc:
        wanted = inspect.signature(getattr(importlib.import_module(BUILT_IN["image"]), name))
        return f"{name}{signature} cannot be called as {name}{wanted}: {exc}"
    return ""
