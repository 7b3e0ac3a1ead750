"""One medium over http or https, of an address that the user named outright."""

from __future__ import annotations

import base64
import http.client
import io
import re
import socket
import ssl
import time
import urllib.error
from collections.abc import Callable
from http import HTTPStatus
from typing import Any
from urllib.parse import SplitResult, quote, unquote, urljoin, urlsplit
from urllib.request import HTTPHandler, HTTPSHandler, OpenerDirector, ProxyHandler, Request, UnknownHandler

from smolcli import __version__
from smolcli.errors import InputError

MOST_BYTES = 2**28  # held in memory
TIMEOUT = 30.0  # seconds for connecting, and for each read
DEADLINE = 600.0  # seconds for all of it: a server that sends a byte a second never times out
MOST_REDIRECTS = 5
CHUNK = 2**18  # bytes read at once
_GONE = (HTTPStatus.NOT_FOUND, HTTPStatus.GONE)
_REDIRECTS = (301, 302, 303, 307, 308)
_KEPT = "/:@!$&'()*+,;=~%?"  # what an address may hold as it is; # is cut off before


def download(url: str, most_bytes: int = MOST_BYTES, timeout: float = TIMEOUT, deadline: float = DEADLINE) -> bytes:
    """The content at `url`, whatever the server says its kind is; `timeout` and `deadline` in seconds.

    Spaces and other characters that an address cannot hold are encoded; `user:password@` is sent as basic
    authentication, and to no other host that a redirect names; the proxies of the environment are used.
    Raises InputError: missing (404, 410), unreachable, too-large (over `most_bytes`).
    """
    opener = _opener(_Clock(timeout, time.monotonic() + deadline))
    try:
        return _followed(opener, url, most_bytes, timeout)
    except InputError:
        raise
    except _TooSlow:
        what = f"is not all here after {deadline:g} seconds"
        raise _unreachable(what, "fetch it by other means and give the file") from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise _unreachable(*_reason(error)) from None


# ---- asking ----------------------------------------------------------------------------------------


def _followed(opener: OpenerDirector, url: str, most_bytes: int, timeout: float) -> bytes:
    """The body of the answer at the end of the redirects."""
    login: tuple[str, str] | None = None  # an origin, and what it is told
    for _ in range(MOST_REDIRECTS + 1):
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https"):
            raise _unreachable(f"leads to a {parts.scheme}: address", "only http and https are fetched")
        if parts.username is not None:
            login = (_origin(parts), _basic(parts))
        request = Request(_encoded(parts), headers={"User-Agent": f"smolcli/{__version__}"})
        if login and login[0] == _origin(parts):
            request.add_unredirected_header("Authorization", login[1])
        with opener.open(request, timeout=timeout) as answer:
            place = answer.headers.get("Location")
            if answer.status not in _REDIRECTS or place is None:
                return _body(answer, most_bytes)
        # http.client reads headers as Latin-1; an address that is not encoded is UTF-8 nowadays.
        url = urljoin(url, place.encode("latin-1").decode("utf-8", "surrogateescape"))
    raise _unreachable(f"redirects more than {MOST_REDIRECTS} times", "give the address where it ends")


def _body(answer: Any, most_bytes: int) -> bytes:
    status = answer.status
    if status in _GONE:
        raise InputError(f"is not there (the server answers {status})", "check the address", kind="missing")
    if status != HTTPStatus.OK:
        advice = "the address needs a login" if status in (401, 403) else "try again later or check the address"
        raise _unreachable(f"the server answers {status} {_phrase(status)}".strip(), advice)
    length = answer.length  # of Content-Length; None where the server gives none
    if length is not None and length > most_bytes:
        raise _too_large(most_bytes)
    data = bytearray()
    while chunk := answer.read(CHUNK):
        data += chunk
        if len(data) > most_bytes:
            raise _too_large(most_bytes)
    if length is not None and len(data) < length:
        raise http.client.IncompleteRead(bytes(data), length - len(data))
    return bytes(data)


def _encoded(parts: SplitResult) -> str:
    """The address as it is sent: without login and fragment, every character allowed in one."""
    host = (parts.hostname or "").encode("idna").decode("ascii")
    if not host:
        raise ValueError("it names no host")
    place = f"[{host}]" if ":" in host else host
    if parts.port is not None:
        place += f":{parts.port}"
    query = f"?{_percent(parts.query)}" if parts.query else ""
    return f"{parts.scheme}://{place}{_percent(parts.path) or '/'}{query}"


def _percent(text: str) -> str:
    """Percent-encoding, once: `%41` stays, a `%` that begins no code is a percent sign."""
    encoded = quote(text, safe=_KEPT, errors="surrogateescape")
    return re.sub(r"%(?![0-9A-Fa-f]{2})", "%25", encoded)


def _origin(parts: SplitResult) -> str:
    return f"{parts.scheme}://{parts.hostname}:{parts.port}"


def _basic(parts: SplitResult) -> str:
    login = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}"
    return "Basic " + base64.b64encode(login.encode("utf-8", "surrogateescape")).decode("ascii")


# ---- time ------------------------------------------------------------------------------------------


class _TooSlow(Exception):
    """The deadline has passed."""


class _Clock:
    """How long the next wait may be."""

    def __init__(self, timeout: float, end: float) -> None:
        self._timeout = timeout
        self._end = end

    def patience(self) -> float:
        """Seconds, more than 0. Raises _TooSlow where none is left."""
        left = self._end - time.monotonic()
        if left <= 0:
            raise _TooSlow
        return min(self._timeout, left)

    def is_over(self) -> bool:
        return time.monotonic() >= self._end


class _Timed(io.RawIOBase):
    """What a socket receives; each read waits as long as the clock allows, header lines included."""

    def __init__(self, sock: socket.socket, format_time: _Clock) -> None:
        self._sock = sock
        self._raw = sock.makefile("rb", buffering=0)
        self._clock = format_time

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._sock.settimeout(self._clock.patience())
        try:
            return self._raw.readinto(buffer)
        except TimeoutError:
            if self._clock.is_over():
                raise _TooSlow from None
            raise

    def close(self) -> None:
        self._raw.close()
        super().close()


def _opener(format_time: _Clock) -> OpenerDirector:
    """No more than http, https and the environment's proxies: no file:, no ftp:, no redirects of its own."""

    class Response(http.client.HTTPResponse):
        def __init__(self, sock: socket.socket, *args: Any, **more: Any) -> None:
            super().__init__(sock, *args, **more)
            self.fp.close()
            self.fp = io.BufferedReader(_Timed(sock, format_time))

    def timed(kind: Callable[..., http.client.HTTPConnection]) -> Callable[..., http.client.HTTPConnection]:
        def connect(host: str, timeout: float, **more: Any) -> http.client.HTTPConnection:
            connection = kind(host, timeout=format_time.patience(), **more)
            connection.response_class = Response
            return connection

        return connect

    class Plain(HTTPHandler):
        def http_open(self, request: Request) -> Any:
            return self.do_open(timed(http.client.HTTPConnection), request)

    class Secure(HTTPSHandler):
        def https_open(self, request: Request) -> Any:
            context = ssl.create_default_context()
            return self.do_open(timed(http.client.HTTPSConnection), request, context=context)

    opener = OpenerDirector()
    for handler in (ProxyHandler(), Plain(), Secure(), UnknownHandler()):
        opener.add_handler(handler)
    return opener


# ---- errors ----------------------------------------------------------------------------------------


def _unreachable(what: str, advice: str) -> InputError:
    return InputError(what, advice, kind="unreachable")


def _too_large(most_bytes: int) -> InputError:
    return InputError(
        f"has more than {most_bytes:,} bytes", "fetch it by other means and give the file", kind="too-large"
    )


def _phrase(status: int) -> str:
    return next((known.phrase for known in HTTPStatus if known == status), "")


def _reason(error: Exception) -> tuple[str, str]:
    """What is wrong and what to do; never the address, which may hold a password."""
    if isinstance(error, urllib.error.URLError) and isinstance(error.reason, Exception):
        error = error.reason
    if isinstance(error, TimeoutError):
        return "the server does not answer in time", "try again later"
    if isinstance(error, socket.gaierror):
        return "the server's name is not known", "check the address and the network"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the server's certificate is not valid ({error.verify_message})", "check the address"
    if isinstance(error, OSError):
        return f"cannot be reached ({error.strerror or error})", "check the address and the network"
    if isinstance(error, http.client.IncompleteRead):
        return "the connection ended in the middle", "try again"
    if isinstance(error, http.client.HTTPException) and not isinstance(error, http.client.InvalidURL):
        return f"the server's answer is broken ({type(error).__name__})", "try again later"
    return "is not an address that can be fetched", "check how it is written"
