"""Items to records: every item is opened ahead, asked about in order, and its record given out as it is done.

    item -> engine.open -> task.steps -> engine.ask -> reply ... -> answer -> record -> delivery

Records leave in the order of the inputs. What overtakes another, because a backend answers several at once, because it
failed, or because it is a copy of another answer, waits for its turn.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

from smolcli.engine.client import Engine
from smolcli.engine.protocol import Decoded, Event, Failed, Opened, PieceReceived, Work
from smolcli.errors import InputError
from smolcli.executors.producer import END, Producer
from smolcli.options import Batch
from smolcli.records.record_id import Identity
from smolcli.records.sink import RecordSink
from smolcli.system.memory import peak
from smolcli.tasks.base import Task
from smolcli.types import Answer, Content, Fault, FinishReason, Item, Media, Record, Reply, Seconds, Steps, Tokens

if TYPE_CHECKING:
    from smolcli.records.resume import ResultsFile, State

AHEAD = 32  # items that are opened, or waiting to be, before the model has come to them
VIDEOS_AHEAD = 4  # the same of videos, of which each holds the times of all its frames
WAITING = 256  # records that wait for their turn, beside those


@dataclass(eq=False)
class _Job:
    """One item on its way, and what it has cost."""

    number: int
    item: Item
    media: Media | None = None
    id: str = ""
    steps: Steps | None = None
    waiting: int = 0
    replies: list[Reply | None] = field(default_factory=list)
    tokens: Tokens = Tokens()
    seconds: Seconds = Seconds()
    reason: FinishReason = "stop"  # of the first reply that ended otherwise
    notices: dict[str, None] = field(default_factory=dict)
    is_shown: bool = False  # whether its reply is the answer
    is_draft: bool = False  # whether some of its replies are enough
    is_begun: bool = False  # whether it has had a reply
    record: Record | None = None  # done, and waiting for its turn
    has_left: bool = False  # whether another item was let in for it while it waits
    first_of: str = ""  # the id for whose answer its twins wait; its own may change when it fails


class LocalExecutor:
    """One task over many items, here; every record goes to `delivery`.

    With `results` an item that has its record there is left out, and one of the same content takes the answer that is
    there.
    """

    def __init__(
        self,
        task: Task,
        identity: Identity,
        work: Work,
        sink: RecordSink,
        results: ResultsFile | None = None,
        batch: Batch | None = None,
        verbose: bool = False,
    ) -> None:
        self._task, self._identity, self._work = task, identity, work
        self._sink, self._results = sink, results
        batch = batch or Batch()
        self._retry_failed = batch.retry_failed
        self._inbox: SimpleQueue[Any] = SimpleQueue()
        self._engine = Engine(work, self._inbox, batch.timeout, verbose)
        self._line: dict[int, _Job] = {}  # every item that is not done, in order
        self._twins: dict[str, list[_Job]] = {}  # id of an item under way -> items of the same content that wait
        self._numbers = count()
        self._producer = Producer(self._inbox, AHEAD if work.sampling is None else VIDEOS_AHEAD)
        self._fed = False  # whether all items came
        self.stopping = False
        self._let_go = self._delivering = False
        self._at_once = False  # whether not even what the model is at is finished

    @property
    def is_idle(self) -> bool:
        """Whether nothing is under way: the model has been asked nothing, and no record is being given out."""
        return not (self._engine.is_busy or self._delivering)

    @property
    def ready_at(self) -> float:
        """When the model was loaded, by time.perf_counter; 0 while it is not."""
        return self._engine.ready_at

    def over(self, source: Iterable[Item]) -> None:
        """Answers every item. Raises what `source` and the delivery raise, ModelError and EngineError."""
        self._producer.begin(source)
        try:
            while self._line or not (self._fed or self.stopping):
                self._take(self._next())
                if self.stopping and not self._let_go:
                    self._drop_what_waits()
        finally:
            self.stopping = True
            self._producer.stop()
            self._engine.close()

    def stop(self) -> None:
        """Begin no item any more; what the model is at is finished. Safe in a signal handler."""
        self.stopping = True
        self._inbox.put(None)

    def _next(self) -> Any:
        try:
            return self._inbox.get(timeout=self._engine.patience)
        except Empty:
            return None

    def _take(self, message: Any) -> None:
        if isinstance(message, Item):
            self._enter(message)
        elif isinstance(message, tuple):
            self._on(self._engine.handle(message))
        elif message is END:
            self._fed = True
        elif message is not None:
            raise message
        self._on(self._engine.check())

    def _enter(self, item: Item) -> None:
        if self.stopping:
            return
        number = next(self._numbers)
        self._line[number] = _Job(number, item)
        if item.fault is None:
            self._engine.open(number, item)
        else:
            self._failed(self._line[number], item.fault, Content())
            self._settle()

    def _on(self, events: Sequence[Event]) -> None:
        for event in events:
            job = self._line.get(event.number)
            if job is None:
                continue
            if isinstance(event, PieceReceived):
                if job.is_shown:
                    self._sink.piece(event.text)
            elif isinstance(event, Decoded):
                job.seconds += Seconds(media=event.seconds)
                job.notices.update(dict.fromkeys(event.notices))
            elif isinstance(event, Opened):
                self._opened(job, event.media)
            elif isinstance(event, Failed):
                self._failed(job, event.fault, event.content)
            else:
                self._replied(job, event.slot, event.reply)
            self._settle()

    def _settle(self) -> None:
        """Gives out the records whose turn has come and begins what is open, in order."""
        for job in list(self._line.values()):
            if job.record is not None and self._is_first(job) and not self._at_once:
                self._done(job, job.record)
        if self.stopping:
            return
        for job in list(self._line.values()):
            if job.record is None and job.media is None:
                break  # it is being opened; what comes after it waits
            if job.record is None and job.steps is None and not self._waits_for_twin(job):
                self._begin(job)

    def _opened(self, job: _Job, media: Media) -> None:
        job.media = replace(media, question=job.item.question)
        job.id = self._identity.id_of(media.content.sha256)
        job.seconds = Seconds(media=media.seconds)
        job.notices.update(dict.fromkeys(media.notices))
        if self._results is None:
            return
        if self._has_its_record(job):
            self._leave_out(job)
        elif (same := self._results.answer(job.id)) is not None:
            job.record = self._copy(job, same)

    def _waits_for_twin(self, job: _Job) -> bool:
        """Whether an item of the same content is under way; if none is, this one now is."""
        if self._results is None:
            return False
        if job.id not in self._twins:
            self._twins[job.id] = []
            job.first_of = job.id
            return False
        if job not in self._twins[job.id]:
            self._twins[job.id].append(job)
        return True

    def _begin(self, job: _Job) -> None:
        assert job.media is not None
        job.steps = self._task.steps(job.media)
        self._advance(job, None)

    def _advance(self, job: _Job, replies: Sequence[Reply] | None) -> None:
        assert job.steps is not None
        try:
            prompts = next(job.steps) if replies is None else job.steps.send(replies)
        except StopIteration as end:
            self._ended(job, self._record(job, end.value, job.reason, None))
            return
        except InputError as error:  # of the task's own: what is asked does not fit
            self._ended(job, self._record(job, Answer(""), "error", Fault(error.kind, str(error))))
            return
        if not prompts:
            return self._advance(job, [])
        job.waiting, job.replies = len(prompts), [None] * len(prompts)
        job.is_shown = len(prompts) == 1 and not prompts[0].draft
        job.is_draft = len(prompts) > 1 and all(prompt.draft for prompt in prompts)
        self._tell(job)
        for slot, prompt in enumerate(prompts):
            self._engine.ask(job.number, slot, prompt)

    def _replied(self, job: _Job, slot: int, reply: Reply) -> None:
        job.replies[slot] = reply
        job.is_begun = True
        job.waiting -= 1
        job.tokens += reply.finish.tokens
        job.seconds += reply.finish.seconds
        if job.reason == "stop":
            job.reason = reply.finish.reason
        if job.waiting:
            self._tell(job)
            return
        replies = [each for each in job.replies if each is not None]
        if self._work.generate.schema:
            replies = [_parsed(each) for each in replies]
        faults = [each.finish.fault for each in replies if each.finish.fault]
        if not faults or (job.is_draft and len(faults) < len(replies)):
            job.notices.update((f"a part of it has no answer: {fault.message}", None) for fault in faults)
            self._advance(job, replies)
        else:
            self._ended(job, self._record(job, Answer(""), "error", faults[0]))

    def _ended(self, job: _Job, record: Record) -> None:
        """Gives out a record, or holds it until its turn."""
        if self._is_first(job):
            self._done(job, record)
            return
        job.record = record
        self._engine.forget(job.number)
        if sum(each.has_left for each in self._line.values()) < WAITING:
            job.has_left = True
            self._producer.make_room()

    def _is_first(self, job: _Job) -> bool:
        return job is next(iter(self._line.values()), None)

    def _tell(self, job: _Job) -> None:
        """How far a video is."""
        if self._work.sampling is not None and job.media is not None:
            done, of = len(job.replies) - job.waiting, len(job.replies)
            self._sink.part(job.item.path, done, of, len(job.media.frames))

    def _failed(self, job: _Job, fault: Fault, content: Content) -> None:
        job.media = Media((), content)  # which is not what it was, where it had been open before
        job.id = self._identity.id_of(content.sha256)
        if self._has_its_record(job):
            self._leave_out(job)
            return
        job.record = self._record(job, Answer(""), "error", fault)
        self._engine.forget(job.number)

    def _record(self, job: _Job, answer: Answer, reason: FinishReason, fault: Fault | None) -> Record:
        who, content = self._identity, job.media.content if job.media else Content()
        return Record(
            job.item.path, job.id, content.sha256, content.stamp, who.task, answer.text, answer.data, who.model,
            who.backend, reason, job.tokens, job.seconds, tuple(job.notices),
            replace(self._engine.memory, parent=peak()), fault,
        )  # fmt: skip

    def _copy(self, job: _Job, same: Record) -> Record:
        """The answer of another path of the same content; it has cost the time to find that out."""
        assert job.media is not None
        return replace(same, path=job.item.path, stamp=job.media.content.stamp, seconds=job.seconds)

    def _has_its_record(self, job: _Job) -> bool:
        state = self._state(job)
        return state == "done" or (state == "failed" and not self._retry_failed)

    def _leave_out(self, job: _Job) -> None:
        self._remove(job)
        self._sink.skip(job.item.path, self._state(job) == "failed", job.id)

    def _state(self, job: _Job) -> State:
        if self._results is None or job.media is None:
            return "new"
        return self._results.state_of(job.item.path, job.id, job.media.content.stamp)

    def _done(self, job: _Job, record: Record) -> None:
        twins = self._remove(job)
        self._delivering = True
        if not self._sink.take(record):
            self.stopping = self._at_once = True
        self._delivering = False
        for twin in twins:
            if twin.item.path == job.item.path:
                self._leave_out(twin)
            elif record.error is None:
                twin.record = self._copy(twin, record)

    def _remove(self, job: _Job) -> list[_Job]:
        """Takes an item out of the line; the items that waited for its answer and wait no more."""
        del self._line[job.number]
        self._engine.forget(job.number)
        if not job.has_left:
            self._producer.make_room()
        return self._twins.pop(job.first_of, [])

    def _drop_what_waits(self) -> None:
        """Forgets all items but those that the model has begun, if they are to be finished."""
        self._let_go = True
        begun = self._engine.items_in_progress | {job.number for job in self._line.values() if job.is_begun}
        if self._work.sampling is not None:
            begun = set(sorted(begun)[:1])  # a video may take an hour; of the next one no more than a part is lost
        for job in list(self._line.values()):
            if self._at_once or (job.number not in begun and job.record is None):
                self._remove(job)
        self._settle()


def _parsed(reply: Reply) -> Reply:
    """A reply to a schema with the object that it is; a fault where it has no end."""
    if reply.finish.fault is not None:
        return reply
    try:
        data = json.loads(reply.text)
        json.dumps(data, allow_nan=False)  # 1e999 is a number of JSON's grammar that none of its readers has
    except (ValueError, RecursionError):
        what = f"the answer is no whole object (it ended with: {reply.finish.reason}); raise --max-tokens"
        return replace(reply, finish=replace(reply.finish, fault=Fault("schema", what)))
    return replace(reply, data=data)
