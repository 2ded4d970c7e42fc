"""Parts are grouped for tasks by what they cost, in order, and alike on any machine."""

import itertools
from dataclasses import replace

import pytest

from platformops.apps.contract import Part
from platformops.on_ray.grouping import MAX_GROUPS, grouped

SMALL, LARGE = 32 * 32 * 3, 400 * 300 * 3


def parts(count: int, rows: int) -> list[Part]:
    return [Part("rows.parquet", start=n * rows, stop=(n + 1) * rows) for n in range(count)]


@pytest.mark.parametrize(("count", "rows", "row_bytes"), [(1, 10, SMALL), (80, 625, SMALL), (28, 63, LARGE)])
def test_every_part_is_in_one_group_and_in_order(count, rows, row_bytes):
    given = [replace(part, uri=f"{number}.parquet") for number, part in enumerate(parts(count, rows))]
    groups = grouped(given, row_bytes)
    assert list(itertools.chain.from_iterable(groups)) == given
    assert all(groups)


def test_parts_that_follow_on_one_another_in_a_file_are_read_as_one():
    groups = grouped(parts(80, 625), SMALL)
    assert all(len(group) == 1 for group in groups)
    assert [group[0].start for group in groups[1:]] == [group[0].stop for group in groups[:-1]]
    assert (groups[0][0].start, groups[-1][0].stop) == (0, 80 * 625)


def test_nothing_makes_no_group():
    assert grouped((), SMALL) == []


def test_small_images_share_a_task_and_large_ones_need_more_of_them():
    given = parts(64, 100)
    assert len(grouped(given, SMALL)) < len(grouped(given, LARGE)) <= len(given)


def test_a_source_of_any_size_leaves_a_bounded_number_of_shards():
    assert len(grouped(parts(20_000, 1000), LARGE)) <= MAX_GROUPS + 1


def test_files_and_parts_that_do_not_say_how_many_rows_they_have_are_grouped_too():
    files = [Part("photos", files=(("a.jpg", "cat"),) * 256) for _ in range(8)]
    unknown = [Part(f"shard-{n}") for n in range(8)]
    assert len(grouped(files, LARGE)) == len(grouped(unknown, LARGE)) == 4
    assert list(itertools.chain.from_iterable(grouped(files, LARGE))) == files
