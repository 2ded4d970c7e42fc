"""The front door as an ASGI application: host, key, route, then the handler; whatever happens, one JSON reply."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, replace

from platformops.clock import Clock
from platformops.gateway import feedback, openapi, probes, routes
from platformops.gateway.call import Call, Ready, Width
from platformops.gateway.evidence import Book
from platformops.gateway.exchange import Exchange, Observer
from platformops.gateway.heads import Headers, has_body, header
from platformops.gateway.inputs import Inputs
from platformops.gateway.metrics import OPEN_METRICS, TEXT, GatewayMetrics
from platformops.gateway.predicting import Predicting
from platformops.gateway.replies import Refused, Reply, refusal
from platformops.gateway.request import HEAD, Asked, Head, Receive, Scope, Send, exchange_of, send_reply
from platformops.gateway.samples import Sample, Samples, counts_of
from platformops.gateway.served import Served, World, described
from platformops.gateway.trace_context import Trail
from platformops.security.keys import Identity
from platformops.store.memory import MemoryStore
from platformops.store.records import Store

LOOPBACK = ("127.", "::1")
UNAUTHORISED = {b"www-authenticate": b"Bearer"}
Handler = Callable[[Asked], Awaitable[Reply]]


@dataclass(frozen=True, slots=True)
class Policy:
    """What holds for the whole gateway; limits of one system come with the system."""

    hosts: frozenset[bytes] = frozenset()
    """Host names that are answered, in lower case; empty answers any."""
    open_metrics: bool = False
    """Let loopback clients scrape `/metrics` without a key. Behind a proxy on this machine everybody is loopback."""
    max_buffered_bytes: int = 256 * 1024 * 1024
    """Of all request bodies together that are in memory."""


class Gateway:
    """An ASGI application. `world` may be replaced at any time; a request sees one world or the next, never a mix."""

    def __init__(
        self,
        *,
        call: Call,
        width: Width,
        ready: Ready,
        clock: Clock,
        new_id: Callable[[], str],
        policy: Policy,
        observers: Iterable[Observer] = (),
        store: Store | None = None,
        inputs: Inputs | None = None,
        is_traced: Callable[[Exchange], bool] | None = None,
    ) -> None:
        """Predictions of which the truth may come back are kept in `store`; in memory without one. What was asked is
        kept in `inputs`. Of requests that `is_traced` picks, calls are noted for the observers."""
        self.world = World()
        self.is_draining = False
        """Set before the server stops, so that whoever spreads traffic sends no more."""
        self.metrics = GatewayMetrics()
        self.book = Book(new_id(), clock.monotonic)
        self.samples = Samples(store or MemoryStore(), clock.now, self._on_truth, inputs=inputs)
        self._predicting = Predicting(
            call=call,
            width=width,
            max_buffered_bytes=policy.max_buffered_bytes,
            book=self.book,
            samples=self.samples,
        )
        self._ready = ready
        self._clock = clock
        self._new_id = new_id
        self._policy, self._is_traced = policy, is_traced
        self._observers: tuple[Observer, ...] = (self.metrics.answered, *observers)
        self._handlers: dict[str, Handler] = {
            "healthz": self._healthz,
            "startupz": self._startupz,
            "readyz": self._readyz,
            "openapi": self._openapi,
            "docs": self._docs,
            "metrics": self._metrics,
            "ready": self._system_ready,
            "info": self._info,
            "predict": self._predict,
            "feedback": self._feedback,
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise NotImplementedError(f"the gateway speaks HTTP, not {scope['type']}")
        head: Head = (scope.get("extensions") or {}).get(HEAD) or self._judge(scope)
        reply = head.reply or await self._reply(head, scope, receive)
        await send_reply(send, reply, head.exchange, scope["headers"])
        self._observe(head.exchange, reply)

    def shed(self, scope: Scope) -> tuple[Reply, str] | None:
        """The refusal, and its request id, of a request that is refused on its head alone; None lets it in.

        For our own server, which asks before it makes a task of a request: under a flood most of them end here. A
        request without a body is always let in, since its connection can go on after the refusal.
        """
        head = self._judge(scope)
        if head.reply is None or not has_body(scope["headers"]):
            scope["extensions"][HEAD] = head
            return None
        self._observe(head.exchange, head.reply)
        return head.reply, head.exchange.request_id

    def _observe(self, exchange: Exchange, reply: Reply) -> None:
        exchange.status, exchange.code = reply.status, reply.code
        exchange.seconds = asyncio.get_running_loop().time() - exchange.started
        for observe in self._observers:
            observe(exchange)

    def _judge(self, scope: Scope) -> Head:
        """Everything that needs no byte of the body: host, key, route, system, and for a prediction its place."""
        started = asyncio.get_running_loop().time()
        exchange = exchange_of(scope, self._new_id(), self._clock.now(), started)
        if self._is_traced is not None and self._is_traced(exchange):
            exchange.trail = Trail(exchange.request_id, exchange.trace_id)
        try:
            return self._admit(scope, exchange)
        except Refused as refused:
            return Head(exchange, reply=refusal(refused, exchange.request_id))
        except Exception as error:
            return Head(exchange, reply=_fault(error, exchange))

    def _admit(self, scope: Scope, exchange: Exchange) -> Head:
        headers: Headers = scope["headers"]
        routes.check_host(headers, self._policy.hosts)
        match = routes.match(scope.get("raw_path") or scope["path"].encode("utf-8"))
        identity = self._identity(scope, match, exchange)
        if match is None:
            raise Refused(404, "not_found", "there is no such route")
        routes.check_method(match.route, scope["method"])
        served = self._served(match.system, exchange) if match.system is not None else None
        head = Head(exchange, match.route.handler, identity, served)
        if match.route.handler != "predict":
            return head
        return replace(head, place=self._predicting.enter(head, headers, self.world))

    async def _reply(self, head: Head, scope: Scope, receive: Receive) -> Reply:
        asked = Asked(scope, receive, head)
        try:
            return await self._handlers[head.handler](asked)
        except Refused as refused:
            return refusal(refused, head.exchange.request_id)
        except Exception as error:
            return _fault(error, head.exchange)

    def _identity(self, scope: Scope, match: routes.Match | None, exchange: Exchange) -> Identity | None:
        """Who asks. Without a valid key every path that is not open gets the same refusal, whether it exists or not."""
        if match is not None and (match.route.scope is routes.OPEN or self._is_open_scrape(match, scope)):
            return None
        key = routes.bearer(scope["headers"])
        identity = self.world.keys.check(key, now=self._clock.now()) if key is not None else None
        if identity is None:
            raise Refused(401, "unauthorized", "send Authorization: Bearer KEY with a valid key", headers=UNAUTHORISED)
        exchange.key_id = identity.key_id
        if match is not None and not identity.may(match.route.scope or "admin", system=match.system):
            raise Refused(403, "forbidden", "this key does not allow that")
        return identity

    def _is_open_scrape(self, match: routes.Match, scope: Scope) -> bool:
        client = scope.get("client")
        is_loopback = client is not None and client[0].startswith(LOOPBACK)
        return match.route.handler == "metrics" and self._policy.open_metrics and is_loopback

    async def _healthz(self, asked: Asked) -> Reply:
        return probes.liveness()

    async def _startupz(self, asked: Asked) -> Reply:
        return probes.startup(self._phase)

    async def _readyz(self, asked: Asked) -> Reply:
        return probes.readiness(self._phase)

    @property
    def _phase(self) -> probes.Phase:
        return probes.phase_of(is_world_read=self.world.is_read, is_draining=self.is_draining)

    async def _system_ready(self, asked: Asked) -> Reply:
        return probes.system_readiness(self.world.routes.get(asked.served.system.name), self._ready)

    async def _openapi(self, asked: Asked) -> Reply:
        return Reply(200, openapi.document_json())

    async def _docs(self, asked: Asked) -> Reply:
        headers = {b"content-security-policy": openapi.PAGE_POLICY}
        return Reply(200, openapi.page(), b"text/html; charset=utf-8", headers)

    async def _metrics(self, asked: Asked) -> Reply:
        is_open = OPEN_METRICS.partition(b";")[0] in (header(asked.headers, b"accept") or b"")
        text = self.metrics.text(self._predicting.lanes.values(), is_open=is_open)
        return Reply(200, text, OPEN_METRICS if is_open else TEXT)

    async def _info(self, asked: Asked) -> Reply:
        route = self.world.routes.get(asked.served.system.name)
        description = described(asked.served, route.weights if route else {})
        return Reply(200, json.dumps(description).encode("ascii"))

    async def _predict(self, asked: Asked) -> Reply:
        return await self._predicting.predict(asked)

    async def _feedback(self, asked: Asked) -> Reply:
        return await feedback.take(asked, asked.served.system.name, self.samples)

    def _on_truth(self, sample: Sample) -> None:
        for revision, node, names in counts_of(sample):
            self.book.add(revision, node, *names)

    def _served(self, name: str, exchange: Exchange) -> Served:
        served = self.world.systems.get(name)
        if served is None:
            raise Refused(404, "unknown_system", "no system of this name is served here")
        exchange.system = name
        return served


def _fault(error: Exception, exchange: Exchange) -> Reply:
    """The client learns a request id; operators find the type under it in the access log."""
    exchange.fault = type(error).__name__
    return refusal(Refused(500, "internal", "the gateway failed on this request"), exchange.request_id)
