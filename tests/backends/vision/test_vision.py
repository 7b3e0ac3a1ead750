"""Every vision encoder other than mtmd: compared with mtmd and PyTorch, and on damaged files."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import llama_cpp as llama
import numpy as np
import pytest
from gguf import GGMLQuantizationType as Type
from gguf import GGUFReader, GGUFWriter
from numpy.typing import NDArray
from PIL import Image

from smolcli import registry
from smolcli.backends.gguf_layout import read_layout
from smolcli.backends.llamacpp import amx_probe
from smolcli.backends.llamacpp.backend import LlamaCpp
from smolcli.backends.pytorch import PyTorch
from smolcli.backends.vision.mtmd import MtmdEncoder
from smolcli.backends.vision.openvino_import import ov
from smolcli.converters import convert
from smolcli.errors import ModelError, UnavailableError
from smolcli.models import resolve
from smolcli.models.files import ModelFiles
from smolcli.nano.evaluate import answers
from smolcli.nano.suites import frame
from smolcli.options import Model
from smolcli.process.child import call
from smolcli.types import Frame, Prompt
from tests.backends.vision.encoders import (
    EMBEDDING_SIZE,
    ENCODERS,
    MTMD,
    cosines,
    encode,
    encode_with_mtmd,
    exact,
    make_encoder,
    noise,
)
from tests.tiny import make_checkpoint

SAMPLES = sorted((Path(__file__).parents[3] / "docs" / "samples").glob("*.png"))
MAX_BATCH_SIZE = 4  # the most tiles that one of them encodes at once


@pytest.fixture(params=ENCODERS)
def encoder_name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


# ---- the same embeddings and the same replies ---------------------------------------------------------


@pytest.mark.parametrize("tile", [64, 384, 512])
@pytest.mark.parametrize("variant", ["v1", "v2"])
def test_every_shape_has_the_embeddings_of_mtmd_and_of_pytorch(
    tmp_path: Path, encoder_name: str, variant: str, tile: int
) -> None:
    folder = make_checkpoint(tmp_path / "Tiny", variant, tile, tile=tile)
    files = ModelFiles("Tiny", folder, *convert(folder, folder, "f32", "f32"))
    assert files.mmproj is not None
    tiles = [noise(seed, tile) for seed in range(MAX_BATCH_SIZE + 2)]
    ours = encode(files.mmproj, tiles, exact(encoder_name))
    assert min(cosines(ours, encode_with_mtmd(files, tiles))) > 0.99999
    prompt = Prompt.user(*(Frame(rgb, tile, tile) for rgb in tiles), "?", split=False)
    with closing(PyTorch(files, exact("auto"))) as torch:
        theirs = torch.embeddings(prompt).numpy().reshape(ours.shape)
    assert float(np.abs(theirs).max()) > 1
    assert float(np.abs(ours - theirs).max()) < 1e-4


@pytest.mark.parametrize("dtype", ["float32", "auto", "bfloat16"])
def test_nano_has_the_embeddings_of_mtmd(encoder_name: str, dtype: str) -> None:
    files = resolve.resolve(MTMD, "llamacpp")
    options = Model(threads=1, dtype=dtype, vision_encoder=encoder_name)
    assert files.mmproj is not None
    side = read_layout(files.mmproj).tile
    tiles = [noise(1, side), bytes(3 * side * side)]
    tiles += [Image.open(path).convert("RGB").resize((side, side)).tobytes() for path in SAMPLES]
    capabilities = ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    if encoder_name == "openvino" and dtype == "bfloat16" and "BF16" not in capabilities:
        with pytest.raises(UnavailableError, match=r"does not compute in bfloat16; leave out --dtype"):
            make_encoder(files.mmproj, options, 192)
        return
    ours = encode(files.mmproj, tiles, options, embedding_size=192)
    assert min(cosines(ours, encode_with_mtmd(files, tiles))) > (0.99999 if dtype == "float32" else 0.9995)


@pytest.mark.slow
def test_nano_gives_the_answers_of_mtmd_and_of_pytorch(encoder_name: str) -> None:
    prompts = [Prompt.user(frame(Image.open(path).convert("RGB")), "Describe this image.") for path in SAMPLES]
    prompts += [
        Prompt.user(frame(Image.open(path).convert("RGB")), "What is written in the image?") for path in SAMPLES
    ]
    texts = []
    for options in (exact(encoder_name), MTMD):
        with closing(LlamaCpp(resolve.resolve(options, "llamacpp"), options)) as backend:
            assert isinstance(backend._vision, MtmdEncoder) is (options is MTMD)
            texts.append(answers(backend, prompts, 60))
    with closing(PyTorch(resolve.resolve(MTMD, "torch"), exact("auto"))) as torch:
        texts.append(answers(torch, prompts, 60))
    assert texts[0] == texts[1] == texts[2]
    assert len(set(texts[0])) > len(SAMPLES)


@pytest.mark.parametrize("kind", ["f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0"])
def test_every_type_that_the_converters_write(checkpoint: Path, tmp_path: Path, encoder_name: str, kind: str) -> None:
    """mtmd also rounds activations to the type of the file, which is most of the difference."""
    pair = ModelFiles("Tiny", None, *convert(checkpoint, tmp_path, "f32", kind))
    assert pair.mmproj is not None
    tiles = [noise(seed, 64) for seed in range(2)]
    ours = encode(pair.mmproj, tiles, exact(encoder_name))
    assert min(cosines(ours, encode_with_mtmd(pair, tiles))) > 0.9995
    tensors = {tensor.name: tensor for tensor in GGUFReader(pair.mmproj).tensors}
    assert tensors["mm.model.fc.weight"].tensor_type == Type[kind.upper()]
    low = encode(pair.mmproj, tiles, Model(threads=1, vision_encoder=encoder_name))
    assert min(cosines(low, ours)) > 0.9995


def test_tiles_are_encoded_alike_alone_and_in_a_batch(mmproj: Path, encoder_name: str) -> None:
    tiles = [noise(seed, 64) for seed in range(2 * MAX_BATCH_SIZE + 1)]
    with closing(make_encoder(mmproj, exact(encoder_name))) as vision:
        together = vision.encode(tiles)
        vision.clear_cache()
        alone = [vision.encode([tile])[0] for tile in tiles]
        assert vision.encode([]) == []
    assert all(
        array.flags.c_contiguous and array.dtype == np.float32 for array in together
    )  # llama.cpp copies their memory
    assert float(np.abs(np.stack(together) - np.stack(alone)).max()) < (1e-5 if encoder_name == "torch" else 1e-30)


def test_a_tile_is_encoded_once_until_the_cache_is_cleared(
    mmproj: Path, encoder_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiles = [noise(1, 64), noise(2, 64), noise(1, 64)]
    batches: list[int] = []
    with closing(make_encoder(mmproj, exact(encoder_name))) as vision:
        encode = vision._encode
        monkeypatch.setattr(vision, "_encode", lambda tiles: batches.append(len(tiles)) or encode(tiles))
        first = vision.encode(tiles)
        vision.encode(tiles[:1])
        vision.clear_cache()
        vision.encode(tiles[:1])
    assert batches == [2, 1]
    assert np.array_equal(first[0], first[2]) and not np.array_equal(first[0], first[1])


def test_the_weights_live_as_long_as_the_encoder(checkpoint: Path, tmp_path: Path, encoder_name: str) -> None:
    for kind in ("f16", "q8_0"):
        mmproj = convert(checkpoint, tmp_path, "f32", kind)[1]
        with closing(make_encoder(mmproj, exact(encoder_name))) as vision:
            gc.collect()
            junk = [np.full(2**18, 0xAB, np.uint8) for _ in range(64)]
            late = vision.encode([noise(1, 64)])[0]
        del junk
        assert np.array_equal(late, encode(mmproj, [noise(1, 64)], exact(encoder_name))[0])
        assert float(np.abs(late).max()) > 0.1


def test_mtmd_is_not_loaded_too(files: ModelFiles, encoder_name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("smolcli.backends.vision.mtmd.mtmd.mtmd_init_from_file", lambda *_: pytest.fail("loaded twice"))
    with closing(LlamaCpp(files, exact(encoder_name))) as backend:
        assert backend.embeddings(Prompt.user(Frame(noise(3, 64), 64, 64), "?")).shape == (16, EMBEDDING_SIZE)


def test_it_computes_in_a_single_thread_other_than_llama_cpps(
    files: ModelFiles, encoder_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """AMX's tile configuration belongs to a thread: llama.cpp sets it once, and another library would replace it."""
    encoder_class = registry.load(registry.VISION_ENCODERS, encoder_name)
    threads: dict[str, list[threading.Thread]] = {}

    def spy(owner: Any, name: str) -> None:
        method, seen = getattr(owner, name), threads.setdefault(name, [])
        monkeypatch.setattr(owner, name, lambda *args: seen.append(threading.current_thread()) or method(*args))

    for owner, name in (
        (encoder_class, "__init__"),
        (encoder_class, "_encode"),
        (encoder_class, "close"),
        (llama, "llama_decode"),
    ):
        spy(owner, name)
    with closing(LlamaCpp(files, exact(encoder_name))) as backend:
        for seed in range(2):
            backend.logits(Prompt.user(Frame(noise(seed, 64), 64, 64), "?"))
        backend.close()  # closing() closes it again
    assert [len(threads[name]) for name in ("__init__", "_encode", "close")] == [1, 2, 1]
    theirs = set(threads.pop("llama_decode"))
    [ours] = {thread for seen in threads.values() for thread in seen}
    assert theirs and ours not in theirs and not ours.is_alive()


def test_encoding_a_second_picture_does_not_break_llama_cpp(tmp_path: Path, encoder_name: str) -> None:
    """If both llama.cpp and the encoder compute with AMX in one thread, llama.cpp crashes at the second picture."""
    nano = resolve.resolve(MTMD, "llamacpp")
    assert nano.gguf is not None
    amx_probe.quantize(nano.gguf, tmp_path / "nano-Q8_0.gguf", amx_probe.FILE_TYPES[0])
    assert (
        call(
            "tests.backends.vision.encoders:difference_when_repeated",
            tmp_path / "nano-Q8_0.gguf",
            nano.mmproj,
            encoder_name,
        )
        < 0.01
    )


# ---- damaged and unsuitable files ---------------------------------------------------------------------

Keys = dict[str, Any]
Tensors = dict[str, NDArray[np.float32]]


def rewrite(source: Path, target: Path, edit: Callable[[Keys, Tensors], object]) -> Path:
    """Write a copy of a float32 mmproj with edited keys or tensors to `target`, and return it."""
    reader = GGUFReader(source)
    keys = {name: field.contents() for name, field in reader.fields.items() if not name.startswith("GGUF.")}
    kinds = {name: field.types for name, field in reader.fields.items()}
    tensors = {tensor.name: np.array(tensor.data) for tensor in reader.tensors}
    edit(keys, tensors)
    writer = GGUFWriter(target, keys.pop("general.architecture"))
    for name, value in keys.items():
        writer.add_key_value(name, value, kinds[name][0], kinds[name][1] if len(kinds[name]) > 1 else None)
    for name, tensor in tensors.items():
        writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return target


def swap_feed_forward(tensors: Tensors) -> None:
    for name in [name for name in tensors if ".ffn_up." in name]:
        other = name.replace("ffn_up", "ffn_down")
        tensors[name], tensors[other] = tensors[other], tensors[name]


def test_old_files_with_swapped_names_of_the_feed_forward(
    files: ModelFiles, mmproj: Path, tmp_path: Path, encoder_name: str
) -> None:
    old = rewrite(mmproj, tmp_path / "mmproj-old.gguf", lambda keys, tensors: swap_feed_forward(tensors))
    tiles = [noise(5, 64)]
    assert np.array_equal(encode(old, tiles, exact(encoder_name)), encode(mmproj, tiles, exact(encoder_name)))
    theirs = encode_with_mtmd(ModelFiles("x", gguf=files.gguf, mmproj=old), tiles)
    assert cosines(encode(old, tiles, exact(encoder_name)), theirs)[0] > 0.99999


def test_the_mean_and_deviation_of_the_file_are_used(
    files: ModelFiles, mmproj: Path, tmp_path: Path, encoder_name: str
) -> None:
    change = {"clip.vision.image_mean": [0.4, 0.5, 0.6], "clip.vision.image_std": [0.2, 0.3, 0.4]}
    other = rewrite(mmproj, tmp_path / "mmproj-other.gguf", lambda keys, tensors: keys.update(change))
    tiles = [noise(6, 64)]
    theirs = encode_with_mtmd(ModelFiles("x", gguf=files.gguf, mmproj=other), tiles)
    assert cosines(encode(other, tiles, exact(encoder_name)), theirs)[0] > 0.99999
    assert cosines(encode(other, tiles, exact(encoder_name)), encode(mmproj, tiles, exact(encoder_name)))[0] < 0.999


def narrow(name: str) -> Callable[[Keys, Tensors], object]:
    return lambda keys, tensors: tensors.update({name: tensors[name][..., :32].copy()})


VISION_KEYS = "clip.vision."
DAMAGE: dict[str, tuple[Callable[[Keys, Tensors], object], str]] = {
    "another family": (lambda keys, _: keys.update({"clip.projector_type": "llava"}), "not the vision half of a Smol"),
    "another activation": (lambda keys, _: keys.update({"clip.use_gelu": False}), "its activation is not GELU"),
    "no activation": (lambda keys, _: keys.pop("clip.use_gelu"), "lacks 'clip.use_gelu'"),
    "no heads": (
        lambda keys, _: keys.pop(f"{VISION_KEYS}attention.head_count"),
        "lacks 'clip.vision.attention.head_count'",
    ),
    "zero heads": (lambda keys, _: keys.update({f"{VISION_KEYS}attention.head_count": 0}), "head_count is 0"),
    "odd heads": (lambda keys, _: keys.update({f"{VISION_KEYS}attention.head_count": 5}), "5 heads of 64"),
    "no mean": (lambda keys, _: keys.pop(f"{VISION_KEYS}image_mean"), "lacks 'clip.vision.image_mean'"),
    "two means": (lambda keys, _: keys.update({f"{VISION_KEYS}image_mean": [0.5, 0.5]}), "image_mean is"),
    "more blocks": (lambda keys, _: keys.update({f"{VISION_KEYS}block_count": 3}), r"lacks 'v\.blk\.2\."),
    "no blocks": (lambda keys, _: keys.update({f"{VISION_KEYS}block_count": 0}), "block_count is 0"),
    "no last norm": (lambda _, tensors: tensors.pop("v.post_ln.bias"), "lacks 'v.post_ln.bias'"),
    "no matrix": (lambda _, tensors: tensors.pop("v.blk.1.attn_k.weight"), "lacks 'v.blk.1.attn_k.weight'"),
    "a narrow matrix": (narrow("v.blk.0.attn_q.weight"), "shape of v.blk.0.attn_q.weight"),
    "a narrow norm": (narrow("v.blk.1.ln2.bias"), "shape of v.blk.1.ln2.bias"),
    "a narrow bias": (narrow("v.blk.1.ffn_down.bias"), "shape of v.blk.1.ffn_down.bias"),
    "a narrow middle": (narrow("v.blk.1.ffn_down.weight"), "shape of v.blk.1.ffn_down.weight"),
    "no middle": (lambda _, tensors: tensors.pop("v.blk.0.ffn_up.weight"), "lacks 'v.blk.0.ffn_up.weight'"),
}  # fmt: skip


@pytest.mark.parametrize("how", DAMAGE)
def test_the_error_for_an_unsuitable_file_names_it(
    files: ModelFiles, mmproj: Path, tmp_path: Path, encoder_name: str, how: str
) -> None:
    edit, message = DAMAGE[how]
    bad = rewrite(mmproj, tmp_path / "mmproj-bad.gguf", edit)
    with pytest.raises(ModelError, match=message) as caught:
        LlamaCpp(ModelFiles("x", gguf=files.gguf, mmproj=bad), exact(encoder_name))
    assert str(bad) in str(caught.value) and caught.value.advice


def test_the_mmproj_of_another_model_is_an_error(files: ModelFiles, tmp_path: Path, encoder_name: str) -> None:
    other = make_checkpoint(tmp_path / "Wide", "v2", 1, width=128)
    pair = convert(other, other, "f32", "f32")
    with pytest.raises(ModelError, match="does not fit this language model; give the mmproj made with it"):
        LlamaCpp(ModelFiles("x", gguf=files.gguf, mmproj=pair[1]), exact(encoder_name))


def test_the_error_for_a_broken_installation_names_the_alternative(
    files: ModelFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(name: str) -> None:
        raise ImportError("libopenvino.so: cannot open shared object file")

    monkeypatch.setattr(registry, "import_module", broken)
    with pytest.raises(UnavailableError, match=r"cannot be loaded \(libopenvino.so.*--vision-engine mtmd"):
        LlamaCpp(files, exact("openvino"))
