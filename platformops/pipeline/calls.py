"""Checks that a stage's function exists and takes what the spec gives it: by its source first, then once imported."""

from __future__ import annotations

import difflib
import importlib
import inspect
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from platformops.errors import AppError
from platformops.pipeline.modules import PLATFORM, find_module
from platformops.pipeline.records import Stage
from platformops.store.records import JsonObject

StageFunction = Callable[..., JsonObject | None]


@dataclass(frozen=True, slots=True)
class Signature:
    """The parameters of a function after its first."""

    takes_context: bool
    required: tuple[str, ...]
    optional: tuple[str, ...]
    takes_any: bool
    """Has `**kwargs`."""


def problems_of(stages: Iterable[Stage], roots: tuple[Path, ...]) -> list[str]:
    """What is wrong with the functions that `stages` use, one line each, without importing any of them."""
    known: dict[str, Mapping[str, Signature | None]] = {}
    problems = []
    for stage in stages:
        name, _, function = stage.uses.partition(":")
        try:
            functions = known[name] if name in known else known.setdefault(name, _functions(name, roots))
            # None: bound by an import, an assignment or a decorator, so that only the worker can tell.
            if signature := _named(functions, function, name):
                _refuse_mismatch(signature, stage.params, stage.uses)
        except AppError as error:
            problems.append(f"stages.{stage.name}: {error.message}" + (f" ({error.remedy})" if error.remedy else ""))
    return problems


def load_function(uses: str, params: JsonObject, roots: tuple[Path, ...]) -> StageFunction:
    """Imports the function; raises AppError when it lies elsewhere than planned or does not take `params`."""
    name, _, attribute = uses.partition(":")
    planned = find_module(name, roots)
    module = importlib.import_module(name)
    found = Path(module.__file__ or "").resolve()
    if name.partition(".")[0] != PLATFORM and found != planned.path.resolve():
        raise AppError(f"{uses}: another module of that name hides it ({found.name})", remedy="rename the module")
    function = getattr(module, attribute, None)
    if function is None:
        raise _no_function(attribute, [n for n, v in vars(module).items() if inspect.isfunction(v)], name)
    if not callable(function) or isinstance(function, type):
        raise AppError(f"{uses}: is a {type(function).__name__}, not a function", remedy="name a function")
    _refuse_mismatch(_signature(function), params, uses)
    checked: StageFunction = function
    return checked


def add_roots(roots: tuple[Path, ...]) -> None:
    """Lets imports find the user's modules, before anything installed."""
    for root in reversed(roots):
        if str(root) not in sys.path:
            sys.path.insert(0, str(root))


def _refuse_mismatch(signature: Signature, params: JsonObject, uses: str) -> None:
    if not signature.takes_context:
        raise AppError(f"{uses}: takes no StageContext", remedy="let its first parameter be the context")
    accepted = (*signature.required, *signature.optional)
    for name in params:
        if name not in accepted and not signature.takes_any:
            near = difflib.get_close_matches(name, accepted, n=1)
            takes = f"it takes {', '.join(accepted)}" if accepted else "it takes none"
            raise AppError(f"{uses}: has no parameter {name!r}", remedy=f"did you mean {near[0]!r}?" if near else takes)
    missing = [name for name in signature.required if name not in params]
    if missing:
        raise AppError(f"{uses}: needs the parameter {missing[0]!r}", remedy=f"add `{missing[0]}:` below `with:`")


def _signature(function: Callable[..., object]) -> Signature:
    parameters = list(inspect.signature(function).parameters.values())
    named = [p for p in parameters[1:] if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return Signature(
        takes_context=bool(parameters) and parameters[0].kind in positional,
        required=tuple(p.name for p in named if p.default is p.empty),
        optional=tuple(p.name for p in named if p.default is not p.empty),
        takes_any=any(p.kind is p.VAR_KEYWORD for p in parameters),
    )


def _functions(name: str, roots: tuple[Path, ...]) -> Mapping[str, Signature | None]:
    """Names bound at the top of the module -> signature of the plain functions among them."""
    import ast

    module = find_module(name, roots)
    try:
        tree = ast.parse(module.path.read_bytes())
    except (SyntaxError, ValueError) as error:
        raise AppError(f"{module.path.name}: cannot be read as Python: {error}", remedy="correct the file") from error
    found: dict[str, Signature | None] = {}
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and not node.decorator_list:
            found[node.name] = _written_signature(node.args)
        else:
            found |= dict.fromkeys(_bound(node))
    return found


def _bound(node: object) -> list[str]:
    import ast

    assert isinstance(node, ast.AST)
    names = [n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)]
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [node.name]
    for inner in ast.walk(node):
        if isinstance(inner, ast.Import | ast.ImportFrom):
            names += [alias.asname or alias.name for alias in inner.names]
        elif isinstance(inner, ast.FunctionDef):
            names.append(inner.name)
    return names


def _written_signature(written: object) -> Signature:
    import ast

    assert isinstance(written, ast.arguments)
    plain = [a.arg for a in (*written.posonlyargs, *written.args)]
    with_default = set(plain[len(plain) - len(written.defaults) :]) if written.defaults else set()
    with_default |= {a.arg for a, d in zip(written.kwonlyargs, written.kw_defaults, strict=True) if d is not None}
    named = [*plain[1:], *(a.arg for a in written.kwonlyargs)]
    return Signature(
        takes_context=bool(plain),
        required=tuple(name for name in named if name not in with_default),
        optional=tuple(name for name in named if name in with_default),
        takes_any=written.kwarg is not None,
    )


def _named(functions: Mapping[str, Signature | None], function: str, module: str) -> Signature | None:
    if function not in functions and "*" not in functions:
        raise _no_function(function, list(functions), module)
    return functions.get(function)


def _no_function(function: str, known: list[str], module: str) -> AppError:
    near = difflib.get_close_matches(function, known, n=1)
    return AppError(
        f"{module} has no function {function!r}",
        remedy=f"did you mean {near[0]!r}?" if near else f"write `def {function}(context, ...)` in it",
    )
