"""A Serve application of one revision, for people who deploy by `serve deploy` instead of `platformops up`."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict
from ray import serve

from platformops.delivery.systems import load_system
from platformops.errors import UserError
from platformops.home import home_at
from platformops.on_ray import serving
from platformops.store.open import open_store


class ModelArguments(BaseModel):
    """`args` of the application in the config file."""

    model_config = ConfigDict(extra="forbid")

    home: Path
    """Folder of the platform: its store, and its artifacts unless `artifacts` says otherwise."""
    system: str
    """Its stable revision is served; name the application after it, `<system>-r<number>`."""
    store: str | None = None
    artifacts: str | None = None


def application(arguments: ModelArguments) -> serve.Application:
    """The application of the stable revision of `system`. Raises UserError when nothing is stable."""
    home = home_at(arguments.home, store_url=arguments.store, artifacts_url=arguments.artifacts)
    system, _ = load_system(open_store(home.store_url), arguments.system)
    if system is None or system.stable is None:
        raise UserError(f"{arguments.system} has no stable revision", remedy="run `platformops up` on its file first")
    return serving.application(system.stable, home)
