"""A system's package: installed by pip it is all there, and equal code makes equal files."""

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml

from platformops.delivery.packaging.wheel import wheel
from tests.delivery.ci.tools import ran, tool
from tests.registry.repositories import git, needs

PROJECT = Path(__file__).resolve().parents[2]
SPEC = """\
system: digits
app: ./app.py
data: {source: sklearn://digits}
gates: {accuracy: ">= 0.9"}
stages: [{name: audit, uses: "checks.audit:audit", needs: [evaluate]}]
"""


def tree_in(folder):
    """A committed tree with a spec, an app of its own and a stage in a package of its own."""
    (folder / "checks").mkdir(parents=True)
    (folder / "digits.yaml").write_text(SPEC)
    (folder / "app.py").write_text("BASE = 'image'\n")
    (folder / "checks" / "__init__.py").write_text("")
    (folder / "checks" / "audit.py").write_text("from checks import limits\n\ndef audit(context):\n    return {}\n")
    (folder / "checks" / "limits.py").write_text("MOST = 3\n")
    (folder / "notes.txt").write_text("not part of it\n")
    git(folder, "init", "-q")
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "first")
    return folder / "digits.yaml"


def build_to(folder, spec, home):
    code, out = ran(
        sys.executable, "-m", "platformops", "build", spec, "--to", folder, "--json",
        folder=spec.parent, PLATFORMOPS_HOME=str(home), PYTHONPATH=str(PROJECT),
    )  # fmt: skip
    assert code == 0, out
    return json.loads(out.splitlines()[-1])


@pytest.fixture(scope="module")
def spec(tmp_path_factory):
    needs("git")
    return tree_in(tmp_path_factory.mktemp("built") / "tree")


@pytest.fixture(scope="module")
def built(spec):
    """What one build told, and the folder with its files."""
    folder = spec.parent.parent / "dist"
    return build_to(folder, spec, spec.parent.parent / "home"), folder


def test_the_wheel_holds_the_spec_and_the_code_that_its_fingerprints_cover(built):
    told, folder = built
    names = zipfile.ZipFile(folder / next(n for n in told["files"] if n.startswith("digits"))).namelist()
    held = sorted(name.partition("share/platformops/digits/")[2] for name in names if "share/" in name)
    assert held == ["app.py", "checks/__init__.py", "checks/audit.py", "checks/limits.py", "digits.yaml"]


def test_pip_installs_both_wheels_and_the_command_answers(built, tmp_path):
    told, folder = built
    wheels = [str(folder / name) for name in told["files"] if name.endswith(".whl")]
    target = tmp_path / "site"
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(target)]
    subprocess.run([*command, *wheels], check=True, capture_output=True)
    assert yaml.safe_load((target / "share/platformops/digits/digits.yaml").read_text())["system"] == "digits"
    code, out = ran(sys.executable, "-m", "platformops", "--version", folder=tmp_path, PYTHONPATH=str(target))
    assert (code, out.startswith("platformops ")) == (0, True)
    code, out = ran(sys.executable, "-m", "platformops", "plan", "share/platformops/digits/digits.yaml", "--json",
                    folder=target, PYTHONPATH=str(target), PLATFORMOPS_HOME=str(tmp_path / "other"))  # fmt: skip
    planned = {s["name"]: s["fingerprint"] for s in json.loads(out.splitlines()[-1])["steps"]}
    assert planned == told["fingerprints"], "equal fingerprints wherever it is installed"


def test_equal_code_makes_equal_files_and_another_revision_only_another_label(built, tmp_path):
    told, folder = built
    other = build_to(tmp_path / "again", tree_in(tmp_path / "elsewhere"), tmp_path / "home")
    assert other["fingerprints"] == told["fingerprints"]
    differ = [n for n in told["files"] if (folder / n).read_bytes() != (tmp_path / "again" / n).read_bytes()]
    assert set(differ) <= {"Containerfile"}, "made of another commit, in another folder"


def test_the_image_is_exact_unprivileged_and_labelled(built, spec):
    told, folder = built
    recipe = (folder / "Containerfile").read_text()
    assert f'org.opencontainers.image.revision="{git(spec.parent, "rev-parse", "HEAD")}"' in recipe
    assert f'io.platformops.fingerprint.train="{told["fingerprints"]["train"]}"' in recipe
    assert "USER 1000:1000" in recipe
    lines = (folder / "requirements.lock").read_text().splitlines()
    assert all("==" in line for line in lines)
    assert {"ray", "torch", "pydantic"} <= {line.partition("==")[0] for line in lines}
    assert "platformops" not in {line.partition("==")[0] for line in lines}


def test_the_recipe_is_clean_by_hadolint(built):
    code, out = ran(tool("hadolint"), built[1] / "Containerfile")
    assert code == 0, out


def test_the_sbom_names_every_requirement_and_every_own_file(built):
    document = json.loads((built[1] / "sbom.json").read_text())
    lock = (built[1] / "requirements.lock").read_text().splitlines()
    libraries = {f"{c['name']}=={c['version']}" for c in document["components"] if c["type"] == "library"}
    assert libraries == set(lock)
    assert all(c["purl"].startswith("pkg:pypi/") for c in document["components"] if c["type"] == "library")
    assert next(c["name"] for c in document["components"] if c["type"] == "file") == "app.py"


def test_without_buildah_an_image_is_refused_and_the_recipe_is_there(platformops, tmp_path, monkeypatch):
    spec = tree_in(tmp_path / "tree")
    monkeypatch.setenv("PATH", "")
    answer = platformops("build", str(spec), "--to", str(tmp_path / "out"), "--image", "digits:1")
    assert (answer.code, "buildah is not installed" in answer.err) == (2, True)
    assert (tmp_path / "out" / "Containerfile").exists()


def test_a_wheel_depends_on_its_content_alone():
    one, other = ({"a.py": b"1", "b.py": b"2"}, {"b.py": b"2", "a.py": b"1"})
    assert wheel("x", "1", one, {}) == wheel("x", "1", other, {})
