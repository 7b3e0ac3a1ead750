"""inputs/words.py: words to items."""

import io
import os
from pathlib import Path

import pytest
from PIL import Image

from smolcli.errors import InputError
from smolcli.inputs.words import is_many, items
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


def test_standard_input(tmp_path: Path) -> None:
    data = picture(tmp_path / "a.png").read_bytes()
    [item] = items(Input(("-",)), io.BytesIO(data))
    assert (item.path, item.read().frames[0].height) == ("-", 2)


@pytest.mark.parametrize("kind", ["empty", "unsupported", "missing"])
def test_bad_files(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "x.png"
    if kind == "empty":
        path.touch()
    elif kind == "unsupported":
        os.mkfifo(path)
    [item] = items(Input((str(path),)))
    with pytest.raises(InputError) as caught:
        item.read()
    assert caught.value.kind == kind


def test_many(tmp_path: Path) -> None:
    assert is_many(Input(("a.png", "b.png")))
    assert is_many(Input((str(tmp_path),)))
    assert not is_many(Input(("a.png",)))


def test_a_name_that_is_not_utf8_and_one_with_a_newline(tmp_path: Path) -> None:
    for name in (b"\xff\xfe.png", b"two\nlines.png"):
        picture(Path(os.fsdecode(os.path.join(os.fsencode(tmp_path), name))))
    assert all(item.read().frames for item in items(Input((str(tmp_path),))))
