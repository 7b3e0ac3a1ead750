"""Errors in a model's files that are found where the file's name is not known, and get it where it is."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from smolcli.errors import ModelError
from smolcli.models.tensor_names import DOWNLOAD_AGAIN


class UnsupportedError(Exception):
    """Something that smolcli cannot read or convert: the message says what, `advice` what to do."""

    def __init__(self, message: str, advice: str) -> None:
        super().__init__(message)
        self.advice = advice


@contextmanager
def errors_about(subject: object) -> Iterator[None]:
    """Convert UnsupportedError, and what reading damaged JSON raises, to a ModelError that begins with `subject`.

    >>> with errors_about("config.json"):
    ...     raise UnsupportedError("is odd", "repair it")
    Traceback (most recent call last):
    smolcli.errors.ModelError: config.json: is odd; repair it
    """
    try:
        yield
    except UnsupportedError as error:
        raise ModelError(f"{subject}: {error}", error.advice) from None
    except (KeyError, TypeError, AttributeError, IndexError, ValueError, re.error) as error:
        raise ModelError(f"{subject}: damaged ({error!r})", DOWNLOAD_AGAIN) from error
