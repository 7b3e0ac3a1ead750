"""Faces and words that need no package to be installed."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import ImageFont

from smolcli.nano import fonts

FACES = ("Lato-Regular", "DejaVuSans", "DejaVuSansMono", *fonts.HELD_OUT_FONTS)
SYLLABLES = ("ba", "de", "fi", "go", "lu", "ma", "ne", "ri", "so", "tu")


@pytest.fixture
def made_up_print(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The face that Pillow carries, under the names of several, and made-up words, of which some are held out."""
    font = ImageFont.load_default(20)
    for name in FACES:
        (tmp_path / f"{name}.ttf").write_bytes(font.font_bytes)  # type: ignore[union-attr]
    words = ["".join(parts) for length in (2, 3) for parts in itertools.product(SYLLABLES, repeat=length)]
    (tmp_path / "words").write_text("\n".join(words))
    monkeypatch.setattr(fonts, "FONT_ROOT", tmp_path)
    monkeypatch.setattr(fonts, "WORD_LIST", tmp_path / "words")
    cached = (fonts.fonts, fonts.faces, fonts.upright_faces, fonts.relatives, fonts.words)
    for function in cached:
        function.cache_clear()
    yield
    for function in cached:
        function.cache_clear()
