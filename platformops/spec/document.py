"""The bytes of one YAML file as a plain tree, with every problem of the text; nothing beyond scalars is interpreted.

The parser's events are folded here, not by PyYAML's composer: that keeps the last of two equal keys, expands aliases
(six lines can become a gigabyte), recurses with the nesting, and forgets how a value was written.
"""

from __future__ import annotations

import codecs
import contextlib
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from platformops.errors import SpecError
from platformops.spec.echo import escaped, shown
from platformops.spec.plain_file import plain_file, size_bytes
from platformops.store.records import Json

MOST_BYTES = 1024 * 1024
MOST_DEPTH = 32
_MISREAD = re.compile(r"[-+]?0[0-9_]+|[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?")
"""Octal and base 60: `010` is 8 and `1:30` is 90, which nobody means."""
Place = tuple[str | int, ...]
"""Keys and list positions from the top of the file to a value."""


@dataclass(slots=True)
class Document:
    tree: Json = None
    written: dict[Place, str] = field(default_factory=dict)
    """How a plain scalar was written, where YAML reads something else than a person does (`no`, `1e3`)."""
    overridden: dict[Place, str] = field(default_factory=dict)
    """Place -> the `--set` that put a value there."""
    problems: dict[Place, str] = field(default_factory=dict)

    def add(self, place: Place, problem: str) -> None:
        self.problems.setdefault(place, problem)

    def add_all(self, problems: Iterable[tuple[Place, str]]) -> None:
        """One problem a place: the first stays."""
        for place, problem in problems:
            self.add(place, problem)


def read_text(path: Path) -> str:
    """The file as text; refuses what is not a regular file of at most 1 MiB of plain UTF-8, before reading it."""
    name = escaped(str(path))
    try:
        with plain_file(path) as file:
            if size_bytes(file) > MOST_BYTES:
                raise SpecError([f"{name}: has {size_bytes(file)} bytes; a spec has at most {MOST_BYTES}"])
            return _decoded(file.read(MOST_BYTES), name)
    except FileNotFoundError:
        raise SpecError([f"{name}: there is no such file"], remedy="`platformops init` writes one") from None
    except OSError as error:
        raise SpecError([f"{name}: cannot be read: {error.strerror}"], remedy="name a YAML file") from None


def _decoded(content: bytes, name: str) -> str:
    if content.startswith((codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise SpecError([f"{name}: starts with a byte order mark"], remedy="save it as UTF-8 without one")
    if b"\0" in content:
        raise SpecError([f"{name}: holds a NUL byte, so it is not UTF-8 text"], remedy="save it as UTF-8")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise SpecError([f"{name}: line {line} is not UTF-8"], remedy="save it as UTF-8") from None


def parse(text: str, name: str) -> Document:
    """`text` as a tree; raises SpecError where it is not YAML at all, else every problem is in `problems`."""
    if len(text) > MOST_BYTES:
        raise SpecError([f"{name}: has {len(text)} characters; at most {MOST_BYTES} are read"])
    loader = yaml.CSafeLoader(text)
    try:
        return _Fold(loader).document()
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        what = getattr(error, "problem", None) or str(error)
        raise SpecError([f"{name}: {where}{escaped(str(what))}"], remedy="correct the YAML") from None
    finally:
        loader.dispose()


class _TooDeep(Exception):
    pass


class _Fold:
    """Recursive over at most MOST_DEPTH levels; events of one document in, values out."""

    def __init__(self, loader: yaml.CSafeLoader) -> None:
        self._loader = loader
        self._out = Document()

    def document(self) -> Document:
        with contextlib.suppress(_TooDeep):
            self._fold_documents()
        return self._out

    def _fold_documents(self) -> None:
        self._next()  # the start of the stream
        if isinstance(self._next(), yaml.StreamEndEvent):
            return
        self._out.tree = self._value(self._next(), ())
        self._next()  # the end of the document
        if not isinstance(self._next(), yaml.StreamEndEvent):
            self._out.add((), "holds more than one document; keep one system in a file")

    def _next(self) -> yaml.Event | None:
        return self._loader.get_event()

    def _value(self, event: yaml.Event | None, place: Place) -> Json:
        if len(place) > MOST_DEPTH:
            self._out.add(place[:3], f"is nested deeper than {MOST_DEPTH} levels")
            raise _TooDeep
        if isinstance(event, yaml.AliasEvent):
            self._out.add(place, f"uses the alias *{escaped(str(event.anchor))}; write the value itself")
            return None
        assert isinstance(event, yaml.ScalarEvent | yaml.CollectionStartEvent)  # the parser sees to the grammar
        if event.anchor is not None:
            self._out.add(place, f"sets the anchor &{escaped(event.anchor)}; anchors are not read")
        if event.tag is not None:
            self._out.add(place, f"carries the tag {escaped(event.tag)[:80]}; tags are not read")
        if isinstance(event, yaml.ScalarEvent):
            return None if event.tag is not None else self._scalar(event, place)
        return self._mapping(place) if isinstance(event, yaml.MappingStartEvent) else self._sequence(place)

    def _sequence(self, place: Place) -> Json:
        values: list[Json] = []
        while not isinstance(event := self._next(), yaml.SequenceEndEvent):
            values.append(self._value(event, (*place, len(values))))
        return values

    def _mapping(self, place: Place) -> Json:
        values: dict[str, Json] = {}
        lines: dict[str, int] = {}
        while not isinstance(event := self._next(), yaml.MappingEndEvent):
            key, line = self._key(event, place), _line(event)
            value = self._value(self._next(), (*place, key))
            if key in values:
                self._out.add((*place, key), f"is written twice, in lines {lines[key]} and {line}")
            else:
                values[key], lines[key] = value, line
        return values

    def _key(self, event: yaml.Event | None, place: Place) -> str:
        if not isinstance(event, yaml.ScalarEvent):
            self._value(event, (*place, "?"))
            self._out.add((*place, "?"), "is a key made of several values; a key is a word")
            return "?"
        key = str(event.value)
        read = self._value(event, (*place, key))
        if not isinstance(read, str):
            self._out.add((*place, key), f"is a key that YAML reads as {shown(read)}; quote it")
        return key

    def _scalar(self, event: yaml.ScalarEvent, place: Place) -> Json:
        tag: str = self._loader.resolve(yaml.ScalarNode, event.value, event.implicit)  # type: ignore[no-untyped-call]
        kind = tag.rpartition(":")[2]
        if kind in ("str", "merge", "value"):
            if event.implicit[0] and _looks_like_a_number(event.value):
                self._out.written[place] = str(event.value)
            return str(event.value)
        if kind == "timestamp":
            self._out.add(place, f"is read as a date (got {shown(event.value)}); quote it to have text")
            return str(event.value)
        try:
            read: Json = self._loader.construct_object(yaml.ScalarNode(tag, event.value))
        except (ValueError, OverflowError):
            self._out.add(place, f"is not a number that can be read (got {shown(event.value)})")
            return None
        if _MISREAD.fullmatch(event.value):
            self._out.add(place, f"is read as {shown(read)} by YAML (got {event.value}); write that, or quote it")
        if read is not None and shown(read) != event.value:
            self._out.written[place] = str(event.value)
        return read


def _line(event: yaml.Event | None) -> int:
    mark = event.start_mark if event else None
    return mark.line + 1 if mark else 0


def _looks_like_a_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
