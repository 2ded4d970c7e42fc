"""The model card says what is known, says what is not, and stays plain text whatever the records hold."""

from platformops.registry.card import model_card
from platformops.registry.records import Lineage, ModelVersion, Verdicts

DATASET = {
    "classes": ["0", "1"],
    "quarantined": 3,
    "digest": "dd",
    "splits": {"train": {"rows": 70}, "validation": {"rows": 15}, "test": {"rows": 15}},
}
EVALUATION = {
    "accuracy": 0.97123,
    "recall_macro": 0.9,
    "intervals": {"accuracy": [0.96, 0.98]},
    "per_class": {"0": {"precision": 1.0, "recall": 0.99}, "1": {"precision": 0.9, "recall": 0.8125}},
    "confusion": [[7, 0], [1, 7]],
}


def version(**changes):
    fields = {
        "model": "digits",
        "number": 3,
        "fingerprint": "abc",
        "artifacts": {},
        "metrics": {"accuracy": 0.5},
        "params": {"lr": 0.01, "nested": {"a": [1]}},
        "lineage": Lineage({"sklearn://digits": "d1"}, {"train": "t1"}, "run-1", "c0ffee", True),
        "created_at": 0.0,
    }
    return ModelVersion(**(fields | changes))


def section(card, title):
    return card.split(f"## {title}\n\n")[1].split("\n\n## ")[0]


def full():
    return model_card(
        version(), purpose="Reads digits.", dataset=DATASET, evaluation=EVALUATION, aliases=["champion"],
        verdicts=Verdicts(("latency",), "p99 91 ms is over 80 ms"),
    )  # fmt: skip


def test_a_card_has_every_section_in_order():
    titles = [line[3:] for line in full().splitlines() if line.startswith("## ")]
    assert titles == [
        "Purpose", "Data", "Split", "Parameters", "Metrics", "Per class", "Limits", "Lineage", "Code",
    ]  # fmt: skip


def test_a_card_names_data_with_digest_and_counts():
    assert "| sklearn://digits | d1 |" in section(full(), "Data")
    assert "| classes | 2: 0, 1 |" in section(full(), "Data")
    assert "| train | 70 |" in section(full(), "Split")


def test_a_card_gives_metrics_with_their_intervals_and_says_where_there_is_none():
    metrics = section(full(), "Metrics")
    assert "| accuracy | 0.9712 | 0.96 to 0.98 |" in metrics
    assert "| recall_macro | 0.9 | not estimated |" in metrics
    assert "confusion" not in metrics


def test_a_card_gives_figures_per_class_and_names_the_weakest():
    assert "| 1 | 0.9 | 0.8125 |" in section(full(), "Per class")
    assert "Weakest class: 1, recall 0.8125." in section(full(), "Limits")


def test_a_card_says_what_speaks_against_the_version():
    limits = section(full(), "Limits")
    assert "3 rows of the source could not be read" in limits
    assert "uncommitted changes" in limits
    assert "Refused by latency: p99 91 ms is over 80 ms" in limits
    assert section(full(), "Code").strip() == "Revision c0ffee with uncommitted changes."


def test_a_card_of_a_bare_version_says_what_is_not_recorded():
    card = model_card(version(params={}))
    assert section(card, "Purpose") == "Not stated in the spec."
    assert section(card, "Split") == "Not recorded."
    assert section(card, "Per class") == "Not recorded."
    assert section(card, "Parameters") == "None recorded."
    assert "| accuracy | 0.5 | not estimated |" in section(card, "Metrics")


def test_nothing_in_the_records_becomes_markup():
    hostile = "a | b\n# <script>alert(1)</script> `x`"
    card = model_card(
        version(params={hostile: hostile}),
        purpose=hostile,
        dataset={"classes": [hostile], "splits": {hostile: {"rows": 1}}},
        evaluation={hostile: 1.0, "per_class": {hostile: {"recall": 0.5}}},
    )
    assert "<script>" not in card
    assert "\n# <" not in card
    assert len([line for line in card.splitlines() if line.startswith("# ")]) == 1


def test_odd_shapes_of_records_do_not_break_a_card():
    odd = {"intervals": [1], "per_class": {"a": 3}, "accuracy": None}
    card = model_card(version(), dataset={"splits": 4, "classes": 2}, evaluation=odd)
    assert "| accuracy | none | not estimated |" in card
