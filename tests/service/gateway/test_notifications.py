"""The inbox, what somebody wants to be told, the way out of mails, and tips, over HTTP."""

from tests.service.gateway.people import join


def test_the_inbox_is_that_of_the_person_who_asks(client, services, studio):
    org_id, headers = studio
    user_id, person = join(client, headers, role="viewer")

    answer = client.get("/v1/notifications?unread=true", headers=person)
    read = client.post("/v1/notifications/read", json={}, headers=person)

    assert answer.json["unread"] == 1
    assert services.notifications.asked("messages") == [
        {"org_id": org_id, "user_id": user_id, "unread": True, "limit": 50, "after": None}
    ]
    assert read.json == {"read": 1, "unread": 0}
    assert services.notifications.asked("mark_read")[0]["user_id"] == user_id


def test_preferences_are_changed_in_part(client, studio):
    _, person = join(client, studio[1])

    changed = client.put("/v1/me/preferences", json={"frequency": "daily_digest"}, headers=person)

    assert changed.status_code == 200
    assert client.get("/v1/me/preferences", headers=person).json == changed.json
    assert (changed.json["frequency"], changed.json["timezone"], changed.json["version"]) == ("daily_digest", "UTC", 1)


def test_quiet_hours_are_read_as_they_are_written(client, services, studio):
    _, person = join(client, studio[1])
    hours = {"from": "22:00", "until": "07:00"}

    changed = client.put("/v1/me/preferences", json={"quiet_hours": hours}, headers=person)

    assert changed.json["quiet_hours"] == hours
    assert services.notifications.asked("change_preferences")[0]["change"] == {"quiet_hours": hours}


def test_what_cannot_be_chosen_is_refused(client, services, studio):
    _, person = join(client, studio[1])

    for body in ({"frequency": "hourly"}, {"email": {"x": True}}, {"email": {"generation_failed": 1}}, {"x": 1}):
        assert client.put("/v1/me/preferences", json=body, headers=person).status_code == 400
    assert services.choices == {}


def test_preferences_are_changed_only_as_they_were_seen(client, studio):
    _, person = join(client, studio[1])
    tag = client.get("/v1/me/preferences", headers=person).headers["ETag"]

    first, second = (
        client.put("/v1/me/preferences", json={"timezone": zone}, headers={**person, "If-Match": tag})
        for zone in ("Europe/Rome", "Europe/Oslo")
    )

    assert (first.status_code, second.status_code) == (200, 412)
    assert second.json["current"]["timezone"] == "Europe/Rome"


def test_the_link_of_a_mail_asks_before_it_switches_anything_off(client, services):
    page = client.get('/v1/unsubscribe?token=good"><script>')

    assert (page.status_code, page.mimetype) == (200, "text/html")
    assert "<script>" not in page.text
    assert 'method="post"' in page.text
    assert services.notifications.calls == []


def test_one_click_switches_mails_off_without_logging_in(client, services):
    page = client.post("/v1/unsubscribe?token=good", data={"List-Unsubscribe": "One-Click"})

    assert page.status_code == 200
    assert "tips" in page.text
    assert services.notifications.asked("unsubscribe") == [{"token": "good"}]


def test_a_token_of_nobody_switches_nothing_off(client):
    answer = client.post("/v1/unsubscribe?token=bad")

    assert (answer.status_code, answer.json["code"]) == (400, "unsubscribe_invalid")


def test_a_tip_is_sent_once_however_often_it_is_asked_for(client, services, admin):
    tip = {"subject": "Rooms with large windows", "paragraphs": ["Take the photo from a corner."]}
    headers = {**admin, "Idempotency-Key": "tip-1"}

    first, again = (client.post("/v1/admin/tips", json=tip, headers=headers) for _ in range(2))

    assert (first.status_code, first.json["mails"]) == (202, 3)
    assert again.json == first.json
    assert len(services.notifications.asked("send_tips")) == 1
