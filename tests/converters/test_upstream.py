"""Byte for byte what llama.cpp's own convert_hf_to_gguf.py makes; tests/data/upstream.json says of which release.

`python benchmarks/upstream.py digests` made the data, and runs the same comparison on checkpoints of any size.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.upstream import DIGESTS, TINY, TYPES, contents, differences
from smolcli.converters import plan, write
from tests.tiny import make_checkpoint

# docs/gguf.md says why.
INTENDED = {"smollm": {"language": ["tokenizer.ggml.eot_token_id"]}, "granite-docling": {}}


@pytest.mark.parametrize("name", TINY)
def test_every_tensor_and_key_is_upstreams(name: str, tmp_path: Path) -> None:
    theirs = json.loads(DIGESTS.read_text(encoding="utf-8"))["files"]
    variant, options, pre = TINY[name]
    planned = plan(make_checkpoint(tmp_path / name, variant, 5, exact=True, **options), tmp_path, TYPES, TYPES)
    write(planned)
    for half, outputs in (("language", planned.language), ("vision", planned.vision)):
        for output in outputs:
            found = differences(contents(output.path), theirs[f"{name} {half} {output.quantization.name}"])
            assert found == {"keys": INTENDED[pre].get(half, []), "tensors": []}
            assert len(theirs[f"{name} {half} {output.quantization.name}"]["tensors"]) == len(output.kinds)
