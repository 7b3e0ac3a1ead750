"""How right replies are: the metrics of `smolcli bench quality`, each as those who published it define it.

    exact     one of the answers, letter for letter        anls     near an answer, in single edits
    vqa       what three of the other people said          relaxed  a number within 5 % of the answer
    choice    the letter of the right option               mmmu     both of these kinds, as MMMU reads replies
    contains  an answer is somewhere in the reply          cer, wer the share of characters, words that are wrong

Where implementations differ, a metric is what VLMEvalKit computed in February 2025, at commit c5772771, since the
scores that SmolVLM's authors published were computed with it; a docstring says where it is not.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from rapidfuzz.distance import Levenshtein

RESAMPLES = 2000
DRAWN_AT_ONCE = 2**20  # rows of resamples in memory together

ARTICLES = {"a", "an", "the"}
NUMBER_WORDS = {
    **{"none": "0", "zero": "0", "one": "1", "two": "2", "three": "3", "four": "4"},
    **{"five": "5", "six": "6", "seven": "7", "eight": "8", "nine": "9", "ten": "10"},
}
# What an apostrophe was left out of is given it back. The list is that of the VQA evaluation, with its gaps ("she's" is
# not in it) and without its entries that cannot match or change nothing.
CONTRACTED = """
    ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't haven't he'd he'd've
    he's how'd how'll how's isn't it'd it'd've it'll ma'am might've mightn't mightn't've must've mustn't needn't
    not've o'clock oughtn't 'ow's'at shan't she'd've should've shouldn't shouldn't've somebody'd've somebody'll
    somebody's someone'd someone'd've someone'll someone's something'd something'd've something'll that's there'd
    there'd've there're there's they'd they'd've they'll they're they've 'twas wasn't we'd've we've weren't what'll
    what're what's what've when's where'd where's where've who'd who'd've who'll who's who've why'll why're why's won't
    would've wouldn't wouldn't've y'all y'all'd've y'all'll you'd you'd've you'll you're you've
"""
CONTRACTIONS = {
    word[: place.start()] + word[place.end() :]: word for word in CONTRACTED.split() for place in re.finditer("'", word)
} | {"somebody'd": "somebodyd"}  # turned round by mistake in the VQA evaluation

REFUSALS = (
    "Sorry, I can't help with images of people yet.",
    "I can't process this file.",
    "I'm sorry, but without the image provided",
    "Cannot determine the answer",
)
BESIDE_A_LETTER = str.maketrans(dict.fromkeys(".()[],:;!*#{}", " "))
FORMULAS = "Handwritten Mathematical Expression Recognition"  # the category of OCRBench

# In MMMU's evaluation, what follows the last of these in a line is the answer; the equals sign in the last line alone.
BEFORE_AN_ANSWER = ("could be ", "so ", "is ", "thus ", "therefore ", "final ", "answer ", "result ")
# As MMMU's, which look for a number at each digit of another one too, in vain, and take minutes for 100,000 digits.
NUMBERS = (
    re.compile(r"-?\b\d{1,3}(?:,\d{3})+\b"),
    re.compile(r"-?(?<!\d)\d+(?:\.\d+)?[eE][+-]?\d+"),
    re.compile(r"-?(?:(?<!\d)\d+\.\d+|\.\d+|(?<!\d)\d+\b)(?![eE][+-]?\d+)(?![,\d])"),
)


@dataclass(frozen=True)
class Labels:
    """What is right, of one row: at least one answer; of a multiple-choice row the letter and text of each option."""

    answers: tuple[str, ...]
    choices: tuple[tuple[str, str], ...] = ()
    category: str = ""


@dataclass(frozen=True)
class Score:
    """How right, or of error rates how wrong, one reply is; `total` makes one number of many.

    `weight` is 1, or the length of the right answer, so that the rate of the whole is that of all texts as one. Where
    that length is 0, `value` is the count of errors, which still count among all.
    """

    value: float
    weight: float = 1.0


@dataclass(frozen=True)
class Metric:
    """`name` is the word on the command line, `title` heads a table, `of` scores a reply against what is right."""

    name: str
    title: str
    higher_is_better: bool
    of: Callable[[str, Labels], Score]


def exact(said: str, labels: Labels) -> Score:
    """Whether the reply is one of the answers but for case and the white space around it.

    The exact_match of Hugging Face's evaluate with ignore_case, of stripped texts; the accuracy of VLMEvalKit.
    """
    said = said.strip().lower()
    return _whether(said == answer.strip().lower() for answer in labels.answers)


def vqa(said: str, labels: Labels) -> Score:
    """The mean, over each person's answer left out in turn, of min(1, others who gave this reply / 3).

    Antol et al. 2015, with the tidying of words of the VQA evaluation. Fewer than four answers never come to 1 and a
    single one comes to 0; `exact` is the metric then. lmms-eval drops all commas and question marks, and parts "'s".

    >>> [vqa("Two dogs.", Labels(("2 dogs",) * same + ("cats",) * (10 - same))).value for same in (0, 1, 3, 4)]
    [0.0, 0.3, 0.9, 1.0]
    """
    said = _tidied(said)
    answers = [_tidied(answer) for answer in labels.answers]
    same = answers.count(said)
    return Score(math.fsum(min(1.0, (same - (answer == said)) / 3) for answer in answers) / len(answers))


def _tidied(text: str) -> str:
    """`text` in lower case without punctuation and articles, numbers as digits, contractions with apostrophes."""
    text = re.sub(r"[\n\t]", " ", text).strip()
    in_a_number = re.search(r"\d,\d", text)
    tidied = text
    for mark in ';/[]"{}()=+\\_-><@`,?!':
        outside_a_word = in_a_number or f"{mark} " in text or f" {mark}" in text
        tidied = tidied.replace(mark, "" if outside_a_word else " ")
    words = (NUMBER_WORDS.get(word, word) for word in re.sub(r"\.(?!\d)", "", tidied).lower().split())
    return " ".join(CONTRACTIONS.get(word, word) for word in words if word not in ARTICLES)


def anls(said: str, labels: Labels) -> Score:
    """Average normalised Levenshtein similarity: 1 - edits / length of the longer, 0 below 0.5; the best answer counts.

    Biten et al. 2019, whose formula makes 0 of 0.5 itself, and DocVQA's evaluation, which does not and is followed. The
    edits are those of texts in lower case with single spaces, the length is that of the texts as they are.

    >>> [anls(said, Labels(("Paris", "Lyon"))).value for said in ("paris", "pari", "part", "park view")]
    [1.0, 0.8, 0.6, 0.0]
    """
    similarity = 1 - min(_distance(said, answer) for answer in labels.answers)
    return Score(similarity if similarity >= 0.5 else 0.0)


def _distance(said: str, answer: str) -> float:
    length = max(len(said.upper()), len(answer.upper()))  # of capitals, which can be more: those of "ß" are "SS"
    edits = Levenshtein.distance(*(" ".join(text.lower().split()) for text in (said, answer)))
    return edits / length if length else 0.0


def relaxed(said: str, labels: Labels) -> Score:
    """Whether the reply is a number at most 5 % of the answer away from it, "%" being / 100, or else the same text.

    Masry et al. 2022 (ChartQA), section 5.1. An answer of 0 is a text. VLMEvalKit took 5 % of the reply until September
    2025, so that its published scores differ for replies off by 4.8 to 5.3 %.

    >>> [relaxed(said, Labels(("20%",))).value for said in ("0.21", "20.5%", "20", "21.1%")]
    [1.0, 1.0, 0.0, 0.0]
    """
    return _whether(_near(said.strip(), answer) for answer in labels.answers)


def _near(said: str, answer: str) -> bool:
    number, right = _number(said), _number(answer)
    if number is None or not right:
        return said.lower() == answer.lower()
    return abs(number - right) / abs(right) <= 0.05


def _number(text: str) -> float | None:
    try:
        number = float(text.rstrip("%"))
    except ValueError:
        return None
    return number / 100 if text.endswith("%") else number


def choice(said: str, labels: Labels) -> Score:
    """Whether the option that the reply names is right: the one letter in it, or else the one option's text in it.

    can_infer of VLMEvalKit without a judge; a reply that names none is wrong. Since August 2025 that also wants the
    letter among the last four words, or the reply no longer than twice the options, and since June 2026 takes the
    letter after "answer is" where there are several.

    >>> options = (("A", "a cat"), ("B", "a dog"))
    >>> [choice(said, Labels(("B",), options)).value for said in ("(B)", "Answer: B.", "It is a dog", "A or B", "b")]
    [1.0, 1.0, 1.0, 0.0, 0.0]
    """
    return Score(float(_named(said, dict(labels.choices)) in _right(labels)))


def _named(said: str, options: dict[str, str]) -> str | None:
    words = set(said.translate(BESIDE_A_LETTER).split())
    letters = [letter for letter in options if letter in words]
    if any(refusal in said for refusal in REFUSALS) or (not letters and "Z" in words):  # Z is none of the options
        return None
    if len(letters) != 1:
        letters = [letter for letter, text in options.items() if text.lower() in said.lower()]
    return letters[0] if len(letters) == 1 else None


def _right(labels: Labels) -> set[str]:
    """The letters of the right options, which the answers name by letter or by text."""
    letters = dict(labels.choices)
    answers = [answer.strip() for answer in labels.answers]
    by_text = {answer.lower() for answer in answers if answer not in letters}
    return {letter for letter, text in labels.choices if letter in answers or text.strip().lower() in by_text}


def contains(said: str, labels: Labels) -> Score:
    """Whether an answer is somewhere in the reply, case aside; of OCRBench's formulas, spaces aside and case not.

    Liu et al. 2024 (OCRBench). lmms-eval also takes full-width letters for those of ASCII.

    >>> contains("It says STOP.", Labels(("stop",))).value, contains("x ^ 2", Labels(("x^2",), category=FORMULAS)).value
    (1.0, 1.0)
    """
    plain = _formula if labels.category == FORMULAS else _line
    said = plain(said)
    return _whether(plain(answer) in said for answer in labels.answers)


def _formula(text: str) -> str:
    return re.sub(r"[\n ]", "", text.strip())


def _line(text: str) -> str:
    return text.lower().strip().replace("\n", " ")


def cer(said: str, labels: Labels) -> Score:
    """Character error rate: the edits from the answer to the reply / characters of the answer, spaces being some.

    As jiwer, which only strips the texts; line ends are made newlines. Of several answers the nearest counts.

    >>> cer("hallo", Labels(("hello",)))
    Score(value=0.2, weight=5.0)
    """
    return _rate(_text(said), [_text(answer) for answer in labels.answers])


def wer(said: str, labels: Labels) -> Score:
    """Word error rate, as `cer` of words: what is between white space. jiwer parts words at spaces alone."""
    return _rate(said.split(), [answer.split() for answer in labels.answers])


def _text(text: str) -> str:
    return re.sub(r"\r\n?", "\n", text).strip()


def _rate(said: Sequence[str], answers: Iterable[Sequence[str]]) -> Score:
    edits, shortness = min((Levenshtein.distance(said, answer), -len(answer)) for answer in answers)
    return Score(edits / -shortness if shortness else float(edits), float(-shortness))


def mmmu(said: str, labels: Labels) -> Score:
    """Whether the option that the reply names is right; of rows without options, whether a claim in it is an answer.

    Yue et al. 2024, the evaluation in MMMU's repository. Where that guesses an option at random, since a reply names
    none, the score is a guess's chance to be right. VLMEvalKit, and so the published scores of SmolVLM, scores MMMU
    with `choice`, an open question as one with the options of its answer and "Other Answers".

    >>> mmmu("The area is 1,234 square metres.", Labels(("1234.0",))).value
    1.0
    """
    if labels.choices:
        letters, right = _picked(said, dict(labels.choices)), _right(labels)
        return Score(sum(letter in right for letter in letters) / len(letters))
    answers = [value for answer in labels.answers for value in _values(answer)]
    return _whether(_answers(claim, answer) for claim in _claims(said) for answer in answers)


def _picked(said: str, options: dict[str, str]) -> list[str]:
    """The option named last: by its letter in brackets, by its letter alone, in long replies by its text; or all."""
    for mark in ",.!?;:'":  # one after another: of "B,." the comma stays
        said = said.strip(mark)
    said = f" {said} "
    for shape in ("({})", " {} "):
        if letter := _last({letter: said.rfind(shape.format(letter)) for letter in options}):
            return [letter]
    if len(said.split()) > 5:
        lowered = said.lower()
        if letter := _last({letter: lowered.rfind(text.lower()) for letter, text in options.items()}):
            return [letter]
    return list(options)


def _last(places: dict[str, int]) -> str | None:
    """The first of those with the highest place, if that is one."""
    letter = max(places, key=lambda each: places[each])
    return letter if places[letter] >= 0 else None


def _claims(said: str) -> set[str | float]:
    """What an open reply says: the end of each line after a word that announces an answer, or all, and its numbers."""
    said = said.strip().strip(".").lower()
    lines = said.split("\n")
    claims = []
    for number, line in enumerate(lines, 1):
        claim = ""
        for sign in (*BEFORE_AN_ANSWER, "=") if number == len(lines) else BEFORE_AN_ANSWER:
            _, found, end = line.rpartition(sign)
            if found and (not claim or len(end.strip()) < len(claim)):
                claim = end.strip()
        if claim and claim not in set(":,.!?;'"):
            claims.append(claim)
    claims = claims or [said]
    numbers = [found for claim in claims for pattern in NUMBERS for found in pattern.findall(claim)]
    return {value for text in claims + numbers for value in _values(text)}


def _values(text: str) -> list[str | float]:
    """The number that `text` is, to two places, or `text` itself; a single letter with a space on one of its sides."""
    text = text.strip().lower()
    try:
        return [round(float(text.replace(",", "")), 2)]
    except ValueError:
        return [f" {text}", f"{text} "] if len(text) == 1 else [text]


def _answers(claim: str | float, answer: str | float) -> bool:
    if isinstance(claim, str):
        return isinstance(answer, str) and answer in claim
    return claim == answer


def _whether(any_of: Iterable[bool]) -> Score:
    return Score(float(any(any_of)))


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("exact", "Exact match", True, exact),
        Metric("vqa", "VQA accuracy", True, vqa),
        Metric("anls", "ANLS", True, anls),
        Metric("relaxed", "Relaxed accuracy", True, relaxed),
        Metric("choice", "Multiple choice", True, choice),
        Metric("contains", "Contains answer", True, contains),
        Metric("cer", "CER", False, cer),
        Metric("wer", "WER", False, wer),
        Metric("mmmu", "MMMU accuracy", True, mmmu),
    )
}


def total(scores: Sequence[Score]) -> float:
    """The weighted mean, which of error rates is all errors / all lengths; not a number where there are no scores.

    >>> total([cer("hallo", Labels(("hello",))), cer("x", Labels(("",)))])
    0.4
    """
    errors = math.fsum(score.value * (score.weight or 1) for score in scores)
    return errors / (math.fsum(score.weight for score in scores) or 1) if scores else math.nan


def interval(scores: Sequence[Score], seed: int = 0) -> tuple[float, float]:
    """Between which bounds `total` is in 95 % of resamples of the rows: the percentile bootstrap.

    Efron and Tibshirani 1993, chapter 13. The same seed draws the same resamples.
    """
    if not scores:
        return math.nan, math.nan
    weights = np.array([score.weight for score in scores])
    errors = np.array([score.value * (score.weight or 1) for score in scores])
    generator = np.random.default_rng(seed)
    together = max(1, DRAWN_AT_ONCE // len(scores))
    totals = []
    for drawn in range(0, RESAMPLES, together):
        rows = generator.integers(len(scores), size=(min(together, RESAMPLES - drawn), len(scores)))
        lengths = weights[rows].sum(axis=1)
        totals.append(errors[rows].sum(axis=1) / np.where(lengths > 0, lengths, 1))
    low, high = np.quantile(np.concatenate(totals), (0.025, 0.975))
    return float(low), float(high)
