"""What an organization reads of its credits: history, receipts, usage, plans."""

import csv
import io

import pytest

from shared.ids import new_id
from shared.problems import NotFound, Unavailable

CSV = "/v1/credits/entries.csv"
NO_FILTER = dict.fromkeys(("product", "job", "generation", "session", "kind", "unit", "since", "until"))


@pytest.fixture
def org_id(studio):
    return studio[0]


@pytest.fixture
def headers(studio):
    return studio[1]


@pytest.fixture
def a_job(client, headers, org_id, a_staging):
    return client.post("/v1/stagings", json=a_staging(org_id), headers={**headers, "Idempotency-Key": "k"}).json


@pytest.fixture
def given_entries(services):
    """Let credits have these entries; its pages are as long as is asked for, and their cursors are theirs."""

    def give(entries):
        def page(*, limit, after, **_filters):
            start = 0 if after is None else 1 + [entry["id"] for entry in entries].index(after)
            data = entries[start : start + limit]
            more = start + limit < len(entries)
            return {"data": data, "has_more": more, "next_cursor": data[-1]["id"] if more else None}

        services.credits.methods["entries"] = page

    return give


def an_entry(number=1, **fields):
    return {
        "id": f"job_1/gen_{number}/hold",
        "kind": "hold",
        "unit": "credits",
        "amount": -10,
        "held": 10,
        "available_before": 100,
        "available_after": 90,
        "version": number,
        "created_at": "2026-11-20T10:00:00.000Z",
        "provider_cost": 3,
        **fields,
    }


def rows_of(answer):
    return list(csv.reader(io.StringIO(answer.data.decode("utf-8"), newline="")))


def test_the_history_can_be_narrowed_in_every_way(client, headers, services, org_id):
    query = (
        "product=staging&job=job_1&generation=gen_1&session=ses_1&kind=hold&unit=plan_generations"
        "&since=2026-11-01&until=2026-11-20T10:30:00%2B01:00&limit=5&after=job_1/gen_1/hold"
    )

    answer = client.get(f"/v1/credits/entries?{query}", headers=headers)

    assert answer.json["data"][0]["available_after"] == 100
    [asked] = services.credits.asked("entries")
    assert asked == {
        "org_id": org_id,
        "product": "staging",
        "job": "job_1",
        "generation": "gen_1",
        "session": "ses_1",
        "kind": "hold",
        "unit": "plan_generations",
        "since": "2026-11-01T00:00:00.000000Z",
        "until": "2026-11-20T09:30:00.000000Z",
        "limit": 5,
        "after": "job_1/gen_1/hold",
    }


def test_the_cursor_of_a_page_leads_to_the_next(client, headers, given_entries):
    given_entries([an_entry(number) for number in range(5)])

    first = client.get("/v1/credits/entries?limit=3", headers=headers).json
    second = client.get(f"/v1/credits/entries?limit=3&after={first['next_cursor']}", headers=headers).json

    assert [entry["version"] for entry in first["data"] + second["data"]] == [0, 1, 2, 3, 4]
    assert "provider_cost" not in first["data"][0]


@pytest.mark.parametrize("path", ["/v1/credits/entries", CSV])
def test_the_history_of_an_image_is_that_of_its_generation(client, headers, services, org_id, a_job, path):
    services.finish(a_job["id"])
    [image] = services.images.values()

    client.get(f"{path}?image={image['id']}", headers=headers)

    [asked] = services.credits.asked("entries")
    assert (asked["org_id"], asked["generation"]) == (org_id, image["generation_id"])
    assert "image" not in asked


@pytest.mark.parametrize("image_id", [new_id("img"), new_id("job"), "1", ""])
def test_the_history_of_an_image_that_is_not_there_is_not_there(client, headers, services, image_id):
    answer = client.get(f"/v1/credits/entries?image={image_id}", headers=headers)

    assert answer.status_code == 404
    assert services.credits.asked("entries") == []


@pytest.mark.parametrize("path", ["/v1/credits/entries", CSV, "/v1/usage"])
@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ("since=yesterday", "/query/since"),
        ("until=2026-11-31", "/query/until"),
        ("since=2026-11-20T10:00:00", "/query/since"),
        ("since=2026-11-20T10:00:00+01:00", "/query/since"),
        ("since=", "/query/since"),
        ("since=2026-11-02&until=2026-11-01", "/query/until"),
        ("since=2026-11-01T10:00:00Z&until=2026-11-01T10:00:00Z", "/query/until"),
        ("since=2026-11-01&since=2026-11-02", "/query/since"),
    ],
)
def test_a_period_that_is_none_is_refused(client, headers, services, path, query, pointer):
    answer = client.get(f"{path}?{query}", headers=headers)

    assert answer.status_code == 400
    assert [error["pointer"] for error in answer.json["errors"]] == [pointer]
    assert services.credits.calls[1:] == []


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ("kind=gift", "/query/kind"),
        ("unit=euros", "/query/unit"),
        ("job=%27", "/query/job"),
        ("image=img_1&generation=gen_1", "/query/image"),
        ("limit=1_0", "/query/limit"),
        ("limit=%2B5", "/query/limit"),
        ("organization=org_1", "/query/organization"),
    ],
)
def test_a_filter_that_makes_no_sense_is_refused(client, headers, query, pointer):
    answer = client.get(f"/v1/credits/entries?{query}", headers=headers)

    assert answer.status_code == 400
    assert [error["pointer"] for error in answer.json["errors"]] == [pointer]


def test_the_file_has_every_entry_once_below_one_header(client, headers, services, org_id, given_entries):
    given_entries([an_entry(number) for number in range(450)])

    answer = client.get(f"{CSV}?kind=hold", headers=headers)

    assert answer.headers["Content-Type"] == "text/csv; charset=utf-8; header=present"
    assert answer.headers["Content-Disposition"] == 'attachment; filename="credits-entries.csv"'
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert "Content-Length" not in answer.headers
    header, *rows = rows_of(answer)
    assert header[:5] == ["id", "created_at", "kind", "unit", "amount"]
    assert "provider_cost" not in header
    assert [row[header.index("version")] for row in rows] == [str(number) for number in range(450)]
    assert answer.data.count(b"\r\n") == 451
    assert [asked["after"] for asked in services.credits.asked("entries")] == [
        None,
        "job_1/gen_199/hold",
        "job_1/gen_399/hold",
    ]
    for asked in services.credits.asked("entries"):
        assert {**asked, "after": None} == {**NO_FILTER, "org_id": org_id, "limit": 200, "after": None, "kind": "hold"}


def test_an_empty_history_is_a_header(client, headers, given_entries):
    given_entries([])

    assert len(rows_of(client.get(CSV, headers=headers))) == 1


def test_the_file_is_made_page_by_page_while_it_is_sent(client, headers, services, given_entries):
    given_entries([an_entry(number) for number in range(1000)])

    answer = client.get(CSV, headers=headers)
    pieces = answer.iter_encoded()
    asked = []
    for _ in range(3):
        next(pieces)
        asked.append(len(services.credits.asked("entries")))
    answer.close()

    assert asked == [1, 2, 3]
    assert len(services.credits.asked("entries")) == 3


@pytest.mark.parametrize(
    "text",
    [
        *["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", '=HYPERLINK("http://a","b")', "-", "==", "=\n"],
        *["\uff1d1", "\uff0b1", "\uff0d1", "\uff20SUM(A1)"],
    ],
)
def test_no_cell_is_a_formula(client, headers, given_entries, text):
    given_entries([an_entry(reason=text, actor=text, session_id=text)])

    header, row = rows_of(client.get(CSV, headers=headers))

    entry = dict(zip(header, row, strict=True))
    assert [entry["reason"], entry["actor"], entry["session_id"]] == [f"'{text}"] * 3


@pytest.mark.parametrize("text", ["a, b", 'say "a"', "two\nlines", "two\r\nlines", "1=1", " =1", "'", "größer 好", ""])
def test_every_other_text_comes_through_as_it_is(client, headers, given_entries, text):
    given_entries([an_entry(reason=text)])

    header, row = rows_of(client.get(CSV, headers=headers))

    assert row[header.index("reason")] == text


def test_numbers_stay_numbers_and_nothing_stays_empty(client, headers, given_entries):
    given_entries([an_entry(amount=-20, available_after=None, job_id=None)])

    header, row = rows_of(client.get(CSV, headers=headers))

    entry = dict(zip(header, row, strict=True))
    assert (entry["amount"], entry["available_after"], entry["job_id"]) == ("-20", "", "")


def test_a_file_that_cannot_be_begun_is_refused(client, headers, services):
    services.credits.down = True

    answer = client.get(CSV, headers=headers)

    assert (answer.status_code, answer.json["code"]) == (503, "service_unavailable")


def test_a_file_that_cannot_be_completed_breaks_off(client, headers, services, given_entries):
    given_entries([an_entry(number) for number in range(300)])
    answer = client.get(CSV, headers=headers)

    services.credits.down = True

    with pytest.raises(Unavailable):
        answer.get_data()


def test_the_file_has_a_head(client, headers, services, given_entries):
    given_entries([an_entry(number) for number in range(300)])

    answer = client.head(CSV, headers=headers)

    assert (answer.status_code, answer.mimetype, answer.data) == (200, "text/csv", b"")
    assert len(services.credits.asked("entries")) == 1


def test_a_receipt_shows_a_jobs_money_line_by_line(client, headers, services, org_id, a_job):
    answer = client.get(f"/v1/jobs/{a_job['id']}/receipt?limit=7", headers=headers)

    receipt = answer.json
    assert (receipt["job_id"], receipt["reservation_id"], receipt["closed"]) == (a_job["id"], "rsv_1", True)
    sums = receipt["totals"]["credits"]
    assert sums["held"] == sums["charged"] + sums["refunded"] + sums["returned"] + sums["open"]
    [line] = receipt["lines"]["data"]
    assert line["grants"] == [{"grant_id": "g", "kind": "purchased", "amount": 10}]
    assert "cost_microusd" not in line
    assert services.credits.asked("receipt") == [{"org_id": org_id, "job_id": a_job["id"], "limit": 7, "after": None}]


@pytest.mark.parametrize(("status", "closed"), [("paused", False), ("rejected", True)])
def test_a_job_that_nothing_was_held_for_has_a_receipt_of_zeros(client, headers, services, a_job, status, closed):
    def receipt(**_):
        raise NotFound("Nothing was ever held for this job.")

    services.credits.methods["receipt"] = receipt
    services.jobs[a_job["id"]]["status"] = status

    answer = client.get(f"/v1/jobs/{a_job['id']}/receipt", headers=headers)

    assert answer.status_code == 200
    assert (answer.json["job_id"], answer.json["workflow"]) == (a_job["id"], "staging")
    assert (answer.json["closed"], answer.json["totals"], answer.json["lines"]["data"]) == (closed, {}, [])


def test_a_receipt_of_a_job_that_is_not_there_is_not_there(client, headers):
    assert client.get(f"/v1/jobs/{new_id('job')}/receipt", headers=headers).status_code == 404


def test_a_receipt_needs_credits_to_answer(client, headers, services, a_job):
    services.credits.down = True

    assert client.get(f"/v1/jobs/{a_job['id']}/receipt", headers=headers).status_code == 503


def test_usage_comes_by_day_and_workflow(client, headers, services, org_id):
    answer = client.get("/v1/usage?since=2026-11-01&until=2026-11-30", headers=headers)

    [day] = answer.json["data"]
    assert (day["day"], day["workflow"], day["generations"]) == ("2026-01-01", "staging", 3)
    assert answer.json["totals"] == {"generations": 3, "failed": 1, "credits": 20, "plan_generations": 0}
    assert services.credits.asked("usage") == [
        {"org_id": org_id, "since": "2026-11-01T00:00:00.000000Z", "until": "2026-12-01T00:00:00.000000Z"}
    ]


def test_usage_without_a_period_is_left_to_credits(client, headers, services, org_id):
    client.get("/v1/usage", headers=headers)

    assert services.credits.asked("usage") == [{"org_id": org_id, "since": None, "until": None}]


def test_an_organization_may_read_the_plans_and_change_its_own(client, headers, services, org_id):
    plans = client.get("/v1/plans", headers=headers)
    answer = client.put("/v1/plan", json={"plan": "team"}, headers=headers)

    assert plans.json["data"][0] == {"name": "free", "monthly_generations": 100, "price_usd_cents": 0}
    assert (answer.status_code, answer.json["plan"]) == (200, "team")
    [asked] = services.credits.asked("change_plan")
    assert (asked["org_id"], asked["plan"]) == (org_id, "team")
    assert asked["actor"].startswith("usr_")


@pytest.mark.parametrize(
    "body", [{}, {"plan": "gold"}, {"plan": "Free"}, {"plan": None}, {"plan": "pro", "price_usd_cents": 0}]
)
def test_a_plan_that_there_is_not_is_refused(client, headers, services, body):
    assert client.put("/v1/plan", json=body, headers=headers).status_code == 400
    assert services.plans == {}
