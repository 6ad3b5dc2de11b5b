"""Deleted products at the end of their retention: views and pictures go, and nothing that something else shows."""

import sqlalchemy as sa

from services.catalog import handlers, purging
from shared.events import SourceDeleted
from tests.service.catalog.outbox import told
from tests.service.catalog.steps import a_picture, a_renewal, created, deleted, looked_up, told_to_catalog, viewed


def retention_ends(db, *product_ids, days=30):
    with db.transaction() as session:
        session.execute(
            sa.text("UPDATE products SET deleted_at = now() - make_interval(days => :days) WHERE id = ANY(:ids)"),
            {"ids": list(product_ids), "days": days},
        )


def rows(db, table):
    with db.transaction() as session:
        return session.scalar(sa.text(f"SELECT count(*) FROM {table}"))


def with_picture(db, upload, **fields):
    return created(db, picture=a_picture(upload), **fields)["id"]


def test_views_and_pictures_of_a_deleted_product_go_after_thirty_days_and_not_before(catalog_db, store, an_asset):
    upload = an_asset(purpose="product")
    picture = a_picture(upload)
    store.put(key=picture.thumbnail_key, chunks=b"small", content_type="image/jpeg")
    product_id = created(catalog_db, picture=picture)["id"]
    deleted(catalog_db, product_id)
    retention_ends(catalog_db, product_id, days=29)
    early = purging.purge_deleted(catalog_db), handlers.remove_due(catalog_db, store)
    still = store.stat(upload.key)

    retention_ends(catalog_db, product_id)
    purged = purging.purge_deleted(catalog_db)
    removed = handlers.remove_due(catalog_db, store)

    assert (early, purged, removed) == ((0, 0), 1, 1)
    assert still is not None
    assert store.stat(upload.key) is store.stat(picture.thumbnail_key) is None
    assert (rows(catalog_db, "products"), rows(catalog_db, "product_views")) == (0, 0)
    assert [(event.asset_id, event.reason) for event in told(catalog_db, SourceDeleted)] == [
        (upload.asset_id, "retention")
    ]


def test_a_product_that_is_there_is_never_purged(catalog_db, store, an_asset):
    product_id = with_picture(catalog_db, an_asset(purpose="product"))

    assert purging.purge_deleted(catalog_db) == handlers.remove_due(catalog_db, store) == 0
    assert looked_up(catalog_db, product_id)["views"]


def test_a_picture_that_another_product_shows_stays(catalog_db, store, an_asset):
    upload = an_asset(purpose="product")
    gone, stays = with_picture(catalog_db, upload), with_picture(catalog_db, upload)
    deleted(catalog_db, gone)
    retention_ends(catalog_db, gone)

    purging.purge_deleted(catalog_db)
    handlers.remove_due(catalog_db, store)

    assert store.stat(upload.key) is not None
    assert looked_up(catalog_db, stays)["views"][0]["upload_id"] == upload.asset_id


def test_a_picture_that_was_uploaded_for_something_else_stays(catalog_db, store, an_asset):
    upload = an_asset(purpose="room")
    product_id = with_picture(catalog_db, upload)
    deleted(catalog_db, product_id)
    retention_ends(catalog_db, product_id)

    purging.purge_deleted(catalog_db)
    handlers.remove_due(catalog_db, store)

    assert rows(catalog_db, "product_views") == 0
    assert store.stat(upload.key) is not None


def test_the_image_of_a_view_that_was_made_anew_is_not_the_catalogs_to_delete(catalog_db, store):
    product_id = created(catalog_db)["id"]
    event = a_renewal(product_id)
    for key in (event.renewed_view.key, event.renewed_view.thumbnail_key):
        store.put(key=key, chunks=b"an image", content_type="image/jpeg")
    told_to_catalog(catalog_db, event)
    deleted(catalog_db, product_id)
    retention_ends(catalog_db, product_id)

    purging.purge_deleted(catalog_db)
    handlers.remove_due(catalog_db, store)

    assert rows(catalog_db, "product_views") == 0
    assert store.stat(event.renewed_view.key) is not None
    assert told(catalog_db, SourceDeleted) == []


def test_a_picture_shown_by_several_views_goes_once_with_the_last(catalog_db, store, an_asset):
    upload = an_asset(purpose="product")
    first, second = with_picture(catalog_db, upload), with_picture(catalog_db, upload)
    viewed(catalog_db, second, a_picture(upload, view_type="back"))
    for product_id in (first, second):
        deleted(catalog_db, product_id)
    retention_ends(catalog_db, first, second)

    purging.purge_deleted(catalog_db, limit=1)
    handlers.remove_due(catalog_db, store)
    between = store.stat(upload.key)
    purging.purge_deleted(catalog_db, limit=1)
    handlers.remove_due(catalog_db, store)

    assert between is not None
    assert store.stat(upload.key) is None
    assert len(told(catalog_db, SourceDeleted)) == 1
