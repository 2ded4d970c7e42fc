"""Orders stages into steps and gives each its fingerprint; nothing runs and nothing is written."""

from __future__ import annotations

import difflib
import heapq
from collections.abc import Mapping, Sequence

from platformops.errors import UserError
from platformops.pipeline.fingerprint import fingerprint
from platformops.pipeline.identity import Identity
from platformops.pipeline.records import USES, Plan, Stage, Step, StepKey


def make_plan(system: str, stages: Sequence[Stage], *, identity: Identity) -> Plan:
    """Every stage as a step, after its parents and otherwise as declared.

    Raises UserError for doubled names, unknown needs, cycles, and params without a stable fingerprint; AppError for
    modules that may not be used; DataRefused for sources that cannot be read.
    """
    steps: dict[str, Step] = {}
    digests: dict[str, str] = {}
    for stage in in_order(stages):
        for uri in stage.sources:
            digests[uri] = digests.get(uri) or identity.source(uri)
        steps[stage.name] = _step(stage, steps, digests, identity)
    return Plan(system=system, steps=tuple(steps.values()))


def plan_until(plan: Plan, stage: str) -> Plan:
    """The steps that `stage` needs, and its own. Raises UserError for a stage that is not in the plan."""
    steps = {step.stage.name: step for step in plan.steps}
    if stage not in steps:
        near = difflib.get_close_matches(stage, steps, n=1)
        remedy = f"did you mean {near[0]!r}?" if near else f"the stages are {', '.join(steps)}"
        raise UserError(f"there is no stage {stage!r}", remedy=remedy)
    wanted, waiting = set[str](), [stage]
    while waiting:
        name = waiting.pop()
        if name not in wanted:
            wanted.add(name)
            waiting += steps[name].stage.needs
    return Plan(plan.system, tuple(step for step in plan.steps if step.stage.name in wanted))


def _step(stage: Stage, parents: Mapping[str, Step], digests: Mapping[str, str], identity: Identity) -> Step:
    key = StepKey(
        stage=stage.name,
        code={USES: stage.uses, **identity.code(stage)},
        params=stage.params,
        parents={name: parents[name].fingerprint for name in stage.needs},
        sources={uri: digests[uri] for uri in stage.sources},
    )
    return Step(stage=stage, key=key, fingerprint=fingerprint(key))


def in_order(stages: Sequence[Stage]) -> list[Stage]:
    """The stages so that each comes after its needs; among those that are free, the first declared comes first."""
    place = {stage.name: index for index, stage in enumerate(stages)}
    _refuse_doubled(stages)
    _refuse_unknown(stages, place)
    children: dict[str, list[str]] = {stage.name: [] for stage in stages}
    open_needs = {stage.name: len(set(stage.needs)) for stage in stages}
    for stage in stages:
        for name in set(stage.needs):
            children[name].append(stage.name)
    free = [place[name] for name, count in open_needs.items() if count == 0]
    heapq.heapify(free)
    ordered: list[Stage] = []
    while free:
        stage = stages[heapq.heappop(free)]
        ordered.append(stage)
        for child in children[stage.name]:
            open_needs[child] -= 1
            if open_needs[child] == 0:
                heapq.heappush(free, place[child])
    if len(ordered) < len(stages):
        raise _cycle({s.name: s for s in stages}, {name for name, count in open_needs.items() if count})
    return ordered


def _refuse_doubled(stages: Sequence[Stage]) -> None:
    names = [stage.name for stage in stages]
    doubled = sorted({name for name in names if names.count(name) > 1}) if len(set(names)) < len(names) else []
    if doubled:
        raise UserError(f"stages.{doubled[0]}: this name is used more than once", remedy="give each stage its own name")


def _refuse_unknown(stages: Sequence[Stage], known: Mapping[str, int]) -> None:
    for stage in stages:
        for name in stage.needs:
            if name not in known:
                near = difflib.get_close_matches(name, known, n=1)
                remedy = f"did you mean {near[0]!r}?" if near else f"the stages are {', '.join(known)}"
                raise UserError(f"stages.{stage.name}.needs: there is no stage {name!r}", remedy=remedy)


def _cycle(stages: Mapping[str, Stage], stuck: set[str]) -> UserError:
    """Walks from need to need among the stuck ones until a name comes up again; that part is the cycle."""
    path = [min(stuck)]
    while True:
        following = min(name for name in stages[path[-1]].needs if name in stuck)
        if following in path:
            loop = [*path[path.index(following) :], following]
            return UserError(f"stages need each other: {' needs '.join(loop)}", remedy="take one of these needs away")
        path.append(following)
