"""Manifests from the command line."""

import yaml

SPEC = "system: digits\napp: image\ndata: {source: sklearn://digits}\ngates: {accuracy: '>= 0.9'}\n"


def test_manifests_and_chart_are_written_and_written_again_alike(platformops, tmp_path):
    (tmp_path / "digits.yaml").write_text(SPEC)
    arguments = (
        "export",
        "kube",
        str(tmp_path / "digits.yaml"),
        "--to",
        str(tmp_path / "out"),
        "--image",
        "a@sha256:b",
    )
    told = platformops(*arguments, "--json").json
    first = {name: (tmp_path / "out" / name).read_text() for name in told["files"]}
    assert {
        "raycluster.yaml",
        "rayjob.yaml",
        "rayservice.yaml",
        "chart/Chart.yaml",
        "chart/values.yaml",
    } <= first.keys()
    cluster = yaml.safe_load(first["raycluster.yaml"])
    assert cluster["spec"]["headGroupSpec"]["template"]["spec"]["containers"][0]["image"] == "a@sha256:b"
    assert "never applied" in platformops(*arguments).out
    assert {name: (tmp_path / "out" / name).read_text() for name in told["files"]} == first


def test_a_name_that_kubernetes_does_not_take_is_refused(platformops, tmp_path):
    (tmp_path / "a.yaml").write_text(SPEC.replace("digits\n", "1digits\n", 1))
    answer = platformops("export", "kube", str(tmp_path / "a.yaml"), "--to", str(tmp_path / "out"))
    assert (answer.code, "Kubernetes" in answer.err, (tmp_path / "out").exists()) == (2, True, False)
