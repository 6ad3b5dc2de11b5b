"""What is remembered of credentials: for a moment, never past a change made here, and only so many."""

import pytest

from services.gateway.authentication import KnownKeys
from shared.http import Principal
from shared.problems import Unauthenticated

ADA = Principal(kind="key", id="key_1", name="Ada")
BEA = Principal(kind="key", id="key_2", name="Bea")


class Book:
    """Finds whose a secret is, and counts how often it was asked."""

    def __init__(self, **found):
        self.found = found
        self.asked = []

    def asked_for(self, secret):
        def find():
            self.asked.append(secret)
            return self.found[secret]

        return find


def test_a_credential_is_looked_up_once_and_again_when_its_time_is_over():
    book = Book(a=ADA)
    known, forgetful = KnownKeys(), KnownKeys(seconds=0)

    found = [known.whose("a", book.asked_for("a")) for _ in range(3)]
    for _ in range(3):
        forgetful.whose("a", book.asked_for("a"))

    assert found == [ADA] * 3
    assert len(book.asked) == 1 + 3


def test_a_credential_that_is_none_is_looked_up_each_time():
    known = KnownKeys()

    def refuse():
        raise Unauthenticated

    for _ in range(2):
        with pytest.raises(Unauthenticated):
            known.whose("a", refuse)

    assert known.whose("a", lambda: ADA) == ADA


def test_what_was_found_before_a_change_is_not_remembered_after_it():
    known = KnownKeys()

    def found_while_it_is_revoked():
        known.forget()
        return ADA

    known.whose("a", found_while_it_is_revoked)

    assert known.whose("a", lambda: BEA) == BEA


def test_the_oldest_is_forgotten_where_there_are_too_many():
    book = Book(a=ADA, b=BEA)
    known = KnownKeys(most=1)

    for secret in ("a", "b", "b", "a"):
        known.whose(secret, book.asked_for(secret))

    assert book.asked == ["a", "b", "a"]


def test_a_change_in_one_organization_forgets_only_its_credentials():
    ours, theirs = (Principal(kind="key", id=org_id, name="CI", org_id=org_id) for org_id in ("org_1", "org_2"))
    book = Book(ours=ours, theirs=theirs)
    known = KnownKeys()
    for secret in ("ours", "theirs"):
        known.whose(secret, book.asked_for(secret))

    known.forget("org_1")
    for secret in ("ours", "theirs"):
        known.whose(secret, book.asked_for(secret))

    assert book.asked == ["ours", "theirs", "ours"]
