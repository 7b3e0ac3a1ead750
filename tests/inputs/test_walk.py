"""inputs/walk.py: which files of a directory are taken, and what is counted as passed by."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from smolcli.inputs import signatures
from smolcli.inputs.collect import InputCollector
from smolcli.inputs.walk import FileFilter, PassedBy, walk
from smolcli.options import Input
from tests.helpers import png


def walked(folder: Path, file_filter: FileFilter | None = None, **options: Any) -> tuple[list[str], PassedBy]:
    """The paths below `folder` that a walk gives, and what it passed by."""
    passed_by = PassedBy()
    paths = list(walk(str(folder), True, file_filter or FileFilter(), passed_by=passed_by, **options))
    return [os.path.relpath(path, folder) for path in paths], passed_by


def put(folder: Path, *names: str, data: bytes = png()) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)


def test_files_of_unknown_suffix_are_taken_for_what_they_begin_as(tmp_path: Path) -> None:
    put(tmp_path, "IMG_1", "b.xyz", "c.dat")
    put(tmp_path, "notes.doc", "README", data=b"words")
    os.mkfifo(tmp_path / "pipe")  # opening it would wait for a writer
    assert walked(tmp_path) == (["b.xyz", "c.dat", "IMG_1"], PassedBy(other_files=3))
    assert walked(tmp_path, FileFilter(reads="video"))[0] == []


def test_files_of_known_suffix_are_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr(
        "smolcli.inputs.walk.begins_as", lambda path, reads: opened.append(os.path.basename(path)) or True
    )
    put(tmp_path, "a.png", "b.JPG", "c.MPO", "d.ico", "e.pfm", "clip.mp4", "a.txt", "a.json", "a.xmp", "half.part")
    assert walked(tmp_path) == (["a.png", "b.JPG", "c.MPO", "d.ico", "e.pfm"], PassedBy(other_files=1))
    assert opened == []


def test_hidden_files_and_those_of_systems_are_left_out_without_a_word(tmp_path: Path) -> None:
    put(tmp_path, "a.png", ".DS_Store", ".hidden/b.png", "Thumbs.db", "desktop.ini", "@eaDir/a.png/thumb.jpg",
        "$RECYCLE.BIN/c.png", "#recycle/d.png", "__MACOSX/._a.png")  # fmt: skip
    assert walked(tmp_path) == (["a.png"], PassedBy())


def test_what_the_user_leaves_out_is_not_counted(tmp_path: Path) -> None:
    put(tmp_path, "a.png", "captions.jsonl", "old/b.doc", "c.doc")
    outputs = FileFilter(exclude=("OLD", "*.DOC"), outputs=[tmp_path / "captions.jsonl"])
    assert walked(tmp_path, outputs) == (["a.png"], PassedBy())
    assert walked(tmp_path, FileFilter(include=("*.DOC",))) == (["c.doc", "old/b.doc"], PassedBy())


def test_patterns_of_include_and_exclude_ignore_case_as_suffixes_do(tmp_path: Path) -> None:
    put(tmp_path, "DSC_0001.JPG", "b.jpg", "Trip/c.Jpeg", "trip2/d.png")
    assert walked(tmp_path, FileFilter(include=("*.jpg", "trip/*")))[0] == ["b.jpg", "DSC_0001.JPG", "Trip/c.Jpeg"]
    assert walked(tmp_path, FileFilter(exclude=("*.jpg", "TRIP2")))[0] == ["Trip/c.Jpeg"]


def test_links_to_folders_are_counted_or_followed_and_each_folder_is_walked_once(tmp_path: Path) -> None:
    album = tmp_path / "album"
    put(tmp_path, "album/a.png", "album/sub/b.png", "elsewhere/c.png", "elsewhere/deep/d.png", "single.png")
    (album / "linked").symlink_to(tmp_path / "elsewhere")
    (album / "sub" / "up").symlink_to(album)
    (tmp_path / "elsewhere" / "back").symlink_to(album)
    (album / "file.png").symlink_to(tmp_path / "single.png")
    assert walked(album) == (["a.png", "file.png", "sub/b.png"], PassedBy(folder_links=2))
    paths, passed_by = walked(album, follow_links=True)
    assert paths == ["a.png", "file.png", "linked/c.png", "linked/deep/d.png", "sub/b.png"]
    assert passed_by == PassedBy()


def test_many_folders_that_link_to_each_other_are_walked_in_a_moment(tmp_path: Path) -> None:
    """Following every path between twelve folders would be 12! walks."""
    folders = [tmp_path / str(number) for number in range(12)]
    for folder in folders:
        put(folder, "a.png")
        for other in folders:
            (folder / f"to{other.name}").symlink_to(other)
    assert len(walked(tmp_path, follow_links=True)[0]) == 12


@pytest.mark.parametrize(
    ("passed_by", "noun", "words"),
    [
        (PassedBy(), "picture", ""),
        (PassedBy(other_files=1), "picture", "passed by 1 file that is no picture"),
        (PassedBy(other_files=1200), "video", "passed by 1,200 files that are no videos"),
        (PassedBy(folder_links=2), "video", "passed by 2 links to folders (--follow-links walks into links)"),
    ],
)
def test_what_was_passed_by_in_words(passed_by: PassedBy, noun: str, words: str) -> None:
    assert passed_by.describe(noun) == words


def test_counts_come_from_the_process_that_finds_inputs_in_the_background(tmp_path: Path) -> None:
    put(tmp_path, "a.png")
    put(tmp_path, "b.doc", data=b"words")
    (tmp_path / "link").symlink_to(tmp_path)
    collector = InputCollector(Input((str(tmp_path),)))
    collector.collect_in_background()
    assert [item.path for item in collector.items()] == [f"{tmp_path}/a.png"]
    assert collector.passed_by == PassedBy(1, 1)


def test_counting_for_the_progress_line_does_not_count_twice(tmp_path: Path) -> None:
    put(tmp_path, "b.doc", data=b"words")
    collector = InputCollector(Input((str(tmp_path),)))
    list(collector.survey())
    assert len(list(collector.items())) == 1  # the folder itself, which is an error
    assert collector.passed_by == PassedBy(other_files=1)


def test_a_look_at_a_file_costs_one_small_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path, "large", data=png() + bytes(10_000))
    sizes: list[int] = []

    class Recording:
        def __init__(self, path: str, mode: str, buffering: int) -> None:
            self._file = open(path, mode, buffering=buffering)

        def __enter__(self) -> Recording:
            return self

        def __exit__(self, *_: object) -> None:
            self._file.close()

        def read(self, size: int) -> bytes:
            data = self._file.read(size)
            sizes.append(len(data))
            return data

    monkeypatch.setattr(signatures, "open", Recording, raising=False)
    assert walked(tmp_path)[0] == ["large"]
    assert sizes == [256]
