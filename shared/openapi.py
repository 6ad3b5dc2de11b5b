"""The OpenAPI 3.1 document of a service, made of the same declarations that its routes are checked by."""

import inspect
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from http import HTTPStatus
from typing import Any

from apispec import APISpec
from apispec.ext.marshmallow import MarshmallowPlugin

from shared.http import Route, routes_of
from shared.http_problems import CONTENT_TYPE, problem_body
from shared.http_schemas import ProblemSchema
from shared.openapi_examples import EXAMPLE_ID, example_of
from shared.openapi_webhooks import add_webhooks
from shared.problems import Problem, kinds

_PLACEHOLDER = re.compile(r"<(?:\w+:)?(\w+)>")
_CACHE_STATUS = {
    "description": "Of what can be known already: `hit`: all of it was, the job has ended, and is free; `fwd=partial`: "
    "a part of it; `fwd=miss`: nothing; `fwd=request`: `fresh` was asked for (RFC 9211).",
    "schema": {"type": "string", "examples": ["darkroom; hit", 'darkroom; fwd=partial; detail="3 of 5"']},
}
_REQUEST_ID = {"X-Request-Id": {"description": "Quote it when you ask about the request", "schema": {"type": "string"}}}


def openapi_document(service_class: type) -> dict[str, Any]:
    """Return the document of all routes of ``service_class``; the same routes always give the same document.

    ``service_class.webhooks``, where it has them, are the types of events that are sent to its clients.
    """
    plugin = MarshmallowPlugin(schema_name_resolver=_schema_name)
    spec = APISpec(
        title="Darkroom",
        version="1",
        openapi_version="3.1.0",
        info={"description": inspect.getdoc(service_class) or ""},
        plugins=[plugin],
    )
    plugin.converter.add_attribute_function(_pattern)  # type: ignore[union-attr]  # it is there once it has a spec
    spec.components.schema("Problem", schema=ProblemSchema)
    declared = sorted((route for _, route in routes_of(service_class)), key=lambda route: (route.url, route.method))
    for auth in {route.auth.scheme: route.auth for route in declared if route.auth}.values():
        spec.components.security_scheme(auth.scheme, {**auth.sent_as, "description": auth.description})
    names = {id(route): name for name, route in routes_of(service_class)}
    for route in declared:
        spec.path(
            path=_PLACEHOLDER.sub(r"{\1}", route.url),
            operations={route.method.lower(): _operation(route, name=names[id(route)])},
        )
    document: dict[str, Any] = spec.to_dict()
    for route in declared:
        if route.body and (described := getattr(route.body, "described", None)):
            document["components"]["schemas"][_schema_name(route.body)].update(described())
    _open_answers(document)
    _add_aliases(document, declared)
    _add_examples(document)
    if webhooks := getattr(service_class, "webhooks", ()):
        add_webhooks(document, webhooks)
    return document


def _open_answers(document: dict[str, Any]) -> None:
    """Let answers have members that are not described: a client of today reads the answers of tomorrow."""
    schemas = document["components"]["schemas"]
    operations = [operation for item in document["paths"].values() for operation in item.values()]
    sent = set(_references([operation.get("requestBody") for operation in operations], schemas))
    for name, schema in schemas.items():
        if name not in sent and schema.get("additionalProperties") is False:
            del schema["additionalProperties"]


def _add_aliases(document: dict[str, Any], routes: Iterable[Route]) -> None:
    """Describe each further address of a route as the route, and as one that is not to be used any more."""
    for route in routes:
        path, method = _PLACEHOLDER.sub(r"{\1}", route.url), route.method.lower()
        for alias in route.aliases:
            operation = deepcopy(document["paths"][path][method])
            alias.described(operation, method=route.method, path=path, schemas=document["components"]["schemas"])
            item = document["paths"].setdefault(_PLACEHOLDER.sub(r"{\1}", alias.url), {})
            item[alias.method.lower()] = operation


def _add_examples(document: dict[str, Any]) -> None:
    """Give every JSON body, sent or answered, an example."""
    schemas = document["components"]["schemas"]
    for path, item in document["paths"].items():
        for operation in item.values():
            for answer in operation["responses"].values():
                for kind, media in answer.get("content", {}).items():
                    if kind == CONTENT_TYPE:
                        media["example"] = _problem_example(answer["x-problem-codes"][0], path)
                    elif kind == "application/json" and media["schema"] != {"type": "object"}:
                        media["example"] = example_of(media["schema"], schemas)
            for kind, media in operation.get("requestBody", {}).get("content", {}).items():
                if kind == "application/json":
                    media["example"] = example_of(media["schema"], schemas)


def _problem_example(code: str, path: str) -> dict[str, Any]:
    problem = kinds()[code]()
    instance = re.sub(r"\{\w+\}", f"job_{EXAMPLE_ID}", path)
    return problem_body(problem, instance=instance, request_id=f"req_{EXAMPLE_ID}")


def _pattern(_converter: Any, field: Any, **_: Any) -> dict[str, Any]:
    """Return what a validator of ours says of the texts it takes."""
    found = [one.pattern for one in field.validators if isinstance(getattr(one, "pattern", None), str)]
    return {"pattern": found[0]} if found else {}


def _references(part: Any, schemas: Mapping[str, Any]) -> Iterator[str]:
    """Yield the names of all schemas that ``part`` refers to, directly or not."""
    if isinstance(part, dict):
        if "$ref" in part:
            name = part["$ref"].rpartition("/")[2]
            yield name
            yield from _references(schemas[name], schemas)
        for inner in part.values():
            yield from _references(inner, schemas)
    elif isinstance(part, list):
        for inner in part:
            yield from _references(inner, schemas)


def _operation(route: Route, *, name: str) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": name,
        "summary": route.summary,
        "tags": list(route.tags),
        "parameters": list(_parameters(route)),
        "responses": {**_refusals(route), **_answers(route)},
        "security": [{route.auth.scheme: []}] if route.auth else [],
    }
    if route.auth:
        operation.update(route.auth.described(route))
    if route.flag:
        operation["x-feature-flag"] = route.flag.name
    if route.description:
        operation["description"] = route.description
    content = _body(route)
    if content:
        operation["requestBody"] = {"required": True, "content": content}
    return operation


def _parameters(route: Route) -> Iterable[Any]:
    for name in _PLACEHOLDER.findall(route.url):
        yield {"in": "path", "name": name, "required": True, "schema": {"type": "string"}}
    if route.query:
        yield {"in": "query", "schema": route.query}
    if route.tagged:
        yield _tags_header("If-None-Match", "Answer 304, without a body, where the state is still that of this ETag.")
    if route.current:
        yield _tags_header("If-Match", "Answer 412 where the state has another ETag than this; a weak one never fits.")
    if route.guard:
        yield {
            "in": "header",
            "name": "Idempotency-Key",
            "required": route.money,
            "description": "The same key with the same request gives the same answer, and the work is done once; "
            "kept for 7 days.",
            "schema": {"type": "string", "minLength": 1, "maxLength": 255},
        }
    if route.holds:
        yield {
            "in": "header",
            "name": "Prefer",
            "required": False,
            "description": "`wait=N` (at most 60) answers 200 with the finished job if it ends within N seconds.",
            "schema": {"type": "string", "examples": ["wait=30"]},
        }


def _tags_header(name: str, description: str) -> dict[str, Any]:
    return {
        "in": "header",
        "name": name,
        "required": False,
        "description": description,
        "schema": {"type": "string", "examples": ['"9f0c1be2a4d35b7786c1d2e3"']},
    }


def _body(route: Route) -> dict[str, Any]:
    if route.body:
        return {"application/json": {"schema": route.body}}
    binary = {"schema": {"type": "string", "format": "binary"}}
    form = {
        "schema": {
            "type": "object",
            "required": ["file"],
            "properties": {"file": {"type": "string", "format": "binary"}},
        }
    }
    return {kind: form if kind == "multipart/form-data" else binary for kind in route.reads}


def _answers(route: Route) -> dict[str, Any]:
    answers = {str(int(status)): _answer(status, body) for status, body in route.answers.items()}
    if route.holds:
        for answer in answers.values():
            answer["headers"]["Cache-Status"] = _CACHE_STATUS
    if route.tagged:
        answers["200"]["headers"]["ETag"] = {"schema": {"type": "string"}}
        answers["304"] = {
            "description": "Not Modified",
            "headers": {**_REQUEST_ID, "ETag": {"schema": {"type": "string"}}},
        }
    return answers


def _answer(status: int, body: Any) -> dict[str, Any]:
    answer: dict[str, Any] = {"description": HTTPStatus(status).phrase, "headers": dict(_REQUEST_ID)}
    if isinstance(body, str):
        answer["content"] = {body: {"schema": {"type": "object" if body == "application/json" else "string"}}}
    elif isinstance(body, tuple):
        answer["content"] = {"application/json": {"schema": {"anyOf": list(body)}}}
    elif body is not None:
        answer["content"] = {"application/json": {"schema": body}}
    if status in {HTTPStatus.ACCEPTED, HTTPStatus.CREATED, HTTPStatus.SEE_OTHER}:
        answer["headers"]["Location"] = {"schema": {"type": "string"}}
    return answer


def _refusals(route: Route) -> Mapping[str, Any]:
    by_status: dict[str, list[type[Problem]]] = {}
    for problem in route.refusals:
        by_status.setdefault(str(problem.status), []).append(problem)
    return {
        status: {
            "description": "; ".join(f"`{problem.code}`: {problem.title}" for problem in found),
            "headers": dict(_REQUEST_ID),
            "content": {CONTENT_TYPE: {"schema": _problem_schema([problem.code for problem in found])}},
            "x-problem-codes": [problem.code for problem in found],
        }
        for status, found in by_status.items()
    }


def _problem_schema(codes: Sequence[str]) -> dict[str, Any]:
    return {"allOf": [ProblemSchema, {"properties": {"code": {"enum": list(codes)}}}]}


def _schema_name(schema: Any) -> str:
    resolved = schema if isinstance(schema, type) else type(schema)
    return str(resolved.__name__).removesuffix("Schema")
