"""A small real model, published as the train step publishes one, and a home with its store around it."""

import time

import cv2
import numpy as np
import torch

from platformops.apps.contract import ModelParams
from platformops.apps.load import load_app
from platformops.delivery.documents import system_json
from platformops.delivery.records import Revision, Route, System
from platformops.frameworks.torch import save_model
from platformops.home import home_at
from platformops.security.keys import new_key
from platformops.store.artifacts import Artifacts
from platformops.store.open import open_store

CLASSES = tuple("0123456789")
SERVE = {"timeout_s": 8.0, "batch": 32, "max_queue": 256}


def png(seed=0, side=8):
    pixels = np.random.default_rng(seed).integers(0, 255, (side, side, 1), dtype=np.uint8)
    return cv2.imencode(".png", pixels)[1].tobytes()


def publish_model(home, *, number=1, app_file=None):
    """A revision of an untrained small CNN; `app_file` is the text of the user's own app."""
    fingerprint = f"{number:064x}"
    artifacts = Artifacts(home.artifacts_url, cache=home.cache)
    staging = artifacts.staging(fingerprint)
    app = load_app("image", home.root)
    params = ModelParams("small_cnn", (8, 8, 1), CLASSES, (0.5,), (0.25,))
    torch.manual_seed(number)
    rows = np.random.default_rng(0).integers(0, 255, (16, 8, 8, 1), dtype=np.uint8)
    save_model(app.build_model(params).eval(), params, (), "image", staging, rows=rows)
    if app_file is not None:
        (staging / "app.py").write_text(app_file)
    digest = artifacts.publish(fingerprint, staging)
    return Revision("digits", number, number, fingerprint, digest, 1, 1, SERVE, model="digits", classes=CLASSES)


def await_true(condition, timeout_s=240.0):
    """What `condition` answered once it was true of the other processes."""
    until = time.monotonic() + timeout_s
    while not (value := condition()):
        assert time.monotonic() < until, "waited too long"
        time.sleep(0.05)
    return value


def remove_revisions():
    """Nothing is left in Serve: the next module of tests may use the same names for other models."""
    from ray import serve

    from platformops.on_ray import serving

    for name in serving.revision_statuses():
        serving.remove_revision(name)
    await_true(lambda: not serve.status().applications)


class Place:
    """A home with a store, one operator's key, and a system that can be routed."""

    def __init__(self, root):
        self.home = home_at(root)
        self.home.root.mkdir(parents=True, exist_ok=True)
        self.store = open_store(self.home.store_url)
        key = new_key(scopes=("operate",), systems=("*",), now=0.0)
        self.key = key.put.key
        self.headers = {"authorization": f"Bearer {key.token}", "content-type": "image/png"}
        self.store.commit([key.put])

    def route(self, stable, weights, token):
        system = System("digits", stable, Route("digits", weights, token), SERVE, CLASSES, "up")
        self.store.put("system/digits", system_json(system), expect=None)
        return system.route
