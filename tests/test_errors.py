"""errors.py: what is said of a failure, and that a failure travels between processes as it is."""

from __future__ import annotations

import pickle
from collections.abc import Iterator

import pytest

from smolcli.errors import EngineError, ErrorKind, ModelError, SmolError


def classes(base: type[SmolError]) -> Iterator[type[SmolError]]:
    yield base
    for subclass in base.__subclasses__():
        yield from classes(subclass)


@pytest.mark.parametrize("kind", [None, ErrorKind.HANG])
@pytest.mark.parametrize("error_class", [each for each in classes(SmolError) if each.__module__ == "smolcli.errors"])
def test_every_error_is_the_same_in_another_process(error_class: type[SmolError], kind: ErrorKind | None) -> None:
    error = error_class("a.gguf: no such file", "check the path", kind=kind)
    sent = pickle.loads(pickle.dumps(error))
    assert type(sent) is error_class
    assert (sent.what, sent.advice) == ("a.gguf: no such file", "check the path")
    assert sent.kind is (error_class.kind if kind is None else kind) and sent.code is error_class.code
    assert str(sent) == "a.gguf: no such file; check the path"


def test_an_error_is_told_in_one_line() -> None:
    assert str(ModelError("the model\n cannot be  loaded")) == "the model cannot be loaded"
    assert str(EngineError("the engine\tfailed\n", "run it\nagain")) == "the engine failed ; run it again"
