"""Staging sessions, a room's way step by step, and the styles an organization has saved for it."""

from collections.abc import Iterator, Sequence
from typing import Any

from darkroom_client import pages
from darkroom_client.jobs import made, terms_of
from darkroom_client.models import Job, StagingSession, Style
from darkroom_client.transport import Transport, segment

_SESSIONS = "/v1/staging-sessions"
_STYLES = "/v1/styles"
ANY_VERSION = None


class StagingSessions:
    """``darkroom.staging_sessions``. What a session does not allow now raises `StepNotAllowed`, and changes nothing.

    Where ``version`` is given, a session is changed only if it still is that version, and `Conflict` is raised else.
    """

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def create(
        self,
        upload_id: str,
        *,
        room_state: str,
        name: str | None = None,
        style: str | None = None,
        room_type: str | None = None,
        idempotency_key: str | None = None,
    ) -> StagingSession:
        """Begin a session on an upload; ``room_state`` is `already_empty` or `generate_empty`."""
        body = {"upload_id": upload_id, "room_state": room_state, "name": name, "style": style, "room_type": room_type}
        answer = self._transport.send("POST", _SESSIONS, body=body, idempotency_key=idempotency_key)
        return StagingSession.from_json(answer.body)

    def get(self, session_id: str) -> StagingSession:
        """Restore a session: its step, its selection, every attempt, and what may be done next."""
        return StagingSession.from_json(self._transport.send("GET", _of(session_id)).body)

    def list(self, *, status: str | None = None, page_size: int = 50) -> Iterator[StagingSession]:
        """Yield sessions, the newest first, each with the newest 8 attempts of each kind."""
        query = {"status": status}
        return pages.each(self._transport, _SESSIONS, model=StagingSession, page_size=page_size, query=query)

    def update(self, session_id: str, *, version: int | None = ANY_VERSION, **changes: str | None) -> StagingSession:
        """Change ``name``, ``style``, ``room_type``, and ``room_state`` before the first generation."""
        return self._changed("PATCH", _of(session_id), changes, version=version)

    def delete(self, session_id: str, *, version: int | None = ANY_VERSION) -> None:
        """Delete a session, and cancel what it has at work; its images stay. Only owners may."""
        self._transport.send("DELETE", _of(session_id), headers=_if_match(version))

    def generate_empty_room(
        self,
        session_id: str,
        *,
        retry_number: int,
        quote_id: str | None = None,
        on_insufficient: str | None = None,
        deadline_seconds: int | None = None,
        wait_seconds: int = 0,
        idempotency_key: str | None = None,
    ) -> Job:
        """Generate the empty room: ``retry_number`` is the session's `next_retry_number`; 1 and 2 are free.

        The further arguments are those of `Jobs.create`.
        """
        terms = terms_of(quote_id=quote_id, on_insufficient=on_insufficient, deadline_seconds=deadline_seconds)
        return made(
            self._transport,
            f"{_of(session_id)}/empty-rooms",
            {"retry_number": retry_number, **terms},
            wait_seconds=wait_seconds,
            idempotency_key=idempotency_key,
        )

    def select(self, session_id: str, image_id: str, *, version: int | None = ANY_VERSION) -> StagingSession:
        """Select the empty room that is to be staged, among all versions of the session."""
        return self._changed("PUT", f"{_of(session_id)}/selection", {"image_id": image_id}, version=version)

    def lock(
        self, session_id: str, *, version: int | None = ANY_VERSION, idempotency_key: str | None = None
    ) -> StagingSession:
        """Lock the selected empty room: no further ones are made, and staging may begin."""
        return self._changed("POST", f"{_of(session_id)}/lock", {}, version=version, idempotency_key=idempotency_key)

    def stage(  # noqa: PLR0913  an argument for each field of the body
        self,
        session_id: str,
        *,
        style: str,
        room_type: str,
        variants: int = 2,
        quote_id: str | None = None,
        on_insufficient: str | None = None,
        deadline_seconds: int | None = None,
        wait_seconds: int = 0,
        idempotency_key: str | None = None,
    ) -> Job:
        """Stage the locked empty room, or a room that was empty already; as often as wanted.

        The further arguments are those of `Jobs.create`.
        """
        body = {"style": style, "room_type": room_type, "variants": variants}
        terms = terms_of(quote_id=quote_id, on_insufficient=on_insufficient, deadline_seconds=deadline_seconds)
        return made(
            self._transport,
            f"{_of(session_id)}/stagings",
            {**body, **terms},
            wait_seconds=wait_seconds,
            idempotency_key=idempotency_key,
        )

    def _changed(
        self, method: str, path: str, body: dict[str, Any], *, version: int | None, idempotency_key: str | None = None
    ) -> StagingSession:
        answer = self._transport.send(
            method, path, body=body, headers=_if_match(version), idempotency_key=idempotency_key
        )
        return StagingSession.from_json(answer.body)


class Styles:
    """``darkroom.styles``: saved ones; ours are the choices of the workflow `staging`."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def create(
        self,
        name: str,
        *,
        base: str,
        words: str = "",
        colours: Sequence[str] = (),
        idempotency_key: str | None = None,
    ) -> Style:
        """Save a style: ``base`` is one of ours, to which ``words`` and ``colours`` (`#rrggbb`, up to 4) are added."""
        body = {"name": name, "base": base, "words": words, "colours": list(colours)}
        answer = self._transport.send("POST", _STYLES, body=body, idempotency_key=idempotency_key)
        return Style.from_json(answer.body)

    def get(self, style_id: str) -> Style:
        """Look a saved style up."""
        return Style.from_json(self._transport.send("GET", _style(style_id)).body)

    def list(self, *, page_size: int = 50) -> Iterator[Style]:
        """Yield saved styles, the newest first."""
        return pages.each(self._transport, _STYLES, model=Style, page_size=page_size)

    def update(self, style_id: str, *, version: int | None = ANY_VERSION, **changes: Any) -> Style:
        """Change ``name``, ``base``, ``words`` or ``colours``; what was made in the style stays as it was."""
        answer = self._transport.send("PATCH", _style(style_id), body=changes, headers=_if_match(version))
        return Style.from_json(answer.body)

    def delete(self, style_id: str, *, version: int | None = ANY_VERSION) -> None:
        """Delete a saved style; what was made in it stays."""
        self._transport.send("DELETE", _style(style_id), headers=_if_match(version))


def _of(session_id: str) -> str:
    return f"{_SESSIONS}/{segment(session_id)}"


def _style(style_id: str) -> str:
    return f"{_STYLES}/{segment(style_id)}"


def _if_match(version: int | None) -> dict[str, str]:
    return {} if version is None else {"If-Match": f'"{version}"'}
