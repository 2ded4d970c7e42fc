"""A Serve application that keeps the gateway running, for people who deploy by `serve deploy`."""

from __future__ import annotations

import asyncio
from pathlib import Path

from pydantic import BaseModel, ConfigDict
from ray import serve

from platformops.home import home_at
from platformops.on_ray import gateway


class GatewayArguments(BaseModel):
    """`args` of the application in the config file."""

    model_config = ConfigDict(extra="forbid")

    home: Path
    host: str = "127.0.0.1"
    port: int = 8400
    store: str | None = None


class GatewayWatch:
    """Starts the gateway, a detached actor of its own, and starts it again should it be gone."""

    def __init__(self, settings: gateway.Settings) -> None:
        self._settings = settings
        self.address = gateway.start_gateway(settings)

    async def check_health(self) -> None:
        self.address = await asyncio.to_thread(gateway.start_gateway, self._settings)


def application(arguments: GatewayArguments) -> serve.Application:
    """The application that watches over the gateway at `host` and `port`."""
    home = home_at(arguments.home, store_url=arguments.store)
    watch = serve.deployment(num_replicas=1, ray_actor_options={"num_cpus": 0})(GatewayWatch)
    bound: serve.Application = watch.bind(gateway.Settings(home, arguments.host, arguments.port))
    return bound
