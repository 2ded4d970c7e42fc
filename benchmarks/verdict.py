"""How a benchmark whose figures must not be above their targets tells them: a table, and as its last line JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping


def told(name: str, figures: Mapping[str, float], targets: Mapping[str, float]) -> int:
    """The exit code: 0 where no figure is above its target."""
    for figure, value in figures.items():
        print(f"{figure:<32}{value:>12,g}" + (f"   at most {targets[figure]:g}" if figure in targets else ""))
    passed = all(figures[figure] <= most for figure, most in targets.items())
    print(json.dumps({"name": name, "figures": figures, "targets": targets, "passed": passed}))
    return 0 if passed else 1
