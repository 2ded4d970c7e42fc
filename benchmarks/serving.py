"""Requests a second and latency of the whole request path, against FastAPI and Ray Serve's own proxy, interleaved.

    python benchmarks/serving.py [--short] [--width 32]

Ours runs with keys, limits, metrics and access log on. All three hold the same model in one process with one thread.
Ratios are medians of rounds in which each server is measured next to the others.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
CONNECTIONS = (1, 8, 64)
WIDTH = 24
"""0.16 million weights. A heavier model hides what the request path costs and bounds every ratio from above: with the
default width of 32 (0.29 million) one core makes about 1,300 predictions a second, whatever stands in front."""
TARGETS = {"ratio_to_fastapi": 0.8, "ratio_to_default_serve": 5.0, "p50_added_ms": 1.5}
Figures = dict[str, float]


@contextlib.contextmanager
def cluster(root: Path) -> Iterator[None]:
    """A token-authenticated Ray of this benchmark alone."""
    token = root / "token"
    token.touch(mode=0o600)
    token.write_text("7" * 64)
    os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}
    os.environ |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(FOLDER.parent)}
    for name in ("RAY_ADDRESS", "RAY_AUTH_TOKEN"):
        os.environ.pop(name, None)
    import ray

    from platformops.on_ray.priority import RAY_SETTINGS

    os.environ |= RAY_SETTINGS
    ray.init(
        num_cpus=2,
        include_dashboard=False,
        namespace="platformops",
        object_store_memory=150_000_000,
        log_to_driver=False,
        logging_level="ERROR",
        _temp_dir=str(root / "r"),
    )
    try:
        yield
    finally:
        from ray import serve

        serve.shutdown()
        ray.shutdown()


def publish(root: Path, width: int) -> tuple[object, str, str, Path]:
    """Home, fingerprint and digest of a small convolutional net for 32x32 images, and one such image as JPEG."""
    import cv2
    import numpy as np

    from platformops.apps.contract import ModelParams
    from platformops.apps.load import load_app
    from platformops.frameworks.torch import save_model
    from platformops.home import home_at
    from platformops.store.artifacts import Artifacts

    home = home_at(root / "home")
    artifacts = Artifacts(home.artifacts_url, cache=home.cache)
    staging = artifacts.staging("b" * 64)
    params = ModelParams("small_cnn", (32, 32, 3), tuple("0123456789"), (0.5,) * 3, (0.25,) * 3, {"width": width})
    rows = np.random.default_rng(0).integers(0, 255, (16, 32, 32, 3), dtype=np.uint8)
    saved = save_model(load_app("image", root).build_model(params).eval(), params, (), "image", staging, rows=rows)
    assert saved.onnx, saved.reason
    image = root / "image.jpg"
    smooth = cv2.resize(rows[0, :8, :8], (32, 32), interpolation=cv2.INTER_CUBIC)
    image.write_bytes(cv2.imencode(".jpg", smooth)[1].tobytes())
    return home, "b" * 64, artifacts.publish("b" * 64, staging), image


def start_ours(home: object, fingerprint: str, digest: str) -> tuple[int, str]:
    """Port and key."""
    from platformops.delivery.documents import system_json
    from platformops.delivery.records import Revision, Route, System
    from platformops.home import Home
    from platformops.on_ray import gateway, serving
    from platformops.security.keys import new_key
    from platformops.store.open import open_store
    from platformops.store.records import Put

    assert isinstance(home, Home)
    revision = Revision("bench", 1, 1, fingerprint, digest, 1, 1, {"threads": 1}, classes=tuple("0123456789"))
    route = Route("bench", {revision.name: 100.0}, 1)
    system = System("bench", revision, route, revision.options, revision.classes, "up")
    key = new_key(scopes=("predict",), systems=("bench",), now=0.0)
    open_store(home.store_url).commit([key.put, Put("system/bench", system_json(system), None)])
    serving.deploy_revision(revision, home)
    address = gateway.start_gateway(gateway.Settings(home))
    return int(address.rpartition(":")[2]), key.token


def measure(port: int, path: str, image: Path, connections: int, seconds: float, headers: list[str]) -> Figures:
    command = [sys.executable, str(FOLDER / "load_generator.py"), str(port), path, "--body", str(image)]
    command += ["--connections", str(connections), "--seconds", str(seconds)]
    for header in ["Content-Type: image/jpeg", *headers]:
        command += ["--header", header]
    done = subprocess.run(command, capture_output=True, check=True, text=True)
    figures: Figures = json.loads(done.stdout)
    return figures


def wait_until_served(port: int, path: str, image: Path, headers: list[str]) -> None:
    until = time.monotonic() + 60
    while time.monotonic() < until:
        with contextlib.suppress(subprocess.CalledProcessError):
            figures = measure(port, path, image, 1, 0.5, headers)
            if figures["requests"] and not figures["errors"]:
                return
        time.sleep(0.2)
    raise SystemExit(f"nothing answers 200 at {path} on port {port}")


def compare(servers: dict[str, tuple[int, str, list[str]]], image: Path, *, rounds: int, seconds: float) -> list[
    dict[str, dict[int, Figures]]
]:  # fmt: skip
    """Per round: server -> connections -> figures."""
    measured = []
    for _ in range(rounds):
        one: dict[str, dict[int, Figures]] = {name: {} for name in servers}
        for connections in CONNECTIONS:
            for name, (port, path, headers) in servers.items():
                one[name][connections] = measure(port, path, image, connections, seconds, headers)
        measured.append(one)
    return measured


def summary(measured: list[dict[str, dict[int, Figures]]]) -> dict[str, object]:
    def median(server: str, connections: int, figure: str) -> float:
        return statistics.median(r[server][connections][figure] for r in measured)

    def ratio(other: str) -> float:
        return statistics.median(r["platformops"][64]["rps"] / r[other][64]["rps"] for r in measured)

    added = statistics.median(r["platformops"][1]["p50_ms"] - r["fastapi"][1]["p50_ms"] for r in measured)
    figures: dict[str, object] = {
        figure: {str(c): round(median("platformops", c, figure), 2) for c in CONNECTIONS}
        for figure in ("rps", "p50_ms", "p99_ms")
    }
    figures["errors"] = sum(f["errors"] for r in measured for f in r["platformops"].values())
    figures["ratio_to_fastapi"] = round(ratio("fastapi"), 3)
    figures["ratio_to_default_serve"] = round(ratio("default_serve"), 2)
    figures["p50_added_ms"] = round(added, 3)
    return figures


def print_table(measured: list[dict[str, dict[int, Figures]]]) -> None:
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores; requests a second / p50 ms / p99 ms, medians")
    print(f"{'server':15}" + "".join(f"{c:>26} conn." for c in CONNECTIONS))
    for server in measured[0]:
        cells = []
        for c in CONNECTIONS:
            rps, p50, p99 = (statistics.median(r[server][c][f] for r in measured) for f in ("rps", "p50_ms", "p99_ms"))
            cells.append(f"{rps:>14,.0f} / {p50:5.2f} / {p99:6.2f}")
        print(f"{server:15}" + "".join(f"{cell:>32}" for cell in cells))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--width", type=int, default=WIDTH, help="of the network; the product's default is 32")
    asked = parser.parse_args()
    short = asked.short
    root = Path(tempfile.mkdtemp(prefix="pb", dir="/tmp"))
    with contextlib.ExitStack() as cleanup:
        cleanup.callback(shutil.rmtree, root, ignore_errors=True)
        cleanup.enter_context(cluster(root))
        sys.path.insert(0, str(FOLDER.parent))
        from benchmarks import serving_peers
        from platformops.home import Home
        from platformops.on_ray import gateway
        from platformops.on_ray.cluster import free_port

        home, fingerprint, digest, image = publish(root, asked.width)
        assert isinstance(home, Home)
        fastapi_port, serve_port = free_port(), free_port()
        arguments = [fingerprint, digest, home.artifacts_url, str(home.cache), str(fastapi_port)]
        peer = subprocess.Popen([sys.executable, str(FOLDER / "serving_peers.py"), *arguments])
        cleanup.callback(peer.wait)
        cleanup.callback(peer.kill)
        serving_peers.start_default_serve(home, fingerprint, digest, serve_port)
        our_port, key = start_ours(home, fingerprint, digest)
        cleanup.callback(gateway.stop_gateway)
        servers: dict[str, tuple[int, str, list[str]]] = {
            "fastapi": (fastapi_port, "/predict", []),
            "default_serve": (serve_port, "/predict", []),
            "platformops": (our_port, "/bench/predict", [f"Authorization: Bearer {key}"]),
        }
        for port, path, headers in servers.values():
            wait_until_served(port, path, image, headers)
        measured = compare(servers, image, rounds=3 if short else 5, seconds=1.5 if short else 5.0)
    print_table(measured)
    figures = summary(measured) | {"width": asked.width, "load_1min": round(os.getloadavg()[0], 2)}
    passed = (
        float(str(figures["ratio_to_fastapi"])) >= TARGETS["ratio_to_fastapi"]
        and float(str(figures["ratio_to_default_serve"])) >= TARGETS["ratio_to_default_serve"]
        and float(str(figures["p50_added_ms"])) <= TARGETS["p50_added_ms"]
        and not figures["errors"]
    )
    print(json.dumps({"name": "serving", "figures": figures, "targets": TARGETS, "passed": passed}))
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
