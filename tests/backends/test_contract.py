"""The same cases over every backend: what backends/base.py promises."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from smolcli import registry
from smolcli.backends import image_processor
from smolcli.backends.base import Backend
from smolcli.backends.echo import Echo
from smolcli.backends.image_processor import cut as tiles_of
from smolcli.backends.llamacpp.backend import LlamaCpp
from smolcli.converters import convert
from smolcli.errors import InputError
from smolcli.generation.sampler import Sampler
from smolcli.generation.scheduler import AHEAD
from smolcli.models import resolve
from smolcli.models.files import ModelFiles
from smolcli.options import Generate, Model
from smolcli.types import Frame, Piece, Prompt
from tests.tiny import make_checkpoint

WORDS = Generate(max_tokens=6)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> ModelFiles:
    folder = tmp_path_factory.mktemp("tiny") / "Tiny"
    make_checkpoint(folder, "v2", 1, tied=False, tile=64)
    language, vision = convert(folder, folder, "f32", "f32")
    return ModelFiles("Tiny", folder, language, vision)


ENGINES = {"llamacpp": tuple(registry.VISION_ENCODERS)}  # what encodes pictures, where there is a choice
CASES = [(name, engine) for name in registry.BACKENDS for engine in ENGINES.get(name, ("auto",))]


@pytest.fixture(scope="module", params=CASES, ids=" ".join)
def backend(request: pytest.FixtureRequest, files: ModelFiles) -> Iterator[Backend]:
    name, engine = request.param
    made = registry.load(registry.BACKENDS, name)(files, Model(threads=1, device="cpu", vision_engine=engine))
    yield made
    made.close()


def noise(seed: int, side: int = 40) -> Frame:
    return Frame(np.random.default_rng(seed).bytes(3 * side * side), side, side)


def says(backend: Backend, token: int) -> str:
    if backend.name == "torch":
        return str(backend.tokenizer.decode([token]))  # type: ignore[attr-defined]
    return str(backend.words([token]))  # type: ignore[attr-defined]


def texts(pieces: list[Piece]) -> dict[int, str]:
    return {index: "".join(p.text for p in pieces if p.index == index) for index in sorted({p.index for p in pieces})}


PROMPTS = [
    Prompt.user(noise(1), "What is this, then?"),
    Prompt.user("one two three four five six seven eight"),
    Prompt.user("Compare ", noise(2, 70), " with ", noise(1), " now", system="Be brief"),
]


def test_each_prompt_ends_in_exactly_one_finish_with_its_account(backend: Backend) -> None:
    pieces = list(backend.generate(PROMPTS, WORDS))
    ends = {p.index: p.finish for p in pieces if p.finish is not None}
    assert sorted(ends) == [0, 1, 2]
    assert sum(p.finish is not None for p in pieces) == 3
    for end in ends.values():
        assert end.fault is None
        assert end.reason in ("stop", "length")
        assert 0 <= end.tokens.new <= WORDS.max_tokens
        assert end.tokens.prompt > end.tokens.image
    assert ends[1].tokens.image == 0
    assert ends[2].tokens.image > ends[0].tokens.image > 0


def test_it_takes_a_few_prompts_ahead_at_most(backend: Backend) -> None:
    pulled: list[int] = []

    def source() -> Iterator[Prompt]:
        for number in range(50):
            pulled.append(number)
            yield Prompt.user(f"number {number}")

    pieces = backend.generate(source(), Generate(max_tokens=1))
    for piece in pieces:
        if piece.finish is not None:
            break
    assert len(pulled) <= (backend.most + 2 * AHEAD if isinstance(backend, LlamaCpp) else 2)
    pieces.close()


def test_the_first_piece_of_each_prompt_comes_before_any_of_its_text(backend: Backend) -> None:
    """Even of one that cannot be answered."""
    prompts = [PROMPTS[0], Prompt.user("far too long " * 20_000), PROMPTS[1]]
    pieces = list(backend.generate(prompts, WORDS))
    for index in range(3):
        [first, *_, last] = [piece for piece in pieces if piece.index == index]
        assert (first.text, first.finish) == ("", None)
        assert last.finish is not None


def test_a_prompt_is_taken_while_another_is_answered_as_soon_as_one_is_ready(backend: Backend) -> None:
    under_way, taken_beside = 0, 0

    def source() -> Iterator[Prompt | None]:
        nonlocal under_way, taken_beside
        for prompt in PROMPTS:
            if under_way:
                yield None
            taken_beside += under_way > 0
            under_way += 1
            yield prompt

    ends = []
    for piece in backend.generate(source(), Generate(max_tokens=30)):
        if piece.finish is not None:
            under_way -= 1
            ends.append(piece.finish.reason)
    assert len(ends) == 3 and "error" not in ends
    assert taken_beside >= 1  # a reply of no words is over too soon


def test_a_loop_is_tried_again_and_its_pictures_are_not_encoded_again(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model that says one token for ever, until it is penalised."""
    if isinstance(backend, Echo):
        [*_, last] = backend.generate([Prompt.user("and so on " * 90)], Generate(max_tokens=500))
        assert last.finish is not None
        assert (last.finish.reason, last.finish.text) == ("repetition", "and so on")
        return
    choose, prompt = Sampler.choose, Prompt.user(noise(77), "What is this?")
    owner: Any = backend if backend.name == "torch" else backend._vision  # type: ignore[attr-defined]
    encoder = getattr(owner, "_vision", owner)._encoded  # an Apart has it inside
    encode, encoded = encoder._encode, []
    monkeypatch.setattr(encoder, "_encode", lambda tiles: encoded.extend(tiles) or encode(tiles))
    [*_, alone] = backend.generate([prompt], WORDS)
    the = next(n for n in range(384) if says(backend, n) == " the")
    monkeypatch.setattr(Sampler, "takes_highest", False)
    monkeypatch.setattr(Sampler, "choose", lambda self, scores: the if self._penalty == 1 else choose(self, scores))
    pieces = list(backend.generate([prompt], Generate(max_tokens=70)))
    shown, last = "".join(piece.text for piece in pieces), pieces[-1].finish
    assert last is not None and alone.finish is not None
    assert set(shown.split()) == {"the"} and 200 <= len(shown) < 240
    assert last.reason in ("stop", "length")
    assert last.text is not None and " the the the" not in last.text
    assert last.tokens.prompt == 2 * alone.finish.tokens.prompt
    assert last.tokens.image == 2 * alone.finish.tokens.image
    assert last.tokens.new >= len(shown) // 4
    assert len(encoded) == len(set(encoded))


def test_greedy_answers_do_not_depend_on_neighbours_or_order(backend: Backend) -> None:
    together = texts(list(backend.generate(PROMPTS, WORDS)))
    alone = [texts(list(backend.generate([prompt], WORDS)))[0] for prompt in PROMPTS]
    assert [together[n] for n in range(3)] == alone


def test_a_seed_repeats_a_sampled_answer(backend: Backend) -> None:
    hot = Generate(max_tokens=12, temperature=1.5, top_p=0.9, seed=7)
    first, second = (texts(list(backend.generate(PROMPTS[:1], hot)))[0] for _ in range(2))
    assert first == second
    if backend.name != "echo":
        others = {texts(list(backend.generate(PROMPTS[:1], Generate(12, 1.5, 0.9, seed))))[0] for seed in range(4)}
        assert len(others) > 1


def test_an_answer_is_never_longer_than_asked(backend: Backend) -> None:
    for most in (1, 3):
        [*_, last] = backend.generate([PROMPTS[1]], Generate(max_tokens=most))
        assert last.finish is not None
        assert last.finish.tokens.new <= most
        if last.finish.reason == "length":
            assert last.finish.tokens.new == most


def test_what_does_not_fit_the_context_is_a_fault_and_the_next_prompt_is_answered(backend: Backend) -> None:
    if backend.name == "echo":
        return  # it has no context
    long = Prompt.user("far too long " * 20_000)
    ends = [p.finish for p in backend.generate([long, PROMPTS[0]], WORDS) if p.finish]
    assert ends[0].fault is not None
    assert ends[0].fault.kind == "too-long"
    assert ends[1].fault is None


@pytest.mark.parametrize(
    ("error", "kind"),
    [(RuntimeError("no\nway"), "engine"), (MemoryError(), "memory"), (InputError("bad"), "unreadable")],
)
def test_one_failure_costs_one_reply(
    backend: Backend, monkeypatch: pytest.MonkeyPatch, error: Exception, kind: str
) -> None:
    reply, calls = backend._reply, count()  # type: ignore[attr-defined]

    def failing(*given: object) -> Iterator[Piece]:
        if next(calls) == 1:
            raise error
        return reply(*given)

    monkeypatch.setattr(backend, "_reply", failing)
    ends = {p.index: p.finish for p in backend.generate(PROMPTS, WORDS) if p.finish is not None}
    assert [ends[n].fault.kind if ends[n].fault else "" for n in range(3)] == ["", kind, ""]
    assert "\n" not in ends[1].fault.message


def test_every_line_of_the_registry_loads() -> None:
    for table in (
        registry.TASKS,
        registry.BACKENDS,
        registry.WRITERS,
        registry.READERS,
        registry.COMMANDS,
        registry.VISION_ENCODERS,
    ):
        for name in table:
            assert registry.load(table, name) is not None
    assert registry.load(registry.LIBRARIES, "hub") is not None


def test_a_second_question_about_a_picture_costs_no_encoding(backend: Backend) -> None:
    if backend.name == "echo":
        return
    picture = noise(99, 300)
    ends = [
        p.finish.seconds.encode
        for p in backend.generate([Prompt.user(picture, "a"), Prompt.user(picture, "b")], Generate(max_tokens=1))
        if p.finish
    ]
    assert ends[1] < ends[0] / 2


def test_a_picture_is_cut_once_for_all_its_questions(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    cuts: list[Frame] = []
    monkeypatch.setattr(image_processor, "cut", lambda frame, *more: cuts.append(frame) or tiles_of(frame, *more))
    picture, other = noise(97, 300), noise(96, 300)

    def ask() -> None:
        list(backend.generate([Prompt.user(one, word) for word in "ab" for one in (picture, other)], WORDS))

    ask()
    assert cuts == ([] if backend.name == "echo" else [picture, other])
    backend.forget()
    ask()
    assert cuts[2:] == cuts[:2]


def test_what_was_encoded_is_forgotten_when_that_is_asked(backend: Backend) -> None:
    if backend.name == "echo":
        return
    picture = Prompt.user(noise(98, 300), "a")

    def encode() -> float:
        [finish] = [p.finish for p in backend.generate([picture], Generate(max_tokens=1)) if p.finish]
        return finish.seconds.encode

    new, known = encode(), encode()
    backend.forget()
    assert known < new / 2 < encode() * 2


def test_an_answer_of_a_given_length_has_it_whatever_it_says(backend: Backend) -> None:
    forced = Generate(max_tokens=200, min_tokens=200)
    ends = [p.finish for p in backend.generate(PROMPTS, forced) if p.finish]
    assert [(end.reason, end.tokens.new, end.fault) for end in ends] == [("length", 200, None)] * 3
    free = {p.index: p.finish for p in backend.generate(PROMPTS, Generate(max_tokens=200)) if p.finish}
    assert any(end.tokens.new != 200 for end in free.values()) or backend.name != "echo"


def test_the_built_in_model_serves_both_backends() -> None:
    for name in ("torch", "llamacpp"):
        assert resolve.resolve(Model(model="nano"), name).serves(name)
    assert Path(resolve.resolve(Model(model="nano"), "torch").checkpoint or "").is_dir()
