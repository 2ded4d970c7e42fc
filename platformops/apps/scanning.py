"""Counts what looks like secrets and personal addresses in the texts of a dataset, and repeats none of it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping

PATTERNS: Mapping[str, re.Pattern[str]] = {
    "e-mail address": re.compile(
        r"[A-Za-z0-9._%+-]{1,64}@[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63})*\.[A-Za-z]{2,24}\b"
    ),
    "private key": re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----"),
    "cloud access key": re.compile(r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"),
    "source host token": re.compile(r"\b(?:gh[pousr]_[A-Za-z0-9]{36,}|glpat-[A-Za-z0-9_-]{20,})\b"),
    "web token": re.compile(r"\beyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}"),
    "platform key": re.compile(r"\bpo_[A-Za-z0-9_-]{40,}"),
}
PIECES: Mapping[str, tuple[str, ...]] = {
    "e-mail address": ("@",),
    "private key": ("-----BEGIN ",),
    "cloud access key": ("AKIA", "ASIA"),
    "source host token": ("ghp_", "gho_", "ghu_", "ghs_", "ghr_", "glpat-"),
    "web token": ("eyJ",),
    "platform key": ("po_",),
}
"""One of these is in each text that a pattern finds: the texts of an ordinary dataset hold none, and are done."""
LONGEST_TEXT = 4096
"""Characters of one text that are looked at: names and labels, not documents."""


def flagged(texts: Iterable[str]) -> Counter[str]:
    """Kind -> in how many of the texts it was found."""
    looked_at = [text[:LONGEST_TEXT] for text in texts]
    together = "\n".join(looked_at)
    found: Counter[str] = Counter()
    for kind, pattern in PATTERNS.items():
        if any(piece in together for piece in PIECES[kind]):
            found[kind] = sum(1 for text in looked_at if pattern.search(text))
    return +found
