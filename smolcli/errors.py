"""Every failure a user can meet.

    SmolError                      exit code
    ├── UsageError                 2   the command line cannot be understood
    ├── UnavailableError           3   a model, library or device is not here
    │   ├── ModelError             3   a model's files are missing, broken or not a kind smolcli runs
    │   └── OfflineError           3   the network is needed and not allowed or not there
    ├── InputError                 4   one input cannot be used; in a run it becomes an error record
    ├── EngineError                1   the engine process failed: crash, kill, fault
    ├── ReaderGone                 0   nobody reads standard output any more; nothing is said
    └── OutputError                1   answers cannot be written: a full disk

A message is one line: what is wrong, then `advice`, what to do. An exception of any other
class is a fault in smolcli (exit code 1).
"""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """The exit codes of the program."""

    OK = 0
    FAULT = 1
    USAGE = 2
    UNAVAILABLE = 3
    NO_INPUT = 4
    SOME_FAILED = 5
    ALL_FAILED = 6
    INTERRUPTED = 130


class SmolError(Exception):
    """A failure that is told in one line: `what` is wrong, `advice` says what to do, `kind` is for scripts."""

    code: Exit = Exit.FAULT
    kind = "fault"

    def __init__(self, what: str, advice: str = "", *, kind: str | None = None) -> None:
        super().__init__(f"{what}; {advice}" if advice else what)
        self.what = what
        self.advice = advice
        if kind is not None:
            self.kind = kind

    def __str__(self) -> str:
        return " ".join(super().__str__().split())


class UsageError(SmolError):
    """The command line asks for something that cannot be."""

    code = Exit.USAGE
    kind = "usage"


class UnavailableError(SmolError):
    """A library, device or model is not available on this machine."""

    code = Exit.UNAVAILABLE
    kind = "unavailable"


class ModelError(UnavailableError):
    """A model's files are missing, damaged or of a kind that smolcli does not run."""

    kind = "model"


class OfflineError(UnavailableError):
    """Something must be fetched and the network is forbidden or out of reach."""

    kind = "offline"


class InputError(SmolError):
    """One input is missing, unreadable or not a medium the command reads.

    `kind` is one of missing, unreadable, unreachable, offline, empty, no-input, unsupported, truncated, too-large,
    no-frames, changed, exists, unwritable.
    """

    code = Exit.NO_INPUT
    kind = "unreadable"


class EngineError(SmolError):
    """The engine failed; `kind` is crash (the process ended), memory, start, timeout or engine (it said so)."""

    code = Exit.FAULT
    kind = "engine"


class ReaderGone(SmolError):
    """Whoever read standard output has closed it: the end of the program, and no failure."""

    code = Exit.OK


class OutputError(SmolError):
    """Answers cannot be written where they should go."""

    kind = "output"
