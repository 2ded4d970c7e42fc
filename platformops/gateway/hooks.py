"""The door for webhooks: a signed delivery starts a run of the project that it names, once; all else is refused.

The run that a delivery leads to is written down in the commit that accepts it: whoever dies then, it is begun by the
next process that serves, and the same delivery sent again is answered with that run.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from platformops.clock import Clock
from platformops.delivery.ci.asked import AskedRun, Wanted
from platformops.delivery.ci.asked_store import asked_put, forgotten, load_asked
from platformops.errors import StoreConflict
from platformops.gateway.replies import RETRY_SOON, Refused, Reply, refusal
from platformops.gateway.request import Asked, Head, Receive, Scope, Send, exchange_of, read_body, send_reply
from platformops.security.audit import Audited, audit_put
from platformops.security.webhooks import Forged, Genuine, verified
from platformops.store.records import ABSENT, JsonObject, Put, Store

PREFIX = "/hooks/"
MOST_BODY_BYTES = 256 * 1024
"""A push of many commits has some ten thousand bytes."""
DELIVERED = "delivered/"
KEPT_S = 30 * 86_400.0
"""How long a delivery is remembered: GitHub's scheme has no time in it, and lets old ones be sent again for days."""
PRUNED_AT_ONCE = 20
MOST_REFUSALS_A_MINUTE = 60
"""Of those on record: whoever has no secret must not be able to fill the disk."""
CONFLICTS = 20


@dataclass(frozen=True, slots=True)
class Project:
    branch: str
    """A push to another branch is taken and starts nothing."""


Start = Callable[[Wanted], str]
"""Has the run that was written down begin, or wait for the present one; answers what became of it, in one sentence."""


class Hooks:
    """An ASGI application for `POST /hooks/PROJECT`."""

    def __init__(
        self,
        *,
        projects: Mapping[str, Project],
        secret: bytes,
        store: Store,
        clock: Clock,
        new_id: Callable[[], str],
        start: Start,
    ) -> None:
        self._projects, self._secret, self._store = projects, secret, store
        self._clock, self._new_id, self._start = clock, new_id, start
        self._refusals: list[float] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = self._clock.monotonic()
        exchange = exchange_of(scope, self._new_id(), self._clock.now(), started)
        asked = Asked(scope, receive, Head(exchange))
        try:
            reply = await self._answer(scope, asked)
        except Refused as refused:
            self._refused(exchange.path, exchange.client, refused)
            reply = refusal(refused, exchange.request_id)
        await send_reply(send, reply, exchange, scope["headers"])

    async def _answer(self, scope: Scope, asked: Asked) -> Reply:
        path = asked.exchange.path
        if path == "/healthz":
            return _reply(200, {"state": "ready"})
        if not path.startswith(PREFIX):
            raise Refused(404, "not_found", f"webhooks are posted to {PREFIX}PROJECT")
        if scope["method"] != "POST":
            raise Refused(405, "method_not_allowed", "a webhook is a POST", headers={b"allow": b"POST"})
        body = await read_body(asked, MOST_BODY_BYTES, lambda _: None)
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in asked.headers}
        genuine = verified(headers, body, self._secret, now=self._clock.now())
        if isinstance(genuine, Forged):
            raise Refused(401, "not_signed", genuine.reason)
        return self._taken(path.removeprefix(PREFIX), _document(body), genuine)

    def _taken(self, name: str, document: Mapping[str, object], genuine: Genuine) -> Reply:
        """What a genuine delivery starts. Who signed it may know which projects there are, hence this order."""
        project = self._projects.get(name)
        if project is None:
            raise Refused(404, "unknown_project", f"no such project; there are {', '.join(sorted(self._projects))}")
        wanted, ref = _wanted(name, document), document.get("ref")
        starts = not ref or ref == f"refs/heads/{project.branch}"
        run = self._remember(genuine, wanted, starts=starts)
        if run is None:
            return _reply(202, {"project": name, "outcome": f"only {project.branch} starts a run"})
        return _reply(202, {"project": name, "run": run.name, "outcome": self._start(wanted)})

    def _remember(self, genuine: Genuine, wanted: Wanted, *, starts: bool) -> AskedRun | None:
        """The run that the delivery leads to, written down in one commit with its coming. Raises Refused when it came
        before."""
        now, key = self._clock.now(), DELIVERED + genuine.replay_key
        said = f"start {wanted.project} at {wanted.revision or 'its newest revision'}"
        for _ in range(CONFLICTS):
            if (before := self._store.get(key)) is not None:
                raise self._came_before(before.value)
            entry = audit_put(self._store, Audited(said, wanted.who, "accepted", genuine.scheme, now))
            run, asked = asked_put(self._store, wanted, now) if starts else (None, None)
            came: JsonObject = {"at": now, "project": wanted.project, "run": run.number if run else None}
            puts = [Put(key, came, expect=ABSENT), entry, *([asked] if asked else [])]
            try:
                self._store.commit([*puts, *self._forgotten(wanted.project, now)])
            except StoreConflict:
                continue
            return run
        raise Refused(503, "busy", "too many deliveries at once", headers=RETRY_SOON)

    def _came_before(self, came: JsonObject) -> Refused:
        """With the run that the delivery led to, so that a sender who missed the first answer has it now."""
        project, number = came.get("project"), came.get("run")
        run = load_asked(self._store, str(project), number) if isinstance(number, int) else None
        beside = {"project": run.project, "run": run.name, "outcome": _state_said(run)} if run else {}
        return Refused(409, "replayed", "this delivery came before", beside=beside)

    def _forgotten(self, project: str, now: float) -> list[Put]:
        old = (e for e in self._store.scan(DELIVERED, limit=PRUNED_AT_ONCE) if now - _at(e.value.get("at")) > KEPT_S)
        deliveries = [Put(entry.key, None, expect=entry.version) for entry in old]
        return [*deliveries, *forgotten(self._store, project, now - KEPT_S, PRUNED_AT_ONCE)]

    def _refused(self, path: str, client: str, refused: Refused) -> None:
        now = self._clock.now()
        self._refusals = [at for at in self._refusals if now - at < 60]
        if len(self._refusals) >= MOST_REFUSALS_A_MINUTE:
            return
        self._refusals.append(now)
        said = f"{refused.status} {refused.code}: {refused.message}"
        for _ in range(CONFLICTS):
            try:
                entry = Audited(f"webhook {path}", client, "refused", said, now)
                self._store.commit([audit_put(self._store, entry)])
            except StoreConflict:
                continue
            return


def _document(body: bytes) -> Mapping[str, object]:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise Refused(400, "not_json", "the body must be one JSON object")
    return document


def _wanted(project: str, document: Mapping[str, object]) -> Wanted:
    """By our own fields, or those of a push of GitHub."""
    sender = document.get("sender")
    who = document.get("who") or (sender.get("login") if isinstance(sender, dict) else "")
    return Wanted(project, _text(document.get("revision") or document.get("after")), _text(who))


def _state_said(run: AskedRun) -> str:
    led = f"it led to {run.run_id}, " if run.run_id else ""
    return f"{led}{run.state.value}" + (f": {run.reason}" if run.reason else "")


def _text(value: object) -> str:
    return value[:200] if isinstance(value, str) and value.isprintable() else ""


def _at(value: object) -> float:
    return float(value) if isinstance(value, int | float) else 0.0


def _reply(status: int, document: Mapping[str, str]) -> Reply:
    return Reply(status, json.dumps(document).encode("ascii"))
