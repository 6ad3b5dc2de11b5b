"""Steps of the tests of mail: a real mail server that may be told to misbehave, and the mail room at work."""

import email
import email.policy
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from deploy.local import ports
from services.notifications import letters, mailing, sending
from services.notifications.email import SmtpServer, Transport
from services.notifications.letters import Desk
from services.notifications.mailing import NewMail
from services.notifications.sending import MailRoom
from shared.database import Database
from shared.ids import new_id
from tests.polling import until

PUBLIC_URL = "https://darkroom.example"
SECRET = "s" * 40
DESK = Desk(sender=letters.sender_of("Darkroom <no-reply@darkroom.example>"), public_url=PUBLIC_URL, secret=SECRET)


class MailServer:
    """The mail server of a test, in a process of its own."""

    def __init__(self, folder: Path, *, certificate: Path | None = None) -> None:
        self.folder = folder
        self.port = ports.pick()
        self._certificate = certificate

    @contextmanager
    def running(self) -> Iterator["MailServer"]:
        """Serve until the block ends."""
        program = Path(__file__).with_name("mail_server.py")
        command = [sys.executable, str(program), str(self.port), str(self.folder)]
        process = subprocess.Popen([*command, *([str(self._certificate)] if self._certificate else [])])
        try:
            until((self.folder / "ready").exists, what="the mail server")
            yield self
        finally:
            process.kill()
            process.wait()
            (self.folder / "ready").unlink(missing_ok=True)

    def misbehave(self, **mode: Any) -> None:
        """Answer, delay or drop from now on, ``at`` greeted, recipient or content; nothing said: behave."""
        draft = self.folder / "mode-draft"
        draft.write_text(json.dumps(mode))
        draft.replace(self.folder / "mode")

    def taken(self) -> list[dict[str, Any]]:
        """Return what it took over, each with its ``message``."""
        found = [json.loads(file.read_text()) for file in sorted(self.folder.glob("*.json"))]
        return [{**each, "message": parsed(each["content"])} for each in found]

    def transport(self, **options: Any) -> SmtpServer:
        return SmtpServer(**{"host": "127.0.0.1", "port": self.port, **options})


def parsed(content: str) -> EmailMessage:
    message = email.message_from_string(content, policy=email.policy.default)
    assert isinstance(message, EmailMessage)
    return message


def a_mail(**fields: Any) -> NewMail:
    """Return a mail that tells of a finished job."""
    user_id = new_id("usr")
    known: dict[str, Any] = {
        "org_id": new_id("org"),
        "user_id": user_id,
        "key": f"generation_completed/{new_id('job')}/{user_id}",
        "kind": "generation_completed",
        "recipient": "grace@example.com",
        "facts": {"text": "Staging complete! 2 of 2 images generated.", "timezone": "UTC"},
    }
    return NewMail(**{**known, **fields})


def add(db: Database, *mails: NewMail) -> int:
    with db.transaction() as session:
        return mailing.add(db, session, mails)


@contextmanager
def mailing_by(db: Database, transport: Transport | None, *, workers: int = 1) -> Iterator[None]:
    """Let the mail room work until the block ends."""
    stopped = threading.Event()
    room = MailRoom(desk=DESK, transport=transport)
    threads = [threading.Thread(target=sending.run, args=(db, room, stopped.is_set)) for _ in range(workers)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stopped.set()
        for thread in threads:
            thread.join()


def rows(db: Database, columns: str = "kind, recipient, status") -> list[Any]:
    """Return these columns of all mails, in their order."""
    with db.transaction() as session:
        return [tuple(row) for row in session.execute(sa.text(f"SELECT {columns} FROM mails ORDER BY created_at, id"))]


def statuses(db: Database) -> list[str]:
    return [status for (status,) in rows(db, "status")]


def pass_time(tamper: Callable[..., None], seconds: float) -> None:
    """Let so much time pass for every mail that waits."""
    ago = f"make_interval(secs => {seconds})"
    tamper(f"UPDATE mails SET due_at = due_at - {ago}, expires_at = expires_at - {ago} WHERE lease_until IS NULL")
