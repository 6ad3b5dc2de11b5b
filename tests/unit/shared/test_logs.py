"""Log lines: JSON, correlated, and without secrets wherever those came from."""

import io
import json
import logging
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import structlog

from shared import logs
from shared.config import Secret
from shared.outside import Outside
from tests.fakes import FakeSite

Lines = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> Iterator[Lines]:
    """Configure logging as a process does, into a buffer; leave no trace of that behind."""
    buffer = io.StringIO()
    monkeypatch.setattr("sys.stdout", buffer)
    root, names = logging.getLogger(), ("nameko", "amqp", "urllib3")
    before = root.handlers[:], root.level, [logging.getLogger(name).level for name in names]
    structlog_before = structlog.get_config()
    logs.configure(process="credits", level="INFO")
    yield lambda: [json.loads(line) for line in buffer.getvalue().splitlines()]
    root.handlers[:], root.level = before[0], before[1]
    for name, level in zip(names, before[2], strict=True):
        logging.getLogger(name).setLevel(level)
    structlog.configure(**structlog_before)


def log() -> Any:
    return structlog.get_logger("test")


def test_a_line_is_one_json_object_with_process_level_time_and_fields(lines: Lines) -> None:
    log().info("asset_registered", asset_id="ast_1", bytes=3)

    (line,) = lines()
    assert line.pop("time").endswith("Z")
    assert line == {"event": "asset_registered", "level": "info", "process": "credits", "asset_id": "ast_1", "bytes": 3}


def test_lines_of_libraries_are_json_too(lines: Lines) -> None:
    logging.getLogger("library").warning("something %s", "odd")

    (line,) = lines()
    assert (line["event"], line["level"], line["process"]) == ("something odd", "warning", "credits")


def test_fields_bound_around_the_work_are_on_every_line_and_gone_after_it(lines: Lines) -> None:
    with logs.bound(correlation_id="req_1", causation_id=None):
        log().info("inside")
        assert logs.correlation() == ("req_1", None)
    log().info("outside")

    inside, outside = lines()
    assert inside["correlation_id"] == "req_1"
    assert "causation_id" not in inside
    assert "correlation_id" not in outside


def test_a_line_below_the_level_is_not_written(lines: Lines) -> None:
    log().debug("detail")

    assert lines() == []


def test_nameko_does_not_repeat_what_our_entrypoints_log(lines: Lines) -> None:
    logging.getLogger("nameko.containers").error("error handling worker with arguments in clear")

    assert lines() == []


def test_what_a_server_outside_answers_and_the_address_it_was_asked_by_are_in_no_line(lines: Lines) -> None:
    """A header without a colon makes the HTTP library warn, with the whole address and the header."""
    with FakeSite().running() as site:
        site.answers["/p.png?sig=AZURESAS&e=1&hmac=HM99&jwt=JW99"] = (
            b'HTTP/1.1 200 OK\r\nFAKE {"event":"forged_log_line"}\r\n'
            b"Set-Cookie: sid=COOKIE99\r\nContent-Length: 3\r\n\r\nabc"
        )
        url = f"http://{site.place}/p.png?sig=AZURESAS&e=1&hmac=HM99&jwt=JW99"

        fetched = Outside(allowed=[site.place]).fetch(url, max_bytes=100)

    assert fetched.data is not None
    assert not {part for part in ("AZURESAS", "HM99", "JW99", "COOKIE99", "forged") if part in json.dumps(lines())}


@pytest.mark.parametrize(
    "line",
    [
        "Failed to parse headers (url=https://store.test/p.png?{rest}): []",
        "GET 'https://store.test/p.png?{rest}' failed",
        "HTTPS://user.store.test:8443/a?{rest}",
        "see https://store.test/p.png#{rest}",
    ],
)
def test_of_an_address_in_a_librarys_line_only_what_stands_before_the_question_mark_is_written(
    lines: Lines, line: str
) -> None:
    text = line.format(rest="e=1&hmac=HM99&jwt=JW99")

    logging.getLogger("library").error(text)
    try:
        raise RuntimeError(text)  # noqa: TRY301  the traceback is what is tested
    except RuntimeError:
        logging.getLogger("library").exception("failed")
        log().exception("failed")

    assert not {part for part in ("HM99", "JW99", "e=1") if part in json.dumps(lines())}
    assert "store.test" in lines()[0]["event"]


@pytest.mark.parametrize(
    "text",
    [
        "key sk_live_{secret} was refused",
        "key sk_test_{secret} was refused",
        "session ust_{secret} is over",
        "adm_{secret} is no root key",
        "opened /signup#inv_01kf0c4m8x0123456789abcdef.1800000000.{secret}",
        "pwr_01kf0c4m8x0123456789abcdef.1800000000.{secret} was used",
        "whsec_{secret}/+=",
        "cannot connect to postgresql+psycopg2://credits:{secret}@127.0.0.1:5432/credits",
        "cannot connect to amqp://darkroom:{secret}@127.0.0.1:5672/%2F",
        "redis://:{secret}@127.0.0.1",
        "GET /files/images/org_1/a.png?expires=1&signature={secret} 200",
        "GET https://s3/b/k?X-Amz-Credential={secret}&X-Amz-Signature={secret}&X-Amz-Security-Token={secret}",
        "GET /p?token={secret}&page=2",
        "host=127.0.0.1 user=credits password={secret} dbname=credits",
        "headers: Authorization: Bearer {secret}",
        "sent Bearer {secret}",
        '{{"api_key": "{secret}"}}',
        "{{'password': '{secret}'}}",
    ],
)
def test_a_secret_inside_text_is_masked(lines: Lines, text: str) -> None:
    secret = "hunter2hunter2hunter2"

    log().info("odd", error=text.format(secret=secret))
    logging.getLogger("library").warning(text.format(secret=secret).replace("%", "%%"))

    for line in lines():
        assert secret not in json.dumps(line)
        assert "***" in json.dumps(line)


def test_what_is_no_secret_stays_readable(lines: Lines) -> None:
    log().info(
        "fetched", url="https://example.com:8000/v1/jobs?limit=5&after=job_1", input_tokens=12, key="images/org_1/a"
    )

    (line,) = lines()
    assert line["url"] == "https://example.com:8000/v1/jobs?limit=5&after=job_1"
    assert (line["input_tokens"], line["key"]) == (12, "images/org_1/a")


@pytest.mark.parametrize(
    "fields",
    [
        {"api_key": "{secret}"},
        {"signing_secret": "{secret}"},
        {"session_token": "{secret}"},
        {"headers": {"Authorization": "{secret}", "Cookie": "{secret}"}},
        {"attempts": [{"password": "{secret}"}]},
        {"encryption_keys": Secret("{secret}")},
        {"anything": Secret("{secret}")},
        {"error": RuntimeError("postgresql://credits:{secret}@host/credits")},
        {"body": b"signature={secret}"},
    ],
)
def test_a_secret_in_a_field_is_masked_however_deep(lines: Lines, fields: dict[str, Any]) -> None:
    log().info("odd", **fields)

    assert "{secret}" not in json.dumps(lines())
    assert "***" in json.dumps(lines())


@pytest.mark.parametrize("name", ["ours", "library"])
def test_a_secret_in_a_traceback_is_masked(lines: Lines, name: str) -> None:
    try:
        raise RuntimeError("amqp://darkroom:hunter2@127.0.0.1")  # noqa: TRY301  the traceback is what is tested
    except RuntimeError:
        if name == "ours":
            log().exception("failed")
        else:
            logging.getLogger("library").exception("failed")

    (line,) = lines()
    assert "hunter2" not in json.dumps(line)
    assert "RuntimeError" in line["exception"]


def test_masking_a_long_text_takes_no_time(lines: Lines) -> None:
    started = time.monotonic()

    logs.masked("a-" * 50_000)
    logs.masked("a" * 100_000)
    logs.masked("://" * 30_000)
    logging.getLogger("library").error("a://" * 30_000)
    logging.getLogger("library").error("a" * 100_000)

    assert time.monotonic() - started < 2
    assert len(lines()) == 2
