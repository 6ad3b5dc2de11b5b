"""Who is told what, through which channel: people, inboxes, preferences and the mails that follow from them."""

import itertools
import time
from functools import partial

import pytest
import sqlalchemy as sa

from services.notifications import choosing, inbox, people, preferences, telling
from services.notifications.choosing import UnsubscribeInvalid
from shared import events, tokens
from shared.events import (
    MemberChanged,
    MemberInvited,
    MemberJoined,
    MemberRemoved,
    Meta,
    OrganizationCreated,
    PasswordResetRequested,
    QuotaThresholdReached,
    WebhookEndpointDisabled,
)
from shared.ids import new_id
from shared.problems import BadRequest, PreconditionFailed
from tests.polling import until
from tests.service.notifications.mails import SECRET, MailServer, mailing_by, rows, statuses
from tests.service.notifications.told import batch, finished

SOON = "2131-05-08T14:30:00Z"
_numbers = itertools.count(1)


@pytest.fixture
def org_id():
    return new_id("org")


def numbered():
    """Return the meta of the next event of the gateway."""
    return Meta(id=new_id("evt"), time="2031-05-01T12:00:00Z", sequence=f"{next(_numbers):020d}")


def invited(org_id, user_id, *, email, **fields):
    known = {"role": "editor", "invited_by": "usr_0", "inviter_name": "Ada", "organization_name": "Engines"}
    return MemberInvited(
        meta=numbered(),
        org_id=org_id,
        user_id=user_id,
        invitation_id=new_id("inv"),
        expires_at=SOON,
        email=email,
        **{**known, **fields},
    )


def joined(org_id, user_id, *, email, role="editor", name="Grace Hopper"):
    moment = "2031-05-01T12:00:00Z"
    return MemberJoined(
        meta=numbered(), org_id=org_id, user_id=user_id, role=role, name=name, joined_at=moment, email=email
    )


def removed(org_id, user_id):
    return MemberRemoved(meta=numbered(), org_id=org_id, user_id=user_id, role="editor", removed_by="usr_0")


def changed_role(org_id, user_id, role):
    return MemberChanged(
        meta=numbered(), org_id=org_id, user_id=user_id, role=role, previous_role="editor", changed_by="usr_0"
    )


def hear(db, *items):
    db.once(batch(*items, consumer="notifications.on_people"), partial(telling.keep_people, db))


def tell(db, *items):
    db.once(batch(*items, consumer="notifications.on_news"), partial(telling.tell, db))


def a_member(db, org_id, *, role="editor", email=None):
    user_id = new_id("usr")
    hear(db, joined(org_id, user_id, email=email or f"{user_id}@example.com", role=role))
    return user_id


def messages(db, org_id, user_id, **asked):
    with db.transaction(org_id=org_id) as session:
        return inbox.messages(session, org_id=org_id, user_id=user_id, **asked)


def person(db, org_id, user_id):
    with db.transaction(org_id=org_id) as session:
        row = session.execute(
            sa.text("SELECT email, name, role, status FROM people WHERE user_id = :id"), {"id": user_id}
        ).one_or_none()
        return row and tuple(row)


def choose(db, org_id, user_id, **change):
    return choosing.change(db, org_id=org_id, user_id=user_id, change=change)


# --- people -----------------------------------------------------------------------------------------------------


def test_people_come_to_be_known_by_the_gateways_events(notifications_db, org_id):
    owner, member = new_id("usr"), new_id("usr")
    hear(
        notifications_db,
        OrganizationCreated(meta=numbered(), org_id=org_id, name="Engines", owner_id=owner, plan="pro"),
        invited(org_id, member, email="grace@example.com"),
    )
    before = person(notifications_db, org_id, member)
    hear(notifications_db, joined(org_id, member, email="grace@example.com"))
    hear(notifications_db, changed_role(org_id, member, "viewer"))

    assert person(notifications_db, org_id, owner) == (None, None, "owner", "active")
    assert before == ("grace@example.com", None, "editor", "invited")
    assert person(notifications_db, org_id, member) == ("grace@example.com", "Grace Hopper", "viewer", "active")
    with notifications_db.transaction(org_id=org_id) as session:
        assert people.organization_name(session, org_id=org_id) == "Engines"


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))))
def test_events_about_a_person_lead_to_the_same_in_any_order(notifications_db, org_id, order):
    user_id = new_id("usr")
    story = [
        invited(org_id, user_id, email="old@example.com"),
        changed_role(org_id, user_id, "viewer"),
        joined(org_id, user_id, email="new@example.com", role="viewer"),
        changed_role(org_id, user_id, "owner"),
    ]

    for number in order:
        hear(notifications_db, story[number])

    assert person(notifications_db, org_id, user_id) == ("new@example.com", "Grace Hopper", "owner", "active")


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_whoever_was_removed_stays_so_and_their_address_is_forgotten(notifications_db, org_id, order):
    user_id = new_id("usr")
    story = [
        invited(org_id, user_id, email="g@example.com"),
        joined(org_id, user_id, email="g@example.com"),
        removed(org_id, user_id),
    ]

    for number in order:
        hear(notifications_db, story[number])

    assert person(notifications_db, org_id, user_id) == (None, "Grace Hopper", "editor", "removed")
    assert set(statuses(notifications_db)) <= {"cancelled"}


def test_somebody_who_was_removed_and_comes_back_is_told_things_again(notifications_db, org_id):
    user_id = a_member(notifications_db, org_id)
    hear(notifications_db, removed(org_id, user_id))
    hear(notifications_db, invited(org_id, user_id, email="back@example.com"))

    assert person(notifications_db, org_id, user_id)[0] == "back@example.com"
    assert statuses(notifications_db) == ["pending"]


# --- invitations and resets -------------------------------------------------------------------------------------


def test_an_invitation_is_mailed_once_and_no_row_has_its_token(notifications_db, org_id, tmp_path):
    event = invited(org_id, new_id("usr"), email="grace@example.com")
    hear(notifications_db, event)
    hear(notifications_db, event)

    folder = tmp_path / "taken"
    folder.mkdir()
    with MailServer(folder).running() as server, mailing_by(notifications_db, server.transport()):
        until(lambda: statuses(notifications_db) == ["sent"])
    (taken,) = server.taken()

    body = taken["message"].get_body(("plain",)).get_content()
    token = body.partition("/signup?token=")[2].split()[0]
    read = tokens.read(token, secret=SECRET, purpose=tokens.INVITATION, now=time.time())
    assert read == event.invitation_id
    with notifications_db.transaction() as session:
        kept = " ".join(session.scalars(sa.text("SELECT mails::text FROM mails UNION ALL SELECT body FROM outbox")))
    assert token not in kept
    assert token.rpartition(".")[2] not in kept


def test_a_link_for_a_new_password_is_mailed_and_put_before_all_else(notifications_db, org_id):
    reset = PasswordResetRequested(
        meta=numbered(),
        org_id=org_id,
        user_id=new_id("usr"),
        reset_id=new_id("pwr"),
        expires_at=SOON,
        email="grace@example.com",
    )

    for _ in range(2):
        notifications_db.once(batch(reset), partial(telling.send_resets, notifications_db))

    assert rows(notifications_db, "kind, recipient, priority") == [("password_reset", "grace@example.com", 0)]


# --- inboxes ----------------------------------------------------------------------------------------------------


def test_whoever_asked_for_a_job_is_told_of_its_end_once_in_each_channel(notifications_db, org_id):
    user_id, other = a_member(notifications_db, org_id), a_member(notifications_db, org_id, role="owner")
    done = finished(org_id, user_id=user_id, session_name="Elm Street 4", session_id="ses_1")
    told_again = events.with_meta(done, events.correlated("req_2"))

    tell(notifications_db, done, done)
    tell(notifications_db, told_again)

    (message,) = messages(notifications_db, org_id, user_id)["data"]
    assert message["text"] == "Staging session 'Elm Street 4' complete! 2 of 2 images generated."
    assert (message["job_id"], message["session_id"], message["read_at"]) == (done.job_id, "ses_1", None)
    assert messages(notifications_db, org_id, other)["data"] == []
    assert rows(notifications_db) == [("generation_completed", f"{user_id}@example.com", "pending")]


def test_a_job_of_nobody_in_particular_is_told_to_the_owners(notifications_db, org_id):
    owner, _editor = a_member(notifications_db, org_id, role="owner"), a_member(notifications_db, org_id)

    tell(notifications_db, finished(org_id, user_id=None))

    assert [recipient for _, recipient, _ in rows(notifications_db)] == [f"{owner}@example.com"]


def test_somebody_whose_address_is_not_known_finds_it_in_the_inbox(notifications_db, org_id):
    user_id = new_id("usr")

    tell(notifications_db, finished(org_id, user_id=user_id))

    assert len(messages(notifications_db, org_id, user_id)["data"]) == 1
    assert rows(notifications_db) == []


def test_a_low_quota_is_told_to_those_who_can_upgrade_once_a_period(notifications_db, org_id):
    members = [
        a_member(notifications_db, org_id, role=role) for role in ("owner", "owner", "owner", "editor", "viewer")
    ]
    hear(notifications_db, removed(org_id, members[1]))
    choose(notifications_db, org_id, members[2], browser={"low_quota_warning": False})

    for _ in range(2):
        tell(
            notifications_db,
            QuotaThresholdReached(
                meta=numbered(),
                org_id=org_id,
                percent=80,
                used=80,
                limit=100,
                period_start="2031-05-01T00:00:00Z",
                resets_at="2031-06-01T00:00:00Z",
            ),
        )

    told = [len(messages(notifications_db, org_id, user_id)["data"]) for user_id in members]
    assert told == [1, 0, 0, 0, 0]
    assert "Upgrade your plan" in messages(notifications_db, org_id, members[0])["data"][0]["text"]
    assert [recipient for kind, recipient, _ in rows(notifications_db) if kind == "low_quota"] == [
        f"{members[0]}@example.com"
    ]


def test_a_disabled_endpoint_is_mailed_to_the_owners_whatever_they_prefer(notifications_db, org_id):
    owner = a_member(notifications_db, org_id, role="owner")
    off = {"generation_completed": False, "generation_failed": False}
    choose(notifications_db, org_id, owner, email=off, frequency="daily_digest")

    tell(notifications_db, WebhookEndpointDisabled(meta=numbered(), endpoint_id="whe_1", org_id=org_id, reason="gone"))

    assert ("webhook_disabled", f"{owner}@example.com", "pending") in rows(notifications_db)


def test_messages_are_read_one_by_one_or_all_and_counted(notifications_db, org_id):
    user_id = new_id("usr")
    tell(notifications_db, *[finished(org_id, user_id=user_id) for _ in range(4)])
    first, *rest = messages(notifications_db, org_id, user_id)["data"]
    asked = {"org_id": org_id, "user_id": user_id}

    assert messages(notifications_db, org_id, user_id)["unread"] == 4
    assert inbox.mark_read(notifications_db, **asked, ids=[first["id"]]) == {"read": 1, "unread": 3}
    assert inbox.mark_read(notifications_db, **asked, ids=[first["id"]]) == {"read": 0, "unread": 3}
    unread = messages(notifications_db, org_id, user_id, unread=True)["data"]
    assert [each["id"] for each in unread] == [each["id"] for each in rest]
    assert inbox.mark_read(notifications_db, **asked, up_to=rest[1]["id"])["unread"] == 1
    assert inbox.mark_read(notifications_db, **asked) == {"read": 1, "unread": 0}
    with pytest.raises(BadRequest):
        inbox.mark_read(notifications_db, **asked, ids=["ntf"] * 201)


def test_messages_come_newest_first_in_pages(notifications_db, org_id):
    user_id = new_id("usr")
    for _ in range(3):
        tell(notifications_db, finished(org_id, user_id=user_id))
        time.sleep(0.002)  # ids made within one millisecond have no order

    first = messages(notifications_db, org_id, user_id, limit=2)
    second = messages(notifications_db, org_id, user_id, limit=2, after=first["next_cursor"])

    found = [each["id"] for page in (first, second) for each in page["data"]]
    assert found == sorted(found, reverse=True)
    assert len(found) == 3


def test_nobody_reads_or_marks_what_is_anothers(notifications_db, org_id):
    user_id, colleague, stranger_org = new_id("usr"), new_id("usr"), new_id("org")
    tell(notifications_db, finished(org_id, user_id=user_id))
    (message,) = messages(notifications_db, org_id, user_id)["data"]

    for org, user in ((org_id, colleague), (stranger_org, user_id)):
        assert messages(notifications_db, org, user)["data"] == []
        asked = {"org_id": org, "user_id": user, "ids": [message["id"]]}
        assert inbox.mark_read(notifications_db, **asked)["read"] == 0
    with notifications_db.transaction(org_id=stranger_org) as session:
        for table in ("messages", "mails", "people", "preferences", "organizations"):
            assert session.scalar(sa.text(f"SELECT count(*) FROM {table}")) == 0

    assert messages(notifications_db, org_id, user_id)["unread"] == 1


# --- preferences ------------------------------------------------------------------------------------------------


def test_a_channel_that_is_off_stays_silent(notifications_db, org_id):
    user_id = a_member(notifications_db, org_id)
    choose(notifications_db, org_id, user_id, browser={"generation_completed": False})
    tell(notifications_db, finished(org_id, user_id=user_id))
    choose(notifications_db, org_id, user_id, email={"generation_completed": False})
    tell(notifications_db, finished(org_id, user_id=user_id))

    assert messages(notifications_db, org_id, user_id)["data"] == []
    assert [kind for kind, _, _ in rows(notifications_db)] == [
        "preferences_updated",
        "generation_completed",
        "preferences_updated",
    ]


def test_a_change_is_kept_and_told_by_mail_once(notifications_db, org_id):
    user_id = a_member(notifications_db, org_id)

    changed = choose(notifications_db, org_id, user_id, email={"weekly_usage_summary": True})
    again = choose(notifications_db, org_id, user_id, email={"weekly_usage_summary": True})

    with notifications_db.transaction(org_id=org_id) as session:
        assert preferences.one(session, org_id=org_id, user_id=user_id) == changed == again
    assert changed["email"]["weekly_usage_summary"] is True
    assert rows(notifications_db) == [("preferences_updated", f"{user_id}@example.com", "pending")]


def test_a_change_that_cannot_be_chosen_changes_nothing(notifications_db, org_id):
    user_id = a_member(notifications_db, org_id)

    with pytest.raises(BadRequest):
        choose(notifications_db, org_id, user_id, frequency="hourly")

    with notifications_db.transaction(org_id=org_id) as session:
        assert preferences.one(session, org_id=org_id, user_id=user_id) == {
            **preferences.with_defaults({}),
            "version": 0,
        }
    assert rows(notifications_db) == []


def test_in_quiet_hours_mails_wait_and_messages_and_what_is_urgent_do_not(notifications_db, org_id):
    owner = a_member(notifications_db, org_id, role="owner")
    choose(notifications_db, org_id, owner, quiet_hours={"from": "00:01", "until": "00:00"})

    tell(notifications_db, finished(org_id, user_id=owner))
    tell(notifications_db, WebhookEndpointDisabled(meta=numbered(), endpoint_id="whe_1", org_id=org_id, reason="gone"))

    waits = dict(rows(notifications_db, "kind, due_at > now() + interval '1 second'"))
    minute_of_midnight = time.strftime("%H:%M", time.gmtime()) == "00:00"
    assert waits["generation_completed"] is not minute_of_midnight
    assert waits["webhook_disabled"] is False
    assert messages(notifications_db, org_id, owner)["unread"] == 2


# --- unsubscribing ----------------------------------------------------------------------------------------------


def link_of(db):
    """Return the token in the link of the newest mail."""
    *_, (mail_id,) = rows(db, "id")
    end = int(time.time()) + 100
    return tokens.mint(secret=SECRET, purpose=tokens.UNSUBSCRIBE, subject=mail_id, expires_at=end)


def test_one_click_switches_off_the_kind_of_mail_it_came_with(notifications_db, org_id):
    user_id = a_member(notifications_db, org_id)
    tell(notifications_db, finished(org_id, user_id=user_id))
    token = link_of(notifications_db)

    answers = [choosing.unsubscribe(notifications_db, token=token, secret=SECRET) for _ in range(2)]
    tell(notifications_db, finished(org_id, user_id=user_id))

    assert answers == [{"kinds": ["generation_completed"]}] * 2
    assert len(rows(notifications_db)) == 1
    assert len(messages(notifications_db, org_id, user_id)["data"]) == 2


@pytest.mark.parametrize(
    "spoil", [lambda token: token[:-1] + ("A" if token[-1] != "A" else "B"), lambda _: "", lambda _: "eml_1.2.3"]
)
def test_a_token_that_was_altered_switches_nothing_off(notifications_db, org_id, spoil):
    user_id = a_member(notifications_db, org_id)
    tell(notifications_db, finished(org_id, user_id=user_id))

    with pytest.raises(UnsubscribeInvalid):
        choosing.unsubscribe(notifications_db, token=spoil(link_of(notifications_db)), secret=SECRET)


def test_a_link_is_good_for_sixty_days(notifications_db, org_id):
    user_id = a_member(notifications_db, org_id)
    tell(notifications_db, finished(org_id, user_id=user_id))

    with pytest.raises(UnsubscribeInvalid):
        choosing.unsubscribe(notifications_db, token=link_of(notifications_db), secret=SECRET, now=time.time() + 101)


def test_the_token_of_another_purpose_switches_nothing_off(notifications_db):
    end = int(time.time()) + 100
    token = tokens.mint(secret=SECRET, purpose=tokens.INVITATION, subject=new_id("eml"), expires_at=end)

    with pytest.raises(UnsubscribeInvalid):
        choosing.unsubscribe(notifications_db, token=token, secret=SECRET)


def test_preferences_are_changed_only_as_they_were_seen(notifications_db, org_id):
    user_id = a_member(notifications_db, org_id)
    mine = {"org_id": org_id, "user_id": user_id}

    first = choosing.change(notifications_db, **mine, change={"timezone": "Europe/Berlin"}, version=0)
    with pytest.raises(PreconditionFailed) as stale:
        choosing.change(notifications_db, **mine, change={"timezone": "Europe/Rome"}, version=0)

    assert (first["version"], stale.value.extra["current"]) == (1, first)
