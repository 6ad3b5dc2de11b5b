"""The gateway as an operator's command calls it: over HTTP, patient while the gateway or what is behind it starts."""

import time
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any
from uuid import uuid4

import requests

from tools.failures import CommandFailed

PATIENCE_SECONDS = 30.0
_BETWEEN_TRIES_SECONDS = 0.5
_ONE_TRY_SECONDS = 10.0


def post(url: str, *, key: str, body: Mapping[str, Any]) -> dict[str, Any]:
    """Send one command and return its answer; try again while the answer is 503 or nobody listens.

    All tries carry the same Idempotency-Key, so that one whose answer was lost is not done twice.

    Raises:
        CommandFailed: it was refused, or the patience ended.
    """
    headers = {"Authorization": f"Bearer {key}", "Idempotency-Key": uuid4().hex}
    give_up_at = time.monotonic() + PATIENCE_SECONDS
    while True:
        problem = "no answer"
        try:
            answer = requests.post(url, json=body, headers=headers, timeout=_ONE_TRY_SECONDS)
        except requests.RequestException as error:
            problem = f"no answer ({type(error).__name__})"
        else:
            if answer.ok:
                return dict(answer.json())
            problem = explain(answer)
            if answer.status_code != HTTPStatus.SERVICE_UNAVAILABLE:
                raise CommandFailed(f"{url} refused: {problem}")
        if time.monotonic() > give_up_at:
            raise CommandFailed(f"{url}: {problem}, for {PATIENCE_SECONDS:.0f} s. See what is not ready: make status")
        time.sleep(_BETWEEN_TRIES_SECONDS)


def explain(answer: requests.Response) -> str:
    """Return an error answer in words: the problem's detail where there is one."""
    try:
        problem = answer.json()
        return f"{answer.status_code} {problem['code']}: {problem['detail']} (request {problem['request_id']})"
    except (ValueError, KeyError, TypeError):
        return f"{answer.status_code} {answer.reason}"
