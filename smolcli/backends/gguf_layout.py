"""How the pictures of a GGUF pair are cut, from the header of its vision half."""

from __future__ import annotations

from pathlib import Path

from smolcli.backends.image_processor import DEFAULT_TILES_ALONG, Layout, make_layout
from smolcli.errors import ModelError
from smolcli.models.gguf_header import read_header
from smolcli.models.preprocessor_config import SPLITTING_KEY
from smolcli.models.tensor_names import CONVERT_AGAIN


def read_layout(mmproj: Path) -> Layout:
    """Read how pictures are cut from the clip.vision keys of a vision half.

    Raises ModelError if the file is not a vision half of this family, or if its keys and tensors contradict each
    other: llama.cpp would end the process at the first picture.
    """
    header = read_header(mmproj)
    keys = header.keys
    if keys.get("clip.projector_type", keys.get("clip.vision.projector_type")) != "idefics3":
        raise ModelError(f"{mmproj} is not the vision half of a SmolVLM model", "give its mmproj-*.gguf")
    names = ("image_size", "patch_size", "embedding_length", "projector.scale_factor")
    try:
        side, patch, hidden, scale = (int(keys[f"clip.vision.{name}"]) for name in names)
        longest_edge = int(keys.get("clip.vision.preproc_image_size", DEFAULT_TILES_ALONG * side))
        position, projector = header.shapes["v.position_embd.weight"], header.shapes["mm.model.fc.weight"]
        patches_along = side // patch
        is_consistent = header.shapes["v.patch_embd.weight"] == (patch, patch, 3, hidden)
        is_consistent = is_consistent and position == (hidden, patches_along**2) and projector[0] == hidden * scale**2
        is_consistent = is_consistent and scale > 1 and longest_edge >= side
        layout = make_layout(side, patch, scale, longest_edge, bool(keys.get(SPLITTING_KEY, True)))
    except KeyError as error:
        raise ModelError(f"{mmproj} lacks {error}", "convert it again: smolcli convert-to-gguf") from error
    except (TypeError, ValueError, ArithmeticError, IndexError):
        is_consistent = False
    if not is_consistent:
        raise ModelError(f"{mmproj} is damaged: its sizes contradict each other", CONVERT_AGAIN)
    return layout
