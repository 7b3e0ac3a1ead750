"""Every failure that a user can meet; cli/main.py turns what reaches it into a line and an exit code.

    SmolError               1
      UsageError            2
      UnavailableError      3
        ModelError          3
        OfflineError        3
      InputError            4   one input; the run goes on with the others
      EngineError           1
        DeviceLostError     1
      OutputError           1
      ReaderGone            0   the end of the program, and no failure

An exception of any other class is a fault in smolcli (exit code 1). `smolcli help exit-codes` and docs/errors.md are
made from this module.
"""

from __future__ import annotations

from enum import Enum, IntEnum


class Exit(IntEnum):
    """The exit codes of the program, each with its meaning."""

    meaning: str

    def __new__(cls, code: int, meaning: str) -> Exit:
        member = int.__new__(cls, code)
        member._value_ = code
        member.meaning = meaning
        return member

    OK = 0, "all done, or nobody reads the answers any more, as with `| head -1`"
    FAULT = (
        1,
        "a fault in smolcli, an engine that keeps failing, a full disk; or a comparison found a difference "
        "(`convert-to-gguf --verify`, `bench compare`)",
    )
    USAGE = 2, "the command line is wrong; nothing was done"
    UNAVAILABLE = (
        3,
        "a model, a library, a device or the network is not available; or the model is not one that can do this "
        "(`models pull` of another family, `--schema`, `--sidecar .xmp`)",
    )
    NO_INPUT = 4, "nothing to do: no picture, video or usable row of data among the inputs"
    SOME_FAILED = 5, "some inputs failed, or pages of a document; the others are answered"
    ALL_FAILED = 6, "all inputs failed"
    SIGHUP = 129, "ended by SIGHUP; open files are closed, and nothing is left half-written"
    INTERRUPTED = 130, "interrupted: the first Ctrl-C finishes what the model has begun, the second stops at once"
    SIGTERM = 143, "ended by SIGTERM; open files are closed, and nothing is left half-written"


class ErrorKind(str, Enum):
    """What a script can test in a record's `error.kind`, each with its meaning."""

    meaning: str

    def __new__(cls, word: str, meaning: str = "") -> ErrorKind:
        member = str.__new__(cls, word)
        member._value_ = word
        member.meaning = meaning
        return member

    __str__ = str.__str__
    __format__ = str.__format__  # type: ignore[assignment]

    # of an input
    MISSING = "missing", "no such file"
    UNREADABLE = "unreadable", "the system does not let the file be read"
    UNREACHABLE = "unreachable", "a URL whose server does not give it"
    OFFLINE = "offline", "a URL or a model must be fetched, and the network is forbidden (`--offline`) or out of reach"
    NO_INPUT = "no-input", "a directory that holds nothing the command reads, or a pattern that matches nothing"
    EMPTY = "empty", "the file has zero bytes"
    UNSUPPORTED = (
        "unsupported",
        "not a picture, or not a video (known by its content, not its name), or one that needs another library",
    )
    TRUNCATED = "truncated", "the file is damaged or cut short"
    NO_FRAMES = (
        "no-frames",
        "a video without a frame between `--start` and `--end`, a document without a page of `--pages`",
    )
    TOO_LARGE = (
        "too-large",
        "more pixels than `--max-pixels`, or more bytes than 1 GiB of a picture and 256 MiB of standard input or a URL",
    )
    TOO_LONG = "too-long", "the prompt does not fit the model's context"
    EXISTS = (
        "exists",
        "its sidecar, or with `--write-metadata` a description in it, exists, and `--if-exists error` is given; or a "
        "file `.xmp` that is not XMP would be overwritten",
    )
    UNWRITABLE = (
        "unwritable",
        "its sidecar, or with `--write-metadata` the file itself, cannot be written: the name is too long, the folder "
        "is read-only, or exiftool refuses it",
    )
    CHANGED = "changed", "the file was changed while it was read"
    # of its answer
    TIMEOUT = "timeout", "it took longer than `--timeout` to be opened, to a first token, or to the answer's end"
    SCHEMA = "schema", "the answer is not a whole object of `--schema`"
    CRASH = "crash", "the engine's process crashed at this input; it was started again for the next"
    HANG = "hang", "the engine's process did nothing with what it was given"
    MEMORY = (
        "memory",
        "the engine has not enough memory for it, or its process was killed, most likely for want of memory",
    )
    ENGINE = "engine", "the engine refused or failed at this input, and runs on"
    FAULT = "fault", "a fault in smolcli at this input"
    # of the whole run
    START = "start", "the engine's process cannot be started"
    USAGE = "usage", "the command line asks for something that cannot be"
    UNAVAILABLE = "unavailable", "a library or device is not available on this machine"
    MODEL = "model", "a model's files are missing, damaged or of a kind that smolcli does not run"
    OUTPUT = "output", "answers cannot be written where they should go"


class SmolError(Exception):
    """A failure that is reported in one line: `what` is wrong; `advice` says what to do; `kind` is for scripts.

    It can be pickled, and is sent from one process to another as it is.
    """

    code: Exit = Exit.FAULT
    kind: ErrorKind = ErrorKind.FAULT

    def __init__(self, what: str, advice: str = "", *, kind: ErrorKind | None = None) -> None:
        super().__init__(what, advice)  # what pickle calls the class with; all else is in __dict__
        self.what = what
        self.advice = advice
        if kind is not None:
            self.kind = kind

    def __str__(self) -> str:
        return " ".join((f"{self.what}; {self.advice}" if self.advice else self.what).split())


class UsageError(SmolError):
    """The command line asks for something that cannot be."""

    code = Exit.USAGE
    kind = ErrorKind.USAGE


class UnavailableError(SmolError):
    """A library, device or model is not available on this machine."""

    code = Exit.UNAVAILABLE
    kind = ErrorKind.UNAVAILABLE


class ModelError(UnavailableError):
    """A model's files are missing, damaged or of a kind that smolcli does not run."""

    kind = ErrorKind.MODEL


class OfflineError(UnavailableError):
    """Something must be fetched, and the network is forbidden or out of reach."""

    kind = ErrorKind.OFFLINE


class InputError(SmolError):
    """One input is missing, unreadable or not a medium the command reads; `kind` says which."""

    code = Exit.NO_INPUT
    kind = ErrorKind.UNREADABLE


def no_such_file(path: str) -> InputError:
    """Return the error for an input where there is no file, with advice by what is unusual in its path.

    It may be a URL of a scheme that is not read, or come from a list that was made on another system.
    """
    if "://" in path:
        return InputError("only http and https URLs are read", "give the path of the file", kind=ErrorKind.MISSING)
    advice = "write / for \\ between folders" if "\\" in path else "check the path"
    try:
        path.encode()
    except UnicodeEncodeError:  # bytes that are not UTF-8 are surrogates here
        advice = "its name is not UTF-8: if it is from a list, save the list as UTF-8"
    return InputError("no such file", advice, kind=ErrorKind.MISSING)


class EngineError(SmolError):
    """The engine failed; `kind` is CRASH (the process ended), MEMORY, START, TIMEOUT or ENGINE (it reported so)."""

    code = Exit.FAULT
    kind = ErrorKind.ENGINE


class DeviceLostError(EngineError):
    """The GPU's driver refuses every later call of this process, which has to end: a new one may use the GPU again."""

    kind = ErrorKind.CRASH


class ReaderGone(SmolError):
    """The reader of standard output has closed it (`| head -1`): the program ends without a failure."""

    code = Exit.OK


class OutputError(SmolError):
    """Answers cannot be written where they should go."""

    kind = ErrorKind.OUTPUT
