"""What the stories do again and again: requests of a client and of the administrator, and waiting."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import requests

from darkroom_client import Darkroom, Wallet
from shared.ids import new_id
from tests.faults.client import Client
from tests.polling import until

NewClient = Callable[..., Client]
NewDarkroom = Callable[..., Darkroom]
POLL_SECONDS = 0.1


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


def ten_times(send: Callable[[], requests.Response]) -> list[requests.Response]:
    """Send the same request ten times at once; return the answers."""
    with ThreadPoolExecutor(10) as pool:
        return [each.result() for each in [pool.submit(send) for _ in range(10)]]
