"""Sends a burst of equal requests to a live system and gathers the answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from platformops.errors import ClusterError, UserError

if TYPE_CHECKING:
    import httpx

    from platformops.cli.planning import Planned
    from platformops.clock import Clock
    from platformops.delivery.ci.smoke import Answer
    from platformops.home import Home
    from platformops.registry.records import ModelVersion
    from platformops.spec.types import PlatformSpec
    from platformops.store.records import Store

AT_ONCE = 2
"""Requests under way: enough that one of them waits, few enough that a small machine keeps its objective."""


def version_made(made: Planned, store: Store) -> ModelVersion:
    """What the spec as it is now was registered as. Raises UserError when it never was."""
    from platformops.cli.running import EVALUATE
    from platformops.registry.registry import find_by_fingerprint

    prints = {step.stage.name: step.fingerprint for step in made.plan.steps}
    known = find_by_fingerprint(store, prints[EVALUATE], model=made.spec.system) if EVALUATE in prints else None
    if known is None:
        raise UserError(
            f"{made.spec.system}: what the spec makes now was never released", remedy="platformops release SPEC"
        )
    return known


def answers(
    spec: PlatformSpec, version: ModelVersion, store: Store, where: Home, clock: Clock, requests: int
) -> Sequence[Answer]:
    """What came of each request, in order. Raises ClusterError where no gateway is known."""
    import httpx

    from platformops.cli.access import key_file
    from platformops.cli.endpoint import endpoint_of
    from platformops.security.key_file import read_key_file

    url, key = endpoint_of(store, spec.system), read_key_file(key_file(spec.system, where))
    if url is None or key is None:
        raise ClusterError(f"no gateway serves {spec.system} here", remedy="platformops release SPEC")
    sample = _sample(version, where)
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/octet-stream"}
    # Proxy settings of the environment would carry the key off this machine.
    with (
        httpx.Client(timeout=spec.serve.timeout_s + 5, headers=headers, trust_env=False) as client,
        ThreadPoolExecutor(AT_ONCE) as pool,
    ):
        return list(pool.map(lambda _: _answer(client, url, sample, clock), range(requests)))


def _answer(client: httpx.Client, url: str, sample: bytes, clock: Clock) -> Answer:
    import httpx

    from platformops.delivery.ci.smoke import Answer

    began = clock.monotonic()
    try:
        reply = client.post(url, content=sample)
        document = reply.json() if reply.status_code == 200 else {}
    except (httpx.HTTPError, ValueError):
        return Answer(0, clock.monotonic() - began)
    return Answer(reply.status_code, clock.monotonic() - began, str(document.get("model_version", "")))


def _sample(version: ModelVersion, where: Home) -> bytes:
    from platformops.store.artifacts import Artifacts

    place = version.artifacts.get("evaluate")
    assert isinstance(place, Mapping), "registered from its evaluation"
    artifacts = Artifacts(where.artifacts_url, cache=where.cache)
    folder = artifacts.open(str(place["fingerprint"]), str(place["manifest_digest"]))
    for path in sorted(folder.glob("sample.*")):
        return path.read_bytes()
    raise UserError(f"{version.name} has no sample to send", remedy="platformops run SPEC")
