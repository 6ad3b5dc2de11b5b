"""`darkroom mail`: the mails that the embedded stack wrote into its folder instead of sending them."""

import argparse
import email
import email.policy
from collections.abc import Sequence
from email.message import EmailMessage
from pathlib import Path
from urllib.parse import unquote, urlsplit

from tools.environment import setting
from tools.failures import CommandFailed


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("id", nargs="?", metavar="ID", help="show this one whole (default: list them, the newest last)")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """List the mails, or show one."""
    folder = _folder(setting("SMTP_URL"))
    if arguments.id:
        print(shown(_one(folder, arguments.id)))
        return 0
    files = sorted(folder.glob("*.eml"), key=lambda file: file.stat().st_mtime)
    for file in files:
        print(line(file.stem, _read(file)))
    print(f"{len(files)} mails in {folder}" if files else f"No mails in {folder} yet.")
    return 0


def line(mail_id: str, mail: EmailMessage) -> str:
    """Return a mail in one line: id, date, to whom, about what."""
    return f"{mail_id}  {mail['Date']}  {mail['To']}  {mail['Subject']}"


def shown(mail: EmailMessage) -> str:
    """Return a mail's headers and its text."""
    headers = [f"{name}: {value}" for name, value in mail.items() if not name.startswith(("Content-", "MIME-"))]
    body = mail.get_body(("plain",))
    return "\n".join([*headers, "", body.get_content() if body else ""])


def _folder(url: str) -> Path:
    parts = urlsplit(url)
    if parts.scheme != "file":
        raise CommandFailed("mails go to a mail server here (SMTP_URL); only those in a folder can be listed")
    return Path(unquote(parts.path))


def _one(folder: Path, mail_id: str) -> EmailMessage:
    names: Sequence[Path] = [file for file in folder.glob("*.eml") if file.stem == mail_id]
    if not names:
        raise CommandFailed(f"there is no mail {mail_id} in {folder}")
    return _read(names[0])


def _read(file: Path) -> EmailMessage:
    with file.open("rb") as opened:
        mail: EmailMessage = email.message_from_binary_file(opened, policy=email.policy.default)
    return mail
