"""system/cpu.py: affinity and quota, on made-up cgroup trees."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from smolcli.system.cpu import throttled, usable_cores
from smolcli.system.memory import available


@pytest.fixture(autouse=True)
def sixteen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)), raising=False)


def tree(root: Path, membership: str, **files: str) -> int:
    (root / "self").write_text(membership)
    for place, text in files.items():
        path = root / place.replace("__", "/").replace("cpu_max", "cpu.max").replace("cpu_cfs", "cpu.cfs")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return usable_cores(root, root / "self")


def test_no_quota_is_the_affinity(tmp_path: Path) -> None:
    assert tree(tmp_path, "0::/\n") == 16
    assert tree(tmp_path, "0::/\n", cpu_max="max 100000\n") == 16
    assert usable_cores(tmp_path / "none", tmp_path / "none") == 16


def test_version_2_takes_the_least_of_the_group_and_those_above(tmp_path: Path) -> None:
    assert tree(tmp_path, "0::/a/b\n", a__cpu_max="250000 100000\n", a__b__cpu_max="800000 100000\n") == 3


def test_version_1(tmp_path: Path) -> None:
    files = {"cpu__box__cpu_cfs_quota_us": "400000\n", "cpu__box__cpu_cfs_period_us": "100000\n"}
    assert tree(tmp_path, "5:cpu,cpuacct:/box\n0::/\n", **files) == 4


def test_never_less_than_one_and_damaged_files_are_no_limit(tmp_path: Path) -> None:
    assert tree(tmp_path, "0::/\n", cpu_max="1000 100000\n") == 1
    assert tree(tmp_path, "0::/\n", cpu_max="lots\n") == 16


def test_a_group_may_have_any_name(tmp_path: Path) -> None:
    (tmp_path / "self").write_bytes("0::/größe:2\n".encode() + b"1:\xff:/\n")
    (tmp_path / "größe:2").mkdir()
    (tmp_path / "größe:2" / "cpu.max").write_text("200000 100000\n")
    assert usable_cores(tmp_path, tmp_path / "self") == 2


def test_time_held_back_by_a_quota_is_that_of_any_group_above(tmp_path: Path) -> None:
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


def test_the_memory_that_a_group_leaves(tmp_path: Path) -> None:
    """Version 2 and version 1; the limit of a group above counts too, files that could be read again do not."""
    info = tmp_path / "meminfo"
    info.write_text("MemTotal: 64000000 kB\nMemAvailable: 32000000 kB\n")
    version2 = ("v2", "memory.max", "memory.current")
    version1 = ("v1/memory", "memory.limit_in_bytes", "memory.usage_in_bytes")
    for folder, limit, used in (version2, version1):
        place = tmp_path / folder / "job"
        (place / "step").mkdir(parents=True)
        for one, most in ((place, "5000000"), (place / "step", "max")):
            (one / limit).write_text(f"{most}\n")
            (one / used).write_text("3000000\n")
            (one / "memory.stat").write_text("anon 1\ninactive_file 500000\n")
    (tmp_path / "groups2").write_text("0::/job/step\n")
    (tmp_path / "groups1").write_text("4:memory:/job/step\n3:cpu:/\n")
    assert available(info, tmp_path / "v2", tmp_path / "groups2") == 2_500_000
    assert available(info, tmp_path / "v1", tmp_path / "groups1") == 2_500_000
    assert available(info, tmp_path / "nowhere", tmp_path / "groups2") == 32_000_000 * 1024
