"""The task caption."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from smolcli.errors import UsageError
from smolcli.models.chat_template import require_plain_text
from smolcli.records.record_id import id_options
from smolcli.tasks.base import Task, raw_option
from smolcli.terminal.option_fields import choice, opt
from smolcli.terminal.words import enumerate_words
from smolcli.types import Answer, Media, Prompt, Reply

TAGS = "tags"
STYLES = {
    "short": "Describe this image in one sentence.",
    "detailed": "Can you describe this image?",
    "alt-text": "Write a short alt text for this image.",
    TAGS: "List the main things in this image as tags, separated by commas.",
}
DEFAULT_STYLE = "short"
# Of a tag in a reply: spaces, quotes, the dash or number of a list, a final period.
_AROUND_TAGS = re.compile(r"""^[\s"'*•-]*(\d+[.)]\s)?[\s"']*|[\s"'.]*$""")


@dataclass(frozen=True)
class Caption(Task):
    """Describe each picture."""

    style: str | None = opt(
        None,
        f"Kind of description: {enumerate_words(tuple(STYLES))}.",
        "--style",
        short=True,
        excludes=("prompt",),
        show_default=DEFAULT_STYLE,
        **choice("style", STYLES),
    )
    prompt: str | None = opt(
        None, "Ask this instead of --style; @NAME is a saved prompt.", short=True, excludes=("style",), saved=True,
        metavar="TEXT",
    )  # fmt: skip
    raw: bool = raw_option()

    examples = (
        "smolcli caption photo.jpg",
        "smolcli caption photos/ --style alt-text -o captions.csv",
        "smolcli caption photos/ -m 500m --sidecar .txt",
    )

    def __post_init__(self) -> None:
        if self.prompt is not None and not self.prompt.strip():
            raise UsageError("the prompt is empty", "leave it out for that of --style")
        if self.prompt is not None and self.style is not None:
            raise UsageError("--prompt replaces the prompt of --style", "leave out one of them")
        require_plain_text(self.prompt or "")

    @property
    def words(self) -> str:
        """The text of the prompt: the user's own, or the style's."""
        return self.prompt or STYLES[self.style or DEFAULT_STYLE]

    @property
    def id_options(self) -> dict[str, Any]:
        """The text of the prompt: a style whose text is changed is another question."""
        return {"prompt": self.words, **id_options(self)}

    @property
    def gives_keywords(self) -> bool:
        return self.style == TAGS and self.prompt is None

    def prompts(self, media: Media) -> Sequence[Prompt]:
        return [Prompt.user(frame, self.words, raw=self.raw) for frame in media.frames[:1]]

    def answer(self, replies: Sequence[Reply]) -> Answer:
        """The reply; with the style tags the tags as data too, unless --schema makes an object."""
        answer = super().answer(replies)
        return replace(answer, data=tags_in(answer.text)) if self.gives_keywords and answer.data is None else answer


def tags_in(text: str) -> list[str]:
    r"""The tags of a reply, each once, in order.

    >>> tags_in("a red circle, Sky, sky, - 'dog'\n2. cat.")
    ['a red circle', 'Sky', 'dog', 'cat']
    """
    tags: dict[str, str] = {}
    for part in re.split(r"[,;\n]", text):
        if tag := _AROUND_TAGS.sub("", part):
            tags.setdefault(tag.casefold(), tag)
    return list(tags.values())
