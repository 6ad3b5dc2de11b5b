"""What mails say, and that nothing from outside gets out of its place in them."""

import email
import email.policy
from datetime import UTC, datetime

import pytest

from services.notifications import letters
from services.notifications.letters import Desk, Unwritable, moment, sender_of, single_line, write
from shared import tokens
from shared.config import ConfigurationError
from shared.ids import new_id

NOW = datetime(2031, 5, 1, 14, 30, tzinfo=UTC)
DESK = Desk(
    sender=sender_of("Darkroom <no-reply@darkroom.example>"), public_url="https://darkroom.example", secret="s" * 40
)
FACTS = {
    "invitation": {
        "inviter": "Ada Lovelace",
        "organization": "Analytical Engines",
        "role": "editor",
        "invitation_id": new_id("inv"),
        "expires_at": "2031-05-08T14:30:00Z",
    },
    "password_reset": {"reset_id": new_id("pwr"), "expires_at": "2031-05-01T15:30:00Z"},
    "preferences_updated": {
        "preferences": {
            "email": {"generation_completed": True, "tips_and_best_practices": False},
            "browser": {"low_quota_warning": True},
            "frequency": "daily_digest",
        }
    },
    "generation_completed": {"text": "StudioSession 'Summer Catalog 2026' complete! 176 of 180 images generated."},
    "generation_failed": {"text": "Staging failed. 0 of 2 images generated.", "job_id": "job_1"},
    "low_quota": {
        "text": "You have used 80 % of this month's 100 generations; 20 are left.",
        "left": 20,
        "resets_at": "2031-06-01T00:00:00Z",
        "timezone": "Europe/Berlin",
    },
    "webhook_disabled": {"text": "The webhook endpoint whe_1 was disabled: it answered that it is gone."},
    "weekly_usage_summary": {
        "organization": "Analytical Engines",
        "until": "2031-05-05T00:00:00Z",
        "jobs": 12,
        "images": 340,
        "failed": 4,
        "timezone": "UTC",
    },
    "operator_alert": {
        "text": "fal flux has failed 10 times in a row, last with timeout.",
        "remedy": "Its work waits.",
        "since": "2031-05-01T14:30:00Z",
        "incident_id": "inc_1",
    },
    "tips": {"subject_line": "Better photos", "paragraphs": ["Open the curtains.", "Hold it level."]},
    "daily_digest": {"items": ["Staging complete! 2 of 2 images generated."], "count": 3},
}


def written(kind, *, recipient="grace@example.com", **facts):
    mail = write(
        DESK,
        mail_id="eml_01kf0c4m8x0123456789abcdef",
        kind=kind,
        recipient=recipient,
        facts={**FACTS[kind], **facts},
        created_at=NOW,
    )
    return email.message_from_bytes(mail.as_bytes(), policy=email.policy.default)


def text(message):
    return message.get_body(("plain",)).get_content()


def html(message):
    return message.get_body(("html",)).get_content()


@pytest.mark.parametrize("kind", FACTS)
def test_every_mail_has_text_html_and_the_headers_of_a_machine(kind):
    message = written(kind)

    assert text(message).strip()
    assert "<html" in html(message)
    assert message["From"] == "Darkroom <no-reply@darkroom.example>"
    assert message["To"] == "grace@example.com"
    assert message["Date"] == "Thu, 01 May 2031 14:30:00 +0000"
    assert message["Message-ID"] == "<eml_01kf0c4m8x0123456789abcdef@darkroom.example>"
    assert message["Auto-Submitted"] == "auto-generated"
    assert "{{" not in text(message) + html(message)


def test_every_template_is_tested():
    folder = letters.Path(letters.__file__).parent / "templates"

    assert {file.stem for file in folder.glob("*.subject")} == set(FACTS)


@pytest.mark.parametrize(
    ("kind", "subject"),
    [
        ("invitation", "Ada Lovelace invites you to Analytical Engines"),
        ("password_reset", "Choose a new password"),
        ("preferences_updated", "Notification preferences updated"),
        ("generation_completed", "StudioSession 'Summer Catalog 2026' complete! 176 of 180 images generated."),
        ("generation_failed", "Staging failed. 0 of 2 images generated."),
        ("low_quota", "Generations are running low"),
        ("operator_alert", "Darkroom alert: fal flux has failed 10 times in a row, last with timeout."),
        ("weekly_usage_summary", "Your week on Darkroom: 340 images"),
        ("daily_digest", "Your day on Darkroom: 3 messages"),
    ],
)
def test_a_subject_says_what_it_is_about(kind, subject):
    assert written(kind)["Subject"] == subject


def test_an_invitation_says_who_invites_to_what_and_its_link_is_good():
    message = written("invitation")

    assert "Ada Lovelace invites you to join Analytical Engines on Darkroom, as editor." in text(message)
    assert "until 8 May 2031, 2:30 PM UTC" in text(message)
    (link,) = [line for line in text(message).splitlines() if line.startswith("https://")]
    address, _, token = link.partition("?token=")
    assert address == "https://darkroom.example/signup"
    subject = tokens.read(token, secret=DESK.secret, purpose=tokens.INVITATION, now=NOW.timestamp())
    assert subject == FACTS["invitation"]["invitation_id"]


def test_the_link_for_a_new_password_is_good_for_its_hour():
    (link,) = [line for line in text(written("password_reset")).splitlines() if line.startswith("https://")]
    token = link.partition("/password-reset?token=")[2]

    read = {"secret": DESK.secret, "purpose": tokens.PASSWORD_RESET}
    assert tokens.read(token, **read, now=NOW.timestamp() + 3599) == FACTS["password_reset"]["reset_id"]
    with pytest.raises(tokens.TokenExpired):
        tokens.read(token, **read, now=NOW.timestamp() + 3600)


@pytest.mark.parametrize("kind", [*letters.OPTIONAL, "daily_digest"])
def test_whoever_may_switch_it_off_can_do_so_by_one_click(kind):
    message = written(kind)

    address = message["List-Unsubscribe"]
    assert message["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    assert address.startswith("<https://darkroom.example/v1/unsubscribe?token=eml_")
    assert address.strip("<>") in text(message)
    token = address.strip("<>").partition("?token=")[2]
    read = {"secret": DESK.secret, "purpose": tokens.UNSUBSCRIBE}
    assert tokens.read(token, **read, now=NOW.timestamp() + 59 * 86_400) == "eml_01kf0c4m8x0123456789abcdef"


@pytest.mark.parametrize("kind", sorted(set(FACTS) - set(letters.OPTIONAL) - {"daily_digest"}))
def test_what_has_to_be_told_cannot_be_switched_off(kind):
    message = written(kind)

    assert message["List-Unsubscribe"] is None
    assert "unsubscribe" not in text(message) + html(message)


HOSTILE = [
    "Eve\r\nBcc: victim@example.com",
    "Eve\nSubject: You won",
    "Eve\r\n\r\n<script>alert(1)</script>",
    "Eve\x00\x0b\x0c\x1e\x85\u2028Bcc: victim@example.com",
    "\u202eevE\u202c",
    "=?utf-8?q?Eve=0D=0ABcc:_victim@example.com?=",
    "Eve" * 1000,
    "<img src=x onerror=alert(1)>",
    "{{ 7 * 7 }}{% raw %}",
    "Eve\udcff",
]


@pytest.mark.parametrize("hostile", HOSTILE)
def test_a_name_from_outside_gets_out_of_no_header_and_no_page(hostile):
    try:
        message = written("invitation", inviter=hostile, organization=hostile)
    except Unwritable:
        assert "\udcff" in hostile
        return

    assert set(message.keys()) == set(written("invitation").keys())
    assert len(message.get_all("To")) == len(message.get_all("Subject")) == 1
    assert message["Bcc"] is None
    assert message["To"] == "grace@example.com"
    assert len(message["Subject"]) <= letters.SUBJECT_MAX
    assert "<script" not in html(message)
    assert "<img" not in html(message)
    assert "49" not in message["Subject"]
    assert not any(sign in message["Subject"] for sign in "\r\n\u2028\u202e")


@pytest.mark.parametrize("kind", ["generation_completed", "generation_failed", "daily_digest", "low_quota"])
def test_what_a_session_is_called_stays_within_its_line(kind):
    hostile = "Summer'\n\nYour account is closed: <a href='https://evil.example'>log in</a>\u2028\u202e"
    facts = {"items": [hostile], "count": 1} if kind == "daily_digest" else {"text": hostile}

    message = written(kind, **facts)

    assert [line for line in text(message).splitlines() if "Your account" in line and "Summer" not in line] == []
    assert "<a href='https://evil" not in html(message)
    assert "\u202e" not in text(message) + html(message)


@pytest.mark.parametrize(
    "recipient",
    [
        "",
        "grace",
        "grace@",
        "@example.com",
        "grace@example.com\r\nBcc: victim@example.com",
        "grace@example.com, victim@example.com",
        "Grace <grace@example.com>",
        "grace@example.com\x00",
        '"a b"@example.com',
        "a" * 65 + "@example.com",
        "grace@@example.com",
        "grace@exa mple.com",
    ],
)
def test_what_is_not_one_address_gets_no_mail(recipient):
    with pytest.raises(Unwritable):
        written("generation_completed", recipient=recipient)


def test_a_domain_in_other_letters_is_written_in_ascii():
    assert written("generation_completed", recipient="grace@bücher.example")["To"] == "grace@xn--bcher-kva.example"


def test_a_mail_written_again_is_the_same_to_the_byte():
    arguments = {"mail_id": "eml_1", "kind": "tips", "recipient": "g@example.com", "facts": FACTS["tips"]}

    first, second = (write(DESK, **arguments, created_at=NOW).as_bytes() for _ in range(2))

    assert first == second


def test_a_mail_that_lacks_a_fact_is_not_written():
    with pytest.raises(Unwritable):
        write(DESK, mail_id="eml_1", kind="low_quota", recipient="g@example.com", facts={}, created_at=NOW)


@pytest.mark.parametrize(
    ("value", "timezone", "told"),
    [
        ("2031-05-01T14:30:00Z", "UTC", "1 May 2031, 2:30 PM UTC"),
        ("2031-05-01T14:30:00+02:00", "UTC", "1 May 2031, 12:30 PM UTC"),
        ("2031-01-01T00:05:00Z", "UTC", "1 January 2031, 12:05 AM UTC"),
        ("2031-05-01T14:30:00Z", "Europe/Berlin", "1 May 2031, 4:30 PM CEST"),
        ("2031-05-01T14:30:00Z", "Nowhere/Else", "1 May 2031, 2:30 PM UTC"),
    ],
)
def test_times_name_their_zone_and_follow_no_locale(value, timezone, told):
    assert moment(value, timezone) == told


def test_a_line_is_one_line():
    assert single_line(" a\r\n\tb\x00\u2029c ", most=10) == "a b c"
    assert single_line("x" * 20, most=10) == "x" * 9 + "…"


@pytest.mark.parametrize(
    "text_of_setting", ["", "Darkroom", "Darkroom <no-reply>", "Darkroom <a@b>, <c@d>", "a@b\nBcc: c@d"]
)
def test_a_sender_that_is_no_address_is_told_at_the_start(text_of_setting):
    with pytest.raises(ConfigurationError, match="MAIL_FROM"):
        sender_of(text_of_setting)
