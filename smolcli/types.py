"""The values that travel through smolcli, from a word on the command line to a record.

    word -> Item -> [Frame] -> Prompt -> Piece ... -> Reply -> Answer -> Record

They are plain data: no stage is known here and no library is imported.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

Role = Literal["system", "user", "assistant"]
FinishReason = Literal["stop", "length", "repetition", "error"]


@dataclass(frozen=True)
class Frame:
    """One upright picture: `rgb` is width * height * 3 bytes, rows from the top, 8 bits a channel.

    `time` is the moment in seconds of a video frame, None for a still picture. Outside the engine's process, which
    holds the pixels, `rgb` is empty and `held` says where they are: the number of the item and of the frame in it.
    """

    rgb: bytes = field(repr=False)
    width: int
    height: int
    time: float | None = None
    held: tuple[int, int] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.held is None and len(self.rgb) != self.width * self.height * 3:
            raise ValueError(f"{len(self.rgb)} bytes are not {self.width} x {self.height} RGB pixels")


def is_url(word: str) -> bool:
    """Whether a user's word is an address to fetch."""
    return word[:8].lower().startswith(("http://", "https://"))


@dataclass(frozen=True)
class Source:
    """One medium, not opened: a path or URL, or the bytes of what can be read only once, as a pipe."""

    word: str
    data: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Question:
    """What is asked about one item alone: texts, and its pictures by their number from 0, in order.

    `begins` is how the answer begins.
    """

    parts: tuple[str | int, ...]
    begins: str = ""


@dataclass(frozen=True)
class Item:
    """One input of the user, named `path`; several sources where a task looks at all inputs together.

    `fault` is why it is not even opened. `question` is there where every item has its own, and then a part of its
    content.
    """

    path: str
    sources: tuple[Source, ...]
    fault: Fault | None = None
    question: Question | None = None

    @classmethod
    def of(cls, word: str, data: bytes | None = None) -> Item:
        """The usual case: one source, under its own name."""
        return cls(word, (Source(word, data),))


@dataclass(frozen=True)
class Content:
    """The SHA-256 of an item's bytes, and its stamp: size and times, by which a file is known unchanged unread.

    Of an item with a question of its own the hash is of both, and there is no stamp.
    """

    sha256: str = ""
    stamp: str = ""


@dataclass(frozen=True)
class Span:
    """A stretch of a video, in seconds from its beginning, and which of its frames are looked at: first, after last."""

    start: float
    end: float
    first: int
    stop: int


def format_time(seconds: float) -> str:
    """A moment of a video as people write it: MM:SS, or H:MM:SS; fractions are dropped.

    Some containers round times to thousandths: what is that near to a second is that second.

    >>> clock(75.9), clock(5.999), clock(3725)
    ('01:15', '00:06', '1:02:05')
    """
    minutes, seconds = divmod(int(seconds + 0.002), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{seconds:02}" if minutes >= 60 else f"{minutes:02}:{seconds:02}"


def pluralize(number: int, what: str) -> str:
    """A number of things for people.

    >>> counted(1, "frame"), counted(3, "frame")
    ('1 frame', '3 frames')
    """
    return f"{number:,} {what}{'s' * (number != 1)}"


@dataclass(frozen=True)
class Media:
    """What an opened item holds: its pictures, and what it was made of.

    Of a video `spans` are its stretches, in order, and `duration` all of its seconds; `notices` say what a person
    should know of it.
    """

    frames: tuple[Frame, ...]
    content: Content = Content()
    seconds: float = 0.0  # that opening it took
    spans: tuple[Span, ...] = ()
    duration: float = 0.0
    notices: tuple[str, ...] = ()
    limits: ModelLimits | None = None
    question: Question | None = None


@dataclass(frozen=True)
class ModelLimits:
    """What a model takes: `context` tokens in all, and pictures as tiles of `tile` pixels a side, `tile_tokens` each.

    `reply` tokens of the context are kept for the reply. `understands_text` says whether it reads text without
    pictures.
    """

    context: int
    tile: int
    tile_tokens: int
    reply: int = 0
    understands_text: bool = True

    @property
    def prompt(self) -> int:
        """Tokens that a prompt may have."""
        return self.context - self.reply


Part = str | Frame


@dataclass(frozen=True)
class Turn:
    """One turn of a conversation: text and pictures, interleaved in the order given."""

    role: Role
    parts: tuple[Part, ...]


@dataclass(frozen=True)
class Prompt:
    """A conversation that asks for one reply; a last turn of the assistant's is how that reply begins.

    `split` False sends every picture as one unsplit tile, as video frames are sent.
    `draft` marks a call whose text is not part of the answer and is never shown.
    """

    turns: tuple[Turn, ...]
    split: bool = True
    draft: bool = False

    @property
    def frames(self) -> list[Frame]:
        """The pictures in the order they appear."""
        return [part for turn in self.turns for part in turn.parts if isinstance(part, Frame)]

    @classmethod
    def user(cls, *parts: Part, system: str | None = None, split: bool = True, draft: bool = False) -> Prompt:
        """The usual case: one user turn, perhaps after a system turn.

        >>> Prompt.user("What is 2 + 2?").turns[0].role
        'user'
        """
        turns = (Turn("user", parts),)
        return cls((Turn("system", (system,)), *turns) if system else turns, split=split, draft=draft)


@dataclass(frozen=True)
class Tokens:
    """Counts of tokens; `image` are those of `prompt` that stand for pictures."""

    prompt: int = 0
    image: int = 0
    new: int = 0

    def __add__(self, other: Tokens) -> Tokens:
        return Tokens(self.prompt + other.prompt, self.image + other.image, self.new + other.new)


@dataclass(frozen=True)
class Seconds:
    """Wall time in seconds by stage; `load` is charged to the first reply after the model was loaded."""

    load: float = 0.0
    media: float = 0.0
    encode: float = 0.0
    prefill: float = 0.0
    decode: float = 0.0

    def __add__(self, other: Seconds) -> Seconds:
        return Seconds(
            self.load + other.load,
            self.media + other.media,
            self.encode + other.encode,
            self.prefill + other.prefill,
            self.decode + other.decode,
        )


@dataclass(frozen=True)
class Memory:
    """Peaks in bytes, so far in the run: resident of the process that was started and of its engine, and on the GPU.

    0 where the system does not tell, or nothing is taken.
    """

    parent: int = 0
    engine: int = 0
    gpu: int = 0


@dataclass(frozen=True)
class Fault:
    """Why an input has no answer: `kind` is a word a script can test, `message` one line for a person."""

    kind: str
    message: str


@dataclass(frozen=True)
class Finish:
    """The end of one reply, and its account.

    `text` is the whole reply where that is not its pieces joined: a loop was cut, or the reply was tried again.
    """

    reason: FinishReason
    tokens: Tokens = Tokens()
    seconds: Seconds = Seconds()
    fault: Fault | None = None
    text: str | None = None


@dataclass(frozen=True)
class Piece:
    """A bit of the reply to prompt number `index`; the last piece of a reply has `finish`."""

    index: int
    text: str
    finish: Finish | None = None


@dataclass(frozen=True)
class Reply:
    """All pieces of one reply, joined; `data` is the object it is where a schema was asked for."""

    text: str
    finish: Finish
    data: Any = None


@dataclass(frozen=True)
class Answer:
    """What a task makes of its replies: text for people, `data` where the task has structure."""

    text: str
    data: Any = None


# What a task's `steps` returns: yields prompts, is sent their replies, returns the answer.
Steps = Generator[Sequence[Prompt], Sequence[Reply], Answer]


@dataclass(frozen=True)
class Record:
    """One input's result, as docs/records.md describes it; `error` is None where there is an answer.

    `notices` say what should be known of an answer, as that a file was cut short.
    """

    path: str
    id: str
    sha256: str
    stamp: str
    task: str
    text: str
    data: Any
    model: str
    backend: str
    finish_reason: FinishReason
    tokens: Tokens
    seconds: Seconds
    notices: tuple[str, ...]
    memory: Memory
    error: Fault | None

    def failed(self, fault: Fault) -> Record:
        """The same input without its answer; what it has cost stays."""
        return replace(self, text="", data=None, finish_reason="error", error=fault)
