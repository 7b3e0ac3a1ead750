"""Makes a prompt into token ids and tiles, the same for every backend."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from threading import Lock
from weakref import WeakKeyDictionary

from smolcli.backends.base import PreparedPrompt
from smolcli.backends.image_processor import Layout, Tiles, cut, plan
from smolcli.models import chat_template
from smolcli.models.chat_template import Grid, Tile, Turns
from smolcli.records.notices import fewer_tiles
from smolcli.types import Frame, Prompt

Parts = list[tuple[int, ...] | Tile]


class PromptPreparer:
    """Renders prompts with the chat template, tokenizes their text, and cuts their pictures. Safe in several threads.

    Pictures that do not fit the context of `context_length` tokens are cut into fewer tiles, all to the same most tiles
    along the longest edge, and a notice says so. A prompt that is too long with one tile a picture stays too long.

    The tiles of a picture are kept as long as its Frame is referenced, so several questions about it share them.
    `tokenize` returns the token ids of a text, in which special tokens are recognized. `turns` are those that the model
    was trained on.
    """

    def __init__(
        self,
        layout: Layout,
        detail: str,
        tokenize: Callable[[str], list[int]],
        context_length: int,
        turns: Turns | None = chat_template.SMOLVLM,
    ) -> None:
        most = -(-layout.longest_edge // layout.tile)  # tiles along the longest edge
        smaller = [replace(layout, longest_edge=along * layout.tile) for along in range(most - 1, 0, -1)]
        self._layouts = [layout, *smaller]
        self._detail, self._tokenize, self._context_length = detail, tokenize, context_length
        self._turns = turns
        self._tiles: WeakKeyDictionary[Frame, dict[tuple[Layout, bool], Tiles]] = WeakKeyDictionary()
        self._lock = Lock()  # guards the dictionary

    def __call__(self, prompt: Prompt) -> PreparedPrompt:
        """Prepare a prompt, whose pictures have their pixels."""
        layout, parts = self._fit(prompt)
        length, image_tokens = self._length(parts), self._layouts[0].tokens * _count_tiles(parts)
        pictures = [self._cut(frame, layout, prompt.split) for frame in prompt.decoded_frames]
        pixels = (pictures[part.picture].pixels[part.number] if isinstance(part, Tile) else part for part in parts)
        is_coarser = layout is not self._layouts[0] and length < self._context_length
        notice = fewer_tiles(layout.longest_edge // layout.tile) if is_coarser else ""
        return PreparedPrompt(tuple(pixels), length, image_tokens, notice)

    def grids(self, prompt: Prompt) -> tuple[Grid, ...]:
        """Return how the pictures of a prompt are cut, in order; their sizes are enough, without pixels."""
        layout, _ = self._fit(prompt)
        return self._grids(prompt, layout)

    def _fit(self, prompt: Prompt) -> tuple[Layout, Parts]:
        """The finest layout with which the prompt fits the context, else one with the fewest tiles, and its parts."""
        layout = self._layouts[0]
        parts = self._parts(prompt, layout)
        for coarser in self._layouts[1:]:
            if self._length(parts) < self._context_length or _count_tiles(parts) == len(prompt.frames):
                break
            fewer = self._parts(prompt, coarser)
            if _count_tiles(fewer) < _count_tiles(parts):
                layout, parts = coarser, fewer
        return layout, parts

    def _parts(self, prompt: Prompt, layout: Layout) -> Parts:
        """The token ids of the prompt's texts and the tiles of its pictures, in order."""
        segments = chat_template.segments(prompt, self._grids(prompt, layout), self._turns)
        return [tuple(self._tokenize(segment)) if isinstance(segment, str) else segment for segment in segments]

    def _grids(self, prompt: Prompt, layout: Layout) -> tuple[Grid, ...]:
        return tuple(plan(frame.width, frame.height, layout, self._detail, prompt.split) for frame in prompt.frames)

    def _length(self, parts: Parts) -> int:
        """The number of tokens."""
        text = sum(len(part) for part in parts if not isinstance(part, Tile))
        return text + self._layouts[0].tokens * _count_tiles(parts)

    def _cut(self, frame: Frame, layout: Layout, split: bool) -> Tiles:
        hash(frame)  # takes long for the first time: all its bytes are read
        with self._lock:
            tiles_by_layout = self._tiles.setdefault(frame, {})
        key = layout, split
        if key not in tiles_by_layout:  # two threads may cut the same picture, with the same outcome
            tiles_by_layout[key] = cut(frame, layout, self._detail, split)
        return tiles_by_layout[key]


def _count_tiles(parts: Parts) -> int:
    return sum(isinstance(part, Tile) for part in parts)
