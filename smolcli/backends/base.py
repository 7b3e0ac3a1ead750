"""The protocol that every backend implements, and its rules.

A backend runs a model. Its constructor takes `(files: ModelFiles, options: Model)` and raises ModelError if the model
cannot be loaded. It answers prompts, and is closed:

>>> from contextlib import closing
>>> from smolcli.backends.echo import Echo
>>> from smolcli.options import Model
>>> prompts = [Prompt.user("What is this?"), Prompt.user("How many?")]
>>> with closing(Echo(ModelFiles("echo"), Model())) as backend:
...     for piece in backend.generate(prompts, Generate(max_tokens=2)):
...         print((piece.index, piece.text, piece.finish and piece.finish.reason))
(0, '', None)
(0, 'What', None)
(0, ' is', None)
(0, '', 'length')
(1, '', None)
(1, 'How', None)
(1, ' many?', None)
(1, '', 'stop')

The rules of `generate`:

- It streams in both directions. It takes the next prompt when a sequence slot is free, or earlier in order to prepare
  that prompt while others are running, and yields each piece as soon as the model has made it.
- `Piece.index` counts the prompts in the order in which they were taken. Pieces of several replies may interleave.
- The first piece of an index is yielded when work on its prompt begins, before its pictures are encoded, and may be
  empty. The engine learns from it which input is being processed. A prompt that is only being prepared has none yet.
- The last piece of an index has `finish`. A prompt that cannot be answered ends in a piece whose finish has a fault;
  `generate` does not raise for one prompt, since that would end the others too.
- The iterable of prompts may yield None: no prompt is ready now. The backend then continues its running replies and
  asks again. The caller must not yield None while no reply is running.
- A reply that repeats itself without end (generation/repetition.py) is stopped, and the prompt is tried once more with
  a penalty on the tokens already generated. Text that was yielded cannot be taken back, so `finish.text` is the whole
  reply; the tokens and seconds of the finish are those of both attempts. A reply of a fixed length
  (`options.has_length`) is not stopped.

generation/scheduler.py implements these rules for all backends.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol

from smolcli.models.files import ModelFiles
from smolcli.options import Generate
from smolcli.types import ModelLimits, Piece, Prompt


class Backend(Protocol):
    """What runs a model."""

    name: str  # its key in registry.BACKENDS
    device_summary: str  # the device and the settings it computes with, for people, as "cuda, bfloat16"

    @staticmethod
    def limits(files: ModelFiles) -> ModelLimits:
        """Read a model's limits from its configuration or file headers, without loading it.

        Raises ModelError if the files are missing or damaged.
        """
        ...

    def generate(self, prompts: Iterable[Prompt | None], options: Generate) -> Iterator[Piece]:
        """Answer every prompt, by the rules above. `options.schema` is JSON text from json_schema.canonicalize.

        Raises EngineError if the engine cannot continue, UsageError if the schema cannot be enforced, and
        UnavailableError if the library that enforces it is not installed.
        """
        ...

    def clear_cache(self) -> None:
        """Free the cached tiles, embeddings and KV cache, so that the next prompt is computed in full."""
        ...

    def gpu_peak(self) -> int:
        """Return the peak of GPU memory in bytes; 0 if no GPU is used."""
        ...

    def close(self) -> None:
        """Free the model. Close every iterator of `generate` first; the backend cannot be used afterwards."""
        ...
