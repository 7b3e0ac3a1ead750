"""Prompts as mtmd cuts them: chunks of text tokens, and chunks of a picture that it has prepared for its encoder.

    prepare = ChunkPreparer(mtmd_context, template, start="<s>", adds_start=True, side=560, detail="auto")
    prepared = prepare(prompt)          # in any thread
    prepared.pictures[part].handle      # the mtmd_input_chunk of a part that is bytes

Which tokens stand before and after a picture, into how many chunks it is cut and how it is resized is mtmd's business.
"""

from __future__ import annotations

import ctypes
import weakref
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from llama_cpp import mtmd_cpp as mtmd
from PIL import Image, ImageOps

from smolcli.backends.base import PreparedPrompt
from smolcli.backends.embedding_cache import digest
from smolcli.backends.llamacpp.jinja_template import JinjaTemplate
from smolcli.errors import EngineError
from smolcli.types import Frame, Prompt

MARKER = "<__smolcli_picture__>"  # of a picture, in the text that is given to mtmd


class Chunks:
    """An mtmd_input_chunks, which is freed with this object."""

    def __init__(self) -> None:
        self.handle: Any = mtmd.mtmd_input_chunks_init()
        weakref.finalize(self, mtmd.mtmd_input_chunks_free, self.handle)

    def __iter__(self) -> Iterator[Any]:
        for number in range(mtmd.mtmd_input_chunks_size(self.handle)):
            yield mtmd.mtmd_input_chunks_get(self.handle, number)


@dataclass(frozen=True)
class PictureChunk:
    """A chunk of a picture: its mtmd_input_chunk, its tokens, and by how many positions it moves the text after it.

    `owner` keeps the chunk alive.
    """

    handle: Any
    tokens: int
    positions: int
    owner: Chunks = field(repr=False)


@dataclass(frozen=True)
class ChunkedPrompt(PreparedPrompt):
    """A prepared prompt in which a part that is bytes is the name of a picture's chunk, equal for equal chunks."""

    pictures: Mapping[bytes, PictureChunk] = field(default_factory=dict, compare=False)


class ChunkPreparer:
    """Renders prompts with the model's own chat template and has mtmd tokenize them. Safe in several threads.

    `context` is an mtmd_context whose marker is MARKER. `start` is the text of the start token, which is taken off the
    rendered text where llama.cpp adds it (`adds_start`). `side` is that of the vision half's pictures in pixels, the
    unit in which --detail counts.
    """

    def __init__(
        self, context: Any, template: JinjaTemplate, start: str, adds_start: bool, side: int, detail: str
    ) -> None:
        self._context, self._template, self._side, self._detail = context, template, side, detail
        self._start = start if adds_start else ""

    def __call__(self, prompt: Prompt) -> ChunkedPrompt:
        """Prepare a prompt, whose pictures have their pixels. Raises EngineError."""
        text = self._template.render(prompt, MARKER).removeprefix(self._start)
        frames = [fit(frame, self._side, self._detail, prompt.split) for frame in prompt.decoded_frames]
        chunks = self._tokenize(text, frames)
        parts: list[tuple[int, ...] | bytes] = []
        pictures: dict[bytes, PictureChunk] = {}
        chunks_of: Counter[bytes] = Counter()  # by the name of the picture, how many chunks of it there were
        for chunk in chunks:
            if mtmd.mtmd_input_chunk_get_type(chunk) == mtmd.MTMD_INPUT_CHUNK_TYPE_TEXT:
                parts.append(_text_tokens(chunk))
                continue
            name = bytes(mtmd.mtmd_input_chunk_get_id(chunk) or b"")
            part = name + b" %d" % chunks_of[name]
            chunks_of[name] += 1
            tokens = int(mtmd.mtmd_input_chunk_get_n_tokens(chunk))
            positions = int(mtmd.mtmd_input_chunk_get_n_pos(chunk))
            pictures[part] = PictureChunk(chunk, tokens, positions, chunks)
            parts.append(part)
        image_tokens = sum(pictures[part].tokens for part in parts if isinstance(part, bytes))
        text_tokens = sum(len(part) for part in parts if not isinstance(part, bytes))
        return ChunkedPrompt(tuple(parts), text_tokens + image_tokens, image_tokens, pictures=pictures)

    def _tokenize(self, text: str, frames: Sequence[Frame]) -> Chunks:
        chunks, encoded = Chunks(), text.encode()
        with ExitStack() as stack:
            bitmaps = [_make_bitmap(frame) for frame in frames]
            for bitmap in bitmaps:
                stack.callback(mtmd.mtmd_bitmap_free, bitmap)
            array = (mtmd.mtmd_bitmap_p_ctypes * len(bitmaps))(*bitmaps)
            given = mtmd.mtmd_input_text(encoded, len(encoded), True, True)
            code = mtmd.mtmd_tokenize(self._context, chunks.handle, ctypes.byref(given), array, len(bitmaps))
        if code != 0:
            raise EngineError(f"llama.cpp did not take the prompt with its pictures (code {code})", "-v says more")
        return chunks


def fit(frame: Frame, side: int, detail: str, split: bool) -> Frame:
    """Return a picture as it is given to mtmd, for a vision half whose pictures have `side` pixels.

    `detail` low, and `split` False as for frames of videos, fit it into a square of that side on black, so that every
    family makes one piece of it. A number of tiles shrinks its longest edge to as many sides. auto and high leave it
    as it is: mtmd resizes it. No picture is enlarged.

    >>> wide = Frame(bytes(3 * 40 * 20), 40, 20)
    >>> [(made.width, made.height) for made in (fit(wide, 16, detail, True) for detail in ("low", "2", "4", "auto"))]
    [(16, 16), (32, 16), (40, 20), (40, 20)]
    """
    is_one = detail == "low" or not split
    if not is_one and detail in ("auto", "high"):
        return frame
    longest = side if is_one else int(detail) * side
    image = Image.frombytes("RGB", (frame.width, frame.height), frame.rgb)
    if max(image.size) > longest:
        image = ImageOps.contain(image, (longest, longest), Image.Resampling.LANCZOS)
    if is_one:
        square = max(image.size)
        image = ImageOps.pad(image, (square, square), color=0)
    return Frame(image.tobytes(), image.width, image.height, frame.time)


def _make_bitmap(frame: Frame) -> Any:
    """An mtmd_bitmap that is named by the digest of its pixels and its size."""
    pixels = (ctypes.c_uint8 * len(frame.rgb)).from_buffer_copy(frame.rgb)
    bitmap = mtmd.mtmd_bitmap_init(frame.width, frame.height, pixels)
    name = f"{digest(frame.rgb).hex()} {frame.width}x{frame.height}"
    mtmd.mtmd_bitmap_set_id(bitmap, name.encode())
    return bitmap


def _text_tokens(chunk: Any) -> tuple[int, ...]:
    count = ctypes.c_size_t()
    tokens: Any = mtmd.mtmd_input_chunk_get_tokens_text(chunk, ctypes.byref(count))
    return tuple(tokens[: count.value])
