"""Marked regions of a file: what stands between the marks is ours, what stands outside is a person's and is kept."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from platformops.errors import UserError

_BEGIN, _END = ">>> platformops", "<<< platformops"
_MARK = re.compile(rf"^[ \t]*(?://|#)[ \t]*(?P<kind>{_BEGIN}|{_END})\b(?P<rest>.*)$")


@dataclass(frozen=True, slots=True)
class Region:
    """Lines of a file without its marks; `comment` and the indents make the marks fit in."""

    text: str
    comment: str = "#"
    indent: str = ""
    """Before the first mark."""
    end_indent: str = ""


def marked(region: Region, spec: str) -> str:
    """The region between its marks, the first of which names the spec that it was written from."""
    begin, end = f"{region.indent}{region.comment} {_BEGIN}", f"{region.end_indent}{region.comment} {_END}"
    return f"{begin} {spec}\n{region.text.rstrip()}\n{end}\n"


def merged(existing: str | None, regions: Sequence[Region], spec: str, *, file: str, between: str = "") -> str:
    """The file with `regions` in place of those that it has; a new one, with `between` each two, where none is.

    Raises UserError for a file that somebody wrote without marks, or whose marks were damaged.
    """
    texts = [marked(region, spec) for region in regions]
    if existing is None or not existing.strip():
        return between.join(texts)
    kept = _outside(existing, file)
    if len(kept) != len(texts) + 1:
        raise UserError(
            f"{file}: has {len(kept) - 1} regions of PlatformOps where {len(texts)} belong",
            remedy="move the file away, write it again, and put your own parts back",
        )
    return "".join(part for pair in zip(kept, [*texts, ""], strict=True) for part in pair)


def outside(existing: str | None, file: str) -> str:
    """A person's own part of the file."""
    return "".join(_outside(existing, file)) if existing and existing.strip() else ""


def spec_in(existing: str) -> str | None:
    """The spec that the file's first region was written from."""
    for line in existing.splitlines():
        if (mark := _MARK.match(line)) and mark["kind"] == _BEGIN:
            return mark["rest"].strip() or None
    return None


def _outside(existing: str, file: str) -> list[str]:
    """What stands before, between and behind the regions."""
    kept, is_inside = [""], False
    for line in existing.splitlines(keepends=True):
        mark = _MARK.match(line.rstrip("\r\n"))
        if mark is None:
            kept[-1] += "" if is_inside else line
            continue
        if (mark["kind"] == _BEGIN) is is_inside:
            raise UserError(
                f"{file}: its marks `{_BEGIN}` and `{_END}` do not alternate", remedy="put the missing one back"
            )
        is_inside = not is_inside
        kept += [""] if is_inside else []
    if is_inside:
        raise UserError(f"{file}: a region has no end `{_END}`", remedy="put the mark back")
    if len(kept) == 1:
        raise UserError(
            f"{file}: is there already, and holds no region of PlatformOps",
            remedy="move it away, write it anew, and put your own parts outside the marks",
        )
    return kept
