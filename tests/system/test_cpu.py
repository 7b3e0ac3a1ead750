"""smolcli/system/cpu.py: affinity and quota, on made-up cgroup trees."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from smolcli.system.cpu import throttled, usable_cores


@pytest.fixture(autouse=True)
def sixteen_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)), raising=False)


def cores(root: Path, membership: str, **files: str) -> int:
    """Make a cgroup tree of `files` and return the cores that a process with this `membership` may use."""
    (root / "self").write_text(membership)
    for name, text in files.items():
        path = root / name.replace("__", "/").replace("cpu_max", "cpu.max").replace("cpu_cfs", "cpu.cfs")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return usable_cores(root, root / "self")


def test_no_quota_is_the_affinity(tmp_path: Path) -> None:
    assert cores(tmp_path, "0::/\n") == 16
    assert cores(tmp_path, "0::/\n", cpu_max="max 100000\n") == 16
    assert usable_cores(tmp_path / "none", tmp_path / "none") == 16


def test_version_2_uses_the_smallest_quota_of_the_group_and_those_above(tmp_path: Path) -> None:
    assert cores(tmp_path, "0::/a/b\n", a__cpu_max="250000 100000\n", a__b__cpu_max="800000 100000\n") == 3


def test_version_1_quota(tmp_path: Path) -> None:
    files = {"cpu__box__cpu_cfs_quota_us": "400000\n", "cpu__box__cpu_cfs_period_us": "100000\n"}
    assert cores(tmp_path, "5:cpu,cpuacct:/box\n0::/\n", **files) == 4


def test_at_least_one_core_and_no_limit_from_a_damaged_file(tmp_path: Path) -> None:
    assert cores(tmp_path, "0::/\n", cpu_max="1000 100000\n") == 1
    assert cores(tmp_path, "0::/\n", cpu_max="lots\n") == 16


def test_a_group_may_have_any_name(tmp_path: Path) -> None:
    (tmp_path / "self").write_bytes("0::/größe:2\n".encode() + b"1:\xff:/\n")
    (tmp_path / "größe:2").mkdir()
    (tmp_path / "größe:2" / "cpu.max").write_text("200000 100000\n")
    assert usable_cores(tmp_path, tmp_path / "self") == 2


def test_throttled_is_the_largest_time_of_the_group_and_those_above(tmp_path: Path) -> None:
    membership = tmp_path / "cgroup"
    membership.write_text("0::/system.slice/job.service\n")
    group = tmp_path / "fs" / "system.slice" / "job.service"
    group.mkdir(parents=True)
    assert throttled(tmp_path / "fs", membership) == 0
    (group / "cpu.stat").write_text("usage_usec 9\nnr_throttled 3\nthrottled_usec 2500000\n")
    (group.parent / "cpu.stat").write_text("throttled_time 4000000000\n")
    assert throttled(tmp_path / "fs", membership) == 4
    (group.parent / "cpu.stat").write_text("damaged\n")
    assert throttled(tmp_path / "fs", membership) == 2.5
