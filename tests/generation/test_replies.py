"""generation/replies.py: the pieces of a reply, and what is known of each of its lines."""

from __future__ import annotations

import pytest

from smolcli.generation.replies import ReplyCollector
from smolcli.types import Finish, Piece


@pytest.mark.parametrize(("text", "expected"), [
    ("one\ntwo", (0.1, 0.2)), ("\none\ntwo", (0.2, 0.3)), (" \n\none", (0.3,)), ("\n", ()),
])  # fmt: skip
def test_the_confidences_are_those_of_the_lines_that_a_reply_has(text: str, expected: tuple[float, ...]) -> None:
    confidences = (0.1, 0.2, 0.3)[: text.count("\n") + 1]
    reply = ReplyCollector().add(Piece(0, text, Finish("stop", line_confidences=confidences)))
    assert reply is not None and reply.text == text.strip()
    assert reply.finish.line_confidences[: len(reply.text.splitlines())] == expected
