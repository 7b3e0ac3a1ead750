"""The models that smolcli knows by a short name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from smolcli.models.files import ModelFiles


@dataclass(frozen=True)
class CatalogEntry:
    """A model of the catalog: its hub repository, and the bytes that a pull downloads.

    `pair_bytes` is the size of the Q8_0 GGUF pair, `checkpoint_bytes` that of the safetensors checkpoint. Both are
    approximate where the repository's files may change. `x_height` is the height of small letters in pixels of a tile
    that it reads best, 0 for a model that is to be shown whole pages.
    """

    name: str
    repo: str
    pair_bytes: int
    checkpoint_bytes: int
    about: str
    licence: str = "Apache-2.0"
    x_height: float = 12.0

    @property
    def gguf_repo(self) -> str:
        """The repository of the GGUF pair; its files are `<stem>-<quant>.gguf` and `mmproj-<stem>-<quant>.gguf`."""
        return f"ggml-org/{self.repo.split('/')[1]}-GGUF"


# Best first. SmolVLM-Instruct, the first 2.2B, is left out: its GGUF lacks the tile markers that llama.cpp looks up.
CATALOG = {
    entry.name: entry
    for entry in (
        CatalogEntry(
            "2.2b", "HuggingFaceTB/SmolVLM2-2.2B-Instruct", 2_520_457_184, 4_494_000_000, "best answers; slow on a CPU"
        ),
        CatalogEntry(
            "500m", "HuggingFaceTB/SmolVLM-500M-Instruct", 545_590_272, 1_015_000_000, "good answers on a CPU"
        ),
        CatalogEntry(
            "500m-video", "HuggingFaceTB/SmolVLM2-500M-Video-Instruct", 545_593_888, 1_015_000_000, "video on a CPU"
        ),
        CatalogEntry(
            "256m", "HuggingFaceTB/SmolVLM-256M-Instruct", 278_824_384, 513_000_000, "fast; short and simple answers"
        ),
        CatalogEntry(
            "256m-video", "HuggingFaceTB/SmolVLM2-256M-Video-Instruct", 278_828_032, 513_000_000, "fast; video"
        ),
        CatalogEntry(
            "docling", "ibm-granite/granite-docling-258M", 282_000_000, 516_000_000, "pages to DocTags", x_height=0
        ),
    )
}

NANO = "nano"
NANO_X_HEIGHT = (
    11.0  # its lessons have print of 13 to 30 pixels a line: nano/dataset.py; measured in docs/benchmarks.md
)
NANO_BLANK_REPLIES = ("(blank)", "(no text)")  # of an empty page, of a picture without text: nano/dataset.py
PULL_ADVICE = "smolcli models pull 500m"  # what to do where nano will not do
NANO_NOTICE = f"using {NANO}, which reads print and names drawn things; it knows nothing of photographs: {PULL_ADVICE}"


def x_height_of(files: ModelFiles) -> float:
    """The height of small letters, in pixels of a tile, that a model reads best; 0 for whole pages.

    A model that is not in the catalog is taken for one of the SmolVLM family, unless its name says that it is a
    docling.
    """
    if not files.formats:
        return 0.0
    if files.name == NANO:
        return NANO_X_HEIGHT
    if files.name in CATALOG:
        return CATALOG[files.name].x_height
    return 0.0 if "docling" in files.name.lower() else CatalogEntry.x_height
