"""A store in a folder, and uploads to put into it."""

import pytest

from services.catalog import handlers
from services.catalog.assets import Upload
from shared.ids import new_id
from shared.storage_folder import FolderStore


@pytest.fixture
def store(tmp_path):
    return FolderStore(tmp_path / "objects")


@pytest.fixture
def an_upload(store):
    """Store bytes as the gateway does and give what it then registers; ``picture`` makes two of them the same."""

    def make(*, org_id="org_first", purpose="room", picture=None, **fields):
        asset_id = new_id("ast")
        pixels = picture or b"the bytes of " + asset_id.encode()
        stored = store.put(key=f"assets/{org_id}/{asset_id}.jpg", chunks=pixels, content_type="image/jpeg")
        return Upload(
            asset_id=asset_id,
            org_id=org_id,
            purpose=purpose,
            key=stored.key,
            sha256=stored.sha256,
            crc32=stored.crc32,
            content_type=stored.content_type,
            bytes=stored.bytes,
            **{"user_id": "usr_1", "livemode": True, "width": 800, "height": 600, **fields},
        )

    return make


@pytest.fixture
def an_asset(catalog_db, an_upload):
    """Register an upload and give it."""

    def make(**fields):
        upload = an_upload(**fields)
        handlers.register_asset(catalog_db, upload)
        return upload

    return make
