"""inputs/watch.py, with real folders.

No test sleeps: each waits for the next file, and `stop` ends the watch if none arrives.
"""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

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
    """An event that is set after half a minute, so that a test fails and does not hang if no file arrives."""
    event = threading.Event()
    timer = threading.Timer(30, event.set)
    timer.start()
    yield event
    timer.cancel()


Watch = Callable[..., Iterator[str]]


@pytest.fixture
def watching(stop: threading.Event) -> Watch:
    def start(*folders: object, accepts: Callable[[str], bool] = lambda path: True, **more: Any) -> Iterator[str]:
        return watch_arrivals([str(folder) for folder in folders], accepts, stop, settle=SETTLE, **more)

    return start


def test_files_are_seen_from_the_call_on(watching: Watch, tmp_path: Path) -> None:
    (tmp_path / "before.png").write_text("before")
    arrivals = watching(tmp_path)
    (tmp_path / "a.png").write_text("a")
    assert next(arrivals) == f"{tmp_path}/a.png"
    (tmp_path / "b.png").write_text("b")
    assert next(arrivals) == f"{tmp_path}/b.png"


def test_paths_begin_as_the_folder_was_given(watching: Watch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "real" / "sub").mkdir(parents=True)
    (tmp_path / "link").symlink_to("real")
    monkeypatch.chdir(tmp_path)
    arrivals = watching("link/", "real/sub")
    Path("real/a.png").write_text("a")
    assert next(arrivals) == "link/a.png"
    Path("real/sub/b.png").write_text("b")
    assert next(arrivals) == "link/sub/b.png"


def test_file_is_yielded_again_after_it_was_written_and_not_after_it_was_read(watching: Watch, tmp_path: Path) -> None:
    arrivals = watching(tmp_path)
    first, second = tmp_path / "a.png", tmp_path / "b.png"
    first.write_text("a")
    assert next(arrivals) == str(first)
    first.chmod(0o600)
    first.read_bytes()
    second.write_text("b")
    assert next(arrivals) == str(second)
    first.write_text("other")
    assert next(arrivals) == str(first)
    os.utime(second, (1, 1))
    assert next(arrivals) == str(second)


def test_file_moved_in_is_yielded_and_again_after_it_was_moved_out(watching: Watch, tmp_path: Path) -> None:
    inside, outside = tmp_path / "in" / "a.png", tmp_path / "out.png"
    inside.parent.mkdir()
    outside.write_text("a")
    os.utime(outside, (1, 1))
    arrivals = watching(inside.parent)
    outside.rename(inside)
    assert next(arrivals) == str(inside)
    inside.rename(outside)
    (inside.parent / "b.png").write_text("b")
    assert next(arrivals) == f"{inside.parent}/b.png"
    outside.rename(inside)
    assert next(arrivals) == str(inside)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says whether a file is open for writing")
def test_file_open_for_writing_is_waited_for(watching: Watch, tmp_path: Path) -> None:
    arrivals = watching(tmp_path)
    with (tmp_path / "slow.png").open("w") as slow:
        slow.write("begin")
        slow.flush()
        (tmp_path / "quick.png").write_text("whole")
        assert next(arrivals) == f"{tmp_path}/quick.png"
        slow.write("more")
        slow.flush()
        (tmp_path / "later.png").write_text("whole")
        assert next(arrivals) == f"{tmp_path}/later.png"
    assert next(arrivals) == f"{tmp_path}/slow.png"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has leases")
def test_writer_during_the_lease_does_not_end_the_process(
    watching: Watch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    call, path = fcntl.fcntl, tmp_path / "a.png"

    def disturbed(file: int, command: int, argument: int) -> int:
        if command == fcntl.F_SETLEASE and argument == fcntl.F_UNLCK:
            with pytest.raises(BlockingIOError):
                os.open(path, os.O_WRONLY | os.O_NONBLOCK)
            disturbances.append(path)
        return call(file, command, argument)

    disturbances: list[Path] = []
    signals: list[int] = []
    before = signal.signal(signal.SIGIO, lambda number, frame: signals.append(number))  # its default ends the process
    monkeypatch.setattr("smolcli.inputs.watch.fcntl.fcntl", disturbed)
    arrivals = watching(tmp_path)
    path.write_text("a")
    assert next(arrivals) == str(path)
    signal.signal(signal.SIGIO, before)
    assert disturbances == [path] and signals == []


def test_file_only_has_to_settle_if_no_lease_is_granted(
    watching: Watch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*args: object) -> None:
        raise OSError(errno.EINVAL, "Invalid argument")

    if sys.platform == "linux":
        monkeypatch.setattr("smolcli.inputs.watch.fcntl.fcntl", refused)
    arrivals = watching(tmp_path)
    with (tmp_path / "a.png").open("w") as file:
        file.write("a")
        file.flush()
        assert next(arrivals) == f"{tmp_path}/a.png"


def test_new_folders_are_watched(watching: Watch, tmp_path: Path) -> None:
    outside = tmp_path / "out" / "deep"
    outside.mkdir(parents=True)
    (outside / "moved.png").write_text("in a folder moved in")
    (outside / "circle.png").symlink_to("circle.png")
    inside = tmp_path / "in"
    inside.mkdir()
    arrivals = watching(inside)
    (inside / "x" / "y").mkdir(parents=True)
    (inside / "x" / "y" / "a.png").write_text("at once")
    assert next(arrivals) == f"{inside}/x/y/a.png"
    (inside / "x" / "y" / "b.png").write_text("later")
    assert next(arrivals) == f"{inside}/x/y/b.png"
    outside.parent.rename(inside / "z")
    assert next(arrivals) == f"{inside}/z/deep/moved.png"
    (inside / "z" / "deep").rename(inside / "w")
    assert next(arrivals) == f"{inside}/w/moved.png"
    (inside / "w" / "c.png").write_text("under its new name")
    assert next(arrivals) == f"{inside}/w/c.png"


def test_many_new_folders_and_files_are_each_yielded_once(watching: Watch, tmp_path: Path) -> None:
    arrivals = watching(tmp_path)
    expected = set()
    for number in range(60):
        folder = tmp_path / f"{number % 7}" / f"{number}"
        folder.mkdir(parents=True)
        (folder / "a.png").write_text("a")
        expected.add(f"{folder}/a.png")
    arrived = [next(arrivals) for _ in expected]
    assert set(arrived) == expected
    (tmp_path / "last.png").write_text("last")
    assert next(arrivals) == f"{tmp_path}/last.png"


def test_links_to_folders_are_watched_if_they_are_followed(watching: Watch, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name in ("before", "later"):
        (tmp_path / name).mkdir()
    (tmp_path / "in" / "link").symlink_to("../before")
    (tmp_path / "before" / "circle").symlink_to("../in")
    arrivals = watching(tmp_path / "in", follow_links=True)
    (tmp_path / "before" / "a.png").write_text("a")
    assert next(arrivals) == f"{tmp_path}/in/link/a.png"
    (tmp_path / "later" / "b.png").write_text("b")
    (tmp_path / "in" / "new").symlink_to("../later")
    assert next(arrivals) == f"{tmp_path}/in/new/b.png"
    (tmp_path / "later" / "c.png").write_text("c")
    assert next(arrivals) == f"{tmp_path}/in/new/c.png"


def test_not_recursive(watching: Watch, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    arrivals = watching(tmp_path, recursive=False)
    (tmp_path / "sub" / "a.png").write_text("a")
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "b.png").write_text("b")
    (tmp_path / "c.png").write_text("c")
    assert next(arrivals) == f"{tmp_path}/c.png"


def test_hidden_and_other_files_are_left_out(watching: Watch, tmp_path: Path) -> None:
    inside, outside = tmp_path / "in", tmp_path / "out"
    (inside / ".git").mkdir(parents=True)
    (inside / "there").symlink_to(outside)
    outside.mkdir()
    arrivals = watching(inside, accepts=lambda path: path.endswith(".png"))
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
    assert next(arrivals) == f"{inside}/link.png"
    (inside / "last.png").write_text("f")
    assert next(arrivals) == f"{inside}/last.png"


def test_name_that_is_not_utf8_does_not_end_the_watch(watching: Watch, tmp_path: Path) -> None:
    arrivals = watching(tmp_path)
    odd = os.path.join(os.fsencode(tmp_path), b"\xff.png")
    (tmp_path / "a.png").write_text("a")
    with open(odd, "w") as file:
        file.write("odd")
    assert {next(arrivals), next(arrivals)} == {f"{tmp_path}/a.png", os.fsdecode(odd)}
    (tmp_path / "b.png").write_text("b")
    assert next(arrivals) == f"{tmp_path}/b.png"


def test_what_arrives_with_a_name_that_is_not_utf8_is_found_also_if_its_file_is_old(
    watching: Watch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The watch ends at such a name. A new link, or a file in a folder that was moved in, has the times of long ago."""
    inside, outside = tmp_path / "in", tmp_path / "out"
    inside.mkdir()
    (outside / "moved").mkdir(parents=True)
    (outside / "moved" / "b.png").write_text("b")
    (outside / "a.png").write_text("a")
    arrivals = watching(inside)
    (inside / "first.png").write_text("first")
    assert next(arrivals) == f"{inside}/first.png"
    monkeypatch.setattr(watch, "CLOCK_SLACK", 0.02)  # less than the files outside are older than the last event
    (inside / "link.png").symlink_to(outside / "a.png")
    (outside / "moved").rename(inside / "moved")
    odd = os.path.join(os.fsencode(inside), b"\xff.png")
    with open(odd, "w") as file:
        file.write("odd")
    expected = {os.fsdecode(odd), f"{inside}/link.png", f"{inside}/moved/b.png"}
    assert {next(arrivals), next(arrivals), next(arrivals)} == expected


def test_stop_ends_the_iteration(watching: Watch, stop: threading.Event, tmp_path: Path) -> None:
    arrivals = watching(tmp_path)
    (tmp_path / "a.png").write_text("a")
    assert next(arrivals) == f"{tmp_path}/a.png"
    stop.set()
    assert list(arrivals) == []


def test_removed_folder_is_an_error(watching: Watch, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    arrivals = watching(folder)
    folder.rmdir()
    with pytest.raises(InputError, match="in: the folder is gone") as caught:
        next(arrivals)
    assert caught.value.kind == "missing"


def test_path_that_is_no_folder_is_an_error(watching: Watch, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("a")
    for name in ("a.png", "none"):
        with pytest.raises(UsageError, match=f"{name}: no such directory"):
            watching(tmp_path, tmp_path / name)


# ---- Settling, with a clock of the test --------------------------------------------------------------


def test_file_settles_from_its_last_change_on(tmp_path: Path) -> None:
    clock = Clock()
    settling = Settling(0.5, 10.0, clock)
    path = tmp_path / "a.png"
    path.write_text("a")
    settling.note([str(path)])
    clock.now += 0.4
    path.write_text("ab")  # without an event
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


def test_empty_file_is_waited_for_longer(tmp_path: Path) -> None:
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


def test_file_removed_before_it_is_complete_is_forgotten(tmp_path: Path) -> None:
    clock = Clock()
    settling = Settling(0.5, 10.0, clock)
    paths = [tmp_path / f"{number}.png" for number in range(3)]
    for path in paths:
        path.write_text("a")
    settling.note([str(path) for path in paths])
    paths[0].unlink()
    settling.note([str(paths[0])])
    paths[1].unlink()  # without an event
    clock.now += 1
    assert list(settling.complete()) == [str(paths[2])]


def test_files_are_yielded_in_order_of_their_last_change(tmp_path: Path) -> None:
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


def test_file_that_changes_while_earlier_ones_are_processed_is_waited_for(tmp_path: Path) -> None:
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


def test_number_of_remembered_files_is_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_existing_files_come_first_and_incomplete_ones_when_complete(tmp_path: Path) -> None:
    old, growing = tmp_path / "old.png", tmp_path / "growing.png"
    old.write_bytes(b"whole")
    os.utime(old, (1, 1))
    stop = threading.Event()
    with growing.open("wb") as file:
        file.write(b"ha")
        file.flush()
        arrivals = watch_arrivals(
            [str(tmp_path)], lambda path: True, stop, existing=[str(old), str(growing)], settle=0.05
        )
        assert next(arrivals) == str(old)
        later = tmp_path / "later.png"
        later.write_bytes(b"whole too")
        assert next(arrivals) == str(later)
        file.write(b"lf")
    assert next(arrivals) == str(growing)
    stop.set()
    assert list(arrivals) == []
