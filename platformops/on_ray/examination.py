"""Gathers evidence on a candidate: its figures beside the champion's, and what its real endpoint answers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle, islice, pairwise
from pathlib import Path

import httpx
import numpy as np
from numpy.typing import NDArray

from platformops.apps.classification import Predictions, Spread, differences, figures
from platformops.clock import Clock
from platformops.delivery import gate, parity
from platformops.delivery.records import Bound, Evaluation, ParityReport, Replay, Revision, Rollout
from platformops.delivery.sequential import upper_bound
from platformops.errors import PlatformError
from platformops.store.artifacts import Artifacts

REQUESTS = 300
"""Timed requests: the largest of 299 or more is a bound of the 99th percentile at 95 %."""
FEWEST_COMMON_ROWS = 30
"""With fewer, almost any share of other answers could be expected."""
DISAGREEMENT_ALPHA = 0.05
REPLAY_S = 20.0
"""The replay ends after every row was asked once and this much time, even with fewer requests."""
WARM_UP = 5
PATIENCE_S = 10.0
"""How long one request may meet a busy or restarting gateway before it counts as not answered."""
RETRY_S = 0.25
BUSY = frozenset({429, 503})


class NotAnswered(PlatformError):
    """The endpoint gave no usable answer to a request."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Held-out rows as clients send them, with the offline answers (rows, classes)."""

    ids: Sequence[str]
    contents: Sequence[bytes]
    probabilities: NDArray[np.float32]
    classes: Sequence[str]
    digests: Sequence[str] = ()
    """Of what each was made in training, before the model; empty where the evaluation kept none."""


def evaluate(rollout: Rollout, artifacts: Artifacts) -> Evaluation:
    """What the evaluation artifacts say; one that cannot be read or compared is the `problem`."""
    try:
        return _evaluate(rollout, artifacts)
    except (PlatformError, OSError, ValueError, KeyError) as error:
        return Evaluation({}, problem=f"the evaluation of {rollout.candidate.version_name} cannot be used: {error}")


def _evaluate(rollout: Rollout, artifacts: Artifacts) -> Evaluation:
    own = _directory(rollout.candidate, artifacts)
    metrics = _flat(_metrics(own))
    if rollout.stable is None:
        return Evaluation(metrics, bounds=_bounds(rollout.conditions, own, None), classes=_classes(own))
    other = _directory(rollout.stable, artifacts)
    return Evaluation(
        metrics,
        rollout.stable.version_name,
        _flat(_metrics(other)),
        _bounds(rollout.conditions, own, other),
        classes=_classes(own),
        champion_classes=_classes(other),
        disagreement=_disagreement(_predictions(own), _predictions(other)),
    )


def _disagreement(own: Predictions, other: Predictions) -> float | None:
    """Upper bound of the share of inputs that get another label; None where the two have too few rows in common."""
    ids, mine, theirs = np.intersect1d(own.ids, other.ids, return_indices=True)
    if len(ids) < FEWEST_COMMON_ROWS:
        return None
    labels = [np.array(p.classes)[p.probabilities.argmax(axis=1)] for p in (own, other)]
    differing = int((labels[0][mine] != labels[1][theirs]).sum())
    return upper_bound(differing, len(ids), DISAGREEMENT_ALPHA)


def _directory(revision: Revision, artifacts: Artifacts) -> Path:
    return artifacts.open(revision.evaluation, revision.evaluation_digest)


def _metrics(directory: Path) -> Mapping[str, object]:
    found: Mapping[str, object] = json.loads((directory / "metrics.json").read_text(encoding="utf-8"))
    return found


def _flat(metrics: Mapping[str, object]) -> dict[str, float]:
    return {k: float(v) for k, v in metrics.items() if isinstance(v, int | float) and not isinstance(v, bool)}


def _predictions(directory: Path) -> Predictions:
    with np.load(directory / "predictions.npz", allow_pickle=False) as found:
        return Predictions(found["ids"], found["labels"], found["probabilities"], _classes(directory))


def _classes(directory: Path) -> tuple[str, ...]:
    classes = _metrics(directory).get("classes")
    return tuple(str(c) for c in classes) if isinstance(classes, list) else ()


def _bounds(gates: Mapping[str, str], own: Path, other: Path | None) -> Mapping[str, Bound]:
    """The bounds that the gates want; drawn with a fixed seed, so that the same evidence says the same twice."""
    wanted = gate.wanted_bounds(gates)
    if not wanted or (other is None and all(w.is_relative for w in wanted)):
        return {}
    mine = _predictions(own)
    spreads = figures(mine, generator=np.random.default_rng(0))
    champion = _predictions(other) if other else None
    against = differences(mine, champion, generator=np.random.default_rng(0)) if champion else {}
    bounds = {w.gate: _bound(w, spreads, against, len(mine.ids)) for w in wanted}
    return {name: bound for name, bound in bounds.items() if bound}


def _bound(
    wanted: gate.WantedBound, own: Mapping[str, Spread], against: Mapping[str, Spread], rows: int
) -> Bound | None:
    spread = (against if wanted.is_relative else own).get(wanted.metric)
    if spread is None:
        return None
    figure, bound = own[wanted.metric].value, spread.bound(wanted.side, wanted.confidence)
    return Bound(figure, figure - spread.value if wanted.is_relative else None, bound, rows, spread.paired)


def replay(rollout: Rollout, artifacts: Artifacts, client: httpx.Client, clock: Clock) -> Replay:
    """What the candidate's endpoint does with the held-out rows: each once for parity, then again for latency.

    `client` has the gateway's address and a key that may choose a revision. What goes wrong is the `problem`.
    """
    try:
        rows = rows_of(rollout.candidate, artifacts)
    except (PlatformError, OSError, ValueError, KeyError) as error:
        return Replay(0, 0, (), None, f"the rows to replay cannot be read: {error}")
    answers: list[parity.Answer] = []
    latencies_ms: list[float] = []
    started = clock.monotonic()
    for number, content in enumerate(islice(cycle(rows.contents), WARM_UP + max(REQUESTS, len(rows.ids)))):
        if number >= len(rows.ids) and clock.monotonic() - started > REPLAY_S:
            break
        try:
            response, latency_ms = ask(rollout.candidate, content, client, clock)
            answer = _answer(rollout.candidate, response)
        except NotAnswered as error:
            return Replay(number + 1, number, tuple(sorted(latencies_ms)), _parity(rows, answers), error.message)
        answers.append(answer)
        latencies_ms.append(latency_ms)
    timed = latencies_ms[WARM_UP:] or latencies_ms
    return Replay(len(answers), len(answers), tuple(sorted(timed)), _parity(rows, answers))


def rows_of(revision: Revision, artifacts: Artifacts) -> Rows:
    """The rows that a revision's evaluation kept for its replay."""
    directory = _directory(revision, artifacts)
    classes = _predictions(directory).classes
    with np.load(directory / "parity.npz", allow_pickle=False) as found:
        content, offsets = found["content"].tobytes(), found["offsets"].tolist()
        contents = [content[a:b] for a, b in pairwise(offsets)]
        digests = [str(d) for d in found["transformed"]] if "transformed" in found.files else []
        return Rows([str(i) for i in found["ids"]], contents, found["probabilities"], classes, digests)


def _parity(rows: Rows, answers: Sequence[parity.Answer]) -> ParityReport:
    """Of the first answer to each row."""
    n = min(len(rows.ids), len(answers))
    return parity.compare(rows.ids[:n], rows.classes, rows.probabilities[:n], answers[:n])


def ask(revision: Revision, content: bytes, client: httpx.Client, clock: Clock) -> tuple[httpx.Response, float]:
    """The reply and its milliseconds; asks again while the gateway is busy or away, for PATIENCE_S.

    Raises NotAnswered.
    """
    headers = {"X-PlatformOps-Revision": revision.name, "Content-Type": "application/octet-stream"}
    first, problem = clock.monotonic(), ""
    while clock.monotonic() - first <= PATIENCE_S:
        sent = clock.monotonic()
        try:
            response = client.post(f"/{revision.system}/predict", content=content, headers=headers)
        except httpx.TransportError as error:
            problem = f"{type(error).__name__}: {error}"
        else:
            if response.status_code == httpx.codes.OK:
                return response, 1000 * (clock.monotonic() - sent)
            problem = f"HTTP {response.status_code}: {response.text[:200]}"
            if response.status_code not in BUSY:
                break
        clock.sleep(RETRY_S)
    raise NotAnswered(problem)


def _answer(candidate: Revision, response: httpx.Response) -> parity.Answer:
    try:
        document = response.json()
        (prediction,) = document["predictions"]
        said = document["revision"], document["model_version"]
        answer = parity.Answer(str(prediction["label"]), {k: float(v) for k, v in prediction["probabilities"].items()})
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise NotAnswered(f"the answer has another shape than a prediction: {response.text[:200]}") from error
    if said != (candidate.name, candidate.version_name):
        raise NotAnswered(f"{' '.join(map(str, said))} answered in place of {candidate.name}")
    return answer
