"""Which vision encoder works beside llama.cpp."""

from __future__ import annotations

from smolcli.registry import VISION_ENCODERS, installed, require

LARGE = 2**25  # bytes of the vision half


def choose_vision_encoder(name: str, dtype: str, size: int = 0) -> str:
    """As `require`, of VISION_ENCODERS; auto is the fastest that is installed.

    `size` is that of the vision half in bytes: of a small one it is mtmd, which has encoded some pictures before
    another is there. A `dtype` is only for others.
    """
    if name == "auto":
        is_worth_it = dtype != "auto" or size >= LARGE
        name = next(
            one for one, entry in VISION_ENCODERS.items() if one == "mtmd" or (is_worth_it and installed(entry))
        )
    return require(VISION_ENCODERS, name)
