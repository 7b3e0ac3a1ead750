r"""Renders a Prompt as the text of the model's chat template, for every backend.

The layout is that of transformers' Idefics3 and SmolVLM processors (chat template, row and column markers, the global
tile last), on which the models were trained:

    <|im_start|>User:<fake><row_1_col_1>IMG<fake><row_1_col_2>IMG\n\n<fake><global-img>IMG<fake>
    What is this?<end_of_utterance>\nAssistant:

What stands around a turn is data, a Turns: SMOLVLM's above, or GRANITE's. A model that was not trained on turns is
given the pictures and texts alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import count

from smolcli.errors import UsageError
from smolcli.models.files import ModelFiles
from smolcli.types import Frame, FrameRef, Part, Prompt, Role

START = "<|im_start|>"
END = "<end_of_utterance>"
FAKE = "<fake_token_around_image>"
GLOBAL = "<global-img>"
IMAGE = "<image>"
STOPS = (END, "<|im_end|>", "<|endoftext|>", "<|end_of_text|>")  # end-of-turn tokens of the family's models
DOCTAG = "<doctag>"  # a special token of the models that reply in DocTags

VIDEO_INTRO = "You are provided the following series of {frames} frames from a {duration} [H:MM:SS] video.\n"
VIDEO_FRAME = "\nFrame from {time}:"
VIDEO_OUTRO = "\n\n"

_ONES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_TEENS = ("ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen")
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")


@dataclass(frozen=True)
class Tile:
    """Stands for the embeddings of tile `number` of picture `picture`, both counted from 0 within the prompt.

    The tiles of a picture are numbered row by row, the global tile last.
    """

    picture: int
    number: int


@dataclass(frozen=True)
class Grid:
    """The tiles of a picture: `rows` x `columns` and the global tile; 0 x 0 is the global tile alone."""

    rows: int = 0
    columns: int = 0

    @property
    def tiles(self) -> int:
        """The number of tiles, including the global tile."""
        return self.rows * self.columns + 1


@dataclass(frozen=True)
class Turns:
    """What stands around the turns of a conversation, in the chat template of some models.

    `start` begins the conversation. A turn begins with the text of its role in `roles`, and `gap` if it does not begin
    with a picture, and ends with `end`; the reply follows the text of the assistant's role. `token` is a special token
    that all of these models have and no others.
    """

    token: str
    start: str
    roles: Mapping[Role, str]
    gap: str
    end: str


ROLES: tuple[Role, ...] = ("system", "user", "assistant")
SMOLVLM = Turns(END, START, {role: f"{role.capitalize()}:" for role in ROLES}, " ", f"{END}\n")  # and SmolDocling
GRANITE = Turns(
    "<|start_of_role|>", "", {role: f"<|start_of_role|>{role}<|end_of_role|>" for role in ROLES}, "",
    "<|end_of_text|>\n",
)  # fmt: skip
# Tokens that make up prompts, and are never a part of a reply's text.
MARKER = re.compile(r"<\|\w+\|>|<(?:end_of_utterance|fake_token_around_image|global-img|image|row_\d_col_\d)>")
UNSPLIT = Grid()
PromptSegment = str | Tile


def turns_of(files: ModelFiles, has_token: Callable[[str], bool]) -> Turns | None:
    """The turns that a model was trained on, by its special tokens; None for a base model, which was trained on none.

    `has_token` says whether a text is a token of the model.
    """
    if files.is_base:
        return None
    return next((turns for turns in (GRANITE, SMOLVLM) if has_token(turns.token)), None)


def hidden_tokens(special: Mapping[int, str]) -> frozenset[int]:
    """The ids of the tokens that are left out of a reply's text, of a model's special tokens by id.

    They are all special tokens, but of a model that replies in DocTags the tags are text.

    >>> sorted(hidden_tokens({1: "<|im_start|>", 2: "<doctag>", 3: "<loc_17>", 4: "<image>"}))
    [1, 4]
    >>> sorted(hidden_tokens({1: "<|im_start|>", 2: "<file_sep>", 4: "<image>"}))
    [1, 2, 4]
    """
    writes_doctags = DOCTAG in special.values()
    return frozenset(id for id, token in special.items() if not (writes_doctags and is_markup(token)))


def is_markup(token: str) -> bool:
    """Whether a special token of a model that replies in DocTags is text of its replies, and not of the prompt."""
    return MARKER.fullmatch(token) is None


def require_plain_text(text: str) -> str:
    """Return `text` unchanged. Raises UsageError if it is not UTF-8, or has a special token of the model in it."""
    try:
        text.encode()
    except UnicodeEncodeError:  # bytes of the command line that are not UTF-8 arrive as surrogates
        raise UsageError("the text is not UTF-8", "set a UTF-8 locale, or convert it with iconv") from None
    if marker := MARKER.search(text):
        raise UsageError(f"the text has the model's own marker {marker[0]}", "say it another way")
    return text


def segments(prompt: Prompt, grids: Sequence[Grid], turns: Turns | None = SMOLVLM) -> list[PromptSegment]:
    r"""Render the conversation, up to where the reply begins, as text and tiles in order.

    `grids` has one entry for each picture. With `turns` None, and for a raw prompt, the parts of the turns are given as
    they are, with a line end between two turns. Adjacent texts are joined into one segment, since tokenizing them apart
    could give other tokens.

    >>> picture = FrameRef(0, width=1, height=1)
    >>> for segment in segments(Prompt.user(picture, "What is this?"), [UNSPLIT]):
    ...     segment
    '<|im_start|>User:<fake_token_around_image><global-img>'
    Tile(picture=0, number=0)
    '<fake_token_around_image>What is this?<end_of_utterance>\nAssistant:'
    """
    pictures = (_picture_segments(number, grid) for number, grid in enumerate(grids))
    contents = [
        [segment for part in turn.parts for segment in ((part,) if isinstance(part, str) else next(pictures))]
        for turn in prompt.turns
    ]
    if turns is None or prompt.raw:
        return _join_texts(_plain(contents))
    return _join_texts(_in_turns(prompt, contents, turns))


def text(segments: Iterable[PromptSegment], tokens_per_tile: int) -> str:
    """Join segments into one string in which each tile is `tokens_per_tile` image tokens.

    >>> text(["Left: ", Tile(0, 0), " Right: ", Tile(1, 0)], 2)
    'Left: <image><image> Right: <image><image>'
    """
    return "".join(part if isinstance(part, str) else IMAGE * tokens_per_tile for part in segments)


def video_parts(frames: Sequence[Frame | FrameRef], duration: float) -> tuple[Part, ...]:
    r"""Make the parts of a user turn that shows a video of `duration` seconds: each frame after its time.

    The texts are those of transformers' SmolVLMProcessor, which drops fractions of a second too. The frames are not
    to be split into tiles. Raises ValueError for a frame without a time.

    >>> still = FrameRef(0, width=1, height=1, time=61.5)
    >>> for part in video_parts([still], duration=75.9):
    ...     part
    'You are provided the following series of one frames from a 0:01:15 [H:MM:SS] video.\n'
    '\nFrame from 01:01:'
    FrameRef(index=0, width=1, height=1, time=61.5, crop=None)
    '\n\n'
    """
    length = timedelta(seconds=int(duration))
    parts: list[Part] = [VIDEO_INTRO.format(frames=in_words(len(frames)), duration=length)]
    for frame in frames:
        if frame.time is None:
            raise ValueError("a frame of a video has no time")
        minutes, seconds = divmod(int(frame.time), 60)
        parts += [VIDEO_FRAME.format(time=f"{minutes:02d}:{seconds:02d}"), frame]
    return (*parts, VIDEO_OUTRO)


def in_words(number: int) -> str:
    """Write a number from 0 to 999999 in English words, as the package num2words does.

    >>> in_words(1234)
    'one thousand, two hundred and thirty-four'
    """
    if number < 10:
        return _ONES[number]
    if number < 20:
        return _TEENS[number - 10]
    if number < 100:
        tens, ones = divmod(number, 10)
        return _TENS[tens - 2] + (f"-{_ONES[ones]}" if ones else "")
    unit, name = (100, "hundred") if number < 1000 else (1000, "thousand")
    above, rest = divmod(number, unit)
    link = " and " if rest < 100 else ", "
    return f"{in_words(above)} {name}" + (link + in_words(rest) if rest else "")


def _plain(contents: Iterable[Sequence[PromptSegment]]) -> Iterable[PromptSegment]:
    for number, content in enumerate(contents):
        yield "\n" if number else ""
        yield from content


def _in_turns(prompt: Prompt, contents: Sequence[Sequence[PromptSegment]], turns: Turns) -> Iterable[PromptSegment]:
    """Yield the `contents` of the turns with what stands around them."""
    yield turns.start
    for turn, content in zip(prompt.turns, contents, strict=True):
        starts_with_picture = bool(turn.parts) and not isinstance(turn.parts[0], str)
        yield turns.roles[turn.role] + ("" if starts_with_picture else turns.gap)
        yield from content
        if turn.role == "assistant" and turn is prompt.turns[-1]:
            return
        yield turns.end
    yield turns.roles["assistant"]


def _picture_segments(picture: int, grid: Grid) -> Iterable[PromptSegment]:
    tiles = (Tile(picture, number) for number in count())
    for row in range(1, grid.rows + 1):
        for column in range(1, grid.columns + 1):
            yield f"{FAKE}<row_{row}_col_{column}>"
            yield next(tiles)
        yield "\n"
    if grid.rows:
        yield "\n"
    yield FAKE + GLOBAL
    yield next(tiles)
    yield FAKE


def _join_texts(parts: Iterable[PromptSegment]) -> list[PromptSegment]:
    joined: list[PromptSegment] = []
    for part in parts:
        if isinstance(part, str) and joined and isinstance(joined[-1], str):
            joined[-1] += part
        else:
            joined.append(part)
    return joined
