"""inputs/formats/jpeg.py: a whole picture without its end mark is read; one that lacks pixels is not."""

from collections.abc import Callable

import pytest
from PIL import ImageFile

from smolcli.errors import InputError
from smolcli.inputs.formats.jpeg import NO_END_MARK
from smolcli.inputs.image import Picture
from smolcli.options import Input
from tests.inputs.pictures import encoded, failure, noise, notices, pixels

KINDS: dict[str, Callable[[], bytes]] = {
    "baseline": lambda: encoded(noise(), "JPEG"),
    "gray": lambda: encoded(noise().convert("L"), "JPEG"),
    "progressive": lambda: encoded(noise(), "JPEG", progressive=True),
    "restart marks": lambda: encoded(noise(), "JPEG", restart_marker_blocks=2),
}
kinds = pytest.mark.parametrize("make", KINDS.values(), ids=KINDS)


@kinds
@pytest.mark.parametrize("after", [b"", bytes(5), bytes(4096)], ids=["nothing", "some zeros", "zeros"])
def test_without_its_end_mark_it_is_read_with_a_notice(make: Callable[[], bytes], after: bytes) -> None:
    whole = make()
    data = whole[:-2] + after
    assert (pixels(data) == pixels(whole)).all()
    assert notices(data) == [NO_END_MARK]
    assert notices(whole) == []


@kinds
@pytest.mark.parametrize("filler", [b"", bytes(5000)], ids=["", "zeros"])
def test_pixels_that_are_missing_are_never_made_up(make: Callable[[], bytes], filler: bytes) -> None:
    """Whatever the length: the picture is refused, or all of it is there."""
    whole = make()
    for missing in (3, 4, 5, 8, 20, 100, 500, 2000):
        kind, message = failure(whole[:-missing] + filler)
        assert kind == "truncated" and message.startswith("is cut short (it has no end)")


def test_a_picture_that_is_too_large_is_not_decoded_to_look_for_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise AssertionError("pixels were decoded")

    data = encoded(noise(), "JPEG")[:-2]
    monkeypatch.setattr(ImageFile.ImageFile, "load", fails)
    with pytest.raises(InputError) as caught:
        Picture(data, Input(max_pixels=100)).page(0)
    assert caught.value.kind == "too-large"


def test_fill_bytes_before_a_marker_do_not_matter() -> None:
    """Before each marker any number of bytes FF may stand: ITU-T T.81, B.1.1.2."""
    whole = encoded(noise(), "JPEG")
    scan = whole.index(b"\xff\xda")
    filled = whole[:2] + b"\xff" * 3 + whole[2:scan] + b"\xff" * 5 + whole[scan:]
    assert (pixels(filled) == pixels(whole)).all() and notices(filled) == []
    assert notices(filled[:-2]) == [NO_END_MARK]
    assert failure(b"\xff\xd8" + b"\xff" * 2**20)[0] == "truncated"
