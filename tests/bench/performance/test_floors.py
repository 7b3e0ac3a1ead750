"""The floors of a benchmark: operations against counts of others, bytes against the files, this machine's limits."""

from __future__ import annotations

import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from smolcli.bench.performance.floors import (
    Floors,
    Machine,
    encode_operations,
    measure_machine,
    prefill_operations,
    read_sizes,
)
from smolcli.errors import ModelError
from smolcli.models.files import BUILT_IN, ModelFiles, scan
from smolcli.models.tensor_mapping import Text, Vision
from tests.tiny import make_checkpoint

SMOLLM2_135M = Text(576, 1536, 30, 9, 3, 64, 49152, 8192, 100000.0, 1e-5, tied=True)
SIGLIP_BASE_512 = Vision(768, 3072, layers=12, heads=12, image=512, patch=16, scale=4, epsilon=1e-6)


def test_a_token_takes_two_operations_for_each_parameter() -> None:
    """SmolLM2-135M has 134,515,008 parameters, says its card; the norms, 35,136 of them, are not counted."""
    matrices = 134_515_008 - (2 * 30 + 1) * 576
    attention = 30 * 2 * 2 * 576
    assert prefill_operations(SMOLLM2_135M, 1) == 2 * matrices + attention


def test_only_the_last_token_of_a_prompt_has_logits_and_attention_is_causal() -> None:
    one, two, three = (prefill_operations(SMOLLM2_135M, length) for length in (1, 2, 3))
    of_a_token = 2 * (134_515_008 - 61 * 576 - 49152 * 576)
    assert two - one == of_a_token + 2 * (30 * 2 * 2 * 576)
    assert three - two == of_a_token + 3 * (30 * 2 * 2 * 576)


def test_a_patch_takes_two_operations_for_each_parameter() -> None:
    """The 12 layers of ViT-B, and of SigLIP base, hold 85,054,464 parameters, of them 119,808 in biases and norms."""
    layers = 85_054_464 - 119_808
    attention = 12 * 2 * 2 * 768 * 1024**2
    rest = 2 * 1024 * 3 * 16 * 16 * 768 + 2 * 64 * (768 * 16) * 576
    assert encode_operations(SIGLIP_BASE_512, SMOLLM2_135M) == 2 * 1024 * layers + attention + rest


@pytest.mark.parametrize("tied", [True, False])
def test_a_step_reads_the_language_model_without_the_table_of_embeddings(tied: bool, tmp_path: Path) -> None:
    checkpoint = make_checkpoint(tmp_path / "m", "v2", 0, tied=tied, tile=64)
    tensors = load_file(checkpoint / "model.safetensors")
    sizes = read_sizes(ModelFiles("m", checkpoint), "torch")
    language = sum(tensor.nbytes for name, tensor in tensors.items() if "text_model" in name or "lm_head" in name)
    table = next(tensor.nbytes for name, tensor in tensors.items() if "embed_tokens" in name)
    assert sizes.step_bytes == (language if tied else language - table)


def test_a_pair_has_the_sizes_of_its_checkpoint_and_the_bytes_of_its_types() -> None:
    nano = scan(BUILT_IN)
    pair, checkpoint = read_sizes(nano, "llamacpp"), read_sizes(nano, "torch")
    assert (pair.vision.hidden, pair.vision.layers) == (checkpoint.vision.hidden, checkpoint.vision.layers) == (192, 6)
    assert pair.text.vocabulary == checkpoint.text.vocabulary == 320
    norms = (2 * 4 + 1) * 192  # which the pair holds in float32, the checkpoint in float16
    assert pair.step_bytes == checkpoint.step_bytes + 2 * norms


@pytest.mark.parametrize(("ggml_type", "block_weights", "block_bytes"), [(20, 32, 18), (23, 256, 136), (34, 256, 54)])
def test_a_step_reads_the_blocks_of_rare_types(
    ggml_type: int, block_weights: int, block_bytes: int, tmp_path: Path
) -> None:
    """IQ4_NL, IQ4_XS and TQ1_0, by their structs in ggml-common.h; here in a file that has room for more."""
    pair = replace(scan(BUILT_IN), checkpoint=None)
    assert pair.gguf is not None
    data, name, weights = pair.gguf.read_bytes(), b"blk.0.ffn_down.weight", 192 * 512
    at = data.index(name) + len(name) + 4 + 2 * 8  # the type, after the number of dimensions and two of them
    (tmp_path / "rare.gguf").write_bytes(data[:at] + struct.pack("<I", ggml_type) + data[at + 4 :])
    rare = read_sizes(replace(pair, gguf=tmp_path / "rare.gguf"), "llamacpp")
    saved = 2 * weights - weights // block_weights * block_bytes
    assert rare.step_bytes == read_sizes(pair, "llamacpp").step_bytes - saved


def test_a_type_that_does_not_exist_is_an_error_of_the_model(tmp_path: Path) -> None:
    pair = replace(scan(BUILT_IN), checkpoint=None)
    assert pair.gguf is not None
    data, name = pair.gguf.read_bytes(), b"blk.0.ffn_down.weight"
    at = data.index(name) + len(name) + 4 + 2 * 8
    (tmp_path / "odd.gguf").write_bytes(data[:at] + struct.pack("<I", 4711) + data[at + 4 :])
    with pytest.raises(ModelError, match=r"blk\.0\.ffn_down\.weight has the type 4711"):
        read_sizes(replace(pair, gguf=tmp_path / "odd.gguf"), "llamacpp")


def test_floors_are_proportional() -> None:
    floors = Floors(Machine(2e9, 1e9), read_sizes(scan(BUILT_IN), "torch"))
    assert floors.encode(26) == 2 * floors.encode(13)
    assert floors.prefill([100, 900]) == floors.prefill([100]) + floors.prefill([900])
    assert floors.decode(64) == pytest.approx(64 * floors.sizes.step_bytes / 1e9)


def test_the_machine_multiplies_and_copies_faster_than_a_calculator() -> None:
    machine = measure_machine()
    assert 1e9 < machine.operations < 1e15 and 1e8 < machine.bandwidth < 1e14
    assert np.isfinite([machine.operations, machine.bandwidth]).all()
