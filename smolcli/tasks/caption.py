"""The task caption."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from smolcli.errors import UsageError
from smolcli.models.chat_template import require_plain_text
from smolcli.options import choice, opt
from smolcli.tasks.base import Task
from smolcli.terminal.words import enumerate_words
from smolcli.types import Media, Prompt

STYLES = {
    "short": "Describe this image in one sentence.",
    "detailed": "Can you describe this image?",
    "alt-text": "Write a short alt text for this image.",
    "tags": "List the main things in this image as tags, separated by commas.",
}


@dataclass(frozen=True)
class Caption(Task):
    """Describe each picture."""

    style: str = opt(
        "short",
        f"Kind of description: {enumerate_words(tuple(STYLES))}.",
        "--style",
        short=True,
        **choice("style", STYLES),
    )
    prompt: str | None = opt(None, "Ask this instead of --style.", short=True, metavar="TEXT")

    examples = (
        "smolcli caption photo.jpg",
        "smolcli caption photos/ --style alt-text -o captions.csv",
        "smolcli caption photos/ -m 500m --sidecar .txt",
    )

    def __post_init__(self) -> None:
        if self.prompt is not None and not self.prompt.strip():
            raise UsageError("the prompt is empty", "leave it out for that of --style")
        require_plain_text(self.prompt or "")

    @property
    def words(self) -> str:
        """The text of the prompt: the user's own, or the style's."""
        return self.prompt or STYLES[self.style]

    @property
    def id_options(self) -> dict[str, Any]:
        """The text of the prompt: a style whose text is changed is another question."""
        return {"prompt": self.words}

    def prompts(self, media: Media) -> Sequence[Prompt]:
        return [Prompt.user(frame, self.words) for frame in media.frames[:1]]
