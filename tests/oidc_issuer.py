"""An identity provider on loopback: real HTTP, real keys, real signatures; it rotates, breaks and lies as told."""

import base64
import functools
import hashlib
import hmac
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jwt
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa

AUDIENCE = "https://app.example.com"
DISCOVERY = "/.well-known/openid-configuration"
JWKS = "/keys"


@functools.cache
def private_key(algorithm: str, number: int = 0) -> Any:
    """Return a key that signs by ``algorithm``; the same for the same number, since making them takes a while."""
    del number
    if algorithm[:2] in {"RS", "PS"}:
        return rsa.generate_private_key(public_exponent=65537, key_size=2048)
    if algorithm == "EdDSA":
        return ed25519.Ed25519PrivateKey.generate()
    curves = {"ES256": ec.SECP256R1(), "ES384": ec.SECP384R1(), "ES512": ec.SECP521R1()}
    return ec.generate_private_key(curves[algorithm])


def listed(algorithm: str, key: Any, **members: Any) -> dict[str, Any]:
    """Return the public half of ``key`` as a JWKS lists it; a member that is None is left out."""
    shown = jwt.get_algorithm_by_name(algorithm).to_jwk(key.public_key(), as_dict=True)
    return {name: value for name, value in {**shown, "use": "sig", **members}.items() if value is not None}


class LocalIssuer:
    """Serves discovery and keys, and signs tokens.

    ``answers`` has what is sent at a path in place of the truth: a status, or the bytes of a body. ``slow_seconds``
    is how long every answer takes, ``asked`` the paths that were asked for, ``signing`` the algorithm, id and key of
    the day.
    """

    def __init__(self) -> None:
        self.answers: dict[str, int | bytes] = {}
        self.slow_seconds = 0.0
        self.asked: list[str] = []
        self.keys: list[dict[str, Any]] = []
        self.url = ""
        self.signing: tuple[str, str | None, Any] = ("", None, None)
        self._server: ThreadingHTTPServer | None = None
        self._port = 0

    @contextmanager
    def running(self) -> Iterator["LocalIssuer"]:
        """Serve on a free loopback port until the block ends."""
        self.rotate()
        self.come_back()
        try:
            yield self
        finally:
            self.go_away()

    def come_back(self) -> None:
        """Serve, at the address of before if there was one."""
        issuer = self

        class Handler(_Handler):
            local = issuer

        self._server = ThreadingHTTPServer(("127.0.0.1", self._port), Handler)
        self._server.daemon_threads = True
        self._port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self._port}"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def go_away(self) -> None:
        """Take no connection any more."""
        if self._server:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def rotate(self, algorithm: str = "RS256", *, number: int = 0, keeps: bool = False, **shown: Any) -> None:
        """Sign with another key from now on, and list it, instead of those before or besides them."""
        key = private_key(algorithm, number)
        kid = f"{algorithm}-{number}"
        entry = listed(algorithm, key, **{"kid": kid, "alg": algorithm, **shown})
        self.keys = [*self.keys, entry] if keeps else [entry]
        self.signing = (algorithm, kid, key)

    def claims(self, **changed: Any) -> dict[str, Any]:
        """Return what a token says; a claim that is given as None is left out."""
        now = int(time.time())
        said = {
            "iss": self.url,
            "aud": AUDIENCE,
            "sub": "user_1",
            "iat": now,
            "nbf": now,
            "exp": now + 60,
            "email": "grace@example.com",
            "email_verified": True,
            "name": "Grace",
            **changed,
        }
        return {name: value for name, value in said.items() if value is not None}

    def token(self, *, headers: dict[str, Any] | None = None, **changed: Any) -> str:
        """Return a token signed with the key of the day; a header that is given as None is left out."""
        algorithm, kid, key = self.signing
        shown = {
            name: value for name, value in {"kid": kid, "typ": "JWT", **(headers or {})}.items() if value is not None
        }
        return jwt.encode(self.claims(**changed), key, algorithm, headers={"typ": None, **shown})

    def signed(self, header: dict[str, Any], payload: bytes) -> str:
        """Return a token of these very bytes, signed with the key of the day, which has to be RS256's."""
        text = f"{_encoded(json.dumps(header).encode())}.{_encoded(payload)}"
        signature = self.signing[2].sign(text.encode(), padding.PKCS1v15(), hashes.SHA256())
        return f"{text}.{_encoded(signature)}"

    def public_pem(self) -> bytes:
        """Return what everybody may know of the key of the day, as some would use it for a secret."""
        public = self.signing[2].public_key()
        pem: bytes = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        return pem

    def answer(self, path: str) -> tuple[int, bytes]:
        """Return status and body for a path."""
        self.asked.append(path)
        time.sleep(self.slow_seconds)
        truths: dict[str, Any] = {
            DISCOVERY: {"issuer": self.url, "jwks_uri": self.url + JWKS},
            JWKS: {"keys": self.keys},
        }
        told = self.answers.get(path, 200 if path in truths else 404)
        if isinstance(told, bytes):
            return 200, told
        return told, json.dumps(truths.get(path, {})).encode()


class _Handler(BaseHTTPRequestHandler):
    local: LocalIssuer

    def do_GET(self) -> None:
        status, body = self.local.answer(self.path)
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        """Keep the test's output quiet."""


def by_hand(header: dict[str, Any], claims: dict[str, Any], *, secret: bytes | None = None) -> str:
    """Return a token as no library would make it: unsigned, or signed with ``secret`` by HMAC-SHA256."""
    parts = [_encoded(json.dumps(part).encode()) for part in (header, claims)]
    text = ".".join(parts)
    return f"{text}.{_encoded(hmac.digest(secret, text.encode(), hashlib.sha256)) if secret else ''}"


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
