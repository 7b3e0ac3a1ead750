"""Lessons about screenshots: windows of programs, whose print is mostly too small to read, and dialogs to be read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from PIL import Image

from smolcli.models.chat_template import in_words
from smolcli.nano import synthetic_images
from smolcli.nano.charts import FILTERS
from smolcli.nano.dataset import CAPTION, FOLLOW_UP_COUNT, READ, TAGS, Lesson, still
from smolcli.nano.kinds import CANNOT_TELL, SCREENSHOT, about_kind
from smolcli.nano.part_cells import part_cells
from smolcli.nano.screen_dialogs import dialog
from smolcli.nano.screen_drawing import APPS, WITH_LINES, Box, Sheet, Theme, line_count, mixed, theme, window
from smolcli.nano.synthetic_images import TILE, Picture, Rng, pick

SIZES = ((320, 240), (640, 480), (800, 600), (1024, 768), (1280, 720), (1280, 1024), (1440, 900), (1920, 1080))
PHONE_SIZES = ((360, 640), (390, 844), (412, 915), (768, 1024))
LONGEST_SIDE = 480  # pixels that are drawn; print that is smaller than in a larger screenshot is illegible anyway
HELD_OUT_APPS = ("settings",)
WHAT = {"table": " and a table", "chat": " and messages", "folder": " and icons", "settings": " and switches"}


@dataclass
class Screen:
    """What a screenshot shows. `lines` is None where lines of text are not counted; "" is no title."""

    windows: int
    is_dark: bool | None  # None: some are dark, some light
    app: str = ""
    lines: int | None = None
    title: str = ""
    title_is_legible: bool | None = False  # None: doubtful
    is_dialog: bool = False
    is_error: bool = False
    message: str = ""  # "" if illegible
    buttons: tuple[str, ...] = ()
    buttons_are_legible: bool = False
    text: str = ""  # everything that is printed, if all of it is legible
    has_text: bool = True


def lesson(rng: Rng, held_out: bool, kind_alone: bool = False) -> Lesson:
    """A screenshot, squashed to a tile, with a question and follow-up questions.

    With `kind_alone` they are of KIND_QUESTIONS: whether it is a dialog, an error or windows, dark or light.
    """
    sheet, screen = (dialog_screen if rng.random() < 0.45 else program_screen)(rng, held_out)
    fx, fy = TILE / sheet.image.width, TILE / sheet.image.height
    moved = [replace(char, x=char.x * fx, y=char.y * fy, size=char.size * fy) for char in sheet.annotations]
    picture = Picture(sheet.image.resize((TILE, TILE), pick(rng, FILTERS)), moved)
    if rng.random() < 0.25:
        picture = synthetic_images.worn(rng, picture, 0.35)
    ask_caption = _short_caption if kind_alone else _caption
    first = ask_caption(rng, screen) if rng.random() < 0.4 else about(rng, screen, kind_alone)
    pairs = dict([first])  # each question once
    while len(pairs) < 1 + FOLLOW_UP_COUNT:
        question, answer = about(rng, screen, kind_alone)
        pairs.setdefault(question, answer)
    made = still(picture, *first)
    parts = sheet.parts[-250:]
    outlines = [_outline(box, sheet.image) for _, box in parts]
    cells = part_cells(made, outlines, [(part, "") for part, _ in parts])
    return replace(made, cells=cells, follow_ups=list(pairs.items())[1:])


def _outline(box: Box, image: Image.Image) -> list[float]:
    """The corners of a box as shares of the picture."""
    left, top, right, bottom = box[0] / image.width, box[1] / image.height, box[2] / image.width, box[3] / image.height
    return [left, top, right, top, right, bottom, left, bottom]


def dialog_screen(rng: Rng, held_out: bool) -> tuple[Sheet, Screen]:
    """A dialog or an error box that fills the picture."""
    made = dialog(rng, held_out)
    is_all_legible = made.title_is_legible >= bool(made.title) and made.buttons_are_legible
    is_all_legible &= made.message_is_legible or not made.message
    lines = [made.title, *made.message, " ".join(made.buttons)]
    screen = Screen(
        1, made.colours.is_dark, title=made.title, title_is_legible=made.title_is_legible, is_dialog=True,
        is_error=made.is_error, message=" ".join(made.message) if made.message_is_legible else "",
        buttons=made.buttons, buttons_are_legible=made.buttons_are_legible,
        text="\n".join(line for line in lines if line) if is_all_legible else "", has_text=any(lines),
    )  # fmt: skip
    return made.sheet, screen


def program_screen(rng: Rng, held_out: bool) -> tuple[Sheet, Screen]:
    """One window that fills the screen or most of it, or two or three on a desktop."""
    usable = [app for app in APPS if app not in HELD_OUT_APPS or held_out]
    app, is_phone = pick(rng, usable), rng.random() < 0.15
    width, height = pick(rng, PHONE_SIZES if is_phone else SIZES)
    scale = min(1.0, LONGEST_SIDE / max(width, height))
    width, height = round(width * scale), round(height * scale)
    colours = theme(rng, held_out)
    count = 1 if is_phone else int(rng.choice((1, 2, 3), p=(0.76, 0.16, 0.08)))
    is_full = is_phone or (count == 1 and rng.random() < 0.6)
    sheet = Sheet(Image.new("RGB", (width, height), colours.paper if is_full else _desktop(rng)))
    if count > 1:
        return sheet, _windows(rng, sheet, usable, count, held_out)
    box = (0.0, 0.0, width - 1.0, height - 1.0)
    if not is_full:
        left, top = width * rng.uniform(0.04, 0.2), height * rng.uniform(0.04, 0.2)
        box = left, top, width * rng.uniform(0.78, 0.97), height * rng.uniform(0.78, 0.95)
    lines = line_count(rng) if app in WITH_LINES else None
    title, is_legible = window(rng, sheet, box, colours, app, lines or 0, held_out, is_phone)
    return sheet, Screen(1, colours.is_dark, app, lines, title, is_legible, has_text=bool(sheet.parts))


def _desktop(rng: Rng) -> tuple[int, int, int]:
    """The colour behind the windows, neither dark nor light."""
    return mixed(
        (30, 60, 110), pick(rng, ((20, 120, 120), (150, 90, 150), (110, 130, 80), (90, 110, 190))), rng.random()
    )


def _windows(rng: Rng, sheet: Sheet, usable: list[str], count: int, held_out: bool) -> Screen:
    """Draw windows beside each other or in the corners, without overlap."""
    width, height = sheet.image.size
    themes: list[Theme] = []
    is_row = rng.random() < 0.7
    for index in range(count):
        colours = theme(rng, held_out)
        across = (index + rng.uniform(0.04, 0.1)) / count, (index + rng.uniform(0.88, 0.96)) / count
        down = rng.uniform(0.04, 0.2), rng.uniform(0.7, 0.95)
        (x0, x1), (y0, y1) = (across, down) if is_row else (down, across)
        box = x0 * width, y0 * height, x1 * width, y1 * height
        window(rng, sheet, box, colours, pick(rng, usable), line_count(rng) // 2, held_out)
        themes.append(colours)
    kinds = {colours.is_dark for colours in themes}
    return Screen(count, kinds.pop() if len(kinds) == 1 else None)


# ---- questions -----------------------------------------------------------------------------------


def count_in_words(lines: int) -> str:
    """A number of lines: exact to five, then about ten, twenty, ... fifty, then many.

    >>> count_in_words(3), count_in_words(21), count_in_words(69)
    ('three', 'about twenty', 'many')
    """
    if lines <= 5:
        return in_words(lines)
    return "many" if lines > 55 else f"about {in_words(max(10, round(lines, -1)))}"


def caption(screen: Screen) -> str:
    """The one right caption of a screenshot.

    >>> caption(Screen(1, True, "terminal", 38))
    'a screenshot with a dark window and about forty lines of text'
    """
    start = short_caption(screen)
    if screen.is_error:
        return f'{start}: "{screen.message}"' if screen.message else start
    if screen.is_dialog:
        title = f'the title "{screen.title}"' if screen.title_is_legible and screen.title else ""
        count = len(screen.buttons)
        buttons = f"{in_words(count)} button{'s' if count > 1 else ''}" if count else ""
        parts = " and ".join(part for part in (title, buttons) if part)
        return f"{start} with {parts}" if parts else start
    if screen.windows > 1:
        return start
    if screen.lines:
        return f"{start} and {count_in_words(screen.lines)} line{'s' if screen.lines > 1 else ''} of text"
    return start + WHAT.get(screen.app, "")


def short_caption(screen: Screen) -> str:
    """The start of a caption: the kind, and of windows how many they are and whether they are dark or light.

    >>> short_caption(Screen(1, True, "terminal", 38))
    'a screenshot with a dark window'
    """
    if screen.is_error:
        return "an error message"
    if screen.is_dialog:
        return "a dialog"
    shade = {True: "dark ", False: "light ", None: ""}[screen.is_dark]
    if screen.windows > 1:
        return f"a screenshot with {in_words(screen.windows)} {shade}windows"
    return f"a screenshot with a {shade}window"


def about(rng: Rng, screen: Screen, kind_alone: bool = False) -> tuple[str, str]:
    """A question about a screenshot and its answer."""
    return pick(rng, KIND_QUESTIONS if kind_alone else DIALOG_QUESTIONS if screen.is_dialog else QUESTIONS)(rng, screen)


def _title(rng: Rng, screen: Screen) -> tuple[str, str]:
    if screen.windows > 1 or (screen.title and screen.title_is_legible is None):
        return _how_many_windows(rng, screen)
    thing = "dialog" if screen.is_dialog else "window"
    question = pick(rng, ("What is the title?", f"What is the title of the {thing}?"))
    if not screen.title:
        return question, "there is no title"
    return question, screen.title if screen.title_is_legible else CANNOT_TELL


def _how_many_windows(rng: Rng, screen: Screen) -> tuple[str, str]:
    return "How many windows are there?", str(screen.windows)


def _how_many_buttons(rng: Rng, screen: Screen) -> tuple[str, str]:
    return pick(rng, ("How many buttons are there?", "How many buttons does it have?")), str(len(screen.buttons))


def _what_buttons(rng: Rng, screen: Screen) -> tuple[str, str]:
    question = "What does the button say?" if len(screen.buttons) == 1 else "What do the buttons say?"
    if not screen.buttons:
        return question, "there is no button"
    return question, ", ".join(screen.buttons) if screen.buttons_are_legible else CANNOT_TELL


def _error(rng: Rng, screen: Screen) -> tuple[str, str]:
    if screen.is_error and rng.random() < 0.5:
        question = pick(rng, ("What is the error?", "What does the error message say?"))
        return question, screen.message or CANNOT_TELL
    return pick(rng, ("Is there an error?", "Does it show an error?")), "yes" if screen.is_error else "no"


def _dark_or_light(rng: Rng, screen: Screen) -> tuple[str, str]:
    if screen.is_dark is None:
        return _how_many_windows(rng, screen)
    question = "Is the window dark or light?" if screen.windows == 1 else "Are the windows dark or light?"
    return question, "dark" if screen.is_dark else "light"


def _how_many_lines(rng: Rng, screen: Screen) -> tuple[str, str]:
    if screen.lines is None:
        return _dark_or_light(rng, screen)
    count = str(screen.lines) if screen.lines <= 5 else count_in_words(screen.lines)
    return pick(rng, ("How many lines of text are there?", "How many lines of text?")), count


def _read(rng: Rng, screen: Screen) -> tuple[str, str]:
    if screen.text:
        return pick(rng, READ), screen.text
    return "Is there any text?", "yes" if screen.has_text else "no"


def _kind(rng: Rng, screen: Screen) -> tuple[str, str]:
    return about_kind(rng, SCREENSHOT)


def _tags(rng: Rng, screen: Screen) -> tuple[str, str]:
    return TAGS, f"screenshot, {'error message' if screen.is_error else 'dialog' if screen.is_dialog else 'window'}"


def _caption(rng: Rng, screen: Screen) -> tuple[str, str]:
    return pick(rng, CAPTION), caption(screen)


def _short_caption(rng: Rng, screen: Screen) -> tuple[str, str]:
    return pick(rng, CAPTION), short_caption(screen)


# A question that stands twice is asked twice as often.
Question = Callable[[Rng, Screen], tuple[str, str]]
QUESTIONS: tuple[Question, ...] = (
    _title, _how_many_windows, _how_many_windows, _error, _dark_or_light, _dark_or_light, _how_many_lines,
    _how_many_lines, _read, _kind, _tags, _caption, _caption,
)  # fmt: skip
DIALOG_QUESTIONS: tuple[Question, ...] = (
    _title, _title, _how_many_buttons, _how_many_buttons, _what_buttons, _what_buttons, _error, _error, _dark_or_light,
    _read, _read, _kind, _tags, _how_many_windows, _caption, _caption,
)  # fmt: skip
KIND_QUESTIONS: tuple[Question, ...] = (
    _how_many_windows, _error, _dark_or_light, _dark_or_light, _kind, _kind, _tags, _short_caption,
)  # fmt: skip
