import pytest

from platformops.errors import AppError
from platformops.pipeline.calls import load_function, problems_of
from platformops.pipeline.records import Stage

SOURCE = """
import functools
from helper import borrowed

def good(context, epochs, *, lr=0.1): ...
def anything(context, **params): ...
def no_context(): ...
def only_keywords(*, context): ...

@functools.cache
def decorated(context, x): ...

class Thing: ...
assigned = functools.partial(good, epochs=1)
"""


@pytest.fixture
def roots(shop):
    shop.write("stages.py", SOURCE)
    shop.write("helper.py", "def borrowed(context): ...\n")
    return (shop.root,)


def problems(roots, uses, **params):
    return problems_of([Stage("one", uses, params=params)], roots)


@pytest.mark.parametrize(
    ("uses", "params"),
    [
        ("stages:good", {"epochs": 1}),
        ("stages:good", {"epochs": 1, "lr": 0.2}),
        ("stages:anything", {"x": 1, "y": 2}),
        ("stages:borrowed", {"unknown": 1}),
        ("stages:decorated", {"unknown": 1}),
        ("stages:assigned", {"unknown": 1}),
    ],
)
def test_calls_that_fit_or_cannot_be_judged_by_their_source_pass(roots, uses, params):
    assert problems(roots, uses, **params) == []


@pytest.mark.parametrize(
    ("uses", "params", "what", "remedy"),
    [
        ("stages:good", {"epoch": 1}, "has no parameter 'epoch'", "did you mean 'epochs'?"),
        ("stages:good", {}, "needs the parameter 'epochs'", "add `epochs:`"),
        ("stages:god", {}, "stages has no function 'god'", "did you mean 'good'?"),
        ("stages:no_context", {}, "takes no StageContext", "first parameter"),
        ("stages:only_keywords", {}, "takes no StageContext", "first parameter"),
        ("os:system", {"command": "id"}, "os belongs to Python itself", "a module below"),
        ("stage:good", {}, "no such module", "did you mean 'stages'?"),
    ],
)
def test_a_call_that_does_not_fit_is_said_with_its_stage_and_a_fix(roots, uses, params, what, remedy):
    (problem,) = problems(roots, uses, **params)
    assert problem.startswith("stages.one: ")
    assert what in problem
    assert remedy in problem


def test_all_problems_are_said_at_once(roots):
    found = problems_of([Stage("one", "stages:god"), Stage("two", "os:system")], roots)
    assert [line.split(":")[0] for line in found] == ["stages.one", "stages.two"]


def test_a_star_import_may_bring_any_name(shop):
    shop.write("stages.py", "from helper import *\n")
    assert problems((shop.root,), "stages:whatever") == []


def test_nothing_runs_before_all_calls_fit(shop, roots):
    with pytest.raises(AppError, match="no parameter 'epoch'"):
        shop.run(
            shop.plan(
                Stage("one", "stages:good", params={"epochs": 1}), Stage("two", "stages:good", params={"epoch": 1})
            )
        )
    assert shop.launcher.ran == []
    assert shop.store.scan("run/") == ()


def loaded(shop, monkeypatch, uses, **params):
    monkeypatch.syspath_prepend(str(shop.root))
    return load_function(uses, params, (shop.root,))


def test_the_loaded_function_is_the_planned_one(shop, monkeypatch):
    shop.write("calls_a.py", "def f(context, x): return x\n")
    assert loaded(shop, monkeypatch, "calls_a:f", x=1)(None, x=3) == 3


@pytest.mark.parametrize(
    ("function", "what"),
    [
        ("Thing", "is a type, not a function"),
        ("NUMBER", "is a int, not a function"),
        ("missing", "no function 'missing'"),
    ],
)
def test_what_is_no_function_is_refused_once_imported(shop, monkeypatch, function, what):
    module = f"calls_b_{function.lower()}"  # each its own: Python imports a name once
    shop.write(f"{module}.py", "class Thing: ...\nNUMBER = 3\n")
    with pytest.raises(AppError, match=what):
        loaded(shop, monkeypatch, f"{module}:{function}")


def test_a_module_hidden_by_another_of_its_name_is_refused(shop, monkeypatch, tmp_path):
    (tmp_path / "first").mkdir()
    (tmp_path / "first" / "calls_c.py").write_text("def f(context): ...\n")
    shop.write("calls_c.py", "def f(context): ...\n")
    monkeypatch.syspath_prepend(str(shop.root))
    monkeypatch.syspath_prepend(str(tmp_path / "first"))
    with pytest.raises(AppError, match="another module of that name hides it"):
        load_function("calls_c:f", {}, (shop.root,))


def test_a_decorated_function_is_checked_once_imported(shop, monkeypatch):
    shop.write(
        "calls_d.py",
        "import functools\n@functools.wraps(len)\ndef f(context): ...\n@functools.cache\ndef g(context): ...\n",
    )
    with pytest.raises(AppError, match="no parameter 'x'"):
        loaded(shop, monkeypatch, "calls_d:g", x=1)
