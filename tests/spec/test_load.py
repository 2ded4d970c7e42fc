"""What a spec file may say, and what a person is told about one that says something else."""

import os
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from platformops.errors import SpecError
from platformops.spec.document import parse
from platformops.spec.load import load_spec, validated
from platformops.spec.overrides import overridden

GOOD = """
system: digits
app: image
data: {source: sklearn://digits}
gates: {accuracy: ">= 0.9"}
"""


@pytest.fixture
def load(tmp_path):
    def load_text(text, *overrides, **options):
        path = tmp_path / "spec.yaml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return load_spec(path, overrides=overrides, **options)

    return load_text


@pytest.fixture
def problems(load, tmp_path):
    """The problems of a text, without the file's name before them."""

    def problems_of(text, *overrides, **options):
        with pytest.raises(SpecError) as caught:
            load(text, *overrides, **options)
        assert caught.value.exit_code == 2
        return [p.removeprefix(f"{tmp_path / 'spec.yaml'}: ") for p in caught.value.problems]

    return problems_of


def with_line(line):
    return GOOD + line + "\n"


def test_a_minimal_spec_gets_the_defaults_of_every_section(load):
    spec = load(GOOD)
    assert (spec.system, spec.train.epochs, spec.serve.replicas, spec.release.steps) == (
        "digits",
        10,
        (1, 1),
        ("shadow", "1%", "10%", "50%", "100%"),
    )


def test_a_spec_is_frozen_and_equal_files_give_equal_specs(load):
    spec = load(GOOD)
    assert spec == load(GOOD)
    with pytest.raises(ValueError, match="frozen"):
        spec.system = "other"


def test_the_spec_of_the_design_is_read_whole(load):
    spec = load("""
system: digits
app: image
data:
  source: sklearn://digits
  split: {train: 0.7, validation: 0.15, test: 0.15, by: content}
  prepare: [{resize: 8}, {crop: center}, {normalize: auto}]
  check: {missing_ratio: 0.01, classes: stable}
search: {trials: 6, space: {lr: {log: [1.0e-4, 1.0e-1]}, width: {choice: [16, 32]}}}
train: {framework: torch, model: small_cnn, epochs: 12, workers: auto, devices: auto}
gates:
  accuracy: ">= 0.95"
  recall_macro: ">= champion - 0.01 at 95%"
  p99_ms: "<= 80"
  parity: exact
release: {steps: [shadow, 1%, 10%, 50%, 100%], false_alarms: 5%, on_fail: rollback}
serve: {replicas: [1, 4], slo: {p99_ms: 80, errors: 0.1%}}
watch: {drift: auto, retrain: true, cooldown: 6h}
health: {drain: expected_cost, budget: 10%}
environments: {test: {}, production: {approve: []}}
""")
    assert spec.search.space["lr"] == {"log": [1e-4, 1e-1]}
    assert spec.release.steps[0] == "shadow"


def test_stages_alone_are_a_spec_too(load, tmp_path):
    (tmp_path / "mine.py").write_text("def clean(context):\n    pass\n")
    spec = load("system: flow\nstages:\n- {name: clean, uses: mine:clean, with: {a: [1, {b: null}]}, timeout_s: 5}\n")
    assert spec.stages[0].with_ == {"a": [1, {"b": None}]}


def test_every_problem_of_a_file_is_reported_at_once(problems):
    found = problems("""
system: -digits
app: image
data: {source: sklearn://digits, splt: {}, split: {train: 0.5}}
train: {epochs: -1, optimizer: adam}
gates: {accuracy: "over 9"}
serve: {replicas: [4, 1]}
release: {steps: [5%, 1%]}
""")
    places = [line.split(":")[0] for line in found]
    assert places == [
        "data.split", "data.splt", "gates.accuracy", "release.steps", "serve", "system", "train.epochs",
        "train.optimizer",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("sistem: x", "sistem: unknown key; did you mean 'system'?"),
        ("train: {epoch: 3}", "train.epoch: unknown key; did you mean 'epochs'?"),
        ("serve: {slo: {p99: 3}}", "serve.slo.p99: unknown key; did you mean 'p99_ms'?"),
        ("train: {optimizer: adam}", "train.optimizer: must be 'sgd' or 'adamw' (got \"adam\"); did you mean 'adamw'?"),
        ("train: 3", "train: must be a section with keys (got 3)"),
        ("train: {epochs: 1.5}", "train.epochs: must be a whole number (got 1.5)"),
        ("train: {epochs: true}", "train.epochs: must be a whole number (got true)"),
        ("train: {lr: true}", "train.lr: must be a number (got true)"),
        ("train: {epochs: 0}", "train.epochs: must be at least 1 (got 0)"),
        ("train: {workers: -2}", "train.workers: must be 'auto' or at least 1 (got -2)"),
        ("train: {epochs: 1000000000000000000000000000000}", "train.epochs: must be at most 100000 (got 1"),
        ("train: {lr: 1.0e+30}", "train.lr: must be at most 1e+12"),
        ("train: {lr: .nan}", "train.lr: must be "),
        ("train: {lr: .inf}", "train.lr: must be "),
        ("serve: {timeout_s: -.inf}", "serve.timeout_s: must be "),
        ("train: {seed: -1}", "train.seed: must be at least 0 (got -1)"),
        ("release: {false_alarms: 5}", "release.false_alarms: must be text (got 5)"),
        ("release: {false_alarms: 500%}", "release.false_alarms: must be a percentage from 0% to 100%"),
        ("watch: {cooldown: 6 parsecs}", "watch.cooldown: must be a duration"),
        ("watch: {cooldown: 0s}", "watch.cooldown: must be a duration"),
        ("serve: {replicas: [1, 2, 3]}", "serve.replicas: "),
        ("serve: {replicas: 3}", "serve.replicas: must be a list (got 3)"),
        ("environments: {Prod: {}}", "environments.Prod: must be 1 to 63 of a-z"),
        ("search: {metric: 'A b'}", "search.metric: must be"),
    ],
)
def test_a_wrong_value_is_named_with_its_place_and_what_would_do(problems, line, expected):
    assert [p for p in problems(with_line(line)) if p.startswith(expected)], problems(with_line(line))


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("watch: {drift: no}", "watch.drift: must be 'auto' or 'off' (got no, which YAML reads as false"),
        (
            "release: {on_fail: off}",
            "release.on_fail: must be 'rollback' or 'pause' (got off, which YAML reads as false",
        ),
        ("train: {epochs: 010}", "train.epochs: is read as 8 by YAML (got 010)"),
        ("train: {time_limit_s: 1:30}", "train.time_limit_s: is read as 90 by YAML (got 1:30)"),
        ("train: {lr: 1e-3}", 'train.lr: must be a number (got "1e-3", which YAML reads as text'),
        ("train: {batch_size: 1e3}", 'train.batch_size: must be a whole number (got "1e3", which YAML reads as text'),
        ("release: {max_bake: 2024-01-01}", "release.max_bake: is read as a date"),
        ("train: {params: {since: 2024-01-01}}", "train.params.since: is read as a date"),
        ("train: {epochs: 0x_}", "train.epochs: is not a number that can be read"),
        ("no: 3", "no: is a key that YAML reads as false"),
        ("7: 3", "7: is a key that YAML reads as 7"),
        ("? [a, b]\n: 3", "?: is a key made of several values"),
    ],
)
def test_what_yaml_reads_differently_from_a_person_is_shown(problems, line, expected):
    assert [p for p in problems(with_line(line)) if p.startswith(expected)], problems(with_line(line))


@pytest.mark.parametrize("text", ["y", "010", "1:30", "1e3", "no", "2024-01-01"])
def test_a_quoted_value_is_text(load, text):
    assert load(with_line(f"train: {{params: {{note: '{text}'}}}}")).train.params["note"] == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("system: x\n", "has neither `app` nor `stages`, so there is nothing to run"),
        ("system: x\napp: image\n", "data: is required with an app"),
        ("system: x\napp: image\n", "gates: is required with an app"),
        ("system: x\ngates: {a: '> 1'}\nstages: []\n", "gates: needs an `app`"),
        ("app: image\ndata: {source: sklearn://digits}\ngates: {a: '> 1'}\n", "system: is required"),
        (GOOD.replace("app: image", "app: imagee"), "app: is not a built-in application (got \"imagee\"); did"),
        (GOOD.replace("app: image", "app: /etc/app.py"), "app: must be a file below the spec's own folder"),
        (GOOD.replace("app: image", "app: ../app.py"), "app: must be a file below the spec's own folder"),
        (GOOD.replace("app: image", "app: ./app.py"), "app: there is no file ./app.py beside the spec"),
        (with_line("serve: {replicas: [4, 1]}"), "serve: replicas must be [lower, upper] (got 4 above 1)"),
        (with_line("serve: {timeout_s: 0.5, slo: {p99_ms: 900}}"), "serve: slo.p99_ms 900 is longer than timeout_s"),
        (with_line("release: {steps: [1%, 10%]}"), "release.steps: must rise and end at 100%"),
        (with_line("release: {steps: [50%, 10%, 100%]}"), "release.steps: must rise and end at 100%"),
        (with_line("release: {steps: [1%, shadow, 100%]}"), "release.steps: `shadow` can only be the first step"),
        (with_line("release: {steps: []}"), "release.steps: must rise and end at 100%"),
        (with_line("search: {epochs: 30}\ntrain: {epochs: 12}"), "search.epochs: must be at most train.epochs, 12"),
        (with_line("search: {space: {lr: {log: [0.0, 1.0]}}}"), "search.space.lr: must have bounds above 0"),
        (with_line("search: {space: {lr: {log: [1.0, 0.1]}}}"), "search.space.lr: must have a lower bound below"),
        (with_line("search: {space: {n: {int: [1, 2.5]}}}"), "search.space.n: must have two whole numbers"),
        (with_line("search: {space: {n: {choice: []}}}"), "search.space.n: must be one of {log"),
        (with_line("search: {space: {n: {logg: [1, 2]}}}"), "search.space.n: must be one of {log"),
        (with_line("search: {space: {n: {log: [.nan, 2.0]}}}"), "search.space.n: must have two finite"),
    ],
)  # fmt: skip
def test_sections_that_contradict_each_other_are_refused(problems, text, expected):
    assert [p for p in problems(text) if p.startswith(expected)], problems(text)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (
            "{source: sklearn://digits, split: {train: 0.9, validation: 0.2, test: 0.1}}",
            "data.split: train, validation",
        ),
        ("{source: sklearn://digits, split: {train: 0.9, validation: 0.1, test: 0}}", "data: split.test is 0"),
        (
            "{source: sklearn://digits, split: {train: 0, validation: 0.5, test: 0.5}}",
            "data.split: train and validation",
        ),
        (
            "{source: sklearn://digits, prepare: [{resizee: 8}]}",
            "data.prepare[0].resizee: unknown operation; did you mean",
        ),
        ("{source: sklearn://digits, prepare: [{resize: 8, flip: x}]}", "data.prepare[0]: must be one operation"),
        ("{source: sklearn://digits, prepare: [{}]}", "data.prepare[0]: must be one operation"),
        ("{source: ./nowhere}", 'data.source: there is no such file or folder (got "./nowhere")'),
        ("{source: './*.parquet'}", "data.source: there is no such file or folder"),
        ("{source: http://169.254.169.254/x}", "data.source: must be a path or one of sklearn://"),
        ("{source: file:///etc/passwd}", "data.source: must be a path or one of sklearn://"),
        ("{source: scikit://digits}", "data.source: must be a path or one of"),
        ("{source: sklern://digits}", "data.source: must be a path or one of"),
        ("{source: sklearn://digit}", "data.source: holds no images"),
        ("{source: s3://}", "data.source: names nothing"),
        ("{source: data://x}", "data.source: needs the data folder"),
        ('{source: "a\\0b"}', "data.source: there is no such file or folder"),
        ("{source: ''}", "data.source: there is no such file or folder"),
    ],
)
def test_data_that_cannot_be_used_is_refused_before_anything_runs(problems, data, expected):
    text = GOOD.replace("{source: sklearn://digits}", data)
    assert [p for p in problems(text) if p.startswith(expected)], problems(text)


def test_data_uris_point_below_the_data_folder_and_nowhere_else(load, problems, tmp_path):
    (tmp_path / "lake" / "cats").mkdir(parents=True)
    text = GOOD.replace("sklearn://digits", "data://cats")
    assert load(text, data_root=tmp_path / "lake").data.source == "data://cats"
    assert "no such file or folder below" in problems(text, data_root=tmp_path)[0]
    assert "must stay below" in problems(text.replace("cats", "../lake"), data_root=tmp_path / "lake")[0]


@pytest.mark.parametrize(
    ("stages", "expected"),
    [
        ("[{name: a, uses: mine:one}, {name: a, uses: mine:one}]", 'stages[1].name: two stages are called "a"'),
        ("[{name: train, uses: mine:one}]", "stages[0].name: train is a built-in stage of an app"),
        ("[{name: a, uses: mine:one, needs: [b]}]", 'stages[0].needs[0]: there is no stage "b"'),
        ("[{name: a, uses: mine:one, needs: [trian]}]", 'stages[0].needs[0]: there is no stage "trian"; did you mean'),
        ("[{name: a, uses: mine:one, needs: [search]}]", 'stages[0].needs[0]: there is no stage "search"'),
        ("[{name: a, uses: mine:one, needs: [a]}]", "stages: need each other in a circle: a -> a"),
        (
            "[{name: a, uses: mine:one, needs: [c]}, {name: b, uses: mine:one, needs: [a]}, "
            "{name: c, uses: mine:one, needs: [b]}]",
            "stages: need each other in a circle: ",
        ),
        ("[{name: a, uses: os:system}]", "stages[0].uses: os is a module of Python itself"),
        ("[{name: a, uses: subprocess:run}]", "stages[0].uses: subprocess is a module of Python itself"),
        ("[{name: a, uses: torch.hub:load}]", "stages[0].uses: there is no torch/hub.py beside the spec"),
        ("[{name: a, uses: mine:missing}]", "stages[0].uses: mine.py has no function missing"),
        ("[{name: a, uses: mine:onne}]", "stages[0].uses: mine.py has no function onne; did you mean 'one'?"),
        ("[{name: a, uses: mine:VALUE}]", "stages[0].uses: mine.py has no function VALUE"),
        ("[{name: a, uses: mine:nothing}]", "stages[0].uses: nothing must take a StageContext first"),
        ("[{name: a, uses: broken:x}]", "stages[0].uses: broken.py is not Python that can be read"),
        ("[{name: a, uses: 'mine:one; rm -rf /'}]", "stages[0].uses: must be module:function"),
        ("[{name: a, uses: ../mine:one}]", "stages[0].uses: must be module:function"),
        ("[{name: a, uses: mine:one, retries: 1000}]", "stages[0].retries: must be at most 100"),
        ("[{name: a, uses: mine:one, timeout_s: 0}]", "stages[0].timeout_s: must be above 0"),
        ("[3]", "stages[0]: must be a section with keys"),
        ("[{name: a, uses: mine:one, sources: [./gone.csv]}]", "stages[0].sources[0]: there is no such file"),
    ],
)
def test_stages_that_cannot_run_are_refused(problems, tmp_path, stages, expected):
    (tmp_path / "mine.py").write_text("VALUE = 3\ndef one(context): pass\ndef nothing(): pass\n")
    (tmp_path / "broken.py").write_text("def x(:\n")
    found = problems(with_line(f"stages: {stages}"))
    assert [p for p in found if p.startswith(expected)], found


def test_a_long_chain_of_stages_is_no_circle(load, tmp_path):
    (tmp_path / "mine.py").write_text("def one(context): pass\n")
    lines = [f"- {{name: s{i}, uses: mine:one{f', needs: [s{i - 1}, s{i // 2}]' if i else ''}}}" for i in range(1000)]
    assert len(load("system: chain\nstages:\n" + "\n".join(lines)).stages) == 1000


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"\xef\xbb\xbfsystem: x", "byte order mark"),
        ("system: x".encode("utf-16"), "byte order mark"),
        ("system: x".encode("utf-16-le"), "NUL byte"),
        (b"system: x\0", "NUL byte"),
        (b"system: x\nnote: \xff", "line 2 is not UTF-8"),
        (b"", "is empty"),
        (b"# nothing\n", "is empty"),
        (b"[1, 2]", "must be a section with keys"),
        (b"just words", "must be a section with keys"),
        (b"system: [", "line 2, column 1"),
        (b"system: x\n\tapp: y", "line 2, column 1"),
        (b"system: x\n---\nsystem: y", "more than one document"),
        (b"system: \x1b[31m", "control characters"),
    ],
)
def test_text_that_is_no_plain_yaml_is_refused(problems, text, expected):
    found = problems(text)
    assert len(found) >= 1
    assert any(expected in p for p in found), found


def test_a_tag_is_refused_and_makes_nothing(problems, tmp_path):
    canary = tmp_path / "canary"
    found = problems(f"system: !!python/object/apply:os.system ['touch {canary}']\napp: !include x\nnote: !!str y\n")
    assert sum("tags are not read" in p for p in found) == 3
    assert not canary.exists()


def test_aliases_are_refused_without_being_expanded(problems):
    bomb = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"{chr(98 + i)}: &{chr(98 + i)} [{', '.join([f'*{chr(97 + i)}'] * 9)}]\n" for i in range(9)
    )
    tracemalloc.start()
    found = problems(bomb)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert any("uses the alias *a; write the value itself" in p for p in found)
    assert any("sets the anchor &a" in p for p in found)
    assert peak_bytes < 8 * 1024 * 1024


def test_a_merge_key_is_no_way_around_the_aliases(problems):
    assert any("<<: unknown key" in p for p in problems(with_line("<<: {train: {epochs: 3}}")))


@pytest.mark.parametrize("text", ["[" * 20_000, "a: " + "{b: " * 20_000, "x: " + "[" * 33 + "]" * 33])
def test_deep_nesting_is_refused(problems, text):
    assert problems(text)


def test_nesting_within_the_limit_is_read(load):
    deep = "[" * 28 + "]" * 28
    assert load(with_line(f"train: {{params: {{deep: {deep}}}}}")).train.params["deep"]


def test_a_key_written_twice_is_refused_with_both_lines(problems):
    assert "train: is written twice, in lines 6 and 7" in problems(with_line("train: {epochs: 3}\ntrain: {epochs: 4}"))
    assert "train.epochs: is written twice, in lines 6 and 6" in problems(with_line("train: {epochs: 3, epochs: 4}"))


@pytest.mark.parametrize("kind", ["missing", "directory", "fifo", "device", "nul", "long", "loop", "unreadable"])
def test_what_is_no_regular_file_is_refused_at_once(tmp_path, kind):
    path = tmp_path / "spec.yaml"
    match kind:
        case "directory":
            path.mkdir()
        case "fifo":
            os.mkfifo(path)
        case "device":
            path = Path("/dev/zero")
        case "nul":
            path = Path("a\0b")
        case "long":
            path = tmp_path / ("x" * 300)
        case "loop":
            path.symlink_to(path)
        case "unreadable":
            path = Path("/proc/self/mem")
    with pytest.raises(SpecError):
        load_spec(path)


def test_a_five_gigabyte_file_is_refused_by_its_size(tmp_path):
    path = tmp_path / "spec.yaml"
    with path.open("wb") as file:
        file.truncate(5 * 1024**3)
    with pytest.raises(SpecError, match="has 5368709120 bytes"):
        load_spec(path)


def test_control_characters_are_shown_and_not_sent_to_the_terminal(problems):
    found = problems(with_line('"\\e[31mred\\u202e": "\\r\\n\\e]0;title\\a"\ntrain: {model: "x", optimizer: "\\e[2J"}'))
    text = "".join(found)
    assert "\\x1b[31mred\\u202e: unknown key" in text
    assert not [c for c in text if not c.isprintable()]


def test_the_name_of_the_file_is_made_harmless_too(tmp_path):
    with pytest.raises(SpecError) as caught:
        load_spec(tmp_path / "\x1b[31mred.yaml")
    assert "\x1b" not in str(caught.value)


@pytest.mark.parametrize("text", ["${HOME}", "$(id)", "{{ 7*7 }}", "!{include x}", "%(HOME)s", "~/x"])
def test_nothing_in_a_value_is_expanded(load, text, monkeypatch):
    monkeypatch.setenv("HOME", "expanded")
    assert load(with_line(f"train: {{params: {{note: '{text}'}}}}")).train.params["note"] == text


@pytest.mark.parametrize(
    "name", ["", "a/b", "..", "-x", "a\x00b", "a\nb", "a\n", "‮x", "x" * 64, "CON", "раypal", ".x", "A", " a"]
)
def test_names_that_could_mislead_a_person_or_a_path_are_refused(problems, name):
    quoted = name.encode("unicode_escape").decode().replace('"', '\\"')
    assert any(p.startswith("system: must be 1 to 63 of a-z") for p in problems(f'system: "{quoted}"\nstages: [3]\n'))


def test_loading_is_quick(load):
    # A cached run is promised within 0.6 s of process time; ten loads are a generous bound on one.
    import time

    load(GOOD)
    begin = time.process_time()
    for _ in range(10):
        load(GOOD)
    assert time.process_time() - begin < 0.5


def test_overrides_are_yaml_values(load):
    spec = load(GOOD, "train.epochs=3", "serve.replicas=[1, 2]", "train.params.note=a=b", "release.steps=[5%, 100%]")
    assert (spec.train.epochs, spec.serve.replicas, spec.train.params["note"]) == (3, (1, 2), "a=b")
    assert spec.release.steps == ("5%", "100%")


def test_an_override_reaches_into_lists_and_the_last_one_wins(load):
    text = GOOD.replace("sklearn://digits}", "sklearn://digits, prepare: [{resize: 8}]}")
    spec = load(text, "data.prepare.0.resize=16", "data.prepare.0.resize=32")
    assert spec.data.prepare == ({"resize": 32},)


def test_an_override_mends_what_the_file_has_wrong(load):
    assert load(with_line("train: {epochs: 2024-01-01}"), "train.epochs=3").train.epochs == 3


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("train.epochs=three", '--set train.epochs=three: train.epochs: must be a whole number (got "three")'),
        ("train.epoch=3", "--set train.epoch=3: train.epoch: unknown key; did you mean 'epochs'?"),
        ("train.epochs", "--set train.epochs: must be section.key=value"),
        ("=3", "--set =3: must be section.key=value"),
        ("train..epochs=3", "--set train..epochs=3: must be section.key=value"),
        ("system.x=3", "--set system.x=3: system is a single value and has no key x"),
        ("train.epochs=[", "--set train.epochs=[: line 2"),
        ("train.epochs=010", "--set train.epochs=010: is read as 8 by YAML"),
        ("train.lr=1e-3", '--set train.lr=1e-3: train.lr: must be a number (got "1e-3", which YAML reads as text'),
        ("train.model=!!python/name:os.system x", "--set train.model=!!python/name:os.system x: carries the tag"),
        ("train.model=&a x", "--set train.model=&a x: sets the anchor &a"),
        ("data.prepare.7.resize=3", "--set data.prepare.7.resize=3: data.prepare is a list of 0"),
    ],
)
def test_an_error_in_an_override_names_the_override(problems, override, expected):
    found = problems(with_line("").replace("digits}", "digits, prepare: []}"), override)
    assert [p for p in found if p.startswith(expected)], found


FRAGMENTS = st.sampled_from(
    ["a: 1", "- x", "{", "}", "[", "]", "&a ", "*a", "!!int ", "? ", ": ", "\n", "  ", "'", '"', "|", ">", "---",
     "...", "%", "\t", "no", "010", "1:30", "2024-01-01", ".nan", "system: x", "train: ", "epochs: ", "stages:",
     "- {name: a, needs: [a]}", "gates: ", "\\x00", "\u202e", "é", "#", "<<: ", "0x", "1_0", "9" * 5000]
)  # fmt: skip


@given(st.lists(FRAGMENTS, max_size=20).map("".join))
def test_whatever_the_text_the_answer_is_a_spec_or_a_spec_error(text):
    found = ["none"]
    try:
        validated(overridden(parse(text, "f"), ()), "f", root=Path("/nonexistent"), data_root=None)
    except SpecError as error:
        found = list(error.problems)
    assert found
    assert all(c.isprintable() for problem in found for c in problem)
