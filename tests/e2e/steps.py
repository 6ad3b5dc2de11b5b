"""What the stories do again and again: requests of a client and of the administrator, and waiting."""

import email.policy
import os
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from email import message_from_bytes
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import requests

from darkroom_client import Darkroom, Wallet
from shared.ids import new_id
from tests.faults.client import Client
from tests.polling import until

NewClient = Callable[..., Client]
NewDarkroom = Callable[..., Darkroom]
POLL_SECONDS = 0.1
MAIL_FOLDER = "E2E_MAIL_FOLDER"
PASSWORD = "correct horse battery"


@dataclass
class Person(Client):
    """A client that asks with the token of somebody's session."""

    user_id: str = ""
    session_id: str = ""
    email: str = ""


def finished(client: Client, job_id: str, *, seconds: float = 60) -> dict[str, Any]:
    return until(
        lambda: job if (job := client.job(job_id))["finished_at"] else None, seconds=seconds, what="the job's end"
    )


def settled(client: Client) -> dict[str, Any]:
    return until(lambda: wallet if (wallet := client.wallet())["held"] == 0 else None, seconds=30, what="settlement")


def paid(darkroom: Darkroom) -> Wallet:
    """Return the balance once nothing is held."""
    return until(
        lambda: wallet if (wallet := darkroom.credits.balance()).held == 0 else None, seconds=30, what="settlement"
    )


def get(client: Client, path: str) -> dict[str, Any]:
    found: dict[str, Any] = raw_get(client, path).json()
    return found


def raw_get(client: Client, path: str) -> requests.Response:
    return requests.get(
        client.gateway_url + path,
        headers={"Authorization": f"Bearer {client.api_key}"},
        timeout=10,
        allow_redirects=False,
    )


def post(
    client: Client, path: str, body: dict[str, Any], *, key: str | None = None, headers: dict[str, str] | None = None
) -> requests.Response:
    return requests.post(
        client.gateway_url + path,
        json=body,
        headers={
            "Authorization": f"Bearer {client.api_key}",
            "Idempotency-Key": key or new_id("key"),
            **(headers or {}),
        },
        timeout=60,
    )


def an_address() -> str:
    """Return an e-mail address that nobody had before."""
    return f"{new_id('mail').replace('_', '-')}@example.com"


def mail_to(address: str, *, about: str) -> str:
    """Wait for a mail with something in it, in the folder the stack writes mails into; return its text."""
    folder = Path(os.environ[MAIL_FOLDER])

    def found() -> str | None:
        for file in folder.glob("*.eml"):
            mail = message_from_bytes(file.read_bytes(), policy=email.policy.default)
            body = mail.get_body(("plain",))
            text = str(body.get_content()) if body else ""
            if mail["To"] == address and about in text:
                return text
        return None

    return str(until(found, seconds=30, what=f"the mail to {address}"))


def token_sent_to(address: str) -> str:
    """Wait for the invitation to an address, and return the token of its link."""
    link = re.search(r"[?&]token=([\w.~%-]+)", mail_to(address, about="token="))
    assert link
    return unquote(link[1])


def joined(owner: Client, role: str) -> Person:
    """Let somebody be invited into the owner's organization with a role and sign up."""
    address = an_address()
    invited = post(owner, "/v1/invitations", {"email": address, "role": role})
    assert invited.status_code == 201, invited.text
    nobody = Client(gateway_url=owner.gateway_url, api_key="")
    about = {"token": token_sent_to(address), "name": role, "password": PASSWORD, "terms_accepted": True}
    signed_up = post(nobody, "/v1/auth/signup", about)
    assert signed_up.status_code == 201, signed_up.text
    return _person(owner, signed_up.json(), address)


def logged_in(person: Person) -> Person:
    """Return the same person with another session."""
    nobody = Client(gateway_url=person.gateway_url, api_key="")
    answer = post(nobody, "/v1/auth/login", {"email": person.email, "password": PASSWORD})
    assert answer.status_code == 200, answer.text
    return _person(person, answer.json(), person.email)


def _person(of: Client, signed_in: dict[str, Any], email: str) -> Person:
    return Person(
        gateway_url=of.gateway_url,
        api_key=signed_in["session_token"],
        org_id=of.org_id,
        user_id=signed_in["member"]["id"],
        session_id=signed_in["session"]["id"],
        email=email,
    )


def ten_times(send: Callable[[], requests.Response]) -> list[requests.Response]:
    """Send the same request ten times at once; return the answers."""
    with ThreadPoolExecutor(10) as pool:
        return [each.result() for each in [pool.submit(send) for _ in range(10)]]
