"""The client and docs/openapi.json agree: what it sends is described there, and what is described it understands."""

import ast
import json
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import jsonschema
import pytest

import darkroom_client
from darkroom_client import Darkroom, models
from shared.openapi_examples import EXAMPLE_ID
from tests.clients.conftest import CHECKOUT, Play
from tests.fakes import Asked, Scripted

DOCUMENT: dict[str, Any] = json.loads((CHECKOUT / "docs" / "openapi.json").read_text())
PACKAGE = CHECKOUT / "clients" / "python"
UPLOAD = f"ast_{EXAMPLE_ID}"
FRAMED = {"aspect_ratio": "4:5", "quality": "low"}
MOMENT = datetime(2026, 1, 1, tzinfo=UTC)
ROOM = {"style": "modern", "room_type": "bedroom"}
STAGING = {"upload_id": UPLOAD, **ROOM}
JOB = f"job_{EXAMPLE_ID}"
QUOTE = f"quo_{EXAMPLE_ID}"
TERMS: dict[str, Any] = {"quote_id": QUOTE, "on_insufficient": "pause", "deadline_seconds": 600, "wait_seconds": 5}
FILTERS = {
    "since": "2026-01-01",
    "until": "2026-02-01",
    "product": "staging",
    "job_id": "job_1",
    "generation_id": "gen_1",
    "image_id": "img_1",
    "session_id": "ses_1",
    "kind": "hold",
    "unit": "credits",
}
PRODUCT: dict[str, Any] = {
    "category": "chairs",
    "room_types": ["kitchen"],
    "description": "Solid oak.",
    "metadata": {"weight_kg": 7.5, "source": None},
    "upload_id": UPLOAD,
}
# Every method of the client that sends something, with all its arguments.
CALLS: dict[str, Callable[[Darkroom], Any]] = {
    "uploads.create": lambda one: one.uploads.create(b"\xff\xd8\xff", purpose="face", keep_original=True),
    "uploads.from_url": lambda one: one.uploads.from_url(
        "https://example.com/a.jpg", purpose="face", keep_original=True
    ),
    "uploads.get": lambda one: one.uploads.get("ast_1"),
    "uploads.deletion_receipt": lambda one: one.uploads.deletion_receipt("ast_1"),
    "uploads.delete": lambda one: one.uploads.delete("ast_1"),
    "quotes.create": lambda one: one.quotes.create("staging", STAGING),
    "stagings.create": lambda one: one.stagings.create(UPLOAD, **ROOM, variants=3, **TERMS),
    "jobs.create": lambda one: one.jobs.create("staging", STAGING, **TERMS),
    "jobs.estimate": lambda one: one.jobs.estimate("staging", STAGING, on_insufficient="partial"),
    "jobs.get": lambda one: one.jobs.get("job_1"),
    "jobs.list": lambda one: list(one.jobs.list(workflow="staging", status="queued", page_size=200)),
    "jobs.generations": lambda one: list(one.jobs.generations("job_1", status="failed", page_size=200)),
    "jobs.receipt": lambda one: one.jobs.receipt("job_1"),
    "jobs.cancel": lambda one: one.jobs.cancel("job_1"),
    "jobs.sync": lambda one: one.jobs.sync("job_1"),
    "jobs.retry": lambda one: one.jobs.retry(
        "job_1", generation_ids=[f"gen_{EXAMPLE_ID}"], settings={"style": "rustic"}, **TERMS
    ),
    "jobs.attempts": lambda one: list(one.jobs.attempts("job_1", live=True, page_size=200)),
    "jobs.timeline": lambda one: one.jobs.timeline("job_1"),
    "jobs.wait": lambda one: one.jobs.wait("job_1"),
    "images.list": lambda one: list(
        one.images.list(job_id="job_1", favorite=True, pinned=False, created_since=MOMENT, page_size=200)
    ),
    "images.favorite": lambda one: one.images.favorite("img_1"),
    "images.unfavorite": lambda one: one.images.unfavorite("img_1"),
    "images.comparison": lambda one: one.images.comparison("img_1"),
    "headshots.create": lambda one: one.headshots.create(UPLOAD, style="model", **FRAMED, **TERMS),
    "headshots.create_batch": lambda one: one.headshots.create_batch(UPLOAD, styles=["model"], **FRAMED, **TERMS),
    "headshots.get": lambda one: one.headshots.get("gen_1"),
    "headshots.list": lambda one: list(
        one.headshots.list(favorite=True, style="model", status="failed", page_size=200)
    ),
    "headshots.favorite": lambda one: one.headshots.favorite("gen_1"),
    "headshots.unfavorite": lambda one: one.headshots.unfavorite("gen_1"),
    "headshots.delete": lambda one: one.headshots.delete("gen_1"),
    "headshots.stats": lambda one: one.headshots.stats(),
    "headshots.track": lambda one: one.headshots.track("user_shared", headshot_id=f"gen_{EXAMPLE_ID}"),
    "images.get": lambda one: one.images.get("img_1"),
    "images.provenance": lambda one: one.images.provenance("img_1"),
    "images.labelled": lambda one: one.images.labelled("img_1", "ai_generated"),
    "products.create": lambda one: one.products.create("Oak chair", sku="DSK-001", **PRODUCT),
    "products.put": lambda one: one.products.put("DSK-001", "Oak chair", **PRODUCT),
    "products.get": lambda one: one.products.get("prd_1"),
    "products.list": lambda one: list(
        one.products.list(category="chairs", room_type="kitchen", sku="DSK-001", page_size=200)
    ),
    "products.update": lambda one: one.products.update(
        "prd_1", version=3, name="Ash chair", category=None, room_types=[], description=None, metadata={}
    ),
    "products.delete": lambda one: one.products.delete("prd_1", version=3),
    "products.add_view": lambda one: one.products.add_view("prd_1", view_type="back", upload_id=UPLOAD),
    "products.views": lambda one: list(one.products.views("prd_1", view_type="back", page_size=200)),
    "staging_sessions.create": lambda one: one.staging_sessions.create(
        UPLOAD, room_state="generate_empty", name="Elm Street 4", **ROOM
    ),
    "staging_sessions.get": lambda one: one.staging_sessions.get("ses_1"),
    "staging_sessions.list": lambda one: list(one.staging_sessions.list(status="draft", page_size=200)),
    "staging_sessions.update": lambda one: one.staging_sessions.update("ses_1", version=3, name="x", style=None),
    "staging_sessions.delete": lambda one: one.staging_sessions.delete("ses_1", version=3),
    "staging_sessions.generate_empty_room": lambda one: one.staging_sessions.generate_empty_room(
        "ses_1", retry_number=2, **TERMS
    ),
    "staging_sessions.select": lambda one: one.staging_sessions.select("ses_1", f"img_{EXAMPLE_ID}", version=3),
    "staging_sessions.lock": lambda one: one.staging_sessions.lock("ses_1", version=3),
    "staging_sessions.stage": lambda one: one.staging_sessions.stage("ses_1", **ROOM, variants=3, **TERMS),
    "styles.create": lambda one: one.styles.create("Ours", base="modern", words="olives", colours=["#123456"]),
    "styles.get": lambda one: one.styles.get("sty_1"),
    "styles.list": lambda one: list(one.styles.list(page_size=200)),
    "styles.update": lambda one: one.styles.update("sty_1", version=3, colours=["#123456"]),
    "styles.delete": lambda one: one.styles.delete("sty_1", version=3),
    "tech_packs.get": lambda one: one.tech_packs.get("prd_1"),
    "tech_packs.export_pdf": lambda one: one.tech_packs.export_pdf("prd_1", "pack.pdf"),
    "tech_packs.detect_category": lambda one: one.tech_packs.detect_category("prd_1", fresh=True, **TERMS),
    "tech_packs.analyze_base_views": lambda one: one.tech_packs.analyze_base_views(
        "prd_1", revision_ids=[f"rev_{EXAMPLE_ID}"], category="cup", **TERMS
    ),
    "tech_packs.generate_close_ups": lambda one: one.tech_packs.generate_close_ups(
        "prd_1", count=10, category="cup", **TERMS
    ),
    "tech_packs.generate_sketches": lambda one: one.tech_packs.generate_sketches("prd_1", category="cup", **TERMS),
    "tech_packs.regenerate_part": lambda one: one.tech_packs.regenerate_part(
        "prd_1", f"img_{EXAMPLE_ID}", prompt="Closer.", **TERMS
    ),
    "tech_packs.edit": lambda one: one.tech_packs.edit(
        "rev_1", field_path="materials.0.finish", prompt="Set it to matt.", **TERMS
    ),
    "tech_packs.regenerate_view": lambda one: one.tech_packs.regenerate_view("rev_1", prompt="Lit.", **TERMS),
    "credits.balance": lambda one: one.credits.balance(),
    "credits.entries": lambda one: list(one.credits.entries(**FILTERS, page_size=200)),
    "credits.usage": lambda one: one.credits.usage(since="2026-01-01", until="2026-02-01"),
    "credits.plans": lambda one: one.credits.plans(),
    "credits.change_plan": lambda one: one.credits.change_plan("pro"),
    "credits.pricing": lambda one: one.credits.pricing(),
    "credits.export": lambda one: one.credits.export("entries.csv", **FILTERS),
    "workflows.list": lambda one: one.workflows.list(),
    "models.list": lambda one: one.models.list(),
    "me.get": lambda one: one.me.get(),
    "api_keys.create": lambda one: one.api_keys.create(
        "CI", scopes=["read"], workflows=["staging"], livemode=False, expires_at="2030-01-01T00:00:00Z"
    ),
    "api_keys.list": lambda one: list(one.api_keys.list(prefix="sk_live_a", page_size=200)),
    "api_keys.rotate": lambda one: one.api_keys.rotate("key_1", overlap_seconds=60),
    "api_keys.revoke": lambda one: one.api_keys.revoke("key_1"),
    "events.list": lambda one: list(
        one.events.list(after="7", types=["JobFinished"], job_id=JOB, session_id="ses_1", page_size=200)
    ),
    "events.activity": lambda one: list(
        one.events.activity(job_id=JOB, session_id="ses_1", timezone="Europe/Berlin", page_size=200)
    ),
    "webhook_endpoints.create": lambda one: one.webhook_endpoints.create(
        "https://example.com/hook", types=["JobFinished"], description="CI", ordered=True
    ),
    "webhook_endpoints.list": lambda one: list(one.webhook_endpoints.list(page_size=200)),
    "webhook_endpoints.get": lambda one: one.webhook_endpoints.get("whe_1"),
    "webhook_endpoints.change": lambda one: one.webhook_endpoints.change("whe_1", status="disabled", types=None),
    "webhook_endpoints.delete": lambda one: one.webhook_endpoints.delete("whe_1"),
    "webhook_endpoints.rotate": lambda one: one.webhook_endpoints.rotate("whe_1", overlap_seconds=60),
    "webhook_endpoints.test": lambda one: one.webhook_endpoints.test("whe_1"),
    "webhook_endpoints.replay": lambda one: one.webhook_endpoints.replay("whe_1", after="1", until="9"),
    "webhook_endpoints.deliveries": lambda one: list(
        one.webhook_endpoints.deliveries("whe_1", status="failed", page_size=200)
    ),
}
# A second time there is nothing left to do: these take no Idempotency-Key.
REPEATABLE = {"jobs.cancel", "jobs.sync"}
# The first two follow signed links, which are no route of the gateway; the last goes on for good (test_events.py).
ELSEWHERE = {"images.content", "images.download", "events.stream"}
PATHS = {re.compile(re.sub(r"\{\w+\}", "[^/]+", path) + r"\Z"): methods for path, methods in DOCUMENT["paths"].items()}


def operation_of(asked: Asked) -> dict[str, Any]:
    exactly = DOCUMENT["paths"].get(asked.path)
    (methods,) = [exactly] if exactly else [methods for pattern, methods in PATHS.items() if pattern.match(asked.path)]
    found: dict[str, Any] = methods[asked.method.lower()]
    return found


def resolved(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    name = schema.get("$ref", "").rpartition("/")[2]
    return DOCUMENT["components"]["schemas"][name] if name else schema


def a_value(schema: Mapping[str, Any]) -> Any:
    """Return the least a server that keeps to the schema can answer: required fields only."""
    schema = resolved(schema)
    if "anyOf" in schema:
        return a_value(schema["anyOf"][0])
    kind = schema.get("type", "object")
    kind = kind[0] if isinstance(kind, list) else kind
    if kind == "object":
        return {name: a_value(schema["properties"][name]) for name in schema.get("required", [])}
    if kind == "array":
        return [a_value(schema["items"])]
    words = {"date-time": "2026-01-01T00:00:00.5Z", "date": "2026-01-01"}
    word = schema.get("enum", [words.get(schema.get("format", ""), "x")])[-1]
    return {"string": word, "integer": 1, "number": 1.5, "boolean": False}[kind]


def answered(asked: Asked) -> Scripted:
    """Answer a request as the document says, with the last page of a list."""
    answers = {int(status): answer for status, answer in operation_of(asked)["responses"].items() if status < "300"}
    dry = b'"dry_run": true' in asked.body
    status = 200 if dry else max(answers)
    if "application/json" not in answers[status].get("content", {"application/json": {}}):
        return Scripted(status=status, body=b"a,b\r\n", headers={"Content-Type": "text/csv"})
    if "content" not in answers[status]:
        return Scripted(status=status)
    schema = answers[status]["content"]["application/json"]["schema"]
    body = a_value(schema["anyOf"][-1] if dry else schema)
    return Scripted(status=status, body=body)


def public_methods() -> set[str]:
    resources = {name: value for name, value in vars(Darkroom("x", base_url="http://x")).items() if name[0] != "_"}
    return {
        f"{resource}.{name}"
        for resource, value in resources.items()
        for name in vars(type(value))
        if not name.startswith("_")
    }


def test_every_method_is_among_these() -> None:
    assert public_methods() == CALLS.keys() | ELSEWHERE


@pytest.mark.parametrize("method", CALLS)
def test_what_is_sent_is_described_and_what_is_described_is_understood(
    play: Play, method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    darkroom, server = play()
    server.otherwise = answered

    CALLS[method](darkroom)

    (asked,) = server.asked
    assert ("Idempotency-Key" in asked.headers) == (asked.method == "POST" and method not in REPEATABLE)
    described(asked)


def test_each_request_of_a_presigned_upload_is_described(play: Play) -> None:
    darkroom, server = play()
    link = {"upload_id": UPLOAD, "method": "PUT", "headers": {}, "expires_at": "2026-01-01T00:00:00Z"}

    def answer(asked: Asked) -> Scripted:
        if asked.path == "/files/1":
            return Scripted(status=201)
        return Scripted(status=201, body={**answered(asked).body, **link, "url": f"{server.url}/files/1"})

    server.otherwise = answer

    darkroom.uploads.create(b"\xff\xd8\xff", purpose="face", keep_original=True, presigned=True)

    presign, sent, complete = server.asked
    assert (sent.path, complete.path) == ("/files/1", f"/v1/uploads/{UPLOAD}/complete")
    described(presign)
    assert operation_of(complete)["responses"]["201"]


def described(asked: Asked) -> None:
    """Compare a request with what the document says of its operation."""
    operation = operation_of(asked)
    known = {(one["in"], one["name"]) for one in operation.get("parameters", [])}
    assert {("query", name) for name in asked.query} <= known, urlencode(asked.query)
    assert {("header", name) for name in ("Idempotency-Key", "If-Match", "Prefer") if name in asked.headers} <= known
    if asked.body:
        accepted = operation["requestBody"]["content"][asked.headers["Content-Type"]]["schema"]
        if accepted.get("format") != "binary":
            jsonschema.validate(json.loads(asked.body), {**accepted, "components": DOCUMENT["components"]})


MODELS = {name: getattr(models, name) for name in darkroom_client.__all__ if hasattr(models, name)}
SCHEMA_OF = {"Organization": "OrganizationName", "Estimate": "DryRun", "PricedLine": "QuoteLine", "Wallet": "Credits"}
SCHEMA_OF |= {"AiModel": "Model", "TimelineStep": "Step"}


@pytest.mark.parametrize("name", [name for name, kind in MODELS.items() if issubclass(kind, models.Model)])
def test_a_field_of_a_model_is_a_field_of_the_api_and_needed_only_where_it_is_promised(name: str) -> None:
    schema = DOCUMENT["components"]["schemas"][SCHEMA_OF.get(name, name)]
    own = [each for each in fields(MODELS[name]) if each.name != "extra"]

    needed = {each.name for each in own if each.default is MISSING and each.default_factory is MISSING}

    assert {each.name for each in own} <= schema["properties"].keys()
    assert needed <= set(schema.get("required", []))


def test_the_client_needs_nothing_of_this_repository_and_no_package_but_requests() -> None:
    imported = set()
    for file in (PACKAGE / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            imported |= {name.partition(".")[0] for name in names}

    others = imported - sys.stdlib_module_names - {"darkroom_client"}
    assert others == {"requests", "typing_extensions"}  # the latter while types are checked only


def test_it_can_be_imported_where_only_requests_is_installed() -> None:
    code = "import darkroom_client, sys; print(sorted({name.partition('.')[0] for name in sys.modules}))"
    environment = {"PYTHONPATH": str(PACKAGE / "src"), "PATH": ""}

    loaded = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], env=environment, capture_output=True, text=True, check=True
    ).stdout

    assert "'requests'" in loaded
    assert not [name for name in ("typing_extensions", "shared", "services", "tools") if f"'{name}'" in loaded]


def test_the_tools_of_this_repository_find_it_with_nothing_installed() -> None:
    code = "import tools, darkroom_client; print(darkroom_client.__file__)"

    found = subprocess.run(
        [sys.executable, "-c", code], cwd=CHECKOUT, capture_output=True, text=True, check=True
    ).stdout

    assert found.startswith(str(PACKAGE / "src"))


def test_what_is_exported_is_listed_once_in_order() -> None:
    assert darkroom_client.__all__ == sorted(set(darkroom_client.__all__))
    assert all(hasattr(darkroom_client, name) for name in darkroom_client.__all__)


def test_the_changelog_tells_of_this_version() -> None:
    assert f"## [{darkroom_client.__version__}]" in (PACKAGE / "CHANGELOG.md").read_text()


README = (PACKAGE / "README.md").read_text()
SAMPLES = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)


@pytest.mark.parametrize("sample", SAMPLES)
def test_what_the_readme_shows_exists(sample: str) -> None:
    tree = ast.parse(sample.replace("\N{HORIZONTAL ELLIPSIS}, ", "").replace("{\N{HORIZONTAL ELLIPSIS}}", "{}"))
    called = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    imported = {
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == "darkroom_client"
        for alias in node.names
    }

    methods = {name.removeprefix("darkroom.") for name in called if re.fullmatch(r"darkroom\.\w+\.\w+", name)}

    assert methods <= public_methods()
    assert imported <= set(darkroom_client.__all__)


def test_the_readme_names_every_error() -> None:
    errors = {name for name in darkroom_client.__all__ if name in vars(darkroom_client.errors)}

    assert not [name for name in errors if f"`{name}`" not in README]


def test_the_way_to_test_that_the_readme_shows_works() -> None:
    (sample,) = [each for each in SAMPLES if "BaseHTTPRequestHandler" in each]

    ran = subprocess.run(
        [sys.executable, "-c", sample],
        env={"PYTHONPATH": str(PACKAGE / "src")},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )

    assert ran.returncode == 0, ran.stderr
