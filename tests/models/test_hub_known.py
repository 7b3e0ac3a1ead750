"""models/hub_known.py: with the bytes and digests that were published."""

from __future__ import annotations

import pytest

from smolcli.errors import ModelError
from smolcli.models.catalog import CATALOG
from smolcli.models.catalog_facts import facts_of
from smolcli.models.hub_known import Comparison

PAIR = facts_of(CATALOG["256m-video"]).pair
Q8_0 = "SmolVLM2-256M-Video-Instruct-Q8_0.gguf"
EARLIER = (175_056_352, "af7ce9951a2f46c4f6e5def253e5b896ca5e417010e7a9949fdc9e5175c27767")


def test_the_files_of_today_are_not_told() -> None:
    comparison = Comparison(PAIR, "3" * 40)
    comparison.check_announced({Q8_0: (175_056_256, "e" * 64), f"mmproj-{Q8_0}": (103_771_616, "05d57511" + "e" * 56)})
    assert list(comparison.notices()) == []
    assert comparison.sha256(f"mmproj-{Q8_0}") == "05d57511" and comparison.sha256("unknown") == ""


def test_a_mirror_that_is_behind_is_told() -> None:
    comparison = Comparison(PAIR, "3" * 40)
    comparison.check_announced({Q8_0: EARLIER, f"mmproj-{Q8_0}": (103_771_680, None)})
    [notice] = comparison.notices()
    assert f"{Q8_0} and 1 more has 175,056,352 bytes, not 175,056,256, as before it was made again" in notice
    assert comparison.sha256(f"mmproj-{Q8_0}") == ""


def test_the_commit_is_known_by_its_first_digits() -> None:
    with pytest.raises(ModelError, match=f"{Q8_0} has 175,056,352 bytes, not 175,056,256, and is not the file that"):
        Comparison(PAIR, PAIR.revision + "e" * 32).check_announced({Q8_0: EARLIER})
    other = Comparison(facts_of(CATALOG["500m"]).pair, "e" * 40)  # of which no commit was published
    other.check_announced({"SmolVLM-500M-Instruct-Q8_0.gguf": (1, None)})
    assert len(list(other.notices())) == 1
