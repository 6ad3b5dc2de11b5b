"""Passwords: what is kept of one, and what fits."""

import pytest

from services.gateway import passwords


def test_a_password_fits_its_own_hash_alone():
    kept = passwords.hashed("correct horse battery")

    assert passwords.fits("correct horse battery", kept)
    assert not passwords.fits("correct horse batterY", kept)


def test_the_same_password_is_never_kept_alike():
    assert passwords.hashed("correct horse battery") != passwords.hashed("correct horse battery")


def test_the_hash_is_argon2id_with_the_parameters_of_the_cheat_sheet():
    assert passwords.hashed("correct horse battery").startswith("$argon2id$v=19$m=19456,t=2,p=1$")


@pytest.mark.parametrize("password_hash", [None, "", "no hash at all"])
def test_where_there_is_no_hash_nothing_fits(password_hash):
    assert not passwords.fits("correct horse battery", password_hash)


@pytest.mark.parametrize(
    "password", ["пароль-из-восьми", "🐎🔋🐎🔋🐎🔋🐎🔋", "with\nnewline", "\ud800 alone in its pair"]
)
def test_every_character_may_be_in_a_password(password):
    assert passwords.fits(password, passwords.hashed(password))
