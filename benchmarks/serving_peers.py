"""The two peers that serving is compared with, holding the same model and the same functions around it.

`fastapi`: a uvicorn process of its own, no keys, no limits, no metrics. `default_serve`: Ray Serve behind its proxy.
"""

from __future__ import annotations

import sys
from pathlib import Path

from fastapi import FastAPI, Request, Response
from ray import serve

from platformops.delivery.records import Revision
from platformops.gateway.served import limits_of
from platformops.home import Home
from platformops.on_ray import replica
from platformops.store.artifacts import Artifacts


def loaded(fingerprint: str, digest: str, artifacts_url: str, cache: str) -> replica.Served:
    revision = Revision("bench", 1, 1, fingerprint, digest, 1, 1)
    return replica.load(revision, limits_of({}), Artifacts(artifacts_url, cache=Path(cache)), threads=1)


def fastapi_app(served: replica.Served) -> FastAPI:
    app = FastAPI()

    @app.post("/predict")
    async def predict(request: Request) -> Response:
        answer = replica.answer(served, [await request.body()])[0]
        return Response(b'{"predictions": [' + answer.json + b"]}", media_type="application/json")

    return app


class DefaultServe:
    def __init__(self, fingerprint: str, digest: str, artifacts_url: str, cache: str) -> None:
        self._served = loaded(fingerprint, digest, artifacts_url, cache)

    async def __call__(self, request: Request) -> Response:
        answer = replica.answer(self._served, [await request.body()])[0]
        return Response(b'{"predictions": [' + answer.json + b"]}", media_type="application/json")


def start_default_serve(home: Home, fingerprint: str, digest: str, port: int) -> None:
    """Ray Serve as its documentation starts it; answers `POST /predict` on `port`."""
    serve.start(proxy_location="HeadOnly", http_options={"host": "127.0.0.1", "port": port})
    options = {"ray_actor_options": {"num_cpus": 0.1}, "max_ongoing_requests": 100}
    deployment = serve.deployment(**options)(DefaultServe)
    serve.run(
        deployment.bind(fingerprint, digest, home.artifacts_url, str(home.cache)), name="peer", route_prefix="/predict"
    )


def main() -> None:
    import uvicorn

    fingerprint, digest, artifacts_url, cache, port = sys.argv[1:]
    app = fastapi_app(loaded(fingerprint, digest, artifacts_url, cache))
    uvicorn.run(app, host="127.0.0.1", port=int(port), log_level="critical", access_log=False)


if __name__ == "__main__":
    main()
