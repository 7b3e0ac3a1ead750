"""vision/pytorch_tower.py: the embeddings of a checkpoint's tiles are those that transformers computes."""

from __future__ import annotations

import pytest
import torch

from smolcli.backends.pytorch_checkpoint import load_tower
from tests.tiny import GEOMETRY, make_model


@pytest.mark.parametrize("variant", ["v1", "v2"])
@pytest.mark.parametrize("tile", GEOMETRY)
@torch.inference_mode()
def test_embeddings_are_those_of_transformers(variant: str, tile: int) -> None:
    """Also with 27 patches a side, where position ids computed from fractions depend on how they are rounded."""
    model = make_model(variant, 5, tile=tile)
    tiles = torch.randint(0, 256, (2, tile, tile, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    pixels = (tiles.double() / 255 * 2 - 1).permute(0, 3, 1, 2).float()
    halves = model.model
    expected = halves.connector(halves.vision_model(pixel_values=pixels).last_hidden_state)
    patches = tile // GEOMETRY[tile][0]
    assert expected.shape[1] == (patches // GEOMETRY[tile][1]) ** 2
    assert tile != 384 or patches == 27  # as in the 2.2B model
    torch.testing.assert_close(load_tower(model)(tiles), expected, rtol=0, atol=2e-5)
