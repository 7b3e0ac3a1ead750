"""The task ocr."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

from smolcli.models.catalog import NANO_BLANK_REPLIES
from smolcli.tasks.base import Task
from smolcli.types import Answer, Media, Prompt, Reply

QUESTION = "What is written in the image?"
BLANK_REPLIES = ("", *NANO_BLANK_REPLIES)  # no other model is taught words for it
PAGE_BREAK = "\n\f"  # between the texts of two pages, as tesseract and OCRmyPDF's --sidecar write it


@dataclass(frozen=True)
class Ocr(Task):
    """Read the text in each picture, on every page."""

    examples = (
        "smolcli ocr sign.png",
        "smolcli ocr receipts/ -m 500m --schema 'vendor, total float' -o receipts.jsonl",
        "smolcli ocr scans/ --sidecar .txt --detail high",
    )

    is_multiline = True
    reads_every_page = True
    data_parts = ("pages",)

    @property
    def id_options(self) -> dict[str, Any]:
        """The text of the prompt."""
        return {"prompt": QUESTION}

    def blank_replies(self, media: Media) -> Collection[str]:
        return BLANK_REPLIES

    def prompts(self, media: Media) -> Sequence[Prompt]:
        prompts = [Prompt.user(frame, QUESTION) for frame in media.frames]
        if len(prompts) == 1:
            return prompts
        return [replace(prompt, page=number) for number, prompt in enumerate(prompts, 1)]

    def answer(self, replies: Sequence[Reply]) -> Answer:
        """One page: its text. Several: their texts with page breaks between them, and each page as data."""
        if len(replies) == 1:
            return super().answer(replies)
        pages = [_page(number, reply) for number, reply in enumerate(replies, 1)]
        return Answer(PAGE_BREAK.join(page["text"] for page in pages), {"pages": pages})


def _page(number: int, reply: Reply) -> dict[str, Any]:
    """A page as data: its object with --schema, and its error if it could not be read."""
    if (fault := reply.finish.fault) is not None:
        return {"page": number, "text": "", "error": {"kind": fault.kind, "message": fault.message}}
    page: dict[str, Any] = {"page": number, "text": reply.text}
    return page if reply.data is None else page | {"data": reply.data}
