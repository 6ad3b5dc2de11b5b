"""What an API key is made of, and what is kept of it."""

import base64
import hashlib

from services.gateway import keys


def test_a_key_holds_256_random_bits_behind_its_prefix():
    secrets = {keys.new().text for _ in range(100)}

    assert len(secrets) == 100
    for text in secrets:
        assert text.startswith("sk_live_")
        assert len(base64.urlsafe_b64decode(text.removeprefix("sk_live_") + "=")) == 32


def test_of_a_key_its_sha256_and_a_short_prefix_are_kept():
    secret = keys.Secret("sk_live_abcdefghijklmnop")

    assert secret.sha256 == hashlib.sha256(b"sk_live_abcdefghijklmnop").hexdigest()
    assert secret.prefix == "sk_live_abcdef"


def test_a_secret_does_not_show_itself():
    secret = keys.Secret("sk_live_abcdefghijklmnop")

    assert "ghijkl" not in f"{secret!r} {secret}"


def test_the_first_key_of_an_organization_depends_on_organization_request_and_our_secret():
    def derive(signing_secret="s" * 32, made_id="org_1", request_key="k"):
        return keys.derived(signing_secret=signing_secret, made_id=made_id, request_key=request_key).text

    assert derive() == derive()
    assert len({derive(), derive("t" * 32), derive(made_id="org_2"), derive(request_key="l")}) == 4


def test_keys_are_told_from_other_credentials_by_their_beginning():
    assert keys.looks_like_one("sk_live_x")
    assert keys.looks_like_one("sk_test_x")
    assert not keys.looks_like_one("sk_other_x")
