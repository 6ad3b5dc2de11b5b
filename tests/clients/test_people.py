"""Who asks, and keys: made once however often that is sent, shown once, and in no text of the client's."""

import json
from typing import Any

import pytest

from darkroom_client import NewApiKey, PermissionDenied
from tests.clients.answers import TIME, a_page, a_problem
from tests.clients.conftest import Play
from tests.fakes import Scripted

KEY: dict[str, Any] = {
    "id": "key_1",
    "name": "CI",
    "prefix": "sk_live_abcd",
    "user_id": "usr_1",
    "livemode": True,
    "scopes": ["read", "write", "spend"],
    "workflows": None,
    "status": "active",
    "created_at": TIME,
    "expires_at": None,
    "last_used_at": None,
    "rotated_from": None,
}
MADE = Scripted(status=201, body={**KEY, "secret": "sk_live_abcdefgh"})
ME = {
    "id": "usr_1",
    "email": "ada@example.com",
    "name": "Ada",
    "role": "owner",
    "status": "active",
    "photo_upload_id": None,
    "created_at": TIME,
    "joined_at": TIME,
    "version": 2,
    "organization": {"id": "org_1", "name": "Oak"},
    "credential": "key",
    "scopes": ["read"],
    "livemode": True,
    "terms_accepted_at": None,
    "terms_version": None,
    "defaults": {"aspect_ratio": "1:1", "variety_level": 5},
    "onboarding_step": None,
    "product_count": 0,
}


def test_one_learns_whom_the_key_stands_for(play: Play) -> None:
    darkroom, _ = play(Scripted(body=ME))

    me = darkroom.me.get()

    assert (me.organization.name, me.role, me.scopes) == ("Oak", "owner", ["read"])
    assert (me.defaults.aspect_ratio, me.onboarding_step) == ("1:1", None)


def test_a_key_is_made_once_and_its_secret_is_in_no_text(play: Play) -> None:
    darkroom, server = play(None, MADE)

    key = darkroom.api_keys.create("CI", scopes=["read"], workflows=["staging"])

    assert key.secret == "sk_live_abcdefgh"
    assert key.secret not in f"{key!r} {key}"
    assert len({asked.headers["Idempotency-Key"] for asked in server.asked}) == 1
    assert json.loads(server.asked[1].body) == {
        "name": "CI",
        "scopes": ["read"],
        "workflows": ["staging"],
        "livemode": True,
        "expires_at": None,
    }


def test_keys_are_listed_replaced_and_revoked(play: Play) -> None:
    darkroom, server = play(a_page(KEY), MADE, Scripted(status=204))

    (listed,) = darkroom.api_keys.list(prefix="sk_live_ab")
    successor = darkroom.api_keys.rotate(listed.id, overlap_seconds=60)
    darkroom.api_keys.revoke(listed.id)

    assert isinstance(successor, NewApiKey)
    assert [(asked.method, asked.path) for asked in server.asked] == [
        ("GET", "/v1/api-keys"),
        ("POST", "/v1/api-keys/key_1/rotate"),
        ("DELETE", "/v1/api-keys/key_1"),
    ]
    assert server.asked[0].query["prefix"] == "sk_live_ab"
    assert json.loads(server.asked[1].body) == {"overlap_seconds": 60}


def test_a_key_that_may_not_manage_is_told_so(play: Play) -> None:
    darkroom, _ = play(a_problem(403, "forbidden"))

    with pytest.raises(PermissionDenied):
        darkroom.api_keys.create("CI")
