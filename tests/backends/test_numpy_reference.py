"""backends/numpy_reference.py: the logits of transformers, in every shape and file format of the family."""

from __future__ import annotations

import json
import os
import shutil
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gguf import GGUFReader, GGUFValueType, GGUFWriter
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from smolcli.backends import numpy_reference
from smolcli.backends.base import PrefillRequest
from smolcli.backends.numpy_reference import CHUNK, NumPy
from smolcli.backends.pytorch import PyTorch
from smolcli.backends.pytorch_checkpoint import load_model
from smolcli.converters import convert
from smolcli.errors import ModelError
from smolcli.models.files import BUILT_IN, ModelFiles, scan
from smolcli.models.tokenizer import load_tokenizer
from smolcli.options import Model
from smolcli.types import Frame, Prompt
from tests.backends.arrays import arrays
from tests.tiny import make_checkpoint

ROUNDING = 1e-4  # of sums in another order, in logits that differ by several units
Logits = NDArray[np.float32]
ANSWER = [261, 262, 65, 66, 300, 67, 68, 5, 69, 70]  # tokens of a reply


def noise(seed: int, width: int, height: int) -> Frame:
    return Frame(np.random.default_rng(seed).bytes(3 * width * height), width, height)


PROMPTS = (
    Prompt.user(noise(1, 60, 60), "What is this?"),
    Prompt.user("No picture at all, but some words more."),
    Prompt.user("Here ", noise(2, 900, 300), " and there ", noise(3, 30, 600), "?", system="Be brief."),
    Prompt.user(noise(4, 60, 50), noise(5, 50, 60), "Which?", split=False),
)


@contextmanager
def opened(files: ModelFiles, **options: Any) -> Iterator[NumPy]:
    with closing(NumPy(files, Model(threads=1, detail="2", **options))) as backend:
        yield backend


def logits(backend: NumPy, prompts: Sequence[Prompt] = PROMPTS) -> list[Logits]:
    """The logits after each prompt and each token of ANSWER, (1 + tokens, vocab_size), of prompts decoded together."""
    prepared = [backend.prepare(prompt) for prompt in prompts]
    requests = [PrefillRequest(number, prompt, prompt.length + 20) for number, prompt in enumerate(prepared)]
    after = {number: [row] for number, row in arrays(backend.prefill(requests, []).logits).items()}
    for token in ANSWER:
        for number, row in backend.decode(dict.fromkeys(after, token)).items():
            after[number].append(row.copy())
    for number in after:
        backend.release(number)
    return [np.stack(rows) for rows in after.values()]


@torch.inference_mode()
def reference(files: ModelFiles, backend: NumPy, prompts: Sequence[Prompt] = PROMPTS) -> list[Logits]:
    """The same by transformers, each prompt in one call without a cache."""
    model: Any = load_model(files, torch.float32).eval()
    image, results = model.config.image_token_id, []
    side = model.config.vision_config.image_size
    for prompt in prompts:
        prepared = backend.prepare(prompt)
        per_tile = prepared.image_tokens // max(1, len(prepared.tiles))
        ids = [id for part in prepared.parts for id in ([image] * per_tile if isinstance(part, bytes) else part)]
        pictures: dict[str, Any] = {}
        if prepared.tiles:
            tiles = torch.tensor(np.frombuffer(b"".join(prepared.tiles), np.uint8).reshape(-1, side, side, 3).copy())
            pictures["pixel_values"] = (tiles.permute(0, 3, 1, 2)[None].float() / 255 - 0.5) / 0.5
        output = model(input_ids=torch.tensor([[*ids, *ANSWER]]), **pictures).logits[0, len(ids) - 1 :]
        results.append(output.numpy())
    return results


def assert_close(first: Sequence[Logits], second: Sequence[Logits], error: float = ROUNDING) -> None:
    assert len(first) == len(second)
    for mine, theirs in zip(first, second, strict=True):
        assert mine.dtype == np.float32 and mine.shape == theirs.shape
        assert np.ptp(theirs) > 1  # they say something
        assert np.abs(mine - theirs).max() < error


@pytest.mark.parametrize("tile", [64, 384, 512])
@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
@pytest.mark.parametrize("variant", ["v1", "v2"])
def test_every_shape_has_the_logits_of_transformers(variant: str, tied: bool, tile: int, tmp_path: Path) -> None:
    """With no, one, many tiles and several pictures, decoded together."""
    files = ModelFiles("Tiny", make_checkpoint(tmp_path / "Tiny", variant, 3, tied=tied, tile=tile))
    with opened(files) as backend:
        prompts = PROMPTS if tile == 64 else PROMPTS[:3]
        assert_close(logits(backend, prompts), reference(files, backend, prompts))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("numpy") / "Tiny", "v2", 5)


def test_a_prompt_of_several_chunks(tiny: Path) -> None:
    files, prompt = ModelFiles("Tiny", tiny), Prompt.user("word " * CHUNK, noise(1, 60, 60), "and " * CHUNK)
    with opened(files) as backend:
        assert backend.prepare(prompt).length > 2 * CHUNK
        assert_close(logits(backend, [prompt]), reference(files, backend, [prompt]))


def test_a_sequence_does_not_depend_on_others_that_come_and_go(tiny: Path) -> None:
    """A slot is freed and filled again while others are in the middle of their replies."""
    with opened(ModelFiles("Tiny", tiny)) as backend:
        alone = [logits(backend, [prompt])[0] for prompt in PROMPTS]
        prepared = [backend.prepare(prompt) for prompt in PROMPTS]
        done: dict[int, int] = {}  # tokens of each sequence
        waiting = list(range(len(PROMPTS)))
        while waiting or done:
            if waiting and len(done) < 2:
                number = waiting.pop(0)
                [row] = backend.prefill([PrefillRequest(number, prepared[number], 900)], []).logits.values()
                assert np.abs(row - alone[number][0]).max() < ROUNDING
                done[number] = 0
            for number, row in backend.decode({number: ANSWER[count] for number, count in done.items()}).items():
                done[number] += 1
                assert np.abs(row - alone[number][done[number]]).max() < ROUNDING
            for number in [number for number, count in done.items() if count == 3 + 3 * (number % 2)]:
                backend.release(number)
                del done[number]


def test_slots_are_as_many_as_fit_into_memory(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    token = 2 * 4 * 2 * 2 * 16  # bytes: keys and values, float32, layers, kv_heads, head_dim of tests/tiny.py
    monkeypatch.setattr("smolcli.system.memory.available_bytes", lambda: 4 * 1000 * token)
    with opened(ModelFiles("Tiny", tiny), jobs=5) as backend:
        assert backend.max_sequences == 5
        assert backend.fits([400, 600, 1]) == 2
        assert backend.fits([2000]) == 1  # there is no other sequence to wait for
        backend.prefill([PrefillRequest(0, backend.prepare(PROMPTS[0]), 700)], [])
        assert backend.fits([301]) == 0
        assert backend.fits([300, 1]) == 1
        backend.release(0)
        assert backend.fits([301, 1]) == 2


def test_a_tile_is_encoded_once_and_upcoming_ones_fill_the_batch(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(NumPy(ModelFiles("Tiny", tiny), Model(threads=2, detail="low"))) as backend:
        encode, encoded = backend.model.encode, []
        monkeypatch.setattr(backend.model, "encode", lambda tile, *how: encoded.append(tile) or encode(tile, *how))
        first, second = (backend.prepare(Prompt.user(noise(seed, 64, 64), "What?")) for seed in (1, 2))
        backend.prefill([PrefillRequest(0, first, 100)], [second])
        assert sorted(encoded) == sorted([*first.tiles, *second.tiles])
        backend.prefill([PrefillRequest(1, second, 100), PrefillRequest(2, first, 100)], [])
        assert len(encoded) == 2
        backend.clear_cache()
        backend.prefill([PrefillRequest(3, second, 100)], [])
        assert encoded[2:] == second.tiles


@pytest.mark.parametrize("threads", [2, 3, 100])
def test_a_tile_alone_is_the_same_in_several_threads(threads: int, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its patches are split between the threads, and so is all that is computed of them."""
    rows, tile = [], noise(1, 64, 64).rgb
    with (
        closing(NumPy(ModelFiles("Tiny", tiny), Model(threads=1))) as backend,
        closing(NumPy(ModelFiles("Tiny", tiny), Model(threads=threads))) as other,
    ):
        softmax = numpy_reference.softmax
        [exact] = backend.model.encode(tile)[None]
        monkeypatch.setattr(numpy_reference, "softmax", lambda scores: rows.append(len(scores)) or softmax(scores))
        prompt = other.prepare(Prompt.user(Frame(tile, 64, 64), "What?"))
        assert prompt.tiles == [tile]
        [split] = other._embedding_cache.get(prompt.tiles)
    assert max(rows) == -(-64 // threads) and sum(rows) == 64 * 4 * 2  # patches, heads and layers of tests/tiny.py
    assert np.ptp(exact) > 1 and np.abs(split - exact).max() < 1e-5


# ---- file formats --------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_is_read_exactly(dtype: torch.dtype, tmp_path: Path) -> None:
    files = ModelFiles("Tiny", make_checkpoint(tmp_path / "Tiny", "v2", 5, dtype=dtype))
    with opened(files) as backend:
        assert_close(logits(backend), reference(files, backend))


def test_shards_and_the_layout_of_transformers_4(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path / "Tiny", "v1", 5, layout=4, shard_size="200KB")
    assert len(list(folder.glob("*.safetensors"))) > 1
    with opened(ModelFiles("Tiny", folder)) as backend:
        assert_close(logits(backend), reference(ModelFiles("Tiny", folder), backend))


@pytest.mark.parametrize(("variant", "tied"), [("v2", False), ("v1", True), ("docling", False)])
def test_a_pair_of_float32_is_the_checkpoint(variant: str, tied: bool, tmp_path: Path) -> None:
    """Its tokenizer, too."""
    folder = make_checkpoint(tmp_path / "Tiny", variant, 5, tied=tied)
    pair = ModelFiles("Tiny", None, *convert(folder, tmp_path, "f32", "f32"))
    with opened(ModelFiles("Tiny", folder)) as backend, opened(pair) as from_pair:
        assert_close(logits(from_pair), logits(backend), 1e-6)
        assert [from_pair.prepare(prompt) for prompt in PROMPTS] == [backend.prepare(prompt) for prompt in PROMPTS]
        assert from_pair.stop_tokens == backend.stop_tokens
        assert NumPy.limits(pair) == NumPy.limits(ModelFiles("Tiny", folder))
        first, second = from_pair.detokenizer(), backend.detokenizer()
        assert [first(token) for token in range(384)] == [second(token) for token in range(384)]


@pytest.mark.parametrize(
    ("quant", "mmproj_quant", "error"),
    [("f16", "f16", 0.02), ("bf16", "bf16", 0.15), ("q8_0", "q8_0", 0.3), ("q4_0", "f16", 4.0)],
)
def test_quantized_pairs_are_within_their_error(
    tiny: Path, quant: str, mmproj_quant: str, error: float, tmp_path: Path
) -> None:
    pair = ModelFiles("Tiny", None, *convert(tiny, tmp_path, quant, mmproj_quant))
    with opened(ModelFiles("Tiny", tiny)) as backend, opened(pair) as from_pair:
        exact, quantized = logits(backend), logits(from_pair)
    assert_close(quantized, exact, error)
    assert max(np.abs(first - second).max() for first, second in zip(quantized, exact, strict=True)) > error / 1000


def swap_names(content: bytes, first: str, second: str) -> bytes:
    """Exchange two names in the table of tensors of a GGUF file."""
    old, new = (struct.pack("<Q", len(name)) + name.encode() for name in (first, second))
    assert content.count(old) == content.count(new) == 1
    return content.replace(old, b"<old>").replace(new, old).replace(b"<old>", new)


def test_a_pair_whose_feed_forward_matrices_have_swapped_names(tiny: Path, tmp_path: Path) -> None:
    """As in mmproj files of llama.cpp before it corrected that."""
    language, vision = convert(tiny, tmp_path, "f32", "f32")
    pair = ModelFiles("Tiny", None, language, vision)
    with opened(pair) as backend:
        exact = logits(backend)
    content = vision.read_bytes()
    for layer in range(2):
        for part in ("weight", "bias"):
            names = [f"v.blk.{layer}.{name}.{part}" for name in ("ffn_up", "ffn_down")]
            content = swap_names(content, *names)
    vision.write_bytes(content)
    with opened(pair) as backend:
        assert_close(logits(backend), exact, 1e-6)


def test_an_adapter_is_merged(tiny: Path, tmp_path: Path) -> None:
    files = ModelFiles("tuned", checkpoint=tiny, adapter=tmp_path)
    query = "base_model.model.model.text_model.layers.1.self_attn.q_proj"
    torch.manual_seed(1)
    parts = {f"{query}.lora_A.weight": torch.randn(4, 64), f"{query}.lora_B.weight": torch.randn(64, 4)}
    save_file(parts, tmp_path / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "base_model_name_or_path": str(tiny), "r": 4, "lora_alpha": 4}
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    with opened(files) as tuned, opened(replace(files, adapter=None)) as base:
        merged = logits(tuned)
        assert_close(merged, reference(files, tuned))
        assert max(np.abs(first - second).max() for first, second in zip(merged, logits(base), strict=True)) > 0.1


def test_nano_is_the_same_from_both_of_its_formats() -> None:
    files = scan(BUILT_IN)
    with opened(replace(files, gguf=None, mmproj=None)) as first, opened(replace(files, checkpoint=None)) as second:
        assert_close(logits(first), logits(second), 1e-5)
        assert [first.prepare(prompt) for prompt in PROMPTS] == [second.prepare(prompt) for prompt in PROMPTS]


# ---- errors --------------------------------------------------------------------------------------------


def edit(name: str, **keys: object) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_text(json.dumps(json.loads((folder / name).read_text()) | keys))


def lose(name: str) -> Callable[[Path], None]:
    def lose(folder: Path) -> None:
        tensors = load_file(folder / "model.safetensors")
        del tensors[name]
        save_file(tensors, folder / "model.safetensors")

    return lose


def empty_tokenizer(folder: Path) -> None:
    content = json.loads((folder / "tokenizer.json").read_text())
    content["model"] |= {"vocab": {}, "merges": []}
    (folder / "tokenizer.json").write_text(json.dumps(content | {"added_tokens": [], "post_processor": None}))


DAMAGED_CHECKPOINTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "another model": (edit("config.json", model_type="llava"), "'llava'"),
    "a broken config": (lambda d: (d / "config.json").write_text("{"), "config.json"),
    "a broken tokenizer": (lambda d: (d / "tokenizer.json").write_text("{}"), "tokenizer.json"),
    "an empty tokenizer": (empty_tokenizer, "tokenizer.json: has no tokens"),
    "no sizes of the text model": (edit("config.json", text_config=None), "lacks .* tensors"),
    "an odd stop token": (edit("generation_config.json", eos_token_id=[[1]]), r"stop token is \[1\]"),
    "a stop token by name": (edit("generation_config.json", eos_token_id={"a": 1}), "stop token is {'a': 1}"),
    "cut weights": (lambda d: os.truncate(d / "model.safetensors", 10_000), "model.safetensors: damaged"),
    "no weights": (lambda d: os.truncate(d / "model.safetensors", 0), "model.safetensors: damaged"),
    "a missing tensor": (lose("model.text_model.norm.weight"), "lacks 1 of 59 tensors"),
    "no picture's edge": (edit("preprocessor_config.json", size={"longest_edge": 0}), "longest_edge is"),
    "odd tiles": (edit("config.json", scale_factor=3), "contradict"),
}


@pytest.mark.parametrize("case", DAMAGED_CHECKPOINTS)
def test_a_damaged_checkpoint_is_one_line(case: str, tiny: Path, tmp_path: Path) -> None:
    damage, message = DAMAGED_CHECKPOINTS[case]
    folder = Path(shutil.copytree(tiny, tmp_path / "Tiny"))
    damage(folder)
    with pytest.raises(ModelError, match=message) as caught:
        NumPy(ModelFiles("Tiny", folder), Model())
    assert "\n" not in str(caught.value)


def replace_bytes(old: bytes, new: bytes) -> Callable[[bytes], bytes]:
    assert len(old) == len(new)

    def replaced(content: bytes) -> bytes:
        assert old in content
        return content.replace(old, new)

    return replaced


DAMAGED_PAIRS: dict[str, tuple[str, Callable[[bytes], bytes], str]] = {
    "no GGUF": ("language", lambda content: b"GGML" + content[4:], "is not a GGUF file"),
    "cut": ("vision", lambda content: content[:-100], "cut short"),
    "another architecture": ("language", replace_bytes(b"\5\0\0\0\0\0\0\0llama", b"\5\0\0\0\0\0\0\0gemma"), "gemma"),
    "another projector": ("vision", replace_bytes(b"idefics3", b"idefics9"), "idefics9"),
    "another tokenizer": ("language", replace_bytes(b"smollm", b"smoxxx"), "smoxxx"),
    "no tokens": ("language", replace_bytes(b"ggml.tokens", b"ggml.tokenz"), "tokenizer is damaged"),
    "no layers": ("language", replace_bytes(b"llama.block_count", b"llama.block_count"[::-1]), "block_count"),
    "a missing tensor": ("vision", replace_bytes(b"v.post_ln.bias", b"v.post_xx.bias"), "lacks 1 of 38 .*post_ln.bias"),
}


@pytest.mark.parametrize("case", DAMAGED_PAIRS)
def test_a_damaged_pair_is_one_line(case: str, tiny: Path, tmp_path: Path) -> None:
    half, damage, message = DAMAGED_PAIRS[case]
    language, vision = convert(tiny, tmp_path, "f16", "f16")
    damaged = language if half == "language" else vision
    damaged.write_bytes(damage(damaged.read_bytes()))
    with pytest.raises(ModelError, match=message) as caught:
        NumPy(ModelFiles("Tiny", None, language, vision), Model())
    assert "\n" not in str(caught.value)


def rewrite(path: Path, keys: Mapping[str, Any], tensors: Mapping[str, NDArray[np.float32]] | None = None) -> None:
    """Write a GGUF file again with other keys, and with more tensors."""
    reader = GGUFReader(path)
    fields = {name: field for name, field in reader.fields.items() if not name.startswith("GGUF.")}
    writer = GGUFWriter(path.with_suffix(".new"), fields.pop("general.architecture").contents())
    for name, field in fields.items():
        if name not in keys:
            writer.add_key_value(name, field.contents(), field.types[0], field.types[-1])
    for name, value in keys.items():
        if isinstance(value, list):
            writer.add_array(name, value)
            continue
        kind = GGUFValueType.UINT32 if isinstance(value, int) else GGUFValueType.get_type(value)
        writer.add_key_value(name, value, kind)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
    for name, array in (tensors or {}).items():
        writer.add_tensor(name, array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    path.with_suffix(".new").replace(path)


SCALED = {"llama.rope.scaling.type": "linear", "llama.rope.scaling.factor": 8.0}
OTHER_MODELS: dict[str, tuple[str, dict[str, Any], dict[str, int], str]] = {
    "scaled positions": ("language", SCALED, {}, "rope.scaling.* is .*--backend llamacpp"),
    "scaled as long ago": ("language", {"llama.rope.scale_linear": 4.0}, {}, "rope.scale_linear is 4"),
    "half of a head turned": ("language", {"llama.rope.dimension_count": 8}, {}, "rope.dimension_count is 8"),
    "frequencies": ("language", {}, {"rope_freqs.weight": 8}, "does not know, the first rope_freqs.weight; llama.cpp"),
    "biases": ("language", {}, {"blk.1.attn_q.bias": 64, "blk.0.attn_q.bias": 64}, "2 tensors .*first blk.0.attn_q"),
    "a norm before the blocks": ("vision", {}, {"v.pre_ln.weight": 64}, "the first v.pre_ln.weight"),
    "too many layers": ("language", {"llama.block_count": 1 << 24}, {}, "block_count is '16777216'"),
    "too many layers of vision": ("vision", {"clip.vision.block_count": 1 << 24}, {}, "block_count is '16777216'"),
    "no picture's edge": ("vision", {"clip.vision.preproc_image_size": 0}, {}, "its sizes contradict each other"),
    "an edge below a tile's": ("vision", {"clip.vision.preproc_image_size": 63}, {}, "its sizes contradict each other"),
    "other sizes": ("language", {"llama.feed_forward_length": 97}, {}, "the shape .* not .* as in its keys"),
}


@pytest.mark.parametrize("case", OTHER_MODELS)
def test_a_pair_that_llama_cpp_would_compute_otherwise_is_refused(case: str, tiny: Path, tmp_path: Path) -> None:
    """Such as one whose positions are scaled: NumPy alone would give another answer."""
    half, keys, tensors, message = OTHER_MODELS[case]
    language, vision = convert(tiny, tmp_path, "f16", "f16")
    arrays = {name: np.full(size, 8, np.float32) for name, size in tensors.items()}
    rewrite(language if half == "language" else vision, keys, arrays)
    with pytest.raises(ModelError, match=message) as caught:
        NumPy(ModelFiles("Tiny", None, language, vision), Model())
    assert "\n" not in str(caught.value)


def test_a_pair_with_keys_that_change_nothing_is_read(tiny: Path, tmp_path: Path) -> None:
    language, vision = convert(tiny, tmp_path, "f16", "f16")
    rewrite(language, {"llama.rope.scaling.type": "none", "general.license": "mit"})
    with opened(ModelFiles("Tiny", None, language, vision)) as backend, opened(ModelFiles("Tiny", tiny)) as exact:
        assert_close(logits(backend), logits(exact), 0.02)


@pytest.mark.parametrize(
    ("ggml_type", "message"),
    [(15, "attn_q.weight is stored as Q8_K"), (24, "I8"), (26, "I32"), (28, "F64"), (99, "damaged .*99")],
)
def test_a_tensor_of_an_unknown_type_is_one_line(ggml_type: int, message: str, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(BUILT_IN, tmp_path / "nano"))
    files = replace(scan(folder), checkpoint=None)
    assert files.gguf is not None
    content, name = bytearray(files.gguf.read_bytes()), b"blk.0.attn_q.weight"
    start = content.index(name) + len(name)
    dimensions = struct.unpack_from("<I", content, start)[0]
    struct.pack_into("<I", content, start + 4 + 8 * dimensions, ggml_type)
    files.gguf.write_bytes(content)
    with pytest.raises(ModelError, match=message) as caught:
        NumPy(files, Model())
    assert "\n" not in str(caught.value)


def test_stop_tokens_that_the_model_does_not_have_are_none(tiny: Path, tmp_path: Path) -> None:
    """A fine-tune may keep the id of its base's larger vocabulary; there are no logits of it."""
    folder = Path(shutil.copytree(tiny, tmp_path / "Tiny"))
    edit("generation_config.json", eos_token_id=[7, 384, 128001, -1])(folder)
    with opened(ModelFiles("Tiny", folder)) as backend, opened(ModelFiles("Tiny", tiny)) as other:
        assert 7 in backend.stop_tokens - other.stop_tokens
        assert max(backend.stop_tokens) < 384 and min(backend.stop_tokens) >= 0
        with closing(PyTorch(ModelFiles("Tiny", folder), Model(device="cpu"))) as in_pytorch:
            assert in_pytorch.stop_tokens == backend.stop_tokens


def test_a_pair_with_another_number_of_tokens_than_embeddings(tiny: Path, tmp_path: Path) -> None:
    language, vision = convert(tiny, tmp_path, "f16", "f16")
    reader = GGUFReader(language)
    tokens = [f"token {number}" for number in range(400)]
    types = [1] * 400
    assert len(reader.fields["tokenizer.ggml.tokens"].data) == 384
    rewrite(language, {"tokenizer.ggml.tokens": tokens, "tokenizer.ggml.token_type": types})
    with pytest.raises(ModelError, match="it has 400 tokens, and the model 384"):
        NumPy(ModelFiles("Tiny", None, language, vision), Model())


def test_without_files_it_says_what_it_reads() -> None:
    with pytest.raises(ModelError, match="neither a checkpoint nor a GGUF pair"):
        NumPy(ModelFiles("none"), Model())


def test_a_tokenizer_that_was_saved_from_training_cuts_and_fills_no_text(tiny: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny, tmp_path / "Tiny"))
    files = ModelFiles("Tiny", folder)
    exact = load_tokenizer(files, 384).encode("one two three").ids
    edit(
        "tokenizer.json",
        truncation={"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0},
        padding={
            "strategy": {"Fixed": 99}, "direction": "Right", "pad_to_multiple_of": None, "pad_id": 2,
            "pad_type_id": 0, "pad_token": "<|im_end|>",
        },
    )(folder)  # fmt: skip
    assert load_tokenizer(files, 384).encode("one two three").ids == exact
