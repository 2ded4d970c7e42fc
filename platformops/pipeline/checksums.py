"""Reads from torchvision's source, without importing it, the checksums it demands of each data set's files."""

from __future__ import annotations

import ast
import re
from pathlib import Path

MD5 = re.compile(r"^[0-9a-f]{32}$")


def checksums_by_class(folder: Path) -> dict[str, list[str]]:
    """Class name -> sorted MD5 sums written in its body; without any, those of the class it extends in that file."""
    found: dict[str, list[str]] = {}
    for path in sorted(folder.glob("*.py")):
        classes = [n for n in ast.parse(path.read_bytes()).body if isinstance(n, ast.ClassDef)]
        own = {c.name: _sums(c) for c in classes}
        for node in classes:
            bases = [b.id for b in node.bases if isinstance(b, ast.Name)]
            sums = own[node.name] or [s for b in bases for s in own.get(b, [])]
            if sums:
                found[node.name] = sums
    return found


def _sums(node: ast.ClassDef) -> list[str]:
    texts = {n.value for n in ast.walk(node) if isinstance(n, ast.Constant) and isinstance(n.value, str)}
    return sorted(t for t in texts if MD5.match(t))
