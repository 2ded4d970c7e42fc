import shutil

import pytest

from platformops.errors import AppError
from platformops.pipeline.identity import FileIdentity
from platformops.pipeline.modules import find_module
from platformops.pipeline.records import Stage
from tests.pipeline.workshop import workshop_at

PLAIN = '"""What it does."""\n\ndef train(context, epochs):\n    """Trains."""\n    return {"epochs": epochs}\n'


def code(shop, uses="stages:train", extra=()):
    return shop.identity.code(Stage("train", uses, code=tuple(extra)))


def test_code_is_named_by_its_module_and_not_by_its_place(shop):
    shop.write("stages.py", PLAIN)
    assert list(code(shop)) == ["stages"]


@pytest.mark.parametrize(
    "same",
    [
        PLAIN.replace("Trains.", "Trains a model."),
        PLAIN.replace("What it does.", "Something else."),
        PLAIN + "\n# a comment\n\n\n",
        PLAIN.replace("context, epochs", "context,\n          epochs"),
        PLAIN.replace('"epochs"', "'epochs'"),
    ],
)
def test_comments_layout_and_docstrings_do_not_count(shop, same):
    shop.write("stages.py", PLAIN)
    before = code(shop)
    shop.write("stages.py", same)
    assert code(shop) == before


@pytest.mark.parametrize(
    "other",
    [
        PLAIN.replace("epochs}", "epochs + 1}"),
        PLAIN.replace("context, epochs", "context, epochs=3"),
        PLAIN + "\nX = 'a docstring is the first statement only'\n",
    ],
)
def test_a_change_of_what_the_code_does_counts(shop, other):
    shop.write("stages.py", PLAIN)
    before = code(shop)
    shop.write("stages.py", other)
    assert code(shop) != before


def test_the_users_own_imports_count_through_packages_and_relative_names(shop):
    shop.write("stages.py", "import os\nfrom lib.features import scaled\n" + PLAIN)
    shop.write("lib/__init__.py", "")
    shop.write("lib/features.py", "from . import scales\n\ndef scaled(): ...\n")
    shop.write("lib/scales.py", "FACTOR = 2\n")
    before = code(shop)
    assert list(before) == ["lib", "lib.features", "lib.scales", "stages"]
    shop.write("lib/scales.py", "FACTOR = 3\n")
    after = code(shop)
    assert {name for name in after if after[name] != before[name]} == {"lib.scales"}


def test_modules_that_import_each_other_end(shop):
    shop.write("stages.py", "import other\n" + PLAIN)
    shop.write("other.py", "import stages\n")
    assert list(code(shop)) == ["other", "stages"]


def test_a_package_in_code_stands_for_all_its_modules(shop):
    shop.write("stages.py", PLAIN)
    shop.write("lib/__init__.py", "")
    shop.write("lib/deep/a.py", "A = 1\n")
    assert list(code(shop, extra=["lib"])) == ["lib", "lib.deep.a", "stages"]


def test_of_the_platform_only_the_listed_modules_count(shop):
    shop.write("stages.py", "from platformops.errors import UserError\n" + PLAIN)
    assert list(code(shop, extra=["platformops.clock"])) == ["platformops.clock", "stages"]


def test_an_app_file_counts_under_its_name_beside_the_spec(shop):
    shop.write("stages.py", PLAIN)
    shop.write("app.py", "import helper\n")
    shop.write("helper.py", "H = 1\n")
    assert list(code(shop, extra=["./app.py"])) == ["app.py", "helper", "stages"]


def test_code_is_not_imported_to_be_digested(shop):
    shop.write("stages.py", PLAIN + "\nraise SystemExit('imported')\n")
    assert code(shop)


def test_a_second_look_parses_nothing_and_a_touched_file_is_looked_at_again(shop, monkeypatch):
    path = shop.write("stages.py", PLAIN)
    shop.clock.sleep(path.stat().st_mtime + 60 - shop.clock.now())  # long after the file was written
    before = code(shop)

    def refuse(module):
        raise AssertionError(f"{module.name} was parsed")

    monkeypatch.setattr("platformops.pipeline.identity.read_source", refuse)
    assert code(shop) == before
    shop.write("stages.py", PLAIN.replace("epochs}", "epochs + 1}"))
    with pytest.raises(AssertionError, match="stages was parsed"):
        code(shop)


def test_a_file_written_this_moment_is_not_remembered(shop):
    path = shop.write("stages.py", PLAIN)
    shop.clock.sleep(path.stat().st_mtime + 0.5 - shop.clock.now())
    code(shop)
    assert shop.store.scan("digest/") == ()


@pytest.mark.parametrize("name", ["os", "subprocess", "os.path", "json.decoder"])
def test_modules_of_python_itself_are_refused(shop, name):
    with pytest.raises(AppError, match="belongs to Python itself"):
        find_module(name, [shop.root])


@pytest.mark.parametrize("name", ["numpy", "pytest", "..stages", "a/b", "a-b", ""])
def test_installed_modules_and_paths_are_refused(shop, name):
    with pytest.raises(AppError):
        find_module(name, [shop.root])


def test_a_folder_called_like_the_platform_does_not_hide_it(shop):
    shop.write("platformops/clock.py", "STOLEN = True\n")
    assert find_module("platformops.clock", [shop.root]).path.parent.parent != shop.root


def test_a_link_out_of_the_spec_folder_is_refused(shop, tmp_path):
    (tmp_path / "outside.py").write_text("X = 1\n")
    (shop.root / "stages.py").symlink_to(tmp_path / "outside.py")
    with pytest.raises(AppError, match="link to a file outside"):
        find_module("stages", [shop.root])


def test_a_misspelt_module_is_answered_with_the_nearest(shop):
    shop.write("stages.py", PLAIN)
    with pytest.raises(AppError) as refused:
        find_module("stage", [shop.root])
    assert "'stages'" in refused.value.remedy


def test_a_file_that_is_not_python_names_its_line(shop):
    shop.write("stages.py", "def train(:\n")
    with pytest.raises(AppError, match=r"stages\.py:1"):
        code(shop)


def test_moving_project_and_home_changes_no_fingerprint(tmp_path):
    here = workshop_at(tmp_path)
    here.write("stages.py", "import lib\n" + PLAIN)
    here.write("lib.py", "L = 1\n")
    here.write("data.csv", "1,2\n")
    stages = [Stage("train", "stages:train", params={"epochs": 3}, sources=("data.csv",), code=("./lib.py",))]
    before = here.plan(*stages)
    (tmp_path / "else" / "where").mkdir(parents=True)
    shutil.copytree(here.root, tmp_path / "else" / "where" / "project")
    there = workshop_at(tmp_path / "else" / "where")
    assert [step.fingerprint for step in there.plan(*stages).steps] == [step.fingerprint for step in before.steps]


def test_no_place_and_no_time_stands_in_a_key(tmp_path):
    shop = workshop_at(tmp_path)
    shop.write("stages.py", PLAIN)
    shop.write("data/x.csv", "1\n")
    plan = shop.plan(Stage("train", "stages:train", sources=("data/x.csv", "data://x.csv")))
    assert str(tmp_path) not in repr(plan.steps[0].key)
    digests = set(plan.steps[0].key.sources.values())
    assert len(digests) == 1, "the same bytes have the same digest, by whatever name"


def test_the_working_directory_holds_modules_too_after_the_spec_folder(shop, tmp_path, monkeypatch):
    other = tmp_path / "cwd"
    other.mkdir()
    (other / "stages.py").write_text("X = 1\n")
    (other / "more.py").write_text("X = 1\n")
    monkeypatch.chdir(other)
    shop.write("stages.py", PLAIN)
    identity = FileIdentity(root=shop.root, data_root=None, store=shop.store, clock=shop.clock)
    assert list(identity.code(Stage("a", "more:f"))) == ["more"]
    assert identity.code(Stage("a", "stages:train")) != {"stages": identity.code(Stage("a", "more:f"))["more"]}
