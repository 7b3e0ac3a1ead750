"""options.py: what a word on the command line may be."""

from __future__ import annotations

import pytest

from smolcli.errors import UsageError
from smolcli.options import choice, detail


@pytest.mark.parametrize("word", ["low", "auto", "high", "1", "17"])
def test_detail(word: str) -> None:
    assert detail(word) == word


@pytest.mark.parametrize("word", ["0", "-1", "1.5", "²", "highest", ""])
def test_unknown_detail(word: str) -> None:
    with pytest.raises(UsageError, match="choose low, auto, high"):
        detail(word)


def test_a_choice_has_no_case() -> None:
    assert choice("backend", ("auto", "torch"))("Torch") == "torch"
    with pytest.raises(UsageError, match="backend cuda is not known; choose one of auto, torch"):
        choice("backend", ("auto", "torch"))("cuda")
