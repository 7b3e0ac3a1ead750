"""Still pictures of one item: decoded when it is opened, and again if they are needed after their pixels were freed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from smolcli.types import Frame, FrameRef, Media


@dataclass
class StillPicture:
    """One picture: `frame` is None once its pixels were freed, and `decode` decodes it again.

    `file_bytes` is how many bytes `decode` keeps in memory: those of a file that cannot be read again, as of a pipe.
    """

    frame: Frame | None
    decode: Callable[[], Frame]
    file_bytes: int = 0


class StillPictures:
    """The pictures of an item, one or several (--together), as a FrameSource; `notices` are messages for the user."""

    faults: Sequence[str] = ()  # `notices` has those of decoding too, since everything is decoded when it is opened
    remarks: Sequence[str] = ()

    def __init__(self, pictures: Sequence[StillPicture], notices: Sequence[str]) -> None:
        self._pictures = pictures
        frames = [picture.frame or picture.decode() for picture in pictures]
        refs = tuple(FrameRef(index, frame.width, frame.height) for index, frame in enumerate(frames))
        self.media = Media(refs, notices=tuple(notices))

    @property
    def held(self) -> int:
        """Bytes of pixels, and of files that cannot be read again."""
        return sum(
            picture.file_bytes + (0 if picture.frame is None else len(picture.frame.rgb)) for picture in self._pictures
        )

    def pictures(self, indices: Sequence[int]) -> Iterator[tuple[int, Frame]]:
        """Yield the pictures with these indices; those without pixels are decoded again.

        Raises InputError, of kind changed where a file is not what it was when it was opened.
        """
        for index in indices:
            picture = self._pictures[index]
            picture.frame = picture.frame or picture.decode()
            yield index, picture.frame

    def let_go(self) -> None:
        """Free the pixels."""
        for picture in self._pictures:
            picture.frame = None
