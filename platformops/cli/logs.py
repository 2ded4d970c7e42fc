"""`platformops logs`: the structured lines of runs, read by people or passed on to programs."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, BinaryIO

import typer

from platformops.cli.options import AsJson

RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", re.ASCII)
STAGE, VERSION, NODE = "platformops.stage", "platformops.version", "platformops.node"
REQUEST, TRACE = "http.request.id", "trace.id"
POLL_S = 0.2
MOST_TAIL_BYTES = 8 * 1024 * 1024
"""Of a file that is larger, only its end is read."""

Run = Annotated[str, typer.Option("--run", help="Id of a run; default the newest log.", show_default=False)]
Follow = Annotated[bool, typer.Option("--follow", "-f", help="Go on as the log grows; Ctrl-C ends it.")]
Stage = Annotated[str, typer.Option("--stage", help="Only lines about this stage.", show_default=False)]
Version = Annotated[str, typer.Option("--version", help="Only of this model version: digits:v2.", show_default=False)]
Node = Annotated[str, typer.Option("--node", help="Only of this node: the beginning of its id.", show_default=False)]
Request = Annotated[str, typer.Option("--request", help="Only of the request with this id.", show_default=False)]
Trace = Annotated[str, typer.Option("--trace", help="Only of the trace with this id.", show_default=False)]
Lines = Annotated[int, typer.Option("--lines", "-n", min=0, max=1_000_000, help="How many of the last lines.")]


def logs(
    run: Run = "",
    stage: Stage = "",
    version: Version = "",
    node: Node = "",
    request: Request = "",
    trace: Trace = "",
    follow: Follow = False,
    lines: Lines = 200,
    json_: AsJson = False,
) -> None:
    """Show the log of a run, as it grows with -f; with another filter, what all logs say of that."""
    from platformops.cli import settings
    from platformops.cli.failures import INTERRUPTED
    from platformops.cli.output import next_step, say
    from platformops.clock import SystemClock

    folder, wanted = settings.home().logs, {STAGE: stage, VERSION: version, NODE: node, REQUEST: request, TRACE: trace}
    path = _log_file(folder, run)
    if path is None:
        say("No logs yet.")
        next_step("platformops up configs/digits.yaml")
        return
    clock = SystemClock()
    try:
        for line in _shown(folder, path, run, wanted, lines, pause=lambda: clock.sleep(POLL_S), follow=follow):
            _print_raw(line) if json_ else _print_line(line)
            sys.stdout.flush()
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None  # how following ends, so nothing needs to be said


def _shown(
    folder: Path,
    path: Path,
    run: str,
    wanted: Mapping[str, str],
    count: int,
    *,
    pause: Callable[[], None],
    follow: bool,
) -> Iterable[str]:
    if not any(wanted.values()):
        return followed(path, count, pause=pause) if follow else tail(path, count)
    if follow:
        return (line for line in followed(path, count, pause=pause) if is_about(line, wanted))
    return found([path] if run else sorted(folder.glob("*.jsonl")), wanted, count)


def found(paths: Sequence[Path], wanted: Mapping[str, str], count: int) -> list[str]:
    """The last `count` lines of all files that are about what is wanted, in the order of their times."""
    lines = [line for path in paths for line in tail(path, MOST_TAIL_BYTES) if is_about(line, wanted)]
    return sorted(lines, key=lambda line: str(json.loads(line).get("@timestamp", "")))[-count:] if count else []


def is_about(line: str, wanted: Mapping[str, str]) -> bool:
    """Whether the line has every value that is not empty; of a node, the beginning is enough."""
    try:
        record = json.loads(line)
    except ValueError:
        return False
    if not isinstance(record, dict):
        return False
    said = {name: str(record.get(name, "")) for name, value in wanted.items() if value}
    return all(told.startswith(wanted[n]) if n == NODE else told == wanted[n] for n, told in said.items())


def _log_file(folder: Path, run: str) -> Path | None:
    """The log of that run, else the one that was written last; raises UserError for a run that has none."""
    from platformops.errors import UserError
    from platformops.spec.echo import did_you_mean, shown

    found = {path.stem: path for path in folder.glob("*.jsonl")} if folder.is_dir() else {}
    if run:
        if not RUN_ID.fullmatch(run) or run not in found:
            near = did_you_mean(run, found).removeprefix("; ")
            raise UserError(f"there is no log of run {shown(run)} in {folder}", remedy=near or "platformops logs")
        return found[run]
    return max(found.values(), key=lambda path: path.stat().st_mtime, default=None)


def tail(path: Path, count: int) -> list[str]:
    """The last `count` whole lines of a file."""
    with path.open("rb") as file:
        return _tail(file, count)


def followed(path: Path, count: int, *, pause: Callable[[], None]) -> Iterator[str]:
    """The last lines, then each further one once it is whole; begins anew when the file was cut or replaced."""
    while True:
        with path.open("rb") as file:
            yield from _tail(file, count)
            kept = b""
            while _is_still(file, path):
                *whole, kept = (kept + file.read(65536)).split(b"\n")
                yield from map(_text, whole)
                if not whole:
                    pause()
        while not path.exists():
            pause()
        count = MOST_TAIL_BYTES


def _tail(file: BinaryIO, count: int) -> list[str]:
    """Leaves the file where the last whole line ends."""
    size = file.seek(0, 2)
    start = file.seek(max(0, size - MOST_TAIL_BYTES))
    content = file.read(MOST_TAIL_BYTES)
    whole = content[: content.rfind(b"\n") + 1]
    file.seek(start + len(whole))
    return [_text(line) for line in whole.split(b"\n")[:-1][-count:]] if count else []


def _is_still(file: BinaryIO, path: Path) -> bool:
    """Whether `path` is the file that is open, and was not cut below where it was read."""
    try:
        there = path.stat()
    except FileNotFoundError:
        return False
    return os.path.samestat(there, os.fstat(file.fileno())) and there.st_size >= file.tell()


def _text(line: bytes) -> str:
    return line.decode("utf-8", "backslashreplace")


def _print_raw(line: str) -> None:
    print(line.encode("ascii", "backslashreplace").decode("ascii"), flush=True)


def _print_line(line: str) -> None:
    """`time level message key=value ...`; a line that is no JSON object as it is, made harmless."""
    from platformops.cli.output import say

    try:
        record = json.loads(line)
    except ValueError:
        record = None
    if not isinstance(record, dict):
        say(line)
        return
    taken = {"@timestamp", "log.level", "message", "platformops.system", "platformops.run"}
    rest = [f"{name.removeprefix('platformops.')}={value}" for name, value in record.items() if name not in taken]
    told = [record.get(name, "") for name in ("@timestamp", "log.level", "message")]
    say(" ".join(str(part) for part in (*told, *rest) if part != ""))
