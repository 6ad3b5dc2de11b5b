"""What administrators see of the engine over HTTP, and what they give an organization."""

import pytest

from shared.ids import new_id


def test_the_operation_log_has_cost_and_input_for_administrators(client, admin):
    (entry,) = client.get("/v1/admin/operations", headers=admin).json["data"]

    assert (entry["operation_name"], entry["cost_microusd"], entry["status"]) == ("image.stage", 40_000, "completed")
    assert entry["input"]["prompt"] == "Stage it."
    assert entry["context"]["external_id"] == "there"


def test_the_operation_log_is_filtered_and_paged_as_every_list(client, services, admin):
    org_id, job_id = new_id("org"), new_id("job")
    after = "20260131120000000000/op_1/1"
    query = f"org_id={org_id}&job_id={job_id}&provider=fal&status=failed&since=2026-01-31&limit=7&after={after}"

    answer = client.get(f"/v1/admin/operations?{query}", headers=admin)

    assert answer.status_code == 200
    assert services.generation.asked("operation_log") == [
        {
            "org_id": org_id,
            "job_id": job_id,
            "provider": "fal",
            "status": "failed",
            "since": "2026-01-31T00:00:00.000000Z",
            "limit": 7,
            "before": after,
        }
    ]


@pytest.mark.parametrize(
    "query", ["org_id=org_1", "job_id=1", "status=done", "since=yesterday", "limit=201", "before=x", "after=%27"]
)
def test_a_filter_that_makes_no_sense_is_refused(client, admin, query):
    assert client.get(f"/v1/admin/operations?{query}", headers=admin).status_code == 400


def test_the_providers_are_shown_with_their_models(client, admin):
    (provider,) = client.get("/v1/admin/providers", headers=admin).json["data"]

    assert (provider["name"], provider["at_work"], provider["waiting"]) == ("local", 1, 2)
    assert provider["models"][0]["health"]["status"] == "ok"
    assert "key" not in provider


def test_a_share_is_given_whole(client, services, admin, studio, caplog):
    caplog.set_level("INFO")
    path = f"/v1/admin/organizations/{studio[0]}/share"

    weighty = client.put(path, json={"weight": 3, "operations_at_work": 40}, headers=admin)
    usual = client.put(path, json={}, headers=admin)

    assert weighty.json == {
        "org_id": studio[0],
        "weight": 3,
        "operations_at_work": 40,
        "open_generations": None,
    }
    assert (usual.json["weight"], usual.json["operations_at_work"]) == (1, None)
    assert len(services.generation.asked("give_share")) == 2
    assert "share_given" in caplog.text


@pytest.mark.parametrize(
    "body",
    [{"weight": 0}, {"weight": 1001}, {"weight": "2"}, {"weight": None}, {"operations_at_work": -1}, {"more": 1}],
)
def test_a_share_that_makes_no_sense_is_refused(client, services, admin, studio, body):
    answer = client.put(f"/v1/admin/organizations/{studio[0]}/share", json=body, headers=admin)

    assert answer.status_code == 400
    assert services.generation.asked("give_share") == []


def test_an_organization_that_is_none_has_no_share(client, services, admin):
    answer = client.put(f"/v1/admin/organizations/{new_id('org')}/share", json={}, headers=admin)

    assert answer.status_code == 404
    assert services.generation.asked("give_share") == []
