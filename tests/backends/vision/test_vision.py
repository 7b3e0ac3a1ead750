"""Every encoder of pictures beside mtmd, against it and PyTorch, and on damaged files."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGMLQuantizationType as Type
from gguf import GGUFReader, GGUFWriter
from numpy.typing import NDArray
from PIL import Image

from smolcli import registry
from smolcli.backends.llamacpp import amx_probe, kv_cache
from smolcli.backends.llamacpp.backend import LlamaCpp
from smolcli.backends.pytorch import PyTorch
from smolcli.backends.vision.mtmd import MtmdEncoder, layout_of
from smolcli.backends.vision.openvino_import import ov
from smolcli.converters import convert
from smolcli.errors import ModelError, UnavailableError
from smolcli.models import resolve
from smolcli.models.files import ModelFiles
from smolcli.nano.evaluate import answers, frame
from smolcli.options import Model
from smolcli.process.child import call
from smolcli.types import Frame, Prompt
from tests.backends.vision.encoders import ENGINES, MTMD, WIDTH, by_mtmd, cosines, encoded, encoder, exact, noise
from tests.tiny import make_checkpoint

SAMPLES = sorted((Path(__file__).parents[3] / "docs" / "samples").glob("*.png"))
AT_ONCE = 4  # the most tiles that one of them encodes at once


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


# ---- the same embeddings and the same words ------------------------------------------------------------


@pytest.mark.parametrize("tile", [64, 384, 512])
@pytest.mark.parametrize("variant", ["v1", "v2"])
def test_every_shape_is_that_of_mtmd_and_of_pytorch(tmp_path: Path, engine: str, variant: str, tile: int) -> None:
    folder = make_checkpoint(tmp_path / "Tiny", variant, tile, tile=tile)
    files = ModelFiles("Tiny", folder, *convert(folder, folder, "f32", "f32"))
    assert files.mmproj is not None
    tiles = [noise(seed, tile) for seed in range(AT_ONCE + 2)]
    ours = encoded(files.mmproj, tiles, exact(engine))
    assert min(cosines(ours, by_mtmd(files, tiles))) > 0.99999
    prompt = Prompt.user(*(Frame(each, tile, tile) for each in tiles), "?", split=False)
    with closing(PyTorch(files, exact("auto"))) as torch:
        theirs = torch.embeddings(prompt).numpy().reshape(ours.shape)
    assert float(np.abs(theirs).max()) > 1
    assert float(np.abs(ours - theirs).max()) < 1e-4


@pytest.mark.parametrize("dtype", ["float32", "auto", "bfloat16"])
def test_nano_sees_what_mtmd_sees(engine: str, dtype: str) -> None:
    files = resolve.resolve(MTMD, "llamacpp")
    options = Model(threads=1, dtype=dtype, vision_engine=engine)
    assert files.mmproj is not None
    side = layout_of(files.mmproj).tile
    tiles = [noise(1, side), bytes(3 * side * side)]
    tiles += [Image.open(path).convert("RGB").resize((side, side)).tobytes() for path in SAMPLES]
    able = ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    if engine == "openvino" and dtype == "bfloat16" and "BF16" not in able:
        with pytest.raises(UnavailableError, match=r"does not compute in bfloat16; leave out --dtype"):
            encoder(files.mmproj, options, 192)
        return
    ours = encoded(files.mmproj, tiles, options, width=192)
    assert min(cosines(ours, by_mtmd(files, tiles))) > (0.99999 if dtype == "float32" else 0.9995)


def test_nano_says_what_it_says_with_mtmd_and_with_pytorch(engine: str) -> None:
    prompts = [Prompt.user(frame(Image.open(path).convert("RGB")), "Describe this image.") for path in SAMPLES]
    prompts += [
        Prompt.user(frame(Image.open(path).convert("RGB")), "What is written in the image?") for path in SAMPLES
    ]
    said = []
    for options in (exact(engine), MTMD):
        with closing(LlamaCpp(resolve.resolve(options, "llamacpp"), options)) as backend:
            assert isinstance(backend._vision, MtmdEncoder) is (options is MTMD)
            said.append(answers(backend, prompts, 60))
    with closing(PyTorch(resolve.resolve(MTMD, "torch"), exact("auto"))) as torch:
        said.append(answers(torch, prompts, 60))
    assert said[0] == said[1] == said[2]
    assert len(set(said[0])) > len(SAMPLES)


@pytest.mark.parametrize("kind", ["f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0"])
def test_every_type_that_the_converters_write(checkpoint: Path, tmp_path: Path, engine: str, kind: str) -> None:
    """mtmd rounds what the weights are multiplied with to the file's type too, which is most of the difference."""
    pair = ModelFiles("Tiny", None, *convert(checkpoint, tmp_path, "f32", kind))
    assert pair.mmproj is not None
    tiles = [noise(seed, 64) for seed in range(2)]
    ours = encoded(pair.mmproj, tiles, exact(engine))
    assert min(cosines(ours, by_mtmd(pair, tiles))) > 0.9995
    tensors = {tensor.name: tensor for tensor in GGUFReader(pair.mmproj).tensors}
    assert tensors["mm.model.fc.weight"].tensor_type == Type[kind.upper()]
    low = encoded(pair.mmproj, tiles, Model(threads=1, vision_engine=engine))
    assert min(cosines(low, ours)) > 0.9995


def test_tiles_are_encoded_alike_alone_and_together_and_again(mmproj: Path, engine: str) -> None:
    tiles = [noise(seed, 64) for seed in range(2 * AT_ONCE + 1)]
    with closing(encoder(mmproj, exact(engine))) as vision:
        together = vision.encode(tiles)
        vision.forget()
        alone = [vision.encode([tile])[0] for tile in tiles]
        assert vision.encode([]) == []
    assert all(each.flags.c_contiguous and each.dtype == np.float32 for each in together)  # llama.cpp copies memory
    assert float(np.abs(np.stack(together) - np.stack(alone)).max()) < (1e-5 if engine == "torch" else 1e-30)


def test_a_tile_seen_before_costs_nothing_until_it_is_forgotten(
    mmproj: Path, engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiles = [noise(1, 64), noise(2, 64), noise(1, 64)]
    given: list[int] = []
    with closing(encoder(mmproj, exact(engine))) as vision:
        encode = vision._encode
        monkeypatch.setattr(vision, "_encode", lambda tiles: given.append(len(tiles)) or encode(tiles))
        first = vision.encode(tiles)
        vision.encode(tiles[:1])
        vision.forget()
        vision.encode(tiles[:1])
    assert given == [2, 1]
    assert np.array_equal(first[0], first[2]) and not np.array_equal(first[0], first[1])


def test_the_weights_live_as_long_as_the_encoder(checkpoint: Path, tmp_path: Path, engine: str) -> None:
    for kind in ("f16", "q8_0"):
        mmproj = convert(checkpoint, tmp_path, "f32", kind)[1]
        with closing(encoder(mmproj, exact(engine))) as vision:
            gc.collect()
            junk = [np.full(2**18, 0xAB, np.uint8) for _ in range(64)]
            late = vision.encode([noise(1, 64)])[0]
        del junk
        assert np.array_equal(late, encoded(mmproj, [noise(1, 64)], exact(engine))[0])
        assert float(np.abs(late).max()) > 0.1


def test_mtmd_is_not_loaded_beside_it(files: ModelFiles, engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("smolcli.backends.vision.mtmd.mtmd.mtmd_init_from_file", lambda *_: pytest.fail("loaded twice"))
    with closing(LlamaCpp(files, exact(engine))) as backend:
        assert backend.embeddings(Prompt.user(Frame(noise(3, 64), 64, 64), "?")).shape == (16, WIDTH)


def test_it_computes_in_one_thread_that_is_not_llama_cpps(
    files: ModelFiles, engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The configuration of AMX's tiles is a thread's: llama.cpp makes it once, and another library undoes it."""
    made = registry.load(registry.VISION_ENCODERS, engine)
    threads: dict[str, list[threading.Thread]] = {}

    def spy(owner: Any, name: str) -> None:
        whole, seen = getattr(owner, name), threads.setdefault(name, [])
        monkeypatch.setattr(owner, name, lambda *args: seen.append(threading.current_thread()) or whole(*args))

    for owner, name in ((made, "__init__"), (made, "_encode"), (made, "close"), (kv_cache.llama, "llama_decode")):
        spy(owner, name)
    with closing(LlamaCpp(files, exact(engine))) as backend:
        for seed in range(2):
            backend.logits(Prompt.user(Frame(noise(seed, 64), 64, 64), "?"))
        backend.close()  # and once more after it
    assert [len(threads[name]) for name in ("__init__", "_encode", "close")] == [1, 2, 1]
    theirs = set(threads.pop("llama_decode"))
    [ours] = {thread for seen in threads.values() for thread in seen}
    assert theirs and ours not in theirs and not ours.is_alive()


def test_one_picture_after_another_leaves_the_engine_whole(tmp_path: Path, engine: str) -> None:
    """With a llama.cpp that computes with AMX, and an encoder that does, it would be killed at the second."""
    nano = resolve.resolve(MTMD, "llamacpp")
    assert nano.gguf is not None
    amx_probe._quantize(nano.gguf, tmp_path / "nano-Q8_0.gguf", amx_probe.KINDS[0])
    assert call("tests.backends.vision.encoders:seen_again", tmp_path / "nano-Q8_0.gguf", nano.mmproj, engine) < 0.01


# ---- files that are no such tower ----------------------------------------------------------------------

Keys = dict[str, Any]
Tensors = dict[str, NDArray[np.float32]]


def rewritten(source: Path, place: Path, edit: Callable[[Keys, Tensors], object]) -> Path:
    """A copy of a float32 mmproj with other keys or tensors."""
    reader = GGUFReader(source)
    keys = {name: each.contents() for name, each in reader.fields.items() if not name.startswith("GGUF.")}
    kinds = {name: each.types for name, each in reader.fields.items()}
    tensors = {each.name: np.array(each.data) for each in reader.tensors}
    edit(keys, tensors)
    writer = GGUFWriter(place, keys.pop("general.architecture"))
    for name, value in keys.items():
        writer.add_key_value(name, value, kinds[name][0], kinds[name][1] if len(kinds[name]) > 1 else None)
    for name, tensor in tensors.items():
        writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return place


def swap(tensors: Tensors) -> None:
    for name in [name for name in tensors if ".ffn_up." in name]:
        other = name.replace("ffn_up", "ffn_down")
        tensors[name], tensors[other] = tensors[other], tensors[name]


def test_files_of_old_whose_feed_forward_has_its_names_swapped(
    files: ModelFiles, mmproj: Path, tmp_path: Path, engine: str
) -> None:
    old = rewritten(mmproj, tmp_path / "mmproj-old.gguf", lambda keys, tensors: swap(tensors))
    tiles = [noise(5, 64)]
    assert np.array_equal(encoded(old, tiles, exact(engine)), encoded(mmproj, tiles, exact(engine)))
    theirs = by_mtmd(ModelFiles("x", gguf=files.gguf, mmproj=old), tiles)
    assert cosines(encoded(old, tiles, exact(engine)), theirs)[0] > 0.99999


def test_other_means_and_deviations(files: ModelFiles, mmproj: Path, tmp_path: Path, engine: str) -> None:
    change = {"clip.vision.image_mean": [0.4, 0.5, 0.6], "clip.vision.image_std": [0.2, 0.3, 0.4]}
    other = rewritten(mmproj, tmp_path / "mmproj-other.gguf", lambda keys, tensors: keys.update(change))
    tiles = [noise(6, 64)]
    theirs = by_mtmd(ModelFiles("x", gguf=files.gguf, mmproj=other), tiles)
    assert cosines(encoded(other, tiles, exact(engine)), theirs)[0] > 0.99999
    assert cosines(encoded(other, tiles, exact(engine)), encoded(mmproj, tiles, exact(engine)))[0] < 0.999


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
def test_what_is_no_such_tower_is_told_by_its_name(
    files: ModelFiles, mmproj: Path, tmp_path: Path, engine: str, how: str
) -> None:
    edit, message = DAMAGE[how]
    bad = rewritten(mmproj, tmp_path / "mmproj-bad.gguf", edit)
    with pytest.raises(ModelError, match=message) as caught:
        LlamaCpp(ModelFiles("x", gguf=files.gguf, mmproj=bad), exact(engine))
    assert str(bad) in str(caught.value) and caught.value.advice


def test_the_mmproj_of_another_model_is_told(files: ModelFiles, tmp_path: Path, engine: str) -> None:
    other = make_checkpoint(tmp_path / "Wide", "v2", 1, width=128)
    pair = convert(other, other, "f32", "f32")
    with pytest.raises(ModelError, match="does not fit this language model; give the mmproj made with it"):
        LlamaCpp(ModelFiles("x", gguf=files.gguf, mmproj=pair[1]), exact(engine))


def test_an_encoder_that_is_installed_and_broken_is_told_with_the_way_around_it(
    files: ModelFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(name: str) -> None:
        raise ImportError("libopenvino.so: cannot open shared object file")

    monkeypatch.setattr(registry, "import_module", broken)
    with pytest.raises(UnavailableError, match=r"cannot be loaded \(libopenvino.so.*--vision-engine mtmd"):
        LlamaCpp(files, exact("openvino"))
