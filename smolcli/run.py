"""Takes one request from options to its last record.

    items -> task.steps -> prompts -> backend -> pieces -> replies -> answer -> record -> writer

The only module that sees every stage.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import platform
import signal
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from types import FrameType
from typing import TextIO

from smolcli import models, registry
from smolcli.backends.base import Backend
from smolcli.backends.worker import Worker
from smolcli.console import Console
from smolcli.errors import EngineError, Exit, InputError, UsageError
from smolcli.inputs.words import is_many, items, takes
from smolcli.options import Generate, Input, Model, Output
from smolcli.replies import Replies
from smolcli.tasks.base import Task
from smolcli.types import Answer, Fault, FinishReason, Item, Media, Prompt, Record, Reply, Seconds, Steps, Tokens
from smolcli.writers.base import Writer
from smolcli.writers.destination import destination


@dataclass
class _Job:
    """One item on its way: its steps, and what it has cost."""

    item: Item
    steps: Steps
    id: str
    media: float
    waiting: int = 0
    replies: list[Reply | None] = field(default_factory=list)
    tokens: Tokens = Tokens()
    seconds: Seconds = Seconds()


@dataclass(frozen=True)
class Identity:
    """What, beside the medium, decides an answer; `id_of` makes a record's id of both."""

    task: str
    model: str
    backend: str
    fingerprint: str = ""
    options: str = ""

    def id_of(self, sha256: str) -> str:
        """SHA-256, in hex, of the medium's content, the task, the model's files and all options that change answers.

        The model's name is no part of it: a copy under another name answers alike.
        """
        parts = [sha256, self.task, self.backend, self.fingerprint, self.options]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


class Run:
    """One task over many items through one backend; records go to `writer` as they are done."""

    def __init__(
        self, task: Task, identity: Identity, writer: Writer, console: Console, fail_fast: bool = False
    ) -> None:
        self.task, self.identity, self.writer, self.console = task, identity, writer, console
        self.fail_fast = fail_fast
        self.done = self.failed = 0
        self.stopping = self.interrupted = False
        self.idle = False  # whether an input is waited for and nothing else is under way
        self._ready: deque[tuple[_Job, int, Prompt]] = deque()
        self._taken: dict[int, tuple[_Job, int, Prompt]] = {}

    def over(self, source: Iterable[Item], backend: Backend, options: Generate) -> None:
        """Answers every item."""
        replies = Replies()
        for piece in backend.generate(self._prompts(iter(source)), options):
            job, slot, prompt = self._taken[piece.index]
            if piece.text and len(job.replies) == 1 and not prompt.draft:
                self.writer.piece(piece.text)
            if reply := replies.add(piece):
                del self._taken[piece.index]
                self._answered(job, slot, reply)

    def _prompts(self, source: Iterator[Item]) -> Iterator[Prompt | None]:
        index = 0
        while True:
            if self._ready:
                self._taken[index] = self._ready.popleft()
                yield self._taken[index][2]
                index += 1
            elif (item := None if self.stopping else next(source, None)) is not None:
                self.idle = not self._taken
                self._open(item)
            elif self._taken:
                yield None
            else:
                return

    def _open(self, item: Item) -> None:
        started = time.perf_counter()
        try:
            media = item.read()
        except InputError as error:
            self._fail(item, Fault(error.kind, str(error)))
            return
        except Exception as error:  # a fault of ours, or a decoder's that none of its errors covers
            self._fail(item, Fault("fault", f"unexpected fault while it was opened: {type(error).__name__}: {error}"))
            return
        finally:
            self.idle = False
        job = _Job(item, self.task.steps(media), self.identity.id_of(media.sha256), time.perf_counter() - started)
        self._advance(job, None)

    def _advance(self, job: _Job, replies: Sequence[Reply] | None) -> None:
        try:
            prompts = next(job.steps) if replies is None else job.steps.send(replies)
        except StopIteration as end:
            self._finish(job, end.value, replies or ())
            return
        if not prompts:
            return self._advance(job, [])
        job.waiting, job.replies = len(prompts), [None] * len(prompts)
        self._ready.extend((job, slot, prompt) for slot, prompt in enumerate(prompts))

    def _answered(self, job: _Job, slot: int, reply: Reply) -> None:
        job.replies[slot] = reply
        job.waiting -= 1
        job.tokens += reply.finish.tokens
        job.seconds += reply.finish.seconds
        if job.waiting:
            return
        replies = [each for each in job.replies if each is not None]
        fault = next((each.finish.fault for each in replies if each.finish.fault), None)
        if fault is None:
            self._advance(job, replies)
        else:
            self._write(self._record(job.item, job.id, Answer(""), "error", job.tokens, self._cost(job), fault))

    def _finish(self, job: _Job, answer: Answer, replies: Sequence[Reply]) -> None:
        reasons = [reply.finish.reason for reply in replies]
        reason: FinishReason = next((r for r in reasons if r != "stop"), "stop")
        self._write(self._record(job.item, job.id, answer, reason, job.tokens, self._cost(job), None))

    def _cost(self, job: _Job) -> Seconds:
        return replace(job.seconds, media=job.seconds.media + job.media)

    def _fail(self, item: Item, fault: Fault) -> None:
        self._write(self._record(item, "", Answer(""), "error", Tokens(), Seconds(), fault))

    def _record(
        self,
        item: Item,
        identity: str,
        answer: Answer,
        reason: FinishReason,
        tokens: Tokens,
        seconds: Seconds,
        fault: Fault | None,
    ) -> Record:
        who = self.identity
        return Record(
            item.path, identity, who.task, answer.text, answer.data, who.model, who.backend,
            reason, tokens, seconds, fault,
        )  # fmt: skip

    def _write(self, record: Record) -> None:
        self.done += 1
        if record.error is not None:
            self.failed += 1
            self.console.error(f"{record.path}: {record.error.message}")
            self.stopping = self.stopping or self.fail_fast
        self.writer.write(record)

    @property
    def exit_code(self) -> Exit:
        """What the whole run comes to, by CLI.md."""
        if self.interrupted:
            return Exit.INTERRUPTED
        if not self.done:
            return Exit.NO_INPUT
        if not self.failed:
            return Exit.OK
        return Exit.SOME_FAILED if self.failed < self.done else Exit.ALL_FAILED


def run(name: str, stdout: TextIO, task: Task, input: Input, model: Model, generate: Generate, output: Output) -> Exit:
    """The command `name`: everything between its options and its exit code.

    Raises UsageError, UnavailableError, EngineError, OutputError, and BrokenPipeError where nobody reads the answers.
    """
    console = Console(output.quiet)
    if not input.inputs:
        words = "".join(f'"{each.name.upper()}" ' for each in fields(task) if each.metadata.get("argument"))
        raise UsageError(
            "no input was given", f"smolcli {name} {words}picture.png, a directory, or - for standard input"
        )
    if output.output is not None and takes(input, output.output):
        raise UsageError(f"{output.output}: the input is also the output", "choose another file with -o")
    files, backend = models.choose(model, candidates(model))
    _check_options(model, backend)
    if files.notice:
        console.notice(files.notice)
    identity = Identity(
        name, files.name, backend, models.fingerprint(files, backend),
        f"{task.asks} {generate} {model.detail} {model.dtype}",
    )  # fmt: skip
    source = _together(items(input)) if task.together else items(input)
    many = is_many(input) and not task.together
    with (
        destination(output.output, stdout) as stream,
        registry.load(registry.WRITERS, output.format)(stream, many, task.blocks) as writer,
        contextlib.closing(Worker(backend, files, model, output.verbose)) as worker,
    ):
        this = Run(task, identity, writer, console, output.fail_fast)
        with _interruptible(this):
            try:
                this.over(source, worker, generate)
            except EngineError:
                if not this.interrupted:
                    raise
    if not this.done and not this.interrupted:
        console.error(
            f"{', '.join(input.inputs)}: no picture was found; name picture files or a directory that has some"
        )
    return this.exit_code


def candidates(options: Model) -> tuple[str, ...]:
    """The backends that may run, best first: that of `--backend`, or those installed, PyTorch first for a GPU."""
    if options.backend != "auto":
        return (registry.require(registry.BACKENDS, options.backend),)
    torch_first = gpu_may_be_here() or options.device != "auto" or options.dtype != "auto"
    order = ("torch", "llamacpp") if torch_first else ("llamacpp", "torch")
    found = tuple(name for name in order if registry.installed(registry.BACKENDS[name]))
    return found or (registry.require(registry.BACKENDS, "llamacpp"),)


def _check_options(options: Model, backend: str) -> None:
    if backend == "llamacpp" and (options.device not in ("auto", "cpu") or options.dtype != "auto"):
        raise UsageError("--device and --dtype are for PyTorch, and llama.cpp would run this", "add --backend torch")


def gpu_may_be_here() -> bool:
    """Whether PyTorch is likely to find a GPU, told without the seconds that importing it takes."""
    apple = platform.system() == "Darwin" and platform.machine() == "arm64"
    return apple or any(Path(device).exists() for device in ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd"))


def _together(source: Iterable[Item]) -> Iterator[Item]:
    """All items as one, for a task that looks at them together; none of none."""
    parts = list(source)
    if not parts:
        return

    def read() -> Media:
        media = []
        for part in parts:
            try:
                media.append(part.read())
            except InputError as error:
                raise InputError(f"{part.path}: {error.what}", error.advice, kind=error.kind) from error
        frames = tuple(frame for one in media for frame in one.frames)
        return Media(frames, hashlib.sha256("".join(one.sha256 for one in media).encode()).hexdigest())

    yield Item(" ".join(part.path for part in parts), read)


@contextlib.contextmanager
def _interruptible(this: Run) -> Iterator[None]:
    """The first Ctrl-C lets what is under way finish; the second, or one while nothing is, stops at once."""

    def on_interrupt(signum: int, frame: FrameType | None) -> None:
        if this.stopping or this.idle:
            raise KeyboardInterrupt
        this.stopping = this.interrupted = True
        this.console.notice("finishing what is under way; Ctrl-C again stops at once")

    before = signal.signal(signal.SIGINT, on_interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
