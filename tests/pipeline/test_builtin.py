import ast
from pathlib import Path

import pytest

from platformops.clock import SystemClock
from platformops.errors import SpecError
from platformops.pipeline.builtin import EVALUATE, PREPARE, SEARCH, STEPS, TRAIN, stages_of
from platformops.pipeline.calls import problems_of
from platformops.pipeline.identity import FileIdentity
from platformops.pipeline.modules import PLATFORM_ROOT, modules_of
from platformops.pipeline.plan import make_plan
from platformops.spec.types import PlatformSpec
from platformops.store.memory import MemoryStore

STORE = MemoryStore()
"""Remembers the digests of the platform's modules from test to test."""
DIGITS = {
    "system": "digits",
    "app": "image",
    "data": {"source": "sklearn://digits", "prepare": [{"resize": 8}, {"normalize": "auto"}]},
    "train": {"epochs": 12},
    "gates": {"accuracy": ">= 0.95"},
}


def spec(**changes):
    return PlatformSpec.model_validate(DIGITS | changes, strict=False)


def prints(tmp_path, some):
    identity = FileIdentity(root=tmp_path, data_root=None, store=STORE, clock=SystemClock())
    plan = make_plan(some.system, stages_of(some), identity=identity)
    return {step.stage.name: step.fingerprint for step in plan.steps}


def graph(some):
    return {stage.name: stage.needs for stage in stages_of(some)}


def test_an_app_is_prepared_trained_and_evaluated_on_the_cluster():
    assert graph(spec()) == {"prepare": (), "train": ("prepare",), "evaluate": ("prepare", "train")}
    assert all(stage.on_cluster and stage.uses == f"{STEPS}:{stage.name}" for stage in stages_of(spec()))


def test_a_search_comes_before_training():
    assert graph(spec(search={"trials": 2})) == {
        "prepare": (),
        "search": ("prepare",),
        "train": ("prepare", "search"),
        "evaluate": ("prepare", "train"),
    }


def test_stages_of_the_user_stand_beside_the_built_in_ones():
    own = [
        {"name": "profile", "uses": "stages:profile", "needs": ["prepare"], "with": {"bins": 10}, "retries": 2},
        {"name": "publish", "uses": "stages:publish", "needs": ["evaluate", "profile"], "timeout_s": 5.0},
    ]
    stages = {stage.name: stage for stage in stages_of(spec(stages=own))}
    assert (stages["profile"].params, stages["profile"].retries) == ({"bins": 10}, 2)
    assert (stages["publish"].needs, stages["publish"].timeout_s) == (("evaluate", "profile"), 5.0)
    assert not stages["profile"].on_cluster


def test_a_stage_may_be_the_source_of_the_data():
    own = [{"name": "fetch", "uses": "stages:fetch"}]
    stages = {s.name: s for s in stages_of(spec(stages=own, data={"source": "stage://fetch", "test": "rows.parquet"}))}
    assert (stages["prepare"].needs, stages["prepare"].sources) == (("fetch",), ("rows.parquet",))
    assert stages["prepare"].params["source"] == "stage://fetch"


def test_a_pipeline_without_a_model_has_only_its_own_stages():
    some = PlatformSpec.model_validate({"system": "etl", "stages": [{"name": "a", "uses": "s:f"}]}, strict=False)
    assert graph(some) == {"a": ()}


def test_an_app_without_data_is_refused():
    with pytest.raises(SpecError, match="data"):
        stages_of(PlatformSpec.model_construct(**{**dict(spec()), "data": None}))


@pytest.mark.parametrize(
    "change",
    [
        {"gates": {"accuracy": ">= 0.5"}},
        {"serve": {"replicas": [1, 3]}},
        {"release": {"steps": ["50%", "100%"]}},
        {"watch": {"drift": "off"}},
        {"system": "other"},
    ],
)
def test_what_cannot_change_a_result_changes_no_fingerprint(tmp_path, change):
    assert prints(tmp_path, spec(**change)) == prints(tmp_path, spec())


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"train": {"epochs": 3}}, {"train", "evaluate"}),
        ({"train": {"epochs": 12, "workers": 2}}, {"train", "evaluate"}),
        ({"data": DIGITS["data"] | {"prepare": [{"resize": 16}]}}, {"prepare", "train", "evaluate"}),
        ({"data": DIGITS["data"] | {"columns": {"label": "y"}}}, {"prepare", "train", "evaluate"}),
    ],
)
def test_what_can_change_a_result_changes_its_stage_and_all_after_it(tmp_path, change, names):
    before, after = prints(tmp_path, spec()), prints(tmp_path, spec(**change))
    assert {name for name in before if before[name] != after[name]} == names


def test_the_users_app_file_is_part_of_every_built_in_stage(tmp_path):
    (tmp_path / "app.py").write_text('BASE = "image"\n')
    before = prints(tmp_path, spec(app="./app.py"))
    (tmp_path / "app.py").write_text('BASE = "image"\nX = 1\n')
    after = prints(tmp_path, spec(app="./app.py"))
    assert all(before[name] != after[name] for name in before)


def test_the_built_in_functions_take_what_their_stages_give():
    assert problems_of(stages_of(spec(search={"trials": 2})), (PLATFORM_ROOT,)) == []


NEUTRAL = (
    "errors", "clock", "machine", "home", "store", "spec", "pipeline", "on_ray.session", "on_ray.cluster",
    "on_ray.servers", "on_ray.authentication", "on_ray.tickets", "on_ray.watching", "on_ray.spares", "on_ray.pulse",
    "on_ray.cadence", "on_ray.stuck", "on_ray.keeping_off", "on_ray.avoiding", "on_ray.gangs", "on_ray.gang_places",
    "on_ray.gang_line", "on_ray.priority", "on_ray.step_pace", "keeper",
)  # fmt: skip
"""What says how something is asked for, refused or reached, and not what comes out."""


@pytest.mark.parametrize("listed", [PREPARE, SEARCH, TRAIN, EVALUATE], ids=["prepare", "search", "train", "evaluate"])
def test_the_listed_code_imports_no_deciding_module_that_is_not_listed(listed):
    known = {module.name: module.path for entry in listed for module in modules_of(entry, ())}
    missing = {
        f"{name} imports {imported}"
        for name, path in known.items()
        for imported in platform_imports(path)
        if imported not in known and not imported.removeprefix("platformops.").startswith(NEUTRAL)
    }
    assert missing == set()


def platform_imports(path):
    """Modules of PlatformOps that a file imports, also inside functions."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return {name for name in found if name.startswith("platformops.") and is_module(name)}


def is_module(name):
    place = Path(PLATFORM_ROOT, *name.split("."))
    package = place / "__init__.py"
    return place.with_suffix(".py").is_file() or (package.is_file() and package.stat().st_size > 0)
