"""One command as the user gave it: the task and its options, and what follows from them alone."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from smolcli import registry
from smolcli.generation import json_schema
from smolcli.inputs.collect import InputCollector
from smolcli.options import Batch, Generate, Input, Model, Output
from smolcli.records.layout import Layout, is_table
from smolcli.tasks.base import Task
from smolcli.writers.columns import Column, table_columns
from smolcli.writers.destination import STDOUT_NAMES, chosen_format, sidecar_template
from smolcli.writers.fields import parse_fields


@dataclass(frozen=True)
class Request:
    """The command `name` with its options, one dataclass for each panel of the help."""

    name: str
    task: Task
    input: Input
    model: Model
    generate: Generate
    output: Output
    batch: Batch
    layout: Layout = Layout()

    def asks_many(self, inputs: InputCollector) -> bool:
        """Whether there may be more than one record: of several items, or of the pages of one."""
        return (inputs.has_many and not self.task.together) or self.task.page_options.split_pages

    @cached_property
    def record_file(self) -> Path | None:
        """The file that records are written to; None is standard output."""
        file = self.output.output
        return None if file is None or str(file) in STDOUT_NAMES else file

    @cached_property
    def sidecar_template(self) -> str | None:
        """The template of the text sidecars; without any, --template is the format of the records."""
        return sidecar_template(self.output)

    @cached_property
    def record_format(self) -> str | None:
        """The format of the records: a key of registry.WRITERS, `template`, or None if only sidecars are written."""
        output = self.output
        if output.output is not None and output.format is None and output.template is None:
            suffix = output.output.suffix.lower()
            if suffix == self.task.text_suffix != registry.TEXT_SIDECAR:  # -o page.md of ocr --layout markdown
                return "text"
        is_written_elsewhere = output.sidecar or output.write_metadata or self.task.searchable
        return chosen_format(output, None if is_written_elsewhere else "text")

    @property
    def has_table_rows(self) -> bool:
        """Whether the rows of tables that are read are written, and not a row for each record."""
        return self.task.gives_tables and self.layout.fields is None and self.record_format in registry.TABLE_WRITERS

    @property
    def writes_into_collection(self) -> tuple[str, ...]:
        """The options given that write into the user's own picture collection, as on the command line.

        Photo programs show what they write as if the user had; a sidecar under --out-dir is not in the collection.
        """
        output = self.output
        writes_xmp = ".xmp" in output.sidecar and output.out_dir is None
        return ("--sidecar .xmp",) * writes_xmp + ("--write-metadata",) * output.write_metadata

    @cached_property
    def columns(self) -> tuple[Column, ...] | None:
        """The fields of the records that are written; None where the format has none to choose.

        Raises UsageError for an unknown field of --fields, and for a --schema that cannot be.
        """
        schema = None if self.generate.schema is None else json_schema.parse(self.generate.schema)
        data_columns = self.task.data_columns([] if schema is None else json_schema.field_keys(schema))
        if self.layout.fields is None:
            return table_columns(data_columns) if is_table(self.record_format) else None
        is_known = data_columns and (schema is None or json_schema.is_closed(schema))
        data_keys = [keys for _, keys in data_columns] + [(key,) for key in self.task.data_parts]
        return parse_fields(self.layout.fields, data_keys if is_known else None)
