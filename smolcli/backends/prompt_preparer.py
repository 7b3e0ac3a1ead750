"""Makes a prompt into token ids and tiles, the same for every backend."""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from weakref import WeakKeyDictionary

from smolcli.backends.base import PreparedPrompt
from smolcli.backends.image_processor import Layout, Tiles, cut
from smolcli.models import chat_template
from smolcli.types import Frame, Prompt


class PromptPreparer:
    """Renders prompts with the chat template, tokenizes their text, and cuts their pictures. Safe in several threads.

    The tiles of a picture are kept as long as its Frame is referenced, so several questions about it share them.
    `tokenize` returns the token ids of a text, in which special tokens are recognized.
    """

    def __init__(self, layout: Layout, detail: str, tokenize: Callable[[str], list[int]]) -> None:
        self._layout, self._detail, self._tokenize = layout, detail, tokenize
        self._tiles: WeakKeyDictionary[Frame, dict[bool, Tiles]] = WeakKeyDictionary()  # by whether they are split
        self._lock = Lock()  # guards the dictionary

    def __call__(self, prompt: Prompt) -> PreparedPrompt:
        """Prepare a prompt, whose pictures have their pixels."""
        pictures = [self._cut(frame, prompt.split) for frame in prompt.decoded_frames]
        parts = tuple(
            tuple(self._tokenize(segment)) if isinstance(segment, str)
            else pictures[segment.picture].pixels[segment.number]
            for segment in chat_template.segments(prompt, [picture.grid for picture in pictures])
        )  # fmt: skip
        image_tokens = self._layout.tokens * sum(isinstance(part, bytes) for part in parts)
        text_tokens = sum(len(part) for part in parts if not isinstance(part, bytes))
        return PreparedPrompt(parts, text_tokens + image_tokens, image_tokens)

    def _cut(self, frame: Frame, split: bool) -> Tiles:
        hash(frame)  # takes long for the first time: all its bytes are read
        with self._lock:
            tiles_by_split = self._tiles.setdefault(frame, {})
        if split not in tiles_by_split:  # two threads may cut the same picture, with the same outcome
            tiles_by_split[split] = cut(frame, self._layout, self._detail, split)
        return tiles_by_split[split]
