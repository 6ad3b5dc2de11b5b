"""The guard of every address from outside: each known way around it, tried against real sockets on loopback."""

import gzip
import itertools
import json
import resource
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.outside import Outside, UrlRefused, UrlUnreachable
from shared.outside_addresses import is_public
from shared.outside_names import NameUnknown, SystemResolver
from shared.outside_urls import target_of
from shared.problems import LimitExceeded
from tests.certificates import a_server_certificate
from tests.fakes import FakeSite, an_answer

PUBLIC = "93.184.215.14"


class Names:
    """Name servers of the test: each name has a list of answers, given one after the other, the last for ever."""

    def __init__(self, **names):
        self.names = {name.replace("_", "."): answers for name, answers in names.items()}
        self.asked = []

    def __call__(self, host, seconds, *, whose=""):
        del whose
        assert seconds > 0
        self.asked.append(host)
        if host not in self.names:
            raise NameUnknown(host)
        answers = self.names[host]
        return answers.pop(0) if len(answers) > 1 else answers[0]


@pytest.fixture
def site():
    with FakeSite().running() as site:
        yield site


@pytest.fixture
def second_site():
    with FakeSite(address="127.0.0.2").running() as site:
        yield site


def guard(*sites, resolve=None, **more):
    """A guard that takes these sites, and nothing else of this machine, for the public internet."""
    return Outside(allowed=[site.place for site in sites], resolve=resolve or Names(), **more)


def strict(resolve=None):
    return Outside(resolve=resolve or Names(public_test=[[PUBLIC]]))


# --- addresses


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0",  # noqa: S104  nothing is bound here
        *("127.0.0.1", "127.8.9.1", "0.1.2.3", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1"),
        *("169.254.169.254", "169.254.170.2", "168.63.129.16", "100.64.0.1", "100.100.100.200", "192.0.0.192"),
        *("192.0.0.9", "192.0.2.1", "192.88.99.1", "198.18.0.1", "198.51.100.7", "203.0.113.7"),
        *("224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255"),
        *("::", "::1", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:93.184.215.14", "::ffff:a9fe:a9fe"),
        *("64:ff9b::a00:1", "64:ff9b::8.8.8.8", "64:ff9b:1::1", "100::1", "2001::1", "2001:0:4136:e378::1"),
        *("2001:db8::1", "2002:7f00:1::", "2002:a00:1::1", "3fff::1", "5f00::1", "fc00::1", "fd00:ec2::254"),
        *("fe80::1", "fec0::1", "ff02::1", "4000::1", "e000::1", "200::1"),
    ],
)
def test_an_address_that_is_not_of_the_public_internet_is_refused(address):
    host = f"[{address}]" if ":" in address else address
    named = strict(Names(a_test=[[address]]))

    for guarded, url in ((strict(), f"http://{host}/"), (strict(), f"https://{host}/"), (named, "http://a.test/")):
        with pytest.raises(UrlRefused):
            guarded.check(url)


@pytest.mark.parametrize(
    "address", [PUBLIC, "1.1.1.1", "8.8.8.8", "172.32.0.1", "2606:4700::1111", "2a00:1450:4001::1"]
)
def test_an_address_of_the_public_internet_is_fine(address):
    host = f"[{address}]" if ":" in address else address

    strict().check(f"https://{host}/a.png?b=c#d")
    strict(Names(a_test=[[address]])).check("http://a.test/")


@given(st.one_of(st.integers(0, 2**32 - 1).map(IPv4Address), st.integers(0, 2**128 - 1).map(IPv6Address)))
def test_the_list_is_never_milder_than_pythons_own(address):
    assert address.is_global or not is_public(address)


@pytest.mark.parametrize(
    "host",
    [
        *("127.1", "127.0.1", "2130706433", "0x7f000001", "0x7f.1", "0177.0.0.1", "017700000001", "127.0.0.0x1"),
        *("0", "127.0.0.1.", "0x", "127.0.0.1%2f", "%31%32%37.0.0.1", "[::ffff:127.0.0.1]", "[0:0:0:0:0:ffff:7f00:1]"),
        *(
            "[::127.0.0.1]",
            "[fe80::1%25eth0]",
            "[::1%25lo]",
            "\uff11\uff12\uff17.0.0.1",
            "127\u30020\u30020\u30021",
            "134744072",
            "08.8.8.8",
        ),
        *(
            "localhost",
            "localhost.",
            "LOCALHOST",
            "ⓛocalhost",
            "a..test",
            "-",
            "a b.test",
            "a\tb.test",
            "a\u200bb.test",
        ),
    ],
)
def test_no_other_writing_of_an_address_gets_through(host):
    """With the machine's own resolver, which reads most of these as loopback."""
    with pytest.raises(UrlRefused):
        Outside().check(f"http://{host}/")


@pytest.mark.parametrize(
    "url",
    [
        *("ftp://public.test/", "file:///etc/passwd", "gopher://public.test/", "//public.test/", "public.test", ""),
        *("http://", "http:///x", "http:public.test", "http://user@public.test/", "http://u:p@public.test/"),
        *(
            "http://@public.test/",
            "http://public.test\\@127.0.0.1/",
            "http:\\\\public.test",
            "http://public.test/\r\nX: y",
        ),
        *("http://public.test/a b", "http://public.test/\0", "http://public.test:99999/", "http://public.test:x/"),
        "http://public.test/" + "a" * 2048,
    ],
)
def test_what_is_no_plain_web_address_is_refused(url):
    with pytest.raises(UrlRefused) as refusal:
        strict().check(url)

    assert (refusal.value.status, refusal.value.code) == (400, "url_refused")


@given(st.text(st.sampled_from("htps:/?#@[]%\\.0123456789abcdefx-_ \t\r\n\0\u3002\uff11\u00fc&=;,!$'"), max_size=40))
def test_whatever_text_comes_is_read_as_one_plain_address_or_refused(text):
    for url in (text, f"http://{text}", f"https://{text}/"):
        try:
            target = target_of(url)
        except UrlRefused:
            continue
        assert target.scheme in {"http", "https"}
        assert target.host
        assert not set(target.host) & set("@/\\?#[]% ")
        assert 0 <= target.port <= 65535
        assert target.path.startswith("/")
        assert target.path.isascii()
        assert target.path.isprintable()


@pytest.mark.parametrize("port", [0, 21, 22, 25, 81, 5432, 5672, 6379, 8080, 9200, 65535])
def test_only_the_ports_of_the_web_are_used(port):
    with pytest.raises(UrlRefused, match="80 and 443"):
        strict().check(f"http://public.test:{port}/")


@pytest.mark.parametrize("url", ["http://public.test:443/", "https://public.test:80/", "HTTPS://PUBLIC.TEST./"])
def test_both_ports_of_the_web_serve_either_way(url):
    strict().check(url)


def test_what_an_operator_lists_may_be_reached_there_and_nowhere_else():
    guarded = Outside(allowed=["10.1.0.0/16", "127.0.0.1:8080", "[::1]:9090", "fd00::/8"], resolve=Names())

    for url in (
        "http://10.1.2.3/",
        "https://10.1.2.3/",
        "http://127.0.0.1:8080/",
        "http://[::1]:9090/",
        "http://[fd00::1]/",
    ):
        guarded.check(url)
    for url in (
        "http://10.2.0.1/",
        "http://10.1.2.3:8080/",
        "http://127.0.0.1/",
        "http://127.0.0.1:9090/",
        "http://[::1]/",
    ):
        with pytest.raises(UrlRefused):
            guarded.check(url)


# --- names


def test_a_name_is_refused_when_any_of_its_addresses_is():
    with pytest.raises(UrlRefused):
        strict(Names(mixed_test=[[PUBLIC, "10.0.0.1"]])).check("http://mixed.test/")
    with pytest.raises(UrlRefused):
        strict(Names(mixed_test=[["10.0.0.1", PUBLIC]])).check("http://mixed.test/")
    with pytest.raises(UrlRefused):
        strict(Names(mixed_test=[[PUBLIC, "not an address"]])).check("http://mixed.test/")


def test_a_name_inside_and_a_name_that_is_none_are_refused_in_the_same_words():
    guarded = strict(Names(inside_test=[["10.0.0.1"]], empty_test=[[]]))
    refusals = []

    for host in ("inside.test", "empty.test", "unknown.test", "10.0.0.1"):
        with pytest.raises(UrlRefused) as refusal:
            guarded.check(f"http://{host}/")
        refusals.append(refusal.value.as_dict())

    assert all(refusal == refusals[0] for refusal in refusals)


def test_a_name_of_other_letters_is_asked_for_in_ascii(site):
    names = Names(**{"xn--bcher-kva_test": [["127.0.0.1"]]})
    site.answers["/"] = an_answer(b"read")

    guard(site, resolve=names).fetch(f"http://BÜCHER.test:{site.port}/", max_bytes=10)

    assert names.asked == ["xn--bcher-kva.test"]
    assert f"Host: xn--bcher-kva.test:{site.port}\r\n" in site.asked[0]


def test_a_name_that_changes_its_address_after_the_check_changes_nothing(site, second_site):
    names = Names(rebinding_test=[["127.0.0.1"], ["127.0.0.2"]])
    site.answers["/"] = an_answer(b"the site that was checked")

    fetched = guard(site, resolve=names).fetch(f"http://rebinding.test:{site.port}/", max_bytes=100)

    assert fetched.data == b"the site that was checked"
    assert names.asked == ["rebinding.test"]
    assert second_site.asked == []


def test_a_name_that_changes_its_address_between_two_redirects_is_checked_again(site):
    names = Names(rebinding_test=[["127.0.0.1"], ["10.0.0.1"]])
    site.answers["/"] = an_answer(status="302 Found", Location="/again")

    with pytest.raises(UrlRefused):
        guard(site, resolve=names).fetch(f"http://rebinding.test:{site.port}/", max_bytes=100)

    assert len(site.asked) == 1
    assert names.asked == ["rebinding.test", "rebinding.test"]


def test_the_next_address_is_tried_when_one_does_not_answer(site):
    site.answers["/"] = an_answer(b"found")
    silent = FakeSite(address="127.0.0.3")
    silent.close()
    names = Names(two_test=[["127.0.0.3", "127.0.0.1"]])
    guarded = Outside(allowed=[site.place, f"127.0.0.3:{site.port}"], resolve=names)

    assert guarded.fetch(f"http://two.test:{site.port}/", max_bytes=100).data == b"found"


def test_the_machines_own_resolver_knows_localhost_and_not_what_does_not_exist():
    assert "127.0.0.1" in SystemResolver()("localhost", 5)
    with pytest.raises(NameUnknown):
        SystemResolver()("name.invalid", 5)
    with pytest.raises(NameUnknown):
        SystemResolver()("a" * 64 + ".test", 5)


# --- the request


def test_a_site_is_asked_by_its_name_and_for_nothing_packed(site):
    site.answers["/a.png?b=c"] = an_answer(b"a picture", Content_Type="image/png")

    fetched = guard(site, resolve=Names(pictures_test=[["127.0.0.1"]])).fetch(
        f"http://pictures.test.:{site.port}/a.png?b=c#fragment", max_bytes=100
    )

    assert (fetched.data, fetched.content_type) == (b"a picture", "image/png")
    head = site.asked[0]
    assert head.startswith("GET /a.png?b=c HTTP/1.1\r\n")
    assert f"Host: pictures.test:{site.port}\r\n" in head
    assert "Accept-Encoding: identity\r\n" in head
    assert "Cookie" not in head


def test_neither_a_proxy_nor_a_netrc_of_the_environment_is_used(site, monkeypatch, tmp_path):
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login me password secret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    site.answers["/"] = an_answer(b"direct")

    assert guard(site).fetch(f"http://127.0.0.1:{site.port}/", max_bytes=100).data == b"direct"
    assert "Authorization" not in site.asked[0]


def test_a_message_can_be_posted_and_its_redirect_is_not_followed(site):
    site.answers["/hook"] = an_answer(b"", status="307 Temporary Redirect", Location="/elsewhere")

    with guard(site).opened(
        f"http://127.0.0.1:{site.port}/hook", method="POST", body=b"{}", headers={"X-Mine": "1"}, max_bytes=100
    ) as reply:
        assert (reply.status, reply.read()) == (307, b"")

    assert len(site.asked) == 1
    assert site.asked[0].startswith("POST /hook HTTP/1.1\r\n")
    assert "X-Mine: 1\r\n" in site.asked[0]


@pytest.mark.parametrize(
    "status", ["204 No Content", "404 Not Found", "500 Internal Server Error", "206 Partial Content"]
)
def test_any_answer_but_200_is_no_content(site, status):
    site.answers["/"] = an_answer(b"" if status.startswith("204") else b"x", status=status)

    with pytest.raises(UrlUnreachable, match=status[:3]) as refusal:
        guard(site).fetch(f"http://127.0.0.1:{site.port}/", max_bytes=100)

    assert (refusal.value.status, refusal.value.code) == (422, "url_unreachable")


@pytest.mark.parametrize(
    "raw", [b"", b"SSH-2.0-OpenSSH_9.9\r\n", b"\x16\x03\x01\x02\x00", b"HTTP/1.1 nonsense\r\n\r\n"]
)
def test_what_does_not_speak_http_is_no_content(site, raw):
    site.answers["/"] = raw

    with pytest.raises(UrlUnreachable):
        guard(site).fetch(f"http://127.0.0.1:{site.port}/", max_bytes=100)


def test_a_site_that_is_down_is_said_to_be_out_of_reach(site):
    site.close()

    with pytest.raises(UrlUnreachable):
        guard(site).fetch(f"http://127.0.0.1:{site.port}/", max_bytes=100)


# --- redirects


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize(
    "location",
    [
        "http://169.254.169.254/latest/meta-data/",
        "http://[fd00:ec2::254]/latest/meta-data/",
        "//169.254.169.254/",
        "http://metadata.test/",
        "http://127.0.0.1:1/",
        "http://0x7f.1/",
        "http://[",
        "http://\xe9.test/",
        "file:///etc/passwd",
        "gopher://127.0.0.1:6379/_x",
        "http://user:password@public.test/",
        "http://public.test:22/",
    ],
)
def test_no_redirect_leads_inside(site, status, location):
    site.answers["/"] = an_answer(status=f"{status} Moved", Location=location)
    names = Names(metadata_test=[["169.254.169.254"]], public_test=[[PUBLIC]])

    with pytest.raises(UrlRefused):
        guard(site, resolve=names).fetch(f"http://127.0.0.1:{site.port}/", max_bytes=100)

    assert len(site.asked) == 1


def test_a_redirect_to_another_site_that_is_fine_is_followed(site, second_site):
    site.answers["/"] = an_answer(status="302 Found", Location=f"http://{second_site.place}/there")
    second_site.answers["/there"] = an_answer(b"moved")

    fetched = guard(site, second_site).fetch(f"http://{site.place}/", max_bytes=100)

    assert (fetched.data, fetched.url) == (b"moved", f"http://{second_site.place}/there")


def test_three_redirects_are_followed_and_not_a_fourth(site):
    for number in range(5):
        site.answers[f"/{number}"] = an_answer(status="302 Found", Location=f"/{number + 1}")
    site.answers["/5"] = an_answer(b"the end")

    assert guard(site).fetch(f"http://{site.place}/2", max_bytes=100).data == b"the end"
    with pytest.raises(UrlUnreachable, match="more than 3"):
        guard(site).fetch(f"http://{site.place}/1", max_bytes=100)

    assert len(site.asked) == 4 + 4


# --- sizes


def endless():
    yield b"HTTP/1.1 200 OK\r\n\r\n"
    yield from itertools.repeat(b"x" * 65536)


def endless_chunks():
    yield b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    yield from itertools.repeat(b"10000\r\n" + b"x" * 65536 + b"\r\n")


def endless_head():
    yield b"HTTP/1.1 200 OK\r\n"
    yield from (f"X-{number}: {'x' * 60000}\r\n".encode() for number in itertools.count())


def endless_line():
    yield b"HTTP/1.1 200 OK\r\nX: "
    yield from itertools.repeat(b"x" * 65536)


def endless_interim():
    return itertools.repeat(b"HTTP/1.1 100 Continue\r\n\r\n")


@pytest.mark.parametrize("body", [endless, endless_chunks])
def test_a_body_without_end_is_left_at_the_limit(site, body):
    site.answers["/"] = body

    with pytest.raises(LimitExceeded) as refusal:
        guard(site).fetch(f"http://{site.place}/", max_bytes=1_000_000)

    assert refusal.value.extra["limit"] == 1_000_000
    assert site.hung_up.wait(5)


@pytest.mark.parametrize("head", [endless_head, endless_line, endless_interim])
def test_a_head_without_end_is_left(site, head):
    site.answers["/"] = head

    with pytest.raises(UrlUnreachable):
        guard(site).fetch(f"http://{site.place}/", max_bytes=100, seconds=1)


def test_a_body_that_says_it_is_too_large_is_not_read(site):
    site.answers["/"] = lambda: iter([b"HTTP/1.1 200 OK\r\nContent-Length: 101\r\n\r\n"])

    with pytest.raises(LimitExceeded):
        guard(site).fetch(f"http://{site.place}/", max_bytes=100)


@pytest.mark.parametrize("size", [99, 100])
def test_a_body_up_to_the_limit_is_read(site, size):
    site.answers["/"] = an_answer(b"x" * size)
    site.answers["/chunked"] = (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n" % size + b"x" * size + b"\r\n0\r\n\r\n"
    )

    assert len(guard(site).fetch(f"http://{site.place}/", max_bytes=100).data) == size
    assert len(guard(site).fetch(f"http://{site.place}/chunked", max_bytes=100).data) == size


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nonly this",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n32\r\nonly this",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nonly\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nnonsense\r\n",
    ],
)
def test_a_body_that_ends_before_its_length_is_not_taken_for_the_whole(site, raw):
    site.answers["/"] = raw

    with pytest.raises(UrlUnreachable):
        guard(site).fetch(f"http://{site.place}/", max_bytes=100)


def test_what_comes_behind_the_length_is_not_taken(site):
    site.answers["/"] = an_answer(b"four and more", Content_Length="4")

    assert guard(site).fetch(f"http://{site.place}/", max_bytes=100).data == b"four"


def test_two_lengths_that_differ_are_no_answer(site):
    site.answers["/"] = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nabcde"

    with pytest.raises(UrlUnreachable):
        guard(site).fetch(f"http://{site.place}/", max_bytes=100)


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd", "gzip, gzip"])
def test_a_packed_body_is_refused_and_never_unpacked(site, encoding):
    bomb = gzip.compress(gzip.compress(bytes(200_000_000), 9), 9)
    site.answers["/"] = an_answer(bomb, Content_Encoding=encoding)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    with pytest.raises(UrlUnreachable, match="packed"):
        guard(site).fetch(f"http://{site.place}/", max_bytes=10 << 20)

    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000  # kB


# --- time


def slow_body():
    yield b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"
    yield from slowly(b"x")


def slow_body_of_no_length():
    yield b"HTTP/1.1 200 OK\r\n\r\n"
    yield from slowly(b"x")


def slow_head():
    yield b"HTTP/1.1 200 OK\r\nX: "
    yield from slowly(b"x")


def slow_chunks():
    yield b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    yield from slowly(b"1\r\nx\r\n")


def silence():
    yield b""
    threading.Event().wait(5)


def slowly(piece) -> Iterator[bytes]:
    for _ in range(100):
        threading.Event().wait(0.05)
        yield piece


@pytest.mark.parametrize("answer", [slow_body, slow_body_of_no_length, slow_head, slow_chunks, silence])
def test_a_site_that_sends_a_byte_now_and_then_is_left_when_the_time_is_over(site, answer):
    site.answers["/"] = answer
    started = time.monotonic()

    with pytest.raises(UrlUnreachable, match="in time"):
        guard(site).fetch(f"http://{site.place}/", max_bytes=10_000, seconds=0.5)

    assert 0.4 < time.monotonic() - started < 2


def test_the_time_is_for_all_redirects_together(site):
    def slow_redirect():
        threading.Event().wait(0.3)
        yield an_answer(status="302 Found", Location="/")

    site.answers["/"] = slow_redirect
    started = time.monotonic()

    with pytest.raises(UrlUnreachable, match="in time"):
        guard(site).fetch(f"http://{site.place}/", max_bytes=100, seconds=0.5)

    assert time.monotonic() - started < 2


def test_no_thread_and_no_socket_is_left_behind(site):
    site.answers["/"] = an_answer(b"x")
    guarded = guard(site)

    for _ in range(20):
        guarded.fetch(f"http://{site.place}/", max_bytes=100)

    deadline = time.monotonic() + 5
    while any(isinstance(thread, threading.Timer) for thread in threading.enumerate()):
        assert time.monotonic() < deadline
        threading.Event().wait(0.01)


# --- TLS


@pytest.fixture
def secure_site(tmp_path):
    """A site whose certificate is for ``pictures.test``, and the guard's trust in who signed it."""
    certificate = a_server_certificate(tmp_path, name="pictures.test")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate)
    seen = []
    tls.sni_callback = lambda _socket, name, _context: seen.append(name)
    with FakeSite(tls=tls).running() as site:
        site.server_names = seen
        site.authorities = str(certificate)
        site.answers["/"] = an_answer(b"secret")
        yield site


def test_the_certificate_is_checked_for_the_name_though_the_address_is_connected_to(secure_site):
    names = Names(pictures_test=[["127.0.0.1"]])
    guarded = guard(secure_site, resolve=names, authorities=secure_site.authorities)

    fetched = guarded.fetch(f"https://pictures.test.:{secure_site.port}/", max_bytes=100)

    assert fetched.data == b"secret"
    assert secure_site.server_names == ["pictures.test"]


@pytest.mark.parametrize("host", ["another.test", "127.0.0.1"])
def test_a_certificate_for_another_name_is_refused(secure_site, host):
    guarded = guard(secure_site, resolve=Names(another_test=[["127.0.0.1"]]), authorities=secure_site.authorities)

    with pytest.raises(UrlUnreachable):
        guarded.fetch(f"https://{host}:{secure_site.port}/", max_bytes=100)

    assert secure_site.asked == []


def test_a_certificate_that_nobody_known_has_signed_is_refused(secure_site):
    with pytest.raises(UrlUnreachable):
        guard(secure_site, resolve=Names(pictures_test=[["127.0.0.1"]])).fetch(
            f"https://pictures.test:{secure_site.port}/", max_bytes=100
        )

    assert secure_site.asked == []


def test_a_handshake_that_never_ends_is_left(site):
    started = time.monotonic()

    with pytest.raises(UrlUnreachable):
        guard(site).fetch(f"https://{site.place}/", max_bytes=100, seconds=0.5)

    assert time.monotonic() - started < 2


# --- under eventlet

GREEN = """
import os, sys, warnings
warnings.simplefilter("ignore")
os.environ["EVENTLET_NO_GREENDNS"] = "yes"
import eventlet
eventlet.monkey_patch()
import time
from shared.outside import Outside, UrlUnreachable
from shared.outside_names import NameUnknown, SystemResolver
import shared.outside_names

plain, secure, certificate = sys.argv[1:]
names = lambda host, seconds, *, whose: ["127.0.0.1"]
ticks = []
def tick():
    while True:
        ticks.append(time.monotonic())
        eventlet.sleep(0.01)
ticking = eventlet.spawn(tick)
guard = Outside(allowed=[plain, secure], resolve=names, authorities=certificate)
print(guard.fetch(f"https://pictures.test:{secure.split(':')[1]}/", max_bytes=100).data.decode())
try:
    guard.fetch(f"http://{plain}/slow", max_bytes=10_000, seconds=0.5)
except UrlUnreachable as error:
    print(error)
def asleep(*asked):
    __import__("eventlet").patcher.original("time").sleep(0.6)
    return []
shared.outside_names._getaddrinfo = asleep
try:
    SystemResolver()("slow.test", 0.3)
except NameUnknown as error:
    print(error)
shared.outside_names._getaddrinfo = eventlet.patcher.original("socket").getaddrinfo
print("127.0.0.1" in SystemResolver()("localhost", 5))
print(max(later - earlier for earlier, later in zip(ticks, ticks[1:])) < 0.25)
"""


UNKNOWN = """
import sys, eventlet
eventlet.monkey_patch()
import time
import shared.outside_names
from shared import logs
from shared.outside import Outside, UrlRefused

logs.configure(process="gateway")
def late(*asked):
    eventlet.patcher.original("time").sleep(0.2)
    raise OSError("nobody knows it")
guard = Outside()
for seconds in (5, 5, 0.05):
    shared.outside_names._getaddrinfo = late if seconds < 1 else shared.outside_names._getaddrinfo
    try:
        guard.check("http://name.invalid/", seconds=seconds)
    except UrlRefused:
        pass
eventlet.sleep(0.4)
"""


def test_an_unknown_host_is_one_line_of_the_log_and_no_traceback():
    shown = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", UNKNOWN], capture_output=True, text=True, timeout=30, check=False
    )

    assert shown.stderr == ""
    lines = [json.loads(line) for line in shown.stdout.splitlines()]
    assert [(line["event"], line["host"]) for line in lines] == [("outside_refused", "name.invalid")] * 3


def test_in_a_green_process_nothing_stops_the_others(site, secure_site, tmp_path):
    site.answers["/slow"] = slow_body

    shown = subprocess.run(
        [sys.executable, "-c", GREEN, site.place, secure_site.place, tmp_path / "server.pem"],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )

    assert shown.stdout.splitlines() == [
        "secret",
        "The address did not answer in time.",
        "the name servers did not answer in time",
        "True",
        "True",
    ], shown.stderr


UNDER_ATTACK = """
import os, sys, warnings
warnings.simplefilter("ignore")
os.environ["EVENTLET_NO_GREENDNS"] = "yes"
import eventlet
eventlet.monkey_patch()
import time
from shared.outside import Outside, UrlUnreachable

ticks = []
def tick():
    while True:
        ticks.append(time.monotonic())
        eventlet.sleep(0.01)
eventlet.spawn(tick)
eventlet.sleep(0)
started = time.monotonic()
try:
    Outside(allowed=[sys.argv[1]]).fetch(f"http://{sys.argv[1]}/", max_bytes=10 << 20, seconds=1)
except UrlUnreachable as error:
    print(error)
ended = time.monotonic()
print(ended - started < 3)
ticks.append(ended)
print(max(later - earlier for earlier, later in zip(ticks, ticks[1:])) < 0.5)
"""


def interim_answers_without_end():
    return itertools.repeat(b"HTTP/1.1 100 Continue\r\n\r\n" * 4000)


def trailers_without_end():
    yield b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n"
    yield from itertools.repeat(b"X-A: b\r\n" * 10_000)


def chunks_of_one_byte():
    yield b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    yield from itertools.repeat(b"1\r\nx\r\n" * 10_000)


def chunks_with_long_extensions():
    yield b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    yield from itertools.repeat((b"1;" + b"e" * 60_000 + b"\r\nx\r\n") * 10)


@pytest.mark.parametrize(
    "answer",
    [interim_answers_without_end, trailers_without_end, chunks_of_one_byte, chunks_with_long_extensions],
)
def test_a_site_that_never_lets_us_wait_neither_stops_the_others_nor_outlasts_the_time(site, answer):
    site.answers["/"] = answer

    shown = subprocess.run(
        [sys.executable, "-c", UNDER_ATTACK, site.place], capture_output=True, text=True, timeout=30, check=False
    )

    assert shown.stdout.splitlines() == ["The address did not answer in time.", "True", "True"], shown.stderr
