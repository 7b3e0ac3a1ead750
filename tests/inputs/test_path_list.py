"""inputs/path_list.py: lists as shells and editors of other systems write them."""

from __future__ import annotations

import io
import os

import pytest

from smolcli.errors import InputError, UsageError
from smolcli.inputs.load import load
from smolcli.inputs.path_list import read_paths
from smolcli.types import Item

NAMES = ["a.png", "Fotos/Über.png", "写真.jpg", "🖼.png"]


def listed(data: bytes, null: bool = False) -> list[str]:
    return list(read_paths("-", null, io.BytesIO(data)))


class Trickling(io.RawIOBase):
    """A pipe that has one byte at a time."""

    def __init__(self, data: bytes) -> None:
        self._rest = data

    def read(self, size: int = -1) -> bytes:
        first, self._rest = self._rest[:1], self._rest[1:]
        return first


@pytest.mark.parametrize("codec", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_list_is_read_in_the_encoding_of_its_mark(codec: str, end: str) -> None:
    """Python's own codecs write the lists; utf-16-le and utf-16-be write no mark, so it is added."""
    mark = {"utf-16-le": b"\xff\xfe", "utf-16-be": b"\xfe\xff"}.get(codec, b"")
    data = mark + end.join([*NAMES, ""]).encode(codec)
    assert listed(data) == NAMES
    assert list(read_paths("-", False, Trickling(data))) == NAMES  # type: ignore[arg-type]


def test_the_first_path_comes_before_the_pipe_ends() -> None:
    """A list of one short path is not held back until enough bytes for a mark have come."""
    read_end, write_end = os.pipe()
    os.write(write_end, b"a\n")
    with open(read_end, "rb") as pipe:
        paths = read_paths("-", False, pipe)
        assert next(paths) == "a"
        os.close(write_end)
        assert list(paths) == []


def test_names_that_are_not_utf8_stay_as_they_are_in_a_list_without_a_mark() -> None:
    assert [os.fsencode(path) for path in listed(b"caf\xe9.png\n\xff\n")] == [b"caf\xe9.png", b"\xff"]


def test_with_nul_every_byte_belongs_to_a_path() -> None:
    """A mark is part of the first name, and a name may end in a carriage return or have line ends in it."""
    data = b"\xef\xbb\xbfa.png\0mac\r\0two\r\nlines\0\xff\xfe\0"
    assert [os.fsencode(path) for path in listed(data, null=True)] == [
        b"\xef\xbb\xbfa.png", b"mac\r", b"two\r\nlines", b"\xff\xfe",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ("a.png\nb.png\n".encode("utf-16-le"), "if it is UTF-16, save it as UTF-8"),
        (b"a.png\0b.png\0", "add -0"),
        (b"\xff\xfea\0b", "begins as UTF-16-LE and is not; save it as UTF-8"),
        (b"\xff\xfe\x00\xd8\n\0", "begins as UTF-16-LE and is not"),
        (b"\xff\xfe\0\0a", "begins as UTF-32-LE and is not"),
    ],
)
def test_what_is_not_text_is_refused_with_what_to_do(data: bytes, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        listed(data)


@pytest.mark.parametrize(
    ("path", "says"), [("C:\\photos\\a.png", "write / for \\\\"), (os.fsdecode(b"caf\xe9.png"), "not UTF-8")]
)
def test_a_path_of_another_system_that_names_no_file_says_why(path: str, says: str) -> None:
    with pytest.raises(InputError, match=f"no such file; .*{says}"):
        load(Item.of(path))
