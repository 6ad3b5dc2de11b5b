"""Routes that need no credential: health, and the description of all the others."""

import functools
from pathlib import Path
from typing import Any

import msgspec

from services.gateway import docs_page
from services.gateway.routes.wiring import Wiring
from services.gateway.schemas.service import HealthSchema
from shared.http import Answer, Request, route
from shared.openapi import openapi_document

_TAGS = ("service",)
_PAGE_HEADERS = {
    "Content-Type": "text/html; charset=utf-8",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
}
_PROBLEMS = Path(__file__).resolve().parents[3] / "shared" / "problems.json"


class HealthRoutes(Wiring):
    """What may be known without asking as anybody."""

    @route(
        "GET",
        "/healthz",
        auth=None,
        answers={200: HealthSchema},
        summary="Whether the process answers",
        tags=_TAGS,
        quiet=True,
    )
    def healthz(self, _request: Request) -> Answer:
        """Answer."""
        return Answer(200, {"status": "ok", "waiting_for": []})

    @route(
        "GET",
        "/readyz",
        auth=None,
        answers={200: HealthSchema, 503: HealthSchema},
        summary="Whether everything the process needs is there",
        tags=_TAGS,
        quiet=True,
    )
    def readyz(self, _request: Request) -> Answer:
        """Name the checks that fail; why they do is for operators, on the port of theirs."""
        waiting_for = sorted(self.health.problems())
        return Answer(
            503 if waiting_for else 200, {"status": "unready" if waiting_for else "ok", "waiting_for": waiting_for}
        )

    @route(
        "GET",
        "/openapi.json",
        auth=None,
        answers={200: "application/json"},
        summary="This document",
        tags=_TAGS,
    )
    def openapi(self, _request: Request) -> Answer:
        """Return the OpenAPI document."""
        return Answer(200, _encoded(_class_of(self)), {"Content-Type": "application/json"})

    @route("GET", "/docs/errors", auth=None, answers={200: "text/html"}, summary="What each error means", tags=_TAGS)
    def errors(self, _request: Request) -> Answer:
        """Return the page that the ``type`` of a problem leads to."""
        return Answer(200, _errors_page(), _PAGE_HEADERS)

    @route("GET", "/docs", auth=None, answers={200: "text/html"}, summary="This document, to read", tags=_TAGS)
    def docs(self, _request: Request) -> Answer:
        """Return the OpenAPI document as a page that loads nothing from anywhere."""
        return Answer(200, docs_page.render(_document(_class_of(self))), _PAGE_HEADERS)


def _class_of(service: Any) -> Any:
    """Return the whole service's class: a mix-in's own routes are not the document."""
    return type(service)


@functools.cache
def _document(service_class: Any) -> dict[str, Any]:
    return openapi_document(service_class)


@functools.cache
def _errors_page() -> bytes:
    return docs_page.render_errors(msgspec.json.decode(_PROBLEMS.read_bytes()))


@functools.cache
def _encoded(service_class: Any) -> bytes:
    return msgspec.json.encode(_document(service_class))
