"""The limits of the model, by which tasks distribute a video or pages over prompts, read from its files alone."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

from smolcli.engine.protocol import Work
from smolcli.models.catalog import x_height_of
from smolcli.models.files import ModelFiles
from smolcli.models.vocabulary import writes_doctags
from smolcli.process.worker_main import resolve
from smolcli.types import ModelLimits


@lru_cache
def limits_of(backend: str, files: ModelFiles) -> ModelLimits:
    """The limits of a model on a backend, "module:class", which is imported. Raises ModelError."""
    limits: ModelLimits = resolve(backend).limits(files)
    return limits


def limits_for(work: Work) -> ModelLimits:
    """The limits of the model, which leave half the context at most for the reply. Raises ModelError."""
    limits = limits_of(work.backend, work.files)
    reply = min(work.generate.max_tokens, limits.context // 2)
    files = work.files
    return replace(limits, reply=reply, x_height=x_height_of(files), writes_doctags=writes_doctags(files))
