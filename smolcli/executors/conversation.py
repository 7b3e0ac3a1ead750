"""What is asked about one item, step by step, and what the replies add up to.

    conversation = Conversation(task, media, generate)
    prompts = conversation.begin()                  # -> Prompts, or the end: an Answer or a Fault
    prompts = conversation.add_reply(slot, reply)   # -> those of the next step once every prompt has its reply

It drives a task's `steps` and talks to no engine.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace

from smolcli.errors import ErrorKind, InputError
from smolcli.inputs.page import PageRequest
from smolcli.options import Generate
from smolcli.tasks.base import Requests, Task, mean_confidence
from smolcli.types import Answer, Fault, Finish, FinishReason, FrameRef, Media, Prompt, Reply, Seconds, Tokens

# What follows: requests to be made, none while others are unanswered; or the end, in an answer or without one.
Outcome = Requests | Answer | Fault


@dataclass
class Totals:
    """What the replies to an item's prompts add up to."""

    tokens: Tokens = Tokens()
    seconds: Seconds = Seconds()
    finish_reason: FinishReason = "stop"  # of the first reply that ended otherwise
    is_cut: bool = False  # whether that reply reached --max-tokens
    confidence: float | None = None  # of the last step's replies

    def add(self, reply: Reply, max_tokens: int) -> None:
        """Count a reply."""
        self.tokens += reply.finish.tokens
        self.seconds += reply.finish.seconds
        if self.finish_reason == "stop" and reply.finish.fault is None:
            self.end(reply.finish, max_tokens)

    def end(self, finish: Finish, max_tokens: int) -> None:
        """Take the reason for which a reply has ended."""
        self.finish_reason = finish.reason
        self.is_cut = finish.reason == "length" and finish.tokens.new >= max_tokens


@dataclass
class Step:
    """The prompts that a task asks at a time, and their replies by slot, None for those that have not come."""

    prompts: Requests = ()
    replies: list[Reply | None] = field(default_factory=list)
    text: str = ""  # the pieces of the reply so far; they begin anew where another engine goes on
    shown_text: str = ""  # what was shown of them, by any engine

    @property
    def answered(self) -> int:
        """How many prompts have their reply."""
        return sum(reply is not None for reply in self.replies)

    @property
    def is_shown(self) -> bool:
        """Whether pieces of its reply are pieces of the answer."""
        request = self.prompts[0] if len(self.prompts) == 1 else None
        return isinstance(request, Prompt) and not request.draft and request.page is None

    @property
    def first_page(self) -> int | None:
        """The number of the first page that it is about; None where it is about no page."""
        return min((request.page for request in self.prompts if request.page is not None), default=None)

    @property
    def losses(self) -> list[str]:
        """What is said of each request if it has no reply."""
        return [_loss(request) for request in self.prompts]

    @property
    def needs_all(self) -> bool:
        """Whether the task cannot go on without one of the replies."""
        return not all(isinstance(request, PageRequest) or request.draft or request.page for request in self.prompts)


class Conversation:
    """Asks what a task asks about one item.

    `totals` is what it has cost so far, `notices` what came up, `has_reply` whether there was any reply of the model.
    """

    def __init__(self, task: Task, media: Media, generate: Generate) -> None:
        self._steps = task.steps(media)
        self._blank_replies = task.blank_replies(media)
        self._generate = generate
        self._judges_faults, self._shows_replies = task.judges_faults, task.shows_replies
        self._text_so_far = task.text_so_far
        self.step = Step()
        self.totals = Totals()
        self.notices: list[str] = []
        self.has_reply = False

    def begin(self) -> Outcome:
        """The prompts of the first step, or the end where the task asks nothing."""
        return self._advance(None)

    def add_piece(self, piece: str) -> str:
        """The text to show when a piece of a reply comes.

        "" while the reply may become one of the blank replies, and while it repeats what was shown before `restart`.
        """
        step = self.step
        if not (step.is_shown and self._shows_replies):
            return ""
        step.text += piece
        if any(reply.startswith(step.text.strip()) for reply in self._blank_replies):
            return ""
        so_far = self._text_so_far(step.text)
        if not so_far.startswith(step.shown_text):  # it does not go on from there: the writer has the whole text
            return ""
        text, step.shown_text = so_far.removeprefix(step.shown_text), so_far
        return text

    def restart(self) -> None:
        """Note that another engine is asked the prompts without a reply: their pieces begin anew."""
        self.step.text = ""

    def add_reply(self, slot: int, reply: Reply) -> Outcome:
        """Take the reply to a prompt of the step. With the last one the step ends, and the task's next one begins."""
        if says_blank(reply, self._blank_replies):
            reply = replace(reply, text="")
        self.step.replies[slot] = reply
        self.has_reply |= isinstance(self.step.prompts[slot], Prompt)
        self.totals.add(reply, self._generate.max_tokens)
        replies = [reply for reply in self.step.replies if reply is not None]
        return () if len(replies) < len(self.step.replies) else self._end_step(replies)

    def _end_step(self, replies: list[Reply]) -> Outcome:
        """Send the replies of the step to the task, unless it cannot do without one that is missing."""
        if self._generate.schema:
            replies = [parse_json(reply) for reply in replies]
        faults = [reply.finish.fault for reply in replies if reply.finish.fault]
        if faults and not self._judges_faults and (self.step.needs_all or len(faults) == len(replies)):
            return faults[0]
        for loss, reply in zip(self.step.losses, replies, strict=True):
            if reply.finish.fault:
                self.notices.append(f"{loss}: {reply.finish.fault.message}")
        self.totals.confidence = mean_confidence(replies)
        return self._advance(replies)

    def _advance(self, replies: Sequence[Reply] | None) -> Outcome:
        """Run the task to its next prompts or its end; `replies` are those to its last ones, None at its beginning."""
        try:
            prompts = next(self._steps) if replies is None else self._steps.send(replies)
            while not prompts:
                prompts = self._steps.send([])
        except StopIteration as end:
            answer: Answer = end.value
            if answer.confidence is not None:
                self.totals.confidence = answer.confidence
            if answer.finish is not None:
                self.totals.end(answer.finish, self._generate.max_tokens)
            return answer
        except InputError as error:  # the task's own: its prompts do not fit the model
            return Fault(error.kind, str(error))
        self.step = Step(prompts, [None] * len(prompts))
        return prompts


def _loss(request: Prompt | PageRequest) -> str:
    if request.page is None:
        return "a part of it has no answer"
    if isinstance(request, PageRequest):
        is_half_turn = request.half_turn
    else:
        is_half_turn = any(isinstance(ref, FrameRef) and ref.crop and ref.crop.half_turn for ref in request.frames)
    return f"page {request.page} {'was not read the other way up' if is_half_turn else 'has no answer'}"


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
