"""inputs/download.py, against a local server that responds correctly and incorrectly."""

from __future__ import annotations

import base64
import gzip
import socket
import sys
from typing import Any

import httpx2
import pytest

from smolcli import __version__
from smolcli.errors import InputError
from smolcli.inputs.collect import without_password
from smolcli.inputs.download import MAX_REDIRECTS, download
from tests.http_server import Answer, Handler, Server, says


def failure(url: str, **more: Any) -> tuple[str, str]:
    """Return the kind and the message of the error; the message is one line without the address."""
    with pytest.raises(InputError) as caught:
        download(url, **more)
    assert "\n" not in str(caught.value) and "127.0.0.1" not in str(caught.value)
    return caught.value.kind, str(caught.value)


def test_body_is_returned_for_any_content_type(server: Server) -> None:
    server.answers["/a.png"] = says(200, b"\x89PNG", Content_Length=4, Content_Type="text/html")
    assert download(f"{server.url}/a.png#part") == b"\x89PNG"
    assert server.asked == ["/a.png"]
    assert server.headers[0]["User-Agent"] == f"smolcli/{__version__}"
    assert "Authorization" not in server.headers[0]


def test_body_without_length_and_chunked_body(server: Server) -> None:
    server.answers["/open"] = says(200, b"x" * 70_000)
    server.answers["/chunks"] = chunked(b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")
    assert download(f"{server.url}/open") == b"x" * 70_000
    assert download(f"{server.url}/chunks") == b"abcde"


def test_compressed_body_is_not_decompressed(server: Server) -> None:
    """Decompressed, it could be larger than the limit. The server is asked for the plain bytes."""
    packed = gzip.compress(bytes(100_000))
    server.answers["/a"] = says(200, packed, Content_Encoding="gzip", Content_Length=len(packed))
    assert download(f"{server.url}/a", max_bytes=1000) == packed
    assert server.headers[0]["Accept-Encoding"] == "identity"


def chunked(body: bytes) -> Answer:
    def answer(handler: Handler) -> None:
        handler.protocol_version = "HTTP/1.1"
        handler.say(200, body, Transfer_Encoding="chunked")

    return answer


@pytest.mark.parametrize(
    ("status", "kind", "message"),
    [
        (404, "missing", "is not there (the server answers 404); check the address"),
        (410, "missing", "is not there (the server answers 410); check the address"),
        (403, "unreachable", "the server answers 403 Forbidden; the address needs a login"),
        (500, "unreachable", "the server answers 500 Internal Server Error; try again later or check the address"),
        (204, "unreachable", "the server answers 204 No Content; try again later or check the address"),
        (799, "unreachable", "the server answers 799; try again later or check the address"),
    ],
)
def test_error_for_each_status(server: Server, status: int, kind: str, message: str) -> None:
    server.answers["/a"] = says(status, b"<html>")
    assert failure(f"{server.url}/a") == (kind, message)


def test_redirects_are_followed_up_to_the_limit(server: Server) -> None:
    for number in range(9):
        server.answers[f"/{number}"] = says(301 + number % 2, Location=f"{number + 1}?x=1")
        server.answers[f"/{number}?x=1"] = server.answers[f"/{number}"]
    for steps in (3, MAX_REDIRECTS):
        server.answers["/9?x=1"] = says(200, b"found")
        assert download(f"{server.url}/{9 - steps}") == b"found"
    kind, message = failure(f"{server.url}/{9 - MAX_REDIRECTS - 1}")
    assert (kind, message) == ("unreachable", "redirects more than 5 times; give the address where it ends")


def test_circular_redirect_is_an_error(server: Server) -> None:
    server.answers["/a"] = says(307, Location="/a")
    assert failure(f"{server.url}/a")[0] == "unreachable"
    assert server.asked == ["/a"] * (MAX_REDIRECTS + 1)


@pytest.mark.parametrize("place", ["file:///etc/passwd", "ftp://127.0.0.1/a", "data:text/plain,hello"])
def test_redirect_to_another_scheme_is_an_error(server: Server, place: str) -> None:
    server.answers["/a"] = says(302, Location=place)
    kind, message = failure(f"{server.url}/a")
    assert kind == "unreachable" and "only http and https" in message


def test_redirect_to_an_address_that_is_not_percent_encoded(server: Server) -> None:
    server.answers["/a"] = says(302, Location="/fü ä.png".encode().decode("latin-1"))
    server.answers["/f%C3%BC%20%C3%A4.png"] = says(200, b"here")
    assert download(f"{server.url}/a") == b"here"


def test_too_large_content_length_is_refused_before_the_body(server: Server) -> None:
    server.answers["/a"] = says(200, Content_Length=1001)  # and no body: reading it would fail otherwise
    kind, message = failure(f"{server.url}/a", max_bytes=1000)
    assert kind == "too-large" and message.startswith("has more than 1,000 bytes; ")
    server.answers["/b"] = says(200, b"x" * 1000, Content_Length=1000)
    assert len(download(f"{server.url}/b", max_bytes=1000)) == 1000


def test_too_large_body_without_length_is_refused_while_reading(server: Server) -> None:
    def endless(handler: Handler) -> None:
        handler.say(200)
        try:
            while not handler.server.done.is_set():
                handler.wfile.write(bytes(10_000))
        except OSError:
            pass

    server.answers["/a"] = endless
    assert failure(f"{server.url}/a", max_bytes=100_000)[0] == "too-large"


def slow_response(head: bytes) -> Answer:
    """Respond with `head`, then a byte every 20 ms until the test ends, so that no single read times out."""

    def answer(handler: Handler) -> None:
        handler.wfile.write(head)
        try:
            while not handler.server.done.wait(0.02):
                handler.wfile.write(b"x")
        except OSError:
            pass

    return answer


@pytest.mark.parametrize("head", [b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.1 200 OK\r\nX-Long: ", b"HT"])
def test_slow_response_ends_at_the_deadline(server: Server, head: bytes) -> None:
    server.answers["/a"] = slow_response(head)
    kind, message = failure(f"{server.url}/a", deadline=0.2)
    assert kind == "unreachable" and message.startswith("is not completely downloaded after 0.2 seconds; ")


def test_silent_server_times_out(server: Server) -> None:
    server.answers["/a"] = lambda handler: (handler.server.done.wait(60), None)[1]
    assert failure(f"{server.url}/a", timeout=0.1) == (
        "unreachable",
        "the server does not answer in time; try again later",
    )


def test_connection_refused(server: Server) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and not listening
        kind, message = failure(f"http://127.0.0.1:{taken.getsockname()[1]}/a")
    assert kind == "unreachable" and message.startswith("cannot be reached (Connection refused); ")


def test_server_without_tls(server: Server) -> None:
    kind, message = failure(f"https://{server.host}/a")
    assert kind == "unreachable" and message.startswith("cannot be reached (")


def test_silent_server_times_out_in_the_tls_handshake(server: Server) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        kind, message = failure(f"https://127.0.0.1:{silent.getsockname()[1]}/a", timeout=0.1)
    assert kind == "unreachable" and message.startswith("the server does not answer in time")


def test_unknown_host_name(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*args: object, **more: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    assert failure("http://no.example/a") == (
        "unreachable",
        "the server's name is not known; check the address and the network",
    )


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (says(200, b"12345", Content_Length=1000), "the connection ended in the middle; try again"),
        (chunked(b"3\r\nabc\r\n400\r\nde"), "the connection ended in the middle; try again"),
        (lambda handler: None, "the server's answer is broken (Server disconnected without sending a response)"),
        (lambda handler: handler.wfile.write(b"SSH-2.0\r\n\r\n") and None, "the server's answer is broken (illegal"),
    ],
    ids=["length", "chunks", "nothing", "no http"],
)
def test_incomplete_and_broken_responses(server: Server, answer: Answer, says: str) -> None:
    server.answers["/a"] = answer
    kind, message = failure(f"{server.url}/a")
    assert kind == "unreachable" and message.startswith(says)


@pytest.mark.parametrize(
    ("typed", "sent"),
    [
        ("/two words.png", "/two%20words.png"),
        ("/two%20words.png", "/two%20words.png"),
        ("/100%.png?größe=1&b=%C3%BC", "/100%25.png?gr%C3%B6%C3%9Fe=1&b=%C3%BC"),
        ("/Ж/\udcff.png", "/%D0%96/%FF.png"),  # a name that is not UTF-8, as the shell gives it
        ("?q=1", "/?q=1"),
        ("", "/"),
    ],
)
def test_address_is_percent_encoded(server: Server, typed: str, sent: str) -> None:
    server.answers[sent] = says(200, b"here")
    assert download(server.url + typed) == b"here"
    assert server.asked == [sent]


def test_login_is_sent_and_not_in_messages(server: Server) -> None:
    server.answers["/a"] = says(302, Location="/b")
    server.answers["/b"] = says(302, Location=f"{server.url}/c")
    server.answers["/c"] = says(200, b"here")
    assert download(f"http://me:p%40ss:ü@{server.host}/a") == b"here"
    expected = "Basic " + base64.b64encode("me:p@ss:ü".encode()).decode()
    assert [headers["Authorization"] for headers in server.headers] == [expected] * 3
    kind, message = failure(f"http://me:secret@{server.host}/gone")
    assert kind == "missing" and "secret" not in message
    assert failure("http://me:secret@127.0.0.1:notaport/a") == (
        "unreachable",
        "is not an address that can be fetched; check how it is written",
    )


def test_login_is_not_sent_to_another_host(server: Server) -> None:
    server.answers["/a"] = says(302, Location=f"{server.url.replace('127.0.0.1', 'localhost')}/b")
    server.answers["/b"] = says(200, b"here")
    assert download(f"http://me:secret@{server.host}/a") == b"here"
    assert ["Authorization" in headers for headers in server.headers] == [True, False]


def test_proxy_of_the_environment_is_used(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", server.url)
    server.answers["http://pictures.invalid/a.png"] = says(200, b"by proxy")
    assert download("http://pictures.invalid/a.png") == b"by proxy"
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server.answers["/a.png"] = says(200, b"straight")
    assert download(f"{server.url}/a.png") == b"straight"


@pytest.mark.parametrize(
    ("proxy", "message"),
    [
        ("socks5://127.0.0.1:9", "the proxy of the environment is a SOCKS proxy, and the library socksio is not"),
        ("odd://me:secret@127.0.0.1", "the proxy of the environment has no address that can be used"),
    ],
)
def test_unusable_proxy_is_an_error(server: Server, monkeypatch: pytest.MonkeyPatch, proxy: str, message: str) -> None:
    monkeypatch.setitem(sys.modules, "socksio", None)
    monkeypatch.setenv("all_proxy", proxy)
    kind, actual = failure(f"{server.url}/a")
    assert kind == "unreachable" and actual.startswith(message) and "secret" not in actual


def test_missing_certificates_are_an_error(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("smolcli.inputs.download._tls_context", httpx2.create_ssl_context)
    monkeypatch.setenv("SSL_CERT_FILE", "/nowhere.pem")
    kind, message = failure(f"{server.url}/a")
    assert kind == "unreachable" and message.startswith("the certificates of this machine cannot be read (No such file")


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("http:///a.png", "is not an address that can be fetched; check how it is written"),
        ("http://[::1/a.png", "is not an address that can be fetched; check how it is written"),
        (f"http://{'x' * 70}.example/", "is not an address that can be fetched; check how it is written"),
        ("ftp://127.0.0.1/a", "leads to a ftp: address; only http and https are fetched"),
        ("file:///etc/passwd", "leads to a file: address; only http and https are fetched"),
    ],
)
def test_invalid_address_is_an_error(url: str, message: str) -> None:
    assert failure(url) == ("unreachable", message)


def test_without_password() -> None:
    assert without_password("http://me:a@b@host/x@y?z=@") == "http://host/x@y?z=@"
    assert without_password("http://host/x@y") == "http://host/x@y"
    assert without_password("a@b.png") == "a@b.png"
