"""The mails of the embedded stack, as an operator looks at them."""

from datetime import UTC, datetime

import pytest

from services.notifications import letters
from services.notifications.email import Folder
from tools.__main__ import main


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("SMTP_URL", (tmp_path / "mail").as_uri())
    (tmp_path / "mail").mkdir()
    return tmp_path / "mail"


@pytest.fixture
def mail(folder):
    desk = letters.Desk(
        sender=letters.sender_of("Darkroom <no-reply@example.com>"), public_url="https://d.example", secret="s" * 40
    )
    written = letters.write(
        desk,
        mail_id="eml_1",
        kind="generation_completed",
        recipient="grace@example.com",
        facts={"text": "Größer! 2 of 2 images generated."},
        created_at=datetime(2031, 5, 1, 12, 0, tzinfo=UTC),
    )
    Folder(folder).send(written)


def test_without_mails_there_is_nothing_to_list(folder, capsys):
    assert main(["mail"]) == 0

    assert capsys.readouterr().out == f"No mails in {folder} yet.\n"


@pytest.mark.usefixtures("mail")
def test_each_mail_is_a_line(capsys):
    assert main(["mail"]) == 0

    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("eml_1  Thu, 01 May 2031 12:00:00 +0000  grace@example.com  Größer! 2 of 2")
    assert second.startswith("1 mails in ")


@pytest.mark.usefixtures("mail")
def test_one_mail_is_shown_with_its_headers_and_its_text(capsys):
    assert main(["mail", "eml_1"]) == 0

    shown = capsys.readouterr().out
    assert "To: grace@example.com" in shown
    assert "Unsubscribe: https://d.example/v1/unsubscribe?token=eml_1." in shown


@pytest.mark.usefixtures("mail")
@pytest.mark.parametrize("name", ["eml_2", "../mail/eml_1", "*"])
def test_a_mail_that_is_not_there_is_told(name, capsys):
    assert main(["mail", name]) == 1

    assert "there is no mail" in capsys.readouterr().err


def test_mails_that_went_to_a_server_cannot_be_listed(monkeypatch, capsys):
    monkeypatch.setenv("SMTP_URL", "smtp://mail.example")

    assert main(["mail"]) == 1

    assert "mail server" in capsys.readouterr().err
