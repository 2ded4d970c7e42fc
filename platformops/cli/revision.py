"""Runs git for the registry's question which code a run was made with."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

from platformops.registry.lineage import Git

TIMEOUT_S = 10.0  # a status of a huge tree on a slow disk; past it the revision counts as changed


def git_in(directory: Path) -> Git:
    """Git's answers in `directory`; None where there is no git, no repository or no answer in time."""

    def git(arguments: Sequence[str]) -> str | None:
        # Without optional locks, so that a run never fails a commit that a person makes at that moment.
        command = ["git", "--no-optional-locks", "-C", str(directory), *arguments]
        try:
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
            )
        except (OSError, subprocess.TimeoutExpired, UnicodeDecodeError):
            return None
        return done.stdout if done.returncode == 0 else None

    return git
