"""Rules, dashboards and configuration for other people's servers: right by their own tools, and in their own terms."""

import json
import shutil
import subprocess

import pytest
import yaml

from platformops.observation import metrics
from platformops.observation.stack import dashboards, rules, servers, shippers
from platformops.observation.stack.export import files
from platformops.observation.stack.servers import Targets

TARGETS = Targets(("127.0.0.1:8000",), "key", "http://127.0.0.1:8265/api/prometheus/sd", "token")


@pytest.fixture
def exported(tmp_path):
    for name, content in files(TARGETS, logs="/var/log/platformops", webhook="http://127.0.0.1:1/").items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    for name in ("key", "token"):
        (tmp_path / "prometheus" / name).write_text("secret")
    return tmp_path


def passes(*command):
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed: apt-get install prometheus prometheus-alertmanager rsyslog")
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_promtool_accepts_configuration_and_rules(exported):
    passes("promtool", "check", "config", str(exported / "prometheus" / "prometheus.yml"))


def test_each_alert_fires_on_its_series_and_not_before(exported):
    passes("promtool", "test", "rules", str(exported / "prometheus" / "rules_test.yml"))


def test_alertmanager_accepts_its_routes(exported):
    passes("amtool", "check-config", str(exported / "alertmanager" / "alertmanager.yml"))


def test_rsyslog_accepts_its_configuration(exported):
    passes("rsyslogd", "-N1", "-f", str(exported / "logs" / "rsyslog.conf"))


def test_each_alert_says_what_to_type_next():
    for alert in rules.alerts():
        assert alert.command.startswith("platformops ")
        assert alert.command in alert.annotations["description"]
        assert alert.severity in ("page", "ticket")


def test_each_alert_has_a_test():
    tested = {test["name"] for test in rules.tests_document()["tests"]}
    assert tested == {alert.name for alert in rules.alerts()}


def test_rules_ask_only_for_metrics_that_exist():
    known = {name for metric in metrics.ALL for name in metric.exported}
    recorded = {str(rule["record"]) for rule in rules.recording_rules()}
    text = json.dumps(rules.rules_document())
    for name in set(dashboards.re.findall(r"[a-z_:]*platformops_\w+(?::\w+)*", text)):
        assert name in known | recorded, name


def test_dashboards_keep_the_rules_of_the_house():
    boards = dashboards.dashboards()
    assert [f"{name}: {p}" for name, board in boards.items() for p in dashboards.problems(board)] == []
    uids = [board["uid"] for board in boards.values()]
    assert len(set(uids)) == len(uids)
    assert not any(str(uid).startswith("ray") for uid in uids)


def test_a_dashboard_that_asks_for_what_is_not_there_is_told():
    board = json.loads(json.dumps(dashboards.dashboards()["platformops-serving.json"]))
    board["editable"] = True
    board["panels"][0]["targets"][0]["expr"] = "rate(platformops_nonsense_total[5m])"
    board["panels"][1]["fieldConfig"]["defaults"]["unit"] = "furlongs"
    found = " ".join(dashboards.problems(board))
    for part in ("edited in place", "no metric platformops_nonsense_total", "rate over 5m", "furlongs"):
        assert part in found


def test_panels_do_not_overlap():
    for board in dashboards.dashboards().values():
        places = [(p["gridPos"]["x"], p["gridPos"]["y"]) for p in board["panels"]]
        assert len(set(places)) == len(places)


def test_ray_is_left_out_without_its_address():
    assert [c["job_name"] for c in servers.scrape_configs(Targets(("a:1",), "k"))] == ["platformops"]
    assert [c["job_name"] for c in servers.scrape_configs(TARGETS)] == ["platformops", "ray"]


def test_no_secret_is_in_an_export(exported):
    text = (exported / "prometheus" / "prometheus.yml").read_text()
    assert "credentials_file" in text
    assert "credentials:" not in text


def test_every_exported_document_can_be_read(exported):
    for path in exported.rglob("*.yml"):
        assert yaml.safe_load(path.read_text())
    for path in exported.rglob("*.json"):
        assert json.loads(path.read_text())


def test_the_index_template_takes_our_fields():
    properties = shippers.index_template()["template"]["mappings"]["properties"]
    assert properties["@timestamp"] == {"type": "date"}
    assert set(shippers.OWN) == set(properties["platformops"]["properties"])
