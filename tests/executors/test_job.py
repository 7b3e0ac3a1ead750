"""smolcli/executors/job.py: which replies say that there is nothing to read."""

from __future__ import annotations

import pytest

from smolcli.executors.job import says_blank
from smolcli.tasks.ocr import BLANK_REPLIES
from smolcli.types import Finish, FinishReason, Reply


@pytest.mark.parametrize(
    ("text", "reason", "expected"),
    [
        ("(blank)", "stop", True), (" (no text)\n", "stop", True), ("", "stop", True),
        ("(no", "length", True), ("(bla", "length", True),  # cut by -n within the words
        ("(no", "stop", False), ("(no exit", "length", False), ("EXIT", "length", False), ("no text", "stop", False),
    ],
)  # fmt: skip
def test_a_reply_that_says_there_is_nothing_to_read(text: str, reason: FinishReason, expected: bool) -> None:
    assert says_blank(Reply(text, Finish(reason)), BLANK_REPLIES) is expected
