"""The rules of backends/base.py and generation/scheduler.py, on every backend with every vision encoder."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any
from weakref import ref

import numpy as np
import pytest

from smolcli import registry
from smolcli.backends.base import Backend, Logits, PrefillRequest, PrefillResult, PreparedPrompt, Scores
from smolcli.backends.echo import Echo
from smolcli.converters import convert
from smolcli.errors import EngineError, InputError
from smolcli.generation.sampler import RepetitionPenalty, Sampler
from smolcli.generation.scheduler import generate
from smolcli.models import resolve
from smolcli.models.files import ModelFiles
from smolcli.options import Generate, Model
from smolcli.process.worker_main import resolve as resolve_target
from smolcli.types import Frame, Piece, Prompt
from tests.families import make_pair
from tests.tiny import make_checkpoint

SIX_TOKENS = Generate(max_tokens=6)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> ModelFiles:
    folder = tmp_path_factory.mktemp("tiny") / "Tiny"
    make_checkpoint(folder, "v2", 1, tied=False, tile=64)
    language, vision = convert(folder, folder, "f32", "f32")
    return ModelFiles("Tiny", folder, language, vision)


VISION_ENCODERS = {"llamacpp": tuple(registry.VISION_ENCODERS)}  # of the backends that have a choice
OTHER_FAMILY = "with another family"
CASES = [(name, encoder) for name in registry.BACKENDS for encoder in VISION_ENCODERS.get(name, ("auto",))]
CASES += [(name, OTHER_FAMILY) for name, entry in registry.BACKENDS.items() if entry.other_families]


@pytest.fixture(scope="module", params=CASES, ids=" ".join)
def backend(request: pytest.FixtureRequest, files: ModelFiles, tmp_path_factory: Any) -> Iterator[Backend]:
    name, encoder = request.param
    options = Model(threads=1, device="cpu")
    if encoder == OTHER_FAMILY:
        pair = make_pair(tmp_path_factory.mktemp("other"), "qwen2vl", 1)
        backend: Backend = resolve_target(registry.BACKENDS[name].other_families)(pair, options)
    else:
        backend = registry.load(registry.BACKENDS, name)(files, replace(options, vision_encoder=encoder))
    yield backend
    backend.close()


def noise(seed: int, side: int = 40) -> Frame:
    return Frame(np.random.default_rng(seed).bytes(3 * side * side), side, side)


def texts(pieces: list[Piece]) -> dict[int, str]:
    return {index: "".join(p.text for p in pieces if p.index == index) for index in sorted({p.index for p in pieces})}


PROMPTS = [
    Prompt.user(noise(1), "What is this, then?"),
    Prompt.user("one two three four five six seven eight"),
    Prompt.user("Compare ", noise(2, 70), " with ", noise(1), " now", system="Be brief"),
]


def test_each_reply_has_exactly_one_finish_with_its_tokens(backend: Backend) -> None:
    pieces = list(generate(backend, PROMPTS, SIX_TOKENS))
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

    pieces = generate(backend, source(), Generate(max_tokens=1))
    assert isinstance(pieces, Generator)
    for piece in pieces:
        if piece.finish is not None:
            break
    assert len(taken) <= 2 * backend.max_sequences  # as many are prepared as are being answered
    pieces.close()


def test_the_first_piece_of_each_prompt_comes_before_any_of_its_text(backend: Backend) -> None:
    """Also if the prompt cannot be answered."""
    prompts = [PROMPTS[0], Prompt.user("far too long " * 20_000), PROMPTS[1]]
    pieces = list(generate(backend, prompts, SIX_TOKENS))
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
    for piece in generate(backend, source(), Generate(max_tokens=30)):
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
        [*_, last] = generate(backend, [Prompt.user("and so on " * 90)], Generate(max_tokens=500))
        assert last.finish is not None
        assert (last.finish.reason, last.finish.text) == ("repetition", "and so on")
        return
    sample, prompt = Sampler.sample, Prompt.user(noise(77), "What is this?")
    owner: Any = backend
    while hasattr(owner, "_vision"):  # the vision encoder of llama.cpp, which may run in a thread of its own
        owner = owner._vision
    cache = owner._embedding_cache
    encode, encoded = cache._encode, []
    monkeypatch.setattr(cache, "_encode", lambda tiles: encoded.extend(tiles) or encode(tiles))
    [*_, alone] = generate(backend, [prompt], SIX_TOKENS)
    the = next(token for token in range(384) if backend.detokenizer()(token) == " the")

    def sample_the(self: Sampler, logits: Logits, generated: Sequence[int]) -> int:
        is_retry = any(isinstance(logits_filter, RepetitionPenalty) for logits_filter in self._filters)
        return sample(self, logits, generated) if is_retry else the

    monkeypatch.setattr(Sampler, "sample", sample_the)
    # With a temperature, since without one the likeliest token is taken and `sample` is not called.
    pieces = list(generate(backend, [prompt], Generate(max_tokens=70, temperature=0.1)))
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
    together = texts(list(generate(backend, PROMPTS, SIX_TOKENS)))
    alone = [texts(list(generate(backend, [prompt], SIX_TOKENS)))[0] for prompt in PROMPTS]
    assert [together[n] for n in range(3)] == alone


def test_the_same_seed_samples_the_same_reply(backend: Backend) -> None:
    hot = Generate(max_tokens=12, temperature=1.5, top_p=0.9, seed=7)
    first, second = (texts(list(generate(backend, PROMPTS[:1], hot)))[0] for _ in range(2))
    assert first == second
    if backend.name != "echo":
        others = {texts(list(generate(backend, PROMPTS[:1], replace(hot, seed=seed))))[0] for seed in range(4)}
        assert len(others) > 1


def test_a_reply_has_at_most_max_tokens(backend: Backend) -> None:
    for max_tokens in (1, 3):
        [*_, last] = generate(backend, [PROMPTS[1]], Generate(max_tokens=max_tokens))
        assert last.finish is not None
        assert last.finish.tokens.new <= max_tokens
        if last.finish.reason == "length":
            assert last.finish.tokens.new == max_tokens


def test_a_prompt_too_long_for_the_context_is_a_fault_and_the_next_one_is_answered(backend: Backend) -> None:
    if backend.name == "echo":
        return  # it has no context
    long = Prompt.user("far too long " * 20_000)
    too_long, answered = [piece.finish for piece in generate(backend, [long, PROMPTS[0]], SIX_TOKENS) if piece.finish]
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
    prefill = backend.prefill

    def failing(requests: Sequence[PrefillRequest], upcoming: Sequence[PreparedPrompt]) -> PrefillResult:
        if any(request.sequence == 1 for request in requests):
            raise error
        return prefill(requests, upcoming)

    monkeypatch.setattr(backend, "prefill", failing)
    faults = {piece.index: piece.finish.fault for piece in generate(backend, PROMPTS, SIX_TOKENS) if piece.finish}
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
        for question in "ab"
        for piece in generate(backend, [Prompt.user(picture, question)], Generate(max_tokens=1))
        if piece.finish
    ]
    assert second < first / 2


def test_a_prepared_prompt_does_not_hold_the_pixels_of_its_pictures(backend: Backend) -> None:
    picture = noise(97, 300)
    pixels = ref(picture)
    prepared = backend.prepare(Prompt.user(picture, "What is this?"))
    del picture
    assert prepared.length > 0 and pixels() is None


def test_after_the_cache_is_cleared_a_picture_is_encoded_again(backend: Backend) -> None:
    if backend.name == "echo":
        return
    picture = Prompt.user(noise(98, 300), "a")

    def encode() -> float:
        [finish] = [piece.finish for piece in generate(backend, [picture], Generate(max_tokens=1)) if piece.finish]
        return finish.seconds.encode

    first, cached = encode(), encode()
    backend.clear_cache()
    assert cached < first / 2 < encode() * 2


def test_a_reply_of_a_fixed_length_is_not_stopped_for_repeating_itself(backend: Backend) -> None:
    forced = Generate(max_tokens=200, min_tokens=200)
    finishes = [piece.finish for piece in generate(backend, PROMPTS, forced) if piece.finish]
    assert [(finish.reason, finish.tokens.new, finish.fault) for finish in finishes] == [("length", 200, None)] * 3
    free = [piece.finish for piece in generate(backend, PROMPTS, Generate(max_tokens=200)) if piece.finish]
    assert any(finish.tokens.new != 200 for finish in free) or backend.name != "echo"


def test_the_built_in_model_serves_both_backends() -> None:
    for name in ("torch", "llamacpp"):
        assert resolve.resolve(Model(model="nano"), name).can_run_on(name)
    assert Path(resolve.resolve(Model(model="nano"), "torch").checkpoint or "").is_dir()


# ---- the seam itself -----------------------------------------------------------------------------------

STEPS = 3
NO_TOKEN = PreparedPrompt(((10**6,),), 1, 0)  # a prompt that no model can evaluate


def to_array(logits: Logits | Scores) -> Logits:
    """A copy of the logits after a sequence; the scores that come with them must be theirs."""
    if isinstance(logits, np.ndarray):
        return logits.copy()
    array = logits.fetch().copy()
    expected = Scores.of(array)
    assert (logits.likeliest, logits.highest) == (expected.likeliest, expected.highest)
    assert logits.log_sum == pytest.approx(expected.log_sum, abs=1e-5)
    return array


def prefill(backend: Backend, prompts: Mapping[int, PreparedPrompt]) -> dict[int, Logits]:
    """Prefill sequences together, and return a copy of the logits of each."""
    requests = [PrefillRequest(number, prompt, prompt.length + 1 + STEPS) for number, prompt in prompts.items()]
    assert backend.fits([request.max_length for request in requests]) == len(requests)
    result = backend.prefill(requests, [])
    assert sorted(result.logits) == sorted(prompts) and result.encode_seconds >= 0
    return {number: to_array(logits) for number, logits in result.logits.items()}


def run(backend: Backend, prompts: Mapping[int, PreparedPrompt]) -> dict[int, list[Logits]]:
    """Prefill sequences together and append the likeliest token to each for some steps; return all logits."""
    logits = {number: [first] for number, first in prefill(backend, prompts).items()}
    for _ in range(STEPS):
        tokens = {number: int(of_sequence[-1].argmax()) for number, of_sequence in logits.items()}
        for number, after in backend.decode(tokens).items():
            logits[number].append(to_array(after))
    for number in prompts:
        backend.release(number)
    return logits


@pytest.fixture
def prepared(backend: Backend) -> dict[int, PreparedPrompt]:
    """As many prompts as the backend evaluates together, by arbitrary numbers; nothing of them is cached."""
    prompts = [backend.prepare(prompt) for prompt in PROMPTS]
    backend.clear_cache()
    return dict(zip((7, 3, 12)[: backend.max_sequences], prompts, strict=False))


def test_sequences_evaluated_together_have_the_logits_of_each_alone(
    backend: Backend, prepared: dict[int, PreparedPrompt]
) -> None:
    together = run(backend, prepared)
    for number, prompt in prepared.items():
        backend.clear_cache()
        [alone] = run(backend, {number: prompt}).values()
        assert len(alone) == len(together[number]) == 1 + STEPS
        assert all(logits.dtype == np.float32 and logits.ndim == 1 for logits in together[number])
        np.testing.assert_allclose(together[number], alone, rtol=0, atol=1e-4)
    assert len({tuple(logits[0]) for logits in together.values()}) == len(prepared)


def test_a_released_slot_can_be_used_again_while_the_others_go_on(
    backend: Backend, prepared: dict[int, PreparedPrompt]
) -> None:
    prompt = next(iter(prepared.values()))
    expected = run(backend, {0: prompt})[0]
    last = backend.max_sequences - 1
    for number in range(backend.max_sequences):
        prefill(backend, {number: prompt})
    backend.release(last)
    np.testing.assert_allclose(prefill(backend, {last + 1: prompt})[last + 1], expected[0], rtol=0, atol=1e-4)
    numbers = [*range(last), last + 1]
    after = backend.decode(dict.fromkeys(numbers, int(expected[0].argmax())))
    assert sorted(after) == numbers
    for number in numbers:
        np.testing.assert_allclose(to_array(after[number]), expected[1], rtol=0, atol=1e-4)
        backend.release(number)
    backend.release(last)  # it has no slot, and nothing happens


def test_prompts_of_a_group_that_fails_can_be_evaluated_one_by_one(
    backend: Backend, prepared: dict[int, PreparedPrompt]
) -> None:
    expected = {number: run(backend, {number: prompt})[number] for number, prompt in prepared.items()}
    bad = list(prepared)[len(prepared) // 2]  # not the first, if there are several
    with pytest.raises((EngineError, IndexError)):
        prefill(backend, {**prepared, bad: NO_TOKEN})
    for number, prompt in prepared.items():
        np.testing.assert_allclose(run(backend, {number: prompt})[number], expected[number], rtol=0, atol=1e-4)
    assert backend.fits([100] * backend.max_sequences) == backend.max_sequences


def test_several_threads_may_prepare_prompts(backend: Backend) -> None:
    prompts = [*PROMPTS, Prompt.user(noise(5, 300), "What?")] * 5
    one_by_one = list(map(backend.prepare, prompts))
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(backend.prepare, prompts)) == one_by_one
    assert one_by_one[0].length > one_by_one[0].image_tokens > 0 == one_by_one[1].image_tokens


def test_the_detokenizer_of_a_reply_holds_back_incomplete_characters(backend: Backend) -> None:
    """The tiny model's tokens are bytes, and words that come often."""
    if backend.name == "echo":
        return  # its tokens are words
    text = "Año 日本, and the end"
    [tokens] = [part for part in backend.prepare(Prompt.user(text)).parts if not isinstance(part, bytes)]
    for _ in range(2):
        detokenize = backend.detokenizer()
        shown = "".join(detokenize(token) for token in tokens if token not in backend.stop_tokens)
        assert text in shown and "\ufffd" not in shown


def test_the_tokenizer_for_schemas_is_made_once(backend: Backend) -> None:
    assert backend.grammar_tokenizer() is backend.grammar_tokenizer()
