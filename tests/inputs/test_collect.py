"""inputs/collect.py, walk.py and load.py: arguments to items, and items to bytes."""

from __future__ import annotations

import glob
import io
import os
import random
import resource
import subprocess
import threading
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from PIL import Image, features

from smolcli.errors import ErrorKind, InputError, UsageError
from smolcli.inputs import collect, walk
from smolcli.inputs.collect import InputCollector
from smolcli.inputs.image import FORMATS
from smolcli.inputs.load import load, open_pictures
from smolcli.inputs.walk import natural_key
from smolcli.options import Input, Output
from smolcli.types import Fault, Item


def picture(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (3, 2), "red").save(path, "PNG")
    return path


def items(*inputs: object, output: Output | None = None, stdin: BinaryIO | None = None, **options: Any) -> list[Item]:
    return list(InputCollector(Input(tuple(map(str, inputs)), **options), output, stdin).items())


def paths(*inputs: object, **options: Any) -> list[str]:
    return [item.path for item in items(*inputs, **options)]


def decoded_width(item: Item) -> int:
    """Return the width of an item's first picture."""
    return open_pictures(item, load(item)[0], Input()).media.frames[0].width


def error_kind(item: Item) -> str:
    """Return the kind of the error that opening an item raises."""
    with pytest.raises(InputError) as caught:
        decoded_width(item)
    return caught.value.kind


def test_directory_is_walked_in_natural_order_without_hidden_files_and_other_kinds(tmp_path: Path) -> None:
    for name in ("p10.png", "p2.PNG", "sub/a.jpg", ".hidden.png", ".git/b.png"):
        picture(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no")
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "loop").symlink_to(tmp_path)
    assert paths(tmp_path) == [f"{tmp_path}/{name}" for name in ("p2.PNG", "p10.png", "sub/a.jpg")]
    assert paths(tmp_path, recursive=False) == [f"{tmp_path}/p2.PNG", f"{tmp_path}/p10.png"]


def test_a_folder_where_nothing_matches_names_the_pattern(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    [nothing] = InputCollector(Input((str(tmp_path),), include=("*.jpg", "*.gif")), Output()).items()
    message = "no file in it matches --include *.jpg *.gif; check the pattern"
    assert (nothing.path, nothing.fault) == (str(tmp_path), Fault(ErrorKind.NO_INPUT, message))
    [taken] = InputCollector(Input((str(tmp_path),), include=("*.PNG",)), Output()).items()
    assert taken.fault is None


def test_the_originals_that_exiftool_keeps_are_no_inputs(tmp_path: Path) -> None:
    for name in ("a.png", "a.png_original", "a.png_exiftool_tmp"):
        picture(tmp_path / "x.png").rename(tmp_path / name)
    assert paths(tmp_path) == [f"{tmp_path}/a.png"]
    assert paths(tmp_path, include=("*",), output=Output(write_metadata=True)) == [f"{tmp_path}/a.png"]


def test_natural_key_orders_by_numbers_and_letters_ignoring_case() -> None:
    """Compare with a simple key: the alternating texts and numbers of a name."""
    import re

    def simple_key(name: str) -> list[tuple[int, int, str]]:
        parts = re.findall(r"[0-9]+|[^0-9]+", name.casefold())
        return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts]

    chance = random.Random(0)
    names = {"".join(chance.choice("aB01290_-. é") for _ in range(chance.randrange(1, 9))) for _ in range(3000)}
    by_key = sorted(names, key=lambda name: (natural_key(name), name))
    assert [simple_key(name) for name in by_key] == sorted(map(simple_key, names))


def test_sorting_in_parts_on_disk_gives_the_same_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"p{n}.png" for n in range(50)] + ["a\nb.png", "a b .png", "Z.png", "é.png", os.fsdecode(b"\xff.png")]
    for name in names:
        (tmp_path / name).touch()
    (tmp_path / "p7").mkdir()
    (tmp_path / "p7" / "x.png").touch()
    expected = paths(tmp_path)
    monkeypatch.setattr(walk, "MAX_SORTED_IN_MEMORY", 4)
    assert paths(tmp_path) == expected
    assert len(expected) == len(names) + 1


def test_include_and_exclude(tmp_path: Path) -> None:
    for name in ("a.png", "a.txt", "b.jpg", "old/a.png", "new/a.png", "new/raw/c.png"):
        picture(tmp_path / name)

    def below(**options: Any) -> list[str]:
        return [os.path.relpath(path, tmp_path) for path in paths(tmp_path, **options)]

    assert below(include=("*.txt", "b.*")) == ["a.txt", "b.jpg"]
    assert below(exclude=("old", "b.jpg")) == ["a.png", "new/a.png", "new/raw/c.png"]
    assert below(exclude=("new/*",)) == ["a.png", "b.jpg", "old/a.png"]
    assert below(include=("new/*.png",)) == ["new/a.png", "new/raw/c.png"]
    assert below(include=("*.png",), exclude=("*/raw/*",)) == ["a.png", "new/a.png", "old/a.png"]


def test_files_written_by_the_run_are_no_inputs(tmp_path: Path) -> None:
    picture(tmp_path / "in" / "a.png")
    for output_name in ("out/a.txt", "out/b.png", "result.png", "a.txt"):
        picture(tmp_path / "in" / output_name)
    folder = tmp_path / "in"
    assert len(paths(folder, include=("*",))) == 5
    out = Output(output=folder / "result.png", sidecar=(".txt",), out_dir=folder / "out")
    assert paths(folder, include=("*",), output=out) == [f"{folder}/a.png", f"{folder}/a.txt"]
    beside = Output(sidecar=(".txt",))
    assert f"{folder}/a.txt" not in paths(folder, include=("*",), output=beside)


def test_pattern_not_expanded_by_the_shell(tmp_path: Path) -> None:
    for name in ("p10.png", "p9.png", "sub/p1.png"):
        picture(tmp_path / name)
    assert paths(tmp_path / "*.png") == [f"{tmp_path}/p9.png", f"{tmp_path}/p10.png"]
    assert paths(tmp_path / "**/p1*.png") == [f"{tmp_path}/p10.png", f"{tmp_path}/sub/p1.png"]
    [nothing] = items(tmp_path / "*.gif")
    assert nothing.fault == Fault(ErrorKind.NO_INPUT, "no file matches; check the pattern")
    odd = picture(tmp_path / "what[1].png")
    assert paths(odd) == [str(odd)]


def test_patterns_match_like_glob_except_links_and_hidden_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("a.png", "b1.png", "b2.jpg", "x.txt", "one/a.png", "one/b1.png", "one/two/a.png", "one/two/x.txt",
             "two/one/a.png", "two/b[1].png", "a]c.png", "a-c.png", "a&c.png", "a^c.png", "a!c.png")  # fmt: skip
    for name in names:
        picture(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    for pattern in ("*.png", "**/*.png", "one/**/a.png", "*/a.png", "*/*/a.png", "**/b?.*", "one/*/*", "[ab]*.png",
                    "[!a]*.png", "**/b[[]1].png", "o?e/*.png", "./*.png", "**/two/*.txt",
                    "a[]]c.png", "a[!]]c.png", "a[]^-]c.png", "a[&&x]c.png", "a[--]c.png", "a[z-a]c.png",
                    "a[!z-a]c.png", "a[+--]c.png", "a[!]c.png", "a[]c.png", "one[!x]*.png",
                    "one[+-9]*.png", "[\\a].png"):  # fmt: skip
        expected = {path for path in glob.glob(pattern, recursive=True) if os.path.isfile(path)}
        matches = {item.path for item in items(pattern) if item.fault is None}
        assert set(map(os.path.normpath, matches)) == set(map(os.path.normpath, expected)), pattern
    assert set(paths("o*")) == {"one/a.png", "one/b1.png", "one/two/a.png"}  # of the folder `one`, the known suffixes
    (tmp_path / "two" / "loop").symlink_to(tmp_path)
    assert len(paths("**/a.png")) == 4


def test_pattern_skips_folders_that_cannot_contain_a_match(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a.png", "in/b.png", "in/deep/c.png", "out/d.png"):
        picture(tmp_path / name)
    seen: list[str] = []
    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: seen.append(os.path.relpath(path, tmp_path)) or scandir(path))
    assert len(paths(tmp_path / "i*/*.png")) == 1
    assert sorted(seen) == [".", "in"]
    seen.clear()
    assert len(paths(tmp_path / "*.png")) == 1
    assert seen == ["."]


def test_tree_deeper_than_the_recursion_limit(tmp_path: Path) -> None:
    folder = os.open(tmp_path, os.O_RDONLY)
    for _ in range(1200):
        os.mkdir("d", dir_fd=folder)
        inside = os.open("d", os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder = inside
    os.close(os.open("a.png", os.O_CREAT | os.O_WRONLY, dir_fd=folder))
    os.close(folder)
    assert len(paths(tmp_path)) == 1
    subprocess.run(["rm", "-rf", tmp_path / "d"], check=True)


def test_one_folder_is_open_at_a_time(tmp_path: Path) -> None:
    picture(tmp_path.joinpath(*["d"] * 150, "a.png"))
    lowest_free = os.dup(0)
    os.close(lowest_free)
    most_files, allowed = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free + 100, allowed))
    try:
        totals = list(InputCollector(Input((str(tmp_path),))).survey())
        walked = paths(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most_files, allowed))
    assert totals == [(1, os.path.getsize(walked[0]))]
    assert [os.path.basename(path) for path in walked] == ["a.png"]


def test_list_from_a_pipe_is_read_in_this_process() -> None:
    read_end, write_end = os.pipe()
    os.write(write_end, b"a.png\nb.png\n")
    os.close(write_end)
    collector = InputCollector(Input(files_from=f"/dev/fd/{read_end}"))
    collector.collect_in_background()
    assert [item.path for item in collector.items()] == ["a.png", "b.png"]
    os.close(read_end)


def test_minus_in_a_list_is_a_file_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert paths(files_from="-", stdin=io.BytesIO(b"a.png\n-\nb.png\n")) == ["a.png", "./-", "b.png"]


@pytest.mark.parametrize(("end", "null"), [("\n", False), ("\0", True)])
def test_list_of_paths(tmp_path: Path, end: str, null: bool) -> None:
    named = [picture(tmp_path / name) for name in ("b.png", "a b.png", "folder/c.png")]
    lines = [str(named[0]), "", str(named[1]), str(tmp_path / "folder")]
    (tmp_path / "list").write_text(end.join(lines))
    listed = paths(files_from=str(tmp_path / "list"), null=null)
    assert listed == [str(path) for path in named]
    assert paths(files_from="-", null=null, stdin=io.BytesIO(end.join(lines).encode())) == listed
    newline = picture(tmp_path / "two\nlines.png")
    assert paths(files_from="-", null=True, stdin=io.BytesIO(f"{newline}\0".encode())) == [str(newline)]


def test_list_from_a_pipe_is_read_line_by_line() -> None:
    """The first path is an item before the pipe ends."""
    read_end, write_end = os.pipe()
    os.write(write_end, b"one.png\ntwo")
    listed = InputCollector(Input(files_from="-"), stdin=open(read_end, "rb")).items()
    assert next(listed).path == "one.png"
    os.write(write_end, b".png\n")
    assert next(listed).path == "two.png"
    os.close(write_end)
    assert next(listed, None) is None


def test_contradicting_options_are_usage_errors() -> None:
    for options in (
        Input(("-",), files_from="-"), Input(("a",), null=True), Input(files_from="/nowhere/list"),
        Input(("a",), shard="0/4"), Input(("a",), shard="5/4"), Input(("a",), shard="1"), Input(("a",), shard="1/x"),
    ):  # fmt: skip
        with pytest.raises(UsageError):
            InputCollector(options)


def test_shards_partition_the_inputs_and_new_files_move_none() -> None:
    names = [f"photos/{n}.jpg" for n in range(1000)]

    def shard(number: int, of: list[str]) -> list[str]:
        listed = io.BytesIO("\n".join(of).encode())
        return paths(files_from="-", shard=f"{number}/4", stdin=listed)

    parts = [shard(number, names) for number in (1, 2, 3, 4)]
    assert sorted(path for part in parts for path in part) == sorted(names)
    assert all(200 < len(part) < 300 for part in parts)
    more = names + [f"photos/new{n}.jpg" for n in range(100)]
    assert all(set(part) <= set(shard(number, more)) for number, part in enumerate(parts, 1))


def test_survey_counts_files_and_bytes(tmp_path: Path) -> None:
    pictures = [picture(tmp_path / f"{n}.png") for n in range(5)]
    *_, (count, size) = InputCollector(Input((str(tmp_path), "nowhere.png"))).survey()
    assert (count, size) == (6, sum(path.stat().st_size for path in pictures))
    assert list(InputCollector(Input(files_from="-")).survey()) == []


def test_missing_file_is_an_error_only_when_it_is_opened(tmp_path: Path) -> None:
    gone = picture(tmp_path / "a.png")
    [item] = items(gone)
    gone.unlink()
    assert error_kind(item) == "missing"


def test_picture_is_recognised_by_its_content_not_its_name(tmp_path: Path) -> None:
    [item] = items(picture(tmp_path / "picture.txt"))
    assert decoded_width(item) == 3


def test_reads_path_follows_links(tmp_path: Path) -> None:
    inside, outside = picture(tmp_path / "in/sub/a.png"), picture(tmp_path / "b.png")
    link = tmp_path / "link.png"
    link.symlink_to(inside)
    assert InputCollector(Input((str(inside),))).reads_path(link)
    assert InputCollector(Input((str(link),))).reads_path(inside)
    assert InputCollector(Input(files_from=str(link))).reads_path(inside)
    assert not InputCollector(Input((str(inside),))).reads_path(outside)
    assert not InputCollector(Input((str(inside),))).reads_path(tmp_path / "new.png")


def test_standard_input_is_read_when_collected_and_a_named_pipe_when_opened(tmp_path: Path) -> None:
    data = picture(tmp_path / "a.png").read_bytes()
    [item] = items("-", stdin=io.BytesIO(data))
    assert (item.path, item.sources[0].data) == ("-", data)
    assert decoded_width(item) == decoded_width(item) == 3
    read_end, write_end = os.pipe()
    os.write(write_end, data)
    os.close(write_end)
    [item] = items(f"/dev/fd/{read_end}")
    assert item.sources[0].data == data
    os.close(read_end)
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=(tmp_path / "pipe").write_bytes, args=(data,))
    [item] = items(tmp_path / "pipe")
    assert item.sources[0].data is None
    writer.start()
    assert decoded_width(item) == 3
    writer.join()


def test_a_pipe_that_cannot_be_read_is_no_file_of_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine's process has other files under these names, and a file "-" may be in the folder."""
    monkeypatch.chdir(tmp_path)
    picture(tmp_path / "-")
    with open(tmp_path / "out", "wb", buffering=0) as not_readable:
        [item] = items("-", stdin=not_readable)
    assert item.fault is not None and item.fault.kind == "unreadable"
    unused = os.dup(0)
    os.close(unused)
    [item] = items(f"/dev/fd/{unused}")
    assert item.fault is not None and item.fault.kind == "unreadable"


@pytest.mark.parametrize(
    ("name", "kind"),
    [("empty.png", "empty"), ("gone.png", "missing"), ("x" * 300, "unreadable"), ("a\0b", "unreadable"),
     ("folder.png", "no-input")],
)  # fmt: skip
def test_unreadable_files_have_error_kinds(tmp_path: Path, name: str, kind: str) -> None:
    (tmp_path / "empty.png").touch()
    (tmp_path / "folder.png").mkdir()
    [item] = items(f"{tmp_path}/{name}")
    assert error_kind(item) == kind


def test_too_many_bytes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("smolcli.inputs.load.MAX_BYTES", 1000)
    [item] = items("/dev/zero")
    assert error_kind(item) == "too-large"
    monkeypatch.setattr(collect, "MAX_PIPED_BYTES", 1000)
    monkeypatch.setattr("smolcli.inputs.load.MAX_PIPED_BYTES", 1000)
    [item] = items("-", stdin=io.BytesIO(bytes(5000)))
    assert error_kind(item) == "too-large"


def test_folder_that_cannot_be_listed_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    picture(tmp_path / "open" / "a.png")
    picture(tmp_path / "shut" / "b.png")
    scandir = os.scandir

    def refusing(path: str) -> object:
        if str(path).endswith("shut"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    good, bad = items(tmp_path)
    assert decoded_width(good) == 3
    assert error_kind(bad) == "unreadable"


def test_circular_link_is_an_error_and_the_walk_continues(tmp_path: Path) -> None:
    (tmp_path / "a.png").symlink_to("a.png")
    picture(tmp_path / "b.png")
    bad, good = items(tmp_path)
    assert decoded_width(good) == 3
    assert error_kind(bad) == "unreadable"


def test_suffixes_of_the_walk_are_those_of_the_formats_read() -> None:
    """Pillow knows which suffixes its formats have; the plugins of the extra `formats` are loaded only where used."""
    formats, plugins = {*FORMATS, "MPO", "ICO"}, {".heic", ".heif", ".hif", ".jxl"}
    camera_raw = {".dng", ".nef", ".arw", ".cr2", ".cr3", ".raf", ".orf", ".rw2", ".pef", ".srw"}
    assert features.check("avif")
    registered = {suffix for suffix, name in Image.registered_extensions().items() if name in formats}
    assert walk.SUFFIXES["image"] - plugins - camera_raw == registered - plugins


def test_is_many(tmp_path: Path) -> None:
    def has_many(*inputs: str, **options: Any) -> bool:
        return InputCollector(Input(inputs, **options)).has_many

    assert has_many("a.png", "b.png") and has_many(str(tmp_path)) and has_many("*.png") and has_many(files_from="-")
    assert not has_many("a.png")


def test_names_that_are_not_utf8_or_have_a_newline(tmp_path: Path) -> None:
    for name in (b"\xff\xfe.png", b"two\nlines.png"):
        picture(Path(os.fsdecode(os.path.join(os.fsencode(tmp_path), name))))
    assert [decoded_width(item) for item in items(tmp_path)] == [3, 3]


def test_common_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("in/a/x.png", "in/b/y.png"):
        picture(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    assert InputCollector(Input(("in",))).common_folder() == "in"
    assert InputCollector(Input(("in/a/x.png",))).common_folder() == "in/a"
    assert InputCollector(
        Input(
            (
                "in/a",
                "in/b",
            )
        )
    ).common_folder() == str(tmp_path / "in")
    assert InputCollector(
        Input(
            (
                "in/a/x.png",
                "in/b/y.png",
            )
        )
    ).common_folder() == str(tmp_path / "in")
    assert InputCollector(Input(("in/**/*.png",))).common_folder() == "in"
    (tmp_path / "list").write_text("in/a/x.png")
    assert InputCollector(Input(files_from="list")).common_folder() == "."
