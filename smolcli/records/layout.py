"""Which fields of records are written, and how: options of every command that writes records."""

from __future__ import annotations

from dataclasses import dataclass, fields

from smolcli import registry
from smolcli.errors import UsageError
from smolcli.terminal.option_fields import opt
from smolcli.terminal.words import enumerate_words

FLAGS = {"fields": "--fields", "bom": "--bom", "safe_csv": "--safe-csv"}
TEMPLATE_OPTIONS = frozenset({"fields"})  # those that go with --template


def complete_fields(incomplete: str) -> list[str]:
    """Tell a shell the names of fields that go on from the last comma of what is typed."""
    from smolcli.writers.columns import COLUMNS, PATH_FIELDS  # not above: help does without

    before, comma, last = incomplete.rpartition(",")
    return [f"{before}{comma}{name}" for name in (*COLUMNS, *PATH_FIELDS, "data.") if name.startswith(last)]


@dataclass(frozen=True)
class Layout:
    """How a record is laid out, in the formats that have fields."""

    panel = "Output"
    is_shared = True

    fields: str | None = opt(
        None,
        "Write only these fields: path,text,data.total; for csv, tsv, json and jsonl.\n"
        "`smolcli help fields` lists them; what is in data is data.KEY. With --template: those that it may name.",
        metavar="NAMES",
        autocompletion=complete_fields,
    )
    bom: bool = opt(False, "Begin csv and tsv with a byte order mark, by which spreadsheets know UTF-8.", "--bom")
    safe_csv: bool = opt(
        False, "In csv and tsv put ' before text that a spreadsheet would take for a formula.", "--safe-csv"
    )

    def check_format(self, record_format: str | None) -> None:
        """Raise UsageError for an option that a format (a key of registry.WRITERS, template, None) does not take."""
        for option in fields(self):
            takers = [name for name, entry in registry.WRITERS.items() if option.name in entry.options]
            if option.name in TEMPLATE_OPTIONS:
                takers.append("template")
            if getattr(self, option.name) != option.default and record_format not in takers:
                subject = "sidecars" if record_format is None else record_format
                message = f"{FLAGS[option.name]} is for {enumerate_words(takers)}, not for {subject}"
                raise UsageError(message, f"add -f {takers[0]}, or leave it out")


def is_table(record_format: str | None) -> bool:
    """Whether a format has a header, and so columns that must be known before the first record."""
    return record_format in registry.WRITERS and "bom" in registry.WRITERS[record_format].options


def refuse_foreign(record_format: str | None) -> None:
    """Raise UsageError for a format that other programs write and none of smolcli's writers."""
    advice = registry.FOREIGN_FORMATS.get(record_format or "")
    if advice is not None and record_format not in registry.WRITERS:
        raise UsageError(f"{record_format} is not a format of smolcli", advice)
