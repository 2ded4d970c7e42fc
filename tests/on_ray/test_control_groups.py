"""Which control group bounds a process, and what its files say, in both of the kernel's versions."""

import os

import pytest

from platformops.on_ray import control_groups
from platformops.on_ray.control_groups import group_of, memory_texts, quota_texts

VERSION_1 = {"cpu.cfs_quota_us": "5000\n", "cpu.cfs_period_us": "100000\n", "cpu.stat": "nr_periods 1\n"}
VERSION_2 = {"cpu.max": "5000 100000\n", "cpu.stat": "nr_periods 1\n"}


@pytest.mark.parametrize("files", [VERSION_1, VERSION_2])
def test_a_quota_reads_alike_in_both_versions(tmp_path, files):
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    assert quota_texts(tmp_path) == ("5000 100000", "nr_periods 1\n")


def test_a_group_without_files_says_nothing(tmp_path):
    assert quota_texts(tmp_path) == ("", "")
    assert memory_texts(tmp_path) == ("", "", "")


@pytest.mark.parametrize(
    ("line", "folder"),
    [("4:cpu,cpuacct:/jobs/a", "cpu,cpuacct/jobs/a"), ("4:cpu:/jobs/a", "cpu/jobs/a"), ("4:cpu:/seen/by/host", "cpu")],
)
def test_the_group_is_found_where_the_kernel_mounts_it_or_at_the_root_that_a_container_sees(
    tmp_path, monkeypatch, line, folder
):
    monkeypatch.setattr(control_groups, "GROUPS", tmp_path / "groups")
    monkeypatch.setattr(control_groups, "PROC", tmp_path / "proc")
    (tmp_path / "proc" / str(os.getpid())).mkdir(parents=True)
    (tmp_path / "proc" / str(os.getpid()) / "cgroup").write_text(f"9:memory:/\n{line}\n0::/\n")
    (tmp_path / "groups" / folder).mkdir(parents=True)
    (tmp_path / "groups" / folder / "cpu.cfs_quota_us").write_text("-1\n")
    assert group_of(os.getpid(), "cpu") == tmp_path / "groups" / folder
    assert group_of(os.getpid(), "memory") is None
