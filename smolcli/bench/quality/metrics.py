"""The metrics of `smolcli bench quality`: how right replies are, each as those who published it define it.

    exact     one of the answers, case aside               anls     near an answer, by edit distance
    vqa       agreement with three of several people       relaxed  a number within 5 % of the answer
    choice    the letter of the right option               mmmu     choices and open answers as MMMU reads replies
    contains  an answer is part of the reply               cer, wer the rate of wrong characters, words

Where implementations differ, a metric is what VLMEvalKit computed in February 2025, at commit c5772771, since the
scores that SmolVLM's authors published were computed with it. A docstring says where a metric differs from that.
"""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from rapidfuzz.distance import Levenshtein

RESAMPLES = 2000
MAX_DRAWN = 2**20  # rows of resamples in memory at a time

ARTICLES = {"a", "an", "the"}
NUMBER_WORDS = {
    **{"none": "0", "zero": "0", "one": "1", "two": "2", "three": "3", "four": "4"},
    **{"five": "5", "six": "6", "seven": "7", "eight": "8", "nine": "9", "ten": "10"},
}
# Contractions whose apostrophe was left out get it back. The list is that of the VQA evaluation, with its gaps ("she's"
# is not in it) and without its entries that cannot match or change nothing.
WITH_APOSTROPHES = """
    ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't haven't he'd he'd've
    he's how'd how'll how's isn't it'd it'd've it'll ma'am might've mightn't mightn't've must've mustn't needn't
    not've o'clock oughtn't 'ow's'at shan't she'd've should've shouldn't shouldn't've somebody'd've somebody'll
    somebody's someone'd someone'd've someone'll someone's something'd something'd've something'll that's there'd
    there'd've there're there's they'd they'd've they'll they're they've 'twas wasn't we'd've we've weren't what'll
    what're what's what've when's where'd where's where've who'd who'd've who'll who's who've why'll why're why's won't
    would've wouldn't wouldn't've y'all y'all'd've y'all'll you'd you'd've you'll you're you've
"""
CONTRACTIONS = {
    word[: match.start()] + word[match.end() :]: word
    for word in WITH_APOSTROPHES.split()
    for match in re.finditer("'", word)
} | {"somebody'd": "somebodyd"}  # key and value are swapped in the VQA evaluation, by mistake

REFUSALS = (
    "Sorry, I can't help with images of people yet.",
    "I can't process this file.",
    "I'm sorry, but without the image provided",
    "Cannot determine the answer",
)
PUNCTUATION_TO_SPACES = str.maketrans(dict.fromkeys(".()[],:;!*#{}", " "))
FORMULAS = "Handwritten Mathematical Expression Recognition"  # the category of OCRBench

# In MMMU's evaluation the answer is what follows the last of these in a line; in the last line also the equals sign.
ANSWER_MARKERS = ("could be ", "so ", "is ", "thus ", "therefore ", "final ", "answer ", "result ")
# They find what MMMU's find; those also try each digit inside a number, and take minutes for 100,000 digits.
NUMBERS = (
    re.compile(r"-?\b\d{1,3}(?:,\d{3})+\b"),
    re.compile(r"-?(?<!\d)\d+(?:\.\d+)?[eE][+-]?\d+"),
    re.compile(r"-?(?:(?<!\d)\d+\.\d+|\.\d+|(?<!\d)\d+\b)(?![eE][+-]?\d+)(?![,\d])"),
)


@dataclass(frozen=True)
class Labels:
    """The right answers of a row, at least one, and for multiple choice the letter and text of each option."""

    answers: tuple[str, ...]
    choices: tuple[tuple[str, str], ...] = ()
    category: str = ""


@dataclass(frozen=True)
class Score:
    """How right one reply is, or for error rates how wrong; `total` combines the scores of many.

    `weight` is 1, or for error rates the length of the right answer, so that the total is the rate over all texts. If
    that length is 0, `value` is the count of errors.
    """

    value: float
    weight: float = 1.0


@dataclass(frozen=True)
class Metric:
    """A metric: its name on the command line, its title in tables, and the function that scores a reply."""

    name: str
    title: str
    higher_is_better: bool
    score: Callable[[str, Labels], Score]


def exact(reply: str, labels: Labels) -> Score:
    """Whether the reply is one of the answers, apart from case and surrounding white space.

    It is exact_match of Hugging Face's evaluate with ignore_case, on stripped texts, and VLMEvalKit's accuracy.
    """
    reply = reply.strip().lower()
    return _any(reply == answer.strip().lower() for answer in labels.answers)


def vqa(reply: str, labels: Labels) -> Score:
    """The mean of min(1, other people who gave this reply / 3), leaving out each person's answer in turn.

    Antol et al. 2015, with the normalization of the VQA evaluation. With fewer than four answers the score is always
    below 1, with a single one it is 0; use `exact` then. lmms-eval drops all commas and question marks and splits "'s".

    >>> [vqa("Two dogs.", Labels(("2 dogs",) * same + ("cats",) * (10 - same))).value for same in (0, 1, 3, 4)]
    [0.0, 0.3, 0.9, 1.0]
    """
    reply = _normalized(reply)
    answers = [_normalized(answer) for answer in labels.answers]
    same = answers.count(reply)
    return Score(math.fsum(min(1.0, (same - (answer == reply)) / 3) for answer in answers) / len(answers))


def _normalized(text: str) -> str:
    """`text` in lower case without punctuation and articles, numbers as digits, contractions with apostrophes."""
    text = re.sub(r"[\n\t]", " ", text).strip()
    has_comma_in_number = re.search(r"\d,\d", text)
    normalized = text
    for character in ';/[]"{}()=+\\_-><@`,?!':
        is_outside_word = has_comma_in_number or f"{character} " in text or f" {character}" in text
        normalized = normalized.replace(character, "" if is_outside_word else " ")
    words = (NUMBER_WORDS.get(word, word) for word in re.sub(r"\.(?!\d)", "", normalized).lower().split())
    return " ".join(CONTRACTIONS.get(word, word) for word in words if word not in ARTICLES)


def anls(reply: str, labels: Labels) -> Score:
    """Average normalized Levenshtein similarity: 1 - edits / length of the longer text, or 0 if that is below 0.5.

    The answer nearest to the reply counts. Biten et al. 2019; their formula gives 0 for exactly 0.5, but DocVQA's
    evaluation gives 0.5, as here. Edits are counted in lower case with single spaces, lengths in the unchanged texts.

    >>> [anls(reply, Labels(("Paris", "Lyon"))).value for reply in ("paris", "pari", "part", "park view")]
    [1.0, 0.8, 0.6, 0.0]
    """
    similarity = 1 - min(_normalized_distance(reply, answer) for answer in labels.answers)
    return Score(similarity if similarity >= 0.5 else 0.0)


def _normalized_distance(reply: str, answer: str) -> float:
    length = max(len(reply.upper()), len(answer.upper()))  # in capitals, which may be longer: "ß" becomes "SS"
    edits = Levenshtein.distance(*(" ".join(text.lower().split()) for text in (reply, answer)))
    return edits / length if length else 0.0


def relaxed(reply: str, labels: Labels) -> Score:
    """Whether the reply is a number that differs from the answer by at most 5 % of it, or the same text.

    "%" divides by 100. Masry et al. 2022 (ChartQA), section 5.1. An answer of 0 is compared as text. VLMEvalKit took
    5 % of the reply until September 2025, so that its published scores differ for replies off by 4.8 to 5.3 %.

    Of an answer that is a list each item is right, and the whole list is not, as in VLMEvalKit, which takes the items
    for answers of several people; lmms-eval compares the whole list as text.

    >>> [relaxed(reply, Labels(("20%",))).value for reply in ("0.21", "20.5%", "20", "21.1%")]
    [1.0, 1.0, 0.0, 0.0]
    >>> [relaxed(reply, Labels(("[30, 'Rome']",))).value for reply in ("31", "rome", "[30, 'Rome']")]
    [1.0, 1.0, 0.0]
    """
    return _any(_is_near(reply.strip(), item) for answer in labels.answers for item in _items(answer))


def _items(answer: str) -> list[str]:
    """The items of an answer that is a list as Python writes it; [Yes, No] is none, nor in VLMEvalKit."""
    if not answer.lstrip().startswith("["):
        return [answer]
    try:
        value = ast.literal_eval(answer)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return [answer]
    return [str(item) for item in value] if isinstance(value, list) and value else [answer]


def _is_near(reply: str, answer: str) -> bool:
    number, expected = _number(reply), _number(answer)
    if number is None or not expected:
        return reply.lower() == answer.lower()
    return abs(number - expected) / abs(expected) <= 0.05


def _number(text: str) -> float | None:
    try:
        number = float(text.rstrip("%"))
    except ValueError:
        return None
    return number / 100 if text.endswith("%") else number


def choice(reply: str, labels: Labels) -> Score:
    """Whether the reply names the right option: by the only letter in it, or else by the only option text in it.

    can_infer of VLMEvalKit without a judge; a reply that names no option is wrong. Since August 2025 VLMEvalKit also
    requires that the letter is among the last four words, or the reply at most twice as long as the options, and since
    June 2026 it takes the letter after "answer is" if there are several.

    >>> options = (("A", "a cat"), ("B", "a dog"))
    >>> [choice(reply, Labels(("B",), options)).value for reply in ("(B)", "Answer: B.", "It is a dog", "A or B", "b")]
    [1.0, 1.0, 1.0, 0.0, 0.0]
    """
    return Score(float(_named_option(reply, dict(labels.choices)) in _right_letters(labels)))


def _named_option(reply: str, options: dict[str, str]) -> str | None:
    words = set(reply.translate(PUNCTUATION_TO_SPACES).split())
    letters = [letter for letter in options if letter in words]
    if any(refusal in reply for refusal in REFUSALS) or (
        not letters and "Z" in words
    ):  # Z stands for none of the options
        return None
    if len(letters) != 1:
        letters = [letter for letter, text in options.items() if text.lower() in reply.lower()]
    return letters[0] if len(letters) == 1 else None


def _right_letters(labels: Labels) -> set[str]:
    """The letters of the right options; answers name them by letter or by text."""
    letters = dict(labels.choices)
    answers = [answer.strip() for answer in labels.answers]
    by_text = {answer.lower() for answer in answers if answer not in letters}
    return {letter for letter, text in labels.choices if letter in answers or text.strip().lower() in by_text}


def contains(reply: str, labels: Labels) -> Score:
    """Whether an answer is part of the reply, ignoring case; for OCRBench's formulas ignoring spaces, not case.

    Liu et al. 2024 (OCRBench). lmms-eval also reads full-width letters as ASCII.

    >>> contains("It says STOP.", Labels(("stop",))).value, contains("x ^ 2", Labels(("x^2",), category=FORMULAS)).value
    (1.0, 1.0)
    """
    normalize = _formula if labels.category == FORMULAS else _line
    reply = normalize(reply)
    return _any(normalize(answer) in reply for answer in labels.answers)


def _formula(text: str) -> str:
    return re.sub(r"[\n ]", "", text.strip())


def _line(text: str) -> str:
    return text.lower().strip().replace("\n", " ")


def cer(reply: str, labels: Labels) -> Score:
    """Character error rate: edits from the answer to the reply / characters of the answer, spaces included.

    As jiwer, which strips both texts. Line ends become newlines. Of several answers the nearest counts.

    >>> cer("hallo", Labels(("hello",)))
    Score(value=0.2, weight=5.0)
    """
    return _rate(_text(reply), [_text(answer) for answer in labels.answers])


def wer(reply: str, labels: Labels) -> Score:
    """Word error rate: as `cer`, of words between white space; jiwer splits only at spaces."""
    return _rate(reply.split(), [answer.split() for answer in labels.answers])


def _text(text: str) -> str:
    return re.sub(r"\r\n?", "\n", text).strip()


def _rate(reply: Sequence[str], answers: Iterable[Sequence[str]]) -> Score:
    edits, negative_length = min((Levenshtein.distance(reply, answer), -len(answer)) for answer in answers)
    length = -negative_length  # the longest of the nearest answers
    return Score(edits / length if length else float(edits), float(length))


def mmmu(reply: str, labels: Labels) -> Score:
    """Whether the reply names the right option; for rows without options, whether a claim in the reply is an answer.

    Yue et al. 2024, the evaluation in MMMU's repository. That guesses at random if the reply names no option; here the
    score is the probability that the guess is right. VLMEvalKit, and so the published scores of SmolVLM, score MMMU
    with `choice`; an open question then has two options, its answer and "Other Answers".

    >>> mmmu("The area is 1,234 square metres.", Labels(("1234.0",))).value
    1.0
    """
    if labels.choices:
        letters, right = _chosen_options(reply, dict(labels.choices)), _right_letters(labels)
        return Score(sum(letter in right for letter in letters) / len(letters))
    answers = [value for answer in labels.answers for value in _values(answer)]
    return _any(_matches(claim, answer) for claim in _claims(reply) for answer in answers)


def _chosen_options(reply: str, options: dict[str, str]) -> list[str]:
    """The option named last, by a letter in brackets, a letter alone, or in long replies its text; or all."""
    for character in ",.!?;:'":  # in this order: of "B,." the comma stays
        reply = reply.strip(character)
    reply = f" {reply} "
    for pattern in ("({})", " {} "):
        if letter := _last({letter: reply.rfind(pattern.format(letter)) for letter in options}):
            return [letter]
    if len(reply.split()) > 5:
        lowered = reply.lower()
        if letter := _last({letter: lowered.rfind(text.lower()) for letter, text in options.items()}):
            return [letter]
    return list(options)


def _last(positions: dict[str, int]) -> str | None:
    """The letter with the greatest position; None if all are -1."""
    letter = max(positions, key=lambda letter: positions[letter])
    return letter if positions[letter] >= 0 else None


def _claims(reply: str) -> set[str | float]:
    """The claims of an open reply: the rest of each line after an answer marker, or all, and the numbers in them."""
    reply = reply.strip().strip(".").lower()
    lines = reply.split("\n")
    claims = []
    for number, line in enumerate(lines, 1):
        claim = ""
        for marker in (*ANSWER_MARKERS, "=") if number == len(lines) else ANSWER_MARKERS:
            _, separator, end = line.rpartition(marker)
            if separator and (not claim or len(end.strip()) < len(claim)):
                claim = end.strip()
        if claim and claim not in set(":,.!?;'"):
            claims.append(claim)
    claims = claims or [reply]
    numbers = [number for claim in claims for pattern in NUMBERS for number in pattern.findall(claim)]
    return {value for text in claims + numbers for value in _values(text)}


def _values(text: str) -> list[str | float]:
    """The number that `text` is, rounded to two places, or `text`; a single letter gets a space on either side."""
    text = text.strip().lower()
    try:
        return [round(float(text.replace(",", "")), 2)]
    except ValueError:
        return [f" {text}", f"{text} "] if len(text) == 1 else [text]


def _matches(claim: str | float, answer: str | float) -> bool:
    if isinstance(claim, str):
        return isinstance(answer, str) and answer in claim
    return claim == answer


def _any(matches: Iterable[bool]) -> Score:
    return Score(float(any(matches)))


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
    """The weighted mean, which for error rates is all errors / all lengths; nan if there are no scores.

    >>> total([cer("hallo", Labels(("hello",))), cer("x", Labels(("",)))])
    0.4
    """
    errors = math.fsum(score.value * (score.weight or 1) for score in scores)
    return errors / (math.fsum(score.weight for score in scores) or 1) if scores else math.nan


def confidence_interval(scores: Sequence[Score], seed: int = 0) -> tuple[float, float]:
    """The 95 % confidence interval of `total`: the percentile bootstrap over RESAMPLES resamples of the rows.

    Efron and Tibshirani 1993, chapter 13. The same seed gives the same interval. (nan, nan) if there are no scores.
    """
    if not scores:
        return math.nan, math.nan
    weights = np.array([score.weight for score in scores])
    errors = np.array([score.value * (score.weight or 1) for score in scores])
    generator = np.random.default_rng(seed)
    rows_at_once = max(1, MAX_DRAWN // len(scores))
    totals = []
    for drawn in range(0, RESAMPLES, rows_at_once):
        rows = generator.integers(len(scores), size=(min(rows_at_once, RESAMPLES - drawn), len(scores)))
        lengths = weights[rows].sum(axis=1)
        totals.append(errors[rows].sum(axis=1) / np.where(lengths > 0, lengths, 1))
    low, high = np.quantile(np.concatenate(totals), (0.025, 0.975))
    return float(low), float(high)
