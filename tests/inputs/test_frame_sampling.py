"""inputs/frame_sampling.py: the chosen frames, compared with NumPy and with lists made by hand."""

from fractions import Fraction

import numpy as np
import pytest

from smolcli.errors import InputError
from smolcli.inputs.frame_sampling import sample_frames
from smolcli.options import Sampling
from smolcli.types import Span


def steady(count: int, rate: Fraction = Fraction(25), places: int = 12) -> list[float]:
    """Return the times of `count` frames at a constant rate, rounded as a container rounds them."""
    return [round(float(number / rate), places) for number in range(count)]


def numbers(times: list[float], duration: float, cuts: tuple[float, ...] = (), **options: object) -> list[list[int]]:
    """Return the numbers of the chosen frames of each span."""
    spans, chosen = sample_frames(times, duration, Sampling(**options), cuts)  # type: ignore[arg-type]
    return [list(chosen[span.first : span.stop]) for span in spans]


RATES = (Fraction(25), Fraction(30), Fraction(30000, 1001), Fraction(24000, 1001), Fraction(7))


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("places", [3, 12])
def test_constant_rate_gives_the_frames_of_linspace(rate: Fraction, places: int) -> None:
    for count in (1, 2, 3, 4, 7, 50, 51, 97, 99, 100, 250, 301, 1234):
        times = steady(count, rate, places)
        for max_frames in (1, 2, 3, 4, 5, 8, 13, 49, 50, 99, 300):
            expected = np.unique(np.linspace(0, count - 1, max_frames).astype(int)).tolist()
            assert numbers(times, count / float(rate), frames=max_frames) == [expected], (count, max_frames)


def test_varying_rate_gives_the_frames_shown_at_even_moments() -> None:
    times = [0.0, 0.1, 0.2, 0.3, 0.4, 5.0, 5.1, 10.0]
    assert numbers(times, 10.1, frames=5) == [[0, 4, 5, 6, 7]]  # shown at 0, 2.5, 5, 7.5 and 10
    assert numbers([0.0, 9.0, 9.1, 9.2, 10.0], 10.1, frames=3) == [[0, 4]]  # the first is shown at 0 and at 5


def test_default_is_one_frame_per_second() -> None:
    assert len(numbers(steady(50), 2.0)[0]) == 4
    assert len(numbers(steady(250), 10.0)[0]) == 11
    assert len(numbers(steady(5000), 200.0)[0]) == 50
    assert numbers([0.0], 0.0) == [[0]]
    assert numbers([0.0], 0.0, frames=1, segment=5.0, scene=True) == [[0]]


@pytest.mark.parametrize("places", [3, 12])
def test_fps(places: int) -> None:
    thirty = steady(90, Fraction(30), places)
    assert numbers(thirty, 3.0, fps=1.0) == [[0, 30, 60]]
    assert numbers(thirty, 3.0, fps=30.0) == [list(range(90))]
    assert numbers(thirty, 3.0, fps=1e9) == [list(range(90))]
    assert numbers(thirty, 3.0, fps=7.0)[0] == [int(moment * 30 / 7 + 1e-9) for moment in range(21)]
    assert numbers(thirty, 3.0, fps=0.001) == [[0]]
    assert numbers([0.0, 0.9, 3.7], 5.0, fps=1.0) == [[0, 1, 2]]  # the second is shown at 1, 2 and 3


def test_start_and_end() -> None:
    times = steady(100)
    assert numbers(times, 4.0, start=1.0, end=2.0, frames=2) == [[25, 50]]
    assert numbers(times, 4.0, start=1.01, end=1.99, frames=2) == [[25, 49]]  # the frame that is shown at 1.01 is in it
    assert numbers(times, 4.0, start=3.99) == [[99]]
    assert numbers(times, 4.0, end=99.0, frames=2) == [[0, 99]]
    assert sample_frames(times, 4.0, Sampling(start=1.0, end=9.0, frames=1))[0] == (Span(1.0, 4.0, 0, 1),)
    assert numbers(times, 4.0, start=1.0, end=3.0, fps=1.0) == [[25, 50]]


@pytest.mark.parametrize("options", [{"start": 4.0}, {"start": 9.0}, {"start": 2.0, "end": 2.0}, {"end": 0.0}])
def test_nothing_between_start_and_end(options: dict[str, float]) -> None:
    with pytest.raises(InputError, match=r"has no frame between .* it is 4\.0 s long") as caught:
        sample_frames(steady(100), 4.0, Sampling(**options))  # type: ignore[arg-type]
    assert caught.value.kind == "no-frames"


def test_pictures_that_begin_after_the_file() -> None:
    late = [5 + time for time in steady(100)]
    assert [(span.start, span.end) for span in sample_frames(late, 9.0, Sampling(segment=2.0))[0]] == [
        (5.0, 7.0),
        (7.0, 9.0),
    ]
    assert numbers(late, 9.0, fps=1.0) == [[0, 25, 50, 75]]
    assert numbers(late, 9.0, start=2.0, end=6.0, frames=2) == [[0, 25]]
    with pytest.raises(InputError, match=r"no frame between 1 s and 5 s; its pictures are from 5\.0 s to 9\.0 s"):
        sample_frames(late, 9.0, Sampling(start=1.0, end=5.0))
    soon = [0.1 + time for time in steady(100)]  # as where sound begins a little before
    assert sample_frames(soon, 4.1, Sampling(frames=1))[0] == (Span(0.0, 4.1, 0, 1),)


def test_segments() -> None:
    spans, chosen = sample_frames(steady(100), 4.0, Sampling(segment=1.5, frames=2))
    assert spans == (Span(0.0, 1.5, 0, 2), Span(1.5, 3.0, 2, 4), Span(3.0, 4.0, 4, 6))
    assert chosen == (0, 37, 38, 74, 75, 99)
    assert [span.end for span in sample_frames(steady(100), 4.0, Sampling(segment=1.3))[0]] == [
        1.3,
        2.6,
        4.0,
    ]  # 0.1 s is left
    assert [len(span) for span in numbers(steady(1000), 40.0, segment=20.0)] == [8, 8]
    assert [len(span) for span in numbers(steady(1000), 40.0, segment=1.0)] == [4] * 40
    assert numbers(steady(100), 4.0, segment=2.0, fps=1.0) == [[0, 25], [50, 75]]
    assert numbers(steady(100), 4.0, segment=9.0, frames=2) == [[0, 99]]


def test_each_segment_has_a_frame() -> None:
    assert numbers([0.0, 0.5, 7.2], 8.0, segment=2.0) == [[0, 1], [1], [1], [2]]
    assert numbers([0.0, 0.5, 7.2], 8.0, segment=2.0, start=1.0) == [[1], [1], [1], [2]]


def test_too_many_segments() -> None:
    with pytest.raises(InputError, match="make --segment longer"):
        sample_frames(steady(100), 4.0, Sampling(segment=1e-9))


def test_scenes() -> None:
    times = steady(100)
    assert numbers(times, 4.0, (1.0, 3.0), scene=True, frames=2) == [[0, 24], [25, 74], [75, 99]]
    assert numbers(times, 4.0, (), scene=True, frames=1) == [[0]]
    spans, _ = sample_frames(times, 4.0, Sampling(scene=True, segment=1.5), (1.0,))
    assert [(span.start, span.end) for span in spans] == [(0.0, 1.0), (1.0, 2.5), (2.5, 4.0)]
    assert len(numbers(times, 4.0, (1.0, 3.0), scene=True, start=1.0, end=3.0)) == 1
