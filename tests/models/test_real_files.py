"""The real files of published models: what smolcli makes of them beside transformers' processors, and digests of that.

Each test runs with the whole files where they are on this machine, and everywhere with the extracts of tests/data/real.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForImageTextToText, GenerationConfig
from transformers.video_utils import VideoMetadata

from benchmarks.golden import (
    GOLDEN,
    PUBLISHED,
    golden_prompt,
    image_token,
    is_framed,
    load_processor,
    load_video_processor,
    template_text,
)
from smolcli import registry
from smolcli.converters import Output, Plan, convert
from smolcli.converters import plan as plan_conversion
from smolcli.inputs.frame_sampling import sample_frames
from smolcli.models.catalog import CATALOG
from smolcli.models.catalog_facts import facts_of
from smolcli.models.chat_template import FAKE, GLOBAL, IMAGE, video_parts
from smolcli.models.files import ModelFiles
from smolcli.models.gguf_header import read_header
from smolcli.options import Model, Sampling
from smolcli.types import Prompt
from tests.real_files import (
    DETAILS,
    DIGESTS,
    EXTRACTS,
    MISSING,
    REAL,
    TWINS,
    USER_CACHE,
    VARIABLE,
    assemble,
    digest,
    files_in,
    find_files,
    picture,
    prompts,
    reference_ids,
    shrink,
)

LISTINGS: dict[str, Any] = json.loads((EXTRACTS.parent / "hub_listings.json").read_text())
COMMITTED: dict[str, Any] = json.loads(DIGESTS.read_text())
CONTROL, UNUSED = 3, 5  # of llama.cpp's enum llama_token_type
HEADER_BYTES = 20_000  # of texts, in which the headers of published pairs differ from those of the converter
BACKENDS = ("torch", "numpy", "llamacpp")
SMOLVLM_IDS = {
    "<|endoftext|>": 0, "<|im_start|>": 1, "<|im_end|>": 2, GLOBAL: 49152, "<row_1_col_1>": 49153,
    "<row_2_col_1>": 49159, "<row_6_col_6>": 49188, FAKE: 49189, IMAGE: 49190, "<end_of_utterance>": 49279,
}  # fmt: skip
GRANITE_IDS = {"<|end_of_text|>": 100257, "<|start_of_role|>": 100264, "<|end_of_role|>": 100265, IMAGE: 100270}
ENDS = ("<end_of_utterance>", "<|im_end|>", "<|endoftext|>")  # of SmolVLM's replies, whichever a model writes
GRANITE_ENDS = ("<|end_of_text|>",)
VIDEO_MODELS = ("500m-video", "256m-video", "2.2b")


@dataclass
class RealModel:
    """The checkpoint directory of a model without weights, and one with random weights of a smaller shape."""

    name: str
    directory: Path
    is_whole: bool
    loaded: ExitStack = field(default_factory=ExitStack)
    backends: dict[tuple[str, str], Any] = field(default_factory=dict)

    @cached_property
    def processor(self) -> Any:
        """transformers' processor."""
        return load_processor(self.directory)

    @cached_property
    def files(self) -> ModelFiles:
        """The smaller model as a checkpoint and as a pair."""
        folder = self.directory.parent / f"{self.name}-small"
        folder.mkdir()
        for path in self.directory.iterdir():
            (folder / path.name).write_bytes(path.read_bytes())
        halves = convert(shrink(folder), folder.parent / "pair", "f16", "f16")
        return ModelFiles(self.name, folder, *halves)

    def backend(self, name: str, detail: str = "2") -> Any:
        """A backend that has loaded the smaller model, and cuts pictures as --detail says."""
        if (name, detail) not in self.backends:
            options = Model(
                device="cpu", dtype="auto" if name == "llamacpp" else "float32", threads=1, jobs=1, detail=detail,
                vision_encoder="mtmd",
            )  # fmt: skip
            backend = registry.load(registry.BACKENDS, name)(self.files, options)
            self.backends[name, detail] = self.loaded.enter_context(closing(backend))
        return self.backends[name, detail]

    def ids(self, backend: str, prompt: Prompt, detail: str) -> list[int]:
        """The token ids that a backend makes of a prompt, with those of `<image>` for each tile."""
        runner = self.backend(backend, detail)
        tile = [image_token(self.directory)] * runner.limits(self.files).tile_tokens
        parts = runner.prepare(prompt).parts
        return [token for part in parts for token in (tile if isinstance(part, bytes) else part)]


def _cases() -> Iterator[Any]:
    for name in REAL:
        yield pytest.param(f"{name}, whole", marks=pytest.mark.slow)
        yield pytest.param(f"{name}, extract", marks=[pytest.mark.slow] if name in TWINS else [])


@pytest.fixture(scope="module", params=_cases())
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealModel]:
    name, _, kind = request.param.partition(", ")
    files = find_files(name) if kind == "whole" else files_in(EXTRACTS, name)
    if not files:
        assert kind == "whole", f"tests/data/real lacks files of {name}: run benchmarks/real_extracts.py"
        pytest.skip(MISSING.format(name, name))
    real = RealModel(name, assemble(name, files, tmp_path_factory.mktemp("real") / name), kind == "whole")
    with real.loaded:
        yield real


def test_the_files_are_those_of_the_public_listings(model: RealModel) -> None:
    """But config.json from copies, and what SmolVLM2 has of its own beside SmolVLM's tokenizer."""
    if model.name == "256m-video":
        pytest.skip("the public listings have no file of 256m-video but its weights")
    listed = LISTINGS[CATALOG[model.name].repo]["files"]
    other = {
        path.name
        for path in model.directory.iterdir()
        if listed.get(path.name, (0, None))[1] not in (None, hashlib.sha256(path.read_bytes()).hexdigest())
    }
    allowed = set() if model.is_whole else {"tokenizer.json"}
    allowed |= {"config.json"} if REAL[model.name].config.startswith("not-byte-exact") else set()
    allowed |= {"tokenizer_config.json", "special_tokens_map.json"} if model.name in VIDEO_MODELS else set()
    assert other <= allowed
    assert {"tokenizer.json", "preprocessor_config.json"} <= listed.keys()


def test_files_are_taken_from_the_folder_then_from_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "nowhere"))
    monkeypatch.setenv(USER_CACHE, str(tmp_path / "hub"))
    assert find_files("256m") == {}
    snapshot = tmp_path / "hub" / "models--HuggingFaceTB--SmolVLM-256M-Instruct" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    for file, path in files_in(EXTRACTS, "256m").items():
        assert find_files("256m") == {}  # of a pull that broke off
        (snapshot / file).write_bytes(path.read_bytes())
    assert find_files("256m") == {file: snapshot / file for file in files_in(EXTRACTS, "256m")}
    assert find_files("500m") == {}
    monkeypatch.setenv(VARIABLE, str(EXTRACTS))
    assert find_files("256m") == files_in(EXTRACTS, "256m")


def test_prompts_are_the_ids_of_transformers(model: RealModel) -> None:
    """With the whole files by its processor here too; the digests are of what it gave for them."""
    different = []
    for case, (prompt, detail) in prompts(model.name).items():
        ids = model.ids("torch", prompt, detail)
        if digest(ids) != COMMITTED["prompts"][model.name][case]:
            different.append(f"{case}, in the digests")
        if model.is_whole and ids != reference_ids(model.processor, prompt, detail):
            different.append(case)
    assert different == []


def test_llama_cpp_tokenizes_as_the_checkpoint(model: RealModel) -> None:
    asked = {case: prompt for case, (prompt, detail) in prompts(model.name).items() if detail == "2"}
    digests = {case: digest(model.ids("llamacpp", prompt, "2")) for case, prompt in asked.items()}
    assert digests == {case: COMMITTED["prompts"][model.name][case] for case in asked}


def test_the_golden_prompt(model: RealModel) -> None:
    """Of 256m: the ids of the real processor of transformers 4.57.6."""
    known = PUBLISHED.get(model.name)
    if known is None:
        pytest.skip("the ids of the golden prompt are known of 256m alone")
    for backend in BACKENDS:
        ids = model.ids(backend, golden_prompt(), "high")
        assert len(ids) == known.tokens and is_framed(ids, known.begin, known.end)
        assert digest(ids) == COMMITTED["prompts"][model.name][GOLDEN]


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_reply_ends_at_the_same_tokens_on_every_backend(model: RealModel, backend: str) -> None:
    """Neither `<reponame>` nor another token of code ends one, which llama.cpp takes for ends of its own."""
    ends = GRANITE_ENDS if model.name == "docling" else ENDS
    expected = set(model.processor.tokenizer.convert_tokens_to_ids(list(ends)))
    assert GenerationConfig.from_pretrained(model.directory).eos_token_id in expected
    assert model.processor.tokenizer.eos_token_id in expected
    assert set(model.backend(backend).stop_tokens) == expected


@pytest.mark.parametrize("backend", BACKENDS)
def test_context_and_tiles_are_those_of_the_configurations(model: RealModel, backend: str) -> None:
    config, pictures = AutoConfig.from_pretrained(model.directory), model.processor.image_processor
    facts, runner = facts_of(CATALOG[model.name]), model.backend(backend)
    limits, tile = runner.limits(model.files), config.vision_config.image_size
    assert runner.context_length == limits.context == config.text_config.max_position_embeddings == facts.context
    assert limits.tile == pictures.max_image_size["longest_edge"] == tile == facts.tile
    assert limits.tile_tokens == model.processor.image_seq_len == facts.tile_tokens
    assert limits.longest_edge == pictures.size["longest_edge"] and limits.splits == pictures.do_image_splitting
    square = model.backend(backend, "high").prepare(Prompt.user(picture(64, 64)))
    assert square.image_tokens == facts.picture_tokens


def test_special_tokens_have_the_published_ids(model: RealModel) -> None:
    published = GRANITE_IDS if model.name == "docling" else SMOLVLM_IDS
    tokenizers = {
        "torch": model.backend("torch").tokenizer.token_to_id,
        "transformers": model.processor.tokenizer.convert_tokens_to_ids,
        "llamacpp": lambda text: [*model.backend("llamacpp").vocabulary.tokenize(text), None][0],
    }  # fmt: skip
    for name, find in tokenizers.items():
        assert {token: find(token) for token in published} == published, name
    assert image_token(model.directory) == published[IMAGE]
    assert all(model.processor.tokenizer.convert_ids_to_tokens(id) == token for token, id in published.items())


def test_the_vocabulary_is_the_one_of_the_digests(model: RealModel) -> None:
    tokenizer = model.processor.tokenizer
    count, sha256 = COMMITTED["vocabularies"][model.name]
    tokens = [model.backend("torch").tokenizer.id_to_token(id) for id in range(count)]
    present = [token for token in tokens if token is not None]
    assert tokenizer.convert_tokens_to_ids(present) == [id for id, token in enumerate(tokens) if token is not None]
    if model.is_whole:
        assert digest(tokens) == [count, sha256]


@pytest.mark.parametrize("count", [1, 2, 8, 50])
def test_frames_are_sampled_and_sized_as_by_the_video_processor(model: RealModel, count: int) -> None:
    if model.name not in VIDEO_MODELS:
        pytest.skip(f"{model.name} has no video processor")
    processor = load_video_processor(model.directory)
    assert (processor.fps, processor.num_frames) == (1, 64) and processor.num_frames >= count
    total, fps = 1500, 25.0
    metadata = VideoMetadata(total_num_frames=total, fps=fps, duration=total / fps)
    wanted = processor.sample_frames(metadata, num_frames=count, fps=fps, skip_secs=0).tolist()
    times = [number / fps for number in range(total)]
    assert list(sample_frames(times, total / fps, Sampling(frames=count))[1]) == wanted
    frames = [picture(64, 36, number, times[number]) for number in wanted]
    prompt = Prompt.user(*video_parts(frames, total / fps), "What happens?", split=False)
    side = processor.max_image_size["longest_edge"]
    assert [len(tile) for tile in model.backend("torch").prepare(prompt).tiles] == [3 * side * side] * count
    metadata = VideoMetadata(total_num_frames=total, fps=fps, duration=total / fps, frames_indices=wanted)
    asked = template_text(model.processor, Prompt.user("<video>", "What happens?"))
    pixels = np.empty((1, count, 3, 1, 1))
    video = model.processor.replace_video_token({"pixel_values": pixels, "video_metadata": [metadata]}, 0)
    ids = model.processor.tokenizer(asked.replace("<video>", video), add_special_tokens=False).input_ids
    assert model.ids("torch", prompt, DETAILS[2]) == ids


@pytest.fixture(scope="module")
def published(model: RealModel) -> Plan:
    """The plan of converting the published model, in f16 and q8_0; all of its numbers are 0."""
    folder = model.directory.parent / "published" / model.name
    write_empty_weights(model.directory, folder)
    return plan_conversion(folder, folder, ["f16", "q8_0"], ["f16", "q8_0"])


def test_tensors_and_sizes_are_those_of_the_published_files(model: RealModel, published: Plan) -> None:
    """transformers names the tensors; the public listings tell how many numbers they have, and the bytes of pairs."""
    facts = facts_of(CATALOG[model.name])
    weights = [weight for half in published.models for weight in half.weights]
    parameters = sum(math.prod(weight.shape) for weight in weights)
    assert parameters == facts.parameters if model.name != "docling" else 2 * parameters < facts.checkpoint_bytes
    if model.name == "256m":
        assert len(weights) == 471
    for output in published.outputs:
        known = facts.pair.files.get(listed_name(model.name, output))
        # Beside the weights the files differ in the texts of their headers, which are those of whole vocabularies.
        if model.is_whole and known is not None and known.bytes is not None:
            assert abs(output.size - known.bytes) < HEADER_BYTES, output.path.name


def test_keys_of_the_language_half_are_those_of_the_configurations(model: RealModel, published: Plan) -> None:
    config, tokenizer = AutoConfig.from_pretrained(model.directory).text_config, model.processor.tokenizer
    keys = keys_of(published, 0)
    heads = config.num_attention_heads
    assert {key: keys[f"llama.{key}"] for key in keys_below(keys, "llama.")} == {
        "block_count": config.num_hidden_layers, "context_length": config.max_position_embeddings,
        "embedding_length": config.hidden_size, "feed_forward_length": config.intermediate_size,
        "attention.head_count": heads, "attention.head_count_kv": config.num_key_value_heads,
        "attention.key_length": config.hidden_size // heads, "attention.value_length": config.hidden_size // heads,
        "attention.layer_norm_rms_epsilon": pytest.approx(config.rms_norm_eps), "vocab_size": config.vocab_size,
        "rope.freq_base": config.rope_parameters["rope_theta"], "rope.dimension_count": config.hidden_size // heads,
    }  # fmt: skip
    is_granite = model.name == "docling"
    ids = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    ids |= {"padding_token_id": tokenizer.pad_token_id, "unknown_token_id": tokenizer.unk_token_id}
    ids |= {} if is_granite else {"eot_token_id": tokenizer.convert_tokens_to_ids("<|im_end|>")}
    assert {key: keys[f"tokenizer.ggml.{key}"] for key in ids} == ids
    assert keys["tokenizer.ggml.model"] == "gpt2" and not keys["tokenizer.ggml.add_bos_token"]
    assert keys["tokenizer.ggml.pre"] == ("granite-docling" if is_granite else "smollm")
    assert keys["tokenizer.chat_template"] == model.processor.chat_template
    types, tokens = keys["tokenizer.ggml.token_type"], keys["tokenizer.ggml.tokens"]
    size = config.vocab_size  # transformers' processor of granite-docling adds an <end_of_utterance> beyond it
    special = {id for id, token in tokenizer.added_tokens_decoder.items() if token.special and id < size}
    assert len(tokens) == size and {id for id, kind in enumerate(types) if kind == CONTROL} == special
    known = {token: id for id, token in enumerate(tokens) if types[id] != UNUSED}
    assert known == {token: id for token, id in tokenizer.get_vocab().items() if id < size}
    merges = json.loads((model.directory / "tokenizer.json").read_text())["model"]["merges"]
    assert keys["tokenizer.ggml.merges"] == [merge if isinstance(merge, str) else " ".join(merge) for merge in merges]


def test_keys_of_the_vision_half_are_those_of_the_configurations(model: RealModel, published: Plan) -> None:
    config, pictures = AutoConfig.from_pretrained(model.directory), model.processor.image_processor
    vision, keys = config.vision_config, keys_of(published, 1)
    assert {key: keys[f"clip.vision.{key}"] for key in keys_below(keys, "clip.vision.")} == {
        "image_size": pictures.max_image_size["longest_edge"], "preproc_image_size": pictures.size["longest_edge"],
        "patch_size": vision.patch_size, "embedding_length": vision.hidden_size,
        "feed_forward_length": vision.intermediate_size, "block_count": vision.num_hidden_layers,
        "attention.head_count": vision.num_attention_heads,
        "attention.layer_norm_epsilon": pytest.approx(vision.layer_norm_eps),
        "projection_dim": config.text_config.hidden_size, "projector.scale_factor": config.scale_factor,
        "image_mean": list(pictures.image_mean), "image_std": list(pictures.image_std),
    }  # fmt: skip
    assert keys["clip.projector_type"] == "idefics3" and keys["clip.has_vision_encoder"] and keys["clip.use_gelu"]
    assert keys["general.architecture"] == "clip" and keys["general.type"] == "mmproj"


def write_empty_weights(source: Path, folder: Path) -> None:
    """Copy a checkpoint's small files, and add weights of its shapes: a hole in the file, which takes no space."""
    folder.mkdir(parents=True)
    for path in source.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    config = AutoConfig.from_pretrained(source)
    with torch.device("meta"):
        shapes = {name: tuple(tensor.shape) for name, tensor in empty_model(config).state_dict().items()}
    if config.tie_word_embeddings:
        del shapes["lm_head.weight"]
    header, offset = {}, 0
    for name, shape in shapes.items():
        size = 2 * math.prod(shape)
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header).encode()
    with (folder / "model.safetensors").open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + offset)


def empty_model(config: Any) -> Any:
    return AutoModelForImageTextToText.from_config(config)


def keys_of(plan: Plan, half: int) -> dict[str, Any]:
    """The keys that the converter writes into the language half (0) or the vision half (1) in f16."""
    output = (plan.language, plan.vision)[half][0]
    path = output.path.with_suffix(".keys")
    with closing(plan.models[half].start(path, output.quantization, output.types)):
        pass
    with path.open("r+b") as file:
        file.truncate(output.size)  # where its weights would be there is a hole
    return read_header(path, with_strings=True).keys


def keys_below(keys: dict[str, Any], prefix: str) -> list[str]:
    return [key.removeprefix(prefix) for key in keys if key.startswith(prefix)]


def listed_name(name: str, output: Output) -> str:
    """The name that a file of a pair has in its published repository, which writes f16 in small letters."""
    quant = output.quantization.name
    stem = CATALOG[name].repo.partition("/")[2]
    half = "mmproj-" if output.path.name.startswith("mmproj-") else ""
    return f"{half}{stem}-{quant if quant == 'f16' else quant.upper()}.gguf"
