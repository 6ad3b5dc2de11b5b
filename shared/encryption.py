"""Encryption of what has to be kept and may not lie open in a table, with keys that can be changed at any time."""

import base64
import hashlib
import hmac

from cryptography.fernet import Fernet, InvalidToken, MultiFernet


class CannotDecrypt(Exception):
    """None of the keys opens it: it was altered, or the key it was encrypted with is no longer among them."""


class Cipher:
    """Encrypts texts for one purpose, with keys derived from the secrets in ``keys``.

    Args:
        keys: secrets, with commas. The first one encrypts; the others still open what they once encrypted.
        purpose: what is encrypted for one purpose cannot be decrypted for another.
    """

    def __init__(self, keys: str, *, purpose: str) -> None:
        self._keys = MultiFernet([Fernet(_derived(key.strip(), purpose)) for key in keys.split(",")])

    def encrypt(self, text: str) -> str:
        """Return ``text`` encrypted, as ASCII."""
        return self._keys.encrypt(text.encode()).decode("ascii")

    def decrypt(self, encrypted: str) -> str:
        """Return the text again.

        Raises:
            CannotDecrypt: no key opens it.
        """
        try:
            return self._keys.decrypt(encrypted.encode()).decode()
        except InvalidToken as error:
            raise CannotDecrypt("no key in ENCRYPTION_KEYS opens this; keep the old ones behind a new one") from error


def _derived(key: str, purpose: str) -> bytes:
    return base64.urlsafe_b64encode(hmac.digest(key.encode(), purpose.encode(), hashlib.sha256))
