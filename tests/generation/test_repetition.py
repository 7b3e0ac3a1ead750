"""generation/repetition.py: what counts as a loop, where it is cut off, and legitimate repetition in documents."""

from __future__ import annotations

import random
import string
import time
from itertools import pairwise

import pytest

from smolcli.generation.repetition import CHECK_INTERVAL, MAX_UNIT, MIN_REPEATS, MIN_SPAN, RepetitionGuard, find_loop

REFRAIN = "Oh, the wind and the rain,\nwith a heigh and a ho, for the rain it raineth every day.\n"
LONG_UNIT = "".join(random.Random(5).choices(string.ascii_letters + "   ", k=MAX_UNIT))


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
        ("begin " + LONG_UNIT * MIN_REPEATS, None),
        ("日本語です。" + "猫がいる。" * 60, "日本語です。猫がいる。"),
        ("word" + "\n" * 70, "word"),
        ("word" + " \n" * 40, "word"),
        (" " * 64, ""),
    ],
)
def test_a_loop_is_cut_off_after_its_first_unit(text: str, left: str | None) -> None:
    cut = find_loop(text)
    assert cut is not None
    assert cut <= len(text) / 2
    if left is not None:
        assert text[:cut].strip() == left


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
def test_legitimate_repetition_is_not_a_loop(text: str) -> None:
    assert find_loop(text) is None


def test_units_and_spans_at_the_limits() -> None:
    letters = string.ascii_lowercase + string.ascii_uppercase
    assert find_loop("." + letters[:50] * MIN_REPEATS) is not None
    assert find_loop("." + (letters[:50] * MIN_REPEATS)[1:]) is None  # 199 characters
    assert find_loop("." + letters[:40] * (MIN_SPAN // 40)) is not None
    assert find_loop(LONG_UNIT * MIN_REPEATS) is not None
    assert find_loop(("!" + LONG_UNIT) * MIN_REPEATS) is None  # 401 characters


def has_loop_by_definition(text: str) -> bool:
    """Try every unit and every span: return whether some end of `text`, which has only letters, is periodic."""
    for span in range(MIN_SPAN, len(text) + 1):
        end = text[-span:]
        if any(end[unit:] == end[:-unit] for unit in range(1, min(MAX_UNIT, span // MIN_REPEATS) + 1)):
            return True
    return False


@pytest.mark.parametrize("seed", range(40))
def test_it_finds_the_loops_that_trying_every_unit_finds(seed: int) -> None:
    rng = random.Random(seed)
    unit = "".join(rng.choice("ab") for _ in range(rng.randint(1, 70)))
    text = "".join(rng.choice("ab") for _ in range(rng.randint(0, 60))) + unit * rng.randint(2, 6)
    text = (text + unit[: rng.randint(0, len(unit))])[-260:]
    assert (find_loop(text) is not None) == has_loop_by_definition(text)


@pytest.mark.parametrize("seed", range(20))
def test_repeating_the_unit_after_the_cut_gives_the_text(seed: int) -> None:
    rng = random.Random(seed)
    unit = "".join(rng.choice(string.ascii_letters) for _ in range(rng.randint(3, 120)))
    text = "".join(rng.choice(string.ascii_letters) for _ in range(rng.randint(0, 900))) + unit * 100
    cut = find_loop(text)
    assert cut is not None
    left = text[:cut]
    assert left.count(unit) <= 2
    assert (left + left[-len(unit) :] * 100)[: len(text)] == text


def test_a_guard_finds_a_loop_soon_with_few_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    checks: list[int] = []
    monkeypatch.setattr(
        "smolcli.generation.repetition.find_loop", lambda text: checks.append(len(text)) or find_loop(text)
    )
    guard = RepetitionGuard()
    text = "Here it begins: "
    assert not guard.add(text)
    while not guard.add("so it is "):
        text += "so it is "
    assert MIN_SPAN < len(text) < MIN_SPAN + len("Here it begins: ") + CHECK_INTERVAL + 9
    assert guard.cut == len("Here it begins: so it is")
    assert all(second - first >= CHECK_INTERVAL for first, second in pairwise(checks))
    assert guard.add("and now for something else entirely")  # a loop once found stays


def test_long_texts_take_linear_time() -> None:
    """A check takes the same time at any length: only the tail is searched."""

    def seconds(text: str) -> float:
        started = time.process_time()
        for _ in range(5):
            find_loop(text)
        return time.process_time() - started

    words = " ".join("".join(random.Random(n).choices("abc", k=5)) for n in range(400))
    seconds(words)
    assert seconds(words * 50 + words[:999] + "?" * 9) < 10 * seconds(words)
