"""Makes records of items on this machine: opens each item ahead, asks the model about it, and gives out its record.

    item -> Engine.open -> Task.steps -> Engine.ask -> reply ... -> Answer -> Record -> RecordSink

Records leave in the order of the items. An item that is done before an earlier one waits for its turn: a backend may
answer several at a time, an item may fail before it is asked about, or have the content of one that was answered.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import count
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

from smolcli.engine.client import Engine
from smolcli.engine.protocol import Decoded, Event, Failed, InboxMessage, Opened, PieceReceived, Restarted, Work
from smolcli.errors import InputError
from smolcli.executors.job import Job, parse_json, parts_of, says_blank
from smolcli.executors.producer import EndOfItems, Producer
from smolcli.options import Batch
from smolcli.records import notices
from smolcli.records.record_id import Identity
from smolcli.records.run_answers import RunAnswers
from smolcli.records.sink import RecordSink
from smolcli.system.memory import peak_rss_bytes
from smolcli.tasks.base import Task
from smolcli.types import (
    Answer,
    Content,
    Fault,
    FinishReason,
    Item,
    Media,
    Record,
    Reply,
    Seconds,
)

if TYPE_CHECKING:
    from smolcli.records.resume import InputState, ResultsFile

AHEAD = 32  # items that are opened, or wait to be, before the model has come to them
VIDEOS_AHEAD = 4  # the same for videos: each open one holds the times of all its frames
FINISHED_AHEAD = 256  # items that are done and wait for their turn, for which others are let in

# What comes into the inbox: from the source, from the engine, and None to wake the loop.
Message = Item | EndOfItems | BaseException | InboxMessage | None


class LocalExecutor:
    """Runs one task over many items on this machine; every record goes to `sink`.

    An item whose content was answered under another path gets a copy of that answer. With `results`, that may be one of
    an earlier run, and items that have a record there are left out.
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
        self._run_answers = RunAnswers()  # of the contents that `results` does not know
        batch = batch or Batch()
        self._retry_failed = batch.retry_failed
        self._inbox: SimpleQueue[Message] = SimpleQueue()
        self._engine = Engine(work, self._inbox, batch.timeout, verbose)
        self._queue: dict[int, Job] = {}  # by number, in order: every item whose record was not given out
        self._duplicates: dict[str, list[Job]] = {}  # id of an item under way -> items with its content, which wait
        self._numbers = count()
        self._producer = Producer(self._inbox, AHEAD if work.sampling is None else VIDEOS_AHEAD)
        self._has_all_items = False
        self.is_stopping = False
        self._has_dropped = self._is_delivering = False
        self._stops_at_once = False  # whether not even what the model has begun is finished

    @property
    def is_idle(self) -> bool:
        """Whether the model was asked nothing that it has not answered, and no record is being given out."""
        return not (self._engine.is_busy or self._is_delivering)

    @property
    def ready_at(self) -> float:
        """When the model was loaded, by time.perf_counter; 0 before."""
        return self._engine.ready_at

    def run(self, source: Iterable[Item]) -> None:
        """Give the record of every item to the sink, in order.

        Raises what `source` and the sink raise, ModelError and EngineError.
        """
        self._producer.start(source)
        try:
            while self._queue or not (self._has_all_items or self.is_stopping):
                self._handle(self._next_message())
                if self.is_stopping and not self._has_dropped:
                    self._drop_waiting()
        finally:
            self.is_stopping = True
            self._producer.stop()
            self._engine.close()
            self._run_answers.close()

    def stop(self) -> None:
        """Begin no other item, and finish what the model has begun. Safe in a signal handler."""
        self.is_stopping = True
        self._inbox.put(None)

    # ---- messages ------------------------------------------------------------------------------------

    def _next_message(self) -> Message:
        try:
            return self._inbox.get(timeout=self._engine.seconds_until_check)
        except Empty:
            return None

    def _handle(self, message: Message) -> None:
        match message:
            case Item():
                self._admit(message)
            case EndOfItems():
                self._has_all_items = True
            case BaseException():
                raise message
            case (_, _):
                self._handle_events(self._engine.handle(message))
        self._handle_events(self._engine.check())

    def _admit(self, item: Item) -> None:
        """Queue an item and have it opened."""
        if self.is_stopping:
            return
        number = next(self._numbers)
        job = self._queue[number] = Job(number, item)
        if item.fault is None:
            self._engine.open(number, item)
        else:
            self._on_failed(job, item.fault, Content())
            self._advance_queue()

    def _handle_events(self, events: Sequence[Event]) -> None:
        for event in events:
            if isinstance(event, Restarted):
                paths = [self._queue[number].item.path for number in event.numbers if number in self._queue]
                self._sink.note_restart(event.kind, paths[0] if paths else "")
                continue
            job = self._queue.get(event.number)
            if job is None:
                continue
            match event:
                case PieceReceived():
                    self._show(job, event.text)
                case Decoded():
                    job.seconds += Seconds(media=event.seconds)
                    job.notices.update(dict.fromkeys(event.notices))
                case Opened():
                    self._on_opened(job, event.media)
                case Failed():
                    self._on_failed(job, event.fault, event.content)
                case _:
                    self._on_reply(job, event.slot, event.reply)
            self._advance_queue()

    def _advance_queue(self) -> None:
        """Give out the records whose turn has come, then ask about the items that are open, in order."""
        for job in list(self._queue.values()):
            if job.record is not None and self._is_first(job) and not self._stops_at_once:
                self._deliver(job, job.record)
        if self.is_stopping:
            return
        for job in list(self._queue.values()):
            if job.record is None and job.media is None:
                break  # it is being opened; later items wait for it
            if job.record is None and job.steps is None and not self._waits_for_duplicate(job):
                self._begin(job)

    def _is_first(self, job: Job) -> bool:
        return job is next(iter(self._queue.values()), None)

    # ---- an item is opened ---------------------------------------------------------------------------

    def _on_opened(self, job: Job, media: Media) -> None:
        job.media = replace(media, question=job.item.question)
        job.id = self._identity.id_of(media.content.sha256)
        job.seconds = Seconds(media=media.seconds)
        job.notices.update(dict.fromkeys(media.notices))
        if self._has_record_already(job):
            self._skip(job)
        elif (answered := (self._results or self._run_answers).answer(job.id)) is not None:
            job.record = self._copy(job, answered)

    def _on_failed(self, job: Job, fault: Fault, content: Content) -> None:
        job.media = Media((), content)  # also where it was open before: it may have changed
        job.id = self._identity.id_of(content.sha256)
        if self._has_record_already(job):
            self._skip(job)
            return
        job.record = self._make_record(job, Answer(""), "error", fault)
        self._engine.release(job.number)

    def _waits_for_duplicate(self, job: Job) -> bool:
        """Whether an item of the same content is under way. If none is, later ones will wait for this item."""
        if job.id not in self._duplicates:
            self._duplicates[job.id] = []
            job.duplicates_id = job.id
            return False
        if job not in self._duplicates[job.id]:
            self._duplicates[job.id].append(job)
        return True

    # ---- the model is asked about it -----------------------------------------------------------------

    def _begin(self, job: Job) -> None:
        assert job.media is not None
        job.steps = self._task.steps(job.media)
        self._run_step(job, None)

    def _run_step(self, job: Job, replies: Sequence[Reply] | None) -> None:
        """Send the replies of the last step to the task, and ask the prompts of the next one, or end the item."""
        assert job.steps is not None
        try:
            prompts = next(job.steps) if replies is None else job.steps.send(replies)
        except StopIteration as end:
            self._finish(job, self._make_record(job, end.value, job.finish_reason, None))
            return
        except InputError as error:  # the task's own: its prompts do not fit the model
            self._finish(job, self._make_record(job, Answer(""), "error", Fault(error.kind, str(error))))
            return
        if not prompts:
            return self._run_step(job, [])
        job.unanswered, job.replies = len(prompts), [None] * len(prompts)
        job.is_shown = len(prompts) == 1 and not prompts[0].draft
        job.parts = parts_of(prompts)
        self._report_progress(job)
        for slot, prompt in enumerate(prompts):
            self._engine.ask(job.number, slot, prompt)

    def _show(self, job: Job, piece: str) -> None:
        """Show a piece of an answer, unless the reply so far may become one of the task's blank replies."""
        if job.is_shown and job.media is not None:
            job.held_text += piece
            if not any(reply.startswith(job.held_text.strip()) for reply in self._task.blank_replies(job.media)):
                self._sink.write_piece(job.held_text)
                job.held_text = ""

    def _on_reply(self, job: Job, slot: int, reply: Reply) -> None:
        if job.media is not None and says_blank(reply, self._task.blank_replies(job.media)):
            reply = replace(reply, text="")
        job.replies[slot] = reply
        job.has_reply = True
        job.unanswered -= 1
        job.tokens += reply.finish.tokens
        job.seconds += reply.finish.seconds
        job.is_cut |= reply.finish.reason == "length" and reply.finish.tokens.new >= self._work.generate.max_tokens
        if job.finish_reason == "stop" and reply.finish.fault is None:
            job.finish_reason = reply.finish.reason
        if job.unanswered:
            self._report_progress(job)
            return
        replies = [reply for reply in job.replies if reply is not None]
        if self._work.generate.schema:
            replies = [parse_json(reply) for reply in replies]
        faults = [reply.finish.fault for reply in replies if reply.finish.fault]
        if not faults or (job.parts and len(faults) < len(replies)):
            for part, reply in zip(job.parts, replies, strict=False):
                if reply.finish.fault:
                    job.notices[f"{part} has no answer: {reply.finish.fault.message}"] = None
            self._run_step(job, replies)
        else:
            self._finish(job, self._make_record(job, Answer(""), "error", faults[0]))

    def _report_progress(self, job: Job) -> None:
        """Tell the sink how far a video is."""
        if self._work.sampling is not None and job.media is not None:
            done, total = len(job.replies) - job.unanswered, len(job.replies)
            self._sink.show_video_progress(job.item.path, done, total, len(job.media.frames))

    # ---- its record is made and given out ------------------------------------------------------------

    def _finish(self, job: Job, record: Record) -> None:
        """Give out a record, or hold it until its turn and let another item in meanwhile."""
        if self._is_first(job):
            self._deliver(job, record)
            return
        job.record = record
        self._engine.release(job.number)
        if sum(other.is_replaced for other in self._queue.values()) < FINISHED_AHEAD:
            job.is_replaced = True
            self._producer.add_permits()

    def _make_record(self, job: Job, answer: Answer, reason: FinishReason, fault: Fault | None) -> Record:
        identity, media = self._identity, job.media or Media(())
        is_blank = fault is None and answer.text.strip() in self._task.blank_replies(media)
        if fault is None and reason == "length":
            job.notices[notices.CUT if job.is_cut else notices.CONTEXT_FULL] = None
        if is_blank:
            job.notices[notices.BLANK] = None
        return Record(
            job.item.path, job.id, media.content.sha256, media.content.stamp, identity.task, answer.text, answer.data,
            identity.model, identity.backend, reason, job.tokens, job.seconds, tuple(job.notices),
            replace(self._engine.memory, parent=peak_rss_bytes()), fault, is_blank, paths=job.item.paths,
        )  # fmt: skip

    def _copy(self, job: Job, answered: Record) -> Record:
        """The record of another item of the same content for this one; its seconds are those of opening it."""
        assert job.media is not None
        item, stamp = job.item, job.media.content.stamp
        return replace(answered, path=item.path, stamp=stamp, seconds=job.seconds, paths=item.paths)

    def _has_record_already(self, job: Job) -> bool:
        return self._results is not None and self._results.is_skipped(self._state(job), self._retry_failed)

    def _state(self, job: Job) -> InputState:
        if self._results is None or job.media is None:
            return "new"
        return self._results.state_by_id(job.item.path, job.id, job.media.content.stamp)

    def _skip(self, job: Job) -> None:
        """Leave out an item whose record is among the results."""
        self._remove(job)
        self._sink.skip(job.item.path, self._state(job) == "failed", job.id)

    def _deliver(self, job: Job, record: Record) -> None:
        """Give a record to the sink; items of the same content get a copy, or are asked about if it failed."""
        duplicates = self._remove(job)
        self._is_delivering = True
        if not self._sink.write_record(record):
            self.is_stopping = self._stops_at_once = True
        self._is_delivering = False
        if self._results is None:
            self._run_answers.add(record)
        for duplicate in duplicates:
            if self._results is not None and duplicate.item.path == job.item.path:
                self._skip(duplicate)
            elif record.error is None:
                duplicate.record = self._copy(duplicate, record)

    def _remove(self, job: Job) -> list[Job]:
        """Take an item out of the queue. Returns its duplicates, which wait no more."""
        del self._queue[job.number]
        self._engine.release(job.number)
        if not job.is_replaced:
            self._producer.add_permits()
        return self._duplicates.pop(job.duplicates_id, [])

    def _drop_waiting(self) -> None:
        """Drop all items but those that are done or that the model has begun; of these the first video alone."""
        self._has_dropped = True
        begun = self._engine.items_in_progress | {job.number for job in self._queue.values() if job.has_reply}
        if self._work.sampling is not None:
            begun = set(sorted(begun)[:1])  # a video may take an hour; of the next one only a part is lost
        for job in list(self._queue.values()):
            if self._stops_at_once or (job.number not in begun and job.record is None):
                self._remove(job)
        self._advance_queue()
