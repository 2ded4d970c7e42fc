"""The written files, each checked by what its own CI system's users check with."""

import re

import pytest
import yaml

from platformops.delivery.ci.stages import pipeline_of
from platformops.delivery.ci.systems import SYSTEMS, written
from platformops.spec.types import PlatformSpec
from tests.delivery.ci.tools import PIPELINE, SPEC, ran, tool

SCHEMAS = {"gitlab": "vendor.gitlab-ci", "travis": "vendor.travis", "github": "vendor.github-workflows"}
OWN = {
    "gitlab": "\nscan:\n  stage: security\n  script: [make scan]\n",
    "travis": "    - stage: security\n      script: make scan\n",
    "github": "\n  scan:\n    runs-on: ubuntu-24.04\n    steps:\n      - run: make scan\n",
}


def text_of(name, existing=None, pipeline=PIPELINE):
    return written(SYSTEMS[name], pipeline, existing)


@pytest.mark.parametrize("name", SCHEMAS)
@pytest.mark.parametrize("has_own", [False, True], ids=["as-written", "with-own-stages"])
def test_a_file_is_valid_by_the_schema_of_its_system(tmp_path, name, has_own):
    check = tool("check-jsonschema")
    file = tmp_path / "pipeline.yml"
    file.write_text(text_of(name) + (OWN[name] if has_own else ""))
    options = ["--data-transform", "gitlab-ci"] if name == "gitlab" else []
    code, out = ran(check, "--builtin-schema", SCHEMAS[name], *options, file)
    assert code == 0, out


@pytest.mark.parametrize("has_own", [False, True])
def test_the_workflow_is_clean_by_actionlint(tmp_path, has_own):
    lint = tool("actionlint")
    (tmp_path / ".github" / "workflows").mkdir(parents=True)
    file = tmp_path / ".github" / "workflows" / "platformops.yml"
    file.write_text(text_of("github") + (OWN["github"] if has_own else ""))
    code, out = ran(lint, "-no-color", file, folder=tmp_path)
    assert code == 0, out


def test_every_line_of_every_stage_is_clean_by_shellcheck(tmp_path):
    check, script = tool("shellcheck"), tmp_path / "lines.sh"
    jobs = yaml.safe_load(text_of("gitlab"))
    lines = [line for job in jobs.values() if isinstance(job, dict) for line in job.get("script", [])]
    lines += [line for stage in PIPELINE.stages for line in stage.script]
    script.write_text(
        "\n".join(["APPROVED_BY=${APPROVED_BY:?} GITLAB_USER_LOGIN=${GITLAB_USER_LOGIN:?}", *lines]) + "\n"
    )
    code, out = ran(check, "--shell", "bash", script)
    assert code == 0, out


def jobs_of(name):
    tree = yaml.safe_load(text_of(name))
    if name == "gitlab":
        return {s: tree[s]["script"] for s in tree["stages"]}
    if name == "travis":
        return {job["stage"]: job["script"] for job in tree["jobs"]["include"]}
    return {key: [step["run"] for step in job["steps"] if "run" in step] for key, job in tree["jobs"].items()}


@pytest.mark.parametrize("name", SCHEMAS)
def test_every_system_has_the_stages_in_their_order_with_the_same_lines(name):
    jobs = jobs_of(name)
    assert list(jobs) == [stage.name for stage in PIPELINE.stages]
    for stage in PIPELINE.stages:
        if not stage.is_manual:
            assert [line for line in jobs[stage.name] if line in stage.script] == list(stage.script)


def test_the_stages_lead_from_lint_to_a_verified_release():
    names = ["lint", "test", "build", "train", "evaluate", "deploy-test", "smoke", "approve", "release", "verify"]
    assert [stage.name for stage in PIPELINE.stages] == names


def test_a_spec_without_a_model_has_no_stages_that_deliver_one():
    plain = PlatformSpec.model_validate({"system": "etl", "stages": ({"name": "a", "uses": "m:f"},)})
    pipeline = pipeline_of(plain, "etl.yaml")
    assert [stage.name for stage in pipeline.stages] == ["lint", "test", "build", "run"]
    for name in SYSTEMS:
        assert "approv" not in written(SYSTEMS[name], pipeline, None).replace("before the approval", "")


def test_gitlab_deploys_one_at_a_time_by_hand_and_hands_the_approver_on():
    tree = yaml.safe_load(text_of("gitlab"))
    assert [tree[s]["resource_group"] for s in ("deploy-test", "release", "verify")] == [
        "digits-test", "digits-production", "digits-production",
    ]  # fmt: skip
    assert not tree["release"]["interruptible"]
    assert tree["approve"]["rules"][0] == {
        "if": '$CI_COMMIT_BRANCH == "main"', "when": "manual", "allow_failure": False,
    }  # fmt: skip
    assert tree["approve"]["artifacts"]["reports"]["dotenv"] == ".platformops/approval.env"
    assert tree["evaluate"]["artifacts"]["reports"]["metrics"] == ".platformops/reports/metrics.txt"


def test_github_deploys_one_at_a_time_after_an_approval_with_secrets_only_where_a_cluster_is_used():
    jobs = yaml.safe_load(text_of("github"))["jobs"]
    assert jobs["release"]["concurrency"] == {"group": "digits-production", "cancel-in-progress": False}
    assert jobs["approve"]["environment"] == "approval"
    assert "env" not in jobs["lint"]
    assert jobs["train"]["env"]["RAY_ADDRESS"] == "${{ secrets.RAY_ADDRESS }}"
    assert [key for key in jobs["approve"]["steps"][0]] == ["run"]


@pytest.mark.parametrize("name", SYSTEMS)
def test_writing_again_changes_nothing_and_keeps_what_a_person_wrote(name):
    own = OWN.get(name, "")
    existing = "// mine\n" + text_of(name) if name == "jenkins" else "# mine\n" + text_of(name) + own
    if name == "jenkins":
        existing = existing.replace("Stages of your own stand here", "My stages")
    once = text_of(name, existing)
    assert text_of(name, once) == once
    assert "mine\n" in once
    assert own in once
    changed = text_of(name, once, pipeline_of(SPEC.model_copy(update={"system": "other"}), "configs/digits.yaml"))
    assert ("other" in changed) or name == "travis"
    assert own in changed
    assert text_of(name, changed) == once, "and back"


def test_stages_of_a_persons_own_jobs_come_before_the_approval():
    gitlab = yaml.safe_load(text_of("gitlab", text_of("gitlab") + OWN["gitlab"]))
    assert gitlab["stages"][7:9] == ["security", "approve"]
    travis = yaml.safe_load(text_of("travis", text_of("travis") + OWN["travis"]))
    assert [s if isinstance(s, str) else s["name"] for s in travis["stages"]][7:9] == ["security", "approve"]
    github = yaml.safe_load(text_of("github", text_of("github") + OWN["github"]))
    assert github["jobs"]["approve"]["needs"] == ["smoke", "scan"]


def test_lines_with_every_kind_of_quote_arrive_as_they_were_written():
    lines = ["""echo "it's" 'a "b"' \\ $HOME # x: {y} [z]""", "- a", "yes", "1.0", "@a", "%b", "true && a: b", "é ü"]
    pipeline = pipeline_of(SPEC.model_copy(update={"ci": SPEC.ci.model_copy(update={"lint": tuple(lines)})}), "a.yaml")
    tree = yaml.safe_load(written(SYSTEMS["gitlab"], pipeline, None))
    assert tree["lint"]["script"] == ["platformops ci check", *lines]
    jobs = yaml.safe_load(written(SYSTEMS["github"], pipeline, None))["jobs"]
    assert [step["run"] for step in jobs["lint"]["steps"] if "run" in step][2:] == lines


def test_a_path_with_spaces_and_quotes_is_one_word_for_the_shell(tmp_path):
    pipeline = pipeline_of(SPEC, "my 'best' specs/a.yaml")
    line = next(s for s in pipeline.stages if s.name == "train").script[0].replace("platformops run", "printf '%s\\n'")
    assert ran("bash", "-c", line)[1].splitlines()[0] == "my 'best' specs/a.yaml"


def test_no_line_is_wider_than_a_screen_shows():
    for name in SYSTEMS:
        wide = [line for line in text_of(name).splitlines() if len(line) > 160 and not re.match(r"\s*(#|//)", line)]
        assert not wide
