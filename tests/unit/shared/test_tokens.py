"""Tokens in links: who can make them, what they are good for, and until when."""

import pytest

from shared import tokens
from shared.ids import new_id
from shared.tokens import INVITATION, PASSWORD_RESET, TokenExpired, TokenForged

SECRET = "s" * 40
END = 1_800_000_000


def a_token(**fields):
    wanted = {"secret": SECRET, "purpose": INVITATION, "subject": new_id("inv"), "expires_at": END, **fields}
    return tokens.mint(**wanted)


def read(token, *, secret=SECRET, purpose=INVITATION, now=END - 1.0):
    return tokens.read(token, secret=secret, purpose=purpose, now=now)


def test_a_token_says_what_it_is_for():
    subject = new_id("inv")

    assert read(a_token(subject=subject)) == subject


def test_the_same_id_and_end_always_give_the_same_token():
    subject = new_id("inv")

    assert a_token(subject=subject) == a_token(subject=subject)


@pytest.mark.parametrize(("now", "good"), [(END - 1, True), (END - 0.001, True), (END, False), (END + 1, False)])
def test_a_token_is_good_until_its_last_second(now, good):
    token = a_token()

    if good:
        read(token, now=now)
    else:
        with pytest.raises(TokenExpired):
            read(token, now=now)


def test_every_character_of_a_token_counts():
    token = a_token()

    for place in range(len(token)):
        altered = token[:place] + ("a" if token[place] != "a" else "b") + token[place + 1 :]
        with pytest.raises(TokenForged):
            read(altered)


def test_a_token_for_one_purpose_is_none_for_another():
    subject = new_id("pwr")
    token = tokens.mint(secret=SECRET, purpose=INVITATION, subject=subject, expires_at=END)

    with pytest.raises(TokenForged):
        read(token, purpose=PASSWORD_RESET)


def test_who_does_not_know_the_secret_makes_none():
    with pytest.raises(TokenForged):
        read(a_token(secret="x" * 40))


@pytest.mark.parametrize(
    "text", ["", ".", "..", "inv_1.2.3", "\x00", "é" * 40, f"{'inv_' + '0' * 26}.99999999999999.x"]
)
def test_what_is_no_token_is_told_from_one(text):
    with pytest.raises(TokenForged):
        read(text)


def test_a_token_whose_end_was_moved_is_forged_not_expired():
    subject, end, mac = a_token().split(".")

    with pytest.raises(TokenForged):
        read(f"{subject}.{int(end) + 86_400}.{mac}")
