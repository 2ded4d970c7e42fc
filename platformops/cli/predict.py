"""`platformops predict`: images to a live system, answers as a table."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from platformops.cli.options import AsJson
from platformops.errors import BadInput, ClusterError, UserError
from platformops.store.records import Json, JsonObject

if TYPE_CHECKING:
    import httpx

CONNECT_S, ANSWER_S = 2.0, 30.0
BACK_S = 20.0
"""A gateway that died is started again within seconds; clients may wait for it at the socket that its keeper has."""
MOST_IMAGE_BYTES = 64 * 1024 * 1024
"""The system's own limit is lower as a rule, and is said by the gateway."""
SHOWN_CLASSES = 3

System = Annotated[str, typer.Argument(help="Name of a live system.", show_default=False)]
Files = Annotated[list[Path], typer.Argument(help="Image files.", show_default=False)]
Endpoint = Annotated[
    str, typer.Option(help="Gateway to ask, http://host:port; default the one that `up` started.", show_default=False)
]


def predict(system: System, files: Files, endpoint: Endpoint = "", json_: AsJson = False) -> None:
    """Send images to a live system and print its answers."""
    from platformops.cli.output import print_json
    from platformops.spec.names import checked_name

    url, key, is_kept = _address(checked_name(system, "SYSTEM"), endpoint)
    answers = list(asked(url, key, files, is_kept=is_kept))
    if json_:
        print_json({"system": system, "predictions": answers})
    else:
        _print(answers)


def _address(system: str, endpoint: str) -> tuple[str, str, bool]:
    """The URL to post to, this user's key, and whether the keeper of this home keeps the gateway there."""
    from platformops.cli import settings
    from platformops.cli.endpoint import gateway_url
    from platformops.keeper.doors import is_held
    from platformops.security.key_file import read_key_file

    home, is_kept = settings.home(), False
    if not endpoint:
        with settings.opened_store(home) as store:
            endpoint = gateway_url(store) or ""
        host, _, port = endpoint.rpartition("://")[2].rpartition(":")
        is_kept = port.isdecimal() and is_held(home.root, (host.strip("[]"), int(port)))
    if not endpoint:
        raise ClusterError("no gateway runs here", remedy="start the system: platformops up SPEC")
    if not endpoint.startswith(("http://", "https://")):
        raise UserError(f"the endpoint must start with http:// (got {endpoint})")
    key = read_key_file(home.keys / f"{system}.key")
    if key is None:
        raise UserError(f"there is no key for {system} in {home.keys}", remedy="`platformops up SPEC` makes one")
    return f"{endpoint.rstrip('/')}/{system}/predict", key, is_kept


def asked(url: str, key: str, files: Sequence[Path], *, is_kept: bool = False) -> Iterator[JsonObject]:
    """The answer to each file in turn, with its `file`; raises ClusterError when nobody answers. One that `is_kept` may
    be away for some seconds."""
    import httpx

    contents = [(path, _image(path)) for path in files]
    limits = httpx.Timeout(ANSWER_S, connect=CONNECT_S)
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/octet-stream"}
    # Proxy settings of the environment would carry the key off this machine.
    with httpx.Client(timeout=limits, headers=headers, trust_env=False) as client:
        _greet(url, is_kept=is_kept)
        for path, content in contents:
            yield {"file": str(path), **_answer(client, url, path, content)}


def _greet(url: str, *, is_kept: bool) -> None:
    """Asks without a key whether a gateway is there, so that a stranger gets neither the key nor half a minute."""
    import httpx

    try:
        timeout = httpx.Timeout(BACK_S if is_kept else CONNECT_S, connect=CONNECT_S)
        reply = httpx.get(url.rsplit("/", 2)[0] + "/healthz", timeout=timeout, trust_env=False)
    except (httpx.ConnectError, httpx.ConnectTimeout) as error:
        raise ClusterError(f"{url}: nobody answers there: {error}", remedy="start it: platformops up SPEC") from None
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        if is_kept:
            raise ClusterError(f"{url}: the gateway died and is not back yet", remedy="platformops status") from None
        raise _stranger(url, str(error) or type(error).__name__) from None
    if reply.status_code != 200 or "json" not in reply.headers.get("content-type", ""):
        raise _stranger(url, f"/healthz says {reply.status_code}")


def _stranger(url: str, seen: str) -> ClusterError:
    return ClusterError(
        f"{url}: what answers there is not a PlatformOps gateway ({seen})",
        remedy="compare the endpoint with that of `platformops status`",
    )


def _image(path: Path) -> bytes:
    from platformops.spec.plain_file import plain_file, size_bytes

    try:
        with plain_file(path) as file:
            if size_bytes(file) > MOST_IMAGE_BYTES:
                raise UserError(f"{path}: has {size_bytes(file)} bytes, more than any system takes")
            return file.read(MOST_IMAGE_BYTES)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}", remedy="name image files") from None


def _answer(client: httpx.Client, url: str, path: Path, content: bytes) -> JsonObject:
    import httpx

    try:
        reply = client.post(url, content=content)
    except httpx.TimeoutException:
        raise ClusterError(f"{url}: no answer within {ANSWER_S:g} s", remedy="platformops status") from None
    except httpx.HTTPError as error:
        raise ClusterError(f"{url}: the connection broke: {error}", remedy="platformops status") from None
    document = _document(reply, url)
    if reply.status_code == 200:
        return {"request_id": document.get("request_id"), "model_version": document.get("model_version"),
                **_first(document.get("predictions"), url)}  # fmt: skip
    raise _refusal(reply.status_code, document.get("error"), url, path)


def _document(reply: httpx.Response, url: str) -> JsonObject:
    try:
        document = json.loads(reply.content)
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise _stranger(url, f"status {reply.status_code}")
    return document


def _first(predictions: Json, url: str) -> JsonObject:
    first = predictions[0] if isinstance(predictions, list) and predictions else None
    if not isinstance(first, Mapping):
        raise _stranger(url, "no predictions in its answer")
    return first


def _refusal(status: int, error: Json, url: str, path: Path) -> Exception:
    """What the gateway refused, as an error of whoever can mend it."""
    detail = error if isinstance(error, Mapping) else {}
    what = f"{detail.get('message') or 'no reason given'} (status {status}, request {detail.get('request_id', '?')})"
    if status in (401, 403):
        return UserError(f"{url} refuses this key: {what}", remedy="make a new one: platformops up SPEC")
    if status == 404:
        return UserError(f"{url}: {what}", remedy="list the systems: platformops status")
    if status >= 500 or status == 429:
        return ClusterError(f"{url}: {what}", remedy="try again, or look: platformops status")
    return BadInput(str(detail.get("code", "refused")), f"{path}: {what}")


def _print(answers: Sequence[JsonObject]) -> None:
    from platformops.cli.output import next_step, print_table

    rows = []
    for answer in answers:
        ranked = _ranked(answer.get("probabilities"))
        likely = ", ".join(f"{label} {share:.1%}" for label, share in ranked[:SHOWN_CLASSES])
        rows.append((str(answer["file"]), str(answer.get("label", "")), likely, str(answer.get("model_version") or "")))
    print_table(("file", "label", "probabilities", "model"), rows)
    next_step("platformops status")


def _ranked(probabilities: Json) -> list[tuple[str, float]]:
    if not isinstance(probabilities, Mapping):
        return []
    shares = [(str(label), float(p)) for label, p in probabilities.items() if isinstance(p, int | float)]
    return sorted(shares, key=lambda item: -item[1])
