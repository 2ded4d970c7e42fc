import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from platformops.errors import UserError
from platformops.pipeline.plan import in_order, make_plan, plan_until
from platformops.pipeline.preview import explain
from platformops.pipeline.records import Stage


class FixedIdentity:
    def __init__(self, code="c", data="d"):
        self._code, self._data = code, data

    def code(self, stage):
        return {stage.uses.partition(":")[0]: self._code}

    def source(self, uri):
        return f"{self._data} {uri}"


@st.composite
def dags(draw):
    """Stages in any order, each needing some of those before it in a hidden order."""
    names = [f"s{number}" for number in range(draw(st.integers(1, 9)))]
    stages = []
    for index, name in enumerate(names):
        needs = draw(st.lists(st.sampled_from(names[:index]), unique=True)) if index else []
        stages.append(Stage(name, "m:f", needs=tuple(needs)))
    return draw(st.permutations(stages))


@given(dags())
def test_each_step_comes_once_and_after_its_parents(stages):
    ordered = in_order(stages)
    assert sorted(stage.name for stage in ordered) == sorted(stage.name for stage in stages)
    seen = set()
    for stage in ordered:
        assert set(stage.needs) <= seen
        seen.add(stage.name)


@given(dags())
def test_the_order_of_declaration_changes_no_fingerprint(stages):
    def prints(some):
        return {step.stage.name: step.fingerprint for step in make_plan("demo", some, identity=FixedIdentity()).steps}

    assert prints(stages) == prints(list(reversed(stages)))


def test_free_steps_keep_the_order_in_which_they_were_declared():
    stages = [Stage("z", "m:f"), Stage("c", "m:f", needs=("b",)), Stage("a", "m:f"), Stage("b", "m:f")]
    assert [stage.name for stage in in_order(stages)] == ["z", "a", "b", "c"]


def test_a_change_reaches_all_that_comes_after_and_nothing_else():
    def prints(epochs):
        stages = [
            Stage("prepare", "m:f"),
            Stage("train", "m:f", needs=("prepare",), params={"epochs": epochs}),
            Stage("evaluate", "m:f", needs=("train",)),
            Stage("profile", "m:f", needs=("prepare",)),
        ]
        return {s.stage.name: s.fingerprint for s in make_plan("demo", stages, identity=FixedIdentity()).steps}

    one, other = prints(3), prints(4)
    assert {name for name in one if one[name] != other[name]} == {"train", "evaluate"}


def test_retries_timeouts_and_the_system_are_no_part_of_an_identity():
    plain = make_plan("a", [Stage("x", "m:f")], identity=FixedIdentity())
    other = make_plan("b", [Stage("x", "m:f", retries=3, timeout_s=9.0, on_cluster=True)], identity=FixedIdentity())
    assert plain.steps[0].fingerprint == other.steps[0].fingerprint


def test_a_module_called_uses_does_not_hide_which_function_is_used():
    one, other = (make_plan("a", [Stage("x", f"uses:{f}")], identity=FixedIdentity()).steps[0] for f in "fg")
    assert one.fingerprint != other.fingerprint


@pytest.mark.parametrize(
    ("stages", "what", "remedy"),
    [
        ([Stage("a", "m:f"), Stage("a", "m:g")], "stages.a: this name is used more than once", "own name"),
        ([Stage("train", "m:f", needs=("prepar",)), Stage("prepare", "m:f")], "no stage 'prepar'", "'prepare'"),
        ([Stage("a", "m:f", needs=("a",))], "a needs a", "take one"),
        (
            [Stage("a", "m:f", needs=("c",)), Stage("b", "m:f", needs=("a",)), Stage("c", "m:f", needs=("b",))],
            "a needs c needs b needs a",
            "take one",
        ),
        (
            [Stage("x", "m:f", needs=("a",)), Stage("a", "m:f", needs=("b",)), Stage("b", "m:f", needs=("a",))],
            "a needs b needs a",
            "take one",
        ),
    ],
)
def test_a_graph_that_cannot_be_ordered_is_refused_by_name(stages, what, remedy):
    with pytest.raises(UserError, match=what) as refused:
        make_plan("demo", stages, identity=FixedIdentity())
    assert remedy in refused.value.remedy


def test_an_unstable_param_is_refused_with_its_stage():
    with pytest.raises(UserError, match=r"train\.params\.lr"):
        make_plan("demo", [Stage("train", "m:f", params={"lr": float("nan")})], identity=FixedIdentity())


# What `plan` says


STAGES = (
    Stage("prepare", "stages:ok", params={"ops": [{"resize": 8}], "note": "x"}, sources=("rows.csv",)),
    Stage("train", "stages:ok", needs=("prepare",), params={"train": {"epochs": 12, "lr": 0.1}}),
)
OK = "def ok(context, **params):\n    return {}\n"


@pytest.fixture
def ran(shop):
    shop.write("stages.py", OK)
    shop.write("rows.csv", "1\n")
    shop.run(shop.plan(*STAGES))
    return shop


def reasons(shop, *stages):
    return {preview.name: list(preview.reasons) for preview in explain(shop.plan(*stages), shop.store)}


def test_before_anything_ran_every_step_never_ran(shop):
    shop.write("stages.py", OK)
    shop.write("rows.csv", "1\n")
    assert reasons(shop, *STAGES) == {"prepare": ["never ran"], "train": ["never ran"]}


def test_what_ran_is_cached_with_the_time_it_took(ran):
    previews = explain(ran.plan(*STAGES), ran.store)
    assert all(preview.cached and preview.reasons == () and preview.seconds is not None for preview in previews)


@pytest.mark.parametrize(
    ("params", "reason"),
    [
        ({"train": {"epochs": 3, "lr": 0.1}}, "params.train.epochs was 12, is 3"),
        ({"train": {"epochs": 12}}, "params.train.lr was 0.1, is gone"),
        ({"train": {"epochs": 12, "lr": 0.1, "seed": 1}}, "params.train.seed is new: 1"),
        ({"train": {"epochs": 12.0, "lr": 0.1}}, "params.train.epochs was 12, is 12.0"),
        ({"train": {"epochs": True, "lr": 0.1}}, "params.train.epochs was 12, is True"),
    ],
)
def test_a_changed_param_is_named_with_both_values(ran, params, reason):
    changed = Stage("train", "stages:ok", needs=("prepare",), params=params)
    assert reasons(ran, STAGES[0], changed) == {"prepare": [], "train": [reason]}


def test_a_change_inside_a_list_is_named_by_its_place(ran):
    changed = Stage("prepare", "stages:ok", params={"ops": [{"resize": 16}], "note": "x"}, sources=("rows.csv",))
    found = reasons(ran, changed, STAGES[1])
    assert found == {"prepare": ["params.ops[0].resize was 8, is 16"], "train": ["parent prepare changed"]}


def test_changed_code_is_named_by_module(ran):
    ran.write("stages.py", OK.replace("return {}", "return {'a': 1}"))
    found = reasons(ran, *STAGES)
    assert found == {
        "prepare": ["code of stages changed"],
        "train": ["code of stages changed", "parent prepare changed"],
    }


def test_changed_data_is_named_by_source(ran):
    ran.write("rows.csv", "2\n")
    assert reasons(ran, *STAGES)["prepare"] == ["data digest of rows.csv changed"]


def test_another_function_and_another_graph_are_named(ran):
    ran.write("stages.py", OK + OK.replace("ok", "other"))
    found = reasons(ran, Stage("train", "stages:other", params={"train": {"epochs": 12, "lr": 0.1}}))
    assert found["train"] == ["uses was stages:ok, is stages:other", "code of stages changed", "parent prepare is gone"]


def test_a_step_that_failed_says_so_first(shop):
    shop.write("stages.py", "def ok(context):\n    raise ValueError('no rows')\n")
    shop.run(shop.plan(Stage("a", "stages:ok")))
    (reason,) = reasons(shop, Stage("a", "stages:ok"))["a"]
    assert reason.startswith("failed last time: ValueError: no rows")


def test_a_step_whose_record_is_gone_says_so(ran):
    plan = ran.plan(*STAGES)
    ran.store.commit([__import__("platformops.store.records", fromlist=["Put"]).Put(
        f"step/{plan.steps[1].fingerprint}", None, None)])  # fmt: skip
    assert reasons(ran, *STAGES)["train"] == ["its record is gone from the store"]


def test_the_latest_key_is_plain_json(ran):
    entry = ran.store.get("latest/demo/train")
    assert json.loads(json.dumps(entry.value)) == entry.value
    assert entry.value["fingerprint"] == ran.plan(*STAGES).steps[1].fingerprint


def test_a_plan_until_a_stage_has_what_it_needs_and_the_same_fingerprints():
    stages = [Stage("a", "m:f"), Stage("b", "m:f", needs=("a",)), Stage("c", "m:f"), Stage("d", "m:f", needs=("b",))]
    whole = make_plan("demo", stages, identity=FixedIdentity())
    cut = plan_until(whole, "b")
    assert [step.stage.name for step in cut.steps] == ["a", "b"]
    assert all(step in whole.steps for step in cut.steps)
    with pytest.raises(UserError, match="no stage 'e'"):
        plan_until(whole, "e")
