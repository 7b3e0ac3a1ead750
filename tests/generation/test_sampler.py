"""sampling.py against transformers' own samplers, against the arithmetic, and its loop fed by hand."""

from __future__ import annotations

import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from transformers import (
    MinNewTokensLengthLogitsProcessor,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopPLogitsWarper,
)

from smolcli.generation.sampler import Sampler, evaluated
from smolcli.options import Generate
from smolcli.types import FinishReason, Piece

Scores = NDArray[np.float32]
SIZE = 50
HOT = Generate(temperature=1.3)


def scores(seed: int, size: int = SIZE) -> Scores:
    return (3 * np.random.default_rng(seed).standard_normal(size)).astype(np.float32)


def draws(given: Scores, count: int = 4000, **options: float) -> NDArray[np.float64]:
    """How often each token is drawn, as a share."""
    sampler = Sampler(Generate(**options))  # type: ignore[arg-type]
    return np.bincount([sampler.choose(given) for _ in range(count)], minlength=len(given)) / count


def theirs(given: Scores, temperature: float, top_p: float = 1.0) -> NDArray[np.float64]:
    """The probabilities that transformers would draw from."""
    row = torch.from_numpy(given)[None].double()
    none = torch.empty(1, 0, dtype=torch.long)
    row = TemperatureLogitsWarper(temperature)(none, row)
    row = TopPLogitsWarper(top_p)(none, row) if top_p < 1 else row
    return row.softmax(-1)[0].numpy()


@pytest.mark.parametrize(("temperature", "top_p"), [(0.5, 1.0), (1.0, 0.9), (2.0, 0.6), (1.0, 1e-9), (1.0, 0.999)])
def test_draws_follow_the_probabilities_of_transformers(temperature: float, top_p: float) -> None:
    for seed in range(3):
        given = scores(seed)
        wanted = theirs(given, temperature, top_p)
        got = draws(given, temperature=temperature, top_p=top_p, seed=seed)
        assert not got[wanted == 0].any()
        assert np.all(np.abs(got - wanted) < 5 * np.sqrt(wanted * (1 - wanted) / 4000) + 1e-3)  # five deviations


def test_the_smallest_nucleus_is_one_token() -> None:
    assert draws(scores(1), 50, temperature=5.0, top_p=0.0)[scores(1).argmax()] == 1


@pytest.mark.parametrize("penalty", [1.3, 2.0, 0.8])
def test_the_penalty_is_that_of_transformers(penalty: float) -> None:
    """The winner of each step, which a token said before may be again."""
    processor = RepetitionPenaltyLogitsProcessor(penalty)
    sampler, said = Sampler(Generate(), penalty), list[int]()
    for step in range(60):
        given = scores(step, 12)
        row = torch.from_numpy(given)[None]
        processed = processor(torch.tensor([said]), row) if said else row
        said.append(sampler.choose(given))
        assert said[-1] == int(processed.argmax())
    assert len(set(said)) > 5


class Only:
    """A grammar that allows a few tokens and never ends."""

    def __init__(self, *tokens: int) -> None:
        self.tokens = tokens

    def allowed(self) -> NDArray[np.bool_]:
        return np.isin(np.arange(SIZE), self.tokens)

    def take(self, token: int) -> bool:
        return False


def test_only_what_is_allowed_is_chosen() -> None:
    grammar = Only(3, 7, 20)
    for seed in range(20):
        given = scores(seed)
        best = [3, 7, 20][int(given[[3, 7, 20]].argmax())]
        assert Sampler(Generate(), 1.0, grammar).choose(given) == best
        assert Sampler(Generate(temperature=9.0, top_p=0.99, seed=seed), 1.0, grammar).choose(given) in (3, 7, 20)
        assert Sampler(HOT, 1.5, grammar).choose(given) in (3, 7, 20)


def test_a_backend_may_find_the_highest_itself_only_where_nothing_else_counts() -> None:
    assert Sampler(Generate(top_p=0.5, seed=3)).takes_highest
    others = (Sampler(HOT), Sampler(Generate(), 1.3), Sampler(Generate(), 1.0, Only(1)))
    assert not any(other.takes_highest for other in others)


def test_scores_are_not_written_to() -> None:
    given = scores(1)
    given.flags.writeable = False
    for options in (Generate(), HOT):
        sampler = Sampler(options, 1.3, Only(1, 2, 3))
        for _ in range(3):
            sampler.choose(given)


def test_the_first_of_equals_wins() -> None:
    assert Sampler(Generate()).choose(np.float32([1, 2, 2, 0])) == 1


def test_scores_that_differ_in_the_last_digits_draw_the_same_tokens() -> None:
    """As those of two backends do; near ties stand in one order or the other."""
    near = np.repeat(scores(1, 25), 2)
    other = near + 1e-6 * np.random.default_rng(0).standard_normal(SIZE).astype(np.float32)
    options = Generate(temperature=1.0, top_p=0.95, seed=3)
    first, second = Sampler(options), Sampler(options)
    assert [first.choose(near) for _ in range(500)] == [second.choose(other) for _ in range(500)]


def test_extremes_are_quiet() -> None:
    given = np.float32([-3e38, 3e38, 0, -np.inf])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for temperature in (1e-300, 1e-9, 1.0):
            assert Sampler(Generate(temperature=temperature)).choose(given) == 1
        assert 0 <= Sampler(Generate(temperature=100.0, top_p=0.5)).choose(given) < 3


def test_a_seed_draws_the_same_on_every_machine() -> None:
    """And in another process, whatever hash seed that has."""
    program = (
        "import numpy as np; from smolcli.generation.sampler import Sampler; from smolcli.options import Generate;"
        "s = Sampler(Generate(temperature=1.0, seed=7)); print(*(s.choose(np.zeros(1000, np.float32)) for _ in 'abc'))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["483", "228", "834"]


class Letters:
    """A grammar of lower-case words that end in a full stop; token n is the character n."""

    def allowed(self) -> NDArray[np.bool_]:
        return np.array([chr(n).islower() or chr(n) == "." for n in range(128)])

    def take(self, token: int) -> bool:
        return token == ord(".")


def loop(
    text: str, most: int, answer: bool = False, grammar: Letters | None = None, least: int = 0
) -> tuple[list[str], object, int]:
    """The pieces, the end, and the steps taken, of a model that wants to say `text` and then "!" for ever."""
    steps = 0

    def wants(at: int) -> Scores:
        found = np.zeros(128, np.float32)
        found[ord(text[at] if at < len(text) else "!")] = 2
        found[ord(".")] = 1
        return found

    def after(token: int) -> Scores:
        nonlocal steps
        steps += 1
        return wants(steps)

    def says(token: int) -> str | None:
        return None if chr(token) == "$" else "" if chr(token) == "_" else chr(token)

    sampler = Sampler(Generate(min_tokens=least), 1.0, grammar)
    running = evaluated(sampler.decode(5, wants(0), most, says, sampler.choose), after)
    pieces: list[Piece] = []
    try:
        pieces.append(next(running))
        while True:
            pieces.append(running.send(answer))
    except StopIteration as end:
        assert {piece.index for piece in pieces} <= {5}
        return [piece.text for piece in pieces], end.value, steps


@pytest.mark.parametrize(
    ("text", "most", "said", "end", "steps"),
    [
        ("abc$", 9, "abc", ("stop", 3), 3),
        ("$", 9, "", ("stop", 0), 0),
        ("abcdef", 3, "abc", ("length", 3), 2),
        ("a_b_$", 9, "ab", ("stop", 4), 4),
    ],
)
def test_the_loop_ends_as_it_should_and_takes_no_step_too_many(
    text: str, most: int, said: str, end: tuple[FinishReason, int], steps: int
) -> None:
    pieces, ended, taken = loop(text, most)
    assert ("".join(pieces), ended, taken) == (said, end, steps)
    assert all(pieces)


@pytest.mark.parametrize(
    ("text", "least", "said", "end"),
    [
        ("a$c$", 3, "a.c", ("stop", 3)),  # "." is what it wants next best
        ("a$c$", 2, "a.c", ("stop", 3)),
        ("a$c$", 1, "a", ("stop", 1)),
        ("$$$$$$$$$$$$", 9, ".........", ("length", 9)),
    ],
)
def test_before_the_fewest_tokens_the_next_best_is_taken_instead_of_an_end(
    text: str, least: int, said: str, end: tuple[FinishReason, int]
) -> None:
    pieces, ended, _ = loop(text, 9, least=least)
    assert ("".join(pieces), ended) == (said, end)


@pytest.mark.parametrize("options", [{}, {"temperature": 1.0, "seed": 3}])
def test_the_fewest_tokens_are_those_of_transformers(options: dict[str, float]) -> None:
    ends, least, steps = [3, 7, 11], 20, 40
    rows = [scores(seed, 20) for seed in range(steps)]
    for row in rows[::2]:
        row[ends] += 9  # what it wants most of all
    theirs = MinNewTokensLengthLogitsProcessor(0, least, ends, device="cpu")
    reference = Sampler(Generate(**options))  # type: ignore[arg-type]
    wanted: list[int] = []
    while len(wanted) < steps:
        row = theirs(torch.tensor([wanted], dtype=torch.long), torch.from_numpy(rows[len(wanted)])[None].clone())
        token = reference.choose(row[0].numpy()) if options else int(row.argmax())
        if token in ends:
            break
        wanted.append(token)
    said: list[int] = []

    def says(token: int) -> str | None:
        if token in ends:
            return None
        said.append(token)
        return ""

    mine = Sampler(Generate(min_tokens=least, **options))  # type: ignore[arg-type]
    assert not list(evaluated(mine.decode(0, rows[0], steps, says, mine.choose), lambda _: rows[len(said)]))
    assert len(wanted) >= least
    assert said == wanted if not options else len(said) >= least  # chance differs: a token that is refused was drawn


def test_a_reply_that_is_told_to_stop_stops() -> None:
    assert loop("abc$", 9, answer=True) == (["a"], ("repetition", 1), 0)


def test_a_grammar_decides_what_may_come_and_when_the_reply_is_complete() -> None:
    assert loop("abC", 9, grammar=Letters()) == (["a", "b", "."], ("stop", 3), 2)
    assert loop(".", 9, answer=True, grammar=Letters()) == (["."], ("stop", 1), 0)  # complete: it cannot repeat


def test_nothing_may_be_wanted() -> None:
    assert loop("abc", 0) == ([], ("length", 0), 0)
