"""Events on the wire: CloudEvents out, tolerant reading in, and nothing internal to the public."""

import json
from collections.abc import Mapping
from typing import Any

import msgspec
import pytest

from shared import events
from shared.events import CreditCaptured, Event, GenerationCompleted, MadeImage, MalformedEvent, UnknownEventType
from tests.service.shared.wire import captured

COMPLETED = GenerationCompleted(
    job_id="job_1",
    generation_id="gen_1",
    line_id="gen_1",
    amount=10,
    org_id="org_1",
    user_id=None,
    workflow="staging",
    images=[MadeImage(image_id="img_1", sha256="0" * 64, bytes=3, width=4, height=5)],
    provider="local",
    model="m",
    duration_ms=12,
    provider_cost_microusd=4000,
)


def on_the_wire(item: Event) -> dict[str, Any]:
    decoded: dict[str, Any] = json.loads(events.encode(item))
    return decoded


def test_an_event_on_the_wire_is_a_structured_cloud_event() -> None:
    item = captured(1)
    assert item.meta

    assert on_the_wire(item) == {
        "specversion": "1.0",
        "id": item.meta.id,
        "source": "/darkroom/credits",
        "type": "CreditCaptured",
        "subject": "line_1",
        "time": item.meta.time,
        "datacontenttype": "application/json",
        "dataschema": "/docs/events/CreditCaptured.json",
        "orgid": "org_1",
        "correlationid": item.meta.correlation_id,
        "data": {
            "reservation_id": "res_1",
            "job_id": "job_1",
            "org_id": "org_1",
            "line_id": "line_1",
            "amount": 10,
            "unit": "credits",
        },
    }


def test_the_time_is_utc_by_rfc_3339() -> None:
    item = captured()
    assert item.meta

    assert item.meta.time.endswith("Z")


@pytest.mark.parametrize("item", [captured(), COMPLETED])
def test_what_was_encoded_is_read_back(item: Event) -> None:
    read = events.decode(events.encode(item))

    assert type(read) is type(item)
    assert events.data_of(read) == events.data_of(item)


def test_the_envelope_is_read_back_with_the_sequence_the_relay_added() -> None:
    item = captured()
    sent = on_the_wire(item)
    sent["sequence"] = "00000000000000000007"

    read = events.decode(json.dumps(sent).encode())

    assert read.meta
    assert item.meta
    assert (read.meta.id, read.meta.correlation_id) == (item.meta.id, item.meta.correlation_id)
    assert (read.meta.source, read.meta.sequence) == ("/darkroom/credits", "00000000000000000007")


def test_fields_added_by_newer_code_are_ignored() -> None:
    sent = on_the_wire(captured())
    sent["newattribute"] = {"a": 1}
    sent["data"]["new_field"] = [1, 2]

    assert events.decode(json.dumps(sent).encode()).meta


def test_optional_fields_older_code_did_not_send_have_their_default() -> None:
    sent = on_the_wire(COMPLETED)
    for name in ("session_id", "product_id", "style"):
        del sent["data"][name]

    read = events.decode(json.dumps(sent).encode())

    assert isinstance(read, GenerationCompleted)
    assert (read.session_id, read.style) == (None, None)


def change(**changes: Any) -> bytes:
    return json.dumps({**on_the_wire(captured()), **changes}).encode()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe",
        b'{"data":' + b"[" * 100_000,
        change(id=None),
        change(id=7),
        change(time=None),
        change(data=None),
        change(data="text"),
        change(data={}),
        change(data={**events.data_of(captured()), "amount": "10"}),
        change(type=None),
    ],
)
def test_what_is_no_event_is_malformed_and_never_another_error(body: bytes) -> None:
    with pytest.raises(MalformedEvent) as refusal:
        events.decode(body)

    assert not isinstance(refusal.value, UnknownEventType)


def test_a_type_nobody_knows_is_told_apart_from_a_malformed_event() -> None:
    with pytest.raises(UnknownEventType, match="CreditVanished"):
        events.decode(change(type="CreditVanished"))


def test_an_event_caused_by_another_is_in_its_story() -> None:
    cause = captured()
    assert cause.meta

    meta = events.caused_by(cause)

    assert (meta.correlation_id, meta.causation_id) == (cause.meta.correlation_id, cause.meta.id)
    assert meta.id not in {cause.meta.id, ""}


def test_internal_fields_are_not_public() -> None:
    public = events.public_fields(GenerationCompleted)

    assert set(public) == set(events.data_of(COMPLETED)) - {"provider_cost_microusd", "renewed_view"}


@pytest.mark.parametrize("kind", events.types.values(), ids=lambda kind: kind.__name__)
def test_every_type_has_a_source_a_subject_among_its_fields_and_a_schema(kind: type[Event]) -> None:
    schema: Mapping[str, Any] = events.schema_of(kind)

    assert kind.SOURCE in {"gateway", "credits", "generation", "catalog", "downloads", "notifications"}
    assert kind.SUBJECT in kind.__struct_fields__
    assert set(schema["properties"]) == set(kind.__struct_fields__) - {"meta"}
    assert kind.__doc__


@pytest.mark.parametrize("kind", events.types.values(), ids=lambda kind: kind.__name__)
def test_every_field_of_a_public_type_is_deliberately_public_or_internal(kind: type[Event]) -> None:
    internal = set(kind.__struct_fields__) - set(events.public_fields(kind)) - {"meta"}

    a_name_or_where_bytes_lie = {"inviter", "renewed_view"}
    assert all("cost" in name or "email" in name for name in internal - a_name_or_where_bytes_lie)
    assert not any("cost" in name or "email" in name for name in events.public_fields(kind))


def test_events_cannot_be_changed_after_they_were_made() -> None:
    with pytest.raises(AttributeError):
        captured().amount = 7  # type: ignore[misc]  # that it is refused is the test


def test_the_envelope_is_no_part_of_the_data() -> None:
    assert "meta" not in events.data_of(captured())
    assert "meta" not in msgspec.json.decode(events.encode(captured()))["data"]
    assert isinstance(captured(), CreditCaptured)
