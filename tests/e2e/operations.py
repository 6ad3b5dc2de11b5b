"""The operations of the document the stack serves, and asking many of them at once."""

import re
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import requests

from shared.ids import new_id
from tests.faults.client import Client

AT_ONCE = 8
STREAM = "text/event-stream"
_PLACEHOLDER = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True)
class Operation:
    """One operation as the document has it."""

    method: str
    path: str
    declared: Mapping[str, Any]

    @property
    def name(self) -> str:
        return f"{self.method} {self.path}"

    @property
    def credential(self) -> str | None:
        """Return the security scheme; None where the operation is open."""
        return next((scheme for one in self.declared["security"] for scheme in one), None)

    @property
    def placeholders(self) -> list[str]:
        return _PLACEHOLDER.findall(self.path)

    @property
    def example(self) -> Any:
        """Return the example of the body; None where it takes no JSON."""
        return self._json.get("example")

    def body_schema(self, document: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the schema of the body, empty where it takes no JSON."""
        name = self._json.get("schema", {}).get("$ref", "").rpartition("/")[2]
        schema: Mapping[str, Any] = document["components"]["schemas"][name] if name else {}
        return schema

    @property
    def _json(self) -> Mapping[str, Any]:
        media: Mapping[str, Any] = self.declared.get("requestBody", {}).get("content", {}).get("application/json", {})
        return media

    def address(self, ids: Mapping[str, str]) -> str:
        """Return the path with these ids in it; one that is missing is a mistake of the test."""
        missing = [name for name in self.placeholders if name not in ids]
        assert not missing, f"{self.name}: give this test a real {missing[0]} of another organization"
        return _PLACEHOLDER.sub(lambda found: ids[found[1]], self.path)


def document_of(gateway_url: str) -> dict[str, Any]:
    answer = requests.get(f"{gateway_url}/openapi.json", timeout=10)
    answer.raise_for_status()
    document: dict[str, Any] = answer.json()
    return document


def operations_of(document: Mapping[str, Any]) -> list[Operation]:
    return [
        Operation(method.upper(), path, declared)
        for path, item in document["paths"].items()
        for method, declared in item.items()
    ]


def asked(client: Client, method: str, path: str, body: Any = None) -> requests.Response:
    """Send one request as a client; one without a key sends no credential. A stream is not waited for."""
    headers = {"Authorization": f"Bearer {client.api_key}"} if client.api_key else {}
    if method == "POST":
        headers["Idempotency-Key"] = new_id("key")
    url = client.gateway_url + path
    answer = requests.request(method, url, json=body, headers=headers, timeout=30, allow_redirects=False, stream=True)
    if answer.headers.get("Content-Type") == STREAM:
        answer.close()
    else:
        assert answer.content is not None  # read before the connection is given back
    return answer


def of_all(ask: Callable[[Operation], requests.Response], operations: Iterable[Operation]) -> dict[str, int]:
    """Ask several at once; return the status of each operation by its name."""
    operations = list(operations)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        answers = pool.map(ask, operations)
        return {operation.name: answer.status_code for operation, answer in zip(operations, answers, strict=True)}
