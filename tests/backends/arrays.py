"""The logits of backends that keep them in memory."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from smolcli.backends.base import Logits, Scores


def arrays(logits: Mapping[int, Logits | Scores]) -> dict[int, Logits]:
    """Copies of the logits, which the backend may overwrite."""
    copies = {}
    for sequence, array in logits.items():
        assert isinstance(array, np.ndarray)
        copies[sequence] = array.copy()
    return copies
