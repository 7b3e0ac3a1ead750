"""The decoder, slots and graphs of the PyTorch backend against transformers' `generate`.

Logits are compared and not tokens alone: a cache whose columns are mixed up may still give the same tokens.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx

from smolcli.backends.base import Draw, PrefillRequest, Scores
from smolcli.backends.pytorch_decoder import Cache, Decoder
from smolcli.backends.pytorch_graphs import Compute, Graphs, Outputs
from smolcli.backends.pytorch_sampler import summarize
from smolcli.backends.pytorch_slots import Request, Slots
from smolcli.generation.sampler import RepetitionPenalty, Sampler
from smolcli.generation.scheduler import Scheduler
from smolcli.generation.sequence import Attempt
from smolcli.models import resolve
from smolcli.models.files import ModelFiles
from smolcli.options import Generate, Model
from smolcli.types import Piece, Prompt
from tests.backends.torch_reference import Operations, Recorder, Reference, answer, mixed_prompts, tiny_decoder
from tests.tiny import make_checkpoint

MAX_TOKENS = 12
TOLERANCE = 1e-3  # of logits in float32
NEVER = ("_local_scalar_dense", "item", "nonzero", "masked_select", "is_nonzero", "equal", "unique")


@dataclass
class Tracing:
    """What captures graphs on a GPU, by tracing: a replay runs the same operations on the same tensors."""

    captured: list[str] = field(default_factory=list)

    def __call__(self, compute: Compute) -> Compute:
        self.captured.append("graph")
        graph: Compute = make_fx(compute)()
        return graph


@pytest.fixture(scope="module", params=["nano", "tiny"])
def files(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ModelFiles:
    if request.param == "nano":
        return resolve.resolve(Model(model="nano"), "torch")
    return ModelFiles("Tiny", make_checkpoint(tmp_path_factory.mktemp("decoder") / "Tiny", "v2", 2))


def load(files: ModelFiles, slots: int, dtype: str = "float32") -> Recorder:
    return Recorder(files, Model(threads=1, device="cpu", dtype=dtype, detail="2", jobs=slots))


def act_as_on_a_gpu(backend: Recorder, tracing: Tracing) -> None:
    backend._slots = Slots(
        backend._require_decoder(), backend.max_sequences, 2**30,
        is_padded=True, can_draw=True, new_capture=lambda: tracing,
    )  # fmt: skip


Expected = Callable[[int], tuple[list[int], np.ndarray]]  # the tokens and logits of a prompt, by its number


@pytest.fixture(scope="module")
def prompts(files: ModelFiles) -> list[Prompt]:
    return mixed_prompts(72, load(files, 1).layout.tile)


@pytest.fixture(scope="module")
def expected(files: ModelFiles, prompts: list[Prompt]) -> Expected:
    reference, backend = Reference(files), load(files, 1)

    @cache
    def of_prompt(number: int) -> tuple[list[int], np.ndarray]:
        tokens, logits = reference.generate(backend, backend.prepare(prompts[number]), MAX_TOKENS)
        return tokens, logits.numpy()

    return of_prompt


CASES = [("nano", 1, 4), ("nano", 8, 12), ("tiny", 1, 12), ("tiny", 8, 24), ("tiny", 64, 72)]
SLOW = pytest.param("nano", 64, 72, marks=pytest.mark.slow)


@pytest.mark.parametrize("is_gpu", [False, True], ids=["as on a CPU", "as on a GPU"])
@pytest.mark.parametrize(("files", "slots", "count"), [*CASES, SLOW], indirect=["files"])
def test_tokens_and_logits_are_those_of_transformers(
    files: ModelFiles,
    prompts: list[Prompt],
    expected: Expected,
    slots: int,
    count: int,
    is_gpu: bool,
) -> None:
    """More prompts than slots, so that rows are used again while others go on."""
    backend, tracing = load(files, slots), Tracing()
    if is_gpu:
        act_as_on_a_gpu(backend, tracing)
    logits = answer(backend, prompts[:count], MAX_TOKENS)
    lengths = set()
    for number in range(count):
        tokens, of_reference = expected(number)
        ours = logits[number][: len(tokens)]  # what follows is a second attempt
        assert ours.argmax(-1).tolist() == tokens
        np.testing.assert_allclose(ours, of_reference, rtol=0, atol=TOLERANCE)
        lengths.add(len(tokens))
    assert (files.name == "Tiny" or len(lengths) > 1) and bool(tracing.captured) == is_gpu


def test_in_bfloat16_tokens_differ_where_rounding_decides(files: ModelFiles, prompts: list[Prompt]) -> None:
    backend = load(files, 8, "bfloat16")
    reference = Reference(files, torch.bfloat16)
    logits = answer(backend, prompts[:6], MAX_TOKENS)
    for number in range(6):
        tokens, of_reference = reference.generate(backend, backend.prepare(prompts[number]), MAX_TOKENS)
        ours = logits[number].argmax(-1).tolist()[: len(tokens)]
        differing = [step for step, pair in enumerate(zip(ours, tokens, strict=True)) if len(set(pair)) > 1]
        if differing:
            row = of_reference[differing[0]]
            gap = row[tokens[differing[0]]] - row[ours[differing[0]]]
            assert gap <= 8 * 2**-8 * row.abs().max(), f"prompt {number}, token {differing[0]}"


# ---- the operations of a step ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def decoder() -> Decoder:
    return tiny_decoder()


@pytest.fixture(autouse=True)
def _inference() -> object:
    with torch.inference_mode():
        yield


def operations(decoder: Decoder, *, is_drawn: bool) -> Operations:
    cache = Cache(decoder, 8, 256, can_draw=True)
    with Operations() as recorded:
        assert cache.draws is not None
        summarize(decoder.step(cache, 4, 256), cache.draws[:, :4] if is_drawn else None, has_nucleus=is_drawn)
    return recorded


@pytest.mark.parametrize("is_drawn", [False, True])
def test_no_operation_of_a_step_depends_on_values(decoder: Decoder, is_drawn: bool) -> None:
    for operation, args in operations(decoder, is_drawn=is_drawn).all:
        name = operation.overloadpacket.__name__
        assert name not in NEVER
        is_mask = (
            any(index is not None and index.dtype is torch.bool for index in args[1]) if name == "index" else False
        )
        assert not is_mask, "how many are chosen by a mask is read back"


def test_a_step_has_few_operations(decoder: Decoder) -> None:
    """Views of a tensor are no work for a device."""
    cache = Cache(decoder, 8, 256)
    with Operations() as recorded:
        decoder.step(cache, 4, 256)
    assert sum(not operation.is_view for operation, _ in recorded.all) <= 17 * len(decoder.layers) + 10


def test_what_a_step_is_given_is_copied_before_its_memory_may_be_used_again(decoder: Decoder) -> None:
    """Only CUDA reads memory that is not pinned before an asynchronous copy returns."""
    slots = Slots(decoder, 2, 2**30, can_draw=True)
    slots.prefill({0: Request(torch.zeros(3, 64), 20, Draw(1.0, 1.0, 0))})
    with Operations() as recorded:
        slots.step({0: 1})
    copies = [args for operation, args in recorded.all if operation.overloadpacket.__name__ == "copy_"]
    assert len(copies) >= 3 and not any(True in args[2:] for args in copies)


def test_values_that_are_not_finite_do_not_reach_the_next_sequence_in_their_row(decoder: Decoder) -> None:
    """As those of a reply that float16 overflowed in."""
    embeddings = torch.randn(2, 9, 64, generator=torch.Generator().manual_seed(0))

    def replies(slots: Slots) -> list[list[torch.Tensor]]:
        after = slots.prefill({n: Request(prompt, 200) for n, prompt in enumerate(embeddings)})
        steps = [after.logits[[after.rows[0], after.rows[1]]]]
        for token in (3, 4):
            after = slots.step({0: token, 1: token + 1})
            steps.append(after.logits[[after.rows[0], after.rows[1]]])
        for n in (0, 1):
            slots.release(n)
        return [list(step) for step in steps]

    slots = Slots(decoder, 2, 2**30, is_padded=True)
    expected = replies(slots)
    slots.prefill({5: Request(torch.full((150, 64), torch.nan), 200), 6: Request(torch.full((90, 64), torch.nan), 200)})
    slots.step({5: 1, 6: 1})
    for n in (5, 6):
        slots.release(n)
    torch.testing.assert_close(replies(slots), expected)


@pytest.mark.parametrize("is_padded", [False, True])
def test_a_sequence_that_takes_no_part_in_a_step_is_as_it_was(decoder: Decoder, is_padded: bool) -> None:
    prompts = torch.randn(3, 20, 64, generator=torch.Generator().manual_seed(2))

    def logits(steps_of_others: int) -> torch.Tensor:
        slots = Slots(decoder, 4, 2**30, is_padded=is_padded)
        slots.prefill({number: Request(prompt, 60) for number, prompt in enumerate(prompts)})
        for step in range(steps_of_others):
            slots.step({0: step, 2: step + 1})
        after = slots.step({1: 9})
        return after.logits[after.rows[1]]

    torch.testing.assert_close(logits(4), logits(0))


def test_a_cache_that_grows_keeps_its_sequences(decoder: Decoder) -> None:
    prompts = torch.randn(3, 40, 64, generator=torch.Generator().manual_seed(1))

    first, second, third = (Request(prompt, length) for prompt, length in zip(prompts, (60, 1000, 50), strict=True))

    def logits(grows: bool) -> list[torch.Tensor]:
        slots = Slots(decoder, 4, 2**30)
        slots.prefill({0: first} if grows else {0: first, 1: second, 2: third})
        slots.step({0: 5})
        if grows:
            slots.prefill({1: second, 2: third})
        after = slots.step({0: 6, 1: 7, 2: 8})
        return [after.logits[after.rows[sequence]] for sequence in range(3)]

    torch.testing.assert_close(logits(True), logits(False))


# ---- graphs ------------------------------------------------------------------------------------------------


class FakeCapture:
    """Captures nothing; a replay computes again and says so."""

    def __init__(self) -> None:
        self.captures = self.replays = 0

    def __call__(self, compute: Compute) -> Compute:
        self.captures += 1

        def replay() -> Outputs:
            self.replays += 1
            return compute()

        return replay


def counting(of_caches: list[FakeCapture]) -> Callable[[], FakeCapture]:
    def new() -> FakeCapture:
        of_caches.append(FakeCapture())
        return of_caches[-1]

    return new


def test_a_shape_is_captured_at_its_second_use(decoder: Decoder) -> None:
    captures: list[FakeCapture] = []
    graphs, cache = Graphs(counting(captures)), Cache(decoder, 1, 256)
    outputs = torch.zeros(1), torch.ones(1)
    seen = []
    for shape in "abaab":
        assert graphs.run(cache, shape, lambda: outputs) is outputs
        seen.append((captures[0].captures, captures[0].replays))
    assert seen == [(0, 0), (0, 0), (1, 1), (1, 2), (2, 3)]


def test_a_replayed_step_reads_what_is_in_the_buffers_now(decoder: Decoder) -> None:
    cache, other = (Cache(decoder, 4, 256, can_draw=True) for _ in range(2))
    graph = make_fx(lambda: (logits := decoder.step(cache, 4, 256), summarize(logits, cache.draws, True)))()
    for step in range(6):
        for buffers in (cache, other):
            buffers.tokens.copy_(torch.tensor([1, 2, 3, 4]) + step)
            buffers.positions.copy_(torch.tensor([step, 0, step, 255]))
            assert buffers.draws is not None
            buffers.draws.copy_(torch.tensor([[1.5] * 4, [0.9] * 4, [3.0] * 4, [step, 0, step, 1]]))
        logits = decoder.step(other, 4, 256)
        torch.testing.assert_close(graph(), (logits, summarize(logits, other.draws, True)), rtol=0, atol=0)


def test_graphs_are_dropped_when_the_cache_moves(decoder: Decoder) -> None:
    captures: list[FakeCapture] = []
    slots = Slots(decoder, 4, 2**30, is_padded=True, new_capture=counting(captures))
    slots.prefill({0: Request(torch.randn(9, 64), 100)})
    for _ in range(3):
        slots.step({0: 1})
    assert [(capture.captures, capture.replays) for capture in captures] == [(1, 2)]
    assert len(slots._graphs._of_cache) == 1
    slots.prefill({1: Request(torch.randn(9, 64), 600)})
    for _ in range(3):
        slots.step({0: 1, 1: 2})
    assert [(capture.captures, capture.replays) for capture in captures] == [(1, 2), (1, 2)]
    slots.release(0)
    slots.release(1)
    slots.clear()
    assert slots._cache is None


def test_a_capture_that_fails_is_not_tried_again(decoder: Decoder) -> None:
    tried = []

    def fail(compute: Compute) -> Compute:
        tried.append(compute)
        raise RuntimeError("operation not permitted when stream is capturing")

    graphs, cache = Graphs(lambda: fail), Cache(decoder, 1, 256)
    outputs = torch.zeros(1), torch.ones(1)
    assert all(graphs.run(cache, shape, lambda: outputs) is outputs for shape in "aaabbb")
    assert len(tried) == 1


# ---- through the scheduler -----------------------------------------------------------------------------------


def run(backend: Recorder, prompts: list[Prompt], options: Generate) -> tuple[Scheduler, dict[int, str]]:
    scheduler = Scheduler(backend, options)
    pieces: list[Piece] = list(scheduler.run(prompts))
    assert all(piece.finish.fault is None for piece in pieces if piece.finish)
    return scheduler, {n: "".join(piece.text for piece in pieces if piece.index == n) for n in range(len(prompts))}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("scheduled") / "Tiny", "v2", 2)


@pytest.mark.parametrize("slots", [8, 64])
def test_a_step_has_nearly_as_many_rows_as_there_are_slots(tiny: Path, slots: int) -> None:
    backend = load(ModelFiles("Tiny", tiny), slots)
    backend.start_recording()
    prompts = [Prompt.user(f"number {number}") for number in range(10 * slots)]
    scheduler, _ = run(backend, prompts, Generate(max_tokens=5, min_tokens=5))
    assert scheduler.rows == 4 * len(prompts)
    assert scheduler.rows / scheduler.steps >= 0.9 * slots


@pytest.mark.parametrize("top_p", [1.0, 0.8])
def test_tokens_drawn_on_the_device_are_those_of_the_sampler(tiny: Path, top_p: float) -> None:
    on_host, on_device = (load(ModelFiles("Tiny", tiny), 8) for _ in range(2))
    act_as_on_a_gpu(on_device, Tracing())
    prompts, options = mixed_prompts(20, 64), Generate(max_tokens=12, temperature=2.0, top_p=top_p, seed=9)
    replies = []
    for backend in (on_host, on_device):
        backend.start_recording()
        replies.append(run(backend, prompts, options)[1])
    assert replies[0] == replies[1] and len(set(replies[0].values())) > 5


def test_a_reply_with_a_penalty_is_not_drawn_by_the_rows_that_share_its_steps(tiny: Path) -> None:
    """A second attempt has no Draw, as the penalty is not the device's; another reply in the same steps has one."""
    backend = load(ModelFiles("Tiny", tiny), 2)
    act_as_on_a_gpu(backend, Tracing())
    backend.start_recording()
    options = Generate(max_tokens=12, temperature=2.0, seed=9)
    samplers = [Sampler(options), Sampler(options, [RepetitionPenalty(1.3)])]
    attempts = [Attempt(sampler, str, frozenset(), 12, may_repeat=True) for sampler in samplers]
    prompt = backend.prepare(Prompt.user("Hm?"))
    requests = [PrefillRequest(n, prompt, prompt.length + 12, sampler.draw) for n, sampler in enumerate(samplers)]
    scores = backend.prefill(requests, []).logits
    for _ in range(12):
        for number, attempt in enumerate(attempts):
            of_row = scores[number]
            assert isinstance(of_row, Scores) and of_row.drawn is not None
            expected = samplers[number].sample(of_row.fetch(), attempt.tokens)
            attempt.add_token(of_row)
            assert attempt.tokens[-1] == expected
        scores = backend.decode({number: attempt.tokens[-1] for number, attempt in enumerate(attempts)})
