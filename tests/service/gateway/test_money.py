"""Every POST that moves credits: it wants an Idempotency-Key, and however often it comes, credits move once."""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest

from services.gateway.service import Gateway
from shared.http import routes_of
from shared.ids import new_id

POSTS = {route.url for _, route in routes_of(Gateway) if route.method == "POST"}
MONEY = sorted(route.url for _, route in routes_of(Gateway) if route.money)
# These take a key, and keep its promise, but move nothing twice without one: each makes something of its own.
KEY_OPTIONAL = ["/v1/quotes", "/v1/admin/organizations"]
# These say what is told to whom and where to, and move no credit; their own tests are likewise.
ABOUT_EVENTS = [
    "/v1/notifications/read",
    "/v1/unsubscribe",
    "/v1/admin/tips",
    "/v1/webhook-endpoints",
    "/v1/webhook-endpoints/<endpoint_id>/test",
    "/v1/webhook-endpoints/<endpoint_id>/rotate",
    "/v1/webhook-endpoints/<endpoint_id>/replay",
]
# These are about people and keys, and move no credit; their own tests say what sending them again does.
ABOUT_PEOPLE = [
    "/v1/auth/signup",
    "/v1/auth/login",
    "/v1/auth/logout",
    "/v1/auth/password",
    "/v1/auth/password-reset",
    "/v1/auth/password-reset/confirm",
    "/v1/invitations",
    "/v1/invitations/lookup",
    "/v1/api-keys",
    "/v1/api-keys/<key_id>/rotate",
    "/v1/admin/keys",
]
# These make what is shown, under the key's own id or as the next revision: no credit moves.
ABOUT_PRODUCTS = ["/v1/products", "/v1/products/<product_id>/views"]
# These begin and settle what is asked for by other routes: no credit moves.
ABOUT_STAGING = ["/v1/staging-sessions", "/v1/staging-sessions/<staging_session_id>/lock", "/v1/styles"]
# What clients tell of people is counted once for its key: no credit moves.
ABOUT_HEADSHOTS = ["/v1/analytics/events"]
# What providers tell is a hint to look: it moves nothing, and is told once however often it comes.
OF_PROVIDERS = ["/v1/webhooks-in/<provider>"]
# These end or look at what is there already: a second time there is nothing left to do.
ABOUT_JOBS = ["/v1/jobs/<job_id>/cancel", "/v1/jobs/<job_id>/sync"]
AT_ONCE = 10


@dataclass(kw_only=True)
class Order:
    """A request, another one at the same address, and the call that has the effect."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    other: dict[str, Any]
    service: str
    method: str


@pytest.fixture
def orders(client, services, studio, admin, a_staging):
    """Give an order for every route that moves credits, by its address."""
    org_id, headers = studio
    staging = a_staging(org_id)
    job = client.post("/v1/stagings", json=staging, headers={**headers, "Idempotency-Key": "of the fixture"}).json
    room = {"upload_id": staging["upload_id"], "room_state": "generate_empty"}
    session = client.post("/v1/staging-sessions", json=room, headers=headers).json["id"]
    services.assets[staging["upload_id"]]["thumbnail_key"] = "assets/known.thumb.jpg"
    product = client.post(
        "/v1/products", json={"name": "A cup", "upload_id": staging["upload_id"]}, headers=headers
    ).json
    pack, view = f"/v1/tech-packs/{product['id']}", f"/v1/revisions/{product['views'][0]['id']}"
    edit = {"field_path": "summary", "prompt": "Set it to short"}
    styled = {"style": "modern", "room_type": "bedroom"}
    headshot = {"upload_id": staging["upload_id"], "style": "corporate"}
    batch = {"upload_id": staging["upload_id"], "styles": ["corporate", "creative"]}
    ended = client.post("/v1/stagings", json=staging, headers={**headers, "Idempotency-Key": "of it, too"}).json
    services.finish(ended["id"], "failed")
    services.generation.calls.clear()
    submit = {"headers": headers, "service": "generation", "method": "submit"}
    credits_of = f"/v1/admin/organizations/{org_id}"
    grant = {"amount": 50, "kind": "purchased", "reason": "an order"}
    adjustment = {"amount": -5, "reason": "a mistake"}
    whole = {"workflow": "staging", "inputs": staging}
    by_admin = {"headers": admin, "service": "credits"}
    refund = {"reason": "blurred"}
    found = {
        "/v1/jobs": Order(path="/v1/jobs", body=whole, other={**whole, "deadline_seconds": 60}, **submit),
        "/v1/stagings": Order(path="/v1/stagings", body=staging, other={**staging, "variants": 1}, **submit),
        "/v1/headshots": Order(path="/v1/headshots", body=headshot, other={**headshot, "style": "model"}, **submit),
        "/v1/headshots/batches": Order(
            path="/v1/headshots/batches", body=batch, other={**batch, "styles": ["model"]}, **submit
        ),
        "/v1/staging-sessions/<staging_session_id>/empty-rooms": Order(
            path=f"/v1/staging-sessions/{session}/empty-rooms",
            body={"retry_number": 0},
            other={"retry_number": 1},
            headers=headers,
            service="generation",
            method="generate_empty_room",
        ),
        "/v1/staging-sessions/<staging_session_id>/stagings": Order(
            path=f"/v1/staging-sessions/{session}/stagings",
            body=styled,
            other={**styled, "variants": 1},
            headers=headers,
            service="generation",
            method="stage_session",
        ),
        **{
            f"/v1/tech-packs/<product_id>/{part}": Order(
                path=f"{pack}/{part}", body={}, other={"deadline_seconds": 60}, **submit
            )
            for part in ("category", "base-views", "close-ups", "sketches")
        },
        "/v1/tech-packs/<product_id>/regenerations": Order(
            path=f"{pack}/regenerations",
            body={"image_id": new_id("img")},
            other={"image_id": new_id("img")},
            **submit,
        ),
        "/v1/revisions/<revision_id>/edits": Order(
            path=f"{view}/edits", body=edit, other={**edit, "prompt": "Set it to long"}, **submit
        ),
        "/v1/revisions/<revision_id>/regenerations": Order(
            path=f"{view}/regenerations", body={}, other={"prompt": "Lit from the left."}, **submit
        ),
        "/v1/jobs/<job_id>/retry": Order(
            path=f"/v1/jobs/{ended['id']}/retry",
            body={"settings": {"style": "rustic"}},
            other={"settings": {"style": "modern"}},
            **{**submit, "method": "retry"},
        ),
        "/v1/quotes": Order(
            path="/v1/quotes",
            headers=headers,
            body=whole,
            other={**whole, "inputs": {**staging, "variants": 1}},
            service="credits",
            method="quote",
        ),
        "/v1/admin/organizations": Order(
            path="/v1/admin/organizations",
            body={"name": "New", "credits": 5},
            other={"name": "Newer", "credits": 5},
            method="open_account",
            **by_admin,
        ),
        "/v1/admin/organizations/<org_id>/grants": Order(
            path=f"{credits_of}/grants", body=grant, other={**grant, "amount": 51}, method="grant", **by_admin
        ),
        "/v1/admin/organizations/<org_id>/adjustments": Order(
            path=f"{credits_of}/adjustments",
            body=adjustment,
            other={**adjustment, "amount": -6},
            method="adjust",
            **by_admin,
        ),
        "/v1/admin/jobs/<job_id>/refund": Order(
            path=f"/v1/admin/jobs/{job['id']}/refund",
            body=refund,
            other={"reason": "dark"},
            method="refund",
            **by_admin,
        ),
    }
    services.credits.calls.clear()
    return found


@pytest.fixture
def send(client):
    def post(order, *, key=None, body=None):
        headers = {**order.headers, "Idempotency-Key": key} if key else order.headers
        return client.post(order.path, json=body or order.body, headers=headers)

    return post


def _calls(services, order):
    return getattr(services, order.service).asked(order.method)


def test_every_post_is_known_to_move_credits_or_not_to():
    uploads = {"/v1/uploads", "/v1/uploads/from-url", "/v1/uploads/presign", "/v1/uploads/<upload_id>/complete"}
    others = {
        *ABOUT_PEOPLE,
        *ABOUT_JOBS,
        *ABOUT_EVENTS,
        *ABOUT_PRODUCTS,
        *ABOUT_STAGING,
        *ABOUT_HEADSHOTS,
        *OF_PROVIDERS,
    }
    assert {*MONEY, *KEY_OPTIONAL, *others, *uploads} == POSTS


def test_every_route_that_moves_credits_is_tried_here(orders):
    assert {*MONEY, *KEY_OPTIONAL} == set(orders)


@pytest.mark.parametrize("url", MONEY)
def test_without_a_key_nothing_moves(orders, send, services, url):
    answer = send(orders[url])

    assert (answer.status_code, answer.json["code"]) == (400, "idempotency_key_required")
    assert _calls(services, orders[url]) == []


@pytest.mark.parametrize("url", [*MONEY, *KEY_OPTIONAL])
def test_ten_at_once_with_one_key_are_one(orders, send, services, monkeypatch, url):
    order = orders[url]
    methods = getattr(services, order.service).methods
    method, rest_answered, answered = methods[order.method], threading.Event(), []

    def once_the_rest_is_answered(**arguments):
        assert rest_answered.wait(1.5)
        return method(**arguments)

    def post(_number):
        answer = send(order, key="k")
        answered.append(answer)
        if len(answered) == AT_ONCE - 1:
            rest_answered.set()
        return answer

    monkeypatch.setitem(methods, order.method, once_the_rest_is_answered)
    with ThreadPoolExecutor(AT_ONCE) as clients:
        answers = list(clients.map(post, range(AT_ONCE)))

    [done] = [answer for answer in answers if answer.status_code < 300]
    refused = [answer for answer in answers if answer is not done]
    assert {(answer.status_code, answer.json["code"]) for answer in refused} == {(409, "request_in_progress")}
    assert all(answer.headers["Retry-After"] for answer in refused)
    assert len(_calls(services, order)) == 1


@pytest.mark.parametrize("url", [*MONEY, *KEY_OPTIONAL])
def test_a_request_that_is_sent_again_is_answered_again(orders, send, services, url):
    first = send(orders[url], key="k")
    moved, wallets, jobs = dict(services.moved), dict(services.wallets), set(services.jobs)

    again = [send(orders[url], key="k") for _ in range(3)]

    assert first.status_code < 300
    assert {answer.status_code for answer in again} == {first.status_code}
    assert [answer.json for answer in again] == [first.json] * 3
    assert {answer.headers["Idempotency-Replayed"] for answer in again} == {"true"}
    assert (services.moved, services.wallets, set(services.jobs)) == (moved, wallets, jobs)


@pytest.mark.parametrize("url", [*MONEY, *KEY_OPTIONAL])
def test_a_key_is_good_for_one_request_only(orders, send, services, url):
    send(orders[url], key="k")

    answer = send(orders[url], key="k", body=orders[url].other)

    assert (answer.status_code, answer.json["code"]) == (422, "idempotency_key_reused")
    assert len(_calls(services, orders[url])) == 1


@pytest.mark.parametrize("url", [url for url in MONEY if url.startswith("/v1/admin")])
def test_after_a_lost_answer_the_same_movement_is_asked_for(orders, send, services, url):
    order = orders[url]
    services.credits.down = True
    lost = send(order, key="k")

    services.credits.down = False
    answer = send(order, key="k")

    first, second = _calls(services, order)
    assert (lost.status_code, answer.status_code < 300) == (503, True)
    assert first == second
