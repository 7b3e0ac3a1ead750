"""The models that smolcli knows by a short name: catalog.toml.

CATALOG["256m"].repo    # what every run needs is read here; catalog_facts.py reads the rest
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from smolcli.models.files import ModelFiles

DATA = Path(__file__).with_name("catalog.toml")
# The first lines of each table. The parser takes 5 ms to load, and a run needs no more of the catalog than these.
_HEAD = re.compile(r'^\["(.+)"\]\nrepo = "(.+)"\ngguf_repo = "(.+)"\nquant = "(.+)"\nx_height = (.+)$', re.MULTILINE)
DEFAULT_X_HEIGHT = 12.0  # of a model of the family that is not in the catalog


@dataclass(frozen=True)
class CatalogEntry:
    """A model of the catalog: the Hugging Face ids of its checkpoint and its GGUF pair, and what a run needs of it.

    `quant` is the recommended quantization of the pair. `x_height` is the height of small letters in pixels of a tile
    that it reads best, 0 for a model that is to be shown whole pages.
    """

    name: str
    repo: str
    gguf_repo: str
    quant: str
    x_height: float


def _read_heads() -> dict[str, CatalogEntry]:
    heads = _HEAD.findall(DATA.read_text(encoding="utf-8"))
    return {
        name: CatalogEntry(name, repo, gguf_repo, quant, float(x_height))
        for name, repo, gguf_repo, quant, x_height in heads
    }


CATALOG = _read_heads()  # best first


NANO = "nano"
NANO_ABOUT = "built in; drawn pictures and print"
NANO_LICENCE = "Apache-2.0"
NANO_X_HEIGHT = (
    11.0  # its lessons have print of 13 to 30 pixels a line: nano/dataset.py; measured in docs/benchmarks.md
)
NANO_BLANK_REPLIES = ("(blank)", "(no text)")  # of an empty page, of a picture without text: nano/dataset.py
PULL_ADVICE = "smolcli models pull 500m"  # what to do where nano will not do
NANO_NOTICE = f"using {NANO}, which reads print and names drawn things; it knows nothing of photographs: {PULL_ADVICE}"


def x_height_of(files: ModelFiles) -> float:
    """The height of small letters, in pixels of a tile, that a model reads best; 0 for whole pages.

    A model that is not in the catalog is taken for one of the SmolVLM family, unless its files say that it writes
    DocTags or is of another family. Raises ModelError for a GGUF file that is damaged.
    """
    if not files.formats:
        return 0.0
    if files.name == NANO:
        return NANO_X_HEIGHT
    if files.name in CATALOG:
        return CATALOG[files.name].x_height
    from smolcli.models.family import is_other_family  # for a model that runs; names and facts need no files
    from smolcli.models.vocabulary import writes_doctags

    is_for_whole_pages = is_other_family(files) or writes_doctags(files)
    return 0.0 if is_for_whole_pages else DEFAULT_X_HEIGHT
