"""Tokens of an identity provider: which are good, from a real issuer on loopback, and what each forgery comes to."""

import base64
import json
import logging
import threading
import time
from collections.abc import Iterator

import pytest

from services.gateway import issuer_keys
from services.gateway.identity_provider import LEEWAY_SECONDS, IdentityProvider
from services.gateway.issuer_keys import IssuerKeys
from shared import budget
from shared.problems import Unauthenticated, Unavailable
from tests.oidc_issuer import AUDIENCE, DISCOVERY, JWKS, LocalIssuer, by_hand, listed, private_key
from tests.polling import until


class Clock:
    """Seconds that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def issuer() -> Iterator[LocalIssuer]:
    with LocalIssuer().running() as running:
        yield running


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def provider(issuer: LocalIssuer, clock: Clock) -> IdentityProvider:
    return IdentityProvider(issuer=issuer.url, audience=[AUDIENCE, "api"], keys=IssuerKeys(issuer.url, clock=clock))


def refusal(provider: IdentityProvider, token: str) -> str:
    with pytest.raises(Unauthenticated) as refused:
        provider.claimed(token)
    return refused.value.detail


@pytest.mark.parametrize(
    "algorithm", ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]
)
def test_a_token_names_its_bearer_whatever_it_is_signed_with(provider, issuer, algorithm):
    issuer.rotate(algorithm)

    ends_at = int(time.time()) + 300

    claimed = provider.claimed(issuer.token(email="Grace@Example.com", exp=ends_at))

    assert (claimed.issuer, claimed.subject, claimed.ends_at) == (issuer.url, "user_1", ends_at + LEEWAY_SECONDS)
    assert (claimed.email, claimed.name) == ("grace@example.com", "Grace")


def test_a_key_is_listed_until_the_issuer_has_others_and_while_nobody_can_tell(provider, issuer, clock):
    key_id = provider.claimed(issuer.token()).key_id
    assert provider.lists(key_id)

    issuer.rotate("ES256")
    clock.now += issuer_keys.FRESH_SECONDS + 1

    assert until(lambda: not provider.lists(key_id), seconds=5)
    clock.now += issuer_keys.USABLE_SECONDS + 1
    issuer.go_away()
    assert provider.lists(key_id)


def test_a_key_that_names_no_algorithm_verifies_those_of_its_kind(provider, issuer):
    issuer.rotate("PS256", alg=None)

    assert provider.claimed(issuer.token()).subject == "user_1"


def test_an_issuer_with_one_key_need_not_name_it(provider, issuer):
    issuer.rotate(kid=None)

    assert provider.claimed(issuer.token(headers={"kid": None})).subject == "user_1"


def test_an_issuer_with_two_keys_has_to_name_the_one(provider, issuer):
    issuer.rotate("ES256", keeps=True)

    assert "not good" in refusal(provider, issuer.token(headers={"kid": None}))


def test_an_issuer_whose_keys_are_several_and_have_no_names_verifies_nothing(provider, issuer):
    issuer.rotate(kid=None)
    issuer.rotate("ES256", keeps=True, kid=None)

    with pytest.raises(Unavailable):
        provider.claimed(issuer.token())


@pytest.mark.parametrize("kind", ["JWT", "jwt", "at+jwt", "application/at+jwt", None])
def test_tokens_of_these_types_are_taken(provider, issuer, kind):
    assert provider.claimed(issuer.token(headers={"typ": kind})).subject == "user_1"


@pytest.mark.parametrize("kind", ["logout+jwt", "secevent+jwt", "dpop+jwt", "", 1, ["JWT"]])
def test_what_the_issuer_signs_for_other_ends_logs_nobody_in(provider, issuer, kind):
    header = {"alg": "RS256", "kid": "RS256-0", "typ": kind}

    assert "not good" in refusal(provider, issuer.signed(header, json.dumps(issuer.claims()).encode()))


@pytest.mark.parametrize("alg", ["none", "None", "", None, ["none"], {}])
def test_a_token_that_is_not_signed_is_refused(provider, issuer, alg):
    assert "not good" in refusal(provider, by_hand({"alg": alg, "kid": "RS256-0"}, issuer.claims()))


@pytest.mark.parametrize("alg", ["HS256", "RS256"])
def test_a_public_key_is_nobodys_secret(provider, issuer, alg):
    forged = by_hand({"alg": alg, "kid": "RS256-0"}, issuer.claims(), secret=issuer.public_pem())

    assert "not good" in refusal(provider, forged)


def test_an_issuer_that_lists_a_secret_verifies_nothing_with_it(provider, issuer):
    secret = b"s" * 32
    text = base64.urlsafe_b64encode(secret).rstrip(b"=").decode()
    issuer.keys.append({"kty": "oct", "k": text, "kid": "shared", "alg": "HS256", "use": "sig"})

    forged = by_hand({"alg": "HS256", "kid": "shared"}, issuer.claims(), secret=secret)

    assert "not good" in refusal(provider, forged)


@pytest.mark.parametrize("header", ["jwk", "jku", "x5u", "x5c"])
def test_a_key_that_a_token_brings_along_is_not_looked_at(provider, issuer, header):
    stranger = LocalIssuer()
    stranger.rotate(number=7)
    with LocalIssuer().running() as elsewhere:
        elsewhere.keys = stranger.keys
        brought = {"jwk": stranger.keys[0], "x5c": ["MIIB"]}.get(header, elsewhere.url + JWKS)

        for kid in ("RS256-0", "RS256-7"):
            forged = stranger.token(iss=issuer.url, headers={header: brought, "kid": kid})
            assert "not good" in refusal(provider, forged)

        assert elsewhere.asked == []


def test_a_key_is_used_for_its_own_algorithm_only(provider, issuer):
    issuer.rotate("PS256", alg="RS256")

    assert "not good" in refusal(provider, issuer.token())


def test_a_key_for_encryption_verifies_nothing(provider, issuer):
    issuer.rotate("ES256", keeps=True, use="enc")

    assert "not good" in refusal(provider, issuer.token())


def test_the_key_of_another_issuer_opens_nothing(provider, issuer):
    with LocalIssuer().running() as other:
        other.rotate(number=1)

        assert "not good" in refusal(provider, other.token(iss=issuer.url))
        assert "not good" in refusal(provider, other.token())


@pytest.mark.parametrize("iss", ["https://other.example.com", "", 1, ["a"]])
def test_a_token_of_this_key_in_the_name_of_another_issuer_is_refused(provider, issuer, iss):
    assert "not good" in refusal(provider, bad(issuer, {"iss": iss}))


def bad(issuer, changed):
    """Sign claims that the library would not sign."""
    return issuer.signed({"alg": "RS256", "kid": "RS256-0"}, json.dumps(issuer.claims(**changed)).encode())


@pytest.mark.parametrize("claim", ["exp", "iss", "sub"])
def test_a_claim_that_is_needed_is_missed_by_name(provider, issuer, claim):
    assert f"no claim {claim}" in refusal(provider, issuer.token(**{claim: None}))


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"exp": -31}, "expired"),
        ({"nbf": 35}, "not good yet"),
        ({"iat": 35}, "not good yet"),
    ],
)
def test_a_token_has_its_time(provider, issuer, changed, told):
    [(claim, seconds)] = changed.items()

    assert told in refusal(provider, issuer.token(**{claim: int(time.time()) + seconds}))


@pytest.mark.parametrize("changed", [{"exp": -25}, {"nbf": 25}, {"iat": 25}])
def test_clocks_may_differ_by_half_a_minute(provider, issuer, changed):
    [(claim, seconds)] = changed.items()

    assert provider.claimed(issuer.token(**{claim: int(time.time()) + seconds})).subject == "user_1"


@pytest.mark.parametrize("exp", ["soon", [], {}, 1e400, float("nan")])
def test_an_end_that_is_no_time_is_refused(provider, issuer, exp):
    assert "not good" in refusal(provider, bad(issuer, {"exp": exp}))


@pytest.mark.parametrize("sub", ["", 1, [], "a" * 256, "a\x00b", "\ud800"])
def test_a_subject_that_cannot_be_kept_is_refused(provider, issuer, sub):
    refusal(provider, bad(issuer, {"sub": sub}))


@pytest.mark.parametrize(
    "changed",
    [
        {"aud": AUDIENCE},
        {"aud": ["others", "api"]},
        {"aud": None, "azp": AUDIENCE},  # Clerk's session tokens: the origin of the application, and no aud
    ],
)
def test_a_token_for_one_of_the_audience_is_taken(provider, issuer, changed):
    assert provider.claimed(issuer.token(**changed)).subject == "user_1"


@pytest.mark.parametrize(
    "changed",
    [
        {"aud": "others"},
        {"aud": ["others"]},
        {"aud": None},
        {"aud": ""},
        {"aud": []},
        {"aud": {"a": 1}},
        {"aud": [["api"], 1]},
        {"aud": AUDIENCE + "/"},
        {"aud": "others", "azp": AUDIENCE},
        {"aud": None, "azp": "https://evil.example.com"},
    ],
)
def test_a_token_for_others_is_refused(provider, issuer, changed):
    assert "another audience" in refusal(provider, issuer.token(**changed))


@pytest.mark.parametrize("verified", [False, None, "true", 1, "yes", ["true"]])
def test_an_address_is_one_only_where_the_issuer_says_that_it_verified_it(provider, issuer, verified):
    claimed = provider.claimed(issuer.token(email_verified=verified))

    assert claimed.email is None


@pytest.mark.parametrize(
    "email", ["nobody", "", 1, None, "grace@\u212aernel.org", "a@b.example\x00", ["a@example.com"]]
)
def test_an_address_that_is_none_of_ours_counts_as_none(provider, issuer, email):
    assert provider.claimed(issuer.token(email=email)).email is None


@pytest.mark.parametrize("name", ["", " ", 1, None, "a" * 101, "a\x00b", ["Grace"]])
def test_a_name_that_is_none_is_left_out(provider, issuer, name):
    assert provider.claimed(issuer.token(name=name)).name is None


def test_a_token_that_was_altered_is_refused(provider, issuer):
    token = issuer.token()
    header, payload, signature = token.split(".")
    other = issuer.token(sub="user_2").split(".")

    for forged in (f"{header}.{other[1]}.{signature}", f"{header}.{payload}.{other[2]}", f"{header}.{payload}."):
        assert "not good" in refusal(provider, forged)


@pytest.mark.parametrize(
    "token", ["..", "a.b.c", "e30.e30.", "\xff.\xff.\xff", "eyJ" + "A" * 7900 + "..", "." * 2, "W10.W10.W10"]
)
def test_what_is_no_token_at_all_is_refused(provider, token):
    assert "not good" in refusal(provider, token)


def test_deep_and_large_numbers_and_nesting_are_refused_too(provider, issuer):
    for text in ("[" * 2500, '{"a":' * 900, '{"exp":' + "9" * 5000 + "}"):
        encoded = base64.urlsafe_b64encode(text.encode()).rstrip(b"=").decode()
        refusal(provider, f"{encoded}.{encoded}.AAAA")
    refusal(provider, issuer.signed({"alg": "RS256", "kid": "RS256-0"}, b"[" * 2500))


def test_critical_headers_that_nobody_understands_are_refused(provider, issuer):
    assert "not good" in refusal(provider, issuer.token(headers={"crit": ["exp"], "exp": 1}))


def test_keys_are_fetched_once_for_many(provider, issuer):
    for _ in range(20):
        provider.claimed(issuer.token())

    assert issuer.asked == [DISCOVERY, JWKS]


def test_many_at_once_fetch_once(provider, issuer):
    issuer.slow_seconds = 0.2
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(provider.claimed(issuer.token()).subject)) for _ in range(8)
    ]

    for one in threads:
        one.start()
    for one in threads:
        one.join()

    assert found == ["user_1"] * 8
    assert issuer.asked == [DISCOVERY, JWKS]


def test_a_new_key_is_fetched_when_it_is_met(provider, issuer, clock):
    provider.claimed(issuer.token())
    issuer.rotate("ES256")
    clock.now += issuer_keys.ASK_AGAIN_SECONDS

    assert provider.claimed(issuer.token()).subject == "user_1"


def test_a_key_that_is_listed_no_more_is_taken_no_more(provider, issuer, clock):
    old = issuer.token()
    provider.claimed(old)
    issuer.rotate("ES256")
    clock.now += issuer_keys.ASK_AGAIN_SECONDS
    provider.claimed(issuer.token())

    assert "not good" in refusal(provider, old)


def test_invented_keys_make_nobody_ask_the_issuer_again_and_again(provider, issuer, clock):
    provider.claimed(issuer.token())

    for number in range(50):
        refusal(provider, issuer.token(headers={"kid": f"invented-{number}"}))
    assert len(issuer.asked) == 2

    clock.now += issuer_keys.ASK_AGAIN_SECONDS
    for number in range(50):
        refusal(provider, issuer.token(headers={"kid": f"invented-{number}"}))
    assert len(issuer.asked) == 4
    assert provider.claimed(issuer.token()).subject == "user_1"


def test_known_keys_go_on_while_the_issuer_is_away_but_not_for_ever(provider, issuer, clock):
    provider.claimed(issuer.token())
    issuer.go_away()

    clock.now += issuer_keys.USABLE_SECONDS
    assert provider.claimed(issuer.token()).subject == "user_1"
    refusal(provider, issuer.token(headers={"kid": "another"}))

    clock.now += 1
    with pytest.raises(Unavailable) as away:
        provider.claimed(issuer.token())
    assert away.value.extra["retry_after"] == 1

    issuer.come_back()
    clock.now += issuer_keys.AFTER_FAILURE_SECONDS
    assert provider.claimed(issuer.token()).subject == "user_1"


def test_an_issuer_that_is_away_is_asked_every_few_seconds_only(provider, issuer, clock):
    issuer.answers[DISCOVERY] = 500

    for _ in range(20):
        with pytest.raises(Unavailable):
            provider.claimed(issuer.token())
    assert issuer.asked == [DISCOVERY]

    del issuer.answers[DISCOVERY]
    clock.now += issuer_keys.AFTER_FAILURE_SECONDS
    assert provider.claimed(issuer.token()).subject == "user_1"


def test_keys_that_are_older_are_fetched_aside(provider, issuer, clock):
    provider.claimed(issuer.token())
    issuer.slow_seconds = 0.3
    clock.now += issuer_keys.FRESH_SECONDS + 1

    began = time.monotonic()
    for _ in range(5):
        provider.claimed(issuer.token())
    waited = time.monotonic() - began

    assert waited < 0.3
    until(lambda: issuer.asked == [DISCOVERY, JWKS] * 2, seconds=5, what="the second fetch")


def test_nobody_waits_long_for_a_slow_issuer_whose_answer_then_serves_everybody(provider, issuer):
    issuer.slow_seconds = 1.0

    began = time.monotonic()
    with pytest.raises(Unavailable):
        provider.claimed(issuer.token())
    assert time.monotonic() - began < issuer_keys.WAIT_SECONDS + 0.5

    until(lambda: len(issuer.asked) == 2, seconds=5, what="the keys")
    claimed = until(lambda: provider.claimed(issuer.token()), seconds=5, what="a good token")
    assert claimed.subject == "user_1"
    assert issuer.asked == [DISCOVERY, JWKS]


def test_an_issuer_that_never_ends_its_answer_is_given_up(issuer, provider, monkeypatch):
    monkeypatch.setattr(issuer_keys, "FETCH_SECONDS", 0.4)
    issuer.slow_seconds = 1.5

    with pytest.raises(Unavailable):
        provider.claimed(issuer.token())

    assert issuer.asked == [DISCOVERY]


def test_only_so_many_wait_at_once(issuer):
    issuer.slow_seconds = 0.3
    keys = IssuerKeys(issuer.url)
    outcomes = []

    def find():
        began = time.monotonic()
        try:
            keys.find("RS256-0")
            outcomes.append("found")
        except Unavailable:
            outcomes.append("sent away at once" if time.monotonic() - began < 0.2 else "sent away late")

    threads = [threading.Thread(target=find) for _ in range(issuer_keys.WAITING_MOST + 5)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()

    assert sorted(outcomes) == ["found"] * issuer_keys.WAITING_MOST + ["sent away at once"] * 5


def test_waiting_ends_with_the_time_of_the_request(issuer):
    issuer.slow_seconds = 1.0
    keys = IssuerKeys(issuer.url)

    began = time.monotonic()
    with budget.limited_to(0.2), pytest.raises(Unavailable):
        keys.find("RS256-0")

    assert time.monotonic() - began < 0.5


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        (DISCOVERY, 302),
        (DISCOVERY, b"<html>"),
        (DISCOVERY, b"[]"),
        (DISCOVERY, b'{"issuer": "https://other.example.com", "jwks_uri": "https://other.example.com/keys"}'),
        (DISCOVERY, b'{"issuer": "%s"}'),
        (DISCOVERY, b'{"issuer": "%s", "jwks_uri": "http://93.184.215.14/keys"}'),
        (DISCOVERY, b'{"issuer": "%s", "jwks_uri": "file:///etc/passwd"}'),
        (DISCOVERY, b'{"issuer": "%s", "jwks_uri": 1}'),
        (JWKS, 404),
        (JWKS, b"\xff\xfe\x00"),
        (JWKS, b"[" * 100_000),
        (JWKS, b"{}"),
        (JWKS, b'{"keys": {}}'),
        (JWKS, b'{"keys": []}'),
        (JWKS, b'{"keys": [1, null, [], {}, {"kty": []}, {"kty": "RSA", "crv": {}}]}'),
        (JWKS, b'{"keys": [{"kty": "RSA", "kid": "RS256-0", "n": "AQAB", "e": "AQAB"}]}'),
        (JWKS, b'{"keys": [{"kty": "EC", "crv": "P-256", "kid": "RS256-0", "x": "AQAB", "y": 5}]}'),
        (JWKS, b'{"keys": [' + b"{}," * 200 + b"{}]}"),
        (JWKS, b'{"keys": "' + b"A" * (10 << 20) + b'"}'),
    ],
    ids=range(19),
)
def test_what_is_no_answer_of_an_issuer_changes_nothing(issuer, provider, clock, caplog, path, answer):
    caplog.set_level(logging.WARNING)
    provider.claimed(issuer.token())
    issuer.answers[path] = answer.replace(b"%s", issuer.url.encode()) if isinstance(answer, bytes) else answer
    clock.now += issuer_keys.ASK_AGAIN_SECONDS

    refusal(provider, issuer.token(headers={"kid": "another"}))

    assert provider.claimed(issuer.token()).subject == "user_1"
    assert "issuer_keys_not_fetched" in caplog.text
    assert "Traceback" not in caplog.text


def test_a_key_that_is_too_small_or_too_large_to_trust_is_not_used(issuer, provider):
    weak = listed("RS256", private_key("RS256"), kid="weak")
    weak["n"] = base64.urlsafe_b64encode((1 << 1023 | 1).to_bytes(128, "big")).rstrip(b"=").decode()
    huge = {**weak, "kid": "huge", "n": base64.urlsafe_b64encode((1 << 16383 | 1).to_bytes(2048, "big")).decode()}
    issuer.keys += [weak, huge]

    for kid in ("weak", "huge"):
        assert "not good" in refusal(provider, issuer.token(headers={"kid": kid}))
    assert provider.claimed(issuer.token()).subject == "user_1"


def test_a_fetch_takes_no_answer_that_grows_without_end(issuer, provider):
    issuer.answers[JWKS] = b" " * (10 << 20)

    began = time.monotonic()
    with pytest.raises(Unavailable):
        provider.claimed(issuer.token())

    assert time.monotonic() - began < 1.0
