"""Downloads as a nameko service: wiring only."""

import time
from typing import Any

from services.downloads import files
from services.downloads.files import ExpiredLink, FileExists, ForgedLink, LinkQuery, PutLinkQuery, SentSchema
from shared.host import DatabaseProvider, SettingsProvider, StoreProvider
from shared.http import Answer, Auth, Principal, Request, route
from shared.problems import NotFound

MAX_BYTES = 10 << 20


def _holder(service: Any, request: Request) -> Principal:
    key = request.path_values["key"]
    return files.bearer(request, key=key, secret=service.settings.signing_secret, now=time.time())


SIGNED_LINK = Auth(
    scheme="signedLink",
    description="The link's own signature: whoever holds the link may use it until it expires.",
    check=_holder,
    problems=(ForgedLink, ExpiredLink),
)


class Downloads:
    """Serves every signed link to a stored file, or to send one."""

    name = "downloads"
    db = DatabaseProvider()
    settings = SettingsProvider()
    store = StoreProvider()

    @route(
        "PUT",
        "/files/<path:key>",
        auth=SIGNED_LINK,
        query=PutLinkQuery,
        reads=("image/jpeg", "image/png", "image/webp"),
        max_body_bytes=MAX_BYTES,
        time_limit_seconds=30.0,
        answers={200: SentSchema},
        problems=(ForgedLink, ExpiredLink, FileExists, NotFound),
        summary="Send a file by its signed link, once",
    )
    def send_file(self, request: Request, key: str) -> Answer:
        """Take in one file of at most the size and of the type that were signed."""
        return files.receive(self.store, request, key=key)

    @route(
        "GET",
        "/files/<path:key>",
        auth=SIGNED_LINK,
        query=LinkQuery,
        answers={200: "*/*", 206: "*/*", 304: None, 416: "application/problem+json"},
        problems=(NotFound,),
        summary="Fetch a stored file by its signed link",
    )
    def file(self, request: Request, key: str) -> Answer:
        """Serve one file, or a range of it."""
        return files.serve(self.store, request, key=key, now=time.time())
