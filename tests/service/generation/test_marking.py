"""Every file of a generated image says what it is, and where an image comes from can be asked for."""

import io
import json
import re
from dataclasses import replace
from typing import Any

import PIL.Image
import pytest
import sqlalchemy as sa

from services.generation import handlers, lineage
from services.generation.engine import Engine
from services.generation.models import Image
from services.generation.operations import Answered, MadeImage
from shared.database import Database
from shared.ids import new_id
from shared.problems import NotFound
from shared.storage import ObjectStore
from tests.fakes import HoldingCredits, ScriptedProvider, small_picture
from tests.service.generation.conftest import a_submission
from tests.service.generation.worker_steps import Worker, execute

ORIENTATION, IMAGE_DESCRIPTION = 0x0112, 0x010E
COMPOSITE = "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"
ALGORITHMIC = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"


@pytest.fixture
def owner() -> dict[str, Any]:
    return {"org_id": new_id("org"), "livemode": True}


class Studio:
    """Makes images of what lies in the store, and hands out what has become of them."""

    def __init__(self, worker: Worker, store: ObjectStore, *, org_id: str) -> None:
        self.worker = worker
        self.store = store
        self.org_id = org_id

    def made_of(self, source_id: str, *, of_words: bool = False, **asset: Any) -> Image:
        """Make an image of what has this id; or, with its order as it is, ``of_words`` alone."""
        key = asset.setdefault("key", f"assets/{self.org_id}/{source_id}.jpg")
        if self.store.stat(key) is None:
            self.store.put(key=key, chunks=small_picture((9, 9, 9)), content_type="image/jpeg")
        asked = a_submission(org_id=self.org_id, assets={source_id: {**asset, "sha256": "0" * 64}})
        asked = replace(asked, inputs={**asked.inputs, "upload_id": source_id, "variants": 1})
        handlers.submit(self.worker.db, HoldingCredits(), self.worker.engine, asked)
        if of_words:
            nothing = "inputs || jsonb_build_object('sources', jsonb_build_array())"
            execute(self.worker.db, f"UPDATE operations SET inputs = {nothing} WHERE status = 'queued'")
        self.worker.send()
        with self.worker.db.transaction() as session:
            return session.scalars(sa.select(Image).where(Image.job_id == asked.job_id)).one()


@pytest.fixture
def studio(generation_db: Database, store: ObjectStore, engine: Engine, owner: dict[str, Any]) -> Studio:
    return Studio(Worker(generation_db, store, engine), store, org_id=owner["org_id"])


def bytes_under(store: ObjectStore, key: str) -> bytes:
    return b"".join(store.open(key))


def words_in(data: bytes) -> str:
    with PIL.Image.open(io.BytesIO(data)) as picture:
        packet = picture.info["xmp"]
    return packet.decode() if isinstance(packet, bytes) else str(packet)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_image_and_thumbnail_say_what_they_are_and_what_they_were_made_of(
    store: ObjectStore, provider: ScriptedProvider, studio: Studio, kind: str
) -> None:
    picture = io.BytesIO()
    PIL.Image.new("RGB", (64, 48), "teal").save(picture, kind)
    made = MadeImage(data=picture.getvalue(), content_type=f"image/{kind.lower()}")
    provider.script = [Answered(images=(made,), model="scripted-1", provenance={"digital_source_type": ALGORITHMIC})]
    upload_id = new_id("ast")

    image = studio.made_of(upload_id)

    for key in (image.key, image.thumbnail_key):
        words = words_in(bytes_under(store, key))
        assert re.search(r'DigitalSourceType="([^"]+)"', words)[1] == ALGORITHMIC  # type: ignore[index]  # or it fails
        assert 'AISystemUsed="local scripted-1"' in words
        assert f'DocumentID="darkroom:{image.id}"' in words
        assert f'documentID="darkroom:{upload_id}"' in words
    measured = store.measure(image.key)
    assert (measured.sha256, measured.bytes, measured.crc32) == (image.sha256, image.bytes, image.crc32)


def test_a_picture_that_decodes_and_follows_no_format_is_encoded_anew_and_not_lost(
    store: ObjectStore, provider: ScriptedProvider, studio: Studio
) -> None:
    # Two bytes of nothing behind its first segment, which decoders skip.
    whole = small_picture((200, 10, 10))
    end = 4 + int.from_bytes(whole[4:6])
    stray = whole[:end] + b"\x00\x00" + whole[end:]
    provider.script = [Answered(images=(MadeImage(data=stray, content_type="image/jpeg"),), model="scripted-1")]

    image = studio.made_of(new_id("ast"))

    assert (image.width, image.height) == (64, 48)
    assert f"darkroom:{image.id}" in words_in(bytes_under(store, image.key))
    assert provider.script == []


def test_a_provider_need_not_say_that_what_it_made_of_a_photo_is_a_composite(
    store: ObjectStore, provider: ScriptedProvider, studio: Studio
) -> None:
    made = MadeImage(data=small_picture((9, 90, 9)), content_type="image/jpeg")
    provider.script = [Answered(images=(made,), model="scripted-1")] * 2

    of_photo, of_words = studio.made_of(new_id("ast")), studio.made_of(new_id("ast"), of_words=True)

    for image, term in ((of_photo, COMPOSITE), (of_words, ALGORITHMIC)):
        assert image.provenance["digital_source_type"] == term
        assert f'DigitalSourceType="{term}"' in words_in(bytes_under(store, image.key))


def test_what_a_vendor_wrote_beside_the_picture_is_not_told_and_what_it_turned_by_that_lies_upright(
    store: ObjectStore, provider: ScriptedProvider, studio: Studio
) -> None:
    said, file = PIL.Image.Exif(), io.BytesIO()
    said[ORIENTATION], said[IMAGE_DESCRIPTION] = 6, "the prompt"
    PIL.Image.new("RGB", (64, 48), "teal").save(file, "JPEG", exif=said, comment="the prompt")
    made = MadeImage(data=file.getvalue(), content_type="image/jpeg")
    provider.script = [Answered(images=(made,), model="scripted-1")]

    image = studio.made_of(new_id("ast"))

    stored = bytes_under(store, image.key)
    with PIL.Image.open(io.BytesIO(stored)) as shown:
        assert (shown.size, image.width, image.height) == ((48, 64), 48, 64)
        assert dict(shown.getexif()) == {}
    assert b"the prompt" not in stored
    assert f"darkroom:{image.id}" in words_in(stored)


def test_what_an_image_comes_from_is_told_back_to_the_upload(
    generation_db: Database, studio: Studio, owner: dict[str, Any]
) -> None:
    upload_id = new_id("ast")
    emptied = studio.made_of(upload_id)
    staged = studio.made_of(emptied.id, key=emptied.key, image_id=emptied.id)

    with generation_db.transaction(**owner) as session:
        found = lineage.of_image(session, **owner, image_id=staged.id)

    assert [(one["id"], one["kind"], one.get("made_of")) for one in found["line"]] == [
        (staged.id, "image", [emptied.id]),
        (emptied.id, "image", [upload_id]),
        (upload_id, "upload", None),
    ]
    assert {one["digital_source_type"] for one in found["line"][:2]} == {ALGORITHMIC}
    assert "prompt" not in found["line"][0]


def test_what_is_deleted_stays_part_of_where_others_come_from_and_is_itself_not_there(
    generation_db: Database, studio: Studio, owner: dict[str, Any]
) -> None:
    emptied = studio.made_of(new_id("ast"))
    staged = studio.made_of(emptied.id, key=emptied.key, image_id=emptied.id)
    with generation_db.transaction() as session:
        session.execute(sa.text("UPDATE images SET deleted_at = now() WHERE id = :id"), {"id": emptied.id})

    with generation_db.transaction(**owner) as session:
        found = lineage.of_image(session, **owner, image_id=staged.id)
        with pytest.raises(NotFound):
            lineage.of_image(session, **owner, image_id=emptied.id)

    assert [(one["id"], one["deleted"]) for one in found["line"][:2]] == [(staged.id, False), (emptied.id, True)]


def made_as_well(db: Database, like: Image, *, image_id: str, position: int, of: list[str]) -> str:
    """Write an image ``like`` another, made of the images ``of`` that were made so before; return its id."""
    operation_id = f"op_{image_id}"
    values = {
        "like": like.id,
        "operation": json.dumps(
            {
                "id": operation_id,
                "position": position,
                "inputs": {"sources": [f"images/{like.org_id}/{one}.1.jpg" for one in of]},
            }
        ),
        "image": json.dumps(
            {
                "id": image_id,
                "operation_id": operation_id,
                "key": f"images/{like.org_id}/{image_id}.1.jpg",
                "thumbnail_key": f"images/{like.org_id}/{image_id}.1.thumb.jpg",
            }
        ),
    }
    with db.transaction() as session:
        session.execute(
            sa.text(
                "INSERT INTO operations SELECT (jsonb_populate_record(o, CAST(:operation AS jsonb))).*"
                " FROM operations o JOIN images i ON i.operation_id = o.id WHERE i.id = :like"
            ),
            values,
        )
        session.execute(
            sa.text(
                "INSERT INTO images SELECT (jsonb_populate_record(i, CAST(:image AS jsonb))).*"
                " FROM images i WHERE i.id = :like"
            ),
            values,
        )
    return image_id


def test_what_is_come_to_by_ever_so_many_ways_is_told_once(
    generation_db: Database, studio: Studio, owner: dict[str, Any]
) -> None:
    first = studio.made_of(new_id("ast"))
    layer = [first.id]
    for number in range(1, 41):  # two to the fortieth ways
        layer = [
            made_as_well(generation_db, first, image_id=new_id("img"), position=10 * number + place, of=layer)
            for place in range(2)
        ]

    with generation_db.transaction(**owner) as session:
        found = lineage.of_image(session, **owner, image_id=layer[-1])["line"]

    assert len(found) == len({one["id"] for one in found}) == 1 + 2 * 39 + 1 + 1
    assert (found[0]["id"], found[-2]["id"]) == (layer[-1], first.id)


def test_an_image_comes_first_although_a_clock_says_that_what_it_is_made_of_is_younger(
    generation_db: Database, studio: Studio, owner: dict[str, Any]
) -> None:
    like = studio.made_of(new_id("ast"))
    ahead = made_as_well(generation_db, like, image_id=f"img_7{'z' * 25}", position=1, of=[])
    image_id = made_as_well(generation_db, like, image_id=new_id("img"), position=2, of=[ahead])

    with generation_db.transaction(**owner) as session:
        found = lineage.of_image(session, **owner, image_id=image_id)["line"]

    assert [one["id"] for one in found] == [image_id, ahead]


@pytest.mark.parametrize("other", [{"org_id": "org_of_another"}, {"livemode": False}])
def test_the_provenance_of_what_is_anothers_is_not_there(
    generation_db: Database, studio: Studio, owner: dict[str, Any], other: dict[str, Any]
) -> None:
    image = studio.made_of(new_id("ast"))
    asker = {**owner, **other}

    with generation_db.transaction(**asker) as session, pytest.raises(NotFound):
        lineage.of_image(session, **asker, image_id=image.id)
