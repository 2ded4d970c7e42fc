"""The command line: which verbs there are, and what becomes of their errors.

A verb's module is imported when the verb is used, so that `platformops --help` costs no import of what verbs need.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from platformops.cli import failures


@dataclass(frozen=True, slots=True)
class Verb:
    help: str
    example: str

    @property
    def epilog(self) -> str:
        return f"Example: platformops {self.example}"


VERBS = {
    "init": Verb("Write a spec and an app to start from.", "init --app image cats --source photos/"),
    "plan": Verb("Show what would run, what is cached, and why a step is not.", "plan configs/digits.yaml"),
    "up": Verb("Bring a system up: data, training, gates, live endpoint.", "up configs/digits.yaml"),
    "run": Verb("Run a spec's steps without releasing anything.", "run configs/digits.yaml --set train.epochs=3"),
    "release": Verb("Give a model the traffic, step by step, under guard.", "release configs/digits.yaml --watch"),
    "rollback": Verb("Give all traffic to the last good version, at once.", "rollback digits"),
    "pause": Verb("Keep a running release at its step.", "pause digits"),
    "resume": Verb("Let a paused or halted release go on.", "resume digits"),
    "abort": Verb("End a running release; what is stable keeps all traffic.", "abort digits"),
    "approve": Verb("Let a release have traffic, or go on without proof; on record.", "approve digits --as ada"),
    "drill": Verb("Break things on purpose: what finds it, and how soon.", "drill release configs/digits.yaml --all"),
    "status": Verb("Show what runs: systems, traffic, nodes, controller.", "status --json"),
    "health": Verb("Show every node's health, what is planned and why.", "health --watch"),
    "cordon": Verb("Give a node no new work.", "cordon 4f2a"),
    "uncordon": Verb("Give a node work again.", "uncordon 4f2a"),
    "drain": Verb("Move a node's work away and end its server.", "drain 4f2a"),
    "quota": Verb("Say what a team may use of the cluster at once.", "quota vision --cpus 8 --share 2"),
    "why": Verb("Explain the last decision on a system, version, run, step or node.", "why digits"),
    "predict": Verb("Send images to a live system and print its answers.", "predict digits five.png"),
    "models": Verb("List model versions with aliases and metrics.", "models digits"),
    "logs": Verb("Show the log of a run, as it grows with -f.", "logs -f"),
    "drift": Verb("Show whether answers and errors are still as they were.", "drift digits"),
    "perf": Verb("Load a live system, name its bottleneck, predict.", "perf digits five.png --replicas 4 --rps 200"),
    "tune": Verb("Propose settings for a limit on response time.", "tune digits five.png --slo p99=80ms"),
    "observe": Verb("Watch the platform with Prometheus and Alertmanager.", "observe up"),
    "backup": Verb("Copy and certify what the platform knows; or bring it back.", "backup /mnt/backups/platformops"),
    "down": Verb("Stop what `up` started, and only that.", "down digits"),
    "build": Verb("Make a wheel of a system, and the recipe of an image.", "build configs/digits.yaml"),
    "ci": Verb("Write, check and run the delivery pipeline of a spec.", "ci write gitlab configs/digits.yaml"),
    "hooks": Verb("Start runs by signed webhooks.", "hooks serve configs/digits.yaml"),
    "export": Verb("Write a system's manifests for other platforms.", "export kube configs/digits.yaml"),
    "schema": Verb("Print the JSON Schema of specs, for editors.", "schema > platformops.schema.json"),
}
"""Verb `x y` is the function `x_y` in `platformops/cli/x_y.py`; a test freezes these and their options."""

ACTIONS = {
    "drill": {
        "release": Verb(
            "Release known defects on purpose: what catches each.", "drill release configs/digits.yaml --all"
        ),
        "node": Verb("Break a node on purpose: what finds it, and how soon.", "drill node kill freeze"),
    },
    "ci": {
        "write": Verb("Write the pipeline file of a CI system.", "ci write gitlab configs/digits.yaml"),
        "check": Verb("Exit 1 when a pipeline file is not what the spec says.", "ci check"),
        "run": Verb("Run the pipeline's stages here.", "ci run --stage evaluate"),
        "smoke": Verb(
            "Send a burst of requests to a live system and judge the answers.", "ci smoke configs/digits.yaml"
        ),
    },
    "hooks": {
        "serve": Verb("Serve the endpoint that takes webhooks.", "hooks serve configs/digits.yaml --update"),
        "send": Verb("Send a signed delivery.", "hooks send http://127.0.0.1:8410/hooks/digits --as ada"),
        "log": Verb("Show which deliveries came.", "hooks log --last 20"),
    },
    "export": {
        "kube": Verb("Write manifests for KubeRay and a Helm chart.", "export kube configs/digits.yaml --to deploy"),
    },
}
"""Of verbs that have several: action `y` of verb `x` is the function `x_y` in `platformops/cli/x_y.py`."""


class Verbs(TyperGroup):
    """Knows the verbs by name and loads the one that is asked for."""

    def __init__(self, **settings: Any) -> None:  # noqa: ANN401  whatever Typer passes on
        super().__init__(**settings)
        listed = {name: TyperCommand(name, help=verb.help, callback=None) for name, verb in VERBS.items()}
        self.commands.update(listed)

    def list_commands(self, ctx: typer.Context) -> list[str]:  # type: ignore[override]
        return list(VERBS)

    def resolve_command(self, ctx: typer.Context, args: list[str]) -> Any:  # type: ignore[override]  # noqa: ANN401
        name, listed, rest = super().resolve_command(ctx, args)
        return (name, loaded(name), rest) if name in VERBS else (name, listed, rest)


def loaded(name: str) -> Any:  # noqa: ANN401  Typer keeps its command type to itself
    """The command of one verb, its module imported; a group where it has actions."""
    verb, app = VERBS[name], typer.Typer(add_completion=False)
    if name not in ACTIONS:
        _add(app, name, name, verb)
        return get_command(app)
    epilog = f"{verb.epilog}   (each action has --help with an example, and --json)"
    app.callback(help=verb.help, epilog=epilog, no_args_is_help=True)(_nothing)
    for action, described in ACTIONS[name].items():
        _add(app, action, f"{name}_{action}", described)
    return get_command(app)


def _add(app: typer.Typer, command: str, name: str, verb: Verb) -> None:
    function = getattr(import_module(f"platformops.cli.{name}"), name)
    app.command(command, help=function.__doc__ or verb.help, epilog=verb.epilog)(_guarded(function))


def _nothing() -> None:
    """Stands for a group of actions, which does nothing by itself."""


def _guarded(function: Callable[..., None]) -> Callable[..., None]:
    """`function`, whose errors become a text on stderr and an exit code."""

    @functools.wraps(function)
    def guarded(**arguments: Any) -> None:  # noqa: ANN401  as the verb declares them
        try:
            function(**arguments)
            sys.stdout.flush()
        except (typer.Exit, typer.Abort, typer.BadParameter):
            raise
        except (Exception, KeyboardInterrupt) as error:
            raise typer.Exit(failures.report(error, as_json=bool(arguments.get("json_")))) from None

    return guarded


app = typer.Typer(cls=Verbs, no_args_is_help=True, add_completion=True, rich_markup_mode="rich")


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"platformops {version('platformops')}")
        raise typer.Exit


@app.callback(epilog="Start with: platformops up configs/digits.yaml")
def platformops(
    home: Annotated[str, typer.Option(help="Folder for state, instead of PLATFORMOPS_HOME or ~/.platformops.")] = "",
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """From one YAML file to a live, gated, self-repairing model endpoint on Ray."""
    if home:
        os.environ["PLATFORMOPS_HOME"] = home  # the steps and servers that this process starts inherit it


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command line (without the program's name); answers its exit code."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # a Latin-1 terminal must not end a run
    try:
        app(args=None if arguments is None else list(arguments), prog_name="platformops")
    except SystemExit as done:
        return done.code if isinstance(done.code, int) else int(done.code is not None)
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
