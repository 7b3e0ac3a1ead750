"""What a run would look at, for --dry-run: sizes of pictures and times of frames, opened without a model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial

from smolcli.backends.image_processor import DEFAULT_TILES_ALONG, Layout, plan
from smolcli.backends.numpy_weights import open_source
from smolcli.backends.prompt_preparer import PromptPreparer
from smolcli.engine.limits import limits_for
from smolcli.engine.protocol import OpenedPlan, Work
from smolcli.engine.server import fault_of
from smolcli.errors import ModelError
from smolcli.inputs.load import load, measure, open_video
from smolcli.models.chat_template import SMOLVLM, Grid, Turns, turns_of
from smolcli.models.files import ModelFiles
from smolcli.models.tokenizer import has_token, tokenize
from smolcli.types import Fault, Item, ModelLimits, Prompt


def open_plans(items: Sequence[Item], work: Work) -> Iterator[OpenedPlan | Fault]:
    """Yield for each item what would be looked at, or why it cannot be opened. Raises ModelError."""
    for item in items:
        if item.fault is not None:
            yield item.fault
            continue
        try:
            yield _open_pictures(item, work) if work.sampling is None else _open_video(item, work)
        except ModelError:
            raise
        except Exception as error:
            yield fault_of(error)


def fit_pictures(prompts: Sequence[Prompt], work: Work) -> list[tuple[Grid, ...]]:
    """Return for each prompt how its pictures are cut: into fewer tiles where they do not fit the model's context."""
    limits = limits_for(work)
    tokenize, turns = _tokenizer_and_turns(work.files)
    prepare = PromptPreparer(_layout(limits), work.model.detail, tokenize, limits.context, turns)
    return [prepare.grids(prompt) for prompt in prompts]


def _tokenizer_and_turns(files: ModelFiles) -> tuple[Callable[[str], list[int]], Turns | None]:
    """The function from a text to its token ids, and the model's turns.

    Where only llama.cpp has the tokenizer, the function is that to the bytes of the text, which are more.
    """
    try:
        tokenizer, _ = open_source(files).tokenizer()
    except ModelError:
        return lambda text: list(text.encode()), SMOLVLM
    return partial(tokenize, tokenizer), turns_of(files, partial(has_token, tokenizer))


def _open_video(item: Item, work: Work) -> OpenedPlan:
    assert work.sampling is not None
    video, content = open_video(item, work.sampling, work.input, work.model.offline)
    return OpenedPlan(replace(video.media, content=content, limits=limits_for(work)))


def _open_pictures(item: Item, work: Work) -> OpenedPlan:
    loaded, content = load(item, work.model.offline, leaves_pdf=work.every_page)
    media = measure(item, loaded, work.input, work.chosen_pages)
    limits = limits_for(work)
    layout = _layout(limits)
    grids = tuple(plan(frame.width, frame.height, layout, work.model.detail, split=True) for frame in media.frames)
    return OpenedPlan(replace(media, content=content, limits=limits, question=item.question), grids)


def _layout(limits: ModelLimits) -> Layout:
    longest_edge = limits.longest_edge or DEFAULT_TILES_ALONG * limits.tile
    return Layout(limits.tile, limits.tile_tokens, longest_edge, limits.splits)
