"""inputs/stills.py: still pictures are decoded again after their pixels were freed, if they are what they were."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from smolcli.errors import ErrorKind, InputError
from smolcli.inputs.frame_source import FrameSource
from smolcli.inputs.load import load, open_pictures
from smolcli.inputs.stills import StillPicture, StillPictures
from smolcli.options import Input
from smolcli.types import Frame, FrameRef, Item, Source
from tests.helpers import png


def open_item(item: Item) -> FrameSource:
    return open_pictures(item, load(item)[0], Input())


def save(path: Path, width: int, height: int) -> str:
    Image.new("RGB", (width, height)).save(path)
    return str(path)


def sizes(source: FrameSource, *indices: int) -> list[tuple[int, int, int]]:
    return [(index, frame.width, frame.height) for index, frame in source.pictures(indices)]


def test_pixels_are_kept_until_they_are_let_go_and_decoded_again_when_needed() -> None:
    frames = iter([Frame(bytes(18), 3, 2), Frame(bytes(18), 3, 2)])
    decoded: Iterator[Frame] = iter(list(frames))
    source = StillPictures([StillPicture(Frame(bytes(6), 2, 1), lambda: next(decoded), file_bytes=100)], ["a notice"])
    assert source.media.frames == (FrameRef(0, 2, 1),) and source.media.notices == ("a notice",)
    assert source.held == 106
    assert sizes(source, 0) == sizes(source, 0) == [(0, 2, 1)]  # what was decoded first, so nothing was decoded again
    source.let_go()
    assert source.held == 100
    assert sizes(source, 0) == [(0, 3, 2)]
    assert source.held == 118


def test_the_file_is_read_again_and_no_copy_of_it_is_kept(tmp_path: Path) -> None:
    source = open_item(Item.of(save(tmp_path / "a.png", 5, 4)))
    assert source.held == 5 * 4 * 3
    source.let_go()
    assert source.held == 0
    assert sizes(source, 0) == [(0, 5, 4)]


def test_what_came_through_a_pipe_is_kept() -> None:
    data = png((5, 4))
    source = open_item(Item.of("-", data))
    source.let_go()
    assert source.held == len(data)
    assert sizes(source, 0) == [(0, 5, 4)]


@pytest.mark.parametrize("is_deleted", [False, True])
def test_a_file_that_has_changed_meanwhile_is_an_error(tmp_path: Path, is_deleted: bool) -> None:
    path = tmp_path / "a.png"
    source = open_item(Item.of(save(path, 5, 4)))
    save(path, 6, 4)
    if is_deleted:
        path.unlink()
    assert sizes(source, 0) == [(0, 5, 4)]  # its pixels are still those that were hashed
    source.let_go()
    with pytest.raises(InputError, match="was changed while it was looked at") as caught:
        sizes(source, 0)
    assert caught.value.kind == ErrorKind.CHANGED


def test_of_several_pictures_those_asked_for_are_decoded_and_the_changed_one_is_named(tmp_path: Path) -> None:
    paths = [save(tmp_path / f"{side}.png", side, 1) for side in (2, 3, 4)]
    source = open_item(Item("all", tuple(map(Source, paths))))
    assert source.media.frames == (FrameRef(0, 2, 1), FrameRef(1, 3, 1), FrameRef(2, 4, 1))
    source.let_go()
    save(tmp_path / "3.png", 9, 9)
    assert sizes(source, 0, 2) == [(0, 2, 1), (2, 4, 1)]
    assert source.held == (2 + 4) * 3
    with pytest.raises(InputError, match=r"3\.png: was changed"):
        sizes(source, 1)
