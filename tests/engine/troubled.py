"""Engines with real child processes, whose backends do to their process what a prompt says."""

from __future__ import annotations

import ctypes
import os
import random
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Lock
from typing import Any

import numpy as np

from smolcli.backends.base import Logits, PrefillRequest, PrefillResult, PreparedPrompt
from smolcli.engine.client import Engine
from smolcli.engine.protocol import Failed, InboxMessage, Opened, ReplyReceived, Work
from smolcli.errors import DeviceLostError, ModelError
from smolcli.generation import prefetcher
from smolcli.models.files import ModelFiles
from smolcli.options import Generate, Input, Model
from smolcli.types import Item, ModelLimits, Prompt
from tests.helpers import png

PICTURE = png()
STOP, VOCABULARY = 0, 2048
NOTHING = ""  # the text of a token that adds none to the reply


class Trouble:
    """A backend whose reply is the prompt's first word and "!", unless the word says what to do to its process."""

    name, device_summary = "trouble", "nothing"
    context_length = 2**31
    stop_tokens = frozenset({STOP})
    slots = 1
    leaked: list[bytes] = []  # noqa: RUF012

    def __init__(self, files: ModelFiles, options: Model) -> None:
        if files.name == "broken":
            raise ModelError("broken.gguf is not a GGUF", "get another")
        if files.name == "deadly":
            os.kill(os.getpid(), signal.SIGILL)
        os.write(1, b"native chatter on standard output\n")
        os.write(2, b"native chatter on standard error\n")
        self.texts, self.lock = ["<stop>"], Lock()  # by token, and what guards them
        self.replies: dict[int, Iterator[str]] = {}
        self.is_faulty = False
        self.after_reply: Callable[[], None] | None = None  # called once no reply is under way

    @staticmethod
    def limits(files: ModelFiles) -> ModelLimits:
        return ModelLimits(8192, 512, 64)

    @property
    def max_sequences(self) -> int:
        if self.after_reply is not None and not self.is_answering:
            self.after_reply()  # it has answered, and takes no other prompt before
        return self.slots

    @property
    def is_answering(self) -> bool:
        return bool(self.replies)

    def token(self, text: str) -> int:
        with self.lock:
            if text not in self.texts:
                self.texts.append(text)
            return self.texts.index(text)

    def prepare(self, prompt: Prompt) -> PreparedPrompt:
        words = [str(part) for part in prompt.turns[0].parts]
        self.is_faulty |= words[0] == "fault"
        return PreparedPrompt((tuple(map(self.token, words)),), len(words), 0)

    def fits(self, lengths: Sequence[int]) -> int:
        if self.is_faulty:
            raise ZeroDivisionError("a fault of ours")
        return len(lengths)

    def prefill(self, requests: Sequence[PrefillRequest], upcoming: Sequence[PreparedPrompt]) -> PrefillResult:
        for request in requests:
            words = [self.texts[token] for part in request.prompt.parts for token in part]
            self.replies[request.sequence] = self.reply(words)
        return PrefillResult({request.sequence: self.logits(request.sequence) for request in requests})

    def decode(self, tokens: Mapping[int, int]) -> Mapping[int, Logits]:
        return {sequence: self.logits(sequence) for sequence in tokens}

    def logits(self, sequence: int) -> Logits:
        logits = np.zeros(VOCABULARY, np.float32)
        text = next(self.replies[sequence], None)
        logits[STOP if text is None else self.token(text)] = 100.0
        return logits

    def reply(self, words: list[str]) -> Iterator[str]:
        """Do what the first word says, and yield the reply."""
        word = words[0]
        if word.startswith("SIG"):
            os.write(2, b"GGML_ASSERT failed\n")
            os.kill(os.getpid(), getattr(signal, word))
        if word == "once" and not os.path.exists(words[1]):
            Path(words[1]).touch()
            os.kill(os.getpid(), signal.SIGSEGV)
        if word == "the last":
            self.after_reply = lambda: os.kill(os.getpid(), signal.SIGKILL)
        if word.isupper():
            word = os.environ.get(word, "")
        if word == "blas":
            word = str(blas_threads())
        if word == "exit":
            os._exit(7)
        if word == "lose":
            raise DeviceLostError("the GPU has failed (CUDA error: device-side assert triggered)")
        if word == "hang":
            signal.pause()
        if word == "leak":
            self.leaked.append(os.urandom(1) * 2**20)
        while word == "endless":
            yield random.choice(["on ", "and ", "over ", "again "])  # which is no loop
        print("python chatter", flush=True)
        yield f"{word}!"

    def release(self, sequence: int) -> None:
        self.replies.pop(sequence, None)

    def detokenizer(self) -> Callable[[int], str]:
        return lambda token: self.texts[token]

    def grammar_tokenizer(self) -> None:
        return None

    def clear_cache(self) -> None: ...

    def gpu_peak(self) -> int:
        return 4711

    def close(self) -> None: ...


def blas_threads() -> int:
    """The threads of the OpenBLAS in numpy's wheels; 0 where numpy has another library."""
    loaded = {line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines() if "scipy_openblas" in line}
    return sum(ctypes.CDLL(path).scipy_openblas_get_num_threads64_() for path in loaded)


class Preparing(Trouble):
    """Ends its process while it prepares the prompt `deadly`, though it is answering another."""

    def __init__(self, files: ModelFiles, options: Model) -> None:
        super().__init__(files, options)
        prefetcher.MIN_THREADED_PIXELS = -1  # every prompt is worth a thread

    def prepare(self, prompt: Prompt) -> PreparedPrompt:
        word, flag = map(str, prompt.turns[0].parts)
        if word == "deadly":
            Path(flag).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().prepare(prompt)

    def reply(self, words: list[str]) -> Iterator[str]:
        while not os.path.exists(words[1]):
            yield NOTHING  # the next prompt is taken meanwhile; it ends the process
        yield "fine"


class Two(Trouble):
    """In its first process, begins two prompts before it answers any; `hang` holds up all that are under way."""

    slots = 2

    def reply(self, words: list[str]) -> Iterator[str]:
        word, flag = words
        while len(self.replies) < 2 and not os.path.exists(flag):
            yield NOTHING
        Path(flag).touch()
        if word == "hang":
            signal.pause()
        yield NOTHING  # the other may hang
        yield "fine"


class Eight(Trouble):
    """Answers up to eight prompts together; `lose` loses the GPU once there are as many, and always after that."""

    slots = 8

    def reply(self, words: list[str]) -> Iterator[str]:
        word, flag = words
        while len(self.replies) < 8 and not os.path.exists(flag):
            yield NOTHING
        yield NOTHING
        if word == "lose":
            Path(flag).touch()
            yield from super().reply(words)
        yield "fine"


class Long(Trouble):
    """Answers every prompt but `long`; its process ends after `last`, and after that whenever `long` is under way."""

    slots = 2
    has_answered_last = False

    @property
    def is_answering(self) -> bool:
        return len(self.replies) > 1

    def reply(self, words: list[str]) -> Iterator[str]:
        word, flag = words
        while word == "long":
            if os.path.exists(flag):
                os.kill(os.getpid(), signal.SIGSEGV)
            yield NOTHING
        if word == "last":
            self.after_reply = lambda: (Path(flag).touch(), os.kill(os.getpid(), signal.SIGSEGV))[1]
        yield "fine"


class Early(Trouble):
    """Ends its process with the prompt `deadly`, before the model has a token of it."""

    is_deadly = False

    def prepare(self, prompt: Prompt) -> PreparedPrompt:
        self.is_deadly |= prompt.turns[0].parts[0] == "deadly"
        return super().prepare(prompt)

    def fits(self, lengths: Sequence[int]) -> int:
        if self.is_deadly:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().fits(lengths)

    def reply(self, words: list[str]) -> Iterator[str]:
        yield "fine"


def work(files: str = "fine", backend: str = "Trouble", **more: Any) -> Work:
    return Work(f"{__name__}:{backend}", ModelFiles(files), Model(), Input(), Generate(max_tokens=10**9), **more)


def outcomes_of(
    *words: object, files: str = "fine", items: list[Item] | None = None, **more: Any
) -> list[tuple[int, str, str | None]]:
    """Ask each word about a picture of its own, all at once. Returns the number, text and kind of fault of each."""
    return [
        (number, text, fault and fault[0]) for number, text, fault in faults(*words, files=files, items=items, **more)
    ]


def faults(
    *words: object, files: str = "fine", items: list[Item] | None = None, verbose: bool = False, timeout: float = 60.0,
    growth: int = 2**30, backend: str = "Trouble",
) -> list[tuple[int, str, tuple[str, str] | None]]:  # fmt: skip
    """The same with the kind and the message of each fault."""
    inbox: SimpleQueue[InboxMessage] = SimpleQueue()
    ended: list[tuple[int, str, tuple[str, str] | None]] = []
    opened: set[int] = set()
    asked = 0
    with closing(Engine(work(files, backend), inbox, timeout, verbose, growth)) as engine:
        for number in range(len(words)):
            engine.open(number, items[number] if items else Item.of(f"{number}.png", PICTURE))
        while len(ended) < len(words):
            engine.flush()
            try:
                events = engine.handle(inbox.get(timeout=engine.seconds_until_check))
            except Empty:
                events = []
            for event in events + engine.check():
                if isinstance(event, Opened):
                    opened.add(event.number)
                elif isinstance(event, ReplyReceived):
                    fault = event.reply.finish.fault
                    ended.append(
                        (event.number, event.reply.text, None if fault is None else (fault.kind, fault.message))
                    )
                    engine.release(event.number)
                elif isinstance(event, Failed):
                    ended.append((event.number, "", (event.fault.kind, event.fault.message)))
                    engine.release(event.number)
            while asked in opened or asked in [number for number, *_ in ended]:  # in order, whichever is open first
                if asked in opened:
                    word = words[asked]
                    engine.ask(asked, 0, Prompt.user(*(word if isinstance(word, tuple) else (word,))))
                asked += 1
    return ended
