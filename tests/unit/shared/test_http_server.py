"""The HTTP server against clients that are slow, greedy, confused or gone: in a process of its own, over sockets."""

import contextlib
import http.client
import io
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import urllib.parse
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import eventlet
import pytest
from eventlet import patcher

from shared import http_protocol

# Unlike those of eventlet, it tells a connection that was reset from one that has ended.
PLAIN = patcher.original("socket")
ROOT = Path(__file__).resolve().parents[3]


class Server:
    def __init__(self, process):
        self.process = process
        self.port = int(process.stdout.readline())

    def get(self, path, **options):
        return self.request("GET", path, **options)

    def request(self, method, path, *, body=None, headers=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request(method, path, body=body, headers=headers or {})
            answer = connection.getresponse()
            return answer.status, answer.read(), answer.headers
        finally:
            connection.close()

    def connect(self):
        return socket.create_connection(("127.0.0.1", self.port), timeout=10)

    def say(self, *lines, body=b""):
        """Send raw lines and return everything that comes back until the server closes."""
        with self.connect() as sock:
            sock.sendall("\r\n".join([*lines, "", ""]).encode("latin-1") + body)
            return read_all(sock)

    def is_alive(self):
        return self.process.poll() is None and self.get("/ping")[0] == 200


def read_all(sock):
    received = b""
    while piece := sock.recv(65536):
        received += piece
    return received


def answer_in(received):
    head, _, body = received.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body), head.decode()


@contextlib.contextmanager
def serving(**settings):
    process = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("http_process.py"))],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), **{name: str(value) for name, value in settings.items()}},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        yield Server(process)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.fixture(scope="module")
def server():
    with serving(HEADER_SECONDS=0.5) as running:
        yield running


def test_a_connection_serves_one_request_after_the_other(server):
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)

    bodies = []
    for _ in range(3):
        connection.request("POST", "/echo", body=json.dumps({"text": "a"}))
        bodies.append(json.loads(connection.getresponse().read()))
    connection.close()

    assert bodies == [{"text": "a"}] * 3


def test_headers_that_trickle_in_are_not_waited_for(server):
    with server.connect() as sock:
        started = time.monotonic()
        sock.sendall(b"GET /ping HTTP/1.1\r\n")
        for _ in range(4):
            time.sleep(0.2)  # each byte comes in time for itself, all of them too late
            _try_to_send(sock, b"X")
        status, problem, head = answer_in(read_all(sock))

    assert (status, problem["code"]) == (408, "request_timeout")
    assert "X-Request-Id" in head
    assert time.monotonic() - started < 5


def test_a_body_above_the_limit_is_refused_before_any_of_it_is_sent(server):
    received = server.say("POST /echo HTTP/1.1", "Host: a", "Content-Length: 10000000")

    status, problem, head = answer_in(received)
    assert (status, problem["code"]) == (413, "body_too_large")
    assert "Connection: close" in head


def test_a_client_that_asks_first_is_refused_without_a_go_ahead(server):
    received = server.say("POST /echo HTTP/1.1", "Host: a", "Content-Length: 10000000", "Expect: 100-continue")

    assert received.startswith(b"HTTP/1.1 413")


def test_a_client_that_asks_first_is_told_to_go_ahead(server):
    with server.connect() as sock:
        sock.sendall(b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 12\r\nExpect: 100-continue\r\n\r\n")
        assert sock.recv(65536).startswith(b"HTTP/1.1 100 Continue")
        sock.sendall(b'{"text":"a"}')

        assert sock.recv(65536).startswith(b"HTTP/1.1 200")


def test_a_client_that_sends_everything_first_still_sees_the_refusal(server):
    status, body, _ = server.request("POST", "/echo", body=b"x" * 15_000_000)

    assert status == 413
    assert json.loads(body)["limit"] == 64 << 10


def test_a_chunked_body_works_and_is_counted(server):
    small = server.request("POST", "/echo", body=iter([b'{"text"', b':"a"}']))
    large = server.request("POST", "/echo", body=iter([b"x" * 10_000] * 8))

    assert (small[0], json.loads(small[1])) == (200, {"text": "a"})
    assert large[0] == 413


@pytest.mark.parametrize(
    "chunk",
    [
        b"-5\r\n",
        b"zz\r\n",
        b"f" * 10_000,
        b"4\r\nab",
        b"0x2\r\n{}\r\n0\r\n\r\n",
        b"0_2\r\n{}\r\n0\r\n\r\n",
        b"+2\r\n{}\r\n0\r\n\r\n",
        b"2;\n{}\r\n0\r\n\r\n",
        b"2;a\rb\r\n{}\r\n0\r\n\r\n",
        b"2\n{}\r\n0\r\n\r\n",
        b"2\r\n{}\n0\r\n\r\n",
        b"2\r\n{}0\r\n0\r\n\r\n",
        b"2\r\n{}a: b\r\n0\r\n\r\n",
        b"2\r\n{}\r\n0\r\n5\r\n\r\n",
        b"2\r\n{}\r\n0\r\n\n",
        b"2\r\n{}\r\n0\r\na: b\x0bc\r\n\r\n",
    ],
)
def test_chunks_that_are_none_end_the_request(server, chunk):
    with server.connect() as sock:
        sock.sendall(b"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk)
        sock.shutdown(socket.SHUT_WR)
        received = read_all(sock)

    assert answer_in(received)[1]["code"] == "malformed_request"


def test_chunks_may_have_extensions_and_trailers(server):
    body = b'C ; a="b"\r\n{"text":"a"}\r\n0;c\r\nDigest: a\r\n\r\n'

    received = server.say(
        *("POST /echo HTTP/1.1", "Host: a", "Connection: close", "Transfer-Encoding: \t Chunked \t"), body=body
    )

    assert answer_in(received)[:2] == (200, {"text": "a"})


@pytest.mark.parametrize("stray", ["\x01", "\x0b", "\x0c", "\x1c", "\x1f", "\x7f", "\x85", "\xa0"])
@pytest.mark.parametrize("header", ["Transfer-Encoding: {}chunked", "Transfer-Encoding: chunked{}"])
def test_what_only_looks_like_white_space_hides_no_second_request(server, header, stray):
    smuggled = b"1d;a /b HTTP/1.1\r\nHost: a\r\n\r\nGET /ping HTTP/1.1\r\nHost: a\r\n\r\n\r\n0\r\n\r\n"

    received = server.say("POST /echo HTTP/1.1", "Host: a", header.format(stray), body=smuggled)

    assert answer_in(received)[1]["code"] == "malformed_request"
    assert received.count(b"HTTP/1.1") == 1


@pytest.mark.parametrize("line", ["X-Note: a{}b", "X-Note: {}", "X{}Note: a"])
@pytest.mark.parametrize("control", ["\0", "\x01", "\x0b", "\x1f", "\x7f", "\r", "\n"])
def test_a_header_has_no_control_characters(server, line, control):
    received = server.say("GET /ping HTTP/1.1", "Host: a", line.format(control))

    assert answer_in(received)[1]["code"] == "malformed_request"


def test_a_header_may_be_in_another_language_and_have_tabs(server):
    received = server.say("GET /ping HTTP/1.1", "Host: a", "X-Note: \t\xe9t\xe9\t2026", "Connection: close")

    assert received.startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize(
    "headers",
    [
        ["Content-Length: 5", "Transfer-Encoding: chunked"],
        ["Transfer-Encoding: gzip, chunked"],
        ["Transfer-Encoding: chunked", "Transfer-Encoding: identity"],
        ["Content-Length: 5", "Content-Length: 6"],
        ["Content-Length: -1"],
        ["Content-Length: +5"],
        ["Content-Length: \x0b5"],
        ["Content-Length: 5\xa0"],
        ["Content-Length: " + "9" * 30],
        ["Transfer-Encoding : chunked"],
        ["X-Note: a\rTransfer-Encoding: chunked"],
        ["X-Note: a\0b"],
        ["X-Note: a", " Transfer-Encoding: chunked"],
        ["no header at all"],
        [": nameless"],
        ["From a Transfer-Encoding: chunked"],
        ["X(Note): a"],
        ["X\xe9: a"],
    ],
)
def test_a_request_whose_length_is_open_to_debate_is_refused(server, headers):
    smuggled = b"GET /ping HTTP/1.1\r\nHost: a\r\n\r\n"

    received = server.say("POST /echo HTTP/1.1", *headers, "Host: a", body=smuggled)

    status, problem, _ = answer_in(received)
    assert (status, problem["code"]) == (400, "malformed_request")
    assert received.count(b"HTTP/1.1") == 1


@pytest.mark.parametrize("content_type", ["multipart/form-data; boundary=x", "multipart/form-data", "message/rfc822"])
def test_a_type_whose_parts_come_with_the_body_is_no_broken_header(server, content_type):
    status, answer, _ = server.request("POST", "/echo", body=b'{"text": "a"}', headers={"Content-Type": content_type})

    assert (status, json.loads(answer)["code"]) == (415, "unsupported_media_type")


@pytest.mark.parametrize(
    "headers",
    [
        ["Content-Type: multipart/form-data; boundary=x"],
        ["Content-Type: multipart/form-data"],
        ["Content-Type: multipart/form-data; boundary=x", "Content-Transfer-Encoding: base64"],
    ],
)
def test_the_headers_of_a_form_are_not_in_doubt_because_its_parts_come_later(server, headers):
    body = b'--x\r\nContent-Disposition: form-data; name="text"\r\n\r\na\r\n--x--\r\n'
    length = f"Content-Length: {len(body)}"

    received = server.say("POST /echo HTTP/1.1", "Host: a", "Connection: close", *headers, length, body=body)

    status, problem, _ = answer_in(received)
    assert (status, problem["code"]) == (415, "unsupported_media_type")


def test_what_is_no_request_is_answered_with_a_problem(server):
    garbage = answer_in(server.say("<script>alert(1)</script> x y z"))
    long_address = answer_in(server.say("GET /" + "a" * 9000 + " HTTP/1.1", "Host: a"))
    long_header = answer_in(server.say("GET /ping HTTP/1.1", "X: " + "a" * 9000))
    many_headers = answer_in(server.say("GET /ping HTTP/1.1", *[f"X-{n}: a" for n in range(200)]))

    assert (garbage[0], garbage[1]["code"]) == (400, "malformed_request")
    assert "script" not in json.dumps(garbage[1])
    assert (long_address[0], long_address[1]["code"]) == (414, "address_too_long")
    assert (long_header[0], long_header[1]["code"]) == (431, "headers_too_large")
    assert (many_headers[0], many_headers[1]["code"]) == (431, "headers_too_large")


def test_a_body_nobody_asked_for_is_no_second_request(server):
    received = server.say(
        "GET /ping HTTP/1.1", "Host: a", "Content-Length: 32", body=b"GET /ping?a HTTP/1.1\r\nHost: a\r\n\r\n"
    )

    assert received.count(b"HTTP/1.1 ") == 1
    assert received.startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize(
    "path",
    [
        "//ping",
        "///ping",
        "ping",
        "/%70ing",
        "/ping%00",
        "/ping#a",
        "http://a/ping",
        "*",
        "/kept%2fassets/a.png",
        "/kept%2Fassets/a.png",
        "/kept/assets%2Fa.png",
        "/kept//assets/a.png",
        "/kept/assets//a.png",
        "/kept/./a.png",
        "/kept/../ping",
        "/kept/..",
        "/kept/%2E%2E/ping",
        "/kept/assets%5Ca.png",
        "/kept/assets\\a.png",
        "/kept/%61.png",
        "/kept/a%7Eb",
        "/kept/caf%c3%a9",
        "/kept/%C0%AFa",
        "/kept/%FF",
        "/kept/%0A",
        "/kept/%7F",
        "/kept/%",
        "/kept/%4",
        "/kept/%zz",
        "/kept/a|b",
        '/kept/a"b',
    ],
)
def test_an_address_in_another_form_than_its_own_is_not_there(server, path):
    status, problem, _ = answer_in(server.say(f"GET {path} HTTP/1.1", "Host: a", "Connection: close"))

    assert (status, problem["code"]) == (404, "not_found")


@pytest.mark.parametrize(
    "key", ["assets/org_1/ast_1.png", "images/org_1/a-b_c~d.webp", "exports/o/a b+c.csv", "a:b@c,d;e=f/é…%", "a/"]
)
def test_the_key_of_a_file_is_found_as_links_write_it(server, key):
    strictly = server.get(f"/kept/{urllib.parse.quote(key)}")
    freely = server.get(f"/kept/{urllib.parse.quote(key, safe='/:@,;=+')}")

    assert [(status, json.loads(body)) for status, body, _ in (strictly, freely)] == [(200, {"text": key})] * 2


@pytest.mark.parametrize(
    "line",
    [
        "get /ping HTTP/1.1",
        "head /ping HTTP/1.1",
        "Get /ping HTTP/1.1",
        "GET  /ping HTTP/1.1",
        "GET /ping  HTTP/1.1",
        "GET\t/ping HTTP/1.1",
        "GET /ping\tHTTP/1.1",
        "GET /ping\xa0HTTP/1.1",
        " GET /ping HTTP/1.1",
        "GET /ping HTTP/1.1 ",
        "GET /ping HTTP/01.1",
        "GET /ping http/1.1",
        "GET /ping HTTP/2.0",
        "GET /ping",
        "GET /ping?\xe9 HTTP/1.1",
        "GET /ping HTTP/1.1\nHost: a",
        "",
    ],
)
def test_a_request_line_has_one_form(server, line):
    received = server.say(line, "Host: a", "Connection: close")

    status, problem, _ = answer_in(received)
    assert (status, problem["code"]) == (400, "malformed_request")
    assert received.count(b"HTTP/1.1 ") == 1


@pytest.mark.parametrize(
    "hosts",
    [
        [],
        ["Host: a", "Host: a"],
        ["Host: a", "HOST: b"],
        ["Host: a b"],
        ["Host: a/b"],
        ["Host: a@b"],
        ["Host: a, b/"],
        ["Host: a:b"],
        ["Host: \xe9"],
    ],
)
def test_a_request_names_its_host_once(server, hosts):
    status, problem, _ = answer_in(server.say("GET /ping HTTP/1.1", *hosts, "Connection: close"))

    assert (status, problem["code"]) == (400, "malformed_request")


@pytest.mark.parametrize("host", ["a.example", "10.0.0.7:8000", "[::1]:8000", "[fe80::1]", "my_gateway:80", ""])
def test_every_form_of_a_host_is_taken(server, host):
    assert server.say("GET /ping HTTP/1.1", f"Host: {host}", "Connection: close").startswith(b"HTTP/1.1 200")


def test_a_client_of_before_hosts_need_not_name_one(server):
    assert server.say("GET /ping HTTP/1.0").startswith(b"HTTP/1.1 200")


def test_a_client_of_before_chunks_may_not_send_any(server):
    received = server.say("POST /echo HTTP/1.0", "Transfer-Encoding: chunked", body=b'c\r\n{"text":"a"}\r\n0\r\n\r\n')

    assert answer_in(received)[1]["code"] == "malformed_request"


def test_a_head_request_has_the_length_and_no_body(server):
    received = server.say("HEAD /pieces/3 HTTP/1.1", "Host: a", "Connection: close")

    assert b"Content-Length: 196608" in received
    assert received.endswith(b"\r\n\r\n")


def test_a_body_that_breaks_off_ends_the_connection(server):
    with pytest.raises(http.client.IncompleteRead):
        server.get("/broken")

    assert server.is_alive()


def test_a_stream_is_as_long_as_it_gets_and_leaves_the_connection_usable(server):
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)

    answers = []
    for path in ("/stream/3", "/stream/0", "/ping"):
        connection.request("GET", path)
        answer = connection.getresponse()
        answers.append((answer.headers["Transfer-Encoding"], answer.headers["Content-Length"], len(answer.read())))
    connection.close()

    assert answers == [("chunked", None, 3 * 65536), ("chunked", None, 0), (None, "15", 15)]


def test_a_stream_ends_with_the_connection_for_a_client_that_knows_no_chunks(server):
    received = server.say("GET /stream/3 HTTP/1.0")

    head, _, body = received.partition(b"\r\n\r\n")
    assert b"Transfer-Encoding" not in head
    assert body == b"x" * 3 * 65536


@pytest.mark.parametrize("version", ["1.0", "1.1"])
@pytest.mark.parametrize("path", ["/stream/broken/1", "/stream/broken/2000", "/stream/stuck"])
def test_a_stream_that_breaks_never_looks_complete(server, version, path):
    with PLAIN.create_connection(("127.0.0.1", server.port), timeout=10) as sock:
        sock.sendall(f"GET {path} HTTP/{version}\r\nHost: a\r\nConnection: close\r\n\r\n".encode())

        with pytest.raises(ConnectionResetError):
            read_all(sock)

    assert server.is_alive()


def test_a_stream_that_breaks_before_its_first_piece_is_answered_with_a_problem(server):
    status, body, headers = server.get("/stream/broken/0")

    assert (status, json.loads(body)["code"]) == (500, "internal_error")
    assert headers["Content-Type"] == "application/problem+json"


def test_a_piece_is_sent_when_it_is_made(server):
    with server.connect() as sock:
        sock.sendall(b"GET /stream/stuck HTTP/1.1\r\nHost: a\r\n\r\n")

        received = read_all(sock)

    assert received.endswith(b"7\r\na line\n\r\n")


def test_a_stream_is_made_no_faster_than_it_is_taken_and_closed_when_its_client_leaves(server):
    before = json.loads(server.get("/counts")[1])

    with server.connect() as sock:
        sock.sendall(b"GET /stream/10000 HTTP/1.1\r\nHost: a\r\n\r\n")
        sock.recv(1)
    left = _until(lambda: json.loads(server.get("/counts")[1])["closed"] - before["closed"], 1)
    after = json.loads(server.get("/counts")[1])

    assert left == 1
    assert after["made"] - before["made"] < 1000


def test_a_head_request_closes_the_stream_it_does_not_read(server):
    before = json.loads(server.get("/counts")[1])

    received = server.say("HEAD /stream/5 HTTP/1.1", "Host: a", "Connection: close")

    after = json.loads(server.get("/counts")[1])
    assert received.endswith(b"\r\n\r\n")
    assert (after["made"] - before["made"], after["closed"] - before["closed"]) == (1, 1)


def test_clients_that_reset_their_connection_harm_nobody(server):
    requests = [
        b"",
        b"GET /pi",
        b"GET /ping HTTP/1.1\r\nHost: a\r\n\r\n",
        b"POST /echo HTTP/1.1\r\nContent-Length: 100\r\n\r\n{",
        b"GET /slow/0.2 HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /pieces/500 HTTP/1.1\r\nHost: a\r\n\r\n",
    ]

    for request in requests * 10:
        sock = server.connect()
        sock.sendall(request)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.close()

    assert server.is_alive()


def test_a_full_file_table_stops_nothing_for_good():
    with serving(FILES=40, FILES_KEPT_FREE=-1000) as server:
        idle = [server.connect() for _ in range(150)]

        crowded = server.get("/ping")[0]
        for sock in idle:
            sock.close()

        assert crowded == 200
        assert server.is_alive()


def test_few_files_mean_few_connections():
    with serving(FILES=40) as server:
        idle = [server.connect() for _ in range(150)]

        crowded = _until(lambda: _status(server), 200)
        for sock in idle:
            sock.close()

        assert crowded == 200


def test_idle_connections_make_room_for_those_with_a_request():
    with serving(CONNECTIONS_MAX=10) as server:
        slow = [server.connect() for _ in range(60)]
        for sock in slow:
            _try_to_send(sock, b"GET /ping HT")

        status = _until(lambda: _status(server), 200)

        for sock in slow:
            sock.close()
        assert status == 200


def test_where_every_connection_is_at_work_the_next_is_turned_away():
    with serving(CONNECTIONS_MAX=8) as server, ThreadPoolExecutor(8) as clients:
        busy = [clients.submit(server.get, "/slow/1.5") for _ in range(8)]

        refused = _until(lambda: _status(server), 503)

        assert refused == 503
        assert [future.result()[0] for future in busy] == [200] * 8


def test_one_address_has_no_more_connections_than_it_may():
    with serving(PER_ADDRESS=5) as server, ThreadPoolExecutor(5) as clients:
        busy = [clients.submit(server.get, "/slow/1.5") for _ in range(5)]

        refused = _until(lambda: _status(server), 503)

        assert refused == 503
        assert [future.result()[0] for future in busy] == [200] * 5
        assert _until(lambda: _status(server), 200) == 200


def test_an_address_that_holds_idle_connections_gets_another_for_one_of_them():
    with serving(PER_ADDRESS=5) as server:
        idle = [server.connect() for _ in range(5)]

        status = _until(lambda: _status(server), 200)

        for sock in idle:
            sock.close()
        assert status == 200


@pytest.mark.parametrize("bytes_a_time", [0, 512])
def test_a_client_that_does_not_take_its_answer_is_not_waited_for(bytes_a_time):
    with serving(WRITE_SECONDS=0.3, SLOWEST_READER=1_000_000) as server, server.connect() as sock:
        before = json.loads(server.get("/counts")[1])["closed"]
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.sendall(b"GET /stream/10000 HTTP/1.1\r\nHost: a\r\n\r\n")

        def closed():
            with contextlib.suppress(OSError):
                _ = bytes_a_time and sock.recv(bytes_a_time)
            return json.loads(server.get("/counts")[1])["closed"] - before

        assert _until(closed, 1) == 1
        assert server.is_alive()


def test_a_request_that_finds_no_worker_is_told_so_in_time():
    with serving(WORKERS=2) as server, ThreadPoolExecutor(6) as clients:
        started = time.monotonic()

        answers = [future.result() for future in [clients.submit(server.get, "/slow/1.5") for _ in range(6)]]

        assert sorted(status for status, _, _ in answers) == [200, 200, 503, 503, 503, 503]
        assert time.monotonic() - started < 5


def test_a_stopping_server_answers_what_it_has_begun_and_takes_nothing_new():
    with serving() as server:
        idle = server.connect()
        idle.sendall(b"GET /ping HTTP/1.1\r\nHost: a\r\n\r\n")
        idle.recv(65536)
        answers = []
        running = threading.Thread(target=lambda: answers.append(server.get("/slow/1.0")))
        running.start()
        _until(lambda: _connections(server), 4)

        server.process.send_signal(signal.SIGTERM)
        running.join()

        assert answers[0][0] == 200
        assert idle.recv(65536) == b""
        assert server.process.wait(timeout=5) == 0
        with pytest.raises(ConnectionRefusedError):
            server.connect()
        idle.close()


# --- turns: what has come already is read without waiting, so that nothing else would have its own


def test_requests_that_all_come_at_once_do_not_keep_the_others_from_their_turn(server):
    one = b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n"
    server.get("/stalled")

    with server.connect() as sock:
        sock.settimeout(60)
        last = b"GET /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
        sending = threading.Thread(target=sock.sendall, args=(one * 8000 + last,))
        sending.start()
        received = read_all(sock)
        sending.join()
    stalled = json.loads(server.get("/stalled")[1])["seconds"]

    assert received.count(b"HTTP/1.1 404") == 8001
    assert stalled < 0.5


def test_a_body_in_chunks_gives_others_their_turn_while_it_is_read():
    turns = []

    def take_turns():
        while True:
            turns.append(None)
            eventlet.sleep(0)

    others = eventlet.spawn(take_turns)
    body = io.BytesIO(b"1\r\n\r\n" * 1600)
    lines = http_protocol._BoundedLines(body)  # noqa: SLF001  over a socket, how often is a matter of luck

    while lines.readline():
        pass
    others.kill()

    assert len(turns) >= 100


def test_a_body_in_far_too_many_chunks_is_refused(server):
    received = server.say(
        *("POST /take HTTP/1.1", "Host: a", "Content-Type: text/plain", "Transfer-Encoding: chunked"),
        body=b"1\r\nx\r\n" * 100_000 + b"0\r\n\r\n",
    )

    status, problem, _ = answer_in(received)
    assert (status, problem["code"]) == (400, "malformed_request")
    assert "larger" in problem["detail"]


def test_a_large_body_may_come_in_chunks_as_proxies_make_them(server):
    chunk = b"400\r\n" + b"x" * 1024 + b"\r\n"

    received = server.say(
        *("POST /take HTTP/1.1", "Host: a", "Content-Type: text/plain", "Transfer-Encoding: chunked"),
        "Connection: close",
        body=chunk * 1000 + b"0\r\n\r\n",
    )

    assert received.startswith(b"HTTP/1.1 204")


def _try_to_send(sock, text):
    with contextlib.suppress(OSError):
        sock.sendall(text)


def _status(server):
    try:
        return server.get("/ping")[0]
    except OSError:
        return None


def _connections(server):
    """Return how many ends of connections the system knows of: two for each."""
    table = Path("/proc/net/tcp").read_text(encoding="ascii")
    return sum(f":{server.port:04X} " in line and " 01 " in line for line in table.splitlines())


def _until(probe, wanted):
    deadline = time.monotonic() + 5
    found = probe()
    while found != wanted and time.monotonic() < deadline:
        time.sleep(0.02)
        found = probe()
    return found
