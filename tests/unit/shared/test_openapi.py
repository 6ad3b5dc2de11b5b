"""The OpenAPI document made of routes."""

from marshmallow import fields

from shared.http import Answer, Auth, Principal, Request, Schema, route
from shared.openapi import openapi_document
from shared.problems import Conflict

key = Auth(scheme="key", description="a key", check=lambda *_: Principal(kind="key", id="1", name="a"))


class OrderRequest(Schema):
    size = fields.Integer(required=True)


class OrderSchema(Schema):
    id = fields.String(required=True)


class OfferSchema(Schema):
    amount = fields.Integer(required=True)


class ShopQuery(Schema):
    limit = fields.Integer(load_default=5)


class Shop:
    """Sells things."""

    @route(
        "POST",
        "/shops/<shop_id>/orders",
        auth=key,
        body=OrderRequest,
        query=ShopQuery,
        answers={202: OrderSchema, 200: (OrderSchema, OfferSchema)},
        problems=(Conflict,),
        money=True,
        holds=True,
        guard=lambda _service, _request, proceed: proceed(),
        summary="Order",
        tags=("shop",),
    )
    def order(self, _request: Request, shop_id: str) -> Answer:
        return Answer(202, {"id": shop_id})

    @route(
        "POST",
        "/gifts",
        auth=key,
        answers={204: None},
        money=True,
        guard=lambda _service, _request, proceed: proceed(),
        summary="Give money",
    )
    def give(self, _request: Request) -> Answer:
        return Answer(204)

    @route("GET", "/open", auth=None, answers={204: None}, summary="Whether it is open")
    def is_open(self, _request: Request) -> Answer:
        return Answer(204)


DOCUMENT = openapi_document(Shop)
ORDER = DOCUMENT["paths"]["/shops/{shop_id}/orders"]["post"]


def test_the_document_is_openapi_3_1_and_always_the_same():
    assert DOCUMENT["openapi"] == "3.1.0"
    assert openapi_document(Shop) == DOCUMENT


def test_an_operation_says_what_it_takes():
    parameters = {(parameter["in"], parameter["name"]): parameter["required"] for parameter in ORDER["parameters"]}

    assert parameters == {
        ("path", "shop_id"): True,
        ("query", "limit"): False,
        ("header", "Idempotency-Key"): True,
        ("header", "Prefer"): False,
    }
    assert ORDER["requestBody"]["content"]["application/json"]["schema"]["$ref"].endswith("/OrderRequest")
    assert ORDER["security"] == [{"key": []}]


def test_what_is_sent_is_closed_and_what_is_answered_is_open_to_new_members():
    schemas = DOCUMENT["components"]["schemas"]

    assert schemas["OrderRequest"]["additionalProperties"] is False
    assert "additionalProperties" not in schemas["Order"]


def test_every_refusal_is_listed_with_its_code():
    assert set(ORDER["responses"]) == {
        "200",
        "202",
        "400",
        "401",
        "402",
        "403",
        "404",
        "408",
        "409",
        "413",
        "415",
        "429",
        "500",
        "503",
    }
    assert ORDER["responses"]["402"]["x-problem-codes"] == [
        "daily_cap_reached",
        "insufficient_credits",
        "quota_exceeded",
    ]
    assert "application/problem+json" in ORDER["responses"]["503"]["content"]


def test_an_answer_may_have_one_of_several_shapes():
    shapes = ORDER["responses"]["200"]["content"]["application/json"]["schema"]["anyOf"]

    assert [shape["$ref"].rpartition("/")[2] for shape in shapes] == ["Order", "Offer"]


def test_moving_money_needs_a_key_and_only_holding_it_can_be_refused_for_want_of_it():
    give = DOCUMENT["paths"]["/gifts"]["post"]

    assert [(one["name"], one["required"]) for one in give["parameters"]] == [("Idempotency-Key", True)]
    assert "402" not in give["responses"]


def test_an_open_route_has_no_credential_and_few_refusals():
    operation = DOCUMENT["paths"]["/open"]["get"]

    assert operation["security"] == []
    assert set(operation["responses"]) == {"204", "400", "429", "500", "503"}  # 400: it takes no query
    assert "content" not in operation["responses"]["204"]
    assert {problem.status for problem in Shop.is_open.route.refusals} == {400, 429, 500, 503}
