"""The stages of a spec: the built-in ones of an application, and the user's own beside them."""

from __future__ import annotations

from platformops.errors import SpecError
from platformops.pipeline.records import Stage
from platformops.pipeline.sources import STAGE
from platformops.spec.types import DataSpec, PlatformSpec, StageSpec
from platformops.store.records import Json, JsonObject

STEPS = "platformops.on_ray.steps"
APP = (
    "platformops.apps.classification",
    "platformops.apps.contract",
    "platformops.apps.image",
    "platformops.apps.load",
    "platformops.apps.prepared",
    "platformops.apps.scanning",
    "platformops.apps.splits",
)
"""What every built-in stage computes with. A user's app file may extend the image app, hence always all of it."""
PREPARE = (*APP, "platformops.on_ray.data", "platformops.on_ray.grouping", "platformops.on_ray.read")
TRAIN = (
    *APP,
    "platformops.frameworks",
    "platformops.on_ray.checkpoints",
    "platformops.on_ray.layout",
    "platformops.on_ray.training",
    "platformops.on_ray.training_worker",
)
SEARCH = (*TRAIN, "platformops.on_ray.search")
EVALUATE = (
    *APP,
    "platformops.frameworks",
    "platformops.observation.charts",
    "platformops.observation.page",
    "platformops.observation.records",
    "platformops.observation.report",
    "platformops.observation.sections",
    "platformops.on_ray.evaluation",
    "platformops.on_ray.layout",
    "platformops.on_ray.picturing",
)
RETRIES = 3
"""Training resumes from its last checkpoint, so more attempts on a failing cluster are cheap."""


def stages_of(spec: PlatformSpec) -> tuple[Stage, ...]:
    """prepare, search (when asked for), train, evaluate; then the stages of the spec as they are written.

    Params hold what changes a result and nothing else: gates, serving and release are no part of any identity.
    """
    return (*_built_in(spec), *(_own(stage) for stage in spec.stages))


def _built_in(spec: PlatformSpec) -> tuple[Stage, ...]:
    if spec.app is None:
        return ()
    if spec.data is None:
        raise SpecError([f"{spec.system}: data: an app needs data"], remedy="add `data: {source: ...}`")
    app: JsonObject = {"app": spec.app}
    train = {**app, "train": spec.train.model_dump(mode="json")}
    stages = [_prepare(spec, spec.app, spec.data)]
    if spec.search:
        search = {**train, "search": spec.search.model_dump(mode="json")}
        stages.append(_stage(spec, "search", ("prepare",), search, SEARCH))
    found = ("search",) if spec.search else ()
    # `train` lays what the search found over its own params with a function of the search's module.
    code = SEARCH if spec.search else TRAIN
    stages.append(_stage(spec, "train", ("prepare", *found), train, code))
    stages.append(_stage(spec, "evaluate", ("prepare", "train"), app, EVALUATE))
    return tuple(stages)


def _prepare(spec: PlatformSpec, app: str, section: DataSpec) -> Stage:
    plain = section.model_dump(mode="json")
    params: dict[str, Json] = {
        "app": app,
        "source": section.source,
        "test": section.test,
        "split": plain["split"],
        "operations": plain["prepare"],
        "check": plain["check"],
        "options": {**plain["columns"], **plain["options"]},
    }
    uris = [uri for uri in (section.source, section.test) if uri]
    return _stage(spec, "prepare", _stages_in(uris), params, PREPARE, sources=_bytes_in(uris))


def _stage(
    spec: PlatformSpec,
    name: str,
    needs: tuple[str, ...],
    params: JsonObject,
    code: tuple[str, ...],
    sources: tuple[str, ...] = (),
) -> Stage:
    own = (spec.app,) if spec.app and spec.app.endswith(".py") else ()
    return Stage(
        name=name,
        uses=f"{STEPS}:{name}",
        needs=needs,
        params=params,
        code=(*code, *own),
        sources=sources,
        retries=RETRIES,
        on_cluster=True,
    )


def _own(stage: StageSpec) -> Stage:
    return Stage(
        name=stage.name,
        uses=stage.uses,
        needs=tuple(dict.fromkeys((*stage.needs, *_stages_in(list(stage.sources))))),
        params=stage.with_,
        sources=_bytes_in(list(stage.sources)),
        retries=stage.retries,
        timeout_s=stage.timeout_s,
    )


def _stages_in(uris: list[str]) -> tuple[str, ...]:
    """Stages whose artifacts are read as data: they are parents, and their fingerprints stand for their bytes."""
    return tuple(dict.fromkeys(uri.removeprefix(STAGE) for uri in uris if uri.startswith(STAGE)))


def _bytes_in(uris: list[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(uri for uri in uris if not uri.startswith(STAGE)))
