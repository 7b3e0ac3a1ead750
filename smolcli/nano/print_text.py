"""Made-up text for the pages of nano's pieces: prose in Western European spelling, tables, receipts, code, lists.

    phrase = Writer(rng, held_out=False, printable=printable_characters(font)).prose(12)      # -> 12 words

The words are those of nano/fonts.py. Accents are put on them by the rules of a language, and some frequent words of
each language stand between them, so that no word list has to be fetched.
"""

# ruff: noqa: RUF001 (quotes, dashes and signs that look like others are meant)

from __future__ import annotations

from collections.abc import Callable, Collection

from smolcli.nano.fonts import words
from smolcli.nano.synthetic_images import ACCENTED, ALPHABET, SIGNS, Rng, pick

# Accents by letter, and frequent words.
LANGUAGES: dict[str, tuple[dict[str, str], tuple[str, ...]]] = {
    "french": (
        {"a": "àâ", "c": "ç", "e": "éèêë", "i": "îï", "o": "ô", "u": "ùûü"},
        ("à", "été", "même", "où", "très", "être", "déjà", "près", "après", "façon", "cœur", "sœur", "œuvre", "forêt",
         "français", "garçon", "hôtel", "l’été", "d’où", "qu’il", "c’est", "numéro", "société", "dès", "voilà"),
    ),
    "german": (
        {"a": "ä", "o": "ö", "u": "ü", "s": "ß"},
        ("für", "über", "größe", "straße", "schön", "müssen", "können", "mögen", "ä", "früh", "grün", "daß", "weiß",
         "hören", "fünf", "zwölf", "Gebühr", "Änderung", "Öffnung", "Übersicht", "außer", "höhe", "stück", "prüfung"),
    ),
    "spanish": (
        {"a": "á", "e": "é", "i": "í", "n": "ñ", "o": "ó", "u": "úü"},
        ("año", "señor", "más", "también", "día", "según", "después", "niño", "número", "aquí", "él", "está", "qué",
         "población", "información", "teléfono", "mañana", "pequeño", "¿cómo?", "¡sí!", "corazón", "público"),
    ),
    "italian": (
        {"a": "à", "e": "èé", "i": "ì", "o": "ò", "u": "ù"},
        ("è", "perché", "più", "città", "così", "già", "però", "può", "qualità", "università", "lunedì", "caffè",
         "l’età", "dell’arte", "c’è", "libertà", "società", "verità"),
    ),
    "portuguese": (
        {"a": "áâãà", "c": "ç", "e": "éê", "i": "í", "o": "óôõ", "u": "ú"},
        ("não", "são", "ação", "também", "você", "à", "até", "país", "informação", "mês", "três", "coração", "limões",
         "português", "número", "endereço", "preço", "avó", "água"),
    ),
    "nordic": (
        {"a": "åäæ", "o": "öø", "e": "é", "y": "ý", "u": "ü"},
        ("och", "på", "för", "är", "från", "även", "år", "måste", "når", "også", "være", "første", "måned", "større",
         "København", "gård", "skøn", "blå", "grøn", "æble", "øl", "sjö", "växt", "kött", "språk", "häst"),
    ),
    "dutch": (
        {"e": "ëé", "i": "ï", "o": "ö", "u": "ü"},
        ("één", "geïnd", "coöperatie", "reünie", "beëindigd", "ideeën", "zeeën", "het", "zijn", "vóór", "café"),
    ),
}  # fmt: skip
QUOTES = ("“”", "‘’", "„“", "«»", '""', "''")
UNITS = ("kg", "km", "cm", "mm", "ml", "g", "m²", "m³", "°C", "°", "%", "kWh", "h", "min", "x", "pt", "MB", "GHz")
KEYWORDS = ("def", "return", "if", "else:", "for", "in", "while", "import", "from", "class", "int", "void", "const",
            "let", "null", "None", "True", "static", "public", "new", "#include", "//", "#", "/*", "*/", "&&", "||",
            "=", "==", "!=", "+=", "->", "=>", "<=", ">=", "::", "{", "}", "});", "};")  # fmt: skip
RARE = ACCENTED + SIGNS
GREATEST = 17  # letters of a word: more do not fit into a tile at the wanted size


class Writer:
    """Makes words, each a string without a space. `printable` are the characters that the page's font has.

    With `is_title` words have a capital first: in small capitals "the" could not be told from "THE".
    """

    def __init__(
        self, rng: Rng, held_out: bool, printable: Collection[str], ascii_only: bool = False, is_title: bool = False
    ) -> None:
        self.rng, self.held_out, self._is_title = rng, held_out, is_title
        self._printable = frozenset(char for char in printable if char.isascii() or not ascii_only)
        kind = rng.random()
        self._language = None if ascii_only or kind < 0.5 else pick(rng, list(LANGUAGES))
        self._quotes = pick(rng, QUOTES)
        self._apostrophe = "'" if ascii_only or rng.random() < 0.5 else "’"
        self._dash = "-" if ascii_only else pick(rng, ("-", "–", "—"))
        self._currency = pick(rng, ("$", "€", "£", "€", "", "EUR"))
        self._comma = rng.random() < 0.4  # decimal comma

    def _fits(self, text: str) -> bool:
        return bool(text) and len(text) <= GREATEST and self._printable.issuperset(text)

    def _sure(self, make: Callable[[], str]) -> str:
        """What `make` gives, or a plain word after four tries that the font cannot print."""
        for _ in range(4):
            text = make()
            if self._fits(text):
                return self._cased(text)
        return self._cased(pick(self.rng, words(self.held_out)).lower())

    def _cased(self, text: str) -> str:
        """`text`, with a capital before its small letters on a page of small capitals."""
        first = next((place for place, char in enumerate(text) if char.isalpha()), 0)
        return text[:first] + text[first:].capitalize() if self._is_title else text

    def word(self) -> str:
        """A lower-case word in the spelling of the page's language."""
        rng = self.rng
        if self._language is None:
            word = pick(rng, words(self.held_out)).lower()
            return word if rng.random() < 0.97 else f"{word}{self._apostrophe}s"
        accents, frequent = LANGUAGES[self._language]
        kind = rng.random()
        if kind < 0.25:
            return pick(rng, frequent)
        if kind < 0.31:  # rare letters and signs are in no word often enough
            return "".join(pick(rng, RARE) for _ in range(int(rng.integers(1, 6))))
        word = pick(rng, words(self.held_out)).lower()
        places = [place for place, char in enumerate(word) if char in accents]
        if places and rng.random() < 0.6:
            for _ in range(1 if rng.random() < 0.8 else 2):
                place = pick(rng, places)
                accent = pick(rng, accents.get(word[place], word[place]))
                word = word[:place] + accent + word[place + 1 :]
        return word

    def prose(self, count: int) -> list[str]:
        """`count` words of running text."""
        rng, made = self.rng, list[str]()
        starts = rng.random() < 0.6
        opened = ""
        while len(made) < count:
            kind = rng.random()
            if kind < 0.86:
                text = self._sure(self.word)
                if starts or rng.random() < (0.3 if self._language == "german" else 0.06):
                    text = text.capitalize() if text[0] != "ß" else text
                elif rng.random() < 0.05:
                    text = text.upper()
            elif kind < 0.97:
                text = self._sure(self.number)
            else:
                text = self._sure(self.odd)
            mark = rng.random()
            starts = mark < 0.09
            if not opened and 0.30 < mark < 0.33 and len(text) < GREATEST - 2:
                opened = pick(rng, (self._quotes, "()", self._quotes, "[]"))
                text = opened[0] + text
            elif opened and mark > 0.7 and len(text) < GREATEST - 2:
                text, opened = text + opened[1], ""
            if mark < 0.09:
                text += pick(rng, "...!?:")
            elif mark < 0.17:
                text += pick(rng, ",,,,;")
            made.append(text if self._fits(text) else self._sure(self.word))
            if mark > 0.98:
                made.append(self._dash if self._fits(self._dash) else "-")
        return made[:count]

    def heading(self, count: int) -> list[str]:
        """Words of a heading: capitalised, in capitals, or as a sentence; sometimes numbered."""
        rng, style = self.rng, self.rng.random()
        made = [self._sure(self.word) for _ in range(count)]
        if style < 0.45:
            made = [text.capitalize() for text in made]
        elif style < 0.7:
            made = [text.upper() for text in made]
        else:
            made[0] = made[0].capitalize()
        if rng.random() < 0.2:
            number = int(rng.integers(1, 30))
            made.insert(0, pick(rng, (f"{number}", f"{number}.", f"{number}.{rng.integers(1, 9)}", f"§{number}")))
        return [text if self._fits(text) else self._sure(self.word) for text in made]

    def odd(self) -> str:
        """A random string, an address of the network, or an abbreviation."""
        rng, kind = self.rng, self.rng.random()
        if kind < 0.5:
            return "".join(pick(rng, ALPHABET) for _ in range(int(rng.integers(2, 9))))
        plain = [pick(rng, words(self.held_out)).lower()[:6] for _ in range(2)]
        forms = (f"{plain[0]}@{plain[1]}.com", f"www.{plain[0]}.org", f"{plain[0]}/{plain[1]}", f"{plain[0]}.txt",
                 f"{plain[0][0]}.{plain[1][0]}.", f"{plain[0]}-{plain[1]}", f"{plain[0].upper()}-{rng.integers(99)}",
                 f"{plain[0].capitalize()}™", f"©{rng.integers(1980, 2030)}", f"{plain[0]}®", f"†{plain[1]}",
                 f"{plain[0]}²", f"~{rng.integers(90)}", f"{plain[0]}_{plain[1]}", f"&{plain[0]};")  # fmt: skip
        return pick(rng, forms)

    def money(self) -> str:
        """An amount as a price or a sum has it."""
        rng = self.rng
        cents = int(10 ** rng.uniform(1.5, 6.5))
        text = f"{cents / 100:,.2f}" if rng.random() < 0.6 else f"{cents / 100:.2f}"
        if self._comma:
            text = text.replace(",", " ").replace(".", ",").replace(" ", ".")
        sign = self._currency if len(self._currency) < 2 else ""
        style = rng.random()
        if style < 0.6:
            return f"{sign}{text}" if style < 0.45 else f"{text}{sign}"
        return f"-{text}" if style < 0.66 else text

    def number(self) -> str:
        """A number, a date, a time, an amount, a measure."""
        rng, a, b = self.rng, int(self.rng.integers(1, 1000)), int(self.rng.integers(100))
        kind = rng.random()
        if kind < 0.3:
            return str(rng.integers(10 ** int(rng.integers(1, 8))))
        if kind < 0.5:
            return self.money()
        if kind < 0.6:
            return f"{a}{',' if self._comma else '.'}{b}"
        day, month, year = a % 28 + 1, b % 12 + 1, int(rng.integers(1900, 2030))
        forms = (
            f"{day:02d}.{month:02d}.{year}", f"{day}/{month}/{year}", f"{year}-{month:02d}-{day:02d}", f"{year}",
            f"{a % 24:02d}:{b % 60:02d}", f"{a % 24}h{b % 60:02d}", f"{a}{self._dash}{a + b}", f"{a}%", f"±{b}",
            f"{a}{pick(rng, UNITS)}", f"§{b}", f"({a})", f"[{b}]", f"+{a}", f"{a},{b:03d}", f"#{a}", f"{b}°C",
            f"{day}.", f"{b}½", f"+{b} {a}".replace(" ", "-"), f"{a}×{b}", f"No.{b}", f"{b}.{month}.{day}", f"x{b}",
            f"{a % 10}{b:02d}-{a:04d}", f"{b}¼", f"{a}÷{b}", f"¥{a}", f"{b}¾",
        )  # fmt: skip
        return pick(rng, forms)

    def cell(self) -> list[str]:
        """The words of one cell of a table."""
        rng, kind = self.rng, self.rng.random()
        if kind < 0.3:
            return [self._sure(self.money)]
        if kind < 0.6:
            text = [self._sure(self.number)]
            return [*text, pick(rng, UNITS[:5])] if rng.random() < 0.15 else text
        made = [self._sure(self.word) for _ in range(int(rng.choice((1, 2, 3), p=(0.6, 0.3, 0.1))))]
        made[0] = made[0].capitalize() if rng.random() < 0.7 else made[0]
        if rng.random() < 0.1:
            return [self._sure(lambda: pick(rng, ("-", "–", "x", "•", "n/a", "yes", "no", "A", "B+", "1", "0")))]
        return made

    def code(self) -> list[str]:
        """The words of a line of a program."""
        rng = self.rng
        return [self._sure(self._code_word) for _ in range(int(rng.integers(1, 6)))]

    def _code_word(self) -> str:
        rng, kind = self.rng, self.rng.random()
        if kind < 0.35:
            return pick(rng, KEYWORDS)
        a, b = (pick(rng, words(self.held_out)).lower()[:7] for _ in range(2))
        n = int(rng.integers(300))
        forms = (
            a, f"{a}_{b}", f"{a}({b})", f"{a}[{n}]", f"{a}.{b}()", f'"{a}"', f"'{a}',", f"{a}:", f"{a}();", f"{n};",
            f"{{{a}}}", f"<{a}>", f"</{a}>", f"self.{a}", f"{a}={n}", f"0x{n:04x}", f"&{a}", f"*{a}", f"!{a}",
            f"${a}", f"@{a}", f"--{a}", f"{a},", f"{a})", f"({a}", f"{a}|{b}", f"{a}+{n}", f"{n}.{n}", f"%{a[0]}",
            f"\\{a[0]}", f"`{a}`", f"{a.upper()}", f"{a}{b.capitalize()}", f"{a}^{n % 9}", f"~/{a}/{b}",
        )  # fmt: skip
        return pick(rng, forms)
