"""The page of errors: every code a client can meet, made from the problem classes of all services."""

import inspect
from collections.abc import Iterator, Mapping, Sequence
from http import HTTPStatus
from typing import Any

from shared.problems import Problem
from tools import topology

_HEAD = """# Errors

Every refusal is `application/problem+json` ([RFC 9457](https://www.rfc-editor.org/rfc/rfc9457)):

```json
{
  "type": "https://api.example.com/docs/errors#insufficient_credits",
  "title": "Not enough credits",
  "status": 402,
  "detail": "This needs 20 credits; 15 are available.",
  "instance": "/v1/stagings",
  "code": "insufficient_credits",
  "request_id": "req_01kafv0s2bf4v8e6f6z5m4j0zt",
  "retryable": false,
  "errors": []
}
```

Decide by `code`: it never changes, and a new kind of error gets a new one. `detail` is for people. `errors` points,
with JSON pointers, at what is wrong in a request. Quote `request_id` when you ask about an answer. Where `retryable`
is true the same request may succeed later, after `Retry-After` seconds where that header is there.

This page is made from the code by `make contracts`; the gateway serves it at `/docs/errors`, where `type` leads.
"""


def entries() -> list[dict[str, Any]]:
    """Return ``{code, status, title, meaning, remedy, retryable, type}`` of every problem of ours, by status and code.

    ``type`` is None where it leads to the page of errors.
    """
    topology.subscriptions()  # has imported every service, and with it every class of problem
    kinds = {kind.code: kind for kind in _ours(Problem)}
    return [_entry(kind) for kind in sorted(kinds.values(), key=lambda kind: (kind.status, kind.code))]


def page(found: Sequence[Mapping[str, Any]]) -> str:
    """Return ``entries`` as Markdown: a table by status, then a section a code."""
    rows = [
        f"| [`{one['code']}`](#{one['code']}) | {one['status']} | {one['title']} | {_yes(one['retryable'])} |"
        for one in found
    ]
    table = "\n".join(["| code | status | title | retryable |", "|---|---|---|---|", *rows])
    return "\n".join([_HEAD, table, *(_section(one) for one in found)]) + "\n"


def _ours(kind: type[Problem]) -> Iterator[type[Problem]]:
    if kind.__module__.partition(".")[0] in {"shared", "services"}:
        yield kind
    for child in kind.__subclasses__():
        yield from _ours(child)


def _entry(kind: type[Problem]) -> dict[str, Any]:
    meaning = "Something failed that should not have; the log has the whole story under the request's id."
    if kind is not Problem:
        meaning = " ".join((inspect.getdoc(kind) or "").replace("``", "`").split())
    return {
        "code": kind.code,
        "status": int(kind.status),
        "title": kind.title,
        "meaning": meaning,
        "remedy": kind.remedy,
        "retryable": kind.retryable,
        "type": kind.standard_type,
    }


def _section(one: Mapping[str, Any]) -> str:
    lines = [
        f"\n### {one['code']}\n",
        f"{one['status']} {HTTPStatus(one['status']).phrase}. {one['title']}.\n",
        f"- What it means: {one['meaning']}",
        f"- What to do: {one['remedy']}",
        f"- Retryable: {_yes(one['retryable'])}",
    ]
    if one["type"]:
        lines.append(f"- `type`: <{one['type']}>")
    return "\n".join(lines)


def _yes(value: bool) -> str:  # noqa: FBT001  it is a value to be shown, not a switch
    return "yes" if value else "no"
