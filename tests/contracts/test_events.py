"""Events that lie in queues and logs since last week, or last year, are read by today's code."""

import json
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from shared import events
from shared.ids import is_id

DOCUMENTS = {
    file.stem: json.loads(file.read_text())
    for file in sorted((Path(__file__).parents[2] / "docs" / "events").glob("*.json"))
}
SAMPLES = [
    pytest.param(sample, id=f"{name}-{number}")
    for name, document in DOCUMENTS.items()
    for number, sample in enumerate([document["sample"], *document["earlier_samples"]])
]


def read(sample):
    return events.decode(json.dumps(sample).encode())


def test_every_event_type_has_its_document():
    assert sorted(DOCUMENTS) == sorted(events.types)


@pytest.mark.parametrize("sample", SAMPLES)
def test_an_old_event_is_read_with_every_field_it_had(sample):
    event = read(sample)

    data = json.loads(json.dumps(events.data_of(event), default=_plain))
    assert type(event).__name__ == sample["type"]
    assert {name: data[name] for name in sample["data"]} == sample["data"]


@pytest.mark.parametrize("sample", SAMPLES)
def test_the_envelope_is_read_with_the_data(sample):
    event = read(sample)

    assert event.meta.id == sample["id"]
    assert event.meta.source == sample["source"]
    assert event.meta.correlation_id == sample["correlationid"]
    assert event.meta.causation_id == sample["causationid"]
    assert event.meta.sequence == sample["sequence"]


@pytest.mark.parametrize("sample", SAMPLES)
def test_fields_of_tomorrow_are_ignored(sample):
    grown = {**sample, "extension": 1, "data": {**sample["data"], "field_of_tomorrow": [1, 2]}}

    assert events.data_of(read(grown)) == events.data_of(read(sample))


@pytest.mark.parametrize("sample", SAMPLES)
def test_a_field_that_is_always_there_is_missed(sample):
    required = DOCUMENTS[sample["type"]]["schema"]["required"]
    lacking = {name: value for name, value in sample["data"].items() if name != required[0]}

    with pytest.raises(events.MalformedEvent):
        read({**sample, "data": lacking})


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_sample_fits_its_own_schema_and_names_what_it_is_about(name):
    document = DOCUMENTS[name]
    sample = document["sample"]

    Draft202012Validator(document["schema"]).validate(sample["data"])
    assert sample["subject"] == sample["data"][document["subject"]]
    assert sample["source"] == f"/darkroom/{document['source']}"
    assert is_id(sample["id"], prefix="evt")


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_public_field_is_a_field(name):
    document = DOCUMENTS[name]

    assert set(document["public"]) <= set(document["schema"]["properties"])


@pytest.mark.parametrize("name", DOCUMENTS)
def test_no_event_carries_a_secret_or_an_address_with_a_signature(name):
    names = set(DOCUMENTS[name]["schema"]["properties"])

    assert not {field for field in names if any(word in field for word in ("token", "secret", "url", "api_key"))}


def _plain(value):
    return {field: getattr(value, field) for field in value.__struct_fields__}
