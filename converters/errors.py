"""Faults that are found where the name of the file is not known, and named where it is."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from smolcli.errors import ModelError

AGAIN = "download or save it again"


class Unfit(Exception):
    """`what` is wrong with something that cannot be converted so; `advice` says what to do."""

    def __init__(self, what: str, advice: str) -> None:
        super().__init__(what)
        self.advice = advice


@contextmanager
def named(thing: object) -> Iterator[None]:
    """Makes a ModelError that names `thing` of an Unfit, and of what reading damaged JSON may raise.

    >>> with named("config.json"):
    ...     raise Unfit("is odd", "mend it")
    Traceback (most recent call last):
    smolcli.errors.ModelError: config.json: is odd; mend it
    """
    try:
        yield
    except Unfit as unfit:
        raise ModelError(f"{thing}: {unfit}", unfit.advice) from None
    except (KeyError, TypeError, AttributeError, IndexError, ValueError, re.error) as error:
        raise ModelError(f"{thing}: damaged ({error!r})", AGAIN) from error
