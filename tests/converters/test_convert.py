"""converters/: with a converted pair llama.cpp has the tokens, logits and embeddings of transformers."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType, GGUFReader, quants
from llama_cpp import mtmd_cpp
from safetensors.torch import load_file
from tokenizers import Tokenizer
from transformers import AutoModelForImageTextToText

from smolcli.converters import convert, plan, write
from smolcli.converters.quantization import encode, find_quantization, tensor_type
from smolcli.errors import UsageError
from smolcli.models.tensor_mapping import Weight, halve, interleave
from tests import tiny

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "v1-untied-64": ("v1", {"tile": 64, "layout": 5}),
    "v2-tied-64-sharded": ("v2", {"tile": 64, "layout": 4, "tied": True, "shard_size": "200KB"}),
    "v1-tied-384": ("v1", {"tile": 384, "layout": 4, "tied": True}),
    "v2-untied-512": ("v2", {"tile": 512, "layout": 5}),
    "docling-tied-64": ("docling", {"tile": 64, "layout": 4, "tied": True}),
}
# The largest KL divergence, in nats, of each quantization of random weights.
MAX_DIVERGENCE = {
    "f16": 1e-4, "bf16": 1e-2, "q8_0": 1e-2, "q6_k": 1e-2, "q5_k_m": 0.1, "q5_1": 0.1, "q5_0": 0.1, "q4_k_m": 0.2,
    "q4_1": 0.3, "q4_0": 0.3, "q3_k_m": 0.5,
}  # fmt: skip
TEXTS = [
    "<|im_start|>User: What is in the picture?<end_of_utterance>\nAssistant:",
    "<|im_start|>User:<fake_token_around_image><row_1_col_2><image>\n\n<fake_token_around_image><global-img>",
    "In 2024, 12345 items\tcost 3.50\n\n\n  'tis  naïve — 東京 🙂 don't",
]


@pytest.fixture(scope="module", params=CASES)
def source(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    variant, options = CASES[request.param]
    return tiny.make_checkpoint(tmp_path_factory.mktemp("source") / request.param, variant, seed=3, **options)


@pytest.fixture(scope="module")
def pair(source: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return convert(source, tmp_path_factory.mktemp("out"), "f32", "f32")


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return tiny.make_checkpoint(tmp_path / "tiny", "v2", seed=1)


@contextmanager
def llama(path: Path) -> Iterator[Any]:
    """Load a model with llama.cpp."""
    llama_cpp.llama_backend_init()
    params = llama_cpp.llama_model_default_params()
    params.use_extra_bufts = False
    params.n_gpu_layers = 0
    model = llama_cpp.llama_model_load_from_file(str(path).encode(), params)
    assert model
    yield model
    llama_cpp.llama_model_free(model)


def tokenize(model: Any, text: str) -> list[int]:
    data = text.encode()
    tokens = (llama_cpp.llama_token * (len(data) + 8))()
    vocab = llama_cpp.llama_model_get_vocab(model)
    count = llama_cpp.llama_tokenize(vocab, data, len(data), tokens, len(tokens), True, True)
    return list(tokens[:count])


def last_logits(model: Any, tokens: list[int]) -> torch.Tensor:
    params = llama_cpp.llama_context_default_params()
    params.n_ctx, params.n_threads, params.n_threads_batch = 256, 1, 1
    params.type_k = params.type_v = llama_cpp.GGML_TYPE_F32
    context = llama_cpp.llama_init_from_model(model, params)
    array = (llama_cpp.llama_token * len(tokens))(*tokens)
    assert llama_cpp.llama_decode(context, llama_cpp.llama_batch_get_one(array, len(tokens))) == 0
    size = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(model))
    logits = np.ctypeslib.as_array(llama_cpp.llama_get_logits_ith(context, -1), (size,)).copy()
    llama_cpp.llama_free(context)
    return torch.from_numpy(logits)


def embed(model: Any, mmproj: Path, pixels: np.ndarray[Any, Any], tokens: int) -> torch.Tensor:
    """Return llama.cpp's embedding (tokens, hidden) of one tile (side, side, 3) of uint8."""
    params = mtmd_cpp.mtmd_context_params_default()
    # A limit of one tile keeps llama.cpp from enlarging the tile to the longest edge first.
    params.use_gpu, params.n_threads, params.warmup, params.image_max_tokens = False, 1, False, tokens
    context = mtmd_cpp.mtmd_init_from_file(str(mmproj).encode(), model, params)
    assert context
    side = pixels.shape[0]
    data = (ctypes.c_uint8 * pixels.size).from_buffer_copy(pixels.tobytes())
    bitmap = mtmd_cpp.mtmd_bitmap_init(side, side, data)
    chunks = mtmd_cpp.mtmd_input_chunks_init()
    marker = mtmd_cpp.mtmd_default_marker()
    text = mtmd_cpp.mtmd_input_text(marker, len(marker), False, True)
    bitmaps = (mtmd_cpp.mtmd_bitmap_p_ctypes * 1)(bitmap)
    assert mtmd_cpp.mtmd_tokenize(context, chunks, ctypes.byref(text), bitmaps, 1) == 0
    all_chunks = [mtmd_cpp.mtmd_input_chunks_get(chunks, i) for i in range(mtmd_cpp.mtmd_input_chunks_size(chunks))]
    tile = [chunk for chunk in all_chunks if mtmd_cpp.mtmd_input_chunk_get_type(chunk) == 1][-1]
    assert mtmd_cpp.mtmd_input_chunk_get_n_tokens(tile) == tokens
    assert mtmd_cpp.mtmd_encode_chunk(context, tile) == 0
    hidden = llama_cpp.llama_model_n_embd(model)
    embedding = np.ctypeslib.as_array(mtmd_cpp.mtmd_get_output_embd(context), (tokens * hidden,)).copy()
    mtmd_cpp.mtmd_input_chunks_free(chunks)
    mtmd_cpp.mtmd_bitmap_free(bitmap)
    mtmd_cpp.mtmd_free(context)
    return torch.from_numpy(embedding).reshape(tokens, hidden)


def divergence(p: torch.Tensor, q: torch.Tensor) -> float:
    """Return the Kullback-Leibler divergence in nats between the distributions of two rows of logits."""
    p, q = p.double().log_softmax(-1), q.double().log_softmax(-1)
    return float((p.exp() * (p - q)).sum())


def fields(path: Path) -> dict[str, Any]:
    return {key: field.contents() for key, field in GGUFReader(path).fields.items()}


def test_tokens_and_logits_are_those_of_transformers(source: Path, pair: tuple[Path, Path]) -> None:
    tokenizer = Tokenizer.from_file(str(source / "tokenizer.json"))
    model = AutoModelForImageTextToText.from_pretrained(source, dtype=torch.float32)
    with llama(pair[0]) as converted:
        for text in TEXTS:
            expected = tokenizer.encode(text).ids
            assert tokenize(converted, text) == expected
        tokens = tokenizer.encode(TEXTS[0]).ids
        with torch.inference_mode():
            reference = model(input_ids=torch.tensor([tokens])).logits[0, -1]
        assert divergence(reference, last_logits(converted, tokens)) < 1e-6


def test_image_embeddings_are_those_of_transformers(source: Path, pair: tuple[Path, Path]) -> None:
    model: Any = AutoModelForImageTextToText.from_pretrained(source, dtype=torch.float32)
    side = model.config.vision_config.image_size
    tokens = (side // model.config.vision_config.patch_size // model.config.scale_factor) ** 2
    pixels = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
    values = torch.from_numpy(pixels).permute(2, 0, 1).float() / 255 * 2 - 1
    with torch.inference_mode():
        output = model.get_image_features(pixel_values=values[None, None]).pooler_output
    with llama(pair[0]) as converted:
        embeddings = embed(converted, pair[1], pixels, tokens)
    assert torch.cosine_similarity(output[0], embeddings, dim=-1).min() > 0.9999


@pytest.mark.slow
def test_quantized_pairs_stay_close(checkpoint: Path, tmp_path: Path) -> None:
    tokenizer = Tokenizer.from_file(str(checkpoint / "tokenizer.json"))
    tokens = tokenizer.encode(TEXTS[0]).ids
    model = AutoModelForImageTextToText.from_pretrained(checkpoint, dtype=torch.float32)
    with torch.inference_mode():
        reference = model(input_ids=torch.tensor([tokens])).logits[0, -1]
    planned = plan(checkpoint, tmp_path, [*MAX_DIVERGENCE], ["f16", "q8_0", "q4_0"])
    write(planned)
    for (quant, limit), output in zip(MAX_DIVERGENCE.items(), planned.language, strict=True):
        assert output.path.name == f"tiny-{quant.upper()}.gguf"
        with llama(output.path) as converted:
            assert divergence(reference, last_logits(converted, tokens)) < limit, quant
    assert [output.path.name for output in planned.vision] == [f"mmproj-tiny-{q}.gguf" for q in ("F16", "Q8_0", "Q4_0")]


def test_bfloat16_weights_are_widened_exactly(tmp_path: Path) -> None:
    source = tiny.make_checkpoint(tmp_path / "half", "v1", dtype=torch.bfloat16)
    stored = load_file(source / "model.safetensors")["model.text_model.layers.0.mlp.up_proj.weight"]
    language, _ = convert(source, tmp_path, "f32", "f32")
    widened = next(tensor for tensor in GGUFReader(language).tensors if tensor.name == "blk.0.ffn_up.weight")
    assert torch.equal(stored.float(), torch.from_numpy(np.array(widened.data)))


def test_keys(checkpoint: Path, tmp_path: Path) -> None:
    (checkpoint / "README.md").write_text("---\nlicense: apache-2.0\nbase_model: org/Base-1B\n---\n")
    language, mmproj = (fields(path) for path in convert(checkpoint, tmp_path, "f16", "f16", name="Tiny"))
    tokenizer = Tokenizer.from_file(str(checkpoint / "tokenizer.json"))
    expected = {
        "general.architecture": "llama",
        "general.name": "Tiny",
        "general.license": "apache-2.0",
        "general.base_model.0.repo_url": "https://huggingface.co/org/Base-1B",
        "general.file_type": 1,
        "llama.rope.freq_base": 100000.0,
        "llama.rope.dimension_count": 16,
        "llama.vocab_size": tiny.VOCABULARY,
        "llama.attention.head_count_kv": 2,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "smollm",
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": tokenizer.token_to_id("<end_of_utterance>"),
        "tokenizer.ggml.eot_token_id": 2,
        "tokenizer.ggml.padding_token_id": 2,
        "tokenizer.ggml.add_bos_token": False,
        "tokenizer.chat_template": tiny.TEMPLATE,
    }
    assert expected.items() <= language.items()
    types = language["tokenizer.ggml.token_type"]
    control = {0, 1, 2} | {tokenizer.token_to_id(marker) for marker in tiny.MARKERS}
    assert {number for number, kind in enumerate(types) if kind == 3} == control
    assert types[-1] == 5 and tokenizer.get_vocab_size() < tiny.VOCABULARY
    expected = {
        "general.architecture": "clip",
        "general.type": "mmproj",
        "clip.projector_type": "idefics3",
        "clip.has_vision_encoder": True,
        "clip.vision.image_size": 64,
        "clip.vision.patch_size": 8,
        "clip.vision.preproc_image_size": 256,
        "clip.vision.projector.scale_factor": 2,
        "clip.vision.projection_dim": 64,
        "clip.vision.image_mean": [0.5, 0.5, 0.5],
        "clip.vision.image_std": [0.5, 0.5, 0.5],
        "clip.vision.block_count": 2,
        "clip.vision.feed_forward_length": 96,
        "clip.vision.attention.head_count": 4,
        "clip.vision.attention.layer_norm_epsilon": pytest.approx(1e-6),
        "clip.use_gelu": True,
    }
    assert {key: mmproj[key] for key in expected} == expected


def test_types_are_chosen_by_the_rules_of_llama_cpp() -> None:
    q8_0 = find_quantization("Q8_0").tensor
    assert q8_0 is not None
    assert tensor_type(Weight("", "blk.0.ffn_up.weight", (96, 64)), q8_0) == GGMLQuantizationType.Q8_0
    assert tensor_type(Weight("", "v.blk.0.ffn_down.weight", (64, 4304)), q8_0) == GGMLQuantizationType.F16
    assert tensor_type(Weight("", "output_norm.weight", (64,)), q8_0) == GGMLQuantizationType.F32
    assert tensor_type(Weight("", "v.position_embd.weight", (64, 64), exact=True), q8_0) == GGMLQuantizationType.F32
    with pytest.raises(UsageError, match="q9_9: not a quantization; choose from f32"):
        find_quantization("q9_9")


def test_q8_0_errs_by_at_most_half_a_step() -> None:
    array = np.random.default_rng(0).normal(size=(4, 64)).astype(np.float32)
    back = quants.dequantize(encode(array, GGMLQuantizationType.Q8_0), GGMLQuantizationType.Q8_0)
    step = np.abs(array.reshape(4, 2, 32)).max(-1, keepdims=True) / 127
    # The step itself is stored in half precision: one part in 2048 of up to 127 steps.
    assert (np.abs(array - back).reshape(4, 2, 32) <= step * (0.5 + 127 / 2048)).all()


def test_interleaving_rows_and_its_inverse() -> None:
    rows = np.arange(16)[:, None]
    assert interleave(rows, 2)[:, 0].tolist() == [0, 4, 1, 5, 2, 6, 3, 7, 8, 12, 9, 13, 10, 14, 11, 15]
    assert (halve(interleave(rows, 2), 2) == rows).all()
