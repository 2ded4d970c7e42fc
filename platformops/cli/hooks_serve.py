"""`platformops hooks serve`: an endpoint at which a CI system or a post-commit hook starts runs."""

from __future__ import annotations

import os
import secrets
import signal
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from platformops.cli.options import AsJson

if TYPE_CHECKING:
    from platformops.cli.hook_runs import Command, Tell
    from platformops.clock import Clock
    from platformops.gateway.hooks import Project

Specs = Annotated[list[Path], typer.Argument(metavar="SPEC...", help="Each is a project under its system's name.")]
Host = Annotated[str, typer.Option(help="Address to listen on; put a proxy with TLS in front of any but loopback.")]
HookPort = Annotated[int, typer.Option("--port", min=0, max=65535, help="0 takes a free one.")]
Release = Annotated[bool, typer.Option("--release", help="Release what comes of a run, in place of registering it.")]
Update = Annotated[bool, typer.Option("--update", help="Bring the working tree to its newest revision before a run.")]


def hooks_serve(
    specs: Specs,
    host: Host = "127.0.0.1",
    port: HookPort = 8410,
    release: Release = False,
    update: Update = False,
    json_: AsJson = False,
) -> None:
    """Serve signed webhooks until Ctrl-C: POST /hooks/SYSTEM starts a run, once for each delivery.

    A run that was accepted and has not ended when this process dies is begun by the next one that serves.
    The secret is that of PLATFORMOPS_HOOK_SECRET, else of keys/hooks.key in the home folder, made when it is not there.
    PLATFORMOPS_STATUS (gitlab, github or webhook) with _URL and _TOKEN tells where the state of runs is reported.
    """
    import asyncio

    from platformops.cli import settings
    from platformops.cli.hook_runs import HookRuns
    from platformops.cli.hook_secret import hook_secret
    from platformops.cli.output import next_step, print_json, say
    from platformops.clock import SystemClock
    from platformops.errors import UserError
    from platformops.gateway.hooks import Hooks
    from platformops.gateway.protocol import HttpLimits
    from platformops.gateway.server import HttpServer, bind

    clock, where = SystemClock(), settings.home()
    projects, commands = _projects(specs, "release" if release else "run", update=update)
    with settings.opened_store(where) as store:
        holder = f"{socket.gethostname()}:{os.getpid()}"
        runs = HookRuns(commands, _teller(clock), store=store, clock=clock, holder=holder)
        hooks = Hooks(
            projects=projects,
            secret=hook_secret(where, is_made=True),
            store=store,
            clock=clock,
            new_id=lambda: secrets.token_hex(8),
            start=runs.start,
        )
        try:
            bound = bind(host, port)
        except OSError as error:
            raise UserError(f"{host}:{port}: {error.strerror}", remedy="choose another --port") from None
        address = f"http://{host}:{bound.getsockname()[1]}"
        limits = HttpLimits(max_connections=256, max_connections_per_client=64)
        server = HttpServer(hooks, limits=limits, new_id=lambda: secrets.token_hex(8))
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: server.stop())
        if json_:
            print_json({"endpoint": address, "projects": sorted(projects)})
        else:
            say(f"{address}/hooks/ takes deliveries for {', '.join(sorted(projects))}; Ctrl-C ends it")
            next_step(f"platformops hooks send {address}/hooks/{sorted(projects)[0]}")
        runs.resume()
        asyncio.run(server.serve(bound))


def _projects(specs: list[Path], verb: str, *, update: bool) -> tuple[dict[str, Project], dict[str, Command]]:
    from platformops.cli import settings
    from platformops.cli.hook_runs import Command
    from platformops.cli.revision import provenance_in
    from platformops.errors import UserError
    from platformops.gateway.hooks import Project
    from platformops.spec.load import load_spec

    projects, commands = dict[str, Project](), dict[str, Command]()
    for path in specs:
        spec, folder = load_spec(path, data_root=settings.data_root()), path.absolute().parent
        vcs = provenance_in(folder).vcs if update else ""
        if update and not vcs:
            raise UserError(f"{path}: lies in no working tree that could be updated", remedy="leave --update out")
        if spec.system in projects:
            raise UserError(f"{path}: another spec has the system {spec.system} too")
        projects[spec.system] = Project(spec.ci.branch)
        commands[spec.system] = Command((verb, str(path.absolute()), "--json"), folder, vcs)
    return projects, commands


def _teller(clock: Clock) -> Tell:
    from platformops.cli.status_port import receiver_in, tell
    from platformops.delivery.ci.asked import Wanted
    from platformops.delivery.ci.status import State, Status

    to = receiver_in()

    def told(wanted: Wanted, state: State, description: str) -> None:
        tell(to, Status(wanted.project, wanted.revision, state, description), clock)

    return told
