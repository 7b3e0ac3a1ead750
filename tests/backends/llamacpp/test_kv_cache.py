"""kv_cache.py and the slots of scheduler.py: many replies at once give what each gives alone, and cost less."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import llama_cpp as llama
import numpy as np
import pytest
from numpy.typing import NDArray

from smolcli.backends.llamacpp import kv_cache as module
from smolcli.backends.llamacpp.backend import LlamaCpp
from smolcli.backends.llamacpp.token_embeddings import TokenTable
from smolcli.converters import convert
from smolcli.errors import EngineError, ModelError
from smolcli.generation import scheduler
from smolcli.generation.replies import ReplyCollector
from smolcli.generation.scheduler import Pieces, PrefillRequest, schedule
from smolcli.models import resolve
from smolcli.models.files import ModelFiles
from smolcli.models.gguf_header import read_header
from smolcli.nano.evaluate import cases
from smolcli.options import Generate, Model
from smolcli.types import Finish, Frame, Piece, Prompt, Reply
from tests.tiny import make_checkpoint

OPTIONS = Model(threads=1, detail="2", vision_engine="mtmd")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("sequences") / "Tiny", "v1", 7)


@pytest.fixture(scope="module")
def files(checkpoint: Path) -> ModelFiles:
    return ModelFiles("Tiny", checkpoint, *convert(checkpoint, checkpoint, "f32", "f32"))


def backend(files: ModelFiles, jobs: int | None = 4) -> closing[LlamaCpp]:
    return closing(LlamaCpp(files, Model(threads=1, detail="2", vision_engine="mtmd", jobs=jobs)))


def noise(seed: int, width: int = 40, height: int = 30) -> Frame:
    return Frame(np.random.default_rng(seed).bytes(3 * width * height), width, height)


def replies(made: LlamaCpp, prompts: Sequence[Prompt], options: Generate) -> list[Reply]:
    joined, found = ReplyCollector(), {}
    for piece in made.generate(prompts, options):
        if reply := joined.add(piece):
            assert reply.finish.fault is None
            found[piece.index] = reply
    return [found[index] for index in range(len(prompts))]


def chunked(made: LlamaCpp, prompt: Prompt, answer: Sequence[int]) -> NDArray[np.float32]:
    """The scores as llama.cpp's own tools compute them: text as tokens, every tile in a call of its own."""
    params = llama.llama_context_default_params()
    params.n_ctx, params.n_threads, params.n_threads_batch = 2048, 1, 1
    params.flash_attn_type = llama.LLAMA_FLASH_ATTN_TYPE_DISABLED
    context = llama.llama_init_from_model(made._model, params)
    position, found = 0, []

    def decode(tokens: Sequence[int], rows: NDArray[np.float32] | None) -> None:
        nonlocal position
        size = len(tokens) if rows is None else len(rows)
        batch = llama.llama_batch_init(size, 0 if rows is None else rows.shape[1], 1)
        batch.n_tokens = size
        for n in range(size):
            batch.pos[n], batch.n_seq_id[n], batch.logits[n] = position + n, 1, n == size - 1
            batch.seq_id[n][0] = 0
            if rows is None:
                batch.token[n] = tokens[n]
        if rows is not None:
            ctypes.memmove(batch.embd, rows.ctypes.data, rows.nbytes)
        assert llama.llama_decode(context, batch) == 0
        llama.llama_batch_free(batch)
        position += size

    def scores() -> NDArray[np.float32]:
        return np.ctypeslib.as_array(llama.llama_get_logits_ith(context, -1), (made._token_count,)).copy()

    for part in made._prepared(prompt):
        if isinstance(part, bytes):
            decode([], made._vision.encode([part])[0])
        else:
            decode(part, None)
    found.append(scores())
    for token in answer:
        decode([token], None)
        found.append(scores())
    llama.llama_free(context)
    return np.stack(found)


@pytest.mark.parametrize("kind", ["f32", "f16", "q8_0", "q4_0", "bf16"])
def test_one_call_for_a_prompt_gives_the_scores_of_a_call_for_every_part(
    checkpoint: Path, tmp_path: Path, kind: str
) -> None:
    """Of quantized weights too: the rows for the text are what llama.cpp makes of the same file."""
    files = ModelFiles("Tiny", None, *convert(checkpoint, tmp_path, kind, "f32"))
    prompt = Prompt.user("Left: ", noise(1, 130, 90), " right: ", noise(2), " which?")
    with backend(files) as made:
        answer = [5, 17, 99, 200]
        theirs = chunked(made, prompt, answer)
        assert float(np.abs(made.logits(prompt, answer) - theirs).max()) < 1e-3
        assert float(np.abs(theirs).max()) > 1


def test_a_long_prompt_goes_in_calls_of_the_batch_size(files: ModelFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[int] = []
    decode = llama.llama_decode
    monkeypatch.setattr(module, "BATCH", 64)
    monkeypatch.setattr(
        module.llama, "llama_decode", lambda context, batch: given.append(batch.n_tokens) or decode(context, batch)
    )
    prompt = Prompt.user(noise(1, 130, 90), "What is this?")
    with backend(files) as made:
        parts = made._prepared(prompt)
        length = sum(16 if isinstance(part, bytes) else len(part) for part in parts)
        ours = made.logits(prompt)
        assert given == [64] * (length // 64) + [length % 64]
        assert float(np.abs(ours - chunked(made, prompt, [])).max()) < 1e-3


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
def test_replies_are_those_of_one_slot(files: ModelFiles, jobs: int | None) -> None:
    """The seventh needs longer sequences, while others are under way."""
    options = Generate(max_tokens=20)
    with backend(files, 1) as one, backend(files, jobs) as several:
        alone, together = replies(one, MIXED, options), replies(several, MIXED, options)
    assert [each.text for each in together] == [each.text for each in alone]
    assert [each.finish.tokens for each in together] == [each.finish.tokens for each in alone]
    assert len({each.text for each in alone}) == len(MIXED)


def test_nano_says_the_same_with_one_slot_and_with_eight() -> None:
    prompts = [case.prompt for case in cases("captions", 20, 5)]
    said = []
    for jobs in (1, 8):
        options = Model(model="nano", threads=1, jobs=jobs)
        with closing(LlamaCpp(resolve.resolve(options, "llamacpp"), options)) as made:
            said.append([reply.text for reply in replies(made, prompts, Generate(max_tokens=40))])
    assert said[0] == said[1] and len(set(said[0])) > 10


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The tokens of every call of llama_decode."""
    calls: list[int] = []
    decode = llama.llama_decode
    monkeypatch.setattr(
        module.llama, "llama_decode", lambda context, batch: calls.append(batch.n_tokens) or decode(context, batch)
    )
    return calls


def test_one_call_makes_a_token_of_every_reply(files: ModelFiles, decoded: list[int]) -> None:
    with backend(files, 4) as made:
        replies(made, [Prompt.user(f"number {n}") for n in range(4)], Generate(max_tokens=10, min_tokens=10))
    assert decoded.count(4) >= 6 and sum(n <= 4 for n in decoded) <= 12  # each begins a token after the one before


def test_a_second_question_costs_its_own_tokens_only(files: ModelFiles, decoded: list[int]) -> None:
    """Asked after the first, or beside it."""
    picture, options = noise(1, 130, 90), Generate(max_tokens=4, min_tokens=4)
    prompts = [Prompt.user(picture, f"Question {n}?") for n in range(3)]
    for jobs in (1, 3):
        with backend(files, jobs) as made:
            alone = [replies(made, [prompt], options)[0].text for prompt in prompts if not made.forget()]
            decoded.clear()
            made.forget()
            length = replies(made, prompts[:1], options)[0].finish.tokens.prompt
            made.forget()
            decoded.clear()
            together = replies(made, prompts, options)
            assert [each.text for each in together] == alone
            assert next(n for n in decoded if n > 3) == length
            assert sum(n for n in decoded if n > 3) < length + 2 * 40  # the words of a question, by letters
            assert {each.finish.tokens.prompt for each in together} == {length}


def test_what_is_forgotten_is_computed_anew(files: ModelFiles, decoded: list[int]) -> None:
    prompt, options = Prompt.user(noise(1), "What?"), Generate(max_tokens=1)
    with backend(files) as made:
        length = replies(made, [prompt], options)[0].finish.tokens.prompt
        replies(made, [prompt], options)
        made.forget()
        replies(made, [prompt], options)
    assert decoded == [length, 1, length]


def test_a_longer_reply_makes_room_and_the_others_go_on(files: ModelFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    made_sizes: list[int] = []
    init = llama.llama_init_from_model
    monkeypatch.setattr(
        module.llama,
        "llama_init_from_model",
        lambda model, params: made_sizes.append(params.n_ctx) or init(model, params),
    )
    with backend(files, 2) as made:
        replies(made, MIXED, Generate(max_tokens=20))
    assert made_sizes == [2 * 512, 2 * 1536]


def bounded(files: ModelFiles, monkeypatch: pytest.MonkeyPatch, tokens: int) -> None:
    """A quarter of the memory that is free holds so many tokens."""
    with backend(files, 1) as made:
        token = made._sequences._token_bytes
    assert token == 2 * 2 * 2 * 32  # float16 keys and values of two layers, two heads of 16
    monkeypatch.setattr("smolcli.system.memory.available", lambda: 4 * tokens * token)


@pytest.mark.parametrize("jobs", [None, 8])
def test_memory_bounds_how_many_there_are(files: ModelFiles, monkeypatch: pytest.MonkeyPatch, jobs: int | None) -> None:
    """The seventh is of 1,536 tokens; before and after it there is room for three of 512."""
    with backend(files, 1) as one:
        alone = replies(one, MIXED, Generate(max_tokens=20, min_tokens=20))
    bounded(files, monkeypatch, 3 * 512)
    counts: list[int] = []
    init = llama.llama_init_from_model
    spied = lambda model, params: counts.append(params.n_seq_max) or init(model, params)  # noqa: E731
    monkeypatch.setattr(module.llama, "llama_init_from_model", spied)
    with backend(files, jobs) as made:
        together = replies(made, MIXED, Generate(max_tokens=20, min_tokens=20))
    assert [each.text for each in together] == [each.text for each in alone]
    assert counts == [3, 1, 3]


@pytest.mark.parametrize("tokens", [512, 3 * 512])
def test_a_reply_that_ends_at_once_leaves_its_place(
    files: ModelFiles, monkeypatch: pytest.MonkeyPatch, tokens: int
) -> None:
    bounded(files, monkeypatch, tokens)
    with backend(files, None) as made:
        assert len(replies(made, [Prompt.user(f"number {n}") for n in range(8)], Generate(max_tokens=1))) == 8


def test_a_context_that_does_not_fit_costs_the_reply_that_needs_it(
    files: ModelFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    init = llama.llama_init_from_model
    small = lambda model, params: None if params.n_ctx > 2048 else init(model, params)  # noqa: E731
    monkeypatch.setattr(module.llama, "llama_init_from_model", small)
    long, short = Prompt.user("x " * 700), Prompt.user("short")
    for prompts in ([long, short], [short, long, short]):
        with backend(files, 4) as made:
            ends = []
            for prompt in prompts:  # after one another: what one had held is there
                ends += [piece.finish for piece in made.generate([prompt], Generate(max_tokens=3)) if piece.finish]
        assert [end.fault is None for end in ends] == [prompt is short for prompt in prompts]
        fault = ends[prompts.index(long)].fault
        assert fault is not None and fault.kind == "memory" and "-j 1" in fault.message


def test_who_goes_on_beside_a_context_that_does_not_fit_says_the_same(
    files: ModelFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, long, last = Prompt.user("one two three"), Prompt.user("x " * 700), Prompt.user("short")
    forced = Generate(max_tokens=60, min_tokens=60)
    with backend(files, 4) as made:
        wanted = [reply.text for reply in replies(made, [first, last], forced)]
    init = llama.llama_init_from_model
    small = lambda model, params: None if params.n_ctx > 2048 else init(model, params)  # noqa: E731
    monkeypatch.setattr(module.llama, "llama_init_from_model", small)
    said: dict[int, str] = {}
    faults = []
    with backend(files, 4) as made:
        for piece in made.generate([first, long, last], forced):
            said[piece.index] = said.get(piece.index, "") + piece.text
            if piece.finish is not None and piece.finish.fault is not None:
                faults.append((piece.index, piece.finish.fault.kind))
    assert faults == [(1, "memory")]
    assert [said[0], said[2]] == wanted


def test_what_cannot_be_taken_along_is_not_taken_for_there(files: ModelFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    with backend(files, 2) as made:
        before = replies(made, MIXED[:1], Generate(max_tokens=20))[0].text
        monkeypatch.setattr(module.llama, "llama_state_seq_set_data", lambda *_: 0)
        replies(made, MIXED[6:7], Generate(max_tokens=20))  # a larger context
        assert replies(made, MIXED[:1], Generate(max_tokens=20))[0].text == before


def test_who_cannot_be_taken_along_is_lost_and_the_others_go_on(
    files: ModelFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts = [Prompt.user("one two three"), Prompt.user("four"), Prompt.user("x " * 700)]
    forced = Generate(max_tokens=60, min_tokens=60)
    with backend(files, 4) as made:
        wanted = [reply.text for reply in replies(made, prompts, forced)]
    restore = llama.llama_state_seq_set_data
    only_first = lambda *given: restore(*given) if given[3] == 0 else 0  # noqa: E731
    monkeypatch.setattr(module.llama, "llama_state_seq_set_data", only_first)
    said, faults = dict.fromkeys(range(3), ""), []
    with backend(files, 4) as made:
        for piece in made.generate(prompts, forced):
            said[piece.index] += piece.text
            if piece.finish is not None and piece.finish.fault is not None:
                faults.append(piece.index)
    assert faults == [1]
    assert [said[0], said[2]] == [wanted[0], wanted[2]]


def test_tokens_are_given_in_the_order_of_the_sequences(files: ModelFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    """llama.cpp computes together only sequences whose numbers follow each other."""
    orders: list[list[int]] = []
    decode = llama.llama_decode

    def spied(context: Any, batch: Any) -> int:
        orders.append([batch.seq_id[n][0] for n in range(batch.n_tokens)] if not batch.embd else [])
        return int(decode(context, batch))

    monkeypatch.setattr(module.llama, "llama_decode", spied)
    prompts = [Prompt.user(f"number {n}") for n in range(9)]
    with backend(files, 4) as made:
        for _ in range(2):  # places are taken in another order the second time
            replies(made, prompts, Generate(max_tokens=9))
    assert all(order == sorted(order) for order in orders) and max(map(len, orders)) == 4


# ---- the rows of the text --------------------------------------------------------------------------


def test_the_table_is_the_checkpoints(checkpoint: Path, files: ModelFiles) -> None:
    from safetensors.numpy import load_file

    [weights] = [
        value
        for name, value in load_file(checkpoint / "model.safetensors").items()
        if name.endswith("embed_tokens.weight")
    ]
    assert files.gguf is not None
    table = TokenTable(files.gguf, read_header(files.gguf))
    assert np.array_equal(table.of([3, 0, 3, 383]), weights[[3, 0, 3, 383]].astype(np.float32))
    assert table.of([]).shape == (0, weights.shape[1])


@pytest.mark.parametrize("quant", ["bf16", "q8_0", "q4_0"])
def test_the_table_is_as_ggufs_own_package_reads_it(checkpoint: Path, tmp_path: Path, quant: str) -> None:
    from gguf import GGMLQuantizationType, GGUFReader
    from gguf.quants import dequantize

    path, _ = convert(checkpoint, tmp_path, quant, "f32")
    [tensor] = [one for one in GGUFReader(path).tensors if one.name == "token_embd.weight"]
    wanted = dequantize(tensor.data, tensor.tensor_type)
    assert tensor.tensor_type in (GGMLQuantizationType.BF16, GGMLQuantizationType.Q8_0, GGMLQuantizationType.Q4_0)
    found = TokenTable(path, read_header(path)).of(range(len(wanted)))
    assert found.dtype == np.float32 and np.array_equal(found, wanted)


def test_a_file_without_a_table_is_told(files: ModelFiles) -> None:
    assert files.mmproj is not None
    with pytest.raises(ModelError, match=r"has no token_embd.weight"):
        TokenTable(files.mmproj, read_header(files.mmproj))


# ---- the slots, with a model made by hand ----------------------------------------------------------


class Counting:
    """Slots whose scores are how often a reply was evaluated; it writes down who was evaluated together."""

    def __init__(self, most: int, room: Callable[[set[int]], bool] = lambda under_way: True) -> None:
        self.most, self._room = most, room
        self.under_way: dict[int, int] = {}
        self.log: list[object] = []
        self.fails: set[int] = set()
        self.loses: set[int] = set()

    def has_room(self, index: int, size: int) -> bool:
        return self._room(set(self.under_way) - {index})

    def begin(self, index: int, asked: PrefillRequest[str], ready: Sequence[str]) -> int:
        self.log.append((asked.prepared, list(ready)))
        others = set(self.under_way) - {index}
        assert self._room(others) or not others
        if asked.prepared == "bad":
            raise EngineError("cannot begin")
        self.under_way[index] = 0
        assert len(self.under_way) <= self.most
        return 0

    def step(self, tokens: Mapping[int, int]) -> dict[int, int]:
        self.log.append(tuple(tokens))
        if self.fails & set(tokens):
            raise EngineError("cannot go on")
        for index in tokens:
            self.under_way[index] += 1
        return {index: self.under_way[index] for index in tokens if index not in self.loses}

    def end(self, index: int) -> None:
        self.under_way.pop(index, None)


def counts(index: int, prepared: str, penalty: float) -> Pieces:
    """Says its word as often as the word has letters."""
    score = yield PrefillRequest(prepared, 9)
    while score < len(prepared):
        yield Piece(index, prepared)
        score = yield 7
    yield Piece(index, "", Finish("stop"))


def run(words: Sequence[str], slots: Counting) -> dict[int, Finish]:
    prompts = [Prompt.user(word) for word in words]
    pieces = list(schedule(prompts, lambda prompt: str(prompt.turns[0].parts[0]), counts, True, slots))
    assert not slots.under_way
    for index, word in enumerate(words):
        said = [piece for piece in pieces if piece.index == index]
        assert said[0] == Piece(index, "") and said[-1].finish is not None
        if said[-1].finish.fault is None:
            assert "".join(piece.text for piece in said) == word * len(word)
    return {piece.index: piece.finish for piece in pieces if piece.finish}


def steps(slots: Counting) -> list[tuple[int, ...]]:
    return [each for each in slots.log if isinstance(each, tuple) and all(isinstance(one, int) for one in each)]


def test_a_place_is_taken_as_soon_as_it_is_free() -> None:
    slots = Counting(2)
    run(["aaa", "b", "cc", "d"], slots)
    assert steps(slots) == [(0,), (0, 1), (0, 2), (2, 3)]


def test_none_begins_without_room_but_one_always() -> None:
    slots = Counting(4, lambda others: len(others) < 2)
    run(["aaa", "b", "cc", "d"], slots)
    assert steps(slots) == [(0,), (0, 1), (0, 2), (2, 3)]
    full = Counting(4, lambda others: False)
    run(["aa", "b"], full)
    assert steps(full) == [(0,), (0,), (1,)]


def test_one_that_cannot_begin_costs_itself_and_one_step_that_fails_those_in_it() -> None:
    slots = Counting(3)
    ends = run(["aa", "bad", "cc"], slots)
    assert [ends[n].fault is None for n in range(3)] == [True, False, True]
    slots = Counting(2)
    slots.fails = {1}
    ends = run(["aa", "b", "cc"], slots)
    assert [ends[n].fault is None for n in range(3)] == [False, False, True]


@pytest.mark.parametrize("then", ["", "bad"])
def test_who_waits_beside_one_that_begins_anew_and_is_done_at_once_has_its_place(then: str) -> None:
    def reply(index: int, prepared: str, penalty: float) -> Pieces:
        yield PrefillRequest(prepared, 9)
        yield 7
        if prepared == "again":
            yield 7  # now the other one is there
            yield PrefillRequest(then, 9)
        yield Piece(index, "", Finish("stop"))

    prompts = [Prompt.user(word) for word in ("again", "b")]
    slots = Counting(2, lambda others: not others)
    pieces = list(schedule(prompts, lambda prompt: str(prompt.turns[0].parts[0]), reply, True, slots))
    ends = {piece.index: piece.finish.fault for piece in pieces if piece.finish}
    assert [ends[n] is None for n in range(2)] == [not then, True]


def test_a_reply_that_is_lost_costs_itself() -> None:
    slots = Counting(3)
    slots.loses = {1}
    ends = run(["aa", "bb", "cc"], slots)
    assert [ends[n].fault is None for n in range(3)] == [True, False, True]
    assert "lost" in str(ends[1].fault)


def test_closing_ends_every_reply() -> None:
    slots = Counting(2)
    pieces = schedule([Prompt.user(word) for word in ("aaa", "bbb")], lambda _: "aaa", counts, True, slots)
    while len(slots.under_way) < 2:
        next(pieces)
    pieces.close()
    assert not slots.under_way


def test_a_loop_begins_anew_in_its_own_place() -> None:
    penalties: list[float] = []

    def loops(index: int, prepared: str, penalty: float) -> Pieces:
        penalties.append(penalty)
        yield PrefillRequest(prepared, 9)
        while penalty == 1 and prepared == "loop":
            if (yield Piece(index, "It is a dog. ")):
                yield Piece(index, "", Finish("repetition"))
                return
            yield 7
        yield Piece(index, "fine")
        yield Piece(index, "", Finish("stop"))

    slots, joined = Counting(2), ReplyCollector()
    prompts = [Prompt.user(word) for word in ("loop", "other", "third")]
    found = {}
    for piece in schedule(prompts, lambda prompt: str(prompt.turns[0].parts[0]), loops, False, slots):
        if reply := joined.add(piece):
            found[piece.index] = reply.text
    assert found == {0: "fine", 1: "fine", 2: "fine"}
    assert len(penalties) == 4 and not slots.under_way


def test_the_next_ones_are_shown_to_what_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that their tiles may fill a batch; those that are prepared."""
    monkeypatch.setattr(scheduler, "SMALL", -1)  # each is prepared in a thread, ahead
    all_are_prepared = threading.Event()

    def prepare(prompt: Prompt) -> str:
        word = str(prompt.turns[0].parts[0])
        if word == "c":
            all_are_prepared.set()
        return word

    class Waiting(Counting):
        def begin(self, index: int, asked: PrefillRequest[str], ready: Sequence[str]) -> int:
            assert all_are_prepared.wait(30)
            while asked.prepared == "a" and len(ready) < 2:  # the last is put down after it is made
                ready = ahead[0].ready()
            return super().begin(index, asked, ready)

    ahead: list[Any] = []
    make = scheduler._Ahead.__init__
    monkeypatch.setattr(scheduler._Ahead, "__init__", lambda self, *given: ahead.append(self) or make(self, *given))
    slots = Waiting(1)
    list(schedule([Prompt.user(word) for word in "abc"], prepare, counts, True, slots))
    begun: list[Any] = [each for each in slots.log if isinstance(each, tuple) and isinstance(each[0], str)]
    assert begun == [("a", ["b", "c"]), ("b", ["c"]), ("c", [])]


def test_tiles_of_the_next_prompts_fill_the_batch() -> None:
    from smolcli.backends.embedding_cache import EmbeddingCache

    batches: list[list[bytes]] = []

    def encode(tiles: Sequence[bytes]) -> Iterator[bytes]:
        batches.append(list(tiles))
        return iter(tile.upper() for tile in tiles)

    encoded = EmbeddingCache(encode, at_once=4)
    assert encoded.of([b"a", b"b", b"a"], [b"b", b"c", b"c", b"d", b"e"]) == [b"A", b"B", b"A"]
    assert batches == [[b"a", b"b", b"c", b"d"]]
    assert encoded.of([b"c"], [b"x"]) == [b"C"] and len(batches) == 1  # nothing is new: nothing is encoded ahead
    assert encoded.of([b"d", b"e"], []) == [b"D", b"E"]
    assert batches[1] == [b"e"]
