"""Values laid into a spec's text: what a person wrote around them stays."""

import pytest
import yaml

from platformops.errors import UserError
from platformops.spec.rewriting import with_values

VALUES = {"replicas": [2, 2], "batch": 16}
HEAD = "# a system\nsystem: img   # its name\n"
TEXTS = {
    "no section": HEAD,
    "flow": HEAD + "serve: {batch: 64, timeout_s: 3}  # fast\ngates: {accuracy: '>= 0.9'}\n",
    "empty flow": HEAD + "serve: {}\n",
    "block": HEAD + "serve:\n  # two at least\n  replicas: [1, 4]   # grows\n  batch: 64\n\n# gates\ngates: {}\n",
    "block list": HEAD + "serve:\n  replicas:\n    - 1\n    - 4\n  timeout_s: 3\n",
    "block at the end": HEAD + "serve:\n    timeout_s: 3",
}


@pytest.mark.parametrize("name", TEXTS)
def test_values_are_what_was_asked_and_all_else_is_as_it_was(name):
    before, text = yaml.safe_load(TEXTS[name]), with_values(TEXTS[name], "serve", VALUES)
    assert yaml.safe_load(text) == {**before, "serve": {**before.get("serve", {}), **VALUES}}
    assert [c for c in TEXTS[name].split("\n") if "#" in c and "replicas" not in c and "serve" not in c] == [
        c for c in text.split("\n") if "#" in c and "replicas" not in c and "serve" not in c
    ]
    assert text.count("#") == TEXTS[name].count("#")


def test_a_second_time_changes_nothing():
    once = with_values(TEXTS["block"], "serve", VALUES)
    assert with_values(once, "serve", VALUES) == once


def test_a_comment_behind_a_value_stays_behind_it():
    assert "  replicas: [2, 2]   # grows\n  batch: 16\n\n# gates" in with_values(TEXTS["block"], "serve", VALUES)


def test_a_section_that_is_none_is_refused():
    with pytest.raises(UserError, match="no section"):
        with_values(HEAD + "serve: 3\n", "serve", VALUES)
