"""A mail server as a process: aiosmtpd, which speaks real SMTP, and misbehaves as the test says.

Run as ``python mail_server.py PORT FOLDER [CERTIFICATE]``. Before each step it reads FOLDER/mode; what it takes over it
writes to FOLDER, one file a mail.
"""

import asyncio
import itertools
import json
import ssl
import sys
import time
from pathlib import Path
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult

GREETED, RECIPIENT, CONTENT = "greeted", "recipient", "content"


class Handler:
    """Keeps what it is given, or does what the mode says."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._numbers = itertools.count()

    async def handle_EHLO(self, server: Any, session: Any, _envelope: Any, hostname: str, responses: list[str]) -> Any:  # noqa: N802  aiosmtpd's name
        session.host_name = hostname
        return [await self._at(GREETED, server) or responses[0], *responses[1:]]

    async def handle_RCPT(self, server: Any, _session: Any, envelope: Any, address: str, _options: Any) -> str:  # noqa: N802  aiosmtpd's name
        answer = await self._at(RECIPIENT, server)
        if answer is None:
            envelope.rcpt_tos.append(address)
        return answer or "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802  aiosmtpd's name
        mode = self._mode()
        if mode.get("keep", True):
            taken = {
                "from": envelope.mail_from,
                "to": envelope.rcpt_tos,
                "content": envelope.content.decode("utf-8", "replace"),
                "hello": session.host_name,
                "encrypted": session.ssl is not None,
                "user": session.auth_data and session.auth_data.login.decode(),
            }
            draft = self._folder / f"draft-{next(self._numbers)}"
            draft.write_text(json.dumps(taken))
            draft.replace(self._folder / f"{time.time_ns()}.json")
        return await self._at(CONTENT, server) or "250 OK"

    def _mode(self) -> dict[str, Any]:
        try:
            found: dict[str, Any] = json.loads((self._folder / "mode").read_text())
        except (FileNotFoundError, ValueError):
            return {}
        return found

    async def _at(self, step: str, server: Any) -> str | None:
        mode = self._mode()
        if mode.get("at") != step:
            return None
        await asyncio.sleep(mode.get("delay", 0))
        if mode.get("drop"):
            server.transport.abort()
            return "421 gone"
        answer: str | None = mode.get("answer")
        return answer


def main(port: int, folder: Path, certificate: Path | None) -> None:
    """Serve until killed."""
    context = None
    if certificate:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(certificate)
    controller = Controller(
        Handler(folder),
        hostname="127.0.0.1",
        port=port,
        tls_context=context,
        authenticator=lambda *asked: AuthResult(
            success=asked[4].password == b"right", handled=False, auth_data=asked[4]
        ),
        auth_require_tls=False,
    )
    controller.start()
    (folder / "ready").touch()
    time.sleep(600)


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]) if len(sys.argv) > 3 else None)
