"""How mails leave: to a mail server over SMTP, or into a folder where there is none. An outcome, never an exception.

A mail server that drops, delays or refuses is what this is written for; what a mail says is none of its business.
"""

import os
import re
import smtplib
import socket
import tempfile
from dataclasses import dataclass
from email.message import EmailMessage
from pathlib import Path
from typing import Final, Protocol
from urllib.parse import parse_qs, unquote, urlsplit

import certifi
import structlog

from services.notifications.letters import single_line
from shared import budget
from shared.config import ConfigurationError
from shared.outside_connections import Tls
from shared.outside_names import NameUnknown, NoTurn, Resolve, SystemResolver

log = structlog.get_logger(__name__)

SECONDS: Final = 45.0
_ANSWER_SECONDS: Final = 15.0
_FAILURE_MAX: Final = 200
_READY: Final = 220
_PERMANENT: Final = range(500, 600)
_ADDRESS: Final = re.compile(r"[^\s<>]+@[^\s<>]+")
_STARTTLS: Final = ("offered", "required", "never")


@dataclass(frozen=True)
class Sent:
    """The mail server has taken it over."""


@dataclass(frozen=True, kw_only=True)
class Undelivered:
    """It was not taken, or nobody knows; to be tried again."""

    failure: str


@dataclass(frozen=True, kw_only=True)
class Refused:
    """It never will be taken, such as for an address that does not exist."""

    failure: str


Outcome = Sent | Undelivered | Refused


class Transport(Protocol):
    """A way for mails to leave."""

    def send(self, letter: EmailMessage) -> Outcome:
        """Hand a mail over and say what became of it."""


class _NotSecure(smtplib.SMTPException):
    """The connection is not encrypted, and has to be."""


class _Server(smtplib.SMTP):
    """A conversation with a mail server, begun by `reach`: the library's way of looking names up stops everybody."""

    def reach(self, host: str, port: int, *, resolve: Resolve) -> None:
        """Connect to the first of the server's addresses that answers."""
        self._host = host  # whom its certificate has to name
        self._resolve = resolve
        code, said = self.connect(host, port)
        if code != _READY:
            raise smtplib.SMTPConnectError(code, said)

    def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:
        failed: OSError | None = None
        for address in self._resolve(host, timeout):
            try:
                return socket.create_connection((address, port), timeout)
            except OSError as error:
                failed = error
        raise failed or OSError("the mail server has no address")


class _TlsServer(smtplib.SMTP_SSL, _Server):
    """The same, encrypted from the first byte on."""


class Folder:
    """Writes each mail into a folder as an .eml file, named by its Message-ID: the same mail again, the same file."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def send(self, letter: EmailMessage) -> Outcome:
        """Write one mail; whoever reads the folder sees it whole or not at all."""
        name = letter["Message-ID"].strip("<>").partition("@")[0]
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            descriptor, draft = tempfile.mkstemp(dir=self._folder, prefix=f".{name}.")  # mode 0600
            with os.fdopen(descriptor, "wb") as file:
                file.write(letter.as_bytes())
            Path(draft).replace(self._folder / f"{name}.eml")
        except OSError as error:
            return Undelivered(failure=f"the folder for mails cannot be written: {type(error).__name__}")
        return Sent()


class SmtpServer:
    """Hands each mail to a mail server, over a connection of its own.

    ``login`` is a user and a password; they are sent only over an encrypted connection, or within this machine.
    ``starttls`` is ``offered`` (encrypt where the server can), ``required`` or ``never``. ``authorities`` (a PEM file)
    are the web's unless given, and ``resolve`` is the machine's own resolver.
    """

    def __init__(
        self,
        *,
        host: str,
        port: int,
        login: tuple[str, str] | None = None,
        tls: bool = False,
        starttls: str = "offered",
        authorities: str | None = None,
        seconds: float = SECONDS,
        resolve: Resolve | None = None,
    ) -> None:
        self._host = host
        self._port = port
        self._login = login
        self._tls = tls
        self._starttls = starttls
        self._seconds = seconds
        self._trusted = Tls(authorities or certifi.where())
        self._resolve = resolve or SystemResolver()

    def send(self, letter: EmailMessage) -> Outcome:
        """Hand one mail over, within a time limit for all of it."""
        try:
            with budget.interrupted_after(self._seconds, "handing over a mail"):
                return self._handed_over(letter)
        except (smtplib.SMTPException, OSError, UnicodeError, NameUnknown, NoTurn, budget.TimeLimitExceeded) as error:
            return _outcome_of(error)

    def _handed_over(self, letter: EmailMessage) -> Outcome:
        server = self._connected(name=letter["From"].addresses[0].domain)
        try:
            server.send_message(letter)
        except BaseException:
            server.close()
            raise
        try:
            server.quit()
        except (smtplib.SMTPException, OSError):  # it has the mail: how it says goodbye changes nothing
            server.close()
        return Sent()

    def _connected(self, *, name: str) -> smtplib.SMTP:
        # Without a name of ours the library would look for the machine's.
        if self._tls:
            server: _Server = _TlsServer(local_hostname=name, timeout=_ANSWER_SECONDS, context=self._trusted)
        else:
            server = _Server(local_hostname=name, timeout=_ANSWER_SECONDS)
        try:
            server.reach(self._host, self._port, resolve=self._resolve)
            self._introduce(server)
        except BaseException:
            server.close()
            raise
        return server

    def _introduce(self, server: smtplib.SMTP) -> None:
        server.ehlo_or_helo_if_needed()
        encrypted = self._tls
        if not self._tls and self._starttls != "never":
            if server.has_extn("starttls"):
                server.starttls(context=self._trusted)
                server.ehlo()
                encrypted = True
            elif self._starttls == "required":
                raise _NotSecure("the mail server offers no encryption, which SMTP_URL requires")
        if self._login:
            if not encrypted and self._host not in {"localhost", "127.0.0.1", "::1"}:
                raise _NotSecure("the mail server offers no encryption, and a password is not sent without")
            server.login(*self._login)


def transport_for(url: str) -> Transport:
    """Return the way mails leave by: ``smtp://user:password@host:587?starttls=required``, ``smtps://…``, ``file:///…``.

    ``authorities=/path/of.pem`` names who signs the server's certificate, where that is not one of the web's.

    Raises:
        ConfigurationError: it is none of these.
    """
    parts = urlsplit(url)
    options = parse_qs(parts.query)
    starttls = options.get("starttls", ["offered"])[0]
    if parts.scheme == "file" and parts.path:
        return Folder(Path(unquote(parts.path)))
    try:
        port = parts.port
    except ValueError as error:
        raise ConfigurationError("SMTP_URL: its port is no number") from error
    if parts.scheme not in {"smtp", "smtps"} or not parts.hostname or starttls not in _STARTTLS:
        raise ConfigurationError(
            "SMTP_URL: write smtp://user:password@host:587?starttls=required, smtps://host, or file:///folder"
        )
    tls = parts.scheme == "smtps"
    return SmtpServer(
        host=parts.hostname,
        port=port or (465 if tls else 25),
        login=(unquote(parts.username), unquote(parts.password or "")) if parts.username else None,
        tls=tls,
        starttls=starttls,
        authorities=options["authorities"][0] if "authorities" in options else None,
    )


def _outcome_of(error: Exception) -> Outcome:
    """Return what an error means for the mail: whatever may be another time is no refusal."""
    match error:
        case smtplib.SMTPRecipientsRefused():
            return _refusal(*next(iter(error.recipients.values())))
        case smtplib.SMTPDataError():
            return _refusal(error.smtp_code, error.smtp_error)
        case smtplib.SMTPNotSupportedError():
            return Refused(failure="the mail server does not know addresses of this kind")
        case smtplib.SMTPResponseException():
            # Who we are or how we ask was refused, not the mail: that is for an operator to put right.
            return Undelivered(failure=f"the mail server said {error.smtp_code}")
        case _NotSecure():
            return Undelivered(failure=str(error))
    return Undelivered(failure=f"the mail server did not take it: {type(error).__name__}")


def _refusal(code: int, text: bytes | str) -> Outcome:
    """Return what a refusal of this one mail means: 5xx is for good, 4xx for now (RFC 5321, 4.2.1)."""
    said = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
    failure = _line(f"{code} {said}")
    return Refused(failure=failure) if code in _PERMANENT else Undelivered(failure=failure)


def _line(text: str) -> str:
    """Return what a mail server said, in one line and without the addresses in it: it is logged and kept."""
    return single_line(_ADDRESS.sub("(address)", text), most=_FAILURE_MAX)
