"""The manifests hold what KubeRay's schemas want, and the chart renders to the same."""

import copy
import re
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml

from platformops.delivery.kube.chart import chart
from platformops.delivery.kube.manifests import as_yaml, manifests
from platformops.delivery.kube.settings import KubeSettings
from tests.delivery.ci.tools import ran, tool
from tests.delivery.kube.crd import problems

SETTINGS = KubeSettings("digits", "configs/digits.yaml", "registry.example/digits@sha256:abc", version("ray"))
MADE = {name: yaml.safe_load(as_yaml(manifest)) for name, manifest in manifests(SETTINGS).items()}
RAY = ("raycluster", "rayjob", "rayservice")
PROJECT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize("name", RAY)
def test_a_manifest_is_valid_by_kuberays_schema_with_its_defaults(name):
    assert problems(MADE[name]) == []


@pytest.mark.parametrize(
    ("name", "place", "typo"),
    [
        ("raycluster", ("spec",), "authOption"),
        ("raycluster", ("spec", "headGroupSpec", "template", "spec"), "securityContexts"),
        ("rayjob", ("spec",), "entryPoint"),
        ("rayjob", ("spec", "rayClusterSpec", "workerGroupSpecs", 0), "minReplica"),
        ("rayservice", ("spec",), "serveConfig"),
        (
            "rayservice",
            ("spec", "rayClusterConfig", "headGroupSpec", "template", "spec", "containers", 0),
            "enviroment",
        ),
    ],
)
def test_a_typo_deep_in_a_manifest_is_caught(name, place, typo):
    broken = copy.deepcopy(MADE[name])
    at = broken
    for part in place:
        at = at[part]
    at[typo] = "x"
    assert any(typo in problem for problem in problems(broken))


@pytest.mark.parametrize("name", RAY)
def test_every_cluster_wants_a_token_survives_its_head_and_runs_as_nobody_in_particular(name):
    spec = MADE[name]["spec"]
    cluster = spec.get("rayClusterSpec") or spec.get("rayClusterConfig") or spec
    assert cluster["authOptions"] == {"mode": "token"}
    assert cluster["gcsFaultToleranceOptions"]["redisPassword"]["valueFrom"]["secretKeyRef"]["key"] == "redis-password"
    assert cluster["rayVersion"] == version("ray")
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        pod = group["template"]["spec"]
        assert pod["securityContext"]["runAsNonRoot"]
        container = pod["containers"][0]
        assert {"startupProbe", "readinessProbe", "livenessProbe"} <= container.keys()
        probed = container["livenessProbe"]["grpc"]["port"]
        assert str(probed) == group["rayStartParams"]["node-manager-port"]
        assert "metrics" in [port["name"] for port in container["ports"]]


def test_metrics_and_network_reach_the_pods_by_the_labels_that_they_have():
    labels = MADE["raycluster"]["spec"]["headGroupSpec"]["template"]["metadata"]["labels"]
    assert MADE["podmonitor"]["spec"]["selector"]["matchLabels"] == labels
    assert MADE["networkpolicy"]["spec"]["podSelector"]["matchLabels"] == labels
    outside = MADE["networkpolicy"]["spec"]["ingress"][1:]
    assert all("ports" in rule for rule in outside), "from outside only what is named"


def test_the_service_serves_the_projects_applications():
    ours = yaml.safe_load(MADE["rayservice"]["spec"]["serveConfigV2"])
    theirs = yaml.safe_load((PROJECT / "serve" / "config.yaml").read_text())
    assert [a["import_path"] for a in ours["applications"]] == [a["import_path"] for a in theirs["applications"]]
    assert ours["proxy_location"] == theirs["proxy_location"]


@pytest.fixture
def charted(tmp_path):
    for path, text in chart(SETTINGS, "0.1.0").items():
        file = tmp_path / "chart" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return tmp_path / "chart"


def test_the_chart_is_clean_by_helm_lint(charted):
    code, out = ran(tool("helm"), "lint", "--strict", charted)
    assert code == 0, out


def test_the_chart_renders_to_the_manifests(charted):
    options = [f"{name}.enabled=true" for name in ("job", "service", "monitoring")]
    code, out = ran(tool("helm"), "template", "digits", charted, "--set", ",".join(options))
    assert code == 0, out
    rendered = {tree["kind"]: tree for tree in yaml.safe_load_all(out) if tree}
    assert rendered == {tree["kind"]: tree for tree in MADE.values()}
    for kind in ("RayCluster", "RayJob", "RayService"):
        assert problems(rendered[kind]) == []


def test_the_chart_takes_its_values(charted):
    options = "workers.max=9,resources.cpu=4,storage.class=fast,image=other:1"
    code, out = ran(tool("helm"), "template", "digits", charted, "--set", options)
    assert code == 0, out
    rendered = {tree["kind"]: tree for tree in yaml.safe_load_all(out) if tree}
    assert set(rendered) == {"RayCluster", "PersistentVolumeClaim", "NetworkPolicy"}
    assert rendered["RayCluster"]["spec"]["workerGroupSpecs"][0]["maxReplicas"] == 9
    assert rendered["PersistentVolumeClaim"]["spec"]["storageClassName"] == "fast"


@pytest.mark.parametrize("path", sorted(chart(SETTINGS, "0.1.0")))
def test_every_value_that_a_template_uses_is_in_the_values(path):
    values = yaml.safe_load(chart(SETTINGS, "0.1.0")["values.yaml"])
    for used in re.findall(r"\.Values\.([\w.]+)", chart(SETTINGS, "0.1.0")[path]):
        at = values
        for part in used.split("."):
            assert part in at, used
            at = at[part]


def test_the_file_for_ray_up_is_taken_by_rays_own_loader_which_refuses_a_typo():
    autoscaler = pytest.importorskip("ray.autoscaler._private.util")
    config = yaml.safe_load((PROJECT / "configs" / "cluster" / "ray-up.yaml").read_text())
    taken = autoscaler.prepare_config(copy.deepcopy(config))
    autoscaler.validate_config(taken)
    (nodes,) = taken["available_node_types"].values()
    assert (nodes["min_workers"], nodes["max_workers"]) == (2, 2), "both workers are started"
    for role in ("head", "worker"):
        assert "RAY_AUTH_MODE=token" in taken[f"{role}_start_ray_commands"][1]
        assert "PLATFORMOPS_HOME=" in taken[f"{role}_start_ray_commands"][1]
    with pytest.raises(Exception, match="setup_comands"):
        autoscaler.validate_config(autoscaler.prepare_config({**config, "setup_comands": []}))
