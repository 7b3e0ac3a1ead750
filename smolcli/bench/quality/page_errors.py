"""Error rates of pages of text: for each page as it is and in plain form, and over all pages their mean and median.

    rates(reply, answers)  -> PageErrors of one page
    figures(pages)         -> the figures of a report

CER is edits of characters / characters of the right text, WER is the same of words; both are above 1 where a reply is
much too long. The plain form leaves out what nobody misses: see `plain`.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass, fields

import numpy as np

from smolcli.bench.quality.metrics import RESAMPLES, Labels, Score, cer, wer
from smolcli.bench.report.results import Figure

QUOTES = {"'": "\u2018\u2019\u201a\u201b\u2032\u00b4`", '"': "\u201c\u201d\u201e\u201f\u2033\u00ab\u00bb"}
HYPHENS = {"-": "\u2010\u2011\u2012\u2013\u2014\u2015\u2212\u2043"}
LEADER = re.compile(r"(?:[.\u2026\u00b7]\s*){4,}")  # the dots before a page number in a table of contents
AS_ASCII = str.maketrans({char: ascii for ascii, chars in (QUOTES | HYPHENS).items() for char in chars})


@dataclass(frozen=True)
class PageErrors:
    """The error rates of one page."""

    cer: float
    wer: float
    plain_cer: float
    plain_wer: float


def plain(text: str) -> str:
    r"""The text in NFC, with ASCII quotes and hyphens, and each run of white space and leader of dots as one space.

    >>> plain("\u201cIt\u2019s  5\u201310\u201d,\n cafe\u0301 ")
    '"It\'s 5-10", café'
    """
    return " ".join(LEADER.sub(" ", unicodedata.normalize("NFC", text).translate(AS_ASCII)).split())


def rates(reply: str, answers: Sequence[str]) -> PageErrors:
    """The error rates of a page; of several right texts the nearest counts.

    Where there is nothing to read every rate is 0 for an empty reply and 1 for any other.

    >>> rates("It's  red.", ("It\u2019s red.",))
    PageErrors(cer=0.2222222222222222, wer=0.5, plain_cer=0.0, plain_wer=0.0)
    """
    forms = ((reply, Labels(tuple(answers))), (plain(reply), Labels(tuple(map(plain, answers)))))
    return PageErrors(*(_rate(metric(text, labels)) for text, labels in forms for metric in (cer, wer)))


def _rate(score: Score) -> float:
    return score.value if score.weight else min(1.0, score.value)


def figures(pages: Sequence[PageErrors]) -> dict[str, Figure]:
    """The mean and the median of each rate over the pages, by the names of report/results.py; {} without pages."""
    if not pages:
        return {}
    columns = zip(*map(astuple, pages), strict=True)
    result = {}
    for field, column in zip(fields(PageErrors), columns, strict=True):
        values = np.array(column, float)
        result[f"{field.name}_mean"] = _figure(values, np.mean)
        result[f"{field.name}_median"] = _figure(values, np.median)
    return result


def _figure(values: np.ndarray[tuple[int], np.dtype[np.float64]], statistic: Callable[..., object]) -> Figure:
    """A statistic of the pages and its 95 % interval: the percentile bootstrap, as metrics.confidence_interval."""
    drawn = np.random.default_rng(0).integers(len(values), size=(RESAMPLES, len(values)))
    low, high = np.quantile(np.asarray(statistic(values[drawn], axis=1)), (0.025, 0.975))
    return Figure(float(np.asarray(statistic(values))), float(low), float(high), len(values))
