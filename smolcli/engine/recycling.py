"""Replaces a child whose memory grows: native libraries leak, and a run may take days."""

from __future__ import annotations

GROWTH = 2**30  # bytes by which a child may grow after it has warmed up, beside half of what it held then
WARM_REPLIES = 16  # replies after which a child has warmed up; its memory is measured after every so many


class Recycler:
    """Says when a child has grown too large: by `growth` bytes, and half of what it held when it had warmed up.

    >>> recycler = Recycler(growth=100)
    >>> for held in (1000, 1600, 1601):  # bytes of the child's own memory after 16, 32 and 48 replies
    ...     for _ in range(16):
    ...         recycler.count_reply()
    ...     print(recycler.is_due, recycler.has_outgrown(held))
    True False
    True False
    True True
    """

    def __init__(self, growth: int = GROWTH) -> None:
        self._growth = growth
        self._replies = 0  # of this child
        self._warm_bytes = 0  # that this child held when it had warmed up

    def child_ended(self) -> None:
        """Begin anew with the next child."""
        self._replies = self._warm_bytes = 0

    def count_reply(self) -> None:
        """Count a reply of the child."""
        self._replies += 1

    @property
    def is_due(self) -> bool:
        """Whether the child's memory is to be measured now."""
        return self._replies % WARM_REPLIES == 0

    def has_outgrown(self, held: int) -> bool:
        """Whether a child that holds so many bytes of its own is to be replaced. The first measure is the standard."""
        self._warm_bytes = self._warm_bytes or held
        return held > self._warm_bytes + self._growth + self._warm_bytes // 2
