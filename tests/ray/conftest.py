"""One real, token-authenticated Ray cluster for all tests of this folder, and nothing of the user's."""

import contextlib
import os
import shutil
import tempfile
import warnings
from pathlib import Path

import psutil
import pytest

from tests.faults.processes import command_of


@pytest.fixture(scope="session")
def ray_cluster():
    """Ray runs in this session with two logical CPUs; yields the address.

    Its temp dir is short (unix socket paths are limited) and its token its own.
    """
    root = Path(tempfile.mkdtemp(prefix="po", dir="/tmp"))
    token = root / "token"
    token.write_text("7" * 64)
    token.chmod(0o600)
    environment = {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
        "RAY_TRAIN_V2_ENABLED": "1",
        "RAY_DISABLE_IMPORT_WARNING": "1",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
        "OMP_NUM_THREADS": "1",
    }
    removed = ("RAY_ADDRESS", "RAY_AUTH_TOKEN")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        for name in removed:
            patch.delenv(name, raising=False)
        import ray
        from ray._raylet import AuthenticationTokenLoader, Config

        # Ray reads them once, when it is first imported, which a test before this one may have done.
        Config.initialize("")
        AuthenticationTokenLoader.instance().reset_cache()
        started = ray.init(
            num_cpus=2,
            include_dashboard=False,
            namespace="platformops",
            object_store_memory=150_000_000,
            log_to_driver=False,
            logging_level="ERROR",
            _temp_dir=str(root / "r"),
        )
        address = started.address_info["address"]
        patch.setenv("RAY_ADDRESS", address)
        try:
            yield address
        finally:
            _stop(root)


def _stop(root):
    import ray

    with contextlib.suppress(Exception), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from ray import serve

        serve.shutdown()
    ray.shutdown()
    left = [p for p in psutil.Process(os.getpid()).children(recursive=True) if str(root) in command_of(p)]
    for process in left:
        process.kill()
    psutil.wait_procs(left, timeout=5)
    shutil.rmtree(root, ignore_errors=True)
