"""Progress and tables."""

import io
import json

import pytest
from rich.console import Console

from platformops.cli import output
from platformops.cli.bars import Bars
from platformops.pipeline.records import Progress


def test_a_line_tells_share_time_and_what_is_left():
    news = Progress("train", "running", ratio=0.4, message="epoch 5", elapsed_s=12)
    assert output.progress_line(news) == "train: running 40 % 12 s, 18 s left: epoch 5"


def test_lines_are_printed_at_changes_and_every_ten_seconds(capsys):
    lines = output.Lines()
    lines.show(Progress("train", "waiting"))
    for second in range(31):
        lines.show(Progress("train", "running", ratio=second / 31, elapsed_s=float(second)))
    lines.show(Progress("train", "done", elapsed_s=31))
    assert [line.split()[1] for line in capsys.readouterr().err.splitlines()] == ["waiting", *["running"] * 4, "done"]


def test_a_message_cannot_steer_the_terminal():
    assert "\x1b" not in output.progress_line(Progress("train", "running", message="\x1b[2J"))


def test_of_a_long_message_the_first_line_stands_beside_the_bar():
    assert (
        output.progress_line(Progress("train", "failed", message="no memory\n  fix: buy")) == "train: failed: no memory"
    )


def test_progress_is_plain_without_a_terminal(capsys):
    with output.progress_shown() as show:
        show(Progress("train", "cached"))
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "train: cached\n")


@pytest.mark.parametrize("width", [20, 80, 200])
def test_bars_draw_every_stage_on_a_terminal(width):
    stream = io.StringIO()
    with Bars(Console(file=stream, force_terminal=True, width=width)) as bars:
        bars.show(Progress("prepare", "cached"))
        bars.show(Progress("train", "waiting"))
        bars.show(Progress("train", "running", message="no ratio [bold]yet"))
        bars.show(Progress("train", "running", ratio=0.5, message="\x1b[2J", elapsed_s=10))
    drawn = stream.getvalue()
    assert "\x1b[2J" not in drawn
    if width >= 80:
        assert "prepare" in drawn
        assert "10 s, 10 s left" in drawn


def test_a_failed_stage_stays_on_the_screen_with_its_reason():
    stream = io.StringIO()
    with Bars(Console(file=stream, force_terminal=True, width=120)) as bars:
        bars.show(Progress("train", "running", message="no ratio yet"))
        bars.show(Progress("train", "failed", message="out of memory", elapsed_s=11))
    assert "out of memory" in stream.getvalue()


def test_a_table_in_a_pipe_is_not_cut(capsys):
    output.print_table(("a", "b"), [("x" * 120, "[red]end\x1b")])
    out = capsys.readouterr().out
    assert "x" * 120 in out
    assert "[red]end\\x1b" in out


def test_json_is_ascii_on_one_line(capsys):
    output.print_json({"label": "é\n\u202e"})
    out = capsys.readouterr().out
    assert out.isascii()
    assert json.loads(out) == {"label": "é\n\u202e"}
    assert out.count("\n") == 1


@pytest.mark.parametrize(("seconds", "text"), [(None, ""), (0.42, "0.4 s"), (12.4, "12 s"), (185, "3 min 05 s")])
def test_durations_are_short(seconds, text):
    assert output.seconds_text(seconds) == text
