import pytest

from shared.encryption import CannotDecrypt, Cipher

OLD, NEW = "o" * 40, "n" * 40


def test_what_was_encrypted_is_read_again_and_does_not_show():
    cipher = Cipher(OLD, purpose="webhook secrets")

    encrypted = cipher.encrypt("whsec_abc")

    assert cipher.decrypt(encrypted) == "whsec_abc"
    assert "whsec_abc" not in encrypted


def test_a_new_key_in_front_encrypts_and_the_old_one_still_opens():
    encrypted = Cipher(OLD, purpose="p").encrypt("text")
    both = Cipher(f"{NEW}, {OLD}", purpose="p")

    assert both.decrypt(encrypted) == "text"
    assert Cipher(NEW, purpose="p").decrypt(both.encrypt("text")) == "text"


@pytest.mark.parametrize("other", [Cipher(NEW, purpose="p"), Cipher(OLD, purpose="q")], ids=["key", "purpose"])
def test_another_key_or_purpose_opens_nothing(other):
    encrypted = Cipher(OLD, purpose="p").encrypt("text")

    with pytest.raises(CannotDecrypt):
        other.decrypt(encrypted)


def test_what_was_altered_is_not_opened():
    cipher = Cipher(OLD, purpose="p")
    encrypted = cipher.encrypt("text")

    with pytest.raises(CannotDecrypt):
        cipher.decrypt(encrypted[:-2] + "AA")
