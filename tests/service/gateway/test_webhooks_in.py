"""Webhooks of providers at the route: two signatures, ours and the vendor's; a hint told once; else nothing is kept."""

import dataclasses
import io
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

import pytest
import sqlalchemy as sa

from services.gateway import callbacks
from services.gateway.callbacks import BODY_BYTES, Hint
from services.gateway.issuer_keys import IssuerKeys
from services.gateway.models import WebhookReceipt
from services.gateway.webhooks.fal import FalWebhooks
from shared import events
from shared.callbacks import Callbacks
from shared.config import Secret
from shared.events import ProviderCallbackReceived
from shared.ids import new_id
from tests.oidc_issuer import JWKS, LocalIssuer
from tests.service.gateway.people import everything_kept
from tests.unit.gateway import test_webhooks_of_fal as fal
from tests.unit.gateway import test_webhooks_of_replicate as replicate

BODY = b'{"id": "p1", "status": "succeeded"}'


@pytest.fixture
def operation_id():
    return new_id("op")


@pytest.fixture
def address(settings, operation_id):
    """Give the address, without its host, that a provider was given with an operation."""
    ours = Callbacks(public_url="", secret=settings.signing_secret)

    def of(provider="replicate", *, about=operation_id):
        return ours.address(provider, operation_id=about)

    return of


@pytest.fixture
def told(gateway_db):
    """Give the hints that wait to be published."""

    def read():
        with gateway_db.transaction() as session:
            bodies = session.scalars(sa.text("SELECT body FROM outbox")).all()
        found = [events.decode(body.encode()) for body in bodies]
        return [event for event in found if isinstance(event, ProviderCallbackReceived)]

    return read


@pytest.fixture
def send(client, address):
    def post(body=BODY, *, to=None, headers=None, **signed):
        signature = replicate.signed(body, **{"stamp": int(time.time()), **signed})
        return client.post(to or address(), data=body, headers=signature if headers is None else headers)

    return post


def test_a_genuine_webhook_is_handed_on_as_a_hint(send, told, operation_id):
    answer = send()

    (hint,) = told()
    assert (answer.status_code, answer.data) == (204, b"")
    assert (hint.provider, hint.operation_id, hint.delivery_id) == ("replicate", operation_id, "msg_1")
    assert hint.work_id == "p1"


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"{}", b"\xff", b"[" * 100_000, b'{"id": 7}', b'{"id": "a/../b"}', b'{"id": "%s"}' % (b"x" * 201)],
)
def test_a_genuine_webhook_that_names_no_work_is_a_hint_all_the_same(send, told, operation_id, body):
    answer = send(body)

    (hint,) = told()
    assert (answer.status_code, hint.operation_id, hint.work_id) == (204, operation_id, None)


def test_fals_webhook_is_verified_with_its_keys(client, gateway, address, told, operation_id):
    with LocalIssuer().running() as issuer:
        issuer.rotate("EdDSA", kid=None, alg=None)
        gateway.vendors = {"fal": FalWebhooks(IssuerKeys(issuer.url, listed_at=issuer.url + JWKS))}
        body = b'{"request_id": "r0", "gateway_request_id": "r1", "status": "OK", "payload": {}}'
        headers = fal.signed(body, stamp=int(time.time()))

        good = client.post(address("fal"), data=body, headers=headers)
        altered = client.post(address("fal"), data=body + b" ", headers=headers)

    assert (good.status_code, altered.status_code) == (204, 401)
    (hint,) = told()
    assert (hint.provider, hint.operation_id, hint.delivery_id, hint.work_id) == ("fal", operation_id, "r1", "r0")


def test_a_delivery_that_comes_again_and_again_is_one_hint(send, told):
    answers = [send() for _ in range(5)]

    assert {answer.status_code for answer in answers} == {204}
    assert len(told()) == 1


def test_a_delivery_that_comes_many_times_at_once_is_one_hint(gateway_db, operation_id, told):
    hint = Hint(provider="replicate", operation_id=operation_id, delivery_id="msg_1")

    with ThreadPoolExecutor(8) as pool:
        new = list(pool.map(lambda _: callbacks.note(gateway_db, hint), range(16)))

    assert sum(new) == 1
    assert len(told()) == 1


def test_the_next_delivery_about_the_same_operation_is_another_hint(send, told):
    send(delivery="msg_1")
    send(delivery="msg_2")

    assert [hint.delivery_id for hint in told()] == ["msg_1", "msg_2"]


def test_one_delivery_sent_to_two_addresses_swallows_neither(send, told, address):
    first, second = new_id("op"), new_id("op")

    for about in (first, second):
        send(to=address(about=about))

    assert [hint.operation_id for hint in told()] == [first, second]


@pytest.mark.parametrize(
    "wrong",
    [
        {"headers": {}},
        {"secret": "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"},
        {"stamp": int(time.time()) - 100_000},
        {"stamp": int(time.time()) + 100_000},
        {"headers": replicate.signed(BODY + b" ", stamp=int(time.time()))},
        {"headers": replicate.PUBLISHED},
    ],
    ids=["unsigned", "another's", "old", "early", "altered", "replayed"],
)
def test_a_webhook_the_vendor_has_not_signed_now_is_refused_and_nothing_kept(send, gateway_db, wrong):
    before = everything_kept(gateway_db)

    answer = send(**wrong)

    assert (answer.status_code, answer.json["code"]) == (401, "unauthenticated")
    assert everything_kept(gateway_db) == before


@pytest.mark.parametrize(
    "change",
    [
        lambda url: url.partition("?")[0],
        lambda url: url.partition("&sig=")[0],
        lambda url: url.replace("op=", "no=", 1),
        lambda url: url[:-1] + ("0" if url[-1] != "0" else "1"),
        lambda url: url.replace("op_", "op_0", 1),
        lambda url: url.partition("sig=")[0] + "sig=" + "0" * 64,
        lambda url: url.partition("sig=")[0] + "sig=%ff%00",
    ],
)
def test_an_address_that_is_not_ours_is_refused_however_well_the_body_is_signed(send, gateway_db, address, change):
    before = everything_kept(gateway_db)

    answer = send(to=change(address()))

    assert answer.status_code == 401
    assert everything_kept(gateway_db) == before


def test_the_address_of_one_operation_or_provider_is_not_anothers(send, gateway, address, told):
    gateway.vendors = {**gateway.vendors, "fal": gateway.vendors["replicate"]}
    of_fal = address("fal").replace("/fal?", "/replicate?")
    of_another = address(about=new_id("op")).rpartition("&sig=")[2]

    assert send(to=of_fal).status_code == 401
    assert send(to=f"{address().rpartition('&sig=')[0]}&sig={of_another}").status_code == 401
    assert told() == []


@pytest.mark.parametrize("more", ["&op=op_1", "&sig=x", "&more=1"])
def test_an_address_that_says_more_than_we_did_is_refused(send, address, told, more):
    assert send(to=address() + more).status_code == 400
    assert told() == []


@pytest.mark.parametrize("provider", ["openai", "nobody", "REPLICATE", "replicate%00"])
def test_a_provider_nobody_knows_is_not_there(send, address, provider):
    assert send(to=address().replace("/replicate?", f"/{provider}?")).status_code == 404


def test_a_vendor_whose_secret_is_not_set_is_not_there(gateway, send, told):
    gateway.vendors = callbacks.vendors_of(dataclasses.replace(gateway.settings, replicate_webhook_secret=Secret("")))

    assert send().status_code == 404
    assert send(headers={}).status_code == 404
    assert told() == []


def test_a_body_of_a_megabyte_is_taken_and_one_byte_more_is_not(send, told):
    largest = b"x" * BODY_BYTES

    assert send(largest).status_code == 204
    assert send(largest + b"x", delivery="msg_2").status_code == 413
    assert [hint.delivery_id for hint in told()] == ["msg_1"]


class Unread(io.BytesIO):
    """A body that tells whether anybody looked at it."""

    asked = 0

    def read(self, *sizes):
        self.asked += 1
        return super().read(*sizes)


@pytest.mark.parametrize("size", [BODY_BYTES + 1, 1 << 40])
def test_a_body_that_says_it_is_too_large_is_not_read(client, address, size):
    body = Unread(b"x")

    answer = client.post(address(), input_stream=body, environ_overrides={"CONTENT_LENGTH": str(size)})

    assert (answer.status_code, body.asked) == (413, 0)


def test_of_who_has_no_address_of_ours_no_body_is_read(client, address):
    body = Unread(BODY)

    answer = client.post(address()[:-2], input_stream=body, environ_overrides={"CONTENT_LENGTH": str(len(BODY))})

    assert (answer.status_code, body.asked) == (401, 0)


def test_while_fals_keys_cannot_be_had_it_is_asked_to_come_again(client, gateway, address, told):
    issuer = LocalIssuer()
    with issuer.running():
        gateway.vendors = {"fal": FalWebhooks(IssuerKeys(issuer.url, listed_at=issuer.url + JWKS))}

    answer = client.post(address("fal"), data=BODY, headers=fal.signed(BODY, stamp=int(time.time())))

    assert (answer.status_code, answer.json["retryable"]) == (503, True)
    assert told() == []


def test_neither_a_body_nor_a_signature_is_logged(send, address, caplog):
    caplog.set_level("DEBUG")

    send(b'{"prompt": "a private thing"}')
    send(b'{"prompt": "a private thing"}', stamp=1)

    assert "webhook_taken" in caplog.text
    assert "webhook_refused" in caplog.text
    assert "private" not in caplog.text
    assert urlsplit(address()).query.rpartition("sig=")[2] not in caplog.text


def test_what_was_taken_is_forgotten_when_nobody_repeats_it_any_more(send, gateway_db):
    send(delivery="msg_1")
    with gateway_db.transaction() as session:
        for hours in (23, 25):
            old = sa.insert(WebhookReceipt).values(provider="fal", delivery_id=f"{hours} h", operation_id="op_1")
            session.execute(old.values(received_at=datetime.now(UTC) - timedelta(hours=hours)))

    callbacks.prune(gateway_db)

    with gateway_db.transaction() as session:
        assert set(session.scalars(sa.select(WebhookReceipt.delivery_id))) == {"msg_1", "23 h"}


def test_the_document_says_what_proves_a_webhook(client):
    document = client.get("/openapi.json").json
    operation = document["paths"]["/v1/webhooks-in/{provider}"]["post"]

    (scheme,) = operation["security"][0]
    assert document["components"]["securitySchemes"][scheme]["in"] == "query"
    assert "webhook-signature" in document["components"]["securitySchemes"][scheme]["description"]
