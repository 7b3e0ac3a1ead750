"""executors/job.py: an item goes from stage to stage in the ways that JobStage names, and in no other."""

from __future__ import annotations

import itertools

import pytest

from smolcli.executors.conversation import Conversation
from smolcli.executors.job import Job, JobStage
from smolcli.options import Generate
from smolcli.tasks.caption import Caption
from smolcli.types import FrameRef, Item, Media
from tests.helpers import RECORD

MEDIA = Media((FrameRef(0, 1, 1),), seconds=0.25, notices=("it is cut short",))
ALLOWED = {
    ("OPENING", "OPEN"), ("OPENING", "DONE"), ("OPEN", "WAITING"), ("OPEN", "ASKED"), ("OPEN", "DONE"),
    ("WAITING", "ASKED"), ("WAITING", "DONE"), ("ASKED", "DONE"),
}  # fmt: skip


def go(job: Job, stage: JobStage) -> None:
    """Have the job go to a stage by the method for it."""
    match stage:
        case JobStage.OPEN:
            job.open(MEDIA, "0f")
        case JobStage.WAITING:
            job.wait()
        case JobStage.ASKED:
            job.ask(Conversation(Caption(), MEDIA, Generate()))
        case JobStage.DONE:
            job.finish(RECORD)


@pytest.mark.parametrize(
    ("before", "after"), [pair for pair in itertools.product(JobStage, JobStage) if pair[1] is not JobStage.OPENING]
)
def test_only_the_ways_that_the_stages_name_can_be_gone(before: JobStage, after: JobStage) -> None:
    job = Job(0, Item.of("a.png"), before)
    if (before.name, after.name) in ALLOWED:
        go(job, after)
        assert job.stage is after
    else:
        with pytest.raises(ValueError, match=f"a.png cannot go from {before.name} to {after.name}"):
            go(job, after)
        assert job.stage is before


def test_opening_counts_its_seconds_and_keeps_notices_once() -> None:
    job = Job(3, Item.of("a.png"))
    assert (job.seconds.media, job.totals.tokens.new) == (0, 0)
    job.open(MEDIA, "0f")
    job.add_notices(["it is cut short", "other"])
    assert (job.seconds.media, list(job.notices)) == (0.25, ["it is cut short", "other"])
    assert (job.open_item.number, job.open_item.path, job.open_item.id) == (3, "a.png", "0f")
