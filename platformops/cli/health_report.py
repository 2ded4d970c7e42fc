"""`platformops health report`: how well this platform's own nodes were judged, from what became of each judgement."""

from __future__ import annotations

import math
from statistics import median
from typing import TYPE_CHECKING

from platformops.store.records import Json, JsonObject

if TYPE_CHECKING:
    from platformops.store.records import Store


WIDTH, LEAST = 33, 0.0001
SCALE = "0.01 % (x expected, o seen) 100 %"


def report(store: Store) -> JsonObject:
    """Reliability by class of probability, calibration error, precision, recall, lead time and what was saved; None
    for what too few cases tell."""
    from platformops.health.calibration import EDGES, calibration_error
    from platformops.health.nodes import LEARNT, learnt_from

    entry = store.get(LEARNT)
    if entry is None:
        return {"reliability": [], "calibration_error": None, "deaths": 0, "remedies": 0}
    learnt = learnt_from(entry.value)
    edges = (0.0, *EDGES, 1.0)
    reliability: list[Json] = [
        {
            "from": low,
            "to": high,
            "cases": round(one.cases, 1),
            "expected": round(one.expected / one.cases, 5) if one.cases else None,
            "observed": round(one.observed / one.cases, 5) if one.cases else None,
        }
        for low, high, one in zip(edges, edges[1:], learnt.record.bins, strict=False)
    ]
    return {
        "reliability": reliability,
        "calibration_error": calibration_error(learnt.record),
        "deaths": learnt.deaths,
        "recall": learnt.foreseen / learnt.deaths if learnt.deaths else None,
        "remedies": learnt.remedies,
        "precision": learnt.right_remedies / learnt.remedies if learnt.remedies else None,
        "lead_s": median(learnt.lead_s) if learnt.lead_s else None,
        "saved_slot_s": round(learnt.saved_slot_s, 1),
    }


def print_report(document: JsonObject) -> None:
    from platformops.cli.nodes import rows
    from platformops.cli.output import next_step, print_table, say, seconds_text

    classes = [row for row in rows(document["reliability"]) if row["cases"]]
    if not classes and not document["deaths"] and not document["remedies"]:
        say("No judgement has come due yet: each is compared with what became of the node after one hour.")
        next_step("platformops health")
        return
    cells = [
        (
            f"{_percent(r['from'])} to {_percent(r['to'])}",
            str(r["cases"]),
            *map(_percent, (r["expected"], r["observed"])),
            _diagram(r["expected"], r["observed"]),
        )
        for r in classes
    ]
    print_table(("said to fail", "cases", "expected", "failed", SCALE), cells)
    lead = document["lead_s"]
    say()
    say(f"calibration error: {_percent(document['calibration_error'])} (acted upon up to 5 %)")
    say(f"deaths: {document['deaths']}, foreseen: {_percent(document['recall'])}")
    say(f"remedies that ended: {document['remedies']}, of nodes that died: {_percent(document['precision'])}")
    say(f"lead time: {seconds_text(lead) if isinstance(lead, int | float) else 'not known'}")
    say(f"saved: {document['saved_slot_s']} slot-seconds")
    next_step("platformops health")


def _diagram(expected: Json, observed: Json) -> str:
    """One line of a reliability diagram: x where failures were expected, o where they were, * where both are one."""
    line = ["."] * WIDTH
    for value, mark in ((expected, "x"), (observed, "o")):
        if isinstance(value, int | float):
            share = max(value, LEAST)
            at = min(WIDTH - 1, round((WIDTH - 1) * (1.0 - math.log(share) / math.log(LEAST))))
            line[at] = "*" if line[at] != "." else mark
    return "".join(line)


def _percent(value: Json) -> str:
    return f"{value:.2%}" if isinstance(value, int | float) else "not known"
