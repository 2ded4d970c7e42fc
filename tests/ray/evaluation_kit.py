"""Evaluation artifacts as the evaluate step publishes them, and versions registered with them."""

import json

import numpy as np

from platformops.apps import classification
from platformops.apps.splits import content_digest
from platformops.frameworks.torch import load_predictor
from platformops.registry.records import Lineage
from platformops.registry.registry import register
from platformops.store.artifacts import Artifacts


def publish_evaluation(home, number, contents, probabilities, labels, classes, *, offline=None, ids=None, rows=None):
    """(fingerprint, digest) of an evaluation that found `probabilities`, and claims `offline` for its parity rows;
    `rows` are what these were before the model."""
    artifacts = Artifacts(home.artifacts_url, cache=home.cache)
    fingerprint = f"{number:064x}".replace("0", "e", 1)
    staging = artifacts.staging(fingerprint)
    ids = np.array(ids or [f"row{i}" for i in range(len(labels))])
    labels = np.asarray(labels, dtype=np.int64)
    metrics = classification.score(probabilities, labels, classes)
    (staging / "metrics.json").write_text(json.dumps(metrics))
    np.savez(staging / "predictions.npz", ids=ids, labels=labels, probabilities=probabilities)
    n = len(contents)
    np.savez(
        staging / "parity.npz",
        content=np.frombuffer(b"".join(contents), dtype=np.uint8),
        offsets=np.cumsum([0, *(len(c) for c in contents)]),
        labels=labels[:n],
        ids=ids[:n],
        probabilities=(probabilities if offline is None else offline)[:n],
        **({} if rows is None else {"transformed": np.array([content_digest(row) for row in rows])}),
    )
    return fingerprint, artifacts.publish(fingerprint, staging)


def register_version(store, revision, evaluation):
    return register(
        store,
        model="digits",
        fingerprint=evaluation[0],
        artifacts={
            "train": {"fingerprint": revision.artifact, "manifest_digest": revision.manifest_digest},
            "evaluate": {"fingerprint": evaluation[0], "manifest_digest": evaluation[1]},
        },
        metrics={},
        params={},
        lineage=Lineage({}, {}, "run", "unknown", False),
        now=0.0,
    )


def predicted(home, revision, images):
    """What the published model says offline of uint8 images (rows, height, width, channels)."""
    directory = Artifacts(home.artifacts_url, cache=home.cache).open(revision.artifact, revision.manifest_digest)
    return load_predictor(directory, runtime="auto", threads=1)(images)
