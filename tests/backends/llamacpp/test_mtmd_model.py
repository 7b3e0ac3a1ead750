"""llamacpp/mtmd_model.py: tiny pairs of other families, against what mtmd's own helpers evaluate, and transformers."""

from __future__ import annotations

import ctypes
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import llama_cpp as llama
import numpy as np
import pytest
from llama_cpp import mtmd_cpp as mtmd
from numpy.typing import NDArray

from smolcli.backends.base import PrefillRequest
from smolcli.backends.llamacpp import mtmd_model
from smolcli.backends.llamacpp.mtmd_model import MtmdModel
from smolcli.errors import ModelError
from smolcli.generation.json_schema import canonicalize
from smolcli.generation.scheduler import generate
from smolcli.models.files import ModelFiles
from smolcli.options import Generate, Model
from smolcli.types import Finish, Frame, Prompt
from tests.families import CONTEXT, FAMILIES, make_pair

STEPS = 5  # tokens after the prompt


def noise(seed: int, width: int, height: int = 0) -> Frame:
    height = height or width
    return Frame(np.random.default_rng(seed).bytes(3 * width * height), width, height)


@pytest.fixture(scope="module", params=FAMILIES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def files(name: str, tmp_path_factory: pytest.TempPathFactory) -> ModelFiles:
    return make_pair(tmp_path_factory.mktemp("other"), name, 3)


@pytest.fixture(scope="module")
def model(files: ModelFiles) -> Iterator[MtmdModel]:
    with closing(MtmdModel(files, Model(threads=1))) as model:
        yield model


def logits_of(model: MtmdModel, prompt: Prompt, steps: int = 0) -> list[NDArray[np.float32]]:
    """The logits after a prompt, and after each of the likeliest tokens."""
    prepared = model.prepare(prompt)
    result = [model.prefill([PrefillRequest(0, prepared, prepared.length + steps + 1)], []).logits[0]]
    for _ in range(steps):
        result.append(model.decode({0: int(result[-1].argmax())})[0])  # type: ignore[union-attr]
    model.release(0)
    return result  # type: ignore[return-value]


MARK = "<__media__>"  # mtmd_default_marker
CHATML_TEXT = (
    f"<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n{MARK}and {MARK} differ?<|im_end|>\n"
    "<|im_start|>assistant\nThey"
)
TEXTS = {  # what each family's template makes of PROMPT
    "qwen2vl": CHATML_TEXT,
    "qwen2.5vl": CHATML_TEXT,
    "internvl": CHATML_TEXT,
    "moondream2": f"Be brief.\n{MARK}and {MARK} differ?\nThey",
    "gemma3": f"<start_of_turn>user\nBe brief.\n\n{MARK}and {MARK} differ?<end_of_turn>\n<start_of_turn>model\nThey",
}


def two_pictures(name: str) -> Prompt:
    """A conversation about a picture of the family's own size and one that has to be resized."""
    side = FAMILIES[name].side
    prompt = Prompt.user(noise(1, side), "and ", noise(2, 2 * side, side), " differ?", system="Be brief.")
    return replace(prompt, turns=(*prompt.turns, replace(prompt.turns[-1], role="assistant", parts=("They",))))


def evaluate_by_helper(
    files: ModelFiles, text: str, frames: Sequence[Frame], steps: int
) -> tuple[int, list[NDArray[np.float32]]]:
    """The tokens of a prompt, and logits as logits_of's, by mtmd_helper_eval_chunks in a context of its own."""
    assert files.gguf is not None and files.mmproj is not None
    model = llama.llama_model_load_from_file(os.fsencode(files.gguf), llama.llama_model_default_params())
    settings = llama.llama_context_default_params()
    settings.n_ctx, settings.n_threads, settings.n_threads_batch = CONTEXT, 1, 1
    settings.flash_attn_type = llama.LLAMA_FLASH_ATTN_TYPE_DISABLED
    context = llama.llama_init_from_model(model, settings)
    params = mtmd.mtmd_context_params_default()
    params.use_gpu, params.n_threads, params.warmup = False, 1, False
    vision = mtmd.mtmd_init_from_file(os.fsencode(files.mmproj), model, params)
    pixels = [(ctypes.c_uint8 * len(frame.rgb)).from_buffer_copy(frame.rgb) for frame in frames]
    bitmaps = [
        mtmd.mtmd_bitmap_init(frame.width, frame.height, data) for frame, data in zip(frames, pixels, strict=True)
    ]
    chunks, position = mtmd.mtmd_input_chunks_init(), llama.llama_pos(0)
    given = mtmd.mtmd_input_text(text.encode(), len(text.encode()), True, True)
    array = (mtmd.mtmd_bitmap_p_ctypes * len(bitmaps))(*bitmaps)
    assert mtmd.mtmd_tokenize(vision, chunks, ctypes.byref(given), array, len(bitmaps)) == 0
    arguments = (vision, context, chunks, 0, 0, 512, True, ctypes.byref(position))
    assert mtmd.mtmd_helper_eval_chunks(*arguments) == 0
    size = llama.llama_vocab_n_tokens(llama.llama_model_get_vocab(model))
    logits = []
    for step in range(steps + 1):
        pointer: Any = llama.llama_get_logits_ith(context, -1)
        logits.append(np.ctypeslib.as_array(pointer, (size,)).copy())
        batch = llama.llama_batch_init(1, 0, 1)
        batch.n_tokens = batch.n_seq_id[0] = batch.logits[0] = 1
        batch.token[0], batch.pos[0], batch.seq_id[0][0] = int(logits[-1].argmax()), position.value + step, 0
        assert llama.llama_decode(context, batch) == 0
        llama.llama_batch_free(batch)
    tokens = int(mtmd.mtmd_helper_get_n_tokens(chunks))
    mtmd.mtmd_input_chunks_free(chunks)
    for bitmap in bitmaps:
        mtmd.mtmd_bitmap_free(bitmap)
    mtmd.mtmd_free(vision)
    llama.llama_free(context)
    llama.llama_model_free(model)
    return tokens, logits


def test_prompt_and_logits_are_those_of_mtmd_s_own_helpers(name: str, files: ModelFiles, model: MtmdModel) -> None:
    """With the prompt written out by hand; the positions of a picture and of what follows are the helpers' business."""
    prompt = two_pictures(name)
    tokens, theirs = evaluate_by_helper(files, TEXTS[name], prompt.decoded_frames, STEPS)
    ours = logits_of(model, prompt, STEPS)
    assert model.prepare(prompt).length == tokens
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=2e-4)
    assert [int(row.argmax()) for row in ours] == [int(row.argmax()) for row in theirs]


def test_a_raw_prompt_has_the_tokens_of_its_text_after_the_start_that_llama_cpp_adds(
    name: str, model: MtmdModel
) -> None:
    words = " the hen"
    start = model._vocabulary.tokenize(FAMILIES[name].markers[0]) if FAMILIES[name].adds_start else []
    expected = [*start, *model._vocabulary.tokenize(words)]
    assert model.prepare(Prompt.user(words, raw=True)).parts == (tuple(expected),)


def test_the_pictures_and_their_order_decide_and_nothing_else_does(name: str, model: MtmdModel) -> None:
    side = FAMILIES[name].side
    first, second = noise(5, side), noise(6, side)
    alone = logits_of(model, Prompt.user(first, "What is this?"))[0]
    assert np.abs(logits_of(model, Prompt.user(second, "What is this?"))[0] - alone).max() > 0.01
    ordered = logits_of(model, Prompt.user("In ", first, " and ", second, "?"))[0]
    swapped = logits_of(model, Prompt.user("In ", second, " and ", first, "?"))[0]
    assert np.abs(ordered - swapped).max() > 0.01
    np.testing.assert_allclose(logits_of(model, Prompt.user(first, "What is this?"))[0], alone, rtol=0, atol=2e-4)


def test_a_second_question_has_the_logits_of_a_first_one(name: str, files: ModelFiles, model: MtmdModel) -> None:
    """Its beginning is in the KV cache, after the positions of a picture."""
    picture = noise(7, FAMILIES[name].side)
    logits_of(model, Prompt.user(picture, "How many?"), 3)
    second = logits_of(model, Prompt.user(picture, "How much is it?"), 3)
    model.clear_cache()
    np.testing.assert_allclose(logits_of(model, Prompt.user(picture, "How much is it?"), 3), second, rtol=0, atol=2e-4)


def test_tokens_of_pictures(name: str, model: MtmdModel, files: ModelFiles) -> None:
    """A frame of a video, and --detail low, has the tokens that the limits tell, whatever its size and form."""
    family, limits = FAMILIES[name], MtmdModel.limits(files)
    assert (limits.context, limits.tile, limits.splits) == (CONTEXT, family.side, False)
    large = noise(8, 4 * family.side, 2 * family.side)
    frames = Prompt.user(large, noise(9, family.side), "What happens?", split=False)
    counted = model.prepare(frames).image_tokens
    assert counted == 2 * limits.tile_tokens == 2 * family.tokens
    with closing(MtmdModel(files, Model(threads=1, detail="low"))) as low:
        assert low.prepare(Prompt.user(large, "What?")).image_tokens == counted // 2
    assert model.prepare(Prompt.user(large, "What?")).image_tokens >= counted // 2


def finish_of(model: MtmdModel, prompt: Prompt, options: Generate) -> tuple[str, Finish]:
    pieces = list(generate(model, [prompt], options))
    assert pieces[-1].finish is not None
    return "".join(piece.text for piece in pieces), pieces[-1].finish


def test_a_schema_is_enforced(name: str, model: MtmdModel) -> None:
    options = Generate(max_tokens=120, schema=canonicalize("total int, kind"))
    text, finish = finish_of(model, Prompt.user(noise(1, FAMILIES[name].side), "Which?"), options)
    assert finish.fault is None
    if finish.reason == "stop":  # random weights may write a number for ever
        assert set(json.loads(text)) == {"total", "kind"}
    assert text.startswith('{"total":')


def test_a_prompt_that_fills_the_context_is_a_fault(name: str, model: MtmdModel) -> None:
    if name == "qwen2vl":
        _, finish = finish_of(model, Prompt.user("1" * CONTEXT), Generate(max_tokens=2))
        assert finish.fault is not None and finish.fault.kind == "too-long"


# ---- what cannot be loaded -----------------------------------------------------------------------------


def with_text(path: Path, old: str, new: str, target: Path) -> Path:
    """A copy of a GGUF file with another text of the same length."""
    assert len(old) == len(new)
    target.write_bytes(path.read_bytes().replace(old.encode(), new.encode()))
    return target


@pytest.fixture(scope="module")
def qwen(tmp_path_factory: pytest.TempPathFactory) -> ModelFiles:
    return make_pair(tmp_path_factory.mktemp("qwen"), "qwen2vl", 3)


@pytest.mark.parametrize(
    ("half", "old", "new", "message"),
    [
        (
            "gguf",
            "qwen2vl",
            "newarch",
            "it has an architecture newarch, which this llama.cpp does not know; pip ",
        ),
        ("mmproj", "qwen2vl_merger", "hypothesis_new", "a projector of type hypothesis_new, which this llama.cpp does"),
        ("mmproj", "clip.vision.image_size", "clip.vision.image_sise", "does not say the sizes of its pictures"),
        ("mmproj", "mm.0.weight", "mm.9.weight", "cannot be loaded beside this language model"),
    ],
)
def test_what_mtmd_does_not_know_is_said_before_weights_are_read(
    half: str, old: str, new: str, message: str, qwen: ModelFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = with_text(getattr(qwen, half), old, new, tmp_path / "bad.gguf")
    loaded: list[Any] = []
    load = llama.llama_model_load_from_file
    spied = lambda path, params: (loaded.append(path) if not params.vocab_only else None) or load(path, params)  # noqa: E731
    monkeypatch.setattr(llama, "llama_model_load_from_file", spied)
    halves: dict[str, Any] = {half: bad}
    with pytest.raises(ModelError, match=message):
        MtmdModel(replace(qwen, **halves), Model(threads=1))
    assert bool(loaded) == message.startswith("cannot be loaded")


def test_halves_of_two_models_are_refused(qwen: ModelFiles, tmp_path: Path) -> None:
    other = make_pair(tmp_path, "internvl")
    with pytest.raises(ModelError, match="is the vision half of a model"):
        MtmdModel(replace(qwen, gguf=qwen.mmproj), Model(threads=1))
    with pytest.raises(ModelError, match="not a vision half; give the mmproj"):
        mtmd_model.check_supported(replace(qwen, mmproj=other.gguf))


# ---- transformers --------------------------------------------------------------------------------------


def test_qwen2_vl_has_the_logits_of_transformers(qwen: ModelFiles) -> None:
    """With a picture of whole patches, which nobody resizes; transformers gets the weights of the pair."""
    import gguf
    import torch
    from transformers import Qwen2VLConfig, Qwen2VLForConditionalGeneration

    weights = {
        tensor.name: torch.from_numpy(np.array(tensor.data))
        for path in (str(qwen.gguf), str(qwen.mmproj))
        for tensor in gguf.GGUFReader(path).tensors
    }
    reference = Qwen2VLForConditionalGeneration(Qwen2VLConfig(**qwen_config(len(weights["token_embd.weight"]))))
    reference.load_state_dict(qwen_names(weights), strict=True)
    picture = noise(11, 112, 84)
    with closing(MtmdModel(qwen, Model(threads=1))) as model:
        prompt = Prompt.user(picture, "What is this?")
        prepared, ours = model.prepare(prompt), logits_of(model, prompt)[0]
    image_id = FAMILIES["qwen2vl"].markers.index("<|image_pad|>") + 259
    ids = [
        token
        for part in prepared.parts
        for token in ([image_id] * prepared.image_tokens if isinstance(part, bytes) else part)
    ]
    scaled = torch.frombuffer(bytearray(picture.rgb), dtype=torch.uint8).view(84, 112, 3).float().div(127.5).sub(1)
    with torch.inference_mode():
        theirs = reference.eval()(
            input_ids=torch.tensor([ids]), pixel_values=patches_of(scaled), image_grid_thw=torch.tensor([[1, 6, 8]]),
            mm_token_type_ids=torch.tensor([[int(token == image_id) for token in ids]]),
        ).logits[0, -1].double().log_softmax(-1)  # fmt: skip
    ours_log = torch.from_numpy(ours).double().log_softmax(-1)
    assert int(ours_log.argmax()) == int(theirs.argmax())
    assert float((theirs.exp() * (theirs - ours_log)).sum()) < 1e-5  # Kullback-Leibler divergence in nats


def qwen_config(vocabulary: int) -> dict[str, Any]:
    image = FAMILIES["qwen2vl"].markers.index("<|image_pad|>") + 259
    text = {
        "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "max_position_embeddings": CONTEXT, "vocab_size": vocabulary, "rms_norm_eps": 1e-6,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 3, 3]},
        "tie_word_embeddings": False, "bos_token_id": 259, "eos_token_id": 260, "pad_token_id": 259,
    }  # fmt: skip
    vision = {
        "depth": 4, "embed_dim": 32, "hidden_size": 64, "num_heads": 2, "mlp_ratio": 2, "patch_size": 14,
        "spatial_merge_size": 2, "temporal_patch_size": 2, "hidden_act": "quick_gelu",
    }  # fmt: skip
    special = {"image_token_id": image, "video_token_id": image - 5, "tie_word_embeddings": False}
    return {"text_config": text, "vision_config": vision, "vision_start_token_id": image - 2, **special}


def qwen_names(weights: dict[str, Any]) -> dict[str, Any]:
    """The weights of the pair by transformers' names."""
    import torch

    text = {
        "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm", "attn_q": "self_attn.q_proj",
        "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj",
        "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
    }  # fmt: skip
    vision = {"ln1": "norm1", "ln2": "norm2", "attn_out": "attn.proj", "ffn_up": "mlp.fc1", "ffn_down": "mlp.fc2"}
    ends = {
        "token_embd": "model.language_model.embed_tokens", "output_norm": "model.language_model.norm",
        "output": "lm_head", "v.post_ln": "model.visual.merger.ln_q", "mm.0": "model.visual.merger.mlp.0",
        "mm.2": "model.visual.merger.mlp.2",
    }  # fmt: skip
    named: dict[str, Any] = {}
    for key, weight in weights.items():
        name, _, kind = key.rpartition(".")
        if name in ends:
            named[f"{ends[name]}.{kind}"] = weight
        elif key.startswith("blk."):
            _, number, module = name.split(".")
            named[f"model.language_model.layers.{number}.{text[module]}.{kind}"] = weight
        elif key.startswith("v.blk.") and (module := name.split(".")[3]) in vision:
            named[f"model.visual.blocks.{name.split('.')[2]}.{vision[module]}.{kind}"] = weight
    for layer in range(4):
        for kind in ("weight", "bias"):
            parts = [weights[f"v.blk.{layer}.attn_{letter}.{kind}"] for letter in "qkv"]
            named[f"model.visual.blocks.{layer}.attn.qkv.{kind}"] = torch.cat(parts)
    frames = [weights["v.patch_embd.weight"], weights["v.patch_embd.weight.1"]]
    named["model.visual.patch_embed.proj.weight"] = torch.stack(frames, 2)
    return named


def patches_of(scaled: Any) -> Any:
    """The patches of a picture (height, width, 3) as Qwen2VLImageProcessor lays them out: 2 x 2 that are merged.

    Each is there for both frames of a pair.
    """
    rows, columns = scaled.shape[0] // 28, scaled.shape[1] // 28
    blocks = scaled.view(rows, 2, 14, columns, 2, 14, 3).permute(0, 3, 1, 4, 6, 2, 5)
    patches = blocks.reshape(rows * columns * 4, 3, 1, 14, 14)
    return patches.expand(-1, -1, 2, -1, -1).reshape(rows * columns * 4, -1)
