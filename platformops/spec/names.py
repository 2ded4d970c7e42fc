"""What may be called what: one rule for names that become keys, paths and parts of URLs."""

from __future__ import annotations

import re

from platformops.errors import UserError
from platformops.spec.echo import shown

NAME = r"^[a-z0-9][a-z0-9._-]{0,62}$"
METRIC = r"^[a-z][a-z0-9_.]{0,62}$"
NAME_RULE = "must be 1 to 63 of a-z 0-9 . _ - and start with a letter or digit"
METRIC_RULE = "must be 1 to 63 of a-z 0-9 _ . and start with a letter"


def checked_name(name: str, what: str) -> str:
    """`name` itself; raises UserError, naming `what` it was meant for, when it is none."""
    if not re.fullmatch(NAME.strip("^$"), name):
        raise UserError(f"{what}: {NAME_RULE} (got {shown(name)})")
    return name
