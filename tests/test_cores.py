"""cores.py: affinity and quota, on made-up cgroup trees."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from smolcli.cores import usable_cores


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
