"""Layout of a page: its regions, lines and words with their boxes in reading order, from its pixels alone."""

from smolcli.inputs.layout.analysis import UprightPage, lay_out

__all__ = ["UprightPage", "lay_out"]
