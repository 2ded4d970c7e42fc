"""`platformops up`: from a spec to a live endpoint."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from platformops.cli.options import AsJson, Overrides, Port, SpecFile, spec_arguments

if TYPE_CHECKING:
    from platformops.cli.releasing import Wish
    from platformops.cli.running import Ran, Session
    from platformops.delivery.records import Rollout

KINDS = {".png": "image/png", ".jpg": "image/jpeg", ".webp": "image/webp"}
SHOWN_STAGES = ("train", "evaluate")


def up(spec: SpecFile, set_: Overrides = None, port: Port = 8000, json_: AsJson = False) -> None:
    """Bring a system up: data, training, evaluation, gates, live endpoint. Finished steps are not run again.

    Where no cluster runs, one is started here and kept: what dies of it is started again until `platformops down`.
    Its state is kept on disk; PLATFORMOPS_GCS_STORAGE=memory, set when it is started, keeps it in memory instead.
    """
    bring_live(spec, set_, port, again=("up", *spec_arguments(spec, set_), "--port", str(port)), as_json=json_)


def bring_live(
    spec: Path,
    overrides: Sequence[str] | None,
    port: int,
    *,
    again: tuple[str, ...],
    as_json: bool,
    wish: Wish | None = None,
    needs_model: bool = False,
) -> None:
    """Runs what has not run yet, releases the model, tells of it, and ends with the exit code; `again` is the command
    by which the keeper would finish this one."""
    from platformops.cli import settings
    from platformops.cli.output import progress_shown
    from platformops.cli.releasing import Wish
    from platformops.cli.running import carry_out, session
    from platformops.clock import SystemClock
    from platformops.errors import UserError
    from platformops.pipeline.runner import exit_code

    where, clock, wanted = settings.home(), SystemClock(), wish or Wish()
    with (
        settings.opened_store(where) as store,
        progress_shown() as show,
        session(where, store, clock, show, arguments=again) as s,
    ):
        ran = carry_out(spec, overrides, s, verify=SHOWN_STAGES, is_served=True, environment=wanted.environment)
        if needs_model and ran.version is None and not exit_code(ran.result):
            raise UserError(f"{spec} makes no model, so there is nothing to release", remedy="platformops run SPEC")
        live = brought_live(ran, s, port, wanted, (spec, overrides or ())) if ran.version else None
    if as_json:
        print_live_json(ran, live)
    else:
        print_live(ran, live, str(spec), s)
    if code := exit_code(ran.result) or (1 if live and not (live.is_promoted or live.waiting) else 0):
        raise typer.Exit(code)


class Live:
    """What a release came to."""

    def __init__(self, rollout: Rollout, endpoint: str, key_file: str, waiting: str = "") -> None:
        self.rollout, self.endpoint, self.key_file, self.waiting = rollout, endpoint, key_file, waiting

    @property
    def is_promoted(self) -> bool:
        return self.rollout.state.value == "promoted"


def brought_live(ran: Ran, s: Session, port: int, wish: Wish, written: tuple[Path, Sequence[str]]) -> Live:
    """The release of the run's version, with everything running that serves it."""
    from platformops.cli.access import ensure_key
    from platformops.cli.releasing import check_replicas, release
    from platformops.cli.serving import await_ready, ensure_serving

    system = ran.planned.spec.system
    check_replicas(ran, s)
    address = ensure_serving(s, port)
    key_file = ensure_key(system, s.where, s.store, s.clock)
    remember_recipe(ran, s, wish, written)
    remember_policy(ran, s)
    asked = release(ran, s, wish)
    live = Live(asked.rollout, f"{address}/{system}/predict", str(key_file), asked.waiting)
    if live.is_promoted:
        await_ready(s, address, system, key_file)
    return live


def remember_recipe(ran: Ran, s: Session, wish: Wish, written: tuple[Path, Sequence[str]]) -> None:
    """By which the controller watches the system's answers, and makes it again where the spec says so."""
    from platformops.delivery.retraining import RECIPES, Recipe, recipe_puts
    from platformops.keeper.errands import KEPT_NAMES
    from platformops.spec.conditions import duration_s
    from platformops.store.records import Put

    spec, (file, overrides) = ran.planned.spec, written
    if spec.watch.drift == "off":
        s.store.commit([Put(RECIPES + spec.system, None, expect=None)])
        return
    variables = {name: os.environ[name] for name in KEPT_NAMES if os.environ.get(name)}
    s.store.commit(recipe_puts(Recipe(
        spec.system, str(file.absolute()), tuple(overrides), wish.environment, variables, spec.watch.retrain,
        duration_s(spec.watch.cooldown),
    )))  # fmt: skip


def remember_policy(ran: Ran, s: Session) -> None:
    """What the spec lets node health do to the nodes that its system runs on."""
    from platformops.health.nodes import POLICIES, Policy, policy_json
    from platformops.spec.conditions import percent
    from platformops.store.records import Put

    spec = ran.planned.spec
    policy = Policy(spec.health.drain == "expected_cost", percent(spec.health.budget))
    s.store.commit([Put(POLICIES + spec.system, policy_json(policy), expect=None)])


def print_live_json(ran: Ran, live: Live | None) -> None:
    from platformops.cli.output import print_json
    from platformops.cli.running import run_document

    endpoint = live.endpoint if live and (live.is_promoted or live.waiting) else None
    gates, reason = (live.rollout.gates, live.waiting or live.rollout.reason) if live else ((), "")
    document = run_document(ran, endpoint=endpoint, gates=gates, reason=reason)
    print_json({**document, "release": live.rollout.state.value if live else None})


def print_live(ran: Ran, live: Live | None, spec: str, s: Session) -> None:
    from platformops.cli.output import next_step, say
    from platformops.cli.running import artifact_file, print_gates, print_run

    print_run(ran)
    if live is None:
        if ran.planned.spec.app is None:
            say("\nA pipeline without a model: nothing to serve.")
        next_step(f"platformops why {ran.result.run_id}")
        return
    print_gates(live.rollout.gates)
    say(f"\nreport: {artifact_file(ran, 'evaluate', 'report.html', s)}")
    if live.waiting:
        say(f"{live.rollout.candidate.version_name} is {live.rollout.state.value}: {live.waiting}")
        say("It goes on without you; what is stable answers meanwhile. To let it pass without proof: approve it.")
        next_step(f"platformops release {spec} --watch")
        return
    if not live.is_promoted:
        say(f"{live.rollout.state.value}: {live.rollout.reason}")
        next_step(f"platformops why {ran.planned.spec.system}")
        return
    sample = artifact_file(ran, "evaluate", "sample.*", s)
    say(f"endpoint: {live.endpoint}")
    kind = KINDS.get(sample.suffix if sample else "", "application/octet-stream")
    say(f'\ncurl -H "Authorization: Bearer $(cat {live.key_file})" -H "Content-Type: {kind}" \\')
    say(f"  --data-binary @{sample} {live.endpoint}")
    next_step(f"platformops predict {ran.planned.spec.system} {sample}")
