"""generation/repetition.py: what is a loop, where it is cut, and what documents repeat in good faith."""

from __future__ import annotations

import random
import string
import time
from itertools import pairwise

import pytest

from smolcli.generation.repetition import EVERY, LONGEST_UNIT, SPAN, TIMES, RepetitionGuard, find_loop

REFRAIN = "Oh, the wind and the rain,\nwith a heigh and a ho, for the rain it raineth every day.\n"
LONG_UNIT = "".join(random.Random(5).choices(string.ascii_letters + "   ", k=LONGEST_UNIT))


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("A dog runs. " + "It is a brown dog. " * 30, "A dog runs. It is a brown dog."),
        ("I see a dog" + " and a dog" * 40, "I see a dog and"),
        ("Total 12\n" + "Thank you, come again\n" * 20, "Total 12\nThank you, come again"),
        ("Total 12\n" + "Thank you. Come again\n" * 20 + "Thank y", "Total 12\nThank you. Come again"),
        ("Aa" + "h" * 300, "Aah"),
        ("Menu: " + "x, y, " * 60 + "x,", "Menu: x, y,"),
        ("........ 1\n" + "." * 450, "........ 1\n."),
        ("0" * 500, "0"),
        ("begin " + LONG_UNIT * TIMES, None),
        ("日本語です。" + "猫がいる。" * 60, "日本語です。猫がいる。"),
        ("word" + "\n" * 70, "word"),
        ("word" + " \n" * 40, "word"),
        (" " * 64, ""),
    ],
)
def test_a_loop_is_cut_after_its_first_unit(text: str, left: str | None) -> None:
    at = find_loop(text)
    assert at is not None
    assert at <= len(text) / 2
    if left is not None:
        assert text[:at].strip() == left


@pytest.mark.parametrize(
    "text",
    [
        "",
        "word " * 3,
        "Chapter 1 " + "." * 100,
        "Chapter 1 " + ". " * 100,
        "\n".join(f"Chapter {n} {'.' * 60} {7 * n}" for n in range(1, 40)),
        "| a | b |\n" + "|---" * 60 + "|",
        "| a | b |\n" + ("|" + "-" * 19) * 12 + "|",
        "Name: " + "_" * 120,
        "0 | " * 60,
        "0.00 " * 60,
        "|  |  |  |  |  |\n" * 10,
        "verse one\n\n" + f"verse of its own\n{REFRAIN}\n" * 3,
        REFRAIN * 3,
        "\n".join(f"{n}. Wash the hands and dry them with a clean towel" for n in range(1, 60)),
        "\n".join(f"2026-11-{n:02d} 08:00 open 17:00 closed" for n in range(1, 31)),
        "ha " * 40,
        "a" + " " * 63,
        "x" * 60 + " " * 70 + "y",
        "It is a brown dog. " * 30 + "It ends otherwise, with one more sentence.",
    ],
)
def test_what_is_repeated_in_good_faith_stays(text: str) -> None:
    assert find_loop(text) is None


def test_units_and_spans_at_their_limits() -> None:
    letters = string.ascii_lowercase + string.ascii_uppercase
    assert find_loop("." + letters[:50] * TIMES) is not None
    assert find_loop("." + (letters[:50] * TIMES)[1:]) is None  # 199 characters
    assert find_loop("." + letters[:40] * (SPAN // 40)) is not None
    assert find_loop(LONG_UNIT * TIMES) is not None
    assert find_loop(("!" + LONG_UNIT) * TIMES) is None  # 401 characters


def by_definition(text: str) -> bool:
    """Whether some end of `text`, of letters, has a period: every unit and every span tried."""
    for span in range(SPAN, len(text) + 1):
        end = text[-span:]
        if any(end[unit:] == end[:-unit] for unit in range(1, min(LONGEST_UNIT, span // TIMES) + 1)):
            return True
    return False


@pytest.mark.parametrize("seed", range(40))
def test_it_finds_what_trying_every_unit_finds(seed: int) -> None:
    rng = random.Random(seed)
    unit = "".join(rng.choice("ab") for _ in range(rng.randint(1, 70)))
    text = "".join(rng.choice("ab") for _ in range(rng.randint(0, 60))) + unit * rng.randint(2, 6)
    text = (text + unit[: rng.randint(0, len(unit))])[-260:]
    assert (find_loop(text) is not None) == by_definition(text)


@pytest.mark.parametrize("seed", range(20))
def test_what_is_left_with_its_unit_again_and_again_is_the_text(seed: int) -> None:
    rng = random.Random(seed)
    unit = "".join(rng.choice(string.ascii_letters) for _ in range(rng.randint(3, 120)))
    text = "".join(rng.choice(string.ascii_letters) for _ in range(rng.randint(0, 900))) + unit * 100
    at = find_loop(text)
    assert at is not None
    left = text[:at]
    assert left.count(unit) <= 2
    assert (left + left[-len(unit) :] * 100)[: len(text)] == text


def test_a_guard_sees_a_loop_soon_and_looks_seldom(monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[int] = []
    monkeypatch.setattr("smolcli.generation.repetition.find_loop", lambda text: looks.append(len(text)) or find_loop(text))
    guard = RepetitionGuard()
    said = "Here it begins: "
    assert not guard.add(said)
    while not guard.add("so it is "):
        said += "so it is "
    assert SPAN < len(said) < SPAN + len("Here it begins: ") + EVERY + 9
    assert guard.cut == len("Here it begins: so it is")
    assert all(later - sooner >= EVERY for sooner, later in pairwise(looks))
    assert guard.add("and now for something else entirely")  # once is enough


def test_long_texts_take_linear_time() -> None:
    """A look costs the same at any length: a book is not read again for each word."""

    def seconds(text: str) -> float:
        started = time.process_time()
        for _ in range(5):
            find_loop(text)
        return time.process_time() - started

    words = " ".join("".join(random.Random(n).choices("abc", k=5)) for n in range(400))
    seconds(words)
    assert seconds(words * 50 + words[:999] + "?" * 9) < 10 * seconds(words)
