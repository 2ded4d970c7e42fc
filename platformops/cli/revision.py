"""Asks version control and the environment which code a run is made with."""

from __future__ import annotations

import getpass
import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

from platformops.registry.builds import in_build
from platformops.registry.checkout import Answers, git_provenance, git_root, svn_provenance, svn_root
from platformops.registry.records import Provenance

TIMEOUT_S = 10.0  # a status of a huge tree on a slow disk; past it the revision counts as changed
LOCK_FILES = (
    "uv.lock", "poetry.lock", "pdm.lock", "pixi.lock", "Pipfile.lock", "conda-lock.yml", "requirements.lock",
    "requirements.txt",
)  # fmt: skip
"""The strictest first."""


def provenance_in(directory: Path, environment: Mapping[str, str] | None = None) -> Provenance:
    """Which state of the code lies around `directory`, and who works on it in which CI system."""
    seen = os.environ if environment is None else environment
    tree, root = _tree(directory)
    lock = next(_lock_files(directory, root), None)
    if lock:
        tree = replace(tree, lock_file=lock.name, lock_digest=sha256(lock.read_bytes()).hexdigest())
    return in_build(tree, seen, user=_user())


def _tree(directory: Path) -> tuple[Provenance, Path | None]:
    """Of a working copy within another one, the inner."""
    git, svn = asked("git", directory), asked("svn", directory)
    at_git, at_svn = git_root(git), svn_root(svn)
    if at_svn and len(at_svn) > len(at_git or ""):
        top = Path(at_svn)
        return svn_provenance(asked("svn", top), asked("svnversion", top)), top
    # Asked at the top, where Git names its own folders the same way, whether this is a worktree or not.
    return (git_provenance(asked("git", Path(at_git))), Path(at_git)) if at_git else (Provenance(), None)


def asked(tool: str, directory: Path) -> Answers:
    """The tool's answers in `directory`; None where there is no such tool, no repository or no answer in time."""
    # Without optional locks, so that a run never fails a commit that a person makes at that moment.
    options = {"git": ["--no-optional-locks"], "svn": ["--non-interactive"]}.get(tool, [])

    def answers(arguments: Sequence[str]) -> str | None:
        if not directory.is_dir():
            return None
        try:
            done = subprocess.run(
                [tool, *options, *arguments],
                cwd=directory,
                env={**os.environ, "LC_ALL": "C.UTF-8"},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=TIMEOUT_S,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired, UnicodeDecodeError):
            return None
        return done.stdout if done.returncode == 0 else None

    return answers


def _lock_files(directory: Path, root: Path | None) -> Iterator[Path]:
    """Beside the spec first, then upwards to the top of the working tree."""
    here = directory.resolve()
    top = root.resolve() if root else here
    for folder in (here, *here.parents):
        yield from (folder / name for name in LOCK_FILES if (folder / name).is_file())
        if folder == top:
            return


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user id without a name
        return ""
