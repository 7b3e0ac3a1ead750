"""A sink that keeps in which order records come."""

from __future__ import annotations

import io

from smolcli.records.sink import RecordSink
from smolcli.terminal.console import Console
from smolcli.types import Record
from smolcli.writers.json_lines import JsonLines


class Paths(RecordSink):
    """Keeps the paths of the records."""

    def __init__(self, fail_fast: bool = False) -> None:
        super().__init__(JsonLines(io.StringIO()), Console(quiet=True), fail_fast=fail_fast)
        self.paths: list[str] = []

    def write_record(self, record: Record) -> bool:
        self.paths.append(record.path)
        return super().write_record(record)
