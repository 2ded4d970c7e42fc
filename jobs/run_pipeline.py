"""Entry of `ray job submit --working-dir . -- python jobs/run_pipeline.py SPEC`: what `platformops up` does, as a job.

Further arguments are those of `up`, for example `--set train.epochs=3`.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from platformops.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["up", *sys.argv[1:], "--json"]))
