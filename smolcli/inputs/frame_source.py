"""What an open item is to the engine: pictures that are decoded on request, whatever kind of file they come from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from smolcli.types import Frame, Media


class FrameSource(Protocol):
    """An open item: still pictures (stills.py), the pages of a file (image.py), or a video (video.py).

    Decoders are not thread-safe: one thread at a time may decode.

        source = open_pictures(item, *load(item))
        width = source.media.frames[0].width
        [(_, frame)] = source.pictures([0])
        source.let_go()
    """

    @property
    def media(self) -> Media:
        """What a task sees of the item: its frames without their pixels, its notices, and the parts of a video."""
        ...

    @property
    def held(self) -> int:
        """Bytes of memory that are held now: pixels, and those of a file that cannot be read again."""
        ...

    @property
    def faults(self) -> Sequence[str]:
        """Messages for the user that came up while frames were decoded, since the item was opened."""
        ...

    @property
    def remarks(self) -> Sequence[str]:
        """Messages that are shown with -v only."""
        ...

    def pictures(self, indices: Sequence[int]) -> Iterator[tuple[int, Frame]]:
        """Decode the frames with these ascending indices, one at a time, and yield each with its index.

        Raises InputError, of kind changed where the file is not what it was when it was opened.
        """
        ...

    def let_go(self) -> None:
        """Free the pixels that are held; they are decoded again when they are asked for."""
        ...
