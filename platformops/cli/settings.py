"""What the environment says: where state is kept, and where data lies."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from platformops.errors import StoreUnavailable, UserError
from platformops.gateway.trace_context import Traces
from platformops.home import Home, home_at
from platformops.store.records import Store


def home() -> Home:
    """The home of PLATFORMOPS_HOME (else `~/.platformops`), PLATFORMOPS_STORE and PLATFORMOPS_ARTIFACTS."""
    written = os.environ.get("PLATFORMOPS_HOME", "")
    try:
        root = Path(written).expanduser() if written else Path.home() / ".platformops"
    except RuntimeError:
        raise UserError("this user has no home folder", remedy="set PLATFORMOPS_HOME to a folder of yours") from None
    if "\0" in written:
        raise UserError("PLATFORMOPS_HOME is not a path", remedy="set it to a folder of yours")
    return home_at(
        root.absolute(),
        store_url=os.environ.get("PLATFORMOPS_STORE") or None,
        artifacts_url=os.environ.get("PLATFORMOPS_ARTIFACTS") or None,
    )


def data_root() -> Path | None:
    """Where `data://` points (PLATFORMOPS_DATA), or None."""
    written = os.environ.get("PLATFORMOPS_DATA", "")
    return Path(written).expanduser().absolute() if written else None


def traces() -> Traces:
    """Where OTEL_EXPORTER_OTLP_ENDPOINT wants traces sent, of OTEL_TRACES_SAMPLER_ARG of the requests. Raises UserError
    for a ratio that is none, and where the extra that sends them is not installed."""
    endpoint, written = os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT", ""), os.environ.get("OTEL_TRACES_SAMPLER_ARG", "")
    if not endpoint:
        return Traces()
    try:
        ratio = float(written or 1.0)
    except ValueError:
        ratio = -1.0
    if not 0.0 <= ratio <= 1.0:
        raise UserError("OTEL_TRACES_SAMPLER_ARG is no share of requests", remedy="set it to a number from 0 to 1")
    try:
        found = find_spec("opentelemetry.exporter.otlp.proto.http")
    except ModuleNotFoundError:
        found = None
    if found is None:
        raise UserError("what sends traces is not installed", remedy="pip install 'platformops[traces]'")
    return Traces(endpoint, ratio)


@contextmanager
def opened_store(where: Home) -> Iterator[Store]:
    """The store of `where`, closed at the end; its folder is made, for this user only."""
    from platformops.store.open import open_store

    try:
        where.root.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StoreUnavailable(
            f"the folder {where.root} cannot be made: {error.strerror}", remedy="set PLATFORMOPS_HOME to one that can"
        ) from None
    store = open_store(where.store_url)
    try:
        yield store
    finally:
        store.close()
