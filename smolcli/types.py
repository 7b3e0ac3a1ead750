"""The values that pass between the stages of smolcli, from a word on the command line to a record.

    word -> Item -> Media (frames) -> Prompt -> Piece ... -> Reply -> Answer -> Record

They are plain data: this module knows no stage and imports no library.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple

from smolcli.errors import ErrorKind

Role = Literal["system", "user", "assistant"]
FinishReason = Literal["stop", "length", "repetition", "error"]


@dataclass(frozen=True)
class Frame:
    """One upright picture: `rgb` is width * height * 3 bytes, rows from the top, 8 bits a channel.

    `time` is that of a video frame in seconds, else None. Only the engine's process has frames, others have FrameRefs.
    """

    rgb: bytes = field(repr=False)
    width: int
    height: int
    time: float | None = None

    def __post_init__(self) -> None:
        if len(self.rgb) != self.width * self.height * 3:
            raise ValueError(f"{len(self.rgb)} bytes are not {self.width} x {self.height} RGB pixels")


class Box(NamedTuple):
    """A rectangle of a picture in pixels, from the top left corner; `right` and `bottom` are the first outside it."""

    left: int
    top: int
    right: int
    bottom: int


@dataclass(frozen=True)
class Crop:
    """Parts of an upright page that become one square picture of `side` pixels.

    Each of `rows` is a part and the factor by which it is resized. They are drawn on white, one below the other, `gap`
    pixels from each other, from the top and from the left. `half_turn` is that of the PageRequest.
    """

    rows: tuple[tuple[Box, float], ...]
    side: int
    gap: int
    half_turn: bool = False


@dataclass(frozen=True)
class FrameRef:
    """A frame of an open item without its pixels, which the engine's process decodes: it is number `index` from 0.

    The size of a page that was not decoded yet is 0 x 0. With `crop` it stands for parts of the upright page.
    """

    index: int
    width: int
    height: int
    time: float | None = None
    crop: Crop | None = None


def is_url(word: str) -> bool:
    """Whether a word of the command line is an HTTP address."""
    return word[:8].lower().startswith(("http://", "https://"))


@dataclass(frozen=True)
class Source:
    """One medium that is not opened yet: a path or URL, or `data` if it can be read only once, as a pipe can."""

    word: str
    data: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Question:
    """A question that belongs to one item: texts, and the item's pictures by number from 0, in order.

    `begins` is the text that the reply starts with.
    """

    parts: tuple[str | int, ...]
    begins: str = ""


@dataclass(frozen=True)
class Item:
    """One input, named `path`; it has several sources if the task looks at all inputs together.

    `fault` says why it must not be opened. `question` is set if every item has a question of its own, which then is a
    part of its content. `in_row` says that it is one of several pictures that follow one another in a pipe. `paths` are
    the names of the inputs that the task looks at together, else None.
    """

    path: str
    sources: tuple[Source, ...]
    fault: Fault | None = None
    question: Question | None = None
    in_row: bool = False
    paths: tuple[str, ...] | None = None

    @classmethod
    def of(cls, word: str, data: bytes | None = None) -> Item:
        """An item of one source, named as the source is."""
        return cls(word, (Source(word, data),))


@dataclass(frozen=True)
class Content:
    """The SHA-256 of an item's bytes, and its stamp: size and times, which show that a file is unchanged.

    If the item has a question of its own, the hash covers both, and there is no stamp.
    """

    sha256: str = ""
    stamp: str = ""


@dataclass(frozen=True)
class Span:
    """A part of a video, from `start` to `end` in seconds, whose frames are `frames[first:stop]` of its Media."""

    start: float
    end: float
    first: int
    stop: int


def format_time(seconds: float) -> str:
    """Formats a time of a video as MM:SS or H:MM:SS, rounded down to whole seconds.

    Some containers round times to milliseconds, so a time up to 2 ms before a full second counts as that second.

    >>> format_time(75.9), format_time(5.999), format_time(3725)
    ('01:15', '00:06', '1:02:05')
    """
    minutes, seconds = divmod(int(seconds + 0.002), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{seconds:02}" if minutes >= 60 else f"{minutes:02}:{seconds:02}"


def pluralize(number: int, noun: str) -> str:
    """Formats a count and its noun.

    >>> pluralize(1, "frame"), pluralize(3, "frame")
    ('1 frame', '3 frames')
    """
    return f"{number:,} {noun}{'s' * (number != 1)}"


@dataclass(frozen=True)
class Media:
    """The content of an opened item: its frames, and what is known of its file.

    Of a video, `spans` are its parts in order and `duration` its length in seconds. `notices` are for the user.
    `limits` are those of the model that will see it, `path` is the name of its item.
    """

    frames: tuple[FrameRef, ...]
    content: Content = Content()
    seconds: float = 0.0  # wall time of opening it
    spans: tuple[Span, ...] = ()
    duration: float = 0.0
    notices: tuple[str, ...] = ()
    limits: ModelLimits | None = None
    question: Question | None = None
    path: str = ""


@dataclass(frozen=True)
class ModelLimits:
    """The limits of a model: `context` tokens in all, `reply` of them reserved for the reply.

    Tiles have `tile` x `tile` pixels and `tile_tokens` tokens, those of a picture `longest_edge` pixels at most, and
    small letters are best `x_height` pixels high, each 0 if unknown. Without `splits` --detail auto gives one tile.
    """

    context: int
    tile: int
    tile_tokens: int
    reply: int = 0
    understands_text: bool = True  # can answer without pictures
    longest_edge: int = 0
    x_height: float = 0.0
    splits: bool = True
    writes_doctags: bool = False  # whether it was taught to write pages as DocTags

    @property
    def prompt(self) -> int:
        """The most tokens a prompt may have."""
        return self.context - self.reply


Part = str | Frame | FrameRef


@dataclass(frozen=True)
class Turn:
    """One turn of a conversation: text and pictures in order."""

    role: Role
    parts: tuple[Part, ...]


@dataclass(frozen=True)
class Prompt:
    """A conversation that asks for one reply; if its last turn is the assistant's, the reply continues that turn.

    With `split` False every picture is one tile, as video frames are. A `raw` one is plain text to continue, without
    turns. `draft` marks a prompt whose reply is not part of the answer and is never shown. `page` is the number of the
    page that it is about, from 1, if the input has several. Where some of the prompts of a step have no answer, the
    task goes on with the others if all are drafts or pages.
    """

    turns: tuple[Turn, ...]
    split: bool = True
    draft: bool = False
    page: int | None = None
    raw: bool = False

    @property
    def frames(self) -> list[Frame | FrameRef]:
        """The pictures in the order they appear."""
        return [part for turn in self.turns for part in turn.parts if not isinstance(part, str)]

    @property
    def decoded_frames(self) -> list[Frame]:
        """The pictures in the order they appear. Raises TypeError if one of them has no pixels."""
        frames = [frame for frame in self.frames if isinstance(frame, Frame)]
        if len(frames) < len(self.frames):
            raise TypeError("a picture of the prompt is a reference, without pixels")
        return frames

    @classmethod
    def user(cls, *parts: Part, system: str | None = None, **flags: bool) -> Prompt:
        """A prompt of one user turn, after a system turn if `system` is given; `flags` are split, draft and raw."""
        return cls((*((Turn("system", (system,)),) if system else ()), Turn("user", parts)), **flags)


@dataclass(frozen=True)
class Tokens:
    """Counts of tokens: of the prompt, those of the prompt that stand for pictures, and generated ones."""

    prompt: int = 0
    image: int = 0
    new: int = 0

    def __add__(self, other: Tokens) -> Tokens:
        return Tokens(self.prompt + other.prompt, self.image + other.image, self.new + other.new)


@dataclass(frozen=True)
class Seconds:
    """Wall time in seconds by stage; `load`, loading the model, counts for the first reply after it."""

    load: float = 0.0
    media: float = 0.0
    encode: float = 0.0
    prefill: float = 0.0
    decode: float = 0.0

    def __add__(self, other: Seconds) -> Seconds:
        return Seconds(*(mine + theirs for mine, theirs in zip(vars(self).values(), vars(other).values(), strict=True)))


@dataclass(frozen=True)
class Memory:
    """Peak memory of the run so far in bytes: resident in the main process and in the engine, and on the GPU.

    0 if the system does not report it, or nothing is used.
    """

    parent: int = 0
    engine: int = 0
    gpu: int = 0


@dataclass(frozen=True)
class Fault:
    """Why an input has no answer: `kind` is for scripts, `message` is one line for people: `what is wrong; advice`."""

    kind: ErrorKind
    message: str

    @property
    def what(self) -> str:
        """What is wrong."""
        return self.message.partition("; ")[0]

    @property
    def advice(self) -> str:
        """What to do; empty where there is nothing to say."""
        return self.message.partition("; ")[2]


@dataclass(frozen=True)
class Finish:
    """The end of one reply, with its tokens and seconds.

    `text` is the whole reply if it differs from its joined pieces: a repetition was cut off, or a second attempt
    replaced the first. `confidence` is the geometric mean of the probabilities that the model gave the chosen tokens,
    with that of the stop token, before a penalty, a grammar or the temperature; None if no token was chosen.
    `line_confidences` has that of each line of the reply.
    """

    reason: FinishReason
    tokens: Tokens = Tokens()
    seconds: Seconds = Seconds()
    fault: Fault | None = None
    text: str | None = None
    confidence: float | None = None
    line_confidences: tuple[float, ...] = ()


@dataclass(frozen=True)
class Piece:
    """A part of the reply to prompt number `index`; the last piece of a reply has `finish`."""

    index: int
    text: str
    finish: Finish | None = None


@dataclass(frozen=True)
class Reply:
    """A whole reply; `data` is the parsed object if a schema was asked for."""

    text: str
    finish: Finish
    data: Any = None


@dataclass(frozen=True)
class Answer:
    """What a task makes of its replies: text for people, and `data` if the task's answers have structure.

    `confidence` is that of the replies in it, `finish` the end of the first that was cut; None where all are in it.
    """

    text: str
    data: Any = None
    confidence: float | None = None
    finish: Finish | None = None


@dataclass(frozen=True)
class Record:
    """The result of one input, as docs/records.md describes it; `error` is None if there is an answer.

    `notices` are messages about the answer, for example that a file was cut short. `blank` says that the text is empty
    because the input has none, `embedded` that a description or keywords were written into the file after it was read.
    `paths` are the names of inputs that were looked at together, else None. `confidence`, from 0 to 1, is the geometric
    mean of the probabilities of the answer's tokens; None where there is no answer or no model made it. `page` is the
    number of the page that it is about (--split-pages); after `is_last_page` its document has no other.
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
    blank: bool = False
    embedded: bool = False
    paths: tuple[str, ...] | None = None
    confidence: float | None = None
    page: int | None = None
    is_last_page: bool = False

    def failed(self, fault: Fault) -> Record:
        """The record of the same input without its answer; tokens and seconds stay."""
        return replace(self, text="", data=None, finish_reason="error", error=fault, blank=False, confidence=None)


@dataclass(frozen=True)
class StoredRecord(Record):
    """A record that was read from a file: `stored` is the JSON object there, with keys that smolcli does not know."""

    stored: dict[str, Any] = field(default_factory=dict, repr=False)
