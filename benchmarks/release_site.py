"""A system of its own on a real Ray: store, gateway, controller, a small trained model, and steady requests to it."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.serving import cluster

if TYPE_CHECKING:
    import torch

    from platformops.apps.contract import ModelParams
    from platformops.cli.load import Load
    from platformops.delivery.records import Rollout
    from platformops.registry.records import ModelVersion
    from platformops.spec.types import PlatformSpec

SYSTEM = "digits"
CLASSES = tuple("0123456789")
LONGEST_S = 300.0
EPOCHS, WIDTH = 3, 12
"""A net that is fitted in seconds; what is measured is not the model."""
PARITY_ROWS = 64


def wanted(replicas: int = 1, **release: object) -> PlatformSpec:
    """Defaults, but for what is given; the longest answer that counts as one is that of a machine others use too."""
    from platformops.spec.types import PlatformSpec

    serve = {"threads": 1, "replicas": (replicas, replicas), "timeout_s": 8.0}
    return PlatformSpec.model_validate(
        {"system": SYSTEM, "gates": {"p99_ms": "<= 2000"}, "serve": serve, "release": release}
    )


@dataclass(frozen=True)
class Model:
    """A fitted and published net, and what it says of held-out rows."""

    fingerprint: str
    digest: str
    images: np.ndarray
    labels: np.ndarray
    probabilities: np.ndarray


class Site:
    """One system and the models that it may serve."""

    def __init__(self, root: Path) -> None:
        from platformops.clock import SystemClock
        from platformops.home import home_at
        from platformops.security.keys import new_key
        from platformops.store.artifacts import Artifacts
        from platformops.store.open import open_store

        self.home, self.clock = home_at(root / "home"), SystemClock()
        self.home.root.mkdir(parents=True, exist_ok=True)
        self.store = open_store(self.home.store_url)
        self.artifacts = Artifacts(self.home.artifacts_url, cache=self.home.cache)
        key = new_key(scopes=("operate",), systems=("*",), now=self.clock.now())
        self.store.commit([key.put])
        self.token = key.token
        self.address = ""
        self._model: Model | None = None

    def version(self, number: int) -> ModelVersion:
        """A registered version. All are one small CNN for scikit-learn's digits under numbers of their own: it is
        fitted and exported once, as that takes longer than a release."""
        from platformops.apps import classification
        from platformops.registry.records import Lineage
        from platformops.registry.registry import register

        if self._model is None:
            self._model = self._fitted()
        model, fingerprint = self._model, f"{number:063x}b"
        folder = self.artifacts.staging(fingerprint)
        metrics = classification.score(model.probabilities, model.labels, CLASSES)
        (folder / "metrics.json").write_text(json.dumps(metrics))
        ids = np.array([f"row{i}" for i in range(len(model.labels))])
        np.savez(folder / "predictions.npz", ids=ids, labels=model.labels, probabilities=model.probabilities)
        _write_rows(folder, ids, model)
        digest = self.artifacts.publish(fingerprint, folder)
        artifacts = {
            "train": {"fingerprint": model.fingerprint, "manifest_digest": model.digest},
            "evaluate": {"fingerprint": fingerprint, "manifest_digest": digest},
        }
        return register(
            self.store, model=SYSTEM, fingerprint=fingerprint, artifacts=artifacts, metrics={}, params={},
            lineage=Lineage({}, {}, "benchmark", "unknown", False), now=self.clock.now(),
        )  # fmt: skip

    def _fitted(self) -> Model:
        from sklearn.datasets import load_digits

        from platformops.apps.contract import ModelParams
        from platformops.frameworks.torch import load_predictor, save_model

        found = load_digits()
        images = (found.images * 15.9).astype(np.uint8)[..., np.newaxis]
        order = np.random.default_rng(0).permutation(len(images))
        rest, held_out = order[:1400], order[1400:]
        params = ModelParams("small_cnn", (8, 8, 1), CLASSES, (0.5,), (0.25,), {"width": WIDTH})
        net, fingerprint = _fitted(params, images[rest], found.target[rest]), "a" * 64
        folder = self.artifacts.staging(fingerprint)
        save_model(net, params, (), "image", folder, rows=images[:16])
        digest = self.artifacts.publish(fingerprint, folder)
        stored = self.artifacts.open(fingerprint, digest)
        probabilities = load_predictor(stored, runtime="auto", threads=1)(images[held_out])
        labels = found.target[held_out].astype(np.int64)
        return Model(fingerprint, digest, images[held_out], labels, probabilities)

    def release(self, version: ModelVersion, spec: PlatformSpec) -> Rollout:
        from platformops.delivery.systems import request_release
        from platformops.on_ray.controller import nudge_controller

        asked = request_release(self.store, spec, version, classes=CLASSES, now=self.clock.now())
        nudge_controller()
        return asked

    def ended(self, asked: Rollout, *, watch: Callable[[Rollout], None] = lambda rollout: None) -> Rollout:
        """The rollout once it has ended; `watch` sees it at every look. Raises SystemExit when it does not."""
        from platformops.delivery.rollout import is_running
        from platformops.delivery.systems import load_rollout

        rollout, until = asked, time.monotonic() + LONGEST_S
        while is_running(rollout):
            if time.monotonic() > until:
                raise SystemExit(f"{rollout.name} is still {rollout.state.value}: {rollout.reason}")
            time.sleep(0.1)
            rollout = load_rollout(self.store, SYSTEM, asked.number) or rollout
            watch(rollout)
        return rollout

    def load(self, *, rate_per_s: float, connections: int, patience_s: float) -> Load:
        from platformops.cli.load import Load, rows_of
        from platformops.delivery.systems import load_system

        system, _ = load_system(self.store, SYSTEM)
        assert system is not None, "a first release was made"
        assert system.stable is not None, "and promoted"
        rows = rows_of(system.stable, self.artifacts)
        url = f"{self.address}/{SYSTEM}"
        return Load(
            url, self.token, rows, self.clock, rate_per_s=rate_per_s, connections=connections, patience_s=patience_s
        )  # fmt: skip

    def broken_invariants(self) -> list[str]:
        """What must be so once nothing moves: one stable with all traffic, no orphan, a record of every decision."""
        from platformops.delivery.decisions import explain
        from platformops.delivery.reconcile import keep
        from platformops.delivery.rollout import is_running
        from platformops.delivery.systems import load_system, rollouts
        from platformops.on_ray.serving import revision_statuses

        system, _ = load_system(self.store, SYSTEM)
        assert system is not None, "a first release was made"
        assert system.stable is not None, "and promoted"
        assert system.route is not None, "and routed"
        problems = [f"{r.name} is running" for r in rollouts(self.store, SYSTEM) if is_running(r)]
        for rollout in rollouts(self.store, SYSTEM):
            told = explain(self.store, rollout.name, limit=1)
            if not told or told[0].reason != rollout.reason:
                problems.append(f"{rollout.name} has no record of its last decision")
        if dict(system.route.weights) != {system.stable.name: 100.0} or system.route.shadow:
            problems.append(f"the route is {dict(system.route.weights)}")
        orphans = set(revision_statuses()) - keep(system, rollouts(self.store, SYSTEM)[0], self.clock.now())
        return [*problems, *(f"{name} still runs" for name in sorted(orphans))]

    def settled(self, *, within_s: float = 60.0) -> list[str]:
        """The invariants that are still broken after `within_s`: what was replaced drains first."""
        until = time.monotonic() + within_s
        while (broken := self.broken_invariants()) and time.monotonic() < until:
            time.sleep(0.5)
        return broken


@contextlib.contextmanager
def site() -> Iterator[Site]:
    """A site on a Ray of its own, with a gateway and a controller; everything is stopped and removed afterwards."""
    root = Path(tempfile.mkdtemp(prefix="pr", dir="/tmp"))
    try:
        with cluster(root):
            from platformops.on_ray.controller import start_controller, stop_controller
            from platformops.on_ray.gateway import Settings, start_gateway, stop_gateway

            made = Site(root)
            made.address = start_gateway(Settings(made.home))
            start_controller(made.home)
            try:
                yield made
            finally:
                stop_controller()
                stop_gateway()
    finally:
        shutil.rmtree(root, ignore_errors=True)


def machine() -> dict[str, float | int | None]:
    """What a figure was measured on."""
    return {"load_1min": round(os.getloadavg()[0], 2), "cores": os.cpu_count()}


def _fitted(params: ModelParams, images: np.ndarray, labels: np.ndarray) -> torch.nn.Module:
    """Two seconds of plain torch; the platform's own training is measured elsewhere."""
    import torch

    from platformops.apps.load import load_app

    torch.manual_seed(0)
    torch.set_num_threads(1)
    model = load_app("image", Path(".")).build_model(params)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.003)
    inputs, targets = torch.from_numpy(images), torch.from_numpy(labels.astype(np.int64))
    for _ in range(EPOCHS):
        for batch in torch.split(torch.randperm(len(inputs)), 64):
            optimizer.zero_grad()
            loss = torch.nn.functional.cross_entropy(model(inputs[batch]), targets[batch])
            torch.autograd.backward(loss)
            optimizer.step()
    return model.eval()


def _write_rows(folder: Path, ids: np.ndarray, model: Model) -> None:
    """`parity.npz`, as the evaluation writes it."""
    import cv2

    from platformops.apps.splits import content_digest

    images = model.images[:PARITY_ROWS]
    contents = [cv2.imencode(".png", image)[1].tobytes() for image in images]
    np.savez(
        folder / "parity.npz",
        content=np.frombuffer(b"".join(contents), dtype=np.uint8),
        offsets=np.cumsum([0, *(len(c) for c in contents)]),
        labels=model.labels[:PARITY_ROWS],
        ids=ids[:PARITY_ROWS],
        probabilities=model.probabilities[:PARITY_ROWS],
        transformed=np.array([content_digest(image) for image in images]),
    )
