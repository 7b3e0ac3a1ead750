"""Downloads one input over HTTP or HTTPS, from an address that the user gave."""

from __future__ import annotations

import functools
import re
import socket
import ssl
import threading
import time
from typing import Any
from urllib.parse import urljoin

import httpx2

from smolcli import __version__, registry
from smolcli.errors import ErrorKind, InputError

MAX_BYTES = 2**28  # a download is held in memory
TIMEOUT = 30.0  # seconds for connecting, and for each read
DEADLINE = 600.0  # seconds for the whole download: a server that sends one byte a second never times out
MAX_REDIRECTS = 5
REDIRECTS = (301, 302, 303, 307, 308)
# The body is wanted as it is stored: a compressed one could unpack to more than MAX_BYTES.
HEADERS = {"User-Agent": f"smolcli/{__version__}", "Accept-Encoding": "identity", "Connection": "close"}


def download(url: str, max_bytes: int = MAX_BYTES, timeout: float = TIMEOUT, deadline: float = DEADLINE) -> bytes:
    """Return the body of the response at `url`, whatever content type it has; `timeout` and `deadline` in seconds.

    Spaces and other characters that a URL cannot hold are percent-encoded. `user:password@` is sent as basic
    authentication, and to no other host that a redirect names. The proxies of the environment are used.
    Raises InputError: missing (404, 410), unreachable, too-large (over `max_bytes`). No message shows the URL, which
    may hold a password.
    """
    with _Deadline(deadline) as end, _client(timeout) as client:
        try:
            return _follow_redirects(client, url, max_bytes, timeout, end)
        except (httpx2.HTTPError, httpx2.InvalidURL, OSError, ValueError) as error:
            if end.seconds_left() <= 0:
                message = f"is not completely downloaded after {deadline:g} seconds"
                raise _unreachable(message, "fetch it by other means and give the file") from None
            raise _unreachable(*_explain(error)) from None


def _follow_redirects(client: httpx2.Client, url: str, max_bytes: int, timeout: float, end: _Deadline) -> bytes:
    """Return the body at the end of the redirects; the client's own redirects would read bodies of any size."""
    login: tuple[tuple[str, bytes], tuple[str, str]] | None = None  # an origin, and the user and password for it
    for _ in range(MAX_REDIRECTS + 1):
        address = httpx2.URL(_percent_encode(url))
        if address.scheme not in ("http", "https"):
            raise _unreachable(f"leads to a {address.scheme}: address", "only http and https are fetched")
        if not address.host:
            raise ValueError("the address names no host")
        origin = address.scheme, address.netloc
        if address.userinfo:
            login = origin, (address.username, address.password)
        auth = login[1] if login is not None and login[0] == origin else None
        limits = httpx2.Timeout(timeout, connect=min(timeout, max(end.seconds_left(), 0.001)))
        trace = {"trace": end.watch_socket}
        with client.stream("GET", address, auth=auth, timeout=limits, extensions=trace) as response:
            location = response.extensions.get("location")
            if location is None:
                return _read_body(response, max_bytes, end)
        url = urljoin(url, location.decode("utf-8", "surrogateescape"))
    raise _unreachable(f"redirects more than {MAX_REDIRECTS} times", "give the address where it ends")


def _take_location(response: httpx2.Response) -> None:
    """Move the address of a redirect out of the headers, before the client rejects some of them in its own words."""
    if response.status_code in REDIRECTS:
        for name, value in response.headers.raw:
            if name.lower() == b"location":
                response.extensions["location"] = value
        response.headers.pop("Location", None)


def _percent_encode(url: str) -> str:
    """Encode what the client's URL leaves alone: bytes that are not UTF-8 (as surrogates), and `%` without a code."""
    url = re.sub("[\udc80-\udcff]", lambda match: f"%{ord(match[0]) - 0xDC00:02X}", url)
    return re.sub(r"%(?![0-9A-Fa-f]{2})", "%25", url)


def _read_body(response: httpx2.Response, max_bytes: int, end: _Deadline) -> bytes:
    status = response.status_code
    if status in (404, 410):
        raise InputError(f"is not there (the server answers {status})", "check the address", kind=ErrorKind.MISSING)
    if status != 200:
        advice = "the address needs a login" if status in (401, 403) else "try again later or check the address"
        phrase = httpx2.codes.get_reason_phrase(status)
        raise _unreachable(f"the server answers {status} {phrase}".strip(), advice)
    length = response.headers.get("Content-Length", "")
    if length.isdecimal() and int(length) > max_bytes:
        raise _too_large(max_bytes)
    data = bytearray()
    try:
        for chunk in response.iter_raw():
            data += chunk
            if len(data) > max_bytes:
                raise _too_large(max_bytes)
    except httpx2.RemoteProtocolError:
        if end.seconds_left() > 0:
            raise _unreachable("the connection ended in the middle", "try again") from None
    if end.seconds_left() <= 0:  # the connection was shut down, which looks like the end of a body without a length
        raise TimeoutError
    return bytes(data)


def _client(timeout: float) -> httpx2.Client:
    hooks = {"response": [_take_location]}
    try:
        return httpx2.Client(headers=HEADERS, timeout=timeout, verify=_tls_context(), event_hooks=hooks)
    except OSError as error:
        message = f"the certificates of this machine cannot be read ({error.strerror or error})"
        raise _unreachable(message, "check SSL_CERT_FILE and SSL_CERT_DIR") from None
    except ImportError:
        message = "the proxy of the environment is a SOCKS proxy, and the library socksio is not installed"
        raise _unreachable(message, registry.install_command("socksio")) from None
    except (httpx2.InvalidURL, ValueError):
        message = "the proxy of the environment has no address that can be used"
        raise _unreachable(message, "check http_proxy, https_proxy and all_proxy") from None


@functools.cache
def _tls_context() -> ssl.SSLContext:
    """Load the certificates of this machine, which takes some 20 ms."""
    return httpx2.create_ssl_context()


class _Deadline:
    """Shuts down the connection of a download when its time is over. A context manager.

    The client itself has a timeout for each read, and none for all of them.
    """

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds
        self._timer = threading.Timer(seconds, self._shut_down)
        self._timer.daemon = True
        self._socket: socket.socket | None = None

    def __enter__(self) -> _Deadline:
        self._timer.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._timer.cancel()

    def seconds_left(self) -> float:
        return self._end - time.monotonic()

    def watch_socket(self, event: str, info: dict[str, Any]) -> None:
        """Keep the socket of a new connection; the client calls this at each step (extension `trace` of httpcore)."""
        if event.endswith((".connect_tcp.complete", ".start_tls.complete")):
            self._socket = info["return_value"].get_extra_info("socket")
            if self.seconds_left() <= 0:
                raise TimeoutError

    def _shut_down(self) -> None:
        try:
            if self._socket is not None:
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)  # SSLSocket's own would break its reader
        except OSError:
            pass  # the connection is closed already


def _too_large(max_bytes: int) -> InputError:
    message = f"has more than {max_bytes:,} bytes"
    return InputError(message, "fetch it by other means and give the file", kind=ErrorKind.TOO_LARGE)


def _unreachable(message: str, advice: str) -> InputError:
    return InputError(message, advice, kind=ErrorKind.UNREACHABLE)


def _explain(error: BaseException) -> tuple[str, str]:
    """Say what went wrong, and what to do about it."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, OSError):  # the client wraps what the system raised
        cause = cause.__cause__ or cause.__context__
    if isinstance(cause, TimeoutError):
        return "the server does not answer in time", "try again later"
    if isinstance(cause, socket.gaierror):
        return "the server's name is not known", "check the address and the network"
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"the server's certificate is not valid ({cause.verify_message})", "check the address"
    if isinstance(cause, OSError):
        return f"cannot be reached ({cause.strerror or cause})", "check the address and the network"
    if isinstance(error, httpx2.ProxyError):
        return f"the proxy refuses the connection ({error})", "check http_proxy and https_proxy"
    if isinstance(error, httpx2.RemoteProtocolError):
        return f"the server's answer is broken ({str(error).rstrip('.')})", "try again later"
    return "is not an address that can be fetched", "check how it is written"
