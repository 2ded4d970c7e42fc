"""What a person reads when a command fails: what, where and the fix; the full trace goes to a file."""

from __future__ import annotations

import os
import sys
import traceback
from datetime import UTC, datetime

from platformops.cli import settings
from platformops.cli.output import print_json
from platformops.errors import PlatformError, UserError
from platformops.spec.echo import escaped

INTERRUPTED = 130
BROKEN_PIPE = 141
"""As a shell counts a program that SIGPIPE ended."""


def report(error: BaseException, *, as_json: bool) -> int:
    """Tells of `error` on stderr, and on stdout as JSON when that was asked for; answers the exit code."""
    if isinstance(error, BrokenPipeError):
        _swallow_output()
        return BROKEN_PIPE
    if isinstance(error, KeyboardInterrupt):
        code, what, fix = INTERRUPTED, "interrupted", "run the same command again: finished steps are kept"
    elif isinstance(error, PlatformError):
        code, what, fix = error.exit_code, error.message, error.remedy or ""
    else:
        code, what, fix = 1, *_unexpected(error)
    text = "\n".join(escaped(line) for line in what.splitlines())
    try:
        print(f"error: {text}" + (f"\n  fix: {escaped(fix)}" if fix else ""), file=sys.stderr, flush=True)
        if as_json:
            print_json({"error": {"what": what, "fix": fix, "exit_code": code}})
    except BrokenPipeError:
        _swallow_output()
    return code


def _unexpected(error: BaseException) -> tuple[str, str]:
    """A short message and where the whole trace is; on stderr when there is nowhere to write it."""
    name = type(error).__name__
    trace = "".join(traceback.format_exception(error))
    try:
        folder = settings.home().logs
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"trace-{datetime.now(UTC):%Y%m%dT%H%M%S}-{os.getpid()}.txt"
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        with os.fdopen(descriptor, "a", encoding="utf-8", errors="backslashreplace") as file:
            file.write(trace)
    except (OSError, UserError):
        return f"{name}: {error}", f"report this defect of PlatformOps with this trace:\n{trace}"
    return f"{name}: {error}", f"this is a defect of PlatformOps; the full trace is in {path}"


def _swallow_output() -> None:
    """What is still buffered has no reader; writing it at exit would print a second error."""
    devnull = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BrokenPipeError:
            os.dup2(devnull, stream.fileno())
