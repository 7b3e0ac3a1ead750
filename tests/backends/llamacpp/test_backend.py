"""llamacpp/backend.py, vision/mtmd.py and gguf_header.py against transformers in float32, and on damaged files."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import gguf
import llama_cpp as llama
import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, PreTrainedTokenizerFast
from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil
from transformers.models.idefics3.processing_idefics3 import Idefics3Processor

from smolcli import registry
from smolcli.backends.gguf_layout import read_layout
from smolcli.backends.image_processor import Layout
from smolcli.backends.llamacpp import amx_probe
from smolcli.backends.llamacpp.backend import LlamaCpp
from smolcli.backends.llamacpp.vocabulary import LlamaVocabulary, Utf8Decoder
from smolcli.backends.vision.mtmd import MtmdEncoder
from smolcli.converters import convert
from smolcli.errors import EngineError, ModelError
from smolcli.generation.scheduler import generate
from smolcli.models.files import ModelFiles
from smolcli.models.gguf_header import BLOCKS, read_header
from smolcli.options import Generate, Model
from smolcli.types import Finish, Frame, Prompt
from tests.tiny import TEMPLATE, make_checkpoint

TILE = 64
TYPES = "tokenizer.ggml.token_type"  # a key of GGUF files
ENDS = ("<|endoftext|>", "<|im_end|>", "<end_of_utterance>")
TWELVE_TOKENS = Generate(max_tokens=12)


def noise(seed: int, width: int, height: int) -> Frame:
    return Frame(np.random.default_rng(seed).bytes(3 * width * height), width, height)


PROMPTS = {
    "one picture in tiles": Prompt.user(noise(1, 120, 90), "What is in the picture?"),
    "two interleaved pictures": Prompt.user("Is ", noise(2, 70, 40), " left of ", noise(3, 30, 60), "?", system="Say."),
    "unsplit": Prompt.user(noise(4, 100, 80), noise(5, 20, 30), "Which?", split=False),
    "text only": Prompt.user("What is in the image?"),
}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("llamacpp") / "Tiny", "v2", 5, tile=TILE)


@pytest.fixture(scope="module")
def files(checkpoint: Path) -> ModelFiles:
    return ModelFiles("Tiny", checkpoint, *convert(checkpoint, checkpoint, "f32", "f32"))


@pytest.fixture
def backend(files: ModelFiles) -> Iterator[LlamaCpp]:
    with closing(LlamaCpp(files, Model(threads=1, detail="2", vision_encoder="mtmd"))) as backend:
        yield backend


@pytest.fixture(scope="module")
def reference(checkpoint: Path) -> Any:
    torch.set_num_threads(1)
    return AutoModelForImageTextToText.from_pretrained(checkpoint, dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def processor(checkpoint: Path) -> Idefics3Processor:
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(checkpoint / "tokenizer.json"), pad_token="<|im_end|>")
    images = Idefics3ImageProcessorPil(max_image_size={"longest_edge": TILE})
    return Idefics3Processor(images, tokenizer, image_seq_len=16, chat_template=TEMPLATE)


def inputs(processor: Idefics3Processor, prompt: Prompt) -> dict[str, torch.Tensor]:
    """The inputs that transformers' own template and processor make of a prompt."""
    messages: list[Any] = [
        {
            "role": turn.role,
            "content": [{"type": "image"} if isinstance(p, Frame) else {"type": "text", "text": p} for p in turn.parts],
        }
        for turn in prompt.turns
    ]
    images = [Image.frombytes("RGB", (frame.width, frame.height), frame.rgb) for frame in prompt.decoded_frames]
    text = processor.apply_chat_template(messages, add_generation_prompt=True)
    return dict(
        processor(
            text=[text],
            images=[images] if images else None,
            do_image_splitting=prompt.split,
            size={
                "longest_edge": (1 + prompt.split) * TILE
            },  # as backends/image_processor.py does: without splitting, the longest edge is one tile
            return_tensors="pt",
        )
    )


def answer(backend: LlamaCpp, prompt: Prompt, options: Generate = TWELVE_TOKENS) -> tuple[str, Finish]:
    pieces = list(generate(backend, [prompt], options))
    assert pieces[-1].finish is not None
    return "".join(piece.text for piece in pieces), pieces[-1].finish


@pytest.mark.parametrize("name", PROMPTS)
@torch.inference_mode()
def test_logits_and_greedy_text_equal_those_of_transformers(
    name: str, backend: LlamaCpp, reference: Any, processor: Idefics3Processor
) -> None:
    model_inputs = inputs(processor, PROMPTS[name])
    theirs = reference(**model_inputs).logits[0, -1].double().log_softmax(-1)
    ours = torch.from_numpy(backend.logits(PROMPTS[name])[0]).double().log_softmax(-1)
    assert float((theirs.exp() * (theirs - ours)).sum()) < 1e-6  # Kullback-Leibler divergence in nats
    sequence = reference.generate(**model_inputs, max_new_tokens=TWELVE_TOKENS.max_tokens, do_sample=False)[0]
    ids = sequence[model_inputs["input_ids"].shape[1] :]
    text, finish = answer(backend, PROMPTS[name])
    expected = processor.tokenizer.decode(ids, skip_special_tokens=True)
    assert text == expected.rstrip("\ufffd")  # random weights may end in the middle of a character
    assert finish.tokens.prompt == model_inputs["input_ids"].shape[1]
    assert finish.tokens.image == int((model_inputs["input_ids"] == reference.config.image_token_id).sum())
    is_ended = int(ids[-1]) in reference.generation_config.eos_token_id
    assert (finish.reason, finish.tokens.new) == ("stop" if is_ended else "length", len(ids) - is_ended)


@pytest.mark.parametrize("tile", [64, 384, 512])
@torch.inference_mode()
def test_a_tile_has_the_embeddings_of_transformers_and_is_not_resized(tmp_path: Path, tile: int) -> None:
    folder = make_checkpoint(tmp_path / "Tiny", "v1", 2, tile=tile)
    files = ModelFiles("Tiny", folder, *convert(folder, folder, "f32", "f32"))
    pixels = np.random.default_rng(tile).integers(0, 256, (tile, tile, 3), np.uint8)
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()
    scaled = torch.from_numpy(pixels).permute(2, 0, 1).float().div(127.5).sub(1)
    theirs = model.model.get_image_features(scaled[None, None], return_dict=True).pooler_output[0].double()
    with closing(LlamaCpp(files, Model(threads=1, vision_encoder="mtmd"))) as backend:
        ours = torch.from_numpy(backend._vision.encode([pixels.tobytes()])[0]).double()
    assert ours.shape == theirs.shape
    assert float((ours - theirs).norm() / theirs.norm()) < 2e-3  # llama.cpp's GELU comes from a half precision table


def test_the_tokens_and_seconds_of_a_reply(backend: LlamaCpp) -> None:
    finishes = [
        piece.finish
        for load_seconds in (1.5, 0.0)
        for piece in generate(backend, [PROMPTS["one picture in tiles"]], TWELVE_TOKENS, load_seconds=load_seconds)
        if piece.finish
    ]
    assert [finish.tokens.image for finish in finishes] == [5 * 16] * 2  # 2 x 2 tiles and the global one
    assert finishes[0].tokens == finishes[1].tokens
    first, second = (finish.seconds for finish in finishes)
    assert (first.load, second.load) == (1.5, 0.0)
    assert all(seconds.media > 0 and seconds.prefill > 0 and seconds.decode > 0 for seconds in (first, second))
    assert second.encode < first.encode / 2


def test_equal_tiles_are_encoded_once(backend: LlamaCpp, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[bytes] = []
    assert isinstance(backend._vision, MtmdEncoder)
    encode = backend._vision._encode
    monkeypatch.setattr(backend._vision, "_encode", lambda tile: calls.append(tile) or encode(tile))
    blank = Frame(b"\xff" * (3 * 2 * TILE * 2 * TILE), 2 * TILE, 2 * TILE)
    answer(backend, Prompt.user(blank, "What?"), Generate(max_tokens=1))
    answer(backend, Prompt.user("And this? ", blank), Generate(max_tokens=1))
    assert len(calls) == 1


def test_the_smallest_nucleus_is_greedy(backend: LlamaCpp) -> None:
    prompt = PROMPTS["text only"]
    assert answer(backend, prompt, Generate(12, temperature=0.7, top_p=1e-6, seed=3))[0] == answer(backend, prompt)[0]


def test_sampled_tokens_follow_the_logits(backend: LlamaCpp) -> None:
    prompt, temperature, draws = PROMPTS["text only"], 0.5, 300
    logits = torch.from_numpy(backend.logits(prompt)[0]).double() / temperature
    best = int(logits.argmax())
    share = float(logits.softmax(-1)[best])
    piece = backend.vocabulary.token_bytes(best).decode()
    hits = sum(
        answer(backend, prompt, Generate(1, temperature=temperature, seed=seed))[0] == piece for seed in range(draws)
    )
    assert abs(hits / draws - share) < 4 * (share * (1 - share) / draws) ** 0.5  # four standard deviations


def test_the_context_ends_a_reply_and_a_prompt_that_fills_it_is_a_fault(files: ModelFiles) -> None:
    with closing(LlamaCpp(files, Model(threads=1))) as backend:
        context = 2048  # max_position_embeddings of the tiny model
        _, fault = answer(backend, Prompt.user("1" * context))
        assert fault.fault is not None and fault.fault.kind == "too-long"
        template = fault.tokens.prompt - context  # tokens of the chat template
        _, last = answer(backend, Prompt.user("1" * (context - template)))
        assert last.fault is not None and last.tokens.prompt == context
        _, fits = answer(backend, Prompt.user("1" * (context - template - 3)), Generate(max_tokens=50))
        assert fits.tokens.prompt == context - 3
        assert fits.tokens.new <= 3
        with pytest.raises(EngineError):
            backend.logits(Prompt.user("1" * context))


def test_a_failure_of_the_encoder_is_the_fault_of_one_reply(backend: LlamaCpp, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(tile: bytes) -> None:
        raise EngineError("llama.cpp could not encode a tile")

    monkeypatch.setattr(backend._vision, "_encode", fail)
    prompts = [PROMPTS["unsplit"], PROMPTS["text only"]]
    failed, answered = [piece.finish for piece in generate(backend, prompts, TWELVE_TOKENS) if piece.finish]
    assert failed.reason == "error" and failed.fault is not None and failed.fault.kind == "engine"
    assert answered.fault is None


@pytest.mark.parametrize(
    ("pieces", "texts"),
    [
        ([b"a", b"b"], ["a", "b"]),
        ([b"\xe6", b"\x97", b"\xa5", b"!"], ["", "", "日", "!"]),
        ([b"\xf0\x9f\x99\x82x", b"y"], ["🙂x", "y"]),
        ([b"\xff", b"a"], ["", "\ufffda"]),
        ([b"ok\xc3", b"\xa9"], ["", "oké"]),
    ],
)
def test_the_bytes_of_an_incomplete_character_are_held_back(pieces: list[bytes], texts: list[str]) -> None:
    decoder = Utf8Decoder()
    assert [decoder.add(piece) for piece in pieces] == texts


@pytest.mark.parametrize("is_typed", [True, False])
def test_the_stop_tokens_of_another_family_are_those_of_llama_cpp(files: ModelFiles, is_typed: bool) -> None:
    """Also where the file does not tell the types of its tokens."""
    assert files.gguf is not None
    header = read_header(files.gguf)
    if not is_typed:
        header = replace(header, keys={**header.keys, TYPES: None})
    with closing(LlamaCpp(files, Model(threads=1, vision_encoder="mtmd"))) as backend:
        vocab = llama.llama_model_get_vocab(backend._model)
        ends = {token for token in range(backend.vocabulary.size) if llama.llama_vocab_is_eog(vocab, token)}
        vocabulary = LlamaVocabulary(backend._model, header, is_own=False)
        assert ends == vocabulary.stop_tokens == {backend.vocabulary.tokenize(text)[0] for text in ENDS}


def test_llama_cpp_prints_warnings_with_verbose_only(
    files: ModelFiles, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def run() -> tuple[str, str]:
        with closing(LlamaCpp(files, Model(threads=1, vision_encoder="mtmd"))) as backend:
            answer(backend, PROMPTS["one picture in tiles"])
        with pytest.raises(ModelError, match="cannot be loaded by llama.cpp"):
            LlamaCpp(ModelFiles("x", gguf=other, mmproj=files.mmproj), Model(threads=1))
        return capfd.readouterr()

    assert files.gguf is not None
    other = tmp_path / "other.gguf"  # an architecture that llama.cpp does not know
    other.write_bytes(files.gguf.read_bytes().replace(b"\x05\0\0\0\0\0\0\0llama", b"\x05\0\0\0\0\0\0\0lemma", 1))
    monkeypatch.delenv("_SMOLCLI_VERBOSE", raising=False)
    assert run() == ("", "")
    monkeypatch.setenv("_SMOLCLI_VERBOSE", "1")
    out, err = run()
    assert out == "" and "lemma" in err


MAPPED = -1  # LLAMA_LOAD_MODE_AUTO, which maps the file if it can


@pytest.mark.parametrize("is_supported", [False, True])
@pytest.mark.parametrize("is_safe", [False, True])
def test_extra_buffers_are_used_if_they_are_safe_and_with_amx_the_file_is_not_mapped(
    files: ModelFiles, monkeypatch: pytest.MonkeyPatch, is_safe: bool, is_supported: bool
) -> None:
    modes: list[tuple[bool, int]] = []
    load = llama.llama_model_load_from_file

    def spied(path: bytes, params: Any) -> Any:
        modes.append((params.use_extra_bufts, params.load_mode))
        params.use_extra_bufts = False  # do not run them, whatever this machine has
        return load(path, params)

    monkeypatch.setattr(llama, "llama_model_load_from_file", spied)
    monkeypatch.setattr(amx_probe, "is_safe", lambda: is_safe)
    monkeypatch.setattr(amx_probe, "is_supported", lambda: is_supported)
    LlamaCpp(files, Model(threads=1)).close()
    mode = llama.LLAMA_LOAD_MODE_NONE if is_safe and is_supported else MAPPED
    assert modes == [(is_safe, mode)]


def set_u32(name: str, value: int) -> Callable[[bytes, int], bytes]:
    def edit(data: bytes, _: int) -> bytes:
        offset = data.index(name.encode()) + len(name) + 4  # the value follows its name and its type
        return data[:offset] + struct.pack("<I", value) + data[offset + 4 :]

    return edit


def head(keys: int, rest: bytes = b"", version: int = 3, tensors: int = 0) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, tensors, keys) + rest


NESTED = struct.pack("<Q", 1) + b"k" + struct.pack("<I", 9) + struct.pack("<IQ", 9, 1) * 5000 + bytes(64)
HUGE_ARRAY = struct.pack("<Q", 1) + b"k" + struct.pack("<IIQ", 9, 10, 2**60)
DAMAGE: dict[str, tuple[Callable[[bytes, int], bytes], str]] = {
    "empty": (lambda data, start: b"", "not a GGUF"),
    "text": (lambda data, start: b"GGML is not it", "not a GGUF"),
    "magic alone": (lambda data, start: data[:4], "damaged"),
    "version": (lambda data, start: head(0, version=9), "version 9"),
    "counts": (lambda data, start: head(2**60, tensors=2**60), "damaged"),
    "array of arrays": (lambda data, start: head(1, NESTED), "damaged"),
    "array larger than memory": (lambda data, start: head(1, HUGE_ARRAY), "damaged"),
    "ends in its keys": (lambda data, start: data[: start // 2], "damaged"),
    "ends in its shapes": (lambda data, start: data[: start - 300], "damaged"),
    "ends in its first tensor": (lambda data, start: data[: start + 10], "cut short"),
    "ends in its last tensor": (lambda data, start: data[:-100], "cut short"),
}


@pytest.mark.parametrize("half", ["gguf", "mmproj"])
@pytest.mark.parametrize("how", DAMAGE)
def test_a_damaged_file_is_reported_before_native_code_reads_it(
    files: ModelFiles, tmp_path: Path, half: str, how: str
) -> None:
    pair: dict[str, Any] = {"gguf": files.gguf, "mmproj": files.mmproj}
    source = pair[half]
    edit, message = DAMAGE[how]
    bad = tmp_path / "bad.gguf"
    bad.write_bytes(edit(source.read_bytes(), gguf.GGUFReader(source).data_offset))
    with pytest.raises(ModelError, match=message) as caught:
        LlamaCpp(ModelFiles("x", **{**pair, half: bad}), Model(threads=1))
    assert caught.value.advice


@pytest.mark.parametrize("key", ["image_size", "patch_size", "embedding_length", "projector.scale_factor"])
@pytest.mark.parametrize("value", [0, 1, 4096])
def test_sizes_that_contradict_the_tensors_are_an_error(
    files: ModelFiles, tmp_path: Path, key: str, value: int
) -> None:
    assert files.mmproj is not None
    bad = tmp_path / "mmproj-bad.gguf"
    bad.write_bytes(set_u32(f"clip.vision.{key}", value)(files.mmproj.read_bytes(), 0))
    with pytest.raises(ModelError, match="contradict"):
        read_layout(bad)


def test_a_tile_that_is_larger_than_the_tensors_say_is_an_error(files: ModelFiles, tmp_path: Path) -> None:
    """The grid of patches still fits; a picture would be cut into tiles of 10 GB."""
    assert files.mmproj is not None
    data, keys = files.mmproj.read_bytes(), read_header(files.mmproj).keys
    for key in ("image_size", "patch_size"):
        data = set_u32(f"clip.vision.{key}", 1000 * keys[f"clip.vision.{key}"])(data, 0)
    bad = tmp_path / "mmproj-bad.gguf"
    bad.write_bytes(data)
    with pytest.raises(ModelError, match="contradict"):
        read_layout(bad)


def test_the_error_for_swapped_or_missing_halves(files: ModelFiles) -> None:
    with pytest.raises(ModelError, match="not the vision half.*give its mmproj"):
        LlamaCpp(ModelFiles("x", gguf=files.gguf, mmproj=files.gguf), Model(threads=1))
    with pytest.raises(ModelError, match="is the vision half.*with -m"):
        LlamaCpp(ModelFiles("x", gguf=files.mmproj, mmproj=files.mmproj), Model(threads=1))
    with pytest.raises(ModelError, match="has no GGUF pair"):
        LlamaCpp(ModelFiles("x", gguf=files.gguf), Model(threads=1))
    with pytest.raises(ModelError, match="No such file"):
        LlamaCpp(ModelFiles("x", gguf=Path("none.gguf"), mmproj=files.mmproj), Model(threads=1))


def test_the_layout_is_the_checkpoints_and_by_default_four_tiles(files: ModelFiles, tmp_path: Path) -> None:
    assert files.mmproj is not None
    assert read_layout(files.mmproj) == Layout(TILE, 16, 4 * TILE)
    old = tmp_path / "mmproj-old.gguf"
    key = b"clip.vision.preproc_image_size"
    old.write_bytes(files.mmproj.read_bytes().replace(key, key[:-1] + b"_"))
    assert read_layout(old) == Layout(TILE, 16, 4 * TILE)


def test_no_splitting_is_read_from_a_checkpoint_and_from_its_pair(checkpoint: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(checkpoint, tmp_path / "Whole")
    settings = folder / "preprocessor_config.json"
    settings.write_text(json.dumps({**json.loads(settings.read_text()), "do_image_splitting": False}))
    language, mmproj = convert(folder, tmp_path, "f16", "f16", "whole")
    pair, loose = ModelFiles("pair", gguf=language, mmproj=mmproj), ModelFiles("loose", checkpoint=folder)
    assert read_layout(mmproj) == Layout(TILE, 16, 4 * TILE, splits=False)
    for name, files in (("llamacpp", pair), ("numpy", pair), ("numpy", loose), ("torch", loose)):
        assert not registry.load(registry.BACKENDS, name).limits(files).splits


def test_the_header_equals_what_the_package_gguf_reads(files: ModelFiles) -> None:
    assert files.gguf is not None
    ours, theirs = read_header(files.gguf), gguf.GGUFReader(files.gguf)
    assert ours.shapes == {tensor.name: tuple(map(int, tensor.shape)) for tensor in theirs.tensors}
    for name, value in ours.keys.items():
        assert value is None or value == theirs.fields[name].contents(), name
    sizes = {int(kind): size for kind, size in gguf.GGML_QUANT_SIZES.items()}
    assert {kind: sizes[kind] for kind in BLOCKS} == BLOCKS
