"""Joins the pieces of each reply."""

from __future__ import annotations

from dataclasses import replace

from smolcli.types import Piece, Reply


class ReplyCollector:
    """Collects pieces until a reply is complete. Pieces of several replies may interleave.

    >>> from smolcli.types import Finish
    >>> replies = ReplyCollector()
    >>> replies.add(Piece(0, " Two "))
    >>> replies.add(Piece(0, "cats.", Finish("stop"))).text
    'Two cats.'

    If a loop was cut off, its pieces were yielded before; `Finish.text` is the reply without it:

    >>> replies.add(Piece(1, "A cat, a cat, a cat, a cat,"))
    >>> replies.add(Piece(1, "", Finish("repetition", text="A cat,"))).text
    'A cat,'
    """

    def __init__(self) -> None:
        self._parts: dict[int, list[str]] = {}

    def add(self, piece: Piece) -> Reply | None:
        """Return the reply that this piece completes, without white space around it; None if it is not complete."""
        self._parts.setdefault(piece.index, []).append(piece.text)
        if piece.finish is None:
            return None
        joined = "".join(self._parts.pop(piece.index))
        text = joined if piece.finish.text is None else piece.finish.text
        before = text[: len(text) - len(text.lstrip())].count("\n")  # lines that are not in the reply
        finish = replace(piece.finish, line_confidences=piece.finish.line_confidences[before:])
        return Reply(text.strip(), finish)
