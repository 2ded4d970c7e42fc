"""What version control says of a tree: Git's and Subversion's answers as provenance."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from urllib.parse import urlsplit, urlunsplit
from xml.etree import ElementTree

from platformops.registry.records import UNKNOWN, Provenance

Answers = Callable[[Sequence[str]], str | None]
"""Runs the tool with these arguments in the directory in question: what it printed, None when it failed."""

OWN_FOLDER = ".platformops"
"""What the platform itself leaves in a tree: reports and packages of a pipeline, which are no part of the code."""

_VERSION = re.compile(r"(?P<low>\d+)(:(?P<high>\d+))?(?P<flags>M?S?P?)", re.ASCII)
_FLAGS = {"M": "modified", "S": "switched", "P": "sparse"}
_UNCHANGED = ("normal", "none", "external", "ignored")
_SCP = re.compile(r"^(?:[^/@]+@)(?P<rest>[^/:]+:.*)$")


def git_root(git: Answers) -> str | None:
    """The top folder of the working tree; None where there is none."""
    return _line(git(["rev-parse", "--show-toplevel"]))


def svn_root(svn: Answers) -> str | None:
    """The top folder of the working copy; None where there is none."""
    return _line(svn(["info", "--show-item", "wc-root"]))


def git_provenance(git: Answers) -> Provenance:
    """Commit, branch, remote and states of a Git tree; the revision is `unknown` where there is no commit.

    Untracked files count as a change, since a run may well have imported them; ignored ones do not. A status that is
    not answered counts as one too.
    """
    revision = _line(git(["rev-parse", "--verify", "HEAD"])) or UNKNOWN
    branch = _line(git(["symbolic-ref", "--quiet", "--short", "HEAD"])) or ""
    return Provenance(
        vcs="git",
        revision=revision,
        branch=branch,
        remote=without_credentials(_git_remote(git)),
        states=tuple(_git_states(git, is_detached=revision != UNKNOWN and not branch)),
    )


def _git_states(git: Answers, *, is_detached: bool) -> Sequence[str]:
    changes = git(["status", "--porcelain", "--untracked-files=normal"])
    places = (git(["rev-parse", "--git-dir", "--git-common-dir", "--is-shallow-repository"]) or "").splitlines()
    found = {
        "modified": changes is None or any(_is_change(line[3:]) for line in changes.splitlines()),
        "detached": is_detached,
        "shallow": places[2:] == ["true"],
        "worktree": len(places) > 1 and places[0] != places[1],
    }
    return [state for state, is_so in found.items() if is_so]


def _git_remote(git: Answers) -> str:
    names = (git(["remote"]) or "").split()
    if not names:
        return ""
    return _line(git(["remote", "get-url", "origin" if "origin" in names else names[0]])) or ""


def svn_provenance(svn: Answers, svnversion: Answers) -> Provenance:
    """Repository, path, last-changed revision and states of a Subversion working copy.

    A commit leaves a working copy of mixed revisions behind; `svn update` makes it one again.
    """
    item = {name: _line(svn(["info", "--show-item", name])) or "" for name in _ITEMS}
    return Provenance(
        vcs="svn",
        revision=item["last-changed-revision"] or UNKNOWN,
        branch=item["relative-url"],
        remote=without_credentials(item["repos-root-url"]),
        repository=item["repos-uuid"],
        states=svn_states(_line(svnversion([])), svn(["status", "--xml"])),
    )


_ITEMS = ("last-changed-revision", "relative-url", "repos-root-url", "repos-uuid")


def svn_states(version: str | None, status_xml: str | None) -> tuple[str, ...]:
    """States by `svnversion` (`4123:4168MS`) and `svn status --xml`; what is not answered counts as modified."""
    match = _VERSION.fullmatch(version or "")
    if match is None or status_xml is None:
        return ("modified",)
    found = {_FLAGS[flag] for flag in match["flags"]}
    if match["high"]:
        found.add("mixed")
    if any(_svn_change(entry) for entry in ElementTree.fromstring(status_xml).iter("entry")):
        found.add("modified")
    return tuple(sorted(found))


def _svn_change(entry: ElementTree.Element) -> bool:
    status = entry.find("wc-status")
    if status is None or not _is_change(entry.get("path", "")):
        return False
    return status.get("item") not in _UNCHANGED or status.get("props", "none") not in _UNCHANGED


def _is_change(path: str) -> bool:
    return OWN_FOLDER not in path.strip('"').rstrip("/").split("/")


def without_credentials(url: str) -> str:
    """`url` without user and password, which a remote of a CI system usually holds."""
    if match := _SCP.match(url):
        return match["rest"] if "://" not in url else url
    try:
        parts = urlsplit(url)
    except ValueError:
        return ""
    if not parts.scheme or not parts.netloc:
        return url
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def _line(answer: str | None) -> str | None:
    return (answer or "").strip() or None
