"""Bad and odd inputs through the executor: each has one record, beside a good picture that is answered.

The echo backend replies with the size of its picture, `[3x2]`. tests/inputs/test_image.py checks the pixels.
"""

from __future__ import annotations

import io
import json
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from smolcli.inputs.collect import InputCollector
from smolcli.options import Input, Output
from smolcli.tasks.caption import Caption
from smolcli.types import Item
from tests.helpers import records


def encoded(image: Image.Image, format: str = "PNG", **more: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **more)
    return buffer.getvalue()


NOISE = Image.effect_noise((64, 48), 80).convert("RGB")
GOOD = encoded(Image.new("RGB", (3, 2), "red"))


def bomb(width: int, height: int) -> bytes:
    """A PNG whose header says so many pixels, and that has none."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def rotated() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be displayed turned by 90 degrees
    return encoded(Image.new("RGB", (3, 2)), "JPEG", exif=exif)


def animated() -> bytes:
    frames = [Image.new("RGB", (5, 4), color) for color in ("red", "blue")]
    return encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])


CONTENTS: dict[str, tuple[Callable[[], bytes], str]] = {
    "zero bytes": (bytes, "empty"),
    "text renamed": (lambda: b"Dear Sir or Madam,\n", "unsupported"),
    "a page of HTML": (lambda: b"<!doctype html><title>404</title>", "unsupported"),
    "bomb": (lambda: bomb(50_000, 50_000), "too-large"),
    "bomb of one line": (lambda: bomb(2**31 - 1, 1), "too-large"),
    "1x1": (lambda: encoded(Image.new("RGB", (1, 1))), "[1x1]"),
    "20000x10": (lambda: encoded(Image.new("RGB", (20_000, 10))), "[20000x10]"),
    "CMYK": (lambda: encoded(Image.new("CMYK", (6, 5)), "JPEG"), "[6x5]"),
    "16 bits": (lambda: encoded(Image.new("I;16", (7, 6))), "[7x6]"),
    "palette": (lambda: encoded(Image.new("P", (8, 7)), transparency=0), "[8x7]"),
    "rotated": (rotated, "[2x3]"),
    "animated": (animated, "[5x4]"),
}
TRUNCATED = {
    f"{kind} cut at {tenth} tenths": (lambda kind=kind, tenth=tenth: cut(kind, tenth), "truncated unsupported")
    for kind in ("PNG", "JPEG", "WEBP", "GIF", "TIFF")
    for tenth in range(10)
}


def cut(kind: str, tenth: int) -> bytes:
    whole = encoded(NOISE, kind)
    return whole[: max(1, len(whole) * tenth // 10)]


@pytest.fixture(scope="module")
def by_name(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """The records of all of CONTENTS and TRUNCATED from one run, by name; the first and the last are good pictures."""
    folder = tmp_path_factory.mktemp("bad")
    for name, (content, _) in (CONTENTS | TRUNCATED).items():
        (folder / f"{name}.jpg").write_bytes(content())
    for name in ("0 good", "z good"):
        (folder / f"{name}.png").write_bytes(GOOD)
    written, _ = records(Caption(prompt="?"), InputCollector(Input((str(folder),))).items())
    assert len(written) == len(CONTENTS | TRUNCATED) + 2
    return {Path(record["path"]).stem: record for record in written}


@pytest.mark.parametrize("name", [*CONTENTS, *TRUNCATED, "0 good", "z good"])
def test_content(by_name: dict[str, dict[str, Any]], name: str) -> None:
    _, expected = (CONTENTS | TRUNCATED).get(name, (None, "[3x2]"))
    record = by_name[name]
    if record["error"]:
        assert record["error"]["kind"] in expected.split()
        assert record["text"] == "" and record["finish_reason"] == "error"
        assert record["sha256"], "it was read"
    else:
        assert record["text"] == f"{expected} ?"


def results_of(*words: object, output: Output | None = None, **options: Any) -> dict[str, tuple[str, str]]:
    """Run over the inputs. Returns the text and the kind of the error of each, by its file name."""
    items = list(InputCollector(Input(tuple(map(str, words)), **options), output).items())
    written, _ = records(Caption(prompt="?"), items)
    return {os.path.basename(r["path"]): (r["text"], r["error"]["kind"] if r["error"] else "") for r in written}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "good.png").write_bytes(GOOD)
    return tmp_path / "in"


def test_missing_and_unreadable(folder: Path) -> None:
    by_name = results_of(folder / "gone.png", folder / "good.png" / "inside.png", "a\0b.png", folder)
    assert by_name["gone.png"] == ("", "missing")
    assert by_name["inside.png"] == ("", "unreadable")
    assert by_name["a\0b.png"] == ("", "unreadable")
    assert by_name["good.png"] == ("[3x2] ?", "")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_rights(folder: Path) -> None:
    (folder / "shut.png").write_bytes(GOOD)
    (folder / "shut.png").chmod(0)
    assert results_of(folder) == {"good.png": ("[3x2] ?", ""), "shut.png": ("", "unreadable")}


def test_a_directory_named_like_a_picture(folder: Path) -> None:
    (folder / "x.png").mkdir()
    assert results_of(folder) == {"good.png": ("[3x2] ?", "")}
    assert results_of(folder / "x.png", folder / "good.png")["x.png"] == ("", "no-input")
    (folder / "x.png" / "inside.png").write_bytes(GOOD)
    assert results_of(folder / "x.png") == {"inside.png": ("[3x2] ?", "")}


def test_symbolic_links_in_a_circle(folder: Path) -> None:
    (folder / "loop.png").symlink_to("loop.png")
    (folder / "up").symlink_to(folder)
    assert results_of(folder) == {"good.png": ("[3x2] ?", ""), "loop.png": ("", "unreadable")}


def test_names_of_any_bytes(folder: Path) -> None:
    for name in (b"two\nlines.png", b"\xff\xfe.png", b" .png", b"-rf.png", "é\u202e.png".encode()):
        (folder / os.fsdecode(name)).write_bytes(GOOD)
    by_name = results_of(folder)
    assert len(by_name) == 6
    assert set(by_name.values()) == {("[3x2] ?", "")}
    assert os.fsdecode(b"\xff\xfe.png") in by_name


def test_a_file_deleted_between_listing_and_reading(folder: Path) -> None:
    (folder / "brief.png").write_bytes(GOOD)
    items = []
    for item in InputCollector(Input((str(folder),))).items():
        items.append(item)
        Path(item.path).unlink() if item.path.endswith("brief.png") else None
    written, _ = records(Caption(prompt="?"), items)
    assert [record["error"] and record["error"]["kind"] for record in written] == ["missing", None]


def test_a_fifo_is_never_opened_by_a_walk(folder: Path) -> None:
    """It would wait for a writer without end."""
    os.mkfifo(folder / "pipe.png")
    assert results_of(folder) == {"good.png": ("[3x2] ?", "")}
    assert results_of(folder, include=("*",)) == {"good.png": ("[3x2] ?", "")}


def test_an_output_inside_the_input_tree_is_not_read_back(folder: Path) -> None:
    for name in ("out.png", "sidecars/good.png", "good.txt"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(GOOD)
    output = Output(output=folder / "out.png", out_dir=folder / "sidecars", sidecar=(".txt",))
    assert results_of(folder, output=output) == {"good.png": ("[3x2] ?", "")}
    assert set(results_of(folder, output=Output(sidecar=(".txt",)), include=("good*",))) == {"good.png"}


def test_several_pictures_of_one_conversation_of_which_one_is_bad(folder: Path) -> None:
    sources = (*Item.of(str(folder / "good.png")).sources, *Item.of(str(folder / "gone.png")).sources)
    [record], _ = records(Caption(prompt="?"), [Item("good.png gone.png", sources)])
    assert record["error"]["kind"] == "missing"
    assert "gone.png: no such file" in record["error"]["message"]


def test_every_record_is_one_line_whatever_the_name(folder: Path) -> None:
    (folder / "two\nlines.png").write_bytes(b"no")
    written, _ = records(Caption(), InputCollector(Input((str(folder),))).items())
    assert json.loads(json.dumps(written[1]))["path"].endswith("two\nlines.png")
