"""Real servers for the contract suites, started once a session and only when a test asks for them."""

import importlib.util
import logging
from pathlib import Path

import pytest


def _sibling(name):
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def postgres():
    servers = _sibling("postgres_server")
    reason = servers.why_not()
    if reason:
        pytest.skip(reason)
    server = servers.PostgresServer()
    yield server
    server.remove()


@pytest.fixture(scope="session")
def s3_endpoint():
    """The address of an S3 server on loopback."""
    moto_server = pytest.importorskip("moto.server", reason="moto[server,s3] is not installed")
    server = moto_server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # one line a request would bury what a failure says
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.real)])
def durable_url(request, tmp_path):
    """The URL of a store that nobody has opened yet, and that outlives the process."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/store.db"
    return request.getfixturevalue("postgres").database()
