"""What goes out to a vendor, and whether it did: the difference between sending again and never daring to."""

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType
from typing import Any

import httpx
import httpx2
import pytest

from services.generation.providers.wire import AnswerLost, NotSent, Reply, Wire
from tests.certificates import a_server_certificate
from tests.fakes import FakeSite, an_answer
from tools.hostile_providers.server import HostileProviders

LIBRARIES = [httpx, httpx2]
Ways = Callable[..., None]


@pytest.fixture
def site() -> Iterator[FakeSite]:
    with FakeSite().running() as site:
        yield site


def nobody_listens() -> str:
    """Return an address at which a connection is refused."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    return f"http://127.0.0.1:{port}"


def by_send(wire: Wire, url: str, *, seconds: float = 5) -> Any:
    return wire.send("POST", url, seconds=seconds, billable=True, json={"prompt": "x"})


def by_sdk(library: ModuleType) -> Callable[..., Any]:
    def call(wire: Wire, url: str, *, seconds: float = 5) -> Any:
        client = library.Client(transport=wire.transport(library))
        return wire.through(lambda: client.post(url, json={"prompt": "x"}), seconds=seconds, billable=True)

    return call


every_way = pytest.mark.parametrize(
    "ask", [by_send, *(by_sdk(library) for library in LIBRARIES)], ids=["requests", "httpx", "httpx2"]
)


@every_way
def test_a_refused_connection_has_sent_nothing(ask: Callable[..., Any]) -> None:
    with pytest.raises(NotSent, match="not connected"):
        ask(Wire(connections=1), f"{nobody_listens()}/v1")


@every_way
def test_a_name_without_address_has_sent_nothing(ask: Callable[..., Any]) -> None:
    with pytest.raises(NotSent):
        ask(Wire(connections=1), "http://no-such-vendor.invalid/v1")


@every_way
def test_a_certificate_nobody_vouches_for_has_sent_nothing(ask: Callable[..., Any], tmp_path: Any) -> None:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(a_server_certificate(tmp_path, name="localhost"))

    with FakeSite(tls=tls).running() as site:
        with pytest.raises(NotSent):
            ask(Wire(connections=1), f"https://localhost:{site.port}/v1")

        assert site.asked == []


@every_way
def test_a_certificate_of_another_name_has_sent_nothing(ask: Callable[..., Any], tmp_path: Any) -> None:
    certificate = a_server_certificate(tmp_path, name="another.example")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate)

    with FakeSite(tls=tls).running() as site:
        with pytest.raises(NotSent):
            ask(Wire(connections=1, authorities=str(certificate)), f"https://localhost:{site.port}/v1")

        assert site.asked == []


@every_way
def test_a_server_that_speaks_no_tls_has_been_sent_nothing(ask: Callable[..., Any], site: FakeSite) -> None:
    with pytest.raises(NotSent):
        ask(Wire(connections=1), f"https://{site.place}/v1", seconds=0.5)


@every_way
def test_an_answer_comes_as_it_is_over_tls_too(ask: Callable[..., Any], tmp_path: Any) -> None:
    certificate = a_server_certificate(tmp_path, name="localhost")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate)

    with FakeSite(tls=tls).running() as site:
        site.answers["/v1"] = an_answer(b'{"id": 1}', status="201 Created", X_Mark="m")
        reply = ask(Wire(connections=1, authorities=str(certificate)), f"https://localhost:{site.port}/v1")

    assert (reply.status, reply.json(), reply.headers["x-mark"]) == (201, {"id": 1}, "m")


@every_way
@pytest.mark.parametrize(
    "answer",
    [b"", an_answer(b'{"id": 1}', Content_Length="5000"), b"\x00\x01 no http at all\r\n\r\n"],
    ids=["nothing", "half a body", "no HTTP"],
)
def test_what_was_sent_and_not_wholly_answered_is_lost(ask: Callable[..., Any], site: FakeSite, answer: bytes) -> None:
    site.answers["/v1"] = answer

    with pytest.raises(AnswerLost):
        ask(Wire(connections=1), f"http://{site.place}/v1")

    assert len(site.asked) == 1


def trickle(head: bytes) -> Callable[[], Iterator[bytes]]:
    """Return an answer of which a byte comes every 50 ms, without end."""

    def pieces() -> Iterator[bytes]:
        yield head
        while True:
            time.sleep(0.05)
            yield b"x"

    return pieces


@every_way
@pytest.mark.parametrize(
    "head",
    [b"HTTP/1.1 200 OK\r\nX-Long: ", b"HTTP/1.1 200 OK\r\nContent-Length: 9000\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n"],
    ids=["head", "body", "body without length"],
)
def test_an_answer_that_trickles_ends_when_its_time_is_up(ask: Callable[..., Any], site: FakeSite, head: bytes) -> None:
    site.answers["/v1"] = trickle(head)
    began = time.monotonic()

    with pytest.raises(AnswerLost, match=r"in time|out of time"):
        ask(Wire(connections=1), f"http://{site.place}/v1", seconds=0.4)

    assert time.monotonic() - began < 2


@every_way
@pytest.mark.parametrize("status", [301, 307, 308, 400, 429, 500, 503, 504])
def test_neither_a_redirect_nor_an_error_makes_a_second_request(
    ask: Callable[..., Any], site: FakeSite, status: int
) -> None:
    site.answers["/v1"] = an_answer(
        b"{}", status=f"{status} Said", Location=f"http://{site.place}/other", Retry_After="1"
    )

    reply = ask(Wire(connections=1), f"http://{site.place}/v1")

    assert reply.status == status
    assert len(site.asked) == 1


def test_an_sdk_that_sends_a_second_time_by_itself_is_stopped(site: FakeSite) -> None:
    site.answers["/v1"] = an_answer(b"{}", status="500 Error")
    wire = Wire(connections=1)
    client = httpx.Client(transport=wire.transport(httpx))

    def stubborn() -> None:
        client.post(f"http://{site.place}/v1")
        client.post(f"http://{site.place}/v1")

    reply = wire.through(stubborn, seconds=5)

    assert reply.status == 500
    assert len(site.asked) == 1


def test_an_sdk_that_sends_nothing_is_our_bug() -> None:
    with pytest.raises(RuntimeError, match="sent no request"):
        Wire(connections=1).through(lambda: None, seconds=1)


def test_an_answer_without_end_is_not_kept(site: FakeSite, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.generation.providers.wire.ANSWER_BYTES_MAX", 1000)
    site.answers["/v1"] = an_answer(b"x" * 2000)

    with pytest.raises(AnswerLost, match="larger than"):
        by_send(Wire(connections=1), f"http://{site.place}/v1")


def test_what_is_billed_goes_out_on_a_line_of_its_own_and_the_rest_shares_one() -> None:
    with HostileProviders().running() as server:
        wire = Wire(connections=1)
        for billable in (False, False, True, True, False):
            wire.send("GET", f"{server.address}/control", seconds=5, billable=billable)
        lines = [asked.line for asked in server.world.requests]

    shared, again, first, second, after = lines
    assert shared == again
    assert len({shared, first, second, after}) == 4


def test_no_more_requests_are_under_way_than_there_are_connections() -> None:
    with HostileProviders(time_scale=0.01).running() as server:
        wire = Wire(connections=3, headers={"Authorization": "Bearer k"})
        server.world.always("slow")
        given = {"model": "m", "prompt": "p", "image": "", "seed": 1}
        url = f"{server.base_url('getimg')}/stable-diffusion-xl/image-to-image"

        with ThreadPoolExecutor(max_workers=12) as pool:
            asked = [pool.submit(wire.send, "POST", url, seconds=10, json=given, billable=True) for _ in range(12)]
            replies = [each.result() for each in asked]

    assert [reply.status for reply in replies] == [200] * 12
    assert server.world.most_in_flight == 3


def test_a_request_that_finds_no_free_connection_in_its_time_has_sent_nothing() -> None:
    with HostileProviders(time_scale=0.01).running() as server:
        server.world.always("hang")
        wire = Wire(connections=1, headers={"Authorization": "Bearer k"})
        given = {"model": "m", "prompt": "p", "image": "", "seed": 1}
        url = f"{server.base_url('getimg')}/stable-diffusion-xl/image-to-image"
        first = threading.Thread(target=wire.send, args=("POST", url), kwargs={"seconds": 5, "json": given})
        first.start()

        while not server.world.in_flight:
            time.sleep(0.01)
        with pytest.raises(NotSent, match="busy"):
            wire.send("POST", url, seconds=0.1, json=given, billable=True)
        first.join()


def test_neither_proxies_nor_netrc_nor_cookies_change_what_is_sent(
    site: FakeSite, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login somebody password else")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("HTTP_PROXY", nobody_listens())
    site.answers["/v1"] = an_answer(b"{}", Set_Cookie="session=1; Path=/")
    wire = Wire(connections=1, headers={"Authorization": "Bearer k"})

    for _ in range(2):
        wire.send("GET", f"http://{site.place}/v1", seconds=5)

    assert all("Authorization: Bearer k" in head and "cookie" not in head.lower() for head in site.asked)


def test_what_failed_is_told_without_quoting_what_was_sent() -> None:
    secret = "sk-very-secret\n"
    wire = Wire(connections=1, headers={"Authorization": f"Bearer {secret}"})

    with pytest.raises(NotSent) as failed:
        wire.send("GET", f"{nobody_listens()}/v1", seconds=1)

    assert "secret" not in f"{failed.value} {wire!r}"


def test_a_line_that_the_vendor_keeps_open_is_not_used_for_another_request_that_is_billed() -> None:
    with HostileProviders().running() as server:
        wire = Wire(connections=1)
        kept = [wire.send("GET", f"{server.address}/control", seconds=5).status for _ in range(2)]
        wire.send("GET", f"{server.address}/control", seconds=5, billable=True)

    first, again, billed = (asked.line for asked in server.world.requests)
    assert kept == [200, 200]
    assert first == again != billed


@pytest.mark.parametrize(
    ("body", "found"),
    [
        (rb'{"error": "a\u0000b\uD800"}', {"error": "a\ufffdb?"}),
        (rb'{"emoji": "\ud83d\ude00"}', {"emoji": "\U0001f600"}),
        (b"[" * 200_000, None),
        (b"<html>", None),
        (b"\xff", None),
    ],
)
def test_an_answer_is_json_that_can_be_stored_or_none(body: bytes, found: Any) -> None:
    assert Reply(status=200, headers={}, body=body).json() == found
