"""A closed-loop HTTP load generator for when `wrk` is not there: N connections, one request at a time on each.

    python benchmarks/load_generator.py PORT PATH --connections 64 --seconds 3 --body image.jpg --header "A: b"

Prints one JSON object: requests, errors (not 200), rps, p50_ms, p99_ms, mean_ms.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import uvloop

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from platformops.cli.closed_loop import request_bytes, run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("path")
    parser.add_argument("--connections", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--body", type=Path, required=True)
    parser.add_argument("--header", action="append", default=[])
    asked = parser.parse_args()
    request = request_bytes(asked.path, asked.body.read_bytes(), asked.header)
    print(json.dumps(uvloop.run(run(asked.port, request, connections=asked.connections, seconds=asked.seconds))))


if __name__ == "__main__":
    main()
