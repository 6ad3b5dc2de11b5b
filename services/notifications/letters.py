"""Writing mails: subject, text and HTML from templates, and headers that nothing from outside can break out of.

Pure, but for the templates it reads. Links get their tokens here, when the mail is sent: no row and no event has one.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.errors import MessageError
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

import jinja2

from services.notifications import preferences
from shared import tokens
from shared.config import ConfigurationError

SUBJECT_MAX: Final = 200
NAME_MAX: Final = 100
SENTENCE_MAX: Final = 500
UNSUBSCRIBE_DAYS: Final = 60
# The kinds that can be switched off, and by which preferences: of a channel, and in it.
OPTIONAL: Final[Mapping[str, Sequence[tuple[str, str]]]] = {
    "generation_completed": [("email", "generation_completed")],
    "generation_failed": [("email", "generation_failed")],
    "weekly_usage_summary": [("email", "weekly_usage_summary")],
    "tips": [("email", "tips_and_best_practices")],
    "low_quota": [("browser", "low_quota_warning")],
    "daily_digest": [("email", "generation_completed"), ("email", "generation_failed")],
}
_MONTHS: Final = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)
# Long lines: a folded address in List-Unsubscribe would be written in a way that no reader understands.
_POLICY: Final = SMTP.clone(cte_type="7bit", max_line_length=900)
_ADDRESS_TEXT: Final = r"[^\s<>()\[\],;:\\\"@]{1,64}@[^\s<>()\[\],;:\\\"@]{1,255}"
_ADDRESS: Final = re.compile(_ADDRESS_TEXT)
_SENDER: Final = re.compile(rf"(?P<name>[^<>@,\r\n]*)<(?P<named>{_ADDRESS_TEXT})>|(?P<bare>{_ADDRESS_TEXT})")
_BLANKS: Final = re.compile(r"[\s\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069]+")

_templates = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=jinja2.select_autoescape(["html"]),
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


class Unwritable(Exception):
    """The mail cannot be written: its recipient is no address, or a fact it needs is missing."""


@dataclass(frozen=True, kw_only=True)
class Desk:
    """Who writes, where the product's pages are, and what signs the links to them."""

    sender: Address
    public_url: str
    secret: str


def sender_of(text: str) -> Address:
    """Read ``Darkroom <no-reply@example.com>``.

    Raises:
        ConfigurationError: it is no address.
    """
    found = _SENDER.fullmatch(text)
    if found is None:
        raise ConfigurationError(f"MAIL_FROM: {text!r} is no address; write Darkroom <no-reply@example.com>")
    return Address(single_line(found["name"] or "", most=NAME_MAX), addr_spec=found["named"] or found["bare"])


def write(
    desk: Desk, *, mail_id: str, kind: str, recipient: str, facts: Mapping[str, Any], created_at: datetime
) -> EmailMessage:
    """Return a mail, the same whenever it is written again.

    Args:
        desk: who writes.
        mail_id: its id, of which the Message-ID is made.
        kind: which template.
        recipient: an address.
        facts: what the template tells; nothing of it is trusted.
        created_at: its date.

    Raises:
        Unwritable: the recipient is no address, or the template and the facts do not fit.
    """
    try:
        seen = {**facts, **_links(desk, mail_id=mail_id, kind=kind, facts=facts, created_at=created_at)}
        subject = single_line(_templates.get_template(f"{kind}.subject").render(seen), most=SUBJECT_MAX)
        text = _templates.get_template(f"{kind}.txt").render(seen)
        html = _templates.get_template(f"{kind}.html").render({**seen, "subject": subject})
    except (jinja2.TemplateError, KeyError, ValueError, TypeError) as error:
        raise Unwritable(f"the mail {kind} cannot be written: {type(error).__name__}") from error
    letter = EmailMessage(policy=_POLICY)
    try:
        letter["From"] = desk.sender
        letter["To"] = _address(recipient)
        letter["Subject"] = subject
        letter["Date"] = format_datetime(created_at.astimezone(UTC))
        letter["Message-ID"] = f"<{mail_id}@{desk.sender.domain}>"
        letter["Auto-Submitted"] = "auto-generated"
        if kind in OPTIONAL:
            # RFC 8058: one click of the reader's mail program, a POST to this address, is enough.
            letter["List-Unsubscribe"] = f"<{seen['unsubscribe_url']}>"
            letter["List-Unsubscribe-Post"] = "List-Unsubscribe=One-Click"
        letter.set_content(text)
        letter.add_alternative(html, subtype="html")
        letter.set_boundary(f"=_{mail_id}")
    except (MessageError, ValueError, IndexError) as error:
        raise Unwritable(f"the mail {kind} cannot be put together: {type(error).__name__}") from error
    return letter


def switched_off(wanted: Mapping[str, Any]) -> set[str]:
    """Return the kinds of mail that somebody with these preferences wants none of."""
    return {kind for kind, choices in OPTIONAL.items() if not any(wanted[channel][name] for channel, name in choices)}


def single_line(text: str, *, most: int) -> str:
    """Return a text from outside as a header may hold it: one line, nothing that turns or hides letters, not long."""
    # The library reads encoded words even in what it is to write, with whatever is in them: further headers, say.
    line = _BLANKS.sub(" ", text).replace("=?", "= ?").strip()
    return line if len(line) <= most else f"{line[: most - 1]}…"


def moment(value: str, timezone: str = "UTC") -> str:
    """Return an RFC 3339 time as a sentence has it: ``1 May 2031, 2:30 PM UTC``, whatever the machine's locale."""
    local = datetime.fromisoformat(value).astimezone(preferences.zone(timezone))
    return f"{local.day} {_MONTHS[local.month - 1]} {local.year}, {clock(local)} {local.tzname() or 'UTC'}"


def clock(local: datetime) -> str:
    """Return ``2:30 PM``."""
    return f"{(local.hour - 1) % 12 + 1}:{local.minute:02d} {'AM' if local.hour < 12 else 'PM'}"  # noqa: PLR2004  noon


def _links(desk: Desk, *, mail_id: str, kind: str, facts: Mapping[str, Any], created_at: datetime) -> dict[str, str]:
    """Return the addresses a mail leads to; tokens are made here of the ids and ends in the facts."""
    links = {"home_url": desk.public_url}
    if kind == "invitation":
        links["url"] = _with_token(
            f"{desk.public_url}/signup", _token(desk, tokens.INVITATION, facts["invitation_id"], facts["expires_at"])
        )
    if kind == "password_reset":
        links["url"] = _with_token(
            f"{desk.public_url}/password-reset",
            _token(desk, tokens.PASSWORD_RESET, facts["reset_id"], facts["expires_at"]),
        )
    if kind in OPTIONAL:
        end = int(created_at.timestamp()) + UNSUBSCRIBE_DAYS * 86_400
        token = tokens.mint(secret=desk.secret, purpose=tokens.UNSUBSCRIBE, subject=mail_id, expires_at=end)
        links["unsubscribe_url"] = _with_token(f"{desk.public_url}/v1/unsubscribe", token)
    return links


def _token(desk: Desk, purpose: str, subject: str, expires_at: str) -> str:
    end = int(datetime.fromisoformat(expires_at).timestamp())
    return tokens.mint(secret=desk.secret, purpose=purpose, subject=subject, expires_at=end)


def _with_token(url: str, token: str) -> str:
    return f"{url}?{urlencode({'token': token})}"


def _address(text: str) -> Address:
    if not _ADDRESS.fullmatch(text) or not text.isprintable():
        raise Unwritable("the recipient is no address")
    name, _, domain = text.partition("@")
    try:
        return Address(username=name, domain=domain if domain.isascii() else domain.encode("idna").decode("ascii"))
    except (UnicodeError, ValueError) as error:
        raise Unwritable("the recipient is no address") from error


_templates.filters["moment"] = moment
_templates.filters["sentence"] = lambda text: single_line(str(text), most=SENTENCE_MAX)
_templates.filters["line"] = lambda text: single_line(str(text), most=NAME_MAX)
