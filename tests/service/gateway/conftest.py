"""The gateway over its real database, the services behind it played; each answer is checked against the document."""

import re

import jsonschema
import pytest
from argon2 import PasswordHasher
from werkzeug.test import Client

from services.gateway import callbacks, passwords
from services.gateway.authentication import KnownKeys
from services.gateway.failed_sign_ups import FailedSignUps
from services.gateway.service import Gateway
from services.gateway.streams import Streams
from services.gateway.turns import Turns, image_line
from services.gateway.watching import Watch
from shared.config import Secret, Settings
from shared.health import Health
from shared.http import application_of, routes_of
from shared.ids import new_id
from shared.openapi import openapi_document
from shared.outside import Outside
from shared.storage_folder import FolderStore
from tests.fakes import FakeServices
from tests.service.gateway.following import followed

ADMIN_KEY = "the-root-key-of-these-tests-0123456789"
REPLICATE_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
DOCUMENT = openapi_document(Gateway)
OUTSIDE = Outside()
ROOMY_SECONDS = 10.0


class CheckedClient(Client):
    """A client that believes no answer the OpenAPI document does not describe."""

    def open(self, *args, **options):
        answer = super().open(*args, **options)
        request = answer.request
        request.environ["wsgi.input"].close()
        operation = operation_of(request.method, request.path)
        if operation:
            check_answer(operation, answer)
        return answer


def operation_of(method, path):
    # As the router has it: an address that is written out comes before one with a placeholder.
    for template, item in sorted(DOCUMENT["paths"].items(), key=lambda each: "{" in each[0]):
        if re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", template), path) and method.lower() in item:
            return item[method.lower()]
    return None


def check_answer(operation, answer):
    described = operation["responses"].get(str(answer.status_code))
    assert described, f"{answer.status_code} is not in the document: {answer.text}"
    assert answer.headers["X-Request-Id"]
    content = described.get("content", {})
    if not content:
        assert answer.data == b""
        return
    assert answer.mimetype in content
    if answer.mimetype == "application/problem+json":
        assert answer.json["code"] in described["x-problem-codes"]
    if answer.mimetype.endswith("json"):
        schema = {**content[answer.mimetype]["schema"], "components": DOCUMENT["components"]}
        jsonschema.validate(answer.json, schema, jsonschema.Draft202012Validator)


@pytest.fixture
def settings(gateway_db):
    return Settings(
        process="gateway",
        service="gateway",
        database_url=Secret(str(gateway_db.url)),
        amqp_url=Secret("amqp://nobody"),
        storage_url=Secret("file:///nowhere"),
        http_address=None,
        ops_address=("127.0.0.1", 0),
        public_url="http://gateway.test",
        files_public_url="http://files.test",
        signing_secret=Secret("s" * 40),
        encryption_keys=Secret("e" * 40),
        admin_api_key=Secret(ADMIN_KEY),
        replicate_webhook_secret=Secret(REPLICATE_SECRET),
    )


@pytest.fixture
def services():
    return FakeServices()


@pytest.fixture
def store(tmp_path):
    return FolderStore(tmp_path / "objects")


@pytest.fixture(scope="module", autouse=True)
def roomy_limits():
    """Give each request time: these tests are about its answer, on a machine that may be busy with others."""
    usual = {declaration: declaration.time_limit_seconds for _, declaration in routes_of(Gateway)}
    for declaration, seconds in usual.items():
        object.__setattr__(declaration, "time_limit_seconds", max(seconds, ROOMY_SECONDS))  # it is frozen
    yield
    for declaration, seconds in usual.items():
        object.__setattr__(declaration, "time_limit_seconds", seconds)


@pytest.fixture(scope="module", autouse=True)
def quick_hashes():
    """Hash passwords with as little work as argon2 allows; what they really take is proven where hashes are."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(passwords, "_hasher", PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))
        yield


@pytest.fixture(scope="session")
def service():
    return Gateway()


@pytest.fixture(scope="session")
def application(service):
    """Made once: to compile all its routes takes longer than most tests."""
    return application_of(service)


@pytest.fixture
def gateway(service, gateway_db, settings, services, store):
    """The gateway as nameko would have it, wired by hand; nothing is left in it of the test before."""
    vars(service).clear()
    service.db = gateway_db
    service.settings = settings
    service.store = store
    service.health = Health()
    service.known_keys = KnownKeys()
    service.outside = OUTSIDE
    service.identity_provider = None
    service.vendors = callbacks.vendors_of(settings)
    service.turns = Turns()
    service.image_line = image_line()
    service.credits = services.credits
    service.catalog = services.catalog
    service.generation = services.generation
    service.notifications = services.notifications
    service.streams = Streams()
    service.watch = Watch()
    service.failed_sign_ups = FailedSignUps()
    return service


@pytest.fixture
def client(gateway, application):
    assert gateway
    return CheckedClient(application)


@pytest.fixture
def admin():
    return {"Authorization": f"Bearer {ADMIN_KEY}"}


@pytest.fixture
def an_organization(client, admin):
    """Make an organization and give ``(its id, headers with its key)``."""

    def make(**fields):
        answer = client.post(
            "/v1/admin/organizations", json={"name": "A studio", "credits": 100, **fields}, headers=admin
        )
        assert answer.status_code == 201, answer.text
        return answer.json["id"], {"Authorization": f"Bearer {answer.json['api_key']}"}

    return make


@pytest.fixture
def studio(an_organization):
    return an_organization()


@pytest.fixture
def an_upload(services):
    """Make an upload known to the catalog and give its id."""

    def make(org_id, *, livemode=True):
        asset_id = new_id("ast")
        services.catalog.register_asset(
            asset_id=asset_id,
            org_id=org_id,
            livemode=livemode,
            purpose="room",
            key=f"assets/{org_id}/{asset_id}.jpg",
            content_type="image/jpeg",
            bytes=10,
            width=800,
            height=600,
            sha256="0" * 64,
        )
        return asset_id

    return make


@pytest.fixture
def a_product(client):
    """Make a product and give what was answered."""

    def make(headers, **fields):
        answer = client.post("/v1/products", json={"name": "Oak chair", **fields}, headers=headers)
        assert answer.status_code == 201, answer.text
        return answer.json

    return make


@pytest.fixture
def a_staging(an_upload):
    """Give the body of a request for a staging in an organization."""

    def make(org_id, *, livemode=True, **fields):
        upload_id = an_upload(org_id, livemode=livemode)
        return {"upload_id": upload_id, "style": "modern", "room_type": "bedroom", **fields}

    return make


@pytest.fixture
def follow(gateway):
    """Follow the log, as far as it goes: ``follow(headers, "?after=0")`` returns the answer and its pieces."""
    plain = Client(application_of(gateway))
    return lambda headers, query="", **more: followed(plain, headers, query, **more)
