"""Runs Prometheus and Alertmanager beside the platform: started, stopped by pid, and asked whether they see it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import httpx

from platformops.clock import Clock, SystemClock
from platformops.errors import ClusterError, UserError
from platformops.home import Home
from platformops.observation.stack import dashboards, rules, servers
from platformops.observation.stack.export import as_yaml, files
from platformops.observation.stack.servers import Targets
from platformops.on_ray.cluster import free_port
from platformops.pipeline.process import is_alive, owner_of
from platformops.pipeline.records import Owner

PROMETHEUS, ALERTMANAGER = "prometheus", "prometheus-alertmanager"
STATE = "state.json"
READY_WITHIN_S = 30.0
GONE_WITHIN_S = 15.0
LOOK_S = 0.1
ARRIVES_WITHIN_S = 15.0
TEST_ALERT = "PlatformOpsTest"


@dataclass(frozen=True, slots=True)
class Settings:
    """What Prometheus is to watch."""

    targets: Targets
    scrape_s: int = 5


@dataclass(frozen=True, slots=True)
class Check:
    name: str
    state: str
    """`passed`, `failed` or `skipped`."""
    found: str


@dataclass(frozen=True, slots=True)
class Server:
    """One process that was started here."""

    name: str
    address: str
    owner: Owner


def folder_of(where: Home) -> Path:
    return where.root / "observe"


def settings_of(where: Home) -> Settings:
    """The gateway as `up` wrote it down, and a key of our own for its metrics. Raises UserError without a gateway."""
    from platformops.cli import settings
    from platformops.cli.access import ensure_key_in
    from platformops.cli.endpoint import gateway_url

    with settings.opened_store(where) as store:
        url = gateway_url(store)
        if url is None:
            raise UserError(
                "no gateway runs, so there is nothing to watch", remedy="platformops up configs/digits.yaml"
            )
        path = ensure_key_in(where.keys / "metrics.key", store, SystemClock(), scope="operate", system="*")
    return Settings(Targets((url.partition("//")[2],), str(path)))


def start(where: Home, settings: Settings, *, webhook: str, group_wait: str = "5s") -> Mapping[str, str]:
    """Both servers run and answer on return, with this configuration: name -> address. Raises ClusterError."""
    programs = {name: _program(name) for name in (ALERTMANAGER, PROMETHEUS)}
    stop(where)
    folder, clock = folder_of(where), SystemClock()
    for name in programs:
        (folder / name).mkdir(parents=True, exist_ok=True)
    addresses = {name: f"127.0.0.1:{free_port()}" for name in programs}
    _configure(folder, settings, addresses[ALERTMANAGER], webhook, group_wait)
    started = []
    for name, program in programs.items():
        process = _launch(folder, name, program, addresses[name])
        started.append(Server(name, addresses[name], owner_of(process.pid)))
        _write_state(folder, started)
        _wait_until_ready(process, started[-1], folder, clock)
    return {server.name: f"http://{server.address}" for server in started}


def stop(where: Home) -> Sequence[str]:
    """Names of the servers that were running and are gone now; only those that `start` started."""
    clock, ended = SystemClock(), []
    for server in running(where):
        ended.append(server.name)
        os.kill(server.owner.pid, signal.SIGTERM)
    for server in [s for s in _read_state(folder_of(where)) if s.name in ended]:
        until = clock.monotonic() + GONE_WITHIN_S
        while is_alive(server.owner) and clock.monotonic() < until:
            with suppress(ChildProcessError):
                os.waitpid(server.owner.pid, os.WNOHANG)
            clock.sleep(LOOK_S)
        if is_alive(server.owner):
            os.kill(server.owner.pid, signal.SIGKILL)
    (folder_of(where) / STATE).unlink(missing_ok=True)
    return ended


def running(where: Home) -> Sequence[Server]:
    """Those that still run."""
    return [server for server in _read_state(folder_of(where)) if is_alive(server.owner)]


def checked(where: Home) -> Sequence[Check]:
    """Targets are up, every query of every dashboard is answered, and an alert arrives."""
    found = {server.name: server for server in running(where)}
    if set(found) != {PROMETHEUS, ALERTMANAGER}:
        raise ClusterError("Prometheus and Alertmanager do not run here", remedy="platformops observe up")
    with httpx.Client(timeout=10.0, trust_env=False) as client:
        prometheus = f"http://{found[PROMETHEUS].address}"
        alertmanager = f"http://{found[ALERTMANAGER].address}"
        return [
            *_targets(client, prometheus),
            *_queries(client, prometheus),
            _rules(client, prometheus),
            _alert(client, alertmanager, SystemClock()),
        ]


def export(where: Home, directory: Path, *, webhook: str) -> Sequence[Path]:
    """Everything for an existing stack, written below `directory`."""
    try:
        targets = settings_of(where).targets
    except UserError:  # no gateway yet: the address is filled in by hand
        targets = Targets(("127.0.0.1:8000",), str(where.keys / "metrics.key"))
    written = []
    for name, content in files(targets, logs=str(where.logs), webhook=webhook).items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
        written.append(path)
    return written


def _configure(folder: Path, settings: Settings, alertmanager: str, webhook: str, group_wait: str) -> None:
    prometheus = servers.prometheus_document(settings.targets, alertmanager=alertmanager, scrape_s=settings.scrape_s)
    (folder / PROMETHEUS / "prometheus.yml").write_text(as_yaml(prometheus), encoding="utf-8")
    (folder / PROMETHEUS / "rules.yml").write_text(as_yaml(rules.rules_document()), encoding="utf-8")
    routes = servers.alertmanager_document(webhook, group_wait=group_wait)
    (folder / ALERTMANAGER / "alertmanager.yml").write_text(as_yaml(routes), encoding="utf-8")


def _program(name: str) -> str:
    for candidate in (name, name.removeprefix("prometheus-")):
        if path := shutil.which(candidate):
            return path
    raise ClusterError(
        f"{name} is not installed", remedy="apt-get install --no-install-recommends prometheus prometheus-alertmanager"
    )


def _launch(folder: Path, name: str, program: str, address: str) -> subprocess.Popen[bytes]:
    own = folder / name
    arguments = {
        PROMETHEUS: [
            f"--config.file={own}/prometheus.yml",
            f"--storage.tsdb.path={own}/data",
            "--enable-feature=exemplar-storage",  # they lead from a quantile to the request behind it
        ],
        ALERTMANAGER: [
            f"--config.file={own}/alertmanager.yml",
            f"--storage.path={own}/data",
            "--cluster.listen-address=",  # no gossip: there is only this one
        ],
    }[name]
    with (own / "log").open("wb") as log:
        return subprocess.Popen(
            [program, *arguments, f"--web.listen-address={address}"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=own,
            start_new_session=True,  # it outlives this command
        )


def _wait_until_ready(process: subprocess.Popen[bytes], server: Server, folder: Path, clock: Clock) -> None:
    until = clock.monotonic() + READY_WITHIN_S
    while clock.monotonic() < until and process.poll() is None:
        with suppress(httpx.HTTPError):
            if httpx.get(f"http://{server.address}/-/ready", timeout=2.0, trust_env=False).status_code == 200:
                process.returncode = 0  # it outlives this command, which is to forget it without a word
                return
        clock.sleep(LOOK_S)
    last = (folder / server.name / "log").read_text(encoding="utf-8", errors="replace").strip().splitlines()
    raise ClusterError(f"{server.name} does not start: {last[-1] if last else 'it said nothing'}")


def _targets(client: httpx.Client, prometheus: str) -> Iterator[Check]:
    found = client.get(f"{prometheus}/api/v1/targets").json()["data"]["activeTargets"]
    for target in found:
        name, health = f"target {target['labels'].get('job')} {target['scrapeUrl']}", target["health"]
        yield Check(name, "passed" if health == "up" else "failed", target["lastError"] or health)


def _queries(client: httpx.Client, prometheus: str) -> Iterator[Check]:
    for name, dashboard in dashboards.dashboards().items():
        answers = [_asked(client, prometheus, expr) for expr in dashboards.queries(dashboard)]
        wrong = [answer for answer in answers if isinstance(answer, str)]
        filled = sum(1 for answer in answers if not isinstance(answer, str) and answer)
        state = "failed" if wrong else "passed"
        yield Check(name, state, wrong[0] if wrong else f"{len(answers)} queries, {filled} with data")


def _asked(client: httpx.Client, prometheus: str, expr: str) -> int | str:
    """How many series answer, or what is wrong; the variables of Grafana are filled in as it would."""
    expr = expr.replace("$__rate_interval", "1m").replace("$system", ".*")
    answer = client.get(f"{prometheus}/api/v1/query", params={"query": expr}).json()
    return len(answer["data"]["result"]) if answer["status"] == "success" else f"{answer['error']}: {expr}"


def _rules(client: httpx.Client, prometheus: str) -> Check:
    groups = client.get(f"{prometheus}/api/v1/rules").json()["data"]["groups"]
    every = [rule for group in groups for rule in group["rules"]]
    wrong = [f"{rule['name']}: {rule['lastError']}" for rule in every if rule["health"] == "err"]
    return Check("rules", "failed" if wrong else "passed", wrong[0] if wrong else f"{len(every)} are evaluated")


def _alert(client: httpx.Client, alertmanager: str, clock: Clock) -> Check:
    """An alert that is put in by hand is held by Alertmanager, and sent to the webhook where one is configured."""
    alert = {"labels": {"alertname": TEST_ALERT, "severity": "ticket"}, "annotations": {"summary": "Only a test."}}
    client.post(f"{alertmanager}/api/v2/alerts", json=[alert]).raise_for_status()
    until = clock.monotonic() + ARRIVES_WITHIN_S
    while clock.monotonic() < until:
        held = client.get(f"{alertmanager}/api/v2/alerts").json()
        if any(one["labels"]["alertname"] == TEST_ALERT for one in held):
            return Check("test alert", "passed", "it arrived at Alertmanager")
        clock.sleep(LOOK_S)
    return Check("test alert", "failed", "it did not arrive at Alertmanager")


def _write_state(folder: Path, started: Sequence[Server]) -> None:
    written = [{"name": s.name, "address": s.address, "owner": asdict(s.owner)} for s in started]
    (folder / STATE).write_text(json.dumps(written), encoding="utf-8")


def _read_state(folder: Path) -> Sequence[Server]:
    try:
        written = json.loads((folder / STATE).read_text(encoding="utf-8"))
        return [Server(s["name"], s["address"], Owner(**s["owner"])) for s in written]
    except (OSError, ValueError, KeyError, TypeError):
        return []
