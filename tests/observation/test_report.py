"""The report: all of it on one page, nothing of it executable, no text of it trusted."""

import math
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from platformops.apps import classification
from platformops.observation.charts import confusion_chart, line_chart, reliability_chart, ticks, whole_ticks
from platformops.observation.records import Mistake, Picture, Report
from platformops.observation.report import render

PNG = b"\x89PNG\r\n\x1a\n rest"
JPEG = b"\xff\xd8\xff rest"
VOID = {"meta", "img"}


class Page(HTMLParser):
    """Tags with their attributes and the text; fails on tags that do not close."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.words, self.open = [], [], []
        self.feed(html)
        assert not self.open, self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, text):
        self.words.append(text)

    @property
    def text(self):
        return " ".join(self.words)


def figures(classes, rows=60):
    rng = np.random.default_rng(0)
    labels = np.arange(rows) % len(classes)
    outputs = rng.dirichlet(np.ones(len(classes)), rows).astype(np.float32)
    return classification.score(outputs, labels, classes)


def full(classes=("cat", "dog", "emu"), **changed):
    given = {
        "title": "pets",
        "classes": classes,
        "metrics": figures(classes),
        "history": [{"epoch": e, "loss": 1 / e, "accuracy": 1 - 1 / e, "lr": 0.1} for e in range(1, 6)],
        "counts": {"train": dict.fromkeys(classes, 40), "test": dict.fromkeys(classes, 20)},
        "quarantined": [("row 7", "truncated")],
        "samples": {classes[0]: [Picture(PNG, "row 1"), Picture(JPEG)]},
        "mistakes": [Mistake(Picture(PNG), "row 9", "cat", "dog", 0.93)],
        "params": {"model": "small_cnn", "options": {"width": 16}},
        "lineage": {"sources": {"folder": "sha256:ab"}, "code": "abc123"},
        **changed,
    }
    return Report(**given)


def test_the_report_shows_every_part():
    page = Page(render(full()))
    headings = [t["id"] for tag, t in page.tags if tag == "section"]
    assert headings == [
        "figures", "data", "training", "confusion", "calibration", "classes", "worst-mistakes", "parameters", "lineage",
    ]  # fmt: skip
    for said in ("pets", "60 test rows", "row 7", "truncated", "small_cnn", "width", "sha256:ab", "row 9", "93%"):
        assert said in page.text
    assert len([t for tag, t in page.tags if tag == "svg"]) >= 5


def test_the_page_is_complete_in_itself_and_runs_nothing():
    page = Page(render(full()))
    assert not {tag for tag, _ in page.tags} & {"script", "link", "iframe", "object", "form"}
    for _, attributes in page.tags:
        assert not [name for name in attributes if name.startswith("on")]
        for name in ("src", "href"):
            assert attributes.get(name, "#").startswith(("#", "data:image/"))
    assert "http://" not in render(full())
    assert "https://" not in render(full())
    assert "default-src 'none'" in render(full())


def test_pictures_keep_their_kind():
    kinds = re.findall(r"data:image/(\w+);base64", render(full()))
    assert kinds == ["png", "jpeg", "png"]


EVIL = "\"><script>alert(1)</script>'&"


def test_no_text_of_the_report_becomes_markup():
    evil = full(
        classes=(EVIL, "dog"),
        title=EVIL,
        quarantined=[(EVIL, EVIL)],
        samples={EVIL: [Picture(PNG, EVIL)]},
        mistakes=[Mistake(Picture(PNG), EVIL, EVIL, EVIL, 1.0)],
        params={EVIL: EVIL, "nested": {EVIL: [EVIL]}},
        lineage={EVIL: {EVIL: EVIL}},
        counts={EVIL: {EVIL: 3}},
    )
    page = Page(render(evil))
    assert "script" not in {tag for tag, _ in page.tags}
    assert EVIL in page.text


def test_a_report_of_figures_alone_shows_no_empty_sections():
    page = Page(render(Report("pets", ("cat", "dog"), figures(("cat", "dog")))))
    assert [t["id"] for tag, t in page.tags if tag == "section"] == ["figures", "confusion", "calibration", "classes"]


def test_a_report_without_anything_is_still_a_page():
    assert "nothing" in Page(render(Report("nothing", (), {}))).text


def test_a_thousand_classes_stay_readable():
    classes = tuple(f"class {i}" for i in range(1000))
    html = render(full(classes=classes, metrics=figures(classes, rows=1500)))
    assert "800 more classes are not shown" in html
    assert len(html) < 400_000


def test_a_figure_that_is_not_defined_is_said_to_be_so():
    metrics = classification.score(np.eye(3, dtype=np.float32)[[0, 1]], np.array([0, 1]), ("a", "b", "c"))
    assert "not defined" in Page(render(Report("x", ("a", "b", "c"), metrics))).text


def test_the_weakest_class_comes_first():
    metrics = classification.score(np.eye(3, dtype=np.float32)[[0, 1, 0, 1]], np.array([0, 1, 2, 1]), ("a", "b", "c"))
    page = Page(render(Report("x", ("a", "b", "c"), metrics)))
    section = page.text[page.text.index("weakest first") :]
    assert section.index(" c ") < section.index(" a ") < section.index(" b ")


def test_values_that_are_not_numbers_are_left_out_of_curves():
    chart = line_chart([1, 2, 3], [0.5, math.nan, 0.1], x_label="epoch", y_label="loss")
    assert chart.count("<circle") == 2
    assert "nan" not in chart
    assert "no values" in line_chart([1.0], [math.inf], x_label="epoch", y_label="loss")


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0.93, 0.97), (0, 1e-6), (-3, 12_000), (5, 5)])
def test_ticks_are_round_and_cover_the_values(low, high):
    found = ticks(low, high)
    assert found[0] <= low
    assert found[-1] >= high
    assert len(found) <= 12


@pytest.mark.parametrize(("low", "high"), [(1, 1), (1, 2), (1, 12), (1, 200), (5, 90)])
def test_ticks_of_epochs_are_whole_and_stay_inside(low, high):
    found = whole_ticks(low, high)
    assert found[0] == low
    assert found[-1] <= high
    assert all(t == int(t) for t in found)
    assert len(found) <= 13


def test_an_empty_matrix_and_an_empty_diagram_are_drawn():
    assert confusion_chart([], ()).startswith("<svg")
    assert "no values" in reliability_chart([])
