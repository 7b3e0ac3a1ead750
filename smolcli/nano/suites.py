"""The held-out questions that nano is evaluated on, and the right answer to each, suite by suite.

Fonts, words, sizes, pairs of colour and shape, photographs, icons and styles are those that training never uses.

    cases = things_alone(numpy.random.default_rng(1), 200)     # -> a Case for each of 200 pictures
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from PIL import Image

from smolcli.nano import (
    charts,
    dataset,
    kinds,
    open_questions,
    photographs,
    pieces,
    screens,
    synthetic_images,
    textures,
    thing_names,
    things,
)
from smolcli.nano.damage import damaged
from smolcli.nano.dataset import Lesson
from smolcli.nano.printed_page import Sheet, is_typewriter, printed
from smolcli.nano.questions import scene_caption
from smolcli.nano.synthetic_images import TILE, Picture, Rng, pick
from smolcli.tasks.page_reading import QUESTION as OCR
from smolcli.types import Frame, FrameRef, Prompt

CAPTION = dataset.CAPTION[0]
SMALL_PRINT = 14  # pixels of an em, at most
COMMON = sorted(thing_names.COMMON)

Cases = Callable[[Rng, int], "list[Case]"]  # draws so many cases
Draw = Callable[[Rng], "Case"]
Accepts = Callable[[str, str], bool]  # whether a suite is about a question with this answer


@dataclass(frozen=True)
class Case:
    """One held-out question and its right answer; `picture` is what is shown, of a clip the first frame."""

    prompt: Prompt
    answer: str
    picture: Image.Image

    @property
    def question(self) -> str:
        """The question of the prompt."""
        return str(self.prompt.turns[0].parts[-1])


def frame(image: Image.Image) -> Frame:
    """An RGB image as backends take it."""
    return Frame(image.tobytes(), *image.size)


def each(draw: Draw) -> Cases:
    """What draws its cases one by one."""
    return lambda rng, count: [draw(rng) for _ in range(count)]


def _case(image: Image.Image, question: str, answer: str) -> Case:
    return Case(Prompt.user(frame(image), question), answer, image)


def _picture(lesson: Lesson) -> Image.Image:
    return Image.fromarray(lesson.tiles[0])


def _pairs(lesson: Lesson) -> list[tuple[str, str]]:
    return [(str(lesson.prompt.turns[0].parts[-1]), lesson.answer), *lesson.follow_ups]


def asked(draw: Callable[[Rng, bool], Lesson], accepts: Accepts) -> Draw:
    """The first question of a lesson, held out, that `accepts` takes; a lesson without one is drawn again."""

    def case(rng: Rng) -> Case:
        while True:
            lesson = draw(rng, True)
            for question, answer in _pairs(lesson):
                if accepts(question, answer):
                    return _with_question(lesson, question, answer)

    return case


def _with_question(lesson: Lesson, question: str, answer: str) -> Case:
    images = [Image.fromarray(tile) for tile in lesson.tiles]
    frames = map(frame, images)
    *parts, _ = lesson.prompt.turns[0].parts
    prompt = Prompt.user(*(next(frames) if isinstance(part, FrameRef) else part for part in parts), question)
    return Case(prompt, answer, images[0])


# ---- kinds -----------------------------------------------------------------------------------------


def page(rng: Rng, lines: int) -> Case:
    """A page of exactly `lines` lines, to be read."""
    while True:
        picture = synthetic_images.page(rng, TILE, TILE, lines, held_out=True, dense=True)
        if len(picture.lines) == lines:
            return _case(picture.image, OCR, "\n".join(picture.lines))


def _page_picture(rng: Rng) -> Image.Image:
    image = page(rng, int(rng.integers(1, 7))).picture
    return synthetic_images.worn(rng, Picture(image)).image if rng.random() < 0.35 else image


def _drawing(rng: Rng) -> Image.Image:
    return _picture((things.lesson if rng.random() < 0.6 else dataset.shapes)(rng, True))


# What draws a picture of each kind.
PICTURES: dict[str, Callable[[Rng], Image.Image]] = {
    kinds.PHOTOGRAPH: lambda rng: _picture(photographs.lesson(rng, True)),
    kinds.DRAWING: _drawing,
    kinds.SCREENSHOT: lambda rng: _picture(screens.lesson(rng, True)),
    kinds.PAGE: _page_picture,
    kinds.CHART: lambda rng: _picture(charts.lesson(rng, True)),
    kinds.BLANK: lambda rng: _picture(dataset.blank(rng, True)),
    kinds.NOISE: textures.noise,
    kinds.PATTERN: lambda rng: textures.pattern(rng, True),
}


def captions_of(kind: str) -> Cases:
    """Pictures of a kind to be described; the answer is the kind."""
    return each(lambda rng: _case(PICTURES[kind](rng), pick(rng, dataset.CAPTION), kind))


def kinds_asked(rng: Rng, count: int) -> list[Case]:
    """Pictures of all kinds in turn, asked for their kind in words that do not name some of them."""
    questions = [question for question in kinds.KIND_QUESTIONS if question.startswith("What")]
    every = list(PICTURES)
    return [
        _case(PICTURES[every[number % len(every)]](rng), pick(rng, questions), every[number % len(every)])
        for number in range(count)
    ]


# ---- photographs -----------------------------------------------------------------------------------


def photograph_captions(rng: Rng, count: int) -> list[Case]:
    """Photographs to be described or tagged."""
    questions = (*dataset.CAPTION, dataset.TAGS)
    return [_case(PICTURES[kinds.PHOTOGRAPH](rng), pick(rng, questions), "") for _ in range(count)]


photograph_brightness = asked(photographs.lesson, lambda q, _: q in (*photographs.BRIGHTER, *photographs.DARKER))


def photograph_unanswerable(rng: Rng) -> Case:
    """A question about a photograph that nano cannot answer, worded as in no lesson."""
    return _case(PICTURES[kinds.PHOTOGRAPH](rng), open_questions.open_question(rng, True), kinds.CANNOT_TELL)


# ---- things ----------------------------------------------------------------------------------------


def things_alone(rng: Rng, count: int) -> list[Case]:
    """One common thing each on a plain ground, every name about as often; the answer is the name."""
    order = [COMMON[number] for number in rng.permutation(len(COMMON))]
    names = [order[number % len(order)] for number in range(count)]
    return [_case(things.scene(rng, [name], "free", True, None).image, CAPTION, name) for name in names]


def things_counted(rng: Rng, count: int) -> list[Case]:
    """One to five of one common thing, to be counted."""
    cases = []
    for number in range(count):
        name, many = pick(rng, COMMON), 1 + number % 5
        image = things.scene(rng, [name] * many, "free", True, None).image
        cases.append(_case(image, f"How many {thing_names.plural(name)} are there?", str(many)))
    return cases


def _is_colour_of_thing(question: str, answer: str) -> bool:
    return bool(re.match(r"What colou?r is the (?!background)", question)) and not answer.startswith("there is no")


thing_colour = asked(things.single, _is_colour_of_thing)
# An icon without a name, or a thing that is tiny, blurred or cut off.
unknown_drawing = asked(things.lesson, lambda q, answer: q in dataset.CAPTION and answer.startswith("a drawing"))


# ---- shapes ----------------------------------------------------------------------------------------


def scene(rng: Rng, question: str | None) -> Case:
    """A caption of one to three shapes, or if `question` is None any other question about one to five."""
    if question == CAPTION:
        draw = asked(lambda r, held_out: dataset.shapes(r, held_out, 0.9, wear=0.0, max_count=3), _is_first_caption)
        return draw(rng)
    excluded = (*dataset.CAPTION, *dataset.READ, dataset.TAGS)
    return asked(lambda r, held_out: dataset.shapes(r, held_out, 0.0, wear=0.0), lambda q, _: q not in excluded)(rng)


def _is_first_caption(question: str, answer: str) -> bool:
    return question == CAPTION


def _shapes(rng: Rng, count: int, layout: str) -> tuple[str, Picture]:
    """The right caption and the picture of `count` different pairs of colour and shape that are held out."""
    name, paper = synthetic_images.ground(rng)
    pairs = synthetic_images.kinds(rng, name, count, True)
    picture = synthetic_images.scene(rng, pairs, name, paper, layout=layout, held_out=True)
    return scene_caption(picture, layout), picture


def unseen_pair(rng: Rng) -> Case:
    """One shape in a colour that it never had in training."""
    caption, picture = _shapes(rng, 1, "free")
    return _case(picture.image, CAPTION, caption)


def order_of_three(rng: Rng) -> Case:
    """Three different shapes in a row or a column, to be described in their order."""
    caption, picture = _shapes(rng, 3, pick(rng, ("row", "column")))
    return _case(picture.image, CAPTION, caption)


def in_no_row(rng: Rng) -> Case:
    """Two or three different shapes in no row or column, to be described or counted."""
    caption, picture = _shapes(rng, int(rng.integers(2, 4)), "free")
    if rng.random() < 0.5:
        return _case(picture.image, "How many shapes are there?", str(len(picture.annotations)))
    return _case(picture.image, CAPTION, caption)


motion = asked(dataset.motion, lambda question, _: question in dataset.DIRECTION)


def blank(rng: Rng, question: str) -> Case:
    """A picture of one colour."""
    _, paper = synthetic_images.ground(rng)
    return _case(Image.new("RGB", (TILE, TILE), paper), question, "blank")


def without_text(rng: Rng) -> Case:
    """A picture without text, a scene of shapes in half of the cases, asked for its text."""
    if rng.random() < 0.5:
        _, picture = _shapes(rng, int(rng.integers(1, 4)), "free")
        return _case(picture.image, OCR, dataset.NO_TEXT)
    return _case(PICTURES[pick(rng, _TEXTLESS)](rng), OCR, dataset.NO_TEXT)


_TEXTLESS = (kinds.PHOTOGRAPH, kinds.DRAWING, kinds.NOISE, kinds.PATTERN)


# ---- charts and screens ----------------------------------------------------------------------------


def _matches(pattern: str) -> Accepts:
    return lambda question, _: bool(re.search(pattern, question))


def chart(pattern: str) -> Cases:
    """Charts with a question that the regular expression finds."""
    return each(asked(charts.lesson, _matches(pattern)))


def screen(pattern: str) -> Cases:
    """Screenshots with a question that the regular expression finds."""
    return each(asked(screens.lesson, _matches(pattern)))


# ---- reading ---------------------------------------------------------------------------------------


def _sheets(rng: Rng, accepts: Callable[[Sheet], bool], held_out: bool) -> Iterator[Sheet]:
    while True:
        sheet = printed(rng, held_out, has_rules=False)
        if sheet.words and accepts(sheet):
            yield sheet


def _pieces(
    accepts: Callable[[Sheet], bool], is_damaged: bool = False, of_text: str = "", held_out: bool = True
) -> Cases:
    """Pieces of pages that `accepts` takes, damaged or not, whose text the expression `of_text` finds."""

    def draw(rng: Rng, count: int) -> list[Case]:
        cases: list[Case] = []
        for sheet in _sheets(rng, accepts, held_out):
            worn = damaged(rng, sheet) if is_damaged else sheet
            if is_damaged and worn is sheet:
                continue  # four in ten stay as they are
            for lesson in pieces.pieces_of(rng, worn, is_laid_out=rng.random() < pieces.LAID_OUT):
                if re.search(of_text, lesson.answer):
                    cases.append(_case(_picture(lesson), OCR, lesson.answer))
            if len(cases) >= count:
                break
        return cases[:count]

    return draw


def _of_kind(kind: str) -> Cases:
    return _pieces(lambda sheet: sheet.kind == kind)


def _is_small(sheet: Sheet) -> bool:
    return max(word.style.size for word in sheet.words) <= SMALL_PRINT


# Pieces of pages by what is on them: undamaged, but for the damaged ones.
READING: dict[str, Cases] = {
    "as they come": lambda rng, count: [
        _with_question(lesson, OCR, lesson.answer) for lesson in pieces.lessons(rng, True, count)
    ],
    "clean prose": _of_kind("prose"),
    "damaged": _pieces(lambda sheet: True, is_damaged=True),
    "accents": _pieces(lambda sheet: True, of_text=r"[^\W\d_a-zA-Z]"),
    "small print": _pieces(_is_small),
    "headings": _of_kind("headed"),
    "lists": _of_kind("list"),
    "tables": _of_kind("table"),
    "receipts": _of_kind("receipt"),
    "code": _of_kind("code"),
    # No typewriter is held out: faces and words are those of training, the pages are new.
    "typewriter": _pieces(lambda sheet: is_typewriter(sheet.words[0].style.path), held_out=False),
}


# ---- everything ------------------------------------------------------------------------------------

_LESSONS: tuple[Callable[[Rng, bool], Lesson], ...] = (
    things.lesson,
    dataset.shapes,
    photographs.lesson,
    textures.lesson,
    charts.lesson,
    screens.lesson,
    dataset.blank,
    dataset.read,
    pieces.lesson,
    dataset.motion,
)


def everything(rng: Rng, count: int) -> list[Case]:
    """Five times `count` pictures of all kinds in turn, each with one of its questions."""
    cases = []
    for number in range(5 * count):
        lesson = _LESSONS[number % len(_LESSONS)](rng, True)
        cases.append(_with_question(lesson, *pick(rng, _pairs(lesson))))
    return cases


def is_reading(case: Case) -> bool:
    """Whether the answer to a case is text of any length."""
    return case.question in dataset.READ
