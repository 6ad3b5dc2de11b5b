"""What may change in an event's document, and what would break its readers."""

import copy

import pytest

from shared import events
from shared.event_samples import sample_of
from shared.events import CreditReserved, GenerationCompleted, ReservationOverdue
from tools.event_documents import breaches, document_of


def changed(document, change):
    other = copy.deepcopy(document)
    change(other)
    return other


@pytest.fixture
def stored():
    return document_of(CreditReserved, stored=None)


def test_a_type_that_stays_as_it_is_breaks_nothing(stored):
    assert breaches(stored, document_of(CreditReserved, stored=stored)) == []


def test_a_new_field_with_a_default_breaks_nothing(stored):
    def add(document):
        document["schema"]["properties"]["note"] = {"type": "string", "default": ""}

    assert breaches(stored, changed(stored, add)) == []


def test_another_description_breaks_nothing(stored):
    def describe(document):
        document["schema"]["properties"]["amount"]["description"] = "how much"

    assert breaches(stored, changed(stored, describe)) == []


def test_a_field_that_was_removed_is_named(stored):
    now = changed(stored, lambda document: document["schema"]["properties"].pop("amount"))

    assert breaches(stored, now) == ["CreditReserved: amount was removed"]


def test_a_field_of_another_type_is_named(stored):
    def retype(document):
        document["schema"]["properties"]["amount"] = {"type": "string"}

    assert breaches(stored, changed(stored, retype)) == ["CreditReserved: amount has another type"]


def test_a_field_inside_a_value_is_watched_too(stored):
    now = changed(stored, lambda document: document["schema"]["$defs"]["HeldLine"]["properties"].pop("sku"))

    assert breaches(stored, now) == ["CreditReserved: HeldLine.sku was removed"]


def test_a_new_field_without_a_default_cannot_be_read_from_old_events(stored):
    def demand(document):
        document["schema"]["properties"]["note"] = {"type": "string"}
        document["schema"]["required"].append("note")

    (breach,) = breaches(stored, changed(stored, demand))

    assert breach.startswith("CreditReserved: note is new and has no default")


def test_a_field_that_may_be_missing_from_now_on_is_named(stored):
    now = changed(stored, lambda document: document["schema"]["required"].remove("amount"))

    assert breaches(stored, now) == ["CreditReserved: amount is no longer always there"]


def test_an_event_that_moves_to_another_exchange_is_named(stored):
    now = changed(stored, lambda document: document.update(source="gateway"))

    assert breaches(stored, now) == ["CreditReserved: it moved from credits to gateway"]


def test_the_sample_of_before_is_kept_when_a_type_grows(stored):
    before = changed(stored, lambda document: document["sample"]["data"].pop("version"))

    now = document_of(CreditReserved, stored=before)

    assert now["earlier_samples"] == [before["sample"]]
    assert document_of(CreditReserved, stored=now)["earlier_samples"] == [before["sample"]]


def test_what_a_provider_costs_is_no_public_field():
    document = document_of(GenerationCompleted, stored=None)

    assert "provider_cost_microusd" in document["schema"]["properties"]
    assert "provider_cost_microusd" not in document["public"]


def test_an_internal_event_has_no_public_field():
    assert document_of(ReservationOverdue, stored=None)["public"] == []


@pytest.mark.parametrize("name", sorted(events.types))
def test_a_sample_is_the_same_every_time(name):
    assert sample_of(events.types[name]) == sample_of(events.types[name])
