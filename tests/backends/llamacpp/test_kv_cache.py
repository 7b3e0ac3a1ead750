"""llamacpp/kv_cache.py: replies that run together equal those that run alone, and reuse each other's KV cache."""

from __future__ import annotations

import ctypes
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from itertools import product
from pathlib import Path
from typing import Any

import llama_cpp as llama
import numpy as np
import pytest
from numpy.typing import NDArray

from smolcli.backends.base import Logits, PrefillRequest
from smolcli.backends.llamacpp import kv_cache
from smolcli.backends.llamacpp.backend import LlamaCpp
from smolcli.backends.llamacpp.kv_cache import ContextShape, plan_context
from smolcli.backends.vision.base import Embeddings
from smolcli.converters import convert
from smolcli.errors import EngineError
from smolcli.generation.replies import ReplyCollector
from smolcli.generation.scheduler import generate
from smolcli.models import resolve
from smolcli.models.files import ModelFiles
from smolcli.nano.evaluate import cases
from smolcli.options import Generate, Model
from smolcli.types import Frame, Prompt, Reply
from tests.backends.arrays import arrays
from tests.tiny import make_checkpoint

OPTIONS = Model(threads=1, detail="2", vision_encoder="mtmd")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("sequences") / "Tiny", "v1", 7)


@pytest.fixture(scope="module")
def files(checkpoint: Path) -> ModelFiles:
    return ModelFiles("Tiny", checkpoint, *convert(checkpoint, checkpoint, "f32", "f32"))


def backend(files: ModelFiles, jobs: int | None = 4) -> closing[LlamaCpp]:
    return closing(LlamaCpp(files, Model(threads=1, detail="2", vision_encoder="mtmd", jobs=jobs)))


def noise(seed: int, width: int = 40, height: int = 30) -> Frame:
    return Frame(np.random.default_rng(seed).bytes(3 * width * height), width, height)


def replies(model: LlamaCpp, prompts: Sequence[Prompt], options: Generate) -> list[Reply]:
    collector, complete = ReplyCollector(), {}
    for piece in generate(model, prompts, options):
        if reply := collector.add(piece):
            assert reply.finish.fault is None
            complete[piece.index] = reply
    return [complete[index] for index in range(len(prompts))]


def logits_by_parts(model: LlamaCpp, prompt: Prompt, answer: Sequence[int]) -> NDArray[np.float32]:
    """Return the logits as llama.cpp's own tools compute them: text as tokens, every tile in a call of its own."""
    params = llama.llama_context_default_params()
    params.n_ctx, params.n_threads, params.n_threads_batch = 2048, 1, 1
    params.flash_attn_type = llama.LLAMA_FLASH_ATTN_TYPE_DISABLED
    context = llama.llama_init_from_model(model._model, params)
    position, logits = 0, []

    def decode(tokens: Sequence[int], rows: NDArray[np.float32] | None) -> None:
        nonlocal position
        size = len(tokens) if rows is None else len(rows)
        batch = llama.llama_batch_init(size, 0 if rows is None else rows.shape[1], 1)
        batch.n_tokens = size
        for row in range(size):
            batch.pos[row], batch.n_seq_id[row], batch.logits[row] = position + row, 1, row == size - 1
            batch.seq_id[row][0] = 0
            if rows is None:
                batch.token[row] = tokens[row]
        if rows is not None:
            ctypes.memmove(batch.embd, rows.ctypes.data, rows.nbytes)
        assert llama.llama_decode(context, batch) == 0
        llama.llama_batch_free(batch)
        position += size

    def last_logits() -> NDArray[np.float32]:
        return np.ctypeslib.as_array(llama.llama_get_logits_ith(context, -1), (model.vocabulary.size,)).copy()

    for part in model.prepare(prompt).parts:
        if isinstance(part, bytes):
            decode([], model._vision.encode([part])[0])
        else:
            decode(part, None)
    logits.append(last_logits())
    for token in answer:
        decode([token], None)
        logits.append(last_logits())
    llama.llama_free(context)
    return np.stack(logits)


@pytest.mark.parametrize("kind", ["f32", "f16", "q8_0", "q4_0", "bf16"])
def test_a_prompt_in_one_call_has_the_logits_of_a_prompt_in_parts(checkpoint: Path, tmp_path: Path, kind: str) -> None:
    """Also with quantized weights: the embeddings of the text are those that llama.cpp reads from the same file."""
    files = ModelFiles("Tiny", None, *convert(checkpoint, tmp_path, kind, "f32"))
    prompt = Prompt.user("Left: ", noise(1, 130, 90), " right: ", noise(2), " which?")
    with backend(files) as model:
        answer = [5, 17, 99, 200]
        theirs = logits_by_parts(model, prompt, answer)
        assert float(np.abs(model.logits(prompt, answer) - theirs).max()) < 1e-3
        assert float(np.abs(theirs).max()) > 1


def test_a_long_prompt_is_split_into_batches(files: ModelFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    batches: list[int] = []
    decode = llama.llama_decode
    monkeypatch.setattr(kv_cache, "BATCH", 64)
    monkeypatch.setattr(
        llama, "llama_decode", lambda context, batch: batches.append(batch.n_tokens) or decode(context, batch)
    )
    prompt = Prompt.user(noise(1, 130, 90), "What is this?")
    with backend(files) as model:
        length = model.prepare(prompt).length
        ours = model.logits(prompt)
        assert batches == [64] * (length // 64) + [length % 64]
        assert float(np.abs(ours - logits_by_parts(model, prompt, [])).max()) < 1e-3


MIXED = [
    Prompt.user(noise(1), "What is this?"),
    Prompt.user(noise(2, 130, 90), "And this, which is larger?"),
    Prompt.user("No picture"),
    Prompt.user(noise(3), "What is this?"),
    Prompt.user(noise(1), "How many?"),
    Prompt.user(noise(4, 90, 130), "What is this?"),
    Prompt.user(noise(5), "x " * 700),
    Prompt.user(noise(6), "What is this?"),
]


@pytest.mark.parametrize("jobs", [2, 3, 8, None])
def test_replies_do_not_depend_on_the_number_of_slots(files: ModelFiles, jobs: int | None) -> None:
    """The seventh reply needs longer sequences while others are running."""
    options = Generate(max_tokens=20)
    with backend(files, 1) as single, backend(files, jobs) as several:
        alone, together = replies(single, MIXED, options), replies(several, MIXED, options)
    assert [reply.text for reply in together] == [reply.text for reply in alone]
    assert [reply.finish.tokens for reply in together] == [reply.finish.tokens for reply in alone]
    assert len({reply.text for reply in alone}) == len(MIXED)


def test_nano_gives_the_same_replies_with_one_slot_and_with_eight() -> None:
    prompts = [case.prompt for case in cases("captions", 20, 5)]
    texts = []
    for jobs in (1, 8):
        options = Model(model="nano", threads=1, jobs=jobs)
        with closing(LlamaCpp(resolve.resolve(options, "llamacpp"), options)) as model:
            texts.append([reply.text for reply in replies(model, prompts, Generate(max_tokens=40))])
    assert texts[0] == texts[1] and len(set(texts[0])) > 10


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of tokens of every call of llama_decode."""
    calls: list[int] = []
    decode = llama.llama_decode
    monkeypatch.setattr(
        llama, "llama_decode", lambda context, batch: calls.append(batch.n_tokens) or decode(context, batch)
    )
    return calls


def test_one_call_decodes_a_token_of_every_reply(files: ModelFiles, decoded: list[int]) -> None:
    with backend(files, 4) as model:
        replies(model, [Prompt.user(f"number {n}") for n in range(4)], Generate(max_tokens=10, min_tokens=10))
    assert decoded[4:] == [4] * 9  # after four prompts, with which the first tokens come


def test_a_second_question_about_a_picture_evaluates_only_its_own_tokens(files: ModelFiles, decoded: list[int]) -> None:
    """Whether it is asked after the first one or at the same time."""
    picture, options = noise(1, 130, 90), Generate(max_tokens=4, min_tokens=4)
    prompts = [Prompt.user(picture, f"Question {n}?") for n in range(3)]
    for jobs in (1, 3):
        with backend(files, jobs) as model:
            alone = [replies(model, [prompt], options)[0].text for prompt in prompts if not model.clear_cache()]
            decoded.clear()
            model.clear_cache()
            length = replies(model, prompts[:1], options)[0].finish.tokens.prompt
            model.clear_cache()
            decoded.clear()
            together = replies(model, prompts, options)
            assert [reply.text for reply in together] == alone
            assert next(n for n in decoded if n > 3) == length
            assert sum(n for n in decoded if n > 3) < length + 2 * 40  # the question, about a token a letter
            assert {reply.finish.tokens.prompt for reply in together} == {length}


def test_after_the_cache_is_cleared_a_prompt_is_evaluated_again(files: ModelFiles, decoded: list[int]) -> None:
    prompt, options = Prompt.user(noise(1), "What?"), Generate(max_tokens=1)
    with backend(files) as model:
        length = replies(model, [prompt], options)[0].finish.tokens.prompt
        replies(model, [prompt], options)
        model.clear_cache()
        replies(model, [prompt], options)
    assert decoded == [length, 1, length]


def test_a_longer_reply_recreates_the_context_and_the_others_continue(
    files: ModelFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    context_sizes: list[int] = []
    init = llama.llama_init_from_model
    monkeypatch.setattr(
        llama,
        "llama_init_from_model",
        lambda model, params: context_sizes.append(params.n_ctx) or init(model, params),
    )
    with backend(files, 2) as model:
        replies(model, MIXED, Generate(max_tokens=20))
    assert context_sizes == [2 * 512, 2 * 1536]


@pytest.mark.parametrize("memory", [0, 512, 2048, 8192])
def test_a_planned_context_holds_the_new_sequences_and_keeps_the_running_ones(memory: int) -> None:
    """For every current context that the memory holds; `memory` is in tokens."""

    def max_count(length: int) -> int:
        return max(1, min(5, memory // length))

    for current in [ContextShape(0, 0), *(ContextShape(max_count(n), n) for n in (512, 1024, 1536))]:
        for running in range(current.count + 1):
            planned = {}
            for new, length in product(range(1, 7), (512, 1024, 1536)):
                shape = planned[new, length] = plan_context(
                    current, [current.length] * running, [length] * new, max_count
                )
                if shape is not None:
                    assert running + new <= shape.count <= max_count(shape.length) and length <= shape.length
                    assert not running or (shape.count == current.count and shape.length >= current.length)
                if new > 1 and shape is not None:
                    assert planned[new - 1, length] is not None
            if running == 0:
                assert all(planned[1, length] is not None for length in (512, 1024, 1536))
            elif running < current.count:
                assert planned[1, 512] == current


def test_after_a_long_reply_the_context_gets_more_sequences_again() -> None:
    """Though others run all the time: no new one begins until they have ended."""

    def max_count(length: int) -> int:
        return min(16, 4 * 8192 // length)

    long = plan_context(ContextShape(16, 512), [], [8192, 512, 512, 512], max_count)
    assert long == ContextShape(4, 8192)
    assert plan_context(long, [8192, 512], [512, 512], max_count) == long  # the long one is running
    assert plan_context(long, [512, 512, 512], [512], max_count) is None
    assert plan_context(long, [], [512] * 16, max_count) == ContextShape(16, 512)


def request(model: LlamaCpp, number: int, words: int, new: int = 10) -> PrefillRequest:
    prompt = model.prepare(Prompt.user(noise(number), f"{number} " + "x " * words))
    return PrefillRequest(number, prompt, prompt.length + new)


def test_a_group_gets_one_context_in_which_all_of_it_fits(files: ModelFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last prompt needs longer sequences than the first ones; one by one, it would end their context."""
    shapes: list[tuple[int, int]] = []
    init = llama.llama_init_from_model
    spied = lambda model, params: shapes.append((params.n_seq_max, params.n_ctx)) or init(model, params)  # noqa: E731
    with backend(files) as model:
        requests = [request(model, number, words) for number, words in enumerate((5, 7, 700))]
        alone: dict[int, Logits] = {}
        for single in requests:
            model.clear_cache()
            alone |= arrays(model.prefill([single], []).logits)
            model.release(single.sequence)
    limit_memory(files, monkeypatch, 3 * 1536)  # four sequences of 512 tokens would fit too
    monkeypatch.setattr(llama, "llama_init_from_model", spied)
    with backend(files) as model:
        assert model.fits([request.max_length for request in requests]) == 3
        together = arrays(model.prefill(requests, []).logits)
        assert shapes == [(3, 3 * 1536)]
        assert sorted(model.decode({0: 5, 1: 5, 2: 5})) == [0, 1, 2]
    for number, logits in alone.items():
        np.testing.assert_allclose(together[number], logits, rtol=0, atol=1e-4)


def test_as_many_fit_as_the_memory_holds_of_the_longest(files: ModelFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    limit_memory(files, monkeypatch, 3 * 512)
    with backend(files, 8) as model:
        assert model.fits([500]) == model.fits([500, 1500]) == model.fits([1500, 500]) == 1
        assert model.fits([500, 500, 1500]) == 2
        assert model.fits([500] * 5) == 3
        model.prefill([request(model, 0, 5)], [])
        assert [model.fits(lengths) for lengths in ([500], [500] * 3, [500, 1500], [1500])] == [1, 2, 1, 0]
        with pytest.raises(EngineError, match="beside the running replies"):
            model.prefill([request(model, 1, 700)], [])
        assert list(model.decode({0: 5})) == [0]
        model.release(0)
        assert model.fits([1500]) == 1


def test_the_tiles_of_a_group_are_encoded_in_one_call(files: ModelFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    """With those of the prompts that come next."""
    calls: list[tuple[list[bytes], list[bytes]]] = []
    with backend(files) as model:
        encode = model._vision.encode

        def spied(tiles: Sequence[bytes], upcoming: Iterable[bytes] = ()) -> list[Embeddings]:
            ahead = list(upcoming)
            calls.append((list(tiles), ahead))
            return encode(tiles, ahead)

        monkeypatch.setattr(model._vision, "encode", spied)
        first, second = (request(model, number, 3) for number in range(2))
        third = model.prepare(Prompt.user(noise(9, 130, 90)))
        model.prefill([first, second], [third])
    assert calls == [(first.prompt.tiles + second.prompt.tiles, third.tiles)] and len(third.tiles) > 1


def limit_memory(files: ModelFiles, monkeypatch: pytest.MonkeyPatch, tokens: int) -> None:
    """Let a quarter of the free memory hold `tokens` tokens."""
    with backend(files, 1) as model:
        bytes_per_token = model._sequences._bytes_per_token
    assert bytes_per_token == 2 * 2 * 2 * 32  # float16 keys and values of two layers, two heads of 16
    monkeypatch.setattr("smolcli.system.memory.available_bytes", lambda: 4 * tokens * bytes_per_token)


@pytest.mark.parametrize("jobs", [None, 8])
def test_memory_limits_the_number_of_sequences(
    files: ModelFiles, monkeypatch: pytest.MonkeyPatch, jobs: int | None
) -> None:
    """The seventh reply has 1,536 tokens; before and after it there is memory for three sequences of 512."""
    with backend(files, 1) as single:
        alone = replies(single, MIXED, Generate(max_tokens=20, min_tokens=20))
    limit_memory(files, monkeypatch, 3 * 512)
    counts: list[int] = []
    init = llama.llama_init_from_model
    spied = lambda model, params: counts.append(params.n_seq_max) or init(model, params)  # noqa: E731
    monkeypatch.setattr(llama, "llama_init_from_model", spied)
    with backend(files, jobs) as model:
        together = replies(model, MIXED, Generate(max_tokens=20, min_tokens=20))
    assert [reply.text for reply in together] == [reply.text for reply in alone]
    assert counts == [3, 1, 3]


@pytest.mark.parametrize("tokens", [512, 3 * 512])
def test_a_reply_of_one_token_frees_its_sequence(
    files: ModelFiles, monkeypatch: pytest.MonkeyPatch, tokens: int
) -> None:
    limit_memory(files, monkeypatch, tokens)
    with backend(files, None) as model:
        assert len(replies(model, [Prompt.user(f"number {n}") for n in range(8)], Generate(max_tokens=1))) == 8


def test_a_context_without_memory_is_the_fault_of_the_reply_that_needs_it(
    files: ModelFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    init = llama.llama_init_from_model
    small = lambda model, params: None if params.n_ctx > 2048 else init(model, params)  # noqa: E731
    monkeypatch.setattr(llama, "llama_init_from_model", small)
    long, short = Prompt.user("x " * 700), Prompt.user("short")
    for prompts in ([long, short], [short, long, short]):
        with backend(files, 4) as model:
            finishes = []
            for prompt in prompts:  # one after the other, so that the cache of the last one is there
                finishes += [
                    piece.finish for piece in generate(model, [prompt], Generate(max_tokens=3)) if piece.finish
                ]
        assert [finish.fault is None for finish in finishes] == [prompt is short for prompt in prompts]
        fault = finishes[prompts.index(long)].fault
        assert fault is not None and fault.kind == "memory" and "-j 1" in fault.message


def test_replies_continue_unchanged_when_a_longer_context_has_no_memory(
    files: ModelFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, long, last = Prompt.user("one two three"), Prompt.user("x " * 700), Prompt.user("short")
    forced = Generate(max_tokens=60, min_tokens=60)
    with backend(files, 4) as model:
        expected = [reply.text for reply in replies(model, [first, last], forced)]
    init = llama.llama_init_from_model
    small = lambda model, params: None if params.n_ctx > 2048 else init(model, params)  # noqa: E731
    monkeypatch.setattr(llama, "llama_init_from_model", small)
    texts: dict[int, str] = {}
    faults = []
    with backend(files, 4) as model:
        for piece in generate(model, [first, long, last], forced):
            texts[piece.index] = texts.get(piece.index, "") + piece.text
            if piece.finish is not None and piece.finish.fault is not None:
                faults.append((piece.index, piece.finish.fault.kind))
    assert faults == [(1, "memory")]
    assert [texts[0], texts[2]] == expected


def test_a_cache_that_cannot_be_copied_is_not_used(files: ModelFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    with backend(files, 2) as model:
        before = replies(model, MIXED[:1], Generate(max_tokens=20))[0].text
        monkeypatch.setattr(llama, "llama_state_seq_set_data", lambda *_: 0)
        replies(model, MIXED[6:7], Generate(max_tokens=20))  # a larger context
        assert replies(model, MIXED[:1], Generate(max_tokens=20))[0].text == before


def test_a_running_reply_whose_cache_cannot_be_copied_is_lost_and_the_others_continue(
    files: ModelFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts = [Prompt.user("one two three"), Prompt.user("four"), Prompt.user("x " * 700)]
    forced = Generate(max_tokens=60, min_tokens=60)
    with backend(files, 4) as model:
        expected = [reply.text for reply in replies(model, prompts, forced)]
    restore = llama.llama_state_seq_set_data
    only_first = lambda *args: restore(*args) if args[3] == 0 else 0  # noqa: E731
    monkeypatch.setattr(llama, "llama_state_seq_set_data", only_first)
    texts, faults = dict.fromkeys(range(3), ""), []

    def source() -> Iterator[Prompt | None]:
        yield from prompts[:2]
        while not (texts[0] and texts[1]):
            yield None
        yield prompts[2]

    with backend(files, 4) as model:
        for piece in generate(model, source(), forced):
            texts[piece.index] += piece.text
            if piece.finish is not None and piece.finish.fault is not None:
                faults.append(piece.index)
    assert faults == [1]
    assert [texts[0], texts[2]] == [expected[0], expected[2]]


def test_tokens_are_batched_in_the_order_of_their_sequences(files: ModelFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    """llama.cpp computes only sequences in ascending order together."""
    orders: list[list[int]] = []
    decode = llama.llama_decode

    def spied(context: Any, batch: Any) -> int:
        orders.append([batch.seq_id[n][0] for n in range(batch.n_tokens)] if not batch.embd else [])
        return int(decode(context, batch))

    monkeypatch.setattr(llama, "llama_decode", spied)
    prompts = [Prompt.user(f"number {n}") for n in range(9)]
    with backend(files, 4) as model:
        for _ in range(2):  # sequences are assigned in another order the second time
            replies(model, prompts, Generate(max_tokens=9))
    assert all(order == sorted(order) for order in orders) and max(map(len, orders)) == 4
