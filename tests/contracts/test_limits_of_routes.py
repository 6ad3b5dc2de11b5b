"""How much and how long a route may take: what is above the ordinary is listed here, and why."""

from services.downloads.service import Downloads
from services.gateway.service import Gateway
from shared.http import routes_of
from shared.http_body import SMALL_BODY_BYTES
from shared.http_routes import DEFAULT_SECONDS

MEGABYTE = 1_000_000
LARGE = {
    "POST /v1/uploads": (11 * MEGABYTE, "an image of 10 MB in a form"),
    "POST /v1/webhooks-in/<provider>": (MEGABYTE, "a webhook that has an image in it, as some models answer"),
    "PUT /files/<path:key>": (11 * MEGABYTE, "an image of 10 MB; the signed link says how much at most"),
}
LONG = {
    "POST /v1/uploads": (30, "an image is decoded, cleaned and stored"),
    "POST /v1/uploads/<upload_id>/complete": (30, "what was sent is read again, decoded, cleaned and stored"),
    "POST /v1/uploads/from-url": (30, "somebody else's server sends it, then as above"),
    "POST /v1/products": (30, "its picture is read, decoded and made small"),
    "PUT /v1/products/by-sku/<sku>": (30, "its picture, likewise"),
    "POST /v1/products/<product_id>/views": (30, "the picture, likewise"),
    "GET /v1/images/<image_id>/content": (30, "with a label: it is decoded, written on and encoded"),
    "GET /v1/tech-packs/<product_id>/export.pdf": (30, "its pictures are read, decoded and laid out in pages"),
    "PUT /files/<path:key>": (30, "an image of 10 MB over a slow line"),
    "GET /v1/admin/invariants": (30, "the whole ledger is recomputed"),
}
ROUTES = {f"{route.method} {route.url}": route for service in (Gateway, Downloads) for _, route in routes_of(service)}


def test_no_route_reads_more_than_its_work_needs():
    large = {name: route.max_body_bytes for name, route in ROUTES.items() if route.max_body_bytes > SMALL_BODY_BYTES}

    assert set(large) == set(LARGE)
    assert all(large[name] <= most for name, (most, _) in LARGE.items())


def test_only_a_known_client_may_send_a_large_body():
    assert all(ROUTES[name].authenticates_first for name in LARGE)


def test_no_route_takes_longer_than_its_work_needs():
    long = {name: route.time_limit_seconds for name, route in ROUTES.items() if route.time_limit_seconds > 2}

    assert DEFAULT_SECONDS < 2
    assert set(long) == set(LONG)
    assert all(long[name] <= most for name, (most, _) in LONG.items())
