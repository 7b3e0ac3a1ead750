"""One row of labelled data, made of its values by column: pictures, a question, and what is right."""

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

from smolcli.errors import InputError, UsageError
from smolcli.models.chat_template import plain
from smolcli.types import Source, is_url

# The columns or keys that are understood; of several with the same meaning, the first that is filled.
PICTURES = ("image", "images")  # and image_1, image_2 ...
FILES = ("image_path", "file_name")
QUESTIONS = ("question", "prompt", "query")
ANSWERS = ("answers", "answer", "label")
TRANSCRIPT = "text"  # the answer where there is none of ANSWERS
CHOICES = ("choices", "options")  # or columns A, B ...
CATEGORIES = ("category", "l2-category", "l2_category", "subject", "topic", "subfield", "question_type")
ROLES = {*PICTURES, *FILES, *QUESTIONS, *ANSWERS, TRANSCRIPT, *CHOICES, *CATEGORIES, "hint", "index"}
NUMBERED = re.compile(r"image_(\d+)")

MOST_INDEX = 64  # letters of a cell that may name another row, as in VLMEvalKit; more may be base64
MOST_PATH = 4096
_STRING = r"""(?:'[^'\\]*(?:\\.[^'\\]*)*'|"[^"\\]*(?:\\.[^"\\]*)*")"""
STRING = re.compile(_STRING, re.DOTALL)
STRINGS = re.compile(rf"\[\s*(?:{_STRING}\s*(?:,\s*{_STRING}\s*)*,?\s*)?\]", re.DOTALL)  # a Python list of nothing else

Values = Mapping[str, object]


@dataclass(frozen=True)
class Row:
    """One question with what is right; `choices` are letters and texts, of which `answers` then are letters.

    `name` is where it stands: set.csv:18 is the line on which it begins, set.parquet row 17 is counted from 1.
    """

    name: str
    sources: tuple[Source, ...]
    question: str
    answers: tuple[str, ...]
    choices: tuple[tuple[str, str], ...] = ()
    category: str = ""
    hint: str = ""


@dataclass(frozen=True)
class Bad:
    """A row that is left out, and in one line why."""

    name: str
    message: str


class Number(str):
    """A number of JSON, as it is written there."""


JSON = json.JSONDecoder(parse_int=Number, parse_float=Number, parse_constant=lambda _: None)  # Python writes NaN


def _role(column: str) -> str:
    """The name of a column without regard to case, but that of a single letter."""
    column = column.strip()
    return column if len(column) == 1 else column.lower()


def is_known(column: str) -> bool:
    """Whether a column of this name says something of a row."""
    role = _role(column)
    return role in ROLES or bool(NUMBERED.fullmatch(role)) or (len(role) == 1 and role in ascii_uppercase)


def columns_of(names: Iterable[str]) -> dict[str, str]:
    """What is understood of the columns: each by its role. Raises InputError where pictures or answers have none."""
    names = list(names)
    found: dict[str, str] = {}
    for column in names:
        role = _role(column)
        if role in found:
            raise InputError(f"has two columns {role}", "leave one out")
        if is_known(column):
            found[role] = column
    there = f"its columns are {', '.join(names)[:400]}"
    if not any(role in (*PICTURES, *FILES) or NUMBERED.fullmatch(role) for role in found):
        raise InputError("has no column of pictures", f"call it image; {there}")
    if not any(role in (*ANSWERS, TRANSCRIPT) for role in found):
        raise InputError("has no column of answers", f"call it answer; {there}")
    if TRANSCRIPT in found and found.keys() & set(ANSWERS):
        if not found.keys() & set(QUESTIONS):
            raise InputError("has text beside answers", "call it question if it is what to ask, else leave it out")
        del found[TRANSCRIPT]
    return found


def row_of(
    name: str, values: Values, folder: Path, refer: Callable[[str], str] | None = None, pluralize: bool = False
) -> Row | Bad:
    """The row that these values are, or why they are none."""
    try:
        choices = _choices(values)
        asked = {what: _asked(values, roles, what) for what, roles in (("question", QUESTIONS), ("hint", ("hint",)))}
        answers = _answers(values, choices, pluralize)
        category = next((one for role in CATEGORIES if isinstance(one := values.get(role), str) and one.strip()), "")
        sources = _sources(name, values, str(folder), refer)
        return Row(name, sources, asked["question"], answers, choices, " ".join(category.split()), asked["hint"])
    except InputError as error:
        return Bad(name, str(error))


def _filled(values: Values, roles: Iterable[str]) -> tuple[str, object]:
    """The first of the roles that has a value, and that; "" and None where none has."""
    for role in roles:
        value = values.get(role)
        is_blank = isinstance(value, str) and not value.strip()
        if not is_blank and value not in (None, [], {}, b"") and value == value:  # NaN is what pandas leaves out
            return role, value
    return "", None


def _text(value: object, what: str) -> str:
    """A text, or a number as it is written. Raises InputError."""
    if isinstance(value, bool):
        raise InputError(f"its {what} is {str(value).lower()}", "write the words that are expected, in quotes")
    if not isinstance(value, (str, int, float, Decimal)) or value != value:
        raise InputError(f"its {what} is not text", "write it in quotes")
    return str(value)


def _asked(values: Values, roles: Sequence[str], what: str) -> str:
    """A text that becomes part of a prompt."""
    role, value = _filled(values, roles)
    return _askable(_text(value, what), what) if role else ""


def _askable(text: str, what: str) -> str:
    try:
        return plain(text)
    except UsageError as error:
        raise InputError(f"its {what} cannot be asked: {error.what}", "leave that out") from None


def _parsed(text: str) -> object:
    """The JSON array or object, or the Python list of strings, that a cell holds; else the text itself."""
    bare = text.strip()
    if (bare[:1], bare[-1:]) not in (("[", "]"), ("{", "}")):
        return text
    try:
        return JSON.decode(bare)
    except (ValueError, RecursionError):
        pass
    if bare.startswith("[") and bare[1:2] in ("'", '"') and bare[-2:-1] in ("'", '"'):
        try:
            if STRINGS.fullmatch(bare):  # literal_eval of all would take ['a' 'b'], as numpy writes it, for ['ab']
                return [ast.literal_eval(string) for string in STRING.findall(bare)]
        except (ValueError, SyntaxError):
            pass
        raise InputError("a list in it cannot be read", 'write it as JSON: ["one", "two"]')
    return text


def _answers(values: Values, choices: tuple[tuple[str, str], ...], pluralize: bool) -> tuple[str, ...]:
    role, value = _filled(values, (*ANSWERS, TRANSCRIPT))
    if isinstance(value, str) and value.lstrip().startswith("["):
        listed = _parsed(value)
        is_list = isinstance(listed, list) and (role == "answers" or all(type(one) is str for one in listed))
        value = listed if is_list else value  # [1, 2] may be the answer itself
    several = value if isinstance(value, list) else [] if value is None else [value]
    answers = [_text(one.get("answer") if isinstance(one, dict) else one, "answer") for one in several]
    if not any(answer.strip() for answer in answers):
        raise InputError("has no answer", "write what is right, or leave the row out")
    return tuple(_letter(answer, choices, pluralize) for answer in answers) if choices else tuple(answers)


def _letter(answer: str, choices: tuple[tuple[str, str], ...], pluralize: bool) -> str:
    """The letter of the choice that is right, which an answer names by letter, by text or by number from 0."""
    letters = [letter for letter, _ in choices]
    answer = answer.strip()
    counts = answer.isdecimal() and len(answer) < 3 and int(answer) < len(letters)
    if pluralize and counts:
        return letters[int(answer)]
    named = [letter for letter, text in choices if _same(text) == _same(answer)]
    if answer in letters:
        return answer
    if named and counts and letters[int(answer)] not in named:
        raise InputError(f"its answer {answer} may be a choice or the number of one", "write its letter")
    if named:
        return named[0]
    if answer.upper() in letters:
        return answer.upper()
    if counts:
        return letters[int(answer)]
    raise InputError("its answer is none of its choices", "write the letter of one")


def _same(text: str) -> str:
    return " ".join(text.split()).casefold()


def _choices(values: Values) -> tuple[tuple[str, str], ...]:
    """Letters and texts, of a list, an object, or columns A, B ...; those without text are left out."""
    role, value = _filled(values, CHOICES)
    value = _parsed(value) if isinstance(value, str) else value
    if not role:
        value = {letter: values[letter] for letter in ascii_uppercase if letter in values} if "B" in values else {}
    if isinstance(value, list):
        if len(value) > len(ascii_uppercase):
            raise InputError(f"has {len(value)} choices", f"there are {len(ascii_uppercase)} letters")
        value = dict(zip(ascii_uppercase, value, strict=False))
    if not isinstance(value, dict):
        raise InputError("its choices are no list", 'write them as JSON: ["one", "two"]')
    filled = {letter: text for letter, text in value.items() if _filled({"": text}, ("",))[1] is not None}
    choices = [(letter.strip().upper(), _askable(_text(text, "choice"), "choice")) for letter, text in filled.items()]
    for letter, _ in choices:
        if len(letter) != 1 or letter not in ascii_uppercase:
            raise InputError("its choices have other names than letters", "name them A, B, C")
    if len(dict(choices)) < len(choices):
        raise InputError("two of its choices have one letter", "name them A, B, C")
    return tuple(choices)


def _sources(name: str, values: Values, folder: str, refer: Callable[[str], str] | None) -> tuple[Source, ...]:
    """Its pictures, in order; a name of its own for each that has no file."""
    numbered = sorted((int(found[1]), role) for role in values if (found := NUMBERED.fullmatch(role)))
    _, value = _filled(values, PICTURES)
    if value is None:
        value = [values[role] for _, role in numbered if _filled(values, (role,))[0]]
    if value == []:
        _, value = _filled(values, FILES)
    pictures = list(_each(value))
    if refer and len(pictures) == 1 and isinstance(word := pictures[0], str) and _is_index(word.strip(), folder):
        pictures = list(_each(refer(word.strip())))
    if not pictures:
        raise InputError("has no picture", "name its file in image, or leave the row out")
    names = [name] if len(pictures) == 1 else [f"{name} picture {number}" for number in range(1, len(pictures) + 1)]
    return tuple(_source(*one, folder) for one in zip(names, pictures, strict=True))


def _each(value: object) -> Iterator[object]:
    value = _parsed(value) if isinstance(value, str) and value.lstrip().startswith("[") else value
    if isinstance(value, list):
        yield from value
    elif value not in (None, ""):
        yield value


def _is_index(word: str, folder: str) -> bool:
    """Whether a cell can only be the index of another row."""
    if len(word) > MOST_INDEX or is_url(word) or word.startswith("data:"):
        return False
    return not os.path.isfile(os.path.join(folder, word))


def _source(name: str, value: object, folder: str) -> Source:
    """One picture: a file, a URL, or bytes as they are or in base64. Raises InputError."""
    if isinstance(value, dict):  # as the hub's data sets have it
        value = value.get("path") if value.get("bytes") is None else value["bytes"]
    if isinstance(value, bytes) and value:
        return Source(name, value)
    if not isinstance(value, str) or isinstance(value, Number) or not value.strip():
        raise InputError("its picture is neither a path nor data", "name its file in image")
    word = value.strip()
    if is_url(word):
        return Source(word)
    if word.startswith("data:"):
        head, comma, text = word.partition(",")
        if not comma or not head.endswith(";base64"):
            raise InputError("its picture is a data: address without base64", "write data:image/png;base64,...")
        return Source(name, _bytes(text))
    if len(word) <= MOST_PATH and os.path.isfile(path := Path(folder, word)):
        return Source(str(path))
    if len(word) > MOST_INDEX and "." not in word:  # which is no letter of base64
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


def reason(error: BaseException) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} at letter {error.pos + 1}"
    if isinstance(error, RecursionError):
        return "too deeply nested"
    return " ".join(str(error).split())[:200]
