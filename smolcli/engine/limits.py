"""The limits of the model that an engine runs, for what a task distributes over several prompts."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

from smolcli.engine.protocol import Work
from smolcli.models.catalog import x_height_of
from smolcli.models.files import ModelFiles
from smolcli.process.worker_main import resolve
from smolcli.types import Media, ModelLimits


@lru_cache
def limits_of(backend: str, files: ModelFiles) -> ModelLimits:
    """The limits of a model on a backend, "module:class". Raises ModelError."""
    limits: ModelLimits = resolve(backend).limits(files)
    return limits


def add_limits(media: Media, work: Work) -> Media:
    """Add the limits of the model to what a task distributes over prompts: a video, or pages. Raises ModelError."""
    needs_limits = work.sampling is not None or work.asks_for_pages
    return replace(media, limits=limits_for(work)) if needs_limits else media


def limits_for(work: Work) -> ModelLimits:
    """The limits of the model, which leave half the context at most for the reply. Raises ModelError."""
    limits = limits_of(work.backend, work.files)
    reply, x_height = min(work.generate.max_tokens, limits.context // 2), x_height_of(work.files)
    return replace(limits, reply=reply, x_height=x_height)
