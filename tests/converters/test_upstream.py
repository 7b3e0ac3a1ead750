"""Converted files are those of llama.cpp's convert_hf_to_gguf.py byte for byte.

`python benchmarks/upstream.py digests` made tests/data/upstream.json, which names the release; the script also compares
checkpoints of any size.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.upstream import DIGESTS, TINY, TYPES, contents, differences
from smolcli.converters import plan, write
from tests.tiny import make_checkpoint

# Keys that differ on purpose; docs/gguf.md says why.
INTENDED = {"smollm": {"language": ["tokenizer.ggml.eot_token_id"]}, "granite-docling": {}}


@pytest.mark.parametrize("name", TINY)
def test_every_tensor_and_key_is_that_of_llama_cpp(name: str, tmp_path: Path) -> None:
    expected = json.loads(DIGESTS.read_text(encoding="utf-8"))["files"]
    variant, options, pre = TINY[name]
    planned = plan(make_checkpoint(tmp_path / name, variant, 5, exact=True, **options), tmp_path, TYPES, TYPES)
    write(planned)
    for half, outputs in (("language", planned.language), ("vision", planned.vision)):
        for output in outputs:
            differing = differences(contents(output.path), expected[f"{name} {half} {output.quantization.name}"])
            assert differing == {"keys": INTENDED[pre].get(half, []), "tensors": []}
            assert len(expected[f"{name} {half} {output.quantization.name}"]["tensors"]) == len(output.types)
