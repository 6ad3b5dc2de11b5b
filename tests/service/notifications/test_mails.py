"""Mails against a real mail server, which drops, delays and refuses: each leaves, once as far as anybody can know."""

import os
import threading
import time
from datetime import UTC, datetime

import pytest
import sqlalchemy as sa

from services.notifications import mailing, sending
from services.notifications.email import Folder, Refused, Sent, SmtpServer, Undelivered, transport_for
from services.notifications.letters import write
from services.notifications.sending import MailRoom
from shared import events
from shared.config import ConfigurationError
from shared.events import EmailSent
from shared.ids import new_id
from shared.outside_names import NameUnknown
from tests.certificates import a_server_certificate
from tests.polling import until
from tests.service.notifications.mails import (
    DESK,
    MailServer,
    a_mail,
    add,
    mailing_by,
    parsed,
    pass_time,
    rows,
    statuses,
)


@pytest.fixture
def server(tmp_path):
    folder = tmp_path / "taken"
    folder.mkdir()
    with MailServer(folder).running() as running:
        yield running


@pytest.fixture
def letter():
    facts = {"text": "Staging complete! 2 of 2 images generated."}
    return write(
        DESK,
        mail_id="eml_1",
        kind="generation_completed",
        recipient="grace@example.com",
        facts=facts,
        created_at=datetime.now(UTC),
    )


def tries(db):
    return [attempt for (attempt,) in rows(db, "attempt")]


def ended(db, status):
    return until(lambda: set(statuses(db)) == {status})


def waiting(db):
    """Tell whether every mail was tried and waits for its next try."""
    return until(
        lambda: all(row == ("pending", True, True) for row in rows(db, "status, lease_until IS NULL, attempt > 0"))
    )


def test_a_mail_arrives_with_text_and_html(notifications_db, server):
    with mailing_by(notifications_db, server.transport()):
        add(notifications_db, a_mail())
        ended(notifications_db, "sent")

    (taken,) = server.taken()
    message = taken["message"]
    assert taken["from"] == "no-reply@darkroom.example"
    assert taken["to"] == ["grace@example.com"]
    assert message["Subject"] == "Staging complete! 2 of 2 images generated."
    assert message["To"] == "grace@example.com"
    assert "2 of 2 images generated." in message.get_body(("plain",)).get_content()
    assert "2 of 2 images generated." in message.get_body(("html",)).get_content()


def test_no_name_is_looked_up_in_the_way_that_stops_everybody(server, letter, monkeypatch):
    def stopped(*asked):
        raise AssertionError(asked)

    looked_up = []
    monkeypatch.setattr("socket.getfqdn", stopped)
    monkeypatch.setattr("socket.gethostbyname", stopped)
    transport = server.transport(
        host="mail.example", resolve=lambda host, _seconds: looked_up.append(host) or ["127.0.0.1"]
    )

    outcome = transport.send(letter)

    assert outcome == Sent()
    assert looked_up == ["mail.example"]
    assert server.taken()[0]["hello"] == "darkroom.example"


def test_a_mail_server_is_reached_at_whichever_of_its_addresses_answers(server, letter):
    transport = server.transport(host="mail.example", resolve=lambda _host, _seconds: ["127.0.0.2", "127.0.0.1"])

    assert transport.send(letter) == Sent()


def test_a_mail_server_whose_name_is_not_known_is_waited_for(letter):
    def unknown(_host, _seconds):
        raise NameUnknown("the name is not known")

    outcome = SmtpServer(host="mail.example", port=25, resolve=unknown).send(letter)

    assert outcome == Undelivered(failure="the mail server did not take it: NameUnknown")


def test_nobody_is_told_that_somebody_asked_for_a_new_password(notifications_db, server):
    facts = {"reset_id": new_id("pwr"), "expires_at": "2131-05-01T12:00:00Z"}
    add(notifications_db, a_mail(kind="password_reset", facts=facts))
    with mailing_by(notifications_db, server.transport()):
        ended(notifications_db, "sent")

    with notifications_db.transaction() as session:
        assert session.scalar(sa.text("SELECT count(*) FROM outbox")) == 0


@pytest.mark.parametrize(
    "facts",
    [{}, {"reset_id": new_id("pwr"), "expires_at": "soon"}, {"reset_id": new_id("pwr"), "expires_at": None}],
)
def test_a_mail_whose_facts_lead_nowhere_is_given_up_at_once(notifications_db, server, facts):
    add(notifications_db, a_mail(kind="password_reset", facts=facts))
    with mailing_by(notifications_db, server.transport()):
        ended(notifications_db, "failed")


def test_mails_expire_some_at_a_time_without_a_mail_server_too(notifications_db, tamper, monkeypatch):
    monkeypatch.setattr(mailing, "_EXPIRED_AT_ONCE", 10)
    add(notifications_db, *[a_mail() for _ in range(25)])
    pass_time(tamper, 3 * 86_400 + 1)

    left = []
    for _ in range(3):
        with notifications_db.transaction() as session:
            sending.claim_due(session, free=0)
        left.append(statuses(notifications_db).count("pending"))
    add(notifications_db, a_mail())
    pass_time(tamper, 3 * 86_400 + 1)
    with mailing_by(notifications_db, None):
        ended(notifications_db, "expired")

    assert left == [15, 5, 0]


def test_a_mail_that_left_is_told_without_its_address(notifications_db, server):
    mail = a_mail()
    with mailing_by(notifications_db, server.transport()):
        add(notifications_db, mail)
        ended(notifications_db, "sent")

    with notifications_db.transaction() as session:
        (body,) = session.scalars(sa.text("SELECT body FROM outbox"))
    event = events.decode(body.encode())
    assert isinstance(event, EmailSent)
    assert (event.org_id, event.user_id, event.kind) == (mail.org_id, mail.user_id, "generation_completed")
    assert "example.com" not in body


def test_a_mail_with_a_known_key_is_not_sent_again(notifications_db, server):
    mail = a_mail()

    assert add(notifications_db, mail, mail) == 1
    assert add(notifications_db, mail) == 0
    with mailing_by(notifications_db, server.transport()):
        ended(notifications_db, "sent")

    assert len(server.taken()) == 1


def test_several_workers_send_each_mail_once(notifications_db, server):
    with mailing_by(notifications_db, server.transport(), workers=3):
        add(notifications_db, *[a_mail(recipient=f"person{number}@example.com") for number in range(30)])
        until(lambda: statuses(notifications_db) == ["sent"] * 30, seconds=30)

    assert sorted(each["to"][0] for each in server.taken()) == sorted(
        f"person{number}@example.com" for number in range(30)
    )


@pytest.mark.parametrize(
    "mode",
    [
        {"at": "greeted", "drop": True},
        {"at": "recipient", "drop": True},
        {"at": "recipient", "answer": "451 4.7.1 greylisted, come back later"},
        {"at": "content", "answer": "452 4.3.1 no space", "keep": False},
        {"at": "content", "drop": True, "keep": False},
        {"at": "greeted", "answer": "421 busy"},
    ],
    ids=str,
)
def test_what_the_server_does_not_take_is_tried_again_later(notifications_db, server, tamper, mode):
    server.misbehave(**mode)
    add(notifications_db, a_mail())
    with mailing_by(notifications_db, server.transport()):
        waiting(notifications_db)
        server.misbehave()
        pass_time(tamper, 25)
        assert tries(notifications_db) == [1]
        pass_time(tamper, 10)
        ended(notifications_db, "sent")

    assert len(server.taken()) == 1
    assert tries(notifications_db) == [2]


def test_a_server_that_is_not_there_is_waited_for(notifications_db, tmp_path, tamper):
    folder = tmp_path / "taken"
    folder.mkdir()
    server = MailServer(folder)
    add(notifications_db, a_mail())
    with mailing_by(notifications_db, server.transport()):
        waiting(notifications_db)
        with server.running():
            pass_time(tamper, 60)
            ended(notifications_db, "sent")


def test_a_server_that_takes_forever_is_left_in_time(server, letter):
    server.misbehave(at="content", delay=20, keep=False)
    began = time.monotonic()

    outcome = server.transport(seconds=1).send(letter)

    assert time.monotonic() - began < 5
    assert outcome == Undelivered(failure="the mail server did not take it: TimeLimitExceeded")


@pytest.mark.parametrize(
    "mode",
    [
        {"at": "recipient", "answer": "550 5.1.1 <grace@example.com>: no such user"},
        {"at": "content", "answer": "554 5.7.1 we do not like it", "keep": False},
    ],
    ids=str,
)
def test_what_is_refused_for_good_is_not_tried_again(notifications_db, server, mode):
    server.misbehave(**mode)
    with mailing_by(notifications_db, server.transport()):
        add(notifications_db, a_mail())
        ended(notifications_db, "failed")

    ((failure, attempt),) = rows(notifications_db, "failure, attempt")
    assert failure == mode["answer"].replace("grace@example.com", "(address)")
    assert attempt == 1


def test_one_mail_that_cannot_be_written_stops_no_other(notifications_db, server):
    with mailing_by(notifications_db, server.transport()):
        add(
            notifications_db,
            a_mail(facts={}),
            a_mail(recipient="not an address"),
            a_mail(kind="no_such_kind"),
            a_mail(),
        )
        until(lambda: sorted(statuses(notifications_db)) == ["failed", "failed", "failed", "sent"])

    assert len(server.taken()) == 1


def test_a_mail_whose_taking_over_was_lost_comes_twice_under_one_message_id(notifications_db, server, tamper):
    server.misbehave(at="content", drop=True)  # after it was kept
    add(notifications_db, a_mail())
    with mailing_by(notifications_db, server.transport()):
        waiting(notifications_db)
        server.misbehave()
        pass_time(tamper, 60)
        ended(notifications_db, "sent")

    first, second = server.taken()
    assert first["message"]["Message-ID"] == second["message"]["Message-ID"]
    assert first["content"] == second["content"]


def test_a_worker_that_dies_over_a_mail_leaves_it_to_the_next_one(notifications_db, server, tamper):
    add(notifications_db, a_mail())
    with notifications_db.transaction() as session:
        (lost,) = sending.claim_due(session, free=10)

    with mailing_by(notifications_db, server.transport()):
        tamper("UPDATE mails SET lease_until = now()")
        ended(notifications_db, "sent")
    sending.send(notifications_db, MailRoom(desk=DESK, transport=server.transport()), lost)

    assert len(server.taken()) == 2  # the late one had left before it could know
    assert rows(notifications_db, "status, attempt") == [("sent", 2)]
    with notifications_db.transaction() as session:
        assert session.scalar(sa.text("SELECT count(*) FROM outbox")) == 1


def test_a_mail_past_its_time_is_not_sent(notifications_db, server, tamper):
    add(notifications_db, a_mail())
    pass_time(tamper, 3 * 86_400 + 1)
    with mailing_by(notifications_db, server.transport()):
        ended(notifications_db, "expired")

    assert server.taken() == []


def test_without_a_mail_server_mails_wait(notifications_db, server):
    add(notifications_db, a_mail())
    with mailing_by(notifications_db, None):
        pass
    assert statuses(notifications_db) == ["pending"]

    with mailing_by(notifications_db, server.transport()):
        ended(notifications_db, "sent")


def test_urgent_mails_go_first(notifications_db):
    add(notifications_db, *[a_mail(priority=2, recipient=f"late{number}@example.com") for number in range(3)])
    add(notifications_db, a_mail(priority=0, recipient="urgent@example.com"))

    with notifications_db.transaction() as session:
        (first,) = sending.claim_due(session, free=1)

    assert first.recipient == "urgent@example.com"


def test_waits_grow_to_six_hours():
    assert [sending.retry_seconds(attempt) for attempt in (1, 2, 3, 4, 20)] == [30, 120, 480, 1920, 21_600]
    assert sending.retry_seconds(1, jitter=-1) == 27


def test_a_password_is_sent_over_an_encrypted_connection_only(tmp_path, letter):
    certificate = a_server_certificate(tmp_path, name="localhost")
    folder = tmp_path / "taken"
    folder.mkdir()
    with MailServer(folder, certificate=certificate).running() as server:
        trusted = {"host": "localhost", "authorities": str(certificate), "starttls": "required"}
        right = server.transport(**trusted, login=("darkroom", "right")).send(letter)
        wrong = server.transport(**trusted, login=("darkroom", "wrong")).send(letter)
        untrusted = server.transport(host="localhost", starttls="required").send(letter)

    (taken,) = server.taken()
    assert right == Sent()
    assert (taken["encrypted"], taken["user"]) == (True, "darkroom")
    assert wrong == Undelivered(failure="the mail server said 535")
    assert isinstance(untrusted, Undelivered)


def test_a_server_without_encryption_gets_nothing_where_it_is_required(server, letter):
    outcome = server.transport(starttls="required").send(letter)

    assert outcome == Undelivered(failure="the mail server offers no encryption, which SMTP_URL requires")
    assert server.taken() == []


def test_an_address_that_the_server_cannot_know_is_refused(server):
    facts = {"text": "Staging complete!"}
    foreign = write(
        DESK,
        mail_id="eml_1",
        kind="generation_completed",
        recipient="grüße@example.com",
        facts=facts,
        created_at=datetime.now(UTC),
    )

    assert isinstance(server.transport().send(foreign), Sent | Refused)


def test_mails_in_a_folder_are_whole_private_and_one_each(tmp_path, letter):
    folder = Folder(tmp_path / "mail")

    assert folder.send(letter) == folder.send(letter) == Sent()

    (file,) = (tmp_path / "mail").iterdir()
    assert file.name == "eml_1.eml"
    assert file.stat().st_mode & 0o777 == 0o600
    assert parsed(file.read_text())["To"] == "grace@example.com"


def test_a_folder_that_cannot_be_written_is_waited_for(tmp_path, letter):
    (tmp_path / "mail").write_text("no folder")

    assert isinstance(Folder(tmp_path / "mail").send(letter), Undelivered)


def test_the_address_of_the_mail_server_says_how_mails_leave(tmp_path):
    assert isinstance(transport_for((tmp_path / "mail").as_uri()), Folder)
    assert isinstance(transport_for("smtp://me:p%40ss@mail.example:587?starttls=required"), SmtpServer)
    assert isinstance(transport_for("smtps://mail.example"), SmtpServer)


@pytest.mark.parametrize(
    "url",
    ["mail.example", "http://mail.example", "smtp://", "smtp://mail:port", "smtp://mail?starttls=maybe", "file://"],
)
def test_an_address_that_cannot_be_read_is_told_at_the_start(url):
    with pytest.raises(ConfigurationError, match="SMTP_URL"):
        transport_for(url)


def test_a_mail_to_somebody_who_leaves_meanwhile_is_sent_by_one_transaction_or_the_other(notifications_db, server):
    """Mails being added and claimed at once do not lock each other out."""

    def keep_adding():
        for _ in range(20):
            add(notifications_db, a_mail())

    adding = [threading.Thread(target=keep_adding) for _ in range(3)]
    with mailing_by(notifications_db, Folder(server.folder / str(os.getpid())), workers=2):
        for thread in adding:
            thread.start()
        for thread in adding:
            thread.join()
        until(lambda: statuses(notifications_db) == ["sent"] * 60, seconds=30)
