"""Pieces to replies: joins what belongs together."""

from __future__ import annotations

from smolcli.types import Piece, Reply


class ReplyCollector:
    """Collects pieces until each reply is whole.

    >>> from smolcli.types import Finish
    >>> replies = ReplyCollector()
    >>> replies.add(Piece(0, " Two "))
    >>> replies.add(Piece(0, "cats.", Finish("stop"))).text
    'Two cats.'

    A loop that was cut has been shown by then; `Finish.text` is the reply without it:

    >>> replies.add(Piece(1, "A cat, a cat, a cat, a cat,"))
    >>> replies.add(Piece(1, "", Finish("repetition", text="A cat,"))).text
    'A cat,'
    """

    def __init__(self) -> None:
        self._parts: dict[int, list[str]] = {}

    def add(self, piece: Piece) -> Reply | None:
        """The reply that this piece completes, without white space around it; None before."""
        self._parts.setdefault(piece.index, []).append(piece.text)
        if piece.finish is None:
            return None
        joined, whole = "".join(self._parts.pop(piece.index)), piece.finish.text
        return Reply((joined if whole is None else whole).strip(), piece.finish)
