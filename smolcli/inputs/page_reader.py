"""The pages of an open item, with their layout: which lines they have and where, and the parts that a model reads."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from smolcli.inputs.frame_source import FrameSource
from smolcli.inputs.page import Page, PageRequest
from smolcli.types import Crop, Frame, Media

if TYPE_CHECKING:  # only ocr needs the layout, and loading it takes a twentieth of the time of one caption
    from smolcli.inputs.layout import UprightPage

MAX_UPRIGHT = 3  # upright pages that are kept, a byte a pixel: those that are asked about at a time


@runtime_checkable
class TextPages(Protocol):
    """A FrameSource whose pages may hold their text, and say how large they are printed."""

    def text_layer(self, index: int) -> Page | None:
        """The text of a page; None where it has none that is sound."""
        ...

    def dpi_of(self, index: int) -> float:
        """The resolution of a page, in pixels an inch."""
        ...


class PageReader:
    """A FrameSource of pages that also finds their layout. It keeps the last upright pages.

    reader = PageReader(source)
    page = reader.page(PageRequest(source.media.frames[0], page=1))
    frame = reader.crop(0, crop)
    """

    def __init__(self, source: FrameSource) -> None:
        self._source = source
        self._upright: OrderedDict[tuple[int, bool], UprightPage] = OrderedDict()

    @property
    def media(self) -> Media:
        return self._source.media

    @property
    def held(self) -> int:
        return self._source.held + sum(upright.grey.nbytes for upright in self._upright.values())

    @property
    def faults(self) -> Sequence[str]:
        return self._source.faults

    @property
    def remarks(self) -> Sequence[str]:
        return self._source.remarks

    def pictures(self, indices: Sequence[int]) -> Iterator[tuple[int, Frame]]:
        return self._source.pictures(indices)

    def let_go(self) -> None:
        """Free the pixels of the file. Upright pages stay, for the pieces that are asked about once more."""
        self._source.let_go()

    def page(self, request: PageRequest) -> Page:
        """Find what is on a page, by its text layer or else from its pixels.

        Raises InputError where it cannot be decoded.
        """
        index = request.frame.index
        if isinstance(self._source, TextPages) and (page := self._source.text_layer(index)) is not None:
            return page
        if not request.layout:
            return Page(index + 1, 0, 0, kind="picture")
        return self._lay_out(index, request.half_turn).page

    def crop(self, index: int, crop: Crop) -> Frame:
        """Cut parts out of an upright page. Raises InputError where it cannot be decoded."""
        from smolcli.inputs.layout.crops import cut

        return cut(self._lay_out(index, crop.half_turn).grey, crop)

    def _lay_out(self, index: int, half_turn: bool) -> UprightPage:
        from smolcli.inputs.layout import lay_out

        if (index, half_turn) in self._upright:
            self._upright.move_to_end((index, half_turn))
        else:
            [(_, frame)] = self._source.pictures([index])
            dpi = self._source.dpi_of(index) if isinstance(self._source, TextPages) else 0.0
            upright = lay_out(frame, index + 1, dpi, half_turn)
            if upright.page.kind == "print":
                self._source.let_go()  # of a picture without print the pixels are looked at
            while len(self._upright) >= MAX_UPRIGHT:
                self._upright.popitem(last=False)
            self._upright[index, half_turn] = upright
        return self._upright[index, half_turn]
