"""inputs/words.py: words to items."""

import io
import os
import threading
from pathlib import Path

import pytest
from PIL import Image

from smolcli.errors import InputError
from smolcli.inputs import words
from smolcli.inputs.image import FORMATS
from smolcli.inputs.words import is_many, items, takes
from smolcli.options import Input


def picture(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (3, 2), "red").save(path, "PNG")
    return path


def paths(*words: object, **options: object) -> list[str]:
    return [item.path for item in items(Input(tuple(map(str, words)), **options))]


def test_a_directory_is_walked_in_natural_order_without_hidden_files_and_other_kinds(tmp_path: Path) -> None:
    for name in ("p10.png", "p2.PNG", "sub/a.jpg", ".hidden.png", ".git/b.png"):
        picture(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no")
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "loop").symlink_to(tmp_path)
    assert paths(tmp_path) == [f"{tmp_path}/{name}" for name in ("p2.PNG", "p10.png", "sub/a.jpg")]
    assert paths(tmp_path, recursive=False) == [f"{tmp_path}/p2.PNG", f"{tmp_path}/p10.png"]


def test_nothing_is_opened_before_it_is_read(tmp_path: Path) -> None:
    gone = picture(tmp_path / "a.png")
    [item] = items(Input((str(gone),)))
    gone.unlink()
    with pytest.raises(InputError, match="no such file") as caught:
        item.read()
    assert caught.value.kind == "missing"


def test_a_picture_is_known_by_its_content_not_its_name(tmp_path: Path) -> None:
    [item] = items(Input((str(picture(tmp_path / "picture.txt")),)))
    assert item.read().frames[0].width == 3


def test_what_the_words_take_is_known_under_every_name(tmp_path: Path) -> None:
    inside, outside = picture(tmp_path / "in/sub/a.png"), picture(tmp_path / "b.png")
    link, notes = tmp_path / "link.png", tmp_path / "in/notes.jsonl"
    link.symlink_to(inside)
    notes.write_text("{}")
    for words_ in ((inside,), (link,), (outside, tmp_path / "in")):
        assert takes(Input(tuple(map(str, words_))), inside)
        assert not takes(Input(tuple(map(str, words_))), notes)
        assert not takes(Input(tuple(map(str, words_))), tmp_path / "in/new.png")
    assert not takes(Input((str(tmp_path / "in"),)), outside)


def test_standard_input(tmp_path: Path) -> None:
    data = picture(tmp_path / "a.png").read_bytes()
    [item] = items(Input(("-",)), io.BytesIO(data))
    assert (item.path, item.read().frames[0].height) == ("-", 2)


@pytest.mark.parametrize(
    ("name", "kind"),
    [("empty.png", "empty"), ("gone.png", "missing"), ("x" * 300, "unreadable"), ("a\0b", "unreadable")],
)
def test_bad_files(tmp_path: Path, name: str, kind: str) -> None:
    (tmp_path / "empty.png").touch()
    [item] = items(Input((f"{tmp_path}/{name}",)))
    with pytest.raises(InputError) as caught:
        item.read()
    assert caught.value.kind == kind


def test_a_pipe_named_outright_is_read(tmp_path: Path) -> None:
    data = picture(tmp_path / "a.png").read_bytes()
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=(tmp_path / "pipe").write_bytes, args=(data,))
    writer.start()
    [item] = items(Input((str(tmp_path / "pipe"),)))
    assert item.read().frames[0].width == 3
    writer.join()


def test_more_bytes_than_a_picture_has_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(words, "MOST_BYTES", 1000)
    [item] = items(Input(("/dev/zero",)))
    with pytest.raises(InputError, match="more than 1,000 bytes"):
        item.read()


def test_a_folder_that_cannot_be_listed_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    picture(tmp_path / "open" / "a.png")
    picture(tmp_path / "shut" / "b.png")
    scandir = os.scandir

    def refusing(path: str) -> object:
        if str(path).endswith("shut"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    good, bad = items(Input((str(tmp_path),)))
    assert good.read().frames
    with pytest.raises(InputError) as caught:
        bad.read()
    assert caught.value.kind == "unreadable"


def test_a_link_in_a_circle_is_an_error_and_the_folder_is_read_on(tmp_path: Path) -> None:
    (tmp_path / "a.png").symlink_to("a.png")
    picture(tmp_path / "b.png")
    bad, good = items(Input((str(tmp_path),)))
    assert good.read().frames
    with pytest.raises(InputError, match="cannot be read") as caught:
        bad.read()
    assert caught.value.kind == "unreadable"


def test_a_walk_takes_up_what_the_reader_reads() -> None:
    kinds = Image.registered_extensions()
    assert {kinds[suffix] for suffix in words.SUFFIXES} == set(FORMATS)


def test_many(tmp_path: Path) -> None:
    assert is_many(Input(("a.png", "b.png")))
    assert is_many(Input((str(tmp_path),)))
    assert not is_many(Input(("a.png",)))


def test_a_name_that_is_not_utf8_and_one_with_a_newline(tmp_path: Path) -> None:
    for name in (b"\xff\xfe.png", b"two\nlines.png"):
        picture(Path(os.fsdecode(os.path.join(os.fsencode(tmp_path), name))))
    assert all(item.read().frames for item in items(Input((str(tmp_path),))))
