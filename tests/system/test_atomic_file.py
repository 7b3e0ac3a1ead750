"""smolcli/system/atomic_file.py: the old file or the new one, whatever happens in between."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from smolcli.system.atomic_file import PartFile, atomic_write, part_path


@pytest.fixture
def target(tmp_path: Path) -> Path:
    (tmp_path / "out.txt").write_bytes(b"old")
    return tmp_path / "out.txt"


def test_the_target_changes_when_the_block_ends(target: Path) -> None:
    with atomic_write(target) as file:
        file.write(b"new")
        file.flush()
        assert target.read_bytes() == b"old"
        [part] = set(target.parent.iterdir()) - {target}
        assert part.name.startswith(".smolcli-")
    assert target.read_bytes() == b"new"
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt, SystemExit])
def test_a_failure_in_the_middle_leaves_the_old_file_alone(target: Path, error: type[BaseException]) -> None:
    def fail() -> None:
        with atomic_write(target, sync=True) as file:
            file.write(b"new")
            raise error

    with pytest.raises(error):
        fail()
    assert target.read_bytes() == b"old"
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.parametrize("call", ["fsync", "replace", "chmod"])
def test_a_full_disk_leaves_the_old_file_alone(target: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(OSError, match="No space left"), atomic_write(target, sync=True, keep_mode=True) as file:
        file.write(b"new")
    assert target.read_bytes() == b"old"
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
def test_bytes_that_fail_when_the_file_is_closed_are_an_error(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    system_open = os.open
    monkeypatch.setattr(os, "open", lambda name, flags, mode: system_open("/dev/full", os.O_WRONLY))
    with pytest.raises(OSError, match="No space left"), atomic_write(target) as file:
        file.write(b"fits into the buffer")
    assert target.read_bytes() == b"old"


def test_a_link_is_replaced_and_what_it_leads_to_stays(target: Path) -> None:
    link = target.with_name("link")
    link.symlink_to(target)
    with atomic_write(link) as file:
        file.write(b"new")
    assert not link.is_symlink()
    assert (link.read_bytes(), target.read_bytes()) == (b"new", b"old")
    link.unlink()
    link.symlink_to(target)
    with atomic_write(Path(os.path.realpath(link))) as file:
        file.write(b"through")
    assert link.is_symlink()
    assert target.read_bytes() == b"through"


def test_permissions_are_the_usual_ones_given_ones_or_those_of_the_target(target: Path) -> None:
    usual = target.stat().st_mode
    target.chmod(0o640)
    with atomic_write(target, keep_mode=True):
        pass
    assert target.stat().st_mode & 0o777 == 0o640
    with atomic_write(target):
        pass
    assert target.stat().st_mode == usual
    with atomic_write(target, mode=0o600):
        pass
    assert target.stat().st_mode & 0o777 == 0o600


def test_what_a_killed_run_left_is_replaced_by_the_next(target: Path) -> None:
    code = (
        "import os, signal, sys; from pathlib import Path; from smolcli.system.atomic_file import atomic_write\n"
        "with atomic_write(Path(sys.argv[1])) as file: os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert subprocess.run([sys.executable, "-c", code, target]).returncode == -signal.SIGKILL
    assert part_path(target).exists()
    part_path(target).unlink()
    part_path(target).symlink_to(target)  # a trap: what is written must not go through it
    with atomic_write(target) as file:
        file.write(b"new")
        file.flush()
        assert target.read_bytes() == b"old"
    assert target.read_bytes() == b"new"
    assert list(target.parent.iterdir()) == [target]


def test_several_writers_of_one_target_do_not_disturb_each_other(target: Path) -> None:
    with atomic_write(target, unique=True) as first, atomic_write(target, unique=True) as second:
        first.write(b"first")
        second.write(b"second")
    assert target.read_bytes() == b"first"
    assert list(target.parent.iterdir()) == [target]


def test_the_longest_name_has_a_part_file(tmp_path: Path) -> None:
    with atomic_write(tmp_path / ("n" * 255)) as file:
        file.write(b"new")
    assert (tmp_path / ("n" * 255)).read_bytes() == b"new"


@pytest.mark.parametrize("has_links", [True, False])
def test_without_overwrite_a_target_that_exists_is_an_error(
    target: Path, monkeypatch: pytest.MonkeyPatch, has_links: bool
) -> None:
    if has_links:
        part = PartFile(target, part_path(target))
        with pytest.raises(FileExistsError):
            part.commit(overwrite=False)
        part.discard()
        assert target.read_bytes() == b"old"
    else:
        monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(PermissionError()))
    target.unlink()
    part = PartFile(target, part_path(target))
    part.file.write(b"new")
    part.commit(overwrite=False)
    part.discard()
    assert target.read_bytes() == b"new"
    assert list(target.parent.iterdir()) == [target]
