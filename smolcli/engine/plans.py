"""What a run would look at, for --dry-run: sizes of pictures and times of frames, opened without a model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from smolcli.backends.image_processor import DEFAULT_TILES_ALONG, Layout, plan
from smolcli.engine.limits import limits_for
from smolcli.engine.protocol import OpenedPlan, Work
from smolcli.engine.server import fault_of
from smolcli.errors import ModelError
from smolcli.inputs.load import load, measure, open_video
from smolcli.types import Fault, Item, ModelLimits


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
