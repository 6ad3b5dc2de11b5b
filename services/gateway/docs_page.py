"""The OpenAPI document, and the errors, as HTML pages that need no script and load nothing. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8882; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
code, pre { font: 13px/1.5 ui-monospace, monospace; }
h2 { margin-top: 3rem; border-bottom: 1px solid var(--line); text-transform: capitalize; }
details { border: 1px solid var(--line); border-radius: 6px; margin: .5rem 0; }
summary { padding: .5rem .75rem; cursor: pointer; background: var(--soft); }
summary b { display: inline-block; min-width: 4.5rem; }
details > div { padding: .5rem .75rem; }
table { border-collapse: collapse; width: 100%; }
td, th { text-align: left; vertical-align: top; padding: .25rem .75rem .25rem 0; border-bottom: 1px solid var(--line); }
"""
_METHODS = ("get", "post", "put", "patch", "delete")


def render(document: Mapping[str, Any]) -> bytes:
    """Return the page for an OpenAPI document."""
    info = document["info"]
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>",
        f"<title>{escape(info['title'])} API</title><style>{_STYLE}</style>",
        f"<h1>{escape(info['title'])} API</h1><p>{escape(info.get('description', ''))}</p>",
        "<p>For programs: <a href=/openapi.json>/openapi.json</a>. <a href=/docs/errors>What each error means</a></p>",
        *_operations(document),
        *_schemas(document),
        "</html>",
    ]
    return "\n".join(parts).encode()


def render_errors(problems: Sequence[Mapping[str, Any]]) -> bytes:
    """Return the page of errors, each with its code as its anchor: the ``type`` of a problem leads there."""
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>",
        f"<title>Errors</title><style>{_STYLE} h3 {{ margin-top: 2rem; }}</style>",
        "<h1>Errors</h1><p>Decide by <code>code</code>: it never changes. <a href=/docs>All of the API</a></p>",
        *(_error(problem) for problem in problems),
        "</html>",
    ]
    return "\n".join(parts).encode()


def _error(problem: Mapping[str, Any]) -> str:
    code = escape(problem["code"])
    again = "The same request may succeed later." if problem["retryable"] else ""
    return (
        f"<h3 id='{code}'><code>{code}</code></h3>"
        f"<p><b>{problem['status']}</b> {escape(problem['title'])}. {_prose(problem['meaning'])}</p>"
        f"<p>What to do: {_prose(problem['remedy'])} {again}</p>"
    )


def _prose(text: str) -> str:
    """Return a sentence whose `code` is shown as such."""
    return "".join(
        f"<code>{escape(part)}</code>" if number % 2 else escape(part) for number, part in enumerate(text.split("`"))
    )


def _operations(document: Mapping[str, Any]) -> Iterator[str]:
    by_tag: dict[str, list[str]] = {}
    for path, item in document["paths"].items():
        for method in _METHODS:
            if method in item:
                tag = (item[method].get("tags") or ["other"])[0]
                by_tag.setdefault(tag, []).append("".join(_operation(method, path, item[method])))
    for tag in sorted(by_tag):
        yield f"<h2>{escape(tag)}</h2>"
        yield from by_tag[tag]


def _operation(method: str, path: str, operation: Mapping[str, Any]) -> Iterator[str]:
    title = escape(operation["summary"])
    yield f"<details id='{escape(operation['operationId'])}'>"
    yield f"<summary><b>{method.upper()}</b> <code>{escape(path)}</code> {title}</summary><div>"
    yield f"<p>{escape(operation.get('description', ''))}</p>"
    credentials = [name for scheme in operation["security"] for name in scheme]
    yield f"<p>Credential: {escape(', '.join(credentials) or 'none')}</p>"
    if operation["parameters"]:
        rows = [_parameter(parameter) for parameter in operation["parameters"]]
        yield _table(("Parameter", "In", "Type", ""), rows)
    body = operation.get("requestBody", {}).get("content", {})
    if body:
        yield _table(("Body", ""), [(escape(kind), _type(entry["schema"])) for kind, entry in body.items()])
    yield _table(("Answer", "", ""), [_answer(status, entry) for status, entry in operation["responses"].items()])
    yield "</div></details>"


def _parameter(parameter: Mapping[str, Any]) -> tuple[str, ...]:
    name = f"<code>{escape(parameter['name'])}</code>" + (" (needed)" if parameter.get("required") else "")
    return (name, escape(parameter["in"]), _type(parameter["schema"]), escape(parameter.get("description", "")))


def _answer(status: str, entry: Mapping[str, Any]) -> tuple[str, ...]:
    content = entry.get("content", {})
    bodies = ", ".join(f"{_type(one['schema'])} <small>{escape(kind)}</small>" for kind, one in content.items())
    codes = ", ".join(
        f"<a href='/docs/errors#{escape(code)}'>{escape(code)}</a>" for code in entry.get("x-problem-codes", ())
    )
    return (escape(status), codes or escape(entry["description"]), bodies)


def _schemas(document: Mapping[str, Any]) -> Iterator[str]:
    yield "<h2>Shapes</h2>"
    for name, schema in sorted(document.get("components", {}).get("schemas", {}).items()):
        needed = set(schema.get("required", ()))
        rows = [
            (
                f"<code>{escape(field)}</code>" + (" (needed)" if field in needed else ""),
                _type(inner),
                escape(inner.get("description", "")),
            )
            for field, inner in schema.get("properties", {}).items()
        ]
        yield f"<details id='shape-{escape(name)}'><summary>{escape(name)}</summary><div>"
        yield _table(("Field", "Type", ""), rows)
        yield "</div></details>"


def _type(schema: Mapping[str, Any]) -> str:
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"<a href='#shape-{escape(name)}'>{escape(name)}</a>"
    if "allOf" in schema:
        return _type(schema["allOf"][0])
    if "anyOf" in schema and "properties" not in schema:
        return " or ".join(_type(one) for one in schema["anyOf"])
    if schema.get("type") == "array":
        return f"list of {_type(schema.get('items', {}))}"
    kinds = schema.get("type", "anything")
    text = " or ".join(kinds) if isinstance(kinds, list) else str(kinds)
    if "enum" in schema:
        text += ": " + ", ".join(str(value) for value in schema["enum"])
    limits = [f"{label} {schema[name]}" for name, label in (("minimum", "from"), ("maximum", "to")) if name in schema]
    return escape(" ".join([text, *limits]))


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    top = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    lines = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><tr>{top}</tr>{lines}</table>"
