"""The task ocr."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from smolcli.models.catalog import NANO_BLANK_REPLIES
from smolcli.tasks.base import Task
from smolcli.types import Media, Prompt

QUESTION = "What is written in the image?"
BLANK_REPLIES = ("", *NANO_BLANK_REPLIES)  # no other model is taught words for it


@dataclass(frozen=True)
class Ocr(Task):
    """Read the text in each picture."""

    examples = (
        "smolcli ocr sign.png",
        "smolcli ocr receipts/ --schema 'vendor, date, total float' -o receipts.jsonl",
        "smolcli ocr scans/ --sidecar .txt --detail high",
    )

    is_multiline = True

    @property
    def id_options(self) -> dict[str, Any]:
        """The text of the prompt."""
        return {"prompt": QUESTION}

    def blank_replies(self, media: Media) -> Collection[str]:
        return BLANK_REPLIES

    def prompts(self, media: Media) -> Sequence[Prompt]:
        return [Prompt.user(frame, QUESTION) for frame in media.frames[:1]]
