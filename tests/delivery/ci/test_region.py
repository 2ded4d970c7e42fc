"""What stands outside the marks is a person's own."""

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from platformops.delivery.ci.region import Region, merged, outside, spec_in
from platformops.delivery.ci.yaml_text import scalar
from platformops.errors import UserError

OURS = (Region("ours"),)
LINES = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Zl", "Zp"]), max_size=20)


@given(
    st.lists(LINES.filter(lambda line: "platformops" not in line)), st.lists(LINES.filter(lambda x: "platf" not in x))
)
def test_what_stands_around_a_region_is_kept_to_the_letter(before, after):
    file = "".join(f"{line}\n" for line in before) + merged(None, OURS, "a.yaml", file="f")
    file += "".join(f"{line}\n" for line in after)
    changed = merged(file, (Region("new"),), "b.yaml", file="f")
    assert changed.splitlines()[: len(before)] == file.splitlines()[: len(before)]
    assert outside(changed, "f") == outside(file, "f")


def test_the_first_region_tells_its_spec():
    assert spec_in(merged("", OURS, "configs/a.yaml", file="f")) == "configs/a.yaml"
    assert spec_in("stages: []\n") is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("stages: [a]\n", "is there already"),
        ("# >>> platformops a.yaml\nx\n", "has no end"),
        ("x\n# <<< platformops\n", "do not alternate"),
        ("# >>> platformops a\n# >>> platformops a\n# <<< platformops\n", "do not alternate"),
        (2 * "# >>> platformops a\n# <<< platformops\n", "has 2 regions of PlatformOps where 1 belong"),
    ],
)
def test_a_file_without_marks_or_with_damaged_ones_is_left_alone(text, said):
    with pytest.raises(UserError, match=said):
        merged(text, OURS, "a.yaml", file="f")


@settings(max_examples=50)
@given(st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Zl", "Zp"], exclude_characters="\ufeff")))
def test_a_scalar_reads_back_as_it_was(text):
    assert yaml.safe_load(f"- {scalar(text)}") == [text]
    assert yaml.safe_load(f"key: {scalar(text)}") == {"key": text}
