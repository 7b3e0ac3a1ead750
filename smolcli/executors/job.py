"""One item on its way to its record, for executors/local.py, and what is made of its prompts and replies."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace

from smolcli.errors import ErrorKind
from smolcli.types import Fault, FinishReason, Item, Media, Prompt, Record, Reply, Seconds, Steps, Tokens


@dataclass(eq=False)
class Job:
    """One item on its way to its record, and what it has cost so far."""

    number: int
    item: Item
    media: Media | None = None  # once it was opened, or failed
    id: str = ""  # of its record
    steps: Steps | None = None  # once its turn to be asked about has come
    unanswered: int = 0  # of the prompts of the current step
    replies: list[Reply | None] = field(default_factory=list)  # to the current step, by slot
    tokens: Tokens = Tokens()
    seconds: Seconds = Seconds()
    finish_reason: FinishReason = "stop"  # of the first reply that ended otherwise
    is_cut: bool = False  # whether a reply reached --max-tokens
    notices: dict[str, None] = field(default_factory=dict)
    is_shown: bool = False  # whether pieces of its reply are pieces of the answer
    held_text: str = ""  # pieces that are not shown yet: the reply may turn out to say that there is no text
    parts: list[str] = field(default_factory=list)  # what each prompt is about, if the step can do without some replies
    has_reply: bool = False  # whether it has had any reply
    record: Record | None = None  # once it is done, until its turn to be given out
    is_replaced: bool = False  # whether another item was let in while its record waits
    duplicates_id: str = ""  # the id under which its duplicates wait; `id` changes if it fails later


def parts_of(prompts: Sequence[Prompt]) -> list[str]:
    """What each prompt of a step is about, in notices; none where the step needs every reply."""
    if len(prompts) == 1 or not all(prompt.draft or prompt.page for prompt in prompts):
        return []
    return ["a part of it" if prompt.page is None else f"page {prompt.page}" for prompt in prompts]


def says_blank(reply: Reply, blank_replies: Collection[str]) -> bool:
    """Whether a reply says that there is nothing to read, also where --max-tokens has cut it within these words."""
    text = reply.text.strip()
    is_cut = bool(text) and reply.finish.reason == "length"
    return text in blank_replies or (is_cut and any(words.startswith(text) for words in blank_replies))


def parse_json(reply: Reply) -> Reply:
    """A reply to a schema with its object as `data`, or with a fault where it is not a whole one."""
    if reply.finish.fault is not None:
        return reply
    try:
        data = json.loads(reply.text)
        json.dumps(data, allow_nan=False)  # 1e999 is a number in JSON's grammar that no reader can hold
    except (ValueError, RecursionError):
        message = f"the answer is no whole object (it ended with: {reply.finish.reason}); raise --max-tokens"
        return replace(reply, finish=replace(reply.finish, fault=Fault(ErrorKind.SCHEMA, message)))
    return replace(reply, data=data)
