"""Made-up text for the pages of pages.py: sentences, names, addresses, rows of tables, code of the standard library.

The sentences are made from lists of words here, so that no model can know them by heart; each page's text follows from
its random generator alone.
"""

# ruff: noqa: SIM905 (lists of words are easier to read and to change as running text)

from __future__ import annotations

import calendar
import colorsys
import fnmatch
import glob
import heapq
import inspect
import random
import shlex
import shutil
import statistics
import string
import textwrap
from collections.abc import Callable, Sequence

FIRST = (
    "Agnes Bernard Clara Daniel Edith Felix Greta Hugo Irene Jonas Katrin Leopold Martha Nils Olivia Paul Regina Simon "
    "Theresa Ulrich Vera Walter Yvonne Zacharias"
).split()
LAST = (
    "Abbott Brandt Carver Dorsey Eklund Farrow Grimm Hollis Ivens Jarvis Kessler Lindqvist Marlowe Norwood Ostrom "
    "Pickett Quayle Rasmussen Sandford Thornby Umber Vance Whitlock Yardley"
).split()
PLACES = (
    "Alderbrook Birkenau Castleford Dunmore Easterby Fallowfield Grantham Hillcrest Inverness Jedburgh Kirkwall "
    "Lindau Marsdale Northgate Oakham Penrith Queensbury Ravenna Stavanger Tewkesbury Ullapool Whitby"
).split()
STREETS = "Mill Lane|Station Road|Orchard Street|Harbour View|Church Hill|Ferry Road|Linden Avenue|Quarry Bank".split(
    "|"
)
TRADES = (
    "baker carpenter clockmaker printer gardener surveyor bookbinder ferryman weaver glazier saddler miller".split()
)
SHOPS = "workshop bakery library museum laboratory station warehouse theatre archive greenhouse brewery mill".split()
THINGS = (
    "lantern bicycle barometer ledger piano telescope kettle wardrobe compass anvil turbine cabinet microscope loom "
    "violin sewing-machine harness chimney clock bridge staircase boiler"
).split()
MATERIALS = "oak brass copper linen granite leather slate walnut iron porcelain wool beeswax".split()
ADJECTIVES = (
    "quiet narrow famous crooked patient unusual heavy modest damp elegant forgotten sturdy brilliant reluctant cheap "
    "remarkable ordinary dusty generous careful"
).split()
MONTHS = "January February March April May June July August September October November December".split()
VERBS = "repaired measured painted described borrowed inherited catalogued polished designed sold inspected".split()
ADVERBS = "slowly quickly carefully twice seldom quietly nearly always eventually hardly".split()
GOODS = (
    "Brass hinge|Copper pipe|Oak plank|Door handle|Window latch|Paint, white|Steel bolt|Wood screw|Garden hose|"
    "Hand saw|Lamp oil|Masking tape|Pine shelf|Roof tile|Sandpaper|Spirit level|Tin bucket|Twine|Wall plug|Work gloves|"
    "Claw hammer|Drill bit|Glue stick|Paint brush"
).split("|")
FOODS = (
    "Rye bread|Butter|Goat cheese|Apples 1kg|Tomato soup|Green tea|Coffee|Oat milk|Rice 500g|Honey|Olive oil|Pasta|"
    "Eggs x10|Carrots|Lemons|Salt|Yoghurt|Plum jam|Walnuts|Mustard"
).split("|")
FIELDS = (
    "First name|Last name|Date of birth|Street and number|Town|Postcode|Telephone|Occupation|Place of birth|"
    "Nationality|Account number|Name of bank|Signature date|Member since|Employer|Tax number"
).split("|")
SENTENCES = (
    "In the autumn of {year} the {trade} {first} {last} opened a {adj} {shop} near the harbour of {place}.",
    "{first} {verb} the {thing} {adv}, although it was made of {material} and weighed {number} pounds.",
    "Nobody in {place} could say why the {adj} {thing} had been moved to the {shop}.",
    "The {shop} closed at {hour} o{a}clock, and the {trade} walked home along {street}.",
    "{q}We have never sold a {adj} {thing} for less than {number} crowns,{Q} said {first} {last}.",
    "It rained for {small} days; then the road between {place} and {place2} was open again.",
    "A {thing} of {material} is {adv} found outside a {shop}.",
    "On {day} {month} {year} the council of {place} {verb} the old {shop} and its {adj} {thing}.",
    "Of the {number} letters that {last} wrote, only {small} are kept in the {shop} at {place}.",
    "The price rose from {money} to {money2} within a year.",
    "Every {trade} knows that {material} must be kept dry, and that a {thing} needs oil.",
    "{first} asked whether the {thing} could be {verb} before {month}; the answer was no.",
    "There were two windows, a {adj} table, and {small} chairs of {material}.",
    "After the flood of {year} the {shop} stood empty until {first} {last} {verb} it.",
    "The report (see page {page}) lists {number} objects, among them a {adj} {thing}.",
    "Visitors from {place} came by train, looked at the {thing}, and left {adv}.",
    "What the {trade} did with the {material} was his own affair.",
    "Mr. {last} was {adj} but fair: he paid {money} for each {thing}.",
    "Between {place} and {place2} the river is {number} yards wide {d} too wide for a {thing}.",
    "She {verb} it {adv}, put it back on the shelf, and said nothing.",
    "His daughter, a {trade} like himself, kept the accounts of the {shop} for {small} years.",
    "Is a {adj} {thing} worth {money}? Most people would say so.",
    "The {material} came from {place}, the {thing} from a {shop} in {street}.",
    "No {thing} was lost, and only {small} percent of the {material} was spoiled.",
)
HEADINGS = (
    "The {shop} at {place}|Early years|A {adj} {thing}|Of {material} and {material2}|What the {trade} knew|"
    "Results of the survey|The winter of {year}|Notes on the {thing}|From {place} to {place2}|Costs and wages"
).split("|")
CODE: tuple[Callable[..., object], ...] = (
    textwrap.shorten, textwrap.indent, textwrap.dedent, colorsys.rgb_to_hsv, colorsys.hls_to_rgb, colorsys.rgb_to_yiq,
    fnmatch.filter, fnmatch.fnmatch, heapq.merge, shlex.join, shlex.quote, calendar.isleap, calendar.monthrange,
    shutil.copyfileobj, shutil.ignore_patterns, glob.escape, statistics.median, statistics.median_low, string.capwords,
    random.Random.shuffle, random.Random.triangular,
)  # fmt: skip


class Writer:
    """Makes texts. `typographic` uses curly quotes and long dashes, else those of ASCII."""

    def __init__(self, rng: random.Random, typographic: bool = False) -> None:
        self.rng = rng
        self.quotes = ("\u2019", "\u201c", "\u201d", "\u2013") if typographic else ("'", '"', '"', "-")

    def _filled(self, template: str) -> str:
        rng, (apostrophe, opening, closing, dash) = self.rng, self.quotes
        place, place2 = rng.sample(PLACES, 2)
        material, material2 = rng.sample(MATERIALS, 2)
        text = template.format(
            first=rng.choice(FIRST), last=rng.choice(LAST), place=place, place2=place2, trade=rng.choice(TRADES),
            shop=rng.choice(SHOPS), thing=rng.choice(THINGS), material=material, material2=material2,
            adj=rng.choice(ADJECTIVES), verb=rng.choice(VERBS), adv=rng.choice(ADVERBS), street=rng.choice(STREETS),
            year=rng.randint(1780, 1985), number=rng.randint(12, 980), small=rng.randint(2, 11), day=rng.randint(1, 28),
            hour=rng.randint(4, 9), page=rng.randint(3, 240), month=rng.choice(MONTHS), money=self.money(),
            money2=self.money(), a=apostrophe, q=opening, Q=closing, d=dash,
        )  # fmt: skip
        for vowel in "aeiou":  # "a elegant" -> "an elegant"
            text = text.replace(f" a {vowel}", f" an {vowel}")
            text = f"An{text[1:]}" if text.startswith(f"A {vowel}") else text
        return text

    def sentence(self) -> str:
        return self._filled(self.rng.choice(SENTENCES))

    def paragraph(self, low: int = 2, high: int = 6) -> str:
        return " ".join(self.sentence() for _ in range(self.rng.randint(low, high)))

    def heading(self) -> str:
        text = self._filled(self.rng.choice(HEADINGS))
        return text[0].upper() + text[1:]

    def name(self) -> str:
        return f"{self.rng.choice(FIRST)} {self.rng.choice(LAST)}"

    def address(self) -> list[str]:
        street = f"{self.rng.randint(1, 148)} {self.rng.choice(STREETS)}"
        return [self.name(), street, f"{self.rng.choice(PLACES)} {self.rng.randint(10000, 99999)}"]

    def date(self) -> str:
        return f"{self.rng.randint(1, 28)} {self.rng.choice(MONTHS)} {self.rng.randint(1950, 2026)}"

    def money(self) -> str:
        rng = self.rng
        amount = rng.choice((rng.uniform(0.2, 10), rng.uniform(10, 100), rng.uniform(100, 9999)))
        return f"{rng.choice(('$', '$', ''))}{amount:,.2f}"

    def table(self, row_count: int) -> list[list[str]]:
        """The header and the rows of a table of four to six columns."""
        return self.rng.choice((_prices, _people, _results))(self.rng, row_count)

    def form_fields(self, count: int) -> list[tuple[str, str]]:
        """Labels with what is filled in; some are left empty."""
        rng = self.rng
        return [(label, "" if rng.random() < 0.15 else self._field(label)) for label in rng.sample(FIELDS, count)]

    def _field(self, label: str) -> str:
        rng, lower = self.rng, label.lower()
        if "name of" in lower or lower == "employer":
            return f"{rng.choice(LAST)} & {rng.choice(LAST)}"
        if "date" in lower or "since" in lower:
            return f"{rng.randint(1, 28):02}/{rng.randint(1, 12):02}/{rng.randint(1940, 2025)}"
        if ("number" in lower and "street" not in lower) or lower in ("postcode", "telephone"):
            return " ".join(str(rng.randint(100, 999)) for _ in range(1 if lower == "postcode" else 3))
        known = {"first name": FIRST, "last name": LAST, "street and number": STREETS, "occupation": TRADES}
        return rng.choice(known.get(lower, PLACES))

    def receipt_rows(self, count: int) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
        """The goods with their prices, and the sums below them."""
        goods = [(food, round(self.rng.uniform(0.5, 30), 2)) for food in self.rng.sample(FOODS, count)]
        total = sum(price for _, price in goods)
        paid = (int(total) // 10 + 1) * 10.0
        sums = [("Subtotal", total / 1.08), ("VAT 8%", total - total / 1.08), ("TOTAL", total), ("Cash", paid)]
        sums.append(("Change", paid - total))
        return [(food, f"{price:.2f}") for food, price in goods], [(label, f"{value:.2f}") for label, value in sums]

    def code(self, max_columns: int) -> list[str]:
        """The lines of one function of the standard library that has no line over `max_columns`."""
        for function in self.rng.sample(CODE, len(CODE)):
            lines = textwrap.dedent(inspect.getsource(function)).rstrip().split("\n")
            if max(map(len, lines)) <= max_columns and "\t" not in "".join(lines):
                return lines
        return ["def half(number):", "    return number / 2"]


def _prices(rng: random.Random, row_count: int) -> list[list[str]]:
    rows = [["No.", "Article", "Quantity", "Unit price", "Amount"]]
    for number, good in enumerate(rng.sample(GOODS, min(row_count, len(GOODS))), 1):
        quantity, price = rng.randint(1, 60), round(rng.uniform(0.1, 90), 2)
        rows.append([str(number), good, str(quantity), f"{price:.2f}", f"{quantity * price:,.2f}"])
    return rows


def _people(rng: random.Random, row_count: int) -> list[list[str]]:
    rows = [["Name", "Town", "Born", "Trade"]]
    for _ in range(row_count):
        born = str(rng.randint(1790, 1990))
        rows.append([f"{rng.choice(FIRST)} {rng.choice(LAST)}", rng.choice(PLACES), born, rng.choice(TRADES)])
    return rows


def _results(rng: random.Random, row_count: int) -> list[list[str]]:
    years = sorted(rng.sample(range(1990, 2026), 4))
    rows = [["Town", *map(str, years), "Change"]]
    for place in rng.sample(PLACES, min(row_count, len(PLACES))):
        values = [rng.randint(80, 99999) for _ in years]
        rows.append([place, *(f"{value:,}" for value in values), f"{(values[-1] / values[0] - 1) * 100:+.1f}%"])
    return rows


def hyphenated(word: str) -> Sequence[tuple[str, str]]:
    """The places at which a long word of letters may be broken: after a vowel, before a consonant and a vowel.

    >>> hyphenated("carefully.")
    [('ca-', 'refully.'), ('care-', 'fully.')]
    """
    core, vowels = word.rstrip(".,;:?!)"), "aeiou"
    if len(core) < 7 or not core.isalpha():
        return []
    breaks = (at for at in range(2, len(core) - 2) if core[at - 1] in vowels and core[at + 1] in vowels)
    return [(f"{word[:at]}-", word[at:]) for at in breaks if core[at] not in "aeiouy"]
