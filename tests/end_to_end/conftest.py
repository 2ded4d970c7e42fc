"""One live system for all tests of this folder, started and stopped by the installed command."""

import json
from pathlib import Path

import pytest

from platformops.home import home_at
from platformops.keeper.process import keeper_of
from tests.end_to_end.platform_kit import DIGITS, Platform


@pytest.fixture(scope="package")
def live(tmp_path_factory):
    """The digits system, brought up by two commands at once that find no cluster."""
    platform = Platform(tmp_path_factory.mktemp("live"))
    try:
        both = [platform.start("up", DIGITS, "--port", "18423", "--json") for _ in range(2)]
        outputs = [process.communicate(timeout=540) for process in both]
        for process, (out, err) in zip(both, outputs, strict=True):
            assert process.returncode == 0, f"exit {process.returncode}\n{out[-2000:]}\n{err[-6000:]}"
        platform.first = [json.loads(out.splitlines()[-1]) for out, _ in outputs]
        platform.first_finished = platform.finished_steps()
        yield platform
    finally:
        platform.run("down")
        assert not platform.cluster_processes(), "`down` leaves nothing behind"
        assert keeper_of(home_at(platform.home)) is None


@pytest.fixture
def on_live_cluster(live, tmp_path):
    """Another home, in which nothing is cached, whose runs use the cluster of `live`."""
    token = Path(live.environment["HOME"]) / ".ray" / "auth_token"
    return Platform(tmp_path, RAY_ADDRESS=live.cluster_address(), RAY_AUTH_MODE="token", RAY_AUTH_TOKEN_PATH=str(token))
