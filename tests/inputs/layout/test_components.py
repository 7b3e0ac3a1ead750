"""Components against a flood fill, one pixel at a time."""

from __future__ import annotations

import numpy as np
import pytest

from smolcli.inputs.layout.components import find_components, find_runs, keep


def flooded(mask: np.ndarray) -> set[tuple[int, int, int, int, int]]:
    """Left, top, right, bottom and area of each component, where pixels touch by sides or corners."""
    rest = {(int(y), int(x)) for y, x in np.argwhere(mask)}
    found = set()
    while rest:
        waiting, part = [rest.pop()], []
        while waiting:
            y, x = waiting.pop()
            part.append((y, x))
            for near in [(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]:
                if near in rest:
                    rest.remove(near)
                    waiting.append(near)
        rows, columns = zip(*part, strict=True)
        found.add((min(columns), min(rows), max(columns) + 1, max(rows) + 1, len(part)))
    return found


@pytest.mark.parametrize("density", [0.05, 0.3, 0.5, 0.8, 0.0, 1.0])
@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (40, 1), (23, 37)])
def test_components_are_those_of_a_flood_fill(density: float, shape: tuple[int, int]) -> None:
    mask = np.random.default_rng(7).random(shape) < density
    parts = find_components(mask)
    boxes = np.stack([parts.left, parts.top, parts.right, parts.bottom, parts.area], 1).tolist()
    assert len(boxes) == len(flooded(mask))
    assert {tuple(box) for box in boxes} == flooded(mask)


def test_runs_are_painted_as_they_were() -> None:
    mask = np.random.default_rng(8).random((30, 50)) < 0.4
    assert np.array_equal(find_runs(mask).paint(), mask)
    parts = find_components(mask)
    large = parts.area > 5
    painted = keep(parts, large).runs.paint()
    assert np.array_equal(painted, parts.paint(large))
    assert painted.sum() == parts.area[large].sum()
