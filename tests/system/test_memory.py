"""smolcli/system/memory.py: the memory that cgroups leave, on made-up cgroup trees."""

from __future__ import annotations

from pathlib import Path

from smolcli.system.memory import available_bytes


def test_available_memory_is_what_the_smallest_limit_leaves(tmp_path: Path) -> None:
    """In version 2 and version 1; the limit of a parent group counts too, cached files do not count as used."""
    info = tmp_path / "meminfo"
    info.write_text("MemTotal: 64000000 kB\nMemAvailable: 32000000 kB\n")
    version2 = ("v2", "memory.max", "memory.current")
    version1 = ("v1/memory", "memory.limit_in_bytes", "memory.usage_in_bytes")
    for folder, limit_file, usage_file in (version2, version1):
        job = tmp_path / folder / "job"
        (job / "step").mkdir(parents=True)
        for group, limit in ((job, "5000000"), (job / "step", "max")):
            (group / limit_file).write_text(f"{limit}\n")
            (group / usage_file).write_text("3000000\n")
            (group / "memory.stat").write_text("anon 1\ninactive_file 500000\n")
    (tmp_path / "groups2").write_text("0::/job/step\n")
    (tmp_path / "groups1").write_text("4:memory:/job/step\n3:cpu:/\n")
    assert available_bytes(info, tmp_path / "v2", tmp_path / "groups2") == 2_500_000
    assert available_bytes(info, tmp_path / "v1", tmp_path / "groups1") == 2_500_000
    assert available_bytes(info, tmp_path / "nowhere", tmp_path / "groups2") == 32_000_000 * 1024
