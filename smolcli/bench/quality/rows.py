"""One row of labelled data, from its values by column: pictures, a question and the right answers."""

from __future__ import annotations

import ast
import base64
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from string import ascii_uppercase

from smolcli.bench.quality.conversations import CONVERSATIONS, IMAGE_PLACE, place_pictures, question_and_answer
from smolcli.bench.quality.options_in_text import options_in
from smolcli.errors import InputError, UsageError
from smolcli.models.chat_template import require_plain_text
from smolcli.types import Source, is_url

# The columns or keys that are understood; of several with the same meaning, the first with a value is used.
PICTURES = ("image", "images")  # and image_1, image_2 ...
FILES = ("image_path", "file_name")
QUESTIONS = ("question", "prompt", "query")
ANSWERS = ("answers", "answer", "label")
TRANSCRIPT = "text"  # the answer if no column of ANSWERS is there
CHOICES = ("choices", "options")  # or columns A, B ...
CATEGORIES = ("category", "l2-category", "l2_category", "subject", "topic", "subfield", "question_type", "type")
SPLIT = "split"
# Who wrote the question, in HuggingFaceM4/ChartQA: a class label, whose numbers its dataset card names.
ASKER, ASKERS = "human_or_machine", {"0": "human", "1": "machine"}
ROLES = {
    *PICTURES, *FILES, *QUESTIONS, *ANSWERS, TRANSCRIPT, *CHOICES, *CATEGORIES, SPLIT, ASKER, *CONVERSATIONS, "hint",
    "index",
}  # fmt: skip
NUMBERED = re.compile(r"image_(\d+)")

MAX_INDEX = 64  # characters of a cell that may be the index of another row, as in VLMEvalKit; a longer one is base64
MAX_PATH = 4096  # characters
_STRING = r"""(?:'[^'\\]*(?:\\.[^'\\]*)*'|"[^"\\]*(?:\\.[^"\\]*)*")"""
STRING = re.compile(_STRING, re.DOTALL)
STRINGS = re.compile(
    rf"\[\s*(?:{_STRING}\s*(?:,\s*{_STRING}\s*)*,?\s*)?\]", re.DOTALL
)  # a Python list of strings alone

Values = Mapping[str, object]


@dataclass(frozen=True)
class Row:
    """One question about pictures and its right answers; with `choices` (letter and text) the answers are letters.

    The pictures stand before the question, or where the question has `<image>`, once for each of them.
    `name` says where the row is: set.csv:18 is the line on which it begins, in set.parquet row 17 rows count from 1.
    `split` is the part of the data set that the row belongs to, as "validation", or else who wrote its question, as
    "human" or "machine"; "" where there is but one.
    """

    name: str
    sources: tuple[Source, ...]
    question: str
    answers: tuple[str, ...]
    choices: tuple[tuple[str, str], ...] = ()
    category: str = ""
    hint: str = ""
    split: str = ""


@dataclass(frozen=True)
class BadRow:
    """A row that cannot be used, and the reason in one line."""

    name: str
    message: str


class JsonNumber(str):
    """A number as it is written in JSON."""


JSON = json.JSONDecoder(
    parse_int=JsonNumber, parse_float=JsonNumber, parse_constant=lambda _: None
)  # NaN, as Python writes it, is no value


def _role(column: str) -> str:
    """The name of a column in lower case, unless it is a single letter."""
    column = column.strip()
    return column if len(column) == 1 else column.lower()


def is_known(column: str) -> bool:
    """Whether a column of this name is understood."""
    role = _role(column)
    return role in ROLES or bool(NUMBERED.fullmatch(role)) or (len(role) == 1 and role in ascii_uppercase)


def columns_of(names: Iterable[str]) -> dict[str, str]:
    """The understood columns by their role. Raises InputError if there is no column of pictures or of answers."""
    names = list(names)
    columns_by_role: dict[str, str] = {}
    for column in names:
        role = _role(column)
        if role in columns_by_role:
            raise InputError(f"has two columns {role}", "leave one out")
        if is_known(column):
            columns_by_role[role] = column
    columns = f"its columns are {', '.join(names)[:400]}"
    if not any(role in (*PICTURES, *FILES) or NUMBERED.fullmatch(role) for role in columns_by_role):
        raise InputError("has no column of pictures", f"call it image; {columns}")
    if not any(role in (*ANSWERS, TRANSCRIPT, *CONVERSATIONS) for role in columns_by_role):
        raise InputError("has no column of answers", f"call it answer; {columns}")
    if TRANSCRIPT in columns_by_role and columns_by_role.keys() & set(ANSWERS):
        if not columns_by_role.keys() & set(QUESTIONS):
            raise InputError("has text beside answers", "call it question if it is what to ask, else leave it out")
        del columns_by_role[TRANSCRIPT]
    return columns_by_role


def row_of(
    name: str, values: Values, folder: Path, refer: Callable[[str], str] | None = None, counts_from_zero: bool = False
) -> Row | BadRow:
    """The row of these values by role, or a BadRow with what is wrong.

    `refer` gives the picture of another row by its index. `counts_from_zero` makes numeric answers indices of choices.
    """
    try:
        values = _without_conversation(values)
        choices, hint = _choices(values), _prompt_text(values, ("hint",), "hint")
        answers = _answers(values, choices, counts_from_zero)
        asker = ASKERS.get(str(values.get(ASKER)), values.get(ASKER))
        category, split = _label(values, CATEGORIES), _label({**values, ASKER: asker}, (SPLIT, ASKER))
        sources = _sources(name, values, str(folder), refer)
        question = _question(values, len(sources))
        if not choices and all(answer.strip() in set(ascii_uppercase) for answer in answers):
            choices = options_in(question)
        return Row(name, sources, question, answers, choices, category, hint, split)
    except InputError as error:
        return BadRow(name, str(error))


def _label(values: Values, roles: Iterable[str]) -> str:
    """The first text of these roles in one line; "" if there is none."""
    return next(
        (" ".join(text.split()) for role in roles if isinstance(text := values.get(role), str) and text.strip()), ""
    )


def _first_value(values: Values, roles: Iterable[str]) -> tuple[str, object]:
    """The first of the roles that has a value, and its value; ("", None) if none has."""
    for role in roles:
        value = values.get(role)
        is_blank = isinstance(value, str) and not value.strip()
        if (
            not is_blank and value not in (None, [], {}, b"") and value == value
        ):  # pandas writes NaN for a missing value
            return role, value
    return "", None


def _without_conversation(values: Values) -> Values:
    """The values with a training set's conversation as question and answer, unless the row has an answer beside it."""
    role, conversation = _first_value(values, CONVERSATIONS)
    if not role or _first_value(values, ANSWERS)[0]:
        return values
    conversation = _parsed(conversation) if isinstance(conversation, str) else conversation
    question, answer = question_and_answer(conversation)
    others = {key: value for key, value in values.items() if key not in (*CONVERSATIONS, *QUESTIONS, TRANSCRIPT)}
    return {**others, "question": question, "answer": answer}


def _text(value: object, name: str) -> str:
    """A text, a number as it is written, yes or no for a truth value.

    Raises InputError for anything else; `name` is that of the value.
    """
    if isinstance(value, bool):
        return "yes" if value else "no"
    if not isinstance(value, (str, int, float, Decimal)) or value != value:
        raise InputError(f"its {name} is not text", "write it in quotes")
    return str(value)


def _prompt_text(values: Values, roles: Sequence[str], name: str) -> str:
    """The text of the first role with a value, checked by _checked_prompt; "" if none has."""
    role, value = _first_value(values, roles)
    return _checked_prompt(_text(value, name), name) if role else ""


def _question(values: Values, picture_count: int) -> str:
    """The question with the places of its pictures; "" if there is none. Raises InputError."""
    role, value = _first_value(values, QUESTIONS)
    question = place_pictures(_text(value, "question"), picture_count) if role else ""
    for text in question.split(IMAGE_PLACE):
        _checked_prompt(text, "question")
    return question


def _checked_prompt(text: str, name: str) -> str:
    """The text as a part of a prompt. Raises InputError if it has special tokens of the model."""
    try:
        return require_plain_text(text)
    except UsageError as error:
        raise InputError(f"its {name} cannot be asked: {error.what}", "leave that out") from None


def _parsed(text: str) -> object:
    """The JSON array or object, or the Python list of strings, in a cell; otherwise the text itself."""
    stripped = text.strip()
    if (stripped[:1], stripped[-1:]) not in (("[", "]"), ("{", "}")):
        return text
    try:
        return JSON.decode(stripped)
    except (ValueError, RecursionError):
        pass
    if stripped.startswith("[") and stripped[1:2] in ("'", '"') and stripped[-2:-1] in ("'", '"'):
        try:
            if STRINGS.fullmatch(stripped):  # literal_eval of the whole reads ['a' 'b'], as numpy writes it, as ['ab']
                return [ast.literal_eval(string) for string in STRING.findall(stripped)]
        except (ValueError, SyntaxError):
            pass
        raise InputError("a list in it cannot be read", 'write it as JSON: ["one", "two"]')
    return text


def _answers(values: Values, choices: tuple[tuple[str, str], ...], counts_from_zero: bool) -> tuple[str, ...]:
    role, value = _first_value(values, (*ANSWERS, TRANSCRIPT))
    if isinstance(value, str) and value.lstrip().startswith("["):
        parsed = _parsed(value)
        is_list = isinstance(parsed, list) and (role == "answers" or all(type(item) is str for item in parsed))
        value = parsed if is_list else value  # [1, 2] may be the answer itself
    several = value if isinstance(value, list) else [] if value is None else [value]
    answers = [_text(item.get("answer") if isinstance(item, dict) else item, "answer") for item in several]
    if not any(answer.strip() for answer in answers):
        raise InputError("has no answer", "write what is right, or leave the row out")
    return tuple(_letter(answer, choices, counts_from_zero) for answer in answers) if choices else tuple(answers)


def _letter(answer: str, choices: tuple[tuple[str, str], ...], counts_from_zero: bool) -> str:
    """The letter of the choice that an answer names by its letter, its text or its index from 0."""
    letters = [letter for letter, _ in choices]
    answer = answer.strip()
    is_index = answer.isdecimal() and len(answer) < 3 and int(answer) < len(letters)
    if counts_from_zero and is_index:
        return letters[int(answer)]
    matching = [letter for letter, text in choices if _folded(text) == _folded(answer)]
    if answer in letters:
        return answer
    if matching and is_index and letters[int(answer)] not in matching:
        raise InputError(f"its answer {answer} may be a choice or the number of one", "write its letter")
    if matching:
        return matching[0]
    if answer.upper() in letters:
        return answer.upper()
    if is_index:
        return letters[int(answer)]
    raise InputError("its answer is none of its choices", "write the letter of one")


def _folded(text: str) -> str:
    return " ".join(text.split()).casefold()


def _choices(values: Values) -> tuple[tuple[str, str], ...]:
    """The letters and texts of choices in a list, an object, or columns A, B ...; those without text are left out."""
    role, value = _first_value(values, CHOICES)
    value = _parsed(value) if isinstance(value, str) else value
    if not role:
        value = {letter: values[letter] for letter in ascii_uppercase if letter in values} if "B" in values else {}
    if isinstance(value, list):
        if len(value) > len(ascii_uppercase):
            raise InputError(f"has {len(value)} choices", f"there are {len(ascii_uppercase)} letters")
        value = dict(zip(ascii_uppercase, value, strict=False))
    if not isinstance(value, dict):
        raise InputError("its choices are no list", 'write them as JSON: ["one", "two"]')
    filled = {letter: text for letter, text in value.items() if _first_value({"": text}, ("",))[1] is not None}
    choices = [
        (letter.strip().upper(), _checked_prompt(_text(text, "choice"), "choice")) for letter, text in filled.items()
    ]
    for letter, _ in choices:
        if len(letter) != 1 or letter not in ascii_uppercase:
            raise InputError("its choices have other names than letters", "name them A, B, C")
    if len(dict(choices)) < len(choices):
        raise InputError("two of its choices have one letter", "name them A, B, C")
    return tuple(choices)


def _sources(name: str, values: Values, folder: str, refer: Callable[[str], str] | None) -> tuple[Source, ...]:
    """The pictures of a row in their order; those without a file are named after the row."""
    numbered = sorted((int(match[1]), role) for role in values if (match := NUMBERED.fullmatch(role)))
    _, value = _first_value(values, PICTURES)
    if value is None:
        value = [values[role] for _, role in numbered if _first_value(values, (role,))[0]]
    if value == []:
        _, value = _first_value(values, FILES)
    pictures = list(_items(value))
    if refer and len(pictures) == 1 and isinstance(word := pictures[0], str) and _is_index(word.strip(), folder):
        pictures = list(_items(refer(word.strip())))
    if not pictures:
        raise InputError("has no picture", "name its file in image, or leave the row out")
    names = [name] if len(pictures) == 1 else [f"{name} picture {number}" for number in range(1, len(pictures) + 1)]
    return tuple(_source(name, picture, folder) for name, picture in zip(names, pictures, strict=True))


def _items(value: object) -> Iterator[object]:
    """The items of a list, also of one written as text; otherwise the value itself unless it is empty."""
    value = _parsed(value) if isinstance(value, str) and value.lstrip().startswith("[") else value
    if isinstance(value, list):
        yield from value
    elif value not in (None, ""):
        yield value


def _is_index(word: str, folder: str) -> bool:
    """Whether a cell can only be the index of another row: no URL, no data, and no file of that name."""
    if len(word) > MAX_INDEX or is_url(word) or word.startswith("data:"):
        return False
    return not os.path.isfile(os.path.join(folder, word))


def _source(name: str, value: object, folder: str) -> Source:
    """One picture: a file, a URL, or bytes as they are or in base64. Raises InputError."""
    if isinstance(value, dict):  # as in the data sets of the Hugging Face hub
        value = value.get("path") if value.get("bytes") is None else value["bytes"]
    if isinstance(value, bytes) and value:
        return Source(name, value)
    if not isinstance(value, str) or isinstance(value, JsonNumber) or not value.strip():
        raise InputError("its picture is neither a path nor data", "name its file in image")
    word = value.strip()
    if is_url(word):
        return Source(word)
    if word.startswith("data:"):
        head, comma, text = word.partition(",")
        if not comma or not head.endswith(";base64"):
            raise InputError("its picture is a data: address without base64", "write data:image/png;base64,...")
        return Source(name, _bytes(text))
    if len(word) <= MAX_PATH and os.path.isfile(path := Path(folder, word)):
        return Source(str(path))
    if len(word) > MAX_INDEX and "." not in word:  # "." is not in base64's alphabet
        return Source(name, _bytes(word))
    raise InputError(f"there is no file {word[:200]}", f"give its path from {folder}")


def _bytes(text: str) -> bytes:
    try:
        data = base64.b64decode("".join(text.split()), validate=True)
    except ValueError:
        data = b""
    if not data:
        raise InputError("its picture is not base64, or not all of it", "write it again")
    return data


def category_beside(file: str) -> str:
    """The category in the JSON object beside a text file of a folder, {"category": "letter"}; "" if there is none."""
    try:
        about = json.loads(Path(file).with_suffix(".json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return ""
    category = about.get("category") if isinstance(about, dict) else None
    return " ".join(category.split()) if isinstance(category, str) else ""


def reason(error: BaseException) -> str:
    """The message of an error in one line of at most 200 characters."""
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} at character {error.pos + 1}"
    if isinstance(error, RecursionError):
        return "too deeply nested"
    return " ".join(str(error).split())[:200]
