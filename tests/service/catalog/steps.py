"""Making products and views as the gateway asks for it, and what generation tells of views it has made anew."""

from datetime import UTC, datetime, timedelta

from services.catalog import product_handlers, product_queries
from services.catalog.products import NewProduct, Picture
from shared import events
from shared.database import Batch
from shared.events import GenerationCompleted, MadeImage, RenewedView
from shared.ids import new_id
from shared.times import rfc3339

OWNER = {"org_id": "org_first", "livemode": True}
QUEUE = "catalog.on_generation_completed"


def a_product(**fields):
    return NewProduct(**{"product_id": new_id("prd"), **OWNER, "user_id": "usr_1", "name": "Oak chair", **fields})


def a_picture(upload, **fields):
    thumbnail_key = f"assets/{upload.org_id}/{upload.asset_id}.thumb.jpg"
    return Picture(
        **{"revision_id": new_id("rev"), "upload_id": upload.asset_id, "thumbnail_key": thumbnail_key, **fields}
    )


def created(db, **fields):
    return product_handlers.create_product(db, a_product(**fields))


def looked_up(db, product_id, **owner):
    owner = {**OWNER, **owner}
    with db.transaction(**owner) as session:
        return product_queries.product(session, **owner, product_id=product_id)


def listed(db, **filters):
    owner = {name: filters.pop(name, value) for name, value in OWNER.items()}
    with db.transaction(**owner) as session:
        return product_queries.products(session, **owner, **{"limit": 50, **filters})


def revisions_of(db, product_id, **filters):
    with db.transaction(**OWNER) as session:
        return product_queries.views(session, **OWNER, product_id=product_id, **{"limit": 50, **filters})


def changed(db, product_id, *, versions=None, **changes):
    return product_handlers.change_product(
        db, **OWNER, product_id=product_id, user_id="usr_2", changes=changes, versions=versions
    )


def deleted(db, product_id, *, versions=None, **owner):
    product_handlers.delete_product(db, **{**OWNER, **owner}, product_id=product_id, user_id="usr_2", versions=versions)


def viewed(db, product_id, picture, **owner):
    return product_handlers.add_view(db, **{**OWNER, **owner}, product_id=product_id, user_id="usr_1", picture=picture)


def a_renewal(product_id, *, view_type="front", asked=timedelta(), **fields):
    """Return what generation tells of a view made anew; ``asked`` is how long from now it was asked for."""
    image_id = new_id("img")
    key = f"images/org_first/{image_id}/1"
    event = GenerationCompleted(
        **{
            "job_id": new_id("job"),
            "generation_id": new_id("gen"),
            "line_id": None,
            "amount": 0,
            **OWNER,
            "user_id": "usr_3",
            "workflow": "tech_pack_regenerate",
            "images": [MadeImage(image_id=image_id, sha256="1" * 64, bytes=1000, width=640, height=480)],
            "provider": "local",
            "model": "preview-1",
            "duration_ms": 5,
            "provider_cost_microusd": 0,
            "product_id": product_id,
            "revision_id": "rev_before",
            "renewed_view": RenewedView(
                view_type=view_type,
                image_id=image_id,
                key=f"{key}.jpg",
                thumbnail_key=f"{key}.thumb.jpg",
                content_type="image/jpeg",
                asked_at=rfc3339(datetime.now(UTC) + asked, precision="microseconds"),
            ),
            **fields,
        }
    )
    return events.with_meta(event, events.correlated("req_1"))


def told_to_catalog(db, *several):
    product_handlers.add_generated_views(db, Batch(several, consumer=QUEUE))
