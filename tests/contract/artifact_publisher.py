"""A process that publishes one artifact and may be killed at any moment: run by the artifact tests."""

import os
import sys
from pathlib import Path

from platformops.store.artifacts import Artifacts

if __name__ == "__main__":
    _, url, cache, fingerprint, size = sys.argv
    artifacts = Artifacts(url, cache=Path(cache))
    staging = artifacts.staging(fingerprint)
    for i in range(int(size)):
        (staging / f"file-{i}").write_bytes(os.urandom(20_000))
    artifacts.exists(fingerprint)  # connects, so that what follows is the publishing alone
    print("ready", flush=True)
    print(artifacts.publish(fingerprint, staging), flush=True)
