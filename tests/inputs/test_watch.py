"""inputs/watch.py: files that arrive, seen by real watches in real folders.

No test waits by sleeping: each asks for the next file, and the watch ends by itself where none comes (`stop`).
"""

from __future__ import annotations

import errno
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from smolcli.errors import InputError, UsageError
from smolcli.inputs import watch
from smolcli.inputs.watch import Settling, watch_arrivals

SETTLE = 0.05


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def stop() -> Iterator[threading.Event]:
    """Set at the latest after half a minute, so that a file that never comes is a failure and no hang."""
    event = threading.Event()
    timer = threading.Timer(30, event.set)
    timer.start()
    yield event
    timer.cancel()


Watch = Callable[..., Iterator[str]]


@pytest.fixture
def watching(stop: threading.Event) -> Watch:
    def start(*folders: object, wanted: Callable[[str], bool] = lambda path: True, **more: bool) -> Iterator[str]:
        return watch_arrivals([str(folder) for folder in folders], wanted, stop, settle=SETTLE, **more)

    return start


def test_a_file_is_given_from_the_moment_of_the_call(watching: Watch, tmp_path: Path) -> None:
    (tmp_path / "before.png").write_text("before")
    found = watching(tmp_path)
    (tmp_path / "a.png").write_text("a")
    assert next(found) == f"{tmp_path}/a.png"
    (tmp_path / "b.png").write_text("b")
    assert next(found) == f"{tmp_path}/b.png"


def test_paths_are_spelled_as_the_folder_was(watching: Watch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "real" / "sub").mkdir(parents=True)
    (tmp_path / "link").symlink_to("real")
    monkeypatch.chdir(tmp_path)
    found = watching("link/", "real/sub")
    Path("real/a.png").write_text("a")
    assert next(found) == "link/a.png"
    Path("real/sub/b.png").write_text("b")
    assert next(found) == "link/sub/b.png"


def test_a_file_written_anew_is_given_again_and_one_only_touched_by_others_is_not(
    watching: Watch, tmp_path: Path
) -> None:
    found = watching(tmp_path)
    first, second = tmp_path / "a.png", tmp_path / "b.png"
    first.write_text("a")
    assert next(found) == str(first)
    first.chmod(0o600)
    first.read_bytes()
    second.write_text("b")
    assert next(found) == str(second)
    first.write_text("other")
    assert next(found) == str(first)
    os.utime(second, (1, 1))
    assert next(found) == str(second)


def test_a_file_moved_in_is_found_and_again_when_it_has_been_away(watching: Watch, tmp_path: Path) -> None:
    inside, outside = tmp_path / "in" / "a.png", tmp_path / "out.png"
    inside.parent.mkdir()
    outside.write_text("a")
    os.utime(outside, (1, 1))
    found = watching(inside.parent)
    outside.rename(inside)
    assert next(found) == str(inside)
    inside.rename(outside)
    (inside.parent / "b.png").write_text("b")
    assert next(found) == f"{inside.parent}/b.png"
    outside.rename(inside)
    assert next(found) == str(inside)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells who writes")
def test_a_file_held_open_for_writing_is_waited_for(watching: Watch, tmp_path: Path) -> None:
    found = watching(tmp_path)
    with (tmp_path / "slow.png").open("w") as slow:
        slow.write("begin")
        slow.flush()
        (tmp_path / "quick.png").write_text("whole")
        assert next(found) == f"{tmp_path}/quick.png"
        slow.write("more")
        slow.flush()
        (tmp_path / "later.png").write_text("whole")
        assert next(found) == f"{tmp_path}/later.png"
    assert next(found) == f"{tmp_path}/slow.png"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has leases")
def test_a_writer_that_comes_while_the_lease_is_held_does_not_end_the_process(
    watching: Watch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fcntl, path = watch.fcntl.fcntl, tmp_path / "a.png"

    def disturbed(file: int, command: int, argument: int) -> int:
        if command == watch.fcntl.F_SETLEASE and argument == watch.fcntl.F_UNLCK:
            with pytest.raises(BlockingIOError):
                os.open(path, os.O_WRONLY | os.O_NONBLOCK)
            disturbances.append(path)
        return fcntl(file, command, argument)

    disturbances: list[Path] = []
    signals: list[int] = []
    before = signal.signal(signal.SIGIO, lambda number, frame: signals.append(number))  # its default ends the process
    monkeypatch.setattr("smolcli.inputs.watch.fcntl.fcntl", disturbed)
    found = watching(tmp_path)
    path.write_text("a")
    assert next(found) == str(path)
    signal.signal(signal.SIGIO, before)
    assert disturbances == [path] and signals == []


def test_where_no_lease_is_granted_a_file_only_has_to_settle(
    watching: Watch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*args: object) -> None:
        raise OSError(errno.EINVAL, "Invalid argument")

    if sys.platform == "linux":
        monkeypatch.setattr("smolcli.inputs.watch.fcntl.fcntl", refused)
    found = watching(tmp_path)
    with (tmp_path / "a.png").open("w") as file:
        file.write("a")
        file.flush()
        assert next(found) == f"{tmp_path}/a.png"


def test_folders_made_later_are_watched(watching: Watch, tmp_path: Path) -> None:
    outside = tmp_path / "out" / "deep"
    outside.mkdir(parents=True)
    (outside / "moved.png").write_text("in a folder moved in")
    (outside / "circle.png").symlink_to("circle.png")
    inside = tmp_path / "in"
    inside.mkdir()
    found = watching(inside)
    (inside / "x" / "y").mkdir(parents=True)
    (inside / "x" / "y" / "a.png").write_text("at once")
    assert next(found) == f"{inside}/x/y/a.png"
    (inside / "x" / "y" / "b.png").write_text("later")
    assert next(found) == f"{inside}/x/y/b.png"
    outside.parent.rename(inside / "z")
    assert next(found) == f"{inside}/z/deep/moved.png"
    (inside / "z" / "deep").rename(inside / "w")
    assert next(found) == f"{inside}/w/moved.png"
    (inside / "w" / "c.png").write_text("under its new name")
    assert next(found) == f"{inside}/w/c.png"


def test_many_folders_and_files_made_at_once_are_all_found_once(watching: Watch, tmp_path: Path) -> None:
    found = watching(tmp_path)
    expected = set()
    for number in range(60):
        folder = tmp_path / f"{number % 7}" / f"{number}"
        folder.mkdir(parents=True)
        (folder / "a.png").write_text("a")
        expected.add(f"{folder}/a.png")
    got = [next(found) for _ in expected]
    assert set(got) == expected
    (tmp_path / "last.png").write_text("last")
    assert next(found) == f"{tmp_path}/last.png"


def test_not_recursive(watching: Watch, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    found = watching(tmp_path, recursive=False)
    (tmp_path / "sub" / "a.png").write_text("a")
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "b.png").write_text("b")
    (tmp_path / "c.png").write_text("c")
    assert next(found) == f"{tmp_path}/c.png"


def test_what_is_left_out(watching: Watch, tmp_path: Path) -> None:
    inside, outside = tmp_path / "in", tmp_path / "out"
    (inside / ".git").mkdir(parents=True)
    (inside / "there").symlink_to(outside)
    outside.mkdir()
    found = watching(inside, wanted=lambda path: path.endswith(".png"))
    (inside / ".git" / "a.png").write_text("a")
    (inside / ".new").mkdir()
    (inside / ".new" / "b.png").write_text("b")
    (inside / ".c.png").write_text("c")
    (inside / "d.txt").write_text("d")
    (inside / "folder.png").mkdir()
    (inside / "here").symlink_to(outside)
    (outside / "e.png").write_text("e")
    (inside / "gone.png").symlink_to("nowhere")
    os.mkfifo(inside / "pipe.png")
    (inside / "link.png").symlink_to(outside / "e.png")
    assert next(found) == f"{inside}/link.png"
    (inside / "last.png").write_text("f")
    assert next(found) == f"{inside}/last.png"


def test_a_name_that_is_not_utf8_ends_nothing(watching: Watch, tmp_path: Path) -> None:
    found = watching(tmp_path)
    odd = os.path.join(os.fsencode(tmp_path), b"\xff.png")
    (tmp_path / "a.png").write_text("a")
    with open(odd, "w") as file:
        file.write("odd")
    assert {next(found), next(found)} == {f"{tmp_path}/a.png", os.fsdecode(odd)}
    (tmp_path / "b.png").write_text("b")
    assert next(found) == f"{tmp_path}/b.png"


def test_the_end_by_stop(watching: Watch, stop: threading.Event, tmp_path: Path) -> None:
    found = watching(tmp_path)
    (tmp_path / "a.png").write_text("a")
    assert next(found) == f"{tmp_path}/a.png"
    stop.set()
    assert list(found) == []


def test_a_folder_that_is_gone_is_an_error(watching: Watch, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    found = watching(folder)
    folder.rmdir()
    with pytest.raises(InputError, match="in: the folder is gone") as caught:
        next(found)
    assert caught.value.kind == "missing"


def test_what_is_no_folder(watching: Watch, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("a")
    for name in ("a.png", "none"):
        with pytest.raises(UsageError, match=f"{name}: no such directory"):
            watching(tmp_path, tmp_path / name)


# ---- Settling by a clock of its own ----------------------------------------------------------------


def test_a_file_settles_by_the_clock_from_its_last_change(tmp_path: Path) -> None:
    clock = Clock()
    settling = Settling(0.5, 10.0, clock)
    path = tmp_path / "a.png"
    path.write_text("a")
    settling.note([str(path)])
    clock.now += 0.4
    path.write_text("ab")  # no event tells of it
    clock.now += 0.2
    assert list(settling.complete()) == []
    clock.now += 0.4
    settling.note([str(path)])
    assert list(settling.complete()) == []
    clock.now += 0.2
    assert list(settling.complete()) == [str(path)]
    settling.note([str(path)])
    clock.now += 1
    assert list(settling.complete()) == []


def test_an_empty_file_is_waited_for_longer(tmp_path: Path) -> None:
    clock = Clock()
    settling = Settling(0.5, 10.0, clock)
    empty, copy = tmp_path / "empty.png", tmp_path / "copy.png"
    empty.touch()
    copy.touch()
    settling.note([str(empty), str(copy)])
    clock.now += 9
    copy.write_text("a")
    assert list(settling.complete()) == []
    clock.now += 1
    assert list(settling.complete()) == [str(empty), str(copy)]


def test_a_file_that_goes_before_it_is_complete_is_forgotten(tmp_path: Path) -> None:
    clock = Clock()
    settling = Settling(0.5, 10.0, clock)
    paths = [tmp_path / f"{number}.png" for number in range(3)]
    for path in paths:
        path.write_text("a")
    settling.note([str(path) for path in paths])
    paths[0].unlink()
    settling.note([str(paths[0])])
    paths[1].unlink()  # no event tells of it
    clock.now += 1
    assert list(settling.complete()) == [str(paths[2])]


def test_files_come_in_the_order_of_their_last_change(tmp_path: Path) -> None:
    clock = Clock()
    settling = Settling(0.5, 10.0, clock)
    paths = [str(tmp_path / name) for name in "cab"]
    for moment, path in enumerate(paths):
        Path(path).write_text("a")
        os.utime(path, (moment, moment))
    settling.note(sorted(paths))
    clock.now += 0.1
    Path(paths[0]).write_text("once more")
    settling.note([paths[0]])
    clock.now += 1
    assert list(settling.complete()) == [paths[1], paths[2], paths[0]]


def test_a_file_that_changes_while_those_before_it_are_worked_on_is_waited_for(tmp_path: Path) -> None:
    clock = Clock()
    settling = Settling(0.5, 10.0, clock)
    first, second = tmp_path / "a.png", tmp_path / "b.png"
    for moment, path in enumerate((first, second)):
        path.write_text("a")
        os.utime(path, (moment, moment))
    settling.note([str(first), str(second)])
    clock.now += 1
    complete = settling.complete()
    assert next(complete) == str(first)
    second.write_text("more")
    assert list(complete) == []
    clock.now += 1
    assert list(settling.complete()) == [str(second)]


def test_few_files_given_are_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "MAX_REMEMBERED", 2)
    clock = Clock()
    settling = Settling(0.5, 10.0, clock)
    paths = [str(tmp_path / name) for name in "abc"]
    for path in paths:
        Path(path).write_text("a")
        settling.note([path])
        clock.now += 1
        assert list(settling.complete()) == [path]
    settling.note(paths)
    clock.now += 1
    assert list(settling.complete()) == paths[:1]


def test_what_was_there_comes_first_and_once_and_what_is_being_written_when_it_is_whole(tmp_path: Path) -> None:
    old, growing = tmp_path / "old.png", tmp_path / "growing.png"
    old.write_bytes(b"whole")
    os.utime(old, (1, 1))
    stop = threading.Event()
    with growing.open("wb") as file:
        file.write(b"ha")
        file.flush()
        found = watch_arrivals([str(tmp_path)], lambda path: True, stop, existing=[str(old), str(growing)], settle=0.05)
        assert next(found) == str(old)
        later = tmp_path / "later.png"
        later.write_bytes(b"whole too")
        assert next(found) == str(later)
        file.write(b"lf")
    assert next(found) == str(growing)
    stop.set()
    assert list(found) == []
