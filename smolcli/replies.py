"""Pieces to replies: joins what belongs together."""

from __future__ import annotations

from smolcli.types import Piece, Reply


class Replies:
    """Collects pieces until each reply is whole.

    >>> from smolcli.types import Finish
    >>> replies = Replies()
    >>> replies.add(Piece(0, " Two "))
    >>> replies.add(Piece(0, "cats.", Finish("stop"))).text
    'Two cats.'
    """

    def __init__(self) -> None:
        self._parts: dict[int, list[str]] = {}

    def add(self, piece: Piece) -> Reply | None:
        """The reply that this piece completes, without white space around it; None before."""
        self._parts.setdefault(piece.index, []).append(piece.text)
        if piece.finish is None:
            return None
        return Reply("".join(self._parts.pop(piece.index)).strip(), piece.finish)
