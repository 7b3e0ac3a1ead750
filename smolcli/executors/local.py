"""Makes records of items on this machine: opens each item ahead, asks the model about it, and gives out its record.

    item -> Engine.open -> Conversation -> Engine.ask -> reply ... -> Answer -> Record -> RecordSink

Where an item is on this way is its JobStage (job.py). Records leave in the order of the items. An item that is done
before an earlier one waits for its turn: a backend may answer several at a time, there may be an engine on each of
several devices, an item may fail before it is asked about, or have the content of one that was answered.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import count
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

from smolcli.engine.engines import Engines
from smolcli.engine.protocol import (
    Decoded,
    DeviceLeftOut,
    DevicesFound,
    Event,
    Failed,
    InboxMessage,
    Opened,
    PieceReceived,
    Ready,
    ReplyReceived,
    Restarted,
)
from smolcli.executors.answers import Answers, Decision, KnownAnswers, Skip
from smolcli.executors.base import RunSpec
from smolcli.executors.conversation import Conversation, Outcome, Step
from smolcli.executors.duplicates import AskModel, Wait
from smolcli.executors.job import Job, JobStage
from smolcli.executors.producer import EndOfItems, Producer
from smolcli.records import notices
from smolcli.records.page_records import has_text, pages_of
from smolcli.records.sink import RecordSink
from smolcli.system.memory import peak_rss_bytes
from smolcli.types import Answer, Fault, Item, Memory, Record

if TYPE_CHECKING:
    from smolcli.records.resume import ResultsFile

AHEAD = 32  # items per device that are opened, or wait to be, before the model comes to them; at least twice its slots
VIDEOS_AHEAD = 4  # the same for videos: each open one holds the times of all its frames
FINISHED_AHEAD = 256  # items per device that are done and wait for their turn, for which others are let in
LET_IN = 8  # items that are let in together, since each time wakes the thread that reads them; of few ahead a quarter
MAX_TURN = 16  # messages after which what follows from them is sent to the engine, though others have come


@dataclass(frozen=True)
class Decided:
    """The decision about an item that waits for it, by its number."""

    number: int
    decision: AskModel | Skip


# What comes into the inbox: from the source, from the engine, decisions, and None to wake the loop.
Message = Item | EndOfItems | BaseException | InboxMessage | Decided | None


class LocalExecutor:
    """Runs one task over many items on this machine; every record goes to `sink`.

    An item whose content was answered under another path gets a copy of that answer. With `results`, that may be one of
    an earlier run, and items that have a record there are left out. Other `answers` may decide which items are asked
    about: a worker's are the driver of its cluster.
    """

    def __init__(
        self, spec: RunSpec, sink: RecordSink, results: ResultsFile | None = None, answers: Answers | None = None
    ) -> None:
        self._spec, self._sink = spec, sink
        self._answers: Answers = answers or KnownAnswers(sink, results, spec.batch.retry_failed)
        self._inbox: SimpleQueue[Message] = SimpleQueue()
        self._engine = Engines(spec.work, self._inbox, spec.batch.timeout, spec.verbose)
        self._queue: dict[int, Job] = {}  # by number, in order: every item whose record was not given out
        self._undecided: dict[int, Job] = {}  # of these, those about which nothing was decided
        self._numbers = count()
        self._ahead = VIDEOS_AHEAD if self._reads_videos else max(AHEAD, 2 * (spec.work.model.jobs or 0))
        self._producer = Producer(self._inbox, self._ahead)
        self._let_in_together, self._to_let_in = min(LET_IN, self._ahead // 4), 0
        self._devices = 1  # for each of which so many items are read ahead
        self._replaced = 0  # items in the queue for which others were let in
        self._has_all_items = False
        self.is_stopping = False
        self._has_dropped = self._is_skipping = False
        self._stops_at_once = False  # whether not even what the model has begun is finished

    @property
    def is_idle(self) -> bool:
        """Whether nothing would be lost now: no prompt is unanswered, and no record waits or is being written."""
        stages = {job.stage for job in list(self._queue.values())}  # a copy: other threads ask too
        return not (JobStage.ASKED in stages or JobStage.DONE in stages or self._is_skipping)

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
            while not self._is_over:
                self._engine.flush()
                self._handle_turn(self._next_message())
        finally:
            self.is_stopping = True
            self._producer.stop()
            self._engine.close()
            self._answers.close()
            self._queue.clear()
            self._undecided.clear()

    def stop(self) -> None:
        """Begin no other item, and finish what the model has begun. Safe in a signal handler."""
        self.is_stopping = True
        self._inbox.put(None)

    def decide(self, number: int, decision: AskModel | Skip) -> None:
        """Say what happens with an item about which `answers` decided to wait. Called from any thread."""
        self._inbox.put(Decided(number, decision))

    @property
    def _is_over(self) -> bool:
        if self._stops_at_once:
            return True
        return not self._queue and (self._has_all_items or self.is_stopping)

    # ---- messages ------------------------------------------------------------------------------------

    def _next_message(self) -> Message:
        try:
            return self._inbox.get(timeout=self._engine.seconds_until_check)
        except Empty:
            return None

    def _handle_turn(self, message: Message) -> None:
        """Handle a message, and those that have come meanwhile."""
        self._handle(message)
        for _ in range(MAX_TURN - 1):
            if self._is_over or self._inbox.empty():
                return
            self._handle(self._inbox.get())

    def _handle(self, message: Message) -> None:
        match message:
            case Item():
                self._admit(message)
            case EndOfItems():
                self._has_all_items = True
            case Decided(number, decision):
                job = self._queue.get(number)
                if job is not None and job.stage is JobStage.WAITING:  # it may have failed meanwhile
                    self._follow(job, decision)
            case BaseException():
                raise message
            case InboxMessage():
                self._handle_events(self._engine.handle(message))
        self._advance_queue()  # also where `check` will raise: what is done is given out first
        if events := self._engine.check():
            self._handle_events(events)
            self._advance_queue()
        if self.is_stopping and not self._has_dropped:
            self._drop_waiting()

    def _admit(self, item: Item) -> None:
        """Queue an item and have it opened."""
        if self.is_stopping:
            return
        job = Job(next(self._numbers), item)
        self._queue[job.number] = job
        self._undecided[job.number] = job
        if item.fault is None:
            self._engine.open(job.number, item)
        else:
            self._fail(job, item.fault)

    def _handle_events(self, events: Sequence[Event]) -> None:
        for event in events:
            if isinstance(event, Restarted):
                self._on_restart(event)
            elif isinstance(event, DevicesFound):
                self._read_ahead(max(len(event.devices), self._devices), self._ahead)
            elif isinstance(event, DeviceLeftOut):
                self._sink.notice(notices.left_out(event.device, event.reason))
            elif isinstance(event, Ready):
                if not self._reads_videos:
                    self._read_ahead(self._devices, max(2 * event.max_sequences, self._ahead))
            elif event.number in self._queue:
                self._handle_event(self._queue[event.number], event)

    def _read_ahead(self, devices: int, ahead: int) -> None:
        """Read so many items ahead for each of so many devices; neither is fewer than before."""
        self._producer.add_permits(devices * ahead - self._devices * self._ahead)
        self._devices, self._ahead = devices, ahead

    def _on_restart(self, event: Restarted) -> None:
        """Tell the user that the engine was lost; what it had not answered another one is asked from the beginning."""
        paths = [self._queue[number].item.path for number in event.numbers if number in self._queue]
        self._sink.note_restart(event.kind, paths[0] if paths else "")
        for job in self._queue.values():
            if job.conversation is not None:
                job.conversation.restart()

    def _handle_event(self, job: Job, event: Opened | Decoded | PieceReceived | ReplyReceived | Failed) -> None:
        match event:
            case Opened(_, media):
                if job.item.question is not None:
                    media = replace(media, question=job.item.question)
                job.open(media, self._spec.identity.id_of(media.content.sha256))
            case Decoded():
                job.add_notices(event.notices)
            case PieceReceived(_, _, piece) if job.conversation is not None:
                if text := job.conversation.add_piece(piece):
                    self._sink.write_piece(text)
            case ReplyReceived(_, slot, reply) if job.conversation is not None:
                self._go_on(job, job.conversation.add_reply(slot, reply))
            case Failed(_, fault, content):
                job.fail(content, self._spec.identity.id_of(content.sha256))
                self._fail(job, fault)

    # ---- from one stage to the next ------------------------------------------------------------------

    def _advance_queue(self) -> None:
        """Give out the records whose turn has come, then decide about items that are open, in order.

        An item waits for those before it that the same engine opens, and for no other.
        """
        self._deliver_first()
        if self.is_stopping:
            return
        engines_waited_for: set[int | None] = set()
        for job in list(self._undecided.values()):
            engine = self._engine.engine_of(job.number)
            if job.stage is JobStage.OPENING:
                engines_waited_for.add(engine)
                if len(engines_waited_for) == self._engine.count:
                    break
            elif engine not in engines_waited_for:
                del self._undecided[job.number]
                if job.stage is JobStage.OPEN:  # else it has failed
                    self._follow(job, self._answers.decide(job.open_item))
        self._deliver_first()

    def _follow(self, job: Job, decision: Decision) -> None:
        """Do with an item what was decided about it."""
        match decision:
            case AskModel():
                self._ask(job)
            case Wait():
                job.wait()
            case Skip(state, id):
                self._is_skipping = True  # the sink may complete sidecars, and write their record
                self._sink.skip(job.item.path, state, id)
                self._is_skipping = False
                self._remove(job)
            case record:
                self._finish(job, record)

    def _ask(self, job: Job) -> None:
        """Have the model asked about an item."""
        if not self.is_stopping:
            conversation = Conversation(self._spec.task, job.media, self._spec.work.generate)
            job.ask(conversation)
            self._go_on(job, conversation.begin())

    def _go_on(self, job: Job, outcome: Outcome) -> None:
        """Ask the prompts that follow, or end the item."""
        match outcome:
            case Answer():
                self._finish(job, self._record(job, outcome, None))
            case Fault():
                self._fail(job, outcome)
            case prompts:
                for slot, prompt in enumerate(prompts):
                    self._engine.ask(job.number, slot, prompt)
                self._show_progress(job)

    def _fail(self, job: Job, fault: Fault) -> None:
        self._finish(job, self._record(job, Answer(""), fault))

    def _finish(self, job: Job, record: Record) -> None:
        """Hold a record until its turn, and let another item in meanwhile."""
        job.finish(record)
        self._engine.release(job.number)
        if self._replaced < FINISHED_AHEAD * self._devices:
            job.is_replaced = True
            self._replaced += 1
            self._let_in()
        self._follow_all(self._answers.finish(job.number, record))

    def _follow_all(self, decisions: Iterable[tuple[int, AskModel | Record]]) -> None:
        """Do with items that have waited for another one what was decided about them."""
        for number, decision in decisions:
            if number in self._queue:
                self._follow(self._queue[number], decision)

    # ---- records go out ------------------------------------------------------------------------------

    def _deliver_first(self) -> None:
        """Give out the records of the items at the head of the queue."""
        while self._queue and not self._stops_at_once:
            job = next(iter(self._queue.values()))
            if job.record is None:
                return
            if not self._answers.deliver(job.number, job.record):
                self.is_stopping = self._stops_at_once = True
            self._remove(job)  # not before: `is_idle` looks at the queue

    def _remove(self, job: Job) -> None:
        """Take an item out of the queue, and let another one in if none was."""
        del self._queue[job.number]
        if job.record is None:
            self._engine.release(job.number)
        if job.is_replaced:
            self._replaced -= 1
        else:
            self._let_in()

    def _let_in(self) -> None:
        """Let another item in, along with others."""
        self._to_let_in += 1
        if self._to_let_in >= self._let_in_together:
            self._producer.add_permits(self._to_let_in)
            self._to_let_in = 0

    def _drop_waiting(self) -> None:
        """Drop all items but those that are done or that the model has begun; of videos the first of each engine."""
        self._has_dropped = True
        begun = self._engine.items_in_progress | {job.number for job in self._queue.values() if job.is_begun}
        if self._reads_videos:
            begun = self._engine.first_of_each(begun)  # a video may take an hour; of the next only a part is lost
        for job in list(self._queue.values()):
            if job.number not in begun and job.stage is not JobStage.DONE:
                self._remove(job)
                self._answers.drop(job.number)  # nobody is asked in its place: the run ends
        self._advance_queue()

    # ---- what is made and shown of an item -------------------------------------------------------------

    def _record(self, job: Job, answer: Answer, fault: Fault | None) -> Record:
        """The record of an item that was answered, or has failed."""
        identity, media, totals, engine = self._spec.identity, job.media, job.totals, self._engine.memory
        reason = "error" if fault else totals.finish_reason
        is_empty = fault is None and answer.text.strip() in self._spec.task.blank_replies(media)
        lacks_table = is_empty and self._spec.task.gives_tables and has_text(answer.data)
        is_blank = is_empty and not lacks_table
        if job.conversation is not None:
            job.add_notices(job.conversation.notices)
        if reason == "length":
            job.add_notices([notices.CUT if totals.is_cut else notices.CONTEXT_FULL])
        if is_blank:
            job.add_notices([notices.BLANK])
        if lacks_table:
            job.add_notices([notices.NO_TABLE])
        if not is_blank:
            pages = pages_of(answer.data)
            job.add_notices(notices.unsure(pages, totals.confidence, self._spec.task.unsure_below))
        return Record(
            job.item.path, job.id or identity.id_of(""), media.content.sha256, media.content.stamp, identity.task,
            answer.text, answer.data, identity.model, identity.backend, reason, totals.tokens, job.seconds,
            tuple(job.notices), Memory(peak_rss_bytes(), engine.engine, engine.gpu), fault, is_blank,
            paths=job.item.paths, confidence=None if fault else totals.confidence,
        )  # fmt: skip

    @property
    def _reads_videos(self) -> bool:
        return self._spec.work.sampling is not None

    def _show_progress(self, job: Job) -> None:
        """Tell the sink how far a video or a document of several pages is."""
        step = Step() if job.conversation is None else job.conversation.step
        if self._reads_videos:
            self._sink.show_video_progress(job.item.path, step.answered, len(step.replies), len(job.media.frames))
        elif len(job.media.frames) > 1 and (page := step.first_page):
            self._sink.show_page_progress(job.item.path, page, job.media.frames[-1].index + 1)
