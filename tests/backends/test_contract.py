"""The rules of backends/base.py, tested on every backend with every vision encoder."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from smolcli import registry
from smolcli.backends import image_processor
from smolcli.backends.base import Backend
from smolcli.backends.echo import Echo
from smolcli.backends.image_processor import cut
from smolcli.backends.llamacpp.backend import LlamaCpp
from smolcli.converters import convert
from smolcli.errors import InputError
from smolcli.generation.sampler import Sampler
from smolcli.generation.scheduler import PREFETCHED_PROMPTS
from smolcli.models import resolve
from smolcli.models.files import ModelFiles
from smolcli.options import Generate, Model
from smolcli.types import Frame, Piece, Prompt
from tests.tiny import make_checkpoint

SIX_TOKENS = Generate(max_tokens=6)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> ModelFiles:
    folder = tmp_path_factory.mktemp("tiny") / "Tiny"
    make_checkpoint(folder, "v2", 1, tied=False, tile=64)
    language, vision = convert(folder, folder, "f32", "f32")
    return ModelFiles("Tiny", folder, language, vision)


VISION_ENCODERS = {"llamacpp": tuple(registry.VISION_ENCODERS)}  # of the backends that have a choice
CASES = [(name, encoder) for name in registry.BACKENDS for encoder in VISION_ENCODERS.get(name, ("auto",))]


@pytest.fixture(scope="module", params=CASES, ids=" ".join)
def backend(request: pytest.FixtureRequest, files: ModelFiles) -> Iterator[Backend]:
    name, encoder = request.param
    backend = registry.load(registry.BACKENDS, name)(files, Model(threads=1, device="cpu", vision_encoder=encoder))
    yield backend
    backend.close()


def noise(seed: int, side: int = 40) -> Frame:
    return Frame(np.random.default_rng(seed).bytes(3 * side * side), side, side)


def detokenize(backend: Backend, token: int) -> str:
    if backend.name == "torch":
        return str(backend.tokenizer.decode([token]))  # type: ignore[attr-defined]
    return str(backend.detokenize([token]))  # type: ignore[attr-defined]


def texts(pieces: list[Piece]) -> dict[int, str]:
    return {index: "".join(p.text for p in pieces if p.index == index) for index in sorted({p.index for p in pieces})}


PROMPTS = [
    Prompt.user(noise(1), "What is this, then?"),
    Prompt.user("one two three four five six seven eight"),
    Prompt.user("Compare ", noise(2, 70), " with ", noise(1), " now", system="Be brief"),
]


def test_each_reply_has_exactly_one_finish_with_its_tokens(backend: Backend) -> None:
    pieces = list(backend.generate(PROMPTS, SIX_TOKENS))
    finishes = {piece.index: piece.finish for piece in pieces if piece.finish is not None}
    assert sorted(finishes) == [0, 1, 2]
    assert sum(piece.finish is not None for piece in pieces) == 3
    for finish in finishes.values():
        assert finish.fault is None
        assert finish.reason in ("stop", "length")
        assert 0 <= finish.tokens.new <= SIX_TOKENS.max_tokens
        assert finish.tokens.prompt > finish.tokens.image
    assert finishes[1].tokens.image == 0
    assert finishes[2].tokens.image > finishes[0].tokens.image > 0


def test_only_a_few_prompts_are_taken_ahead(backend: Backend) -> None:
    taken: list[int] = []

    def source() -> Iterator[Prompt]:
        for number in range(50):
            taken.append(number)
            yield Prompt.user(f"number {number}")

    pieces = backend.generate(source(), Generate(max_tokens=1))
    assert isinstance(pieces, Generator)
    for piece in pieces:
        if piece.finish is not None:
            break
    assert len(taken) <= (backend.max_sequences + 2 * PREFETCHED_PROMPTS if isinstance(backend, LlamaCpp) else 2)
    pieces.close()


def test_the_first_piece_of_each_prompt_comes_before_any_of_its_text(backend: Backend) -> None:
    """Also if the prompt cannot be answered."""
    prompts = [PROMPTS[0], Prompt.user("far too long " * 20_000), PROMPTS[1]]
    pieces = list(backend.generate(prompts, SIX_TOKENS))
    for index in range(3):
        [first, *_, last] = [piece for piece in pieces if piece.index == index]
        assert (first.text, first.finish) == ("", None)
        assert last.finish is not None


def test_a_prompt_is_taken_while_another_reply_is_running(backend: Backend) -> None:
    running, taken_beside_others = 0, 0

    def source() -> Iterator[Prompt | None]:
        nonlocal running, taken_beside_others
        for prompt in PROMPTS:
            if running:
                yield None
            taken_beside_others += running > 0
            running += 1
            yield prompt

    reasons = []
    for piece in backend.generate(source(), Generate(max_tokens=30)):
        if piece.finish is not None:
            running -= 1
            reasons.append(piece.finish.reason)
    assert len(reasons) == 3 and "error" not in reasons
    assert taken_beside_others >= 1  # an empty reply may end before the next prompt is taken


def test_a_looping_reply_is_retried_without_encoding_its_pictures_again(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a model that generates the same token until there is a penalty."""
    if isinstance(backend, Echo):
        [*_, last] = backend.generate([Prompt.user("and so on " * 90)], Generate(max_tokens=500))
        assert last.finish is not None
        assert (last.finish.reason, last.finish.text) == ("repetition", "and so on")
        return
    sample, prompt = Sampler.sample, Prompt.user(noise(77), "What is this?")
    owner: Any = backend if backend.name == "torch" else backend._vision  # type: ignore[attr-defined]
    cache = getattr(owner, "_vision", owner)._embedding_cache  # a ThreadedEncoder has its encoder in _vision
    encode, encoded = cache._encode, []
    monkeypatch.setattr(cache, "_encode", lambda tiles: encoded.extend(tiles) or encode(tiles))
    [*_, alone] = backend.generate([prompt], SIX_TOKENS)
    the = next(n for n in range(384) if detokenize(backend, n) == " the")
    monkeypatch.setattr(Sampler, "is_argmax", False)
    monkeypatch.setattr(Sampler, "sample", lambda self, logits: the if self._penalty == 1 else sample(self, logits))
    pieces = list(backend.generate([prompt], Generate(max_tokens=70)))
    shown, finish = "".join(piece.text for piece in pieces), pieces[-1].finish
    assert finish is not None and alone.finish is not None
    assert set(shown.split()) == {"the"} and 200 <= len(shown) < 240
    assert finish.reason in ("stop", "length")
    assert finish.text is not None and " the the the" not in finish.text
    assert finish.tokens.prompt == 2 * alone.finish.tokens.prompt
    assert finish.tokens.image == 2 * alone.finish.tokens.image
    assert finish.tokens.new >= len(shown) // 4
    assert len(encoded) == len(set(encoded))


def test_greedy_replies_do_not_depend_on_the_other_prompts_or_their_order(backend: Backend) -> None:
    together = texts(list(backend.generate(PROMPTS, SIX_TOKENS)))
    alone = [texts(list(backend.generate([prompt], SIX_TOKENS)))[0] for prompt in PROMPTS]
    assert [together[n] for n in range(3)] == alone


def test_the_same_seed_samples_the_same_reply(backend: Backend) -> None:
    hot = Generate(max_tokens=12, temperature=1.5, top_p=0.9, seed=7)
    first, second = (texts(list(backend.generate(PROMPTS[:1], hot)))[0] for _ in range(2))
    assert first == second
    if backend.name != "echo":
        others = {texts(list(backend.generate(PROMPTS[:1], replace(hot, seed=seed))))[0] for seed in range(4)}
        assert len(others) > 1


def test_a_reply_has_at_most_max_tokens(backend: Backend) -> None:
    for max_tokens in (1, 3):
        [*_, last] = backend.generate([PROMPTS[1]], Generate(max_tokens=max_tokens))
        assert last.finish is not None
        assert last.finish.tokens.new <= max_tokens
        if last.finish.reason == "length":
            assert last.finish.tokens.new == max_tokens


def test_a_prompt_too_long_for_the_context_is_a_fault_and_the_next_one_is_answered(backend: Backend) -> None:
    if backend.name == "echo":
        return  # it has no context
    long = Prompt.user("far too long " * 20_000)
    too_long, answered = [piece.finish for piece in backend.generate([long, PROMPTS[0]], SIX_TOKENS) if piece.finish]
    assert too_long.fault is not None
    assert too_long.fault.kind == "too-long"
    assert answered.fault is None


@pytest.mark.parametrize(
    ("error", "kind"),
    [(RuntimeError("no\nway"), "engine"), (MemoryError(), "memory"), (InputError("bad"), "unreadable")],
)
def test_an_exception_in_one_reply_does_not_affect_the_others(
    backend: Backend, monkeypatch: pytest.MonkeyPatch, error: Exception, kind: str
) -> None:
    reply, calls = backend._reply, count()  # type: ignore[attr-defined]

    def failing(*args: object) -> Iterator[Piece]:
        if next(calls) == 1:
            raise error
        return reply(*args)

    monkeypatch.setattr(backend, "_reply", failing)
    faults = {piece.index: piece.finish.fault for piece in backend.generate(PROMPTS, SIX_TOKENS) if piece.finish}
    assert [fault.kind if (fault := faults[index]) else "" for index in range(3)] == ["", kind, ""]
    assert faults[1] is not None and "\n" not in faults[1].message


def test_every_entry_of_the_registry_loads() -> None:
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
    assert registry.load(registry.ON_DEMAND, "hub") is not None


def test_a_second_question_about_a_picture_needs_no_encoding(backend: Backend) -> None:
    if backend.name == "echo":
        return
    picture = noise(99, 300)
    first, second = [
        piece.finish.seconds.encode
        for piece in backend.generate([Prompt.user(picture, "a"), Prompt.user(picture, "b")], Generate(max_tokens=1))
        if piece.finish
    ]
    assert second < first / 2


def test_a_picture_is_cut_into_tiles_once_for_all_its_questions(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    cuts: list[Frame] = []
    monkeypatch.setattr(image_processor, "cut", lambda frame, *args: cuts.append(frame) or cut(frame, *args))
    picture, other = noise(97, 300), noise(96, 300)

    def ask() -> None:
        list(
            backend.generate(
                [Prompt.user(frame, question) for question in "ab" for frame in (picture, other)], SIX_TOKENS
            )
        )

    ask()
    assert cuts == ([] if backend.name == "echo" else [picture, other])
    backend.clear_cache()
    ask()
    assert cuts[2:] == cuts[:2]


def test_after_the_cache_is_cleared_a_picture_is_encoded_again(backend: Backend) -> None:
    if backend.name == "echo":
        return
    picture = Prompt.user(noise(98, 300), "a")

    def encode() -> float:
        [finish] = [piece.finish for piece in backend.generate([picture], Generate(max_tokens=1)) if piece.finish]
        return finish.seconds.encode

    first, cached = encode(), encode()
    backend.clear_cache()
    assert cached < first / 2 < encode() * 2


def test_a_reply_of_a_fixed_length_is_not_stopped_for_repeating_itself(backend: Backend) -> None:
    forced = Generate(max_tokens=200, min_tokens=200)
    finishes = [piece.finish for piece in backend.generate(PROMPTS, forced) if piece.finish]
    assert [(finish.reason, finish.tokens.new, finish.fault) for finish in finishes] == [("length", 200, None)] * 3
    free = [piece.finish for piece in backend.generate(PROMPTS, Generate(max_tokens=200)) if piece.finish]
    assert any(finish.tokens.new != 200 for finish in free) or backend.name != "echo"


def test_the_built_in_model_serves_both_backends() -> None:
    for name in ("torch", "llamacpp"):
        assert resolve.resolve(Model(model="nano"), name).can_run_on(name)
    assert Path(resolve.resolve(Model(model="nano"), "torch").checkpoint or "").is_dir()
