"""After everything a customer does, no log, no event and no queue has a token, a key or a signed address in it.

Only mails do: their links are what they are for.
"""

import email.policy
import re
import time
from collections.abc import Iterator
from email import message_from_bytes
from pathlib import Path
from urllib.parse import unquote

import pika
import pytest
import requests
import sqlalchemy as sa

from shared.config import SERVICES
from tests.e2e.steps import PASSWORD, NewClient, an_address, finished, get, joined, mail_to, post, token_sent_to
from tests.fakes import FakeReceiver
from tests.faults.client import Client
from tests.faults.stack import Stack
from tests.polling import until

# What any of ours looks like, whoever made it: keys, sessions, secrets of webhooks, links to files and into accounts.
SHAPES = re.compile(
    rb"sk_(?:live|test)_[\w-]{20,}|whsec_[\w+/=-]{20,}|signature=[\w%-]{16,}"
    rb"|(?:inv|pwr|eml)_[0-9a-z]{26}\.[0-9]{9,}\.[\w-]{20,}"
)

# Where events and what follows from them wait to be sent, or were: queues too, though they lie in databases.
QUEUES = {
    **dict.fromkeys(SERVICES, ("outbox",)),
    "notifications": ("outbox", "recorded_events", "incidents", "mails", "messages", "webhook_deliveries"),
}


class Heard:
    """Every event that passes on the broker, whatever its type, from now on."""

    def __init__(self, amqp_url: str) -> None:
        self._connection = pika.BlockingConnection(pika.URLParameters(amqp_url))
        self._channel = self._connection.channel()
        self._queue = self._channel.queue_declare("", exclusive=True).method.queue
        for service in SERVICES:
            self._channel.queue_bind(self._queue, f"{service}.events", "#")
        self.bodies: list[bytes] = []

    def listen(self, seconds: float) -> None:
        """Take what has come."""
        for _, _, body in self._channel.consume(self._queue, auto_ack=True, inactivity_timeout=seconds):
            if body is None:
                return
            self.bodies.append(body)

    def aside(self) -> list[bytes]:
        """Return what lies in the dead letters and was routed nowhere, which stays there."""
        found = []
        for queue in [*(f"{service}.dead-letters" for service in SERVICES), "unrouted"]:
            channel = self._connection.channel()
            while (message := channel.basic_get(queue))[0]:
                found.append(repr(message).encode())
            channel.close()
        return found

    def close(self) -> None:
        self._connection.close()


@pytest.fixture
def settings(stack: Stack) -> dict[str, str]:
    pairs = (line.partition("=") for line in (stack.home / "env").read_text().splitlines() if "=" in line)
    return {name: value for name, _, value in pairs}


@pytest.fixture
def heard(settings: dict[str, str]) -> Iterator[Heard]:
    made = Heard(settings["AMQP_URL"])
    yield made
    made.close()


def rows(url: str, *tables: str) -> list[bytes]:
    """Return every row of tables that hold events, as text."""
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    found: list[bytes] = []
    with engine.begin() as connection:
        connection.execute(sa.text("SET LOCAL ROLE darkroom_system"))
        for table in tables:
            found += [str(row).encode() for row in connection.scalars(sa.text(f"SELECT t::text FROM {table} t"))]
    return found


def an_owner_is_invited(client: Client, admin_key: str) -> list[str]:
    """Make an organization whose owner's address is known; return what is secret about it: none of it is a link."""
    admin = Client(gateway_url=client.gateway_url, api_key=admin_key)
    address = an_address()
    answer = post(admin, "/v1/admin/organizations", {"name": "Elm Street", "owner_email": address})
    assert answer.status_code == 201, answer.text
    assert "token" not in answer.text
    return [answer.json()["api_key"], token_sent_to(address)]


def live_through_everything(client: Client, receiver: FakeReceiver, *, admin_key: str) -> list[str]:
    """Do what leads to secrets of every kind; return them."""
    of_owner = an_owner_is_invited(client, admin_key)
    nobody = Client(gateway_url=client.gateway_url, api_key="")
    person = joined(client, "editor")
    invited = an_address()
    post(client, "/v1/invitations", {"email": invited, "role": "viewer"})
    key = post(client, "/v1/api-keys", {"name": "CI"}).json()["secret"]
    endpoint = post(client, "/v1/webhook-endpoints", {"url": f"{receiver.url}/secrets"}).json()
    rotated = post(client, f"/v1/webhook-endpoints/{endpoint['id']}/rotate", {}).json()["secret"]
    post(nobody, "/v1/auth/password-reset", {"email": person.email})
    post(nobody, "/v1/auth/login", {"email": person.email, "password": "wrong " + PASSWORD})
    order = {"upload_id": person.upload(), "style": "modern", "room_type": "bedroom", "variants": 1}
    job = finished(person, post(person, "/v1/stagings", order).json()["id"])
    link = job["generations"][0]["images"][0]["url"]
    assert requests.get(link, timeout=10).status_code == 200
    with requests.get(
        f"{client.gateway_url}/v1/events/stream?after=0", headers=bearer(key), stream=True, timeout=10
    ) as stream:
        assert next(stream.iter_lines())
    get(Client(gateway_url=client.gateway_url, api_key="sk_live_" + "x" * 43), "/v1/me")
    reset = re.search(r"token=([\w.~%-]+)", mail_to(person.email, about="password"))
    assert reset
    signature = re.search(r"signature=([^&]+)", link)
    assert signature
    tokens = [token_sent_to(invited), unquote(reset[1]), signature[1]]
    return [*of_owner, client.api_key, person.api_key, key, endpoint["secret"], rotated, *tokens, PASSWORD]


def tokens_in_mails(folder: Path) -> set[str]:
    """Return the tokens of all links in all mails there are, as they are before an address quotes them."""
    found: set[str] = set()
    for file in folder.glob("*.eml"):
        mail = message_from_bytes(file.read_bytes(), policy=email.policy.default)
        for kind in ("plain", "html"):
            body = mail.get_body((kind,))
            text = str(body.get_content()) if body else ""
            found |= {unquote(token) for token in re.findall(r"[?&;]token=([\w.~%-]+)", text)}
        found |= {unquote(token) for token in re.findall(r"token=([\w.~%-]+)", mail["List-Unsubscribe"] or "")}
    return found


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def test_no_log_no_event_and_no_queue_has_a_secret(
    new_client: NewClient, stack: Stack, settings: dict[str, str], heard: Heard, receiver: FakeReceiver
) -> None:
    client = new_client(100)

    secrets = live_through_everything(client, receiver, admin_key=settings["ADMIN_API_KEY"])
    until(lambda: [one for one in receiver.posted_to("/hook/secrets") if b"JobFinished" in one.body], seconds=30)
    until(lambda: get(client, "/v1/events?types=EmailSent")["data"], seconds=30)
    time.sleep(1)  # whatever is written down last
    heard.listen(1)

    in_mails = tokens_in_mails(stack.home / "mail")
    assert {one.partition("_")[0] for one in in_mails} >= {"inv", "pwr", "eml"}
    secrets += [*in_mails, *(settings[name] for name in ("ADMIN_API_KEY", "SIGNING_SECRET", "ENCRYPTION_KEYS"))]
    places = {file.name: file.read_bytes() for file in sorted(log_files(stack.home))}
    places["events on the broker"] = b"\n".join(heard.bodies)
    places["set aside"] = b"\n".join(heard.aside())
    places["webhooks"] = b"\n".join(one.body for one in receiver.posted)
    for service in SERVICES:
        url = settings[f"{service.upper()}_DATABASE_URL"]
        places[f"{service}'s events"] = b"\n".join(rows(url, *QUEUES[service]))
    assert len(places) > 12
    assert places["events on the broker"].count(b'"JobFinished"') >= 1
    assert client.org_id.encode() in places["notifications's events"]
    found = {
        name: SHAPES.findall(text) + [one for one in secrets if one.encode() in text] for name, text in places.items()
    }
    assert {name: what for name, what in found.items() if what} == {}


def log_files(home: Path) -> Iterator[Path]:
    for file in (home / "logs").rglob("*"):
        if file.is_file():
            yield file
