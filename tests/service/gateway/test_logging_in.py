"""Logging in and out, sessions, passwords: who gets in, for how long, and what a guesser learns."""

import threading
from datetime import datetime

import pytest
import sqlalchemy as sa

from services.gateway import attempts, passwords
from services.gateway.models import AuthAttempt, AuthSession, Member, PasswordReset
from shared import tokens
from shared.database import Database
from shared.events import PasswordResetRequested
from tests.service.gateway.people import PASSWORD, bearer, change, everything_kept, invite, join, log_in, told

NEW = "a quite different one"


@pytest.fixture
def grace(client, studio):
    """Headers of a member who has signed up."""
    return join(client, studio[1])[1]


def works(client, headers):
    return client.get("/v1/credits", headers=headers).status_code == 200


def logged_in(client, **fields):
    return bearer(log_in(client, **fields).json["session_token"])


def reset_token(db):
    """Make the token of the latest reset as whoever sends mail does: from the event and the signing secret."""
    event = told(db, PasswordResetRequested)[-1]
    end = int(datetime.fromisoformat(event.expires_at).timestamp())
    return tokens.mint(secret="s" * 40, purpose=tokens.PASSWORD_RESET, subject=event.reset_id, expires_at=end)


def ask_for_reset(client, email="grace@example.com", address="192.0.2.1"):
    return client.post("/v1/auth/password-reset", json={"email": email}, environ_base={"REMOTE_ADDR": address})


def confirm(client, token, password=NEW):
    return client.post("/v1/auth/password-reset/confirm", json={"token": token, "password": password})


@pytest.mark.usefixtures("grace")
def test_a_member_logs_in_by_address_and_password(client):
    answer = log_in(client, "GRACE@example.com")

    assert answer.status_code == 200
    assert answer.json["member"]["email"] == "grace@example.com"
    assert works(client, bearer(answer.json["session_token"]))


@pytest.mark.parametrize(("ago", "works_still"), [("6 days 23 hours", True), ("7 days 1 second", False)])
def test_a_session_lives_for_seven_days(client, grace, gateway_db, ago, works_still):
    with gateway_db.transaction() as session:
        [lasts] = session.scalars(sa.select(AuthSession.expires_at - AuthSession.created_at))
    change(gateway_db, AuthSession, expires_at=AuthSession.expires_at - sa.text(f"interval '{ago}'"))

    assert lasts.total_seconds() == 7 * 86_400
    assert works(client, grace) == works_still


def test_logging_out_ends_this_session_and_no_other(client, grace):
    other = logged_in(client)

    answer = client.post("/v1/auth/logout", headers=grace)

    assert answer.status_code == 204
    assert not works(client, grace)
    assert works(client, other)


def test_a_key_cannot_log_out(client, studio):
    answer = client.post("/v1/auth/logout", headers=studio[1])

    assert answer.status_code == 403
    assert "logged in" in answer.json["detail"]


def test_sessions_are_listed_with_what_tells_them_apart(client, grace):
    client.post(
        "/v1/auth/login",
        json={"email": "grace@example.com", "password": PASSWORD},
        headers={"User-Agent": "a phone"},
        environ_base={"REMOTE_ADDR": "192.0.2.9"},
    )

    [newer, older] = client.get("/v1/auth/sessions", headers=grace).json["data"]

    assert (newer["user_agent"], newer["address"], newer["current"]) == ("a phone", "192.0.2.9", False)
    assert older["current"] is True


def test_one_session_can_be_ended_from_another(client, grace):
    other = logged_in(client)
    [newer, _] = client.get("/v1/auth/sessions", headers=grace).json["data"]

    ended = [client.delete(f"/v1/auth/sessions/{newer['id']}", headers=grace).status_code for _ in range(2)]

    assert ended == [204, 204]
    assert not works(client, other)
    assert works(client, grace)
    assert len(client.get("/v1/auth/sessions", headers=grace).json["data"]) == 1


def test_all_other_sessions_can_be_ended_at_once(client, grace):
    others = [logged_in(client), logged_in(client)]

    assert client.delete("/v1/auth/sessions", headers=grace).status_code == 204
    assert [works(client, headers) for headers in (grace, *others)] == [True, False, False]


def test_nobody_ends_or_sees_anothers_session(client, studio, grace):
    _, mary = join(client, studio[1], "mary@example.com", role="owner")
    [hers] = client.get("/v1/auth/sessions", headers=grace).json["data"]

    assert client.delete(f"/v1/auth/sessions/{hers['id']}", headers=mary).status_code == 404
    assert client.delete("/v1/auth/sessions/nothing", headers=mary).status_code == 404
    assert hers["id"] not in client.get("/v1/auth/sessions", headers=mary).text
    assert works(client, grace)


def test_it_is_noted_once_a_minute_that_a_session_is_in_use(client, grace, gateway_db):
    def last_seen():
        with gateway_db.transaction() as session:
            return session.scalars(sa.select(AuthSession.last_seen_at)).one()

    before = last_seen()
    works(client, grace)
    assert last_seen() == before

    change(gateway_db, AuthSession, last_seen_at=sa.text("now() - interval '61 seconds'"))
    works(client, grace)
    assert last_seen() >= before


@pytest.mark.usefixtures("grace")
def test_a_wrong_password_and_an_unknown_account_are_answered_alike(client):
    wrong = log_in(client, password="not the one")
    unknown = log_in(client, email="nobody@example.com")
    invited = log_in(client, email="invited@example.com")

    told_alike = {(a.status_code, a.json["code"], a.json["detail"]) for a in (wrong, unknown, invited)}
    assert told_alike == {(401, "unauthenticated", "The e-mail address or the password is wrong.")}


@pytest.mark.usefixtures("grace")
def test_an_unknown_account_costs_as_much_hashing_as_a_known_one(client, monkeypatch):
    hashes = []
    real = passwords.in_a_thread
    monkeypatch.setattr(passwords, "in_a_thread", lambda *given: hashes.append(given[0].__name__) or real(*given))
    log_in(client, email="nobody@example.com")  # the hash to compare with is made once
    hashes.clear()

    log_in(client, password="not the one")
    log_in(client, email="nobody@example.com")

    assert hashes == ["verify", "verify"]


def test_somebody_who_was_only_invited_has_no_account_yet(client, studio):
    invite(client, studio[1])

    assert log_in(client).status_code == 401


@pytest.mark.usefixtures("grace")
def test_an_account_is_guessed_at_only_so_often_wherever_from(client):
    tries = [log_in(client, password="no", address=f"192.0.2.{n}").status_code for n in range(attempts.OF_ACCOUNT + 1)]

    blocked = log_in(client, address="198.51.100.1")

    assert tries == [401] * attempts.OF_ACCOUNT + [429]
    assert (blocked.status_code, blocked.json["code"]) == (429, "too_many_attempts")
    assert 0 < int(blocked.headers["Retry-After"]) <= attempts.WINDOW_MINUTES * 60


def test_an_unknown_account_is_limited_like_a_known_one(client):
    tries = [log_in(client, email="nobody@example.com").status_code for _ in range(attempts.OF_ACCOUNT + 1)]

    assert tries == [401] * attempts.OF_ACCOUNT + [429]


@pytest.mark.usefixtures("grace")
def test_an_address_guesses_only_so_often_whatever_at(client, gateway_db):
    log_in(client, email="a@example.com", address="2001:db8::1")
    change(gateway_db, AuthAttempt, attempts=attempts.OF_ADDRESS)

    same_network = log_in(client, email="b@example.com", address="2001:db8::2")
    another = log_in(client, address="2001:db8:0:1::1")

    assert (same_network.status_code, another.status_code) == (429, 200)


def test_attempts_at_once_from_several_replicas_are_all_counted(gateway_db):
    url = gateway_db.url.render_as_string(hide_password=False)
    replicas = [Database(url, application=f"replica-{n}", pool_size=5) for n in range(2)]
    outcomes = []

    def attempt(number):
        try:
            attempts.count(replicas[number % 2], address=f"192.0.2.{number}", email="grace@example.com")
            outcomes.append("counted")
        except attempts.TooManyAttempts:
            outcomes.append("refused")

    trying = [threading.Thread(target=attempt, args=(number,)) for number in range(30)]
    for one in trying:
        one.start()
    for one in trying:
        one.join()
    for replica in replicas:
        replica.engine.dispose()

    assert (outcomes.count("counted"), outcomes.count("refused")) == (attempts.OF_ACCOUNT, 30 - attempts.OF_ACCOUNT)


@pytest.mark.usefixtures("grace")
def test_the_window_ends(client, gateway_db):
    log_in(client, password="no")
    change(gateway_db, AuthAttempt, attempts=1000)
    assert log_in(client).status_code == 429

    change(gateway_db, AuthAttempt, ends_at=sa.text("now()"))

    assert log_in(client).status_code == 200


@pytest.mark.usefixtures("grace")
def test_logging_in_clears_the_accounts_count(client):
    for _ in range(3):
        assert [log_in(client, password="no").status_code for _ in range(attempts.OF_ACCOUNT - 1)] == [401] * 9
        assert log_in(client).status_code == 200


def test_changing_the_password_ends_all_other_sessions(client, grace):
    other = logged_in(client)

    answer = client.post("/v1/auth/password", json={"current_password": PASSWORD, "new_password": NEW}, headers=grace)

    assert answer.status_code == 204
    assert (works(client, grace), works(client, other)) == (True, False)
    assert log_in(client).status_code == 401
    assert log_in(client, password=NEW).status_code == 200


def test_the_current_password_has_to_be_right(client, grace):
    other = logged_in(client)
    body = {"current_password": "not the one", "new_password": NEW}

    answer = client.post("/v1/auth/password", json=body, headers=grace)

    assert (answer.status_code, answer.json["code"]) == (403, "wrong_password")
    assert works(client, other)
    assert log_in(client).status_code == 200


@pytest.mark.usefixtures("grace")
def test_a_login_that_overlaps_a_change_of_password_does_not_survive_it(client, gateway_db, monkeypatch):
    real = passwords.fits

    def fits_then_changed(password, password_hash):
        answer = real(password, password_hash)
        change(gateway_db, Member, password_hash=passwords.hashed(NEW))
        return answer

    monkeypatch.setattr(passwords, "fits", fits_then_changed)

    assert log_in(client).status_code == 401


@pytest.mark.usefixtures("grace")
def test_asking_for_a_new_password_tells_nobody_whether_there_is_an_account(client, gateway_db):
    known, unknown = ask_for_reset(client), ask_for_reset(client, "nobody@example.com")

    assert (known.status_code, known.json) == (unknown.status_code, unknown.json)
    assert known.status_code == 202
    [event] = told(gateway_db, PasswordResetRequested)
    assert event.email == "grace@example.com"


@pytest.mark.usefixtures("grace")
def test_the_token_of_a_reset_is_in_no_event_and_no_table(client, gateway_db):
    ask_for_reset(client)

    assert reset_token(gateway_db).rpartition(".")[2] not in everything_kept(gateway_db)
    assert not PasswordResetRequested.PUBLIC


def test_a_new_password_by_link_ends_all_sessions_and_works_once(client, grace, gateway_db):
    ask_for_reset(client)
    token = reset_token(gateway_db)

    first, again = confirm(client, token), confirm(client, token, "a third one")

    assert first.status_code == 204
    assert (again.status_code, again.json["code"]) == (409, "reset_used")
    assert not works(client, grace)
    assert log_in(client).status_code == 401
    assert log_in(client, password=NEW).status_code == 200


def test_a_password_that_was_set_since_ends_the_links_of_before(client, grace, gateway_db):
    ask_for_reset(client)
    token = reset_token(gateway_db)
    client.post("/v1/auth/password", json={"current_password": PASSWORD, "new_password": NEW}, headers=grace)

    assert confirm(client, token, "a third one").json["code"] == "reset_used"


@pytest.mark.usefixtures("grace")
def test_a_link_for_a_new_password_is_good_for_an_hour(client, gateway_db):
    ask_for_reset(client)
    with gateway_db.transaction() as session:
        [lasts] = session.scalars(sa.select(PasswordReset.expires_at - PasswordReset.created_at))
    change(gateway_db, PasswordReset, expires_at=sa.text("now()"))

    answer = confirm(client, reset_token(gateway_db))

    assert 3599 <= lasts.total_seconds() <= 3600
    assert (answer.status_code, answer.json["code"]) == (410, "reset_expired")
    assert log_in(client).status_code == 200


@pytest.mark.usefixtures("grace")
def test_a_token_of_another_kind_sets_no_password(client, studio):
    invitation = invite(client, studio[1], "mary@example.com")

    answers = [confirm(client, token) for token in (invitation["token"], "nothing", invitation["token"] + "x")]

    assert [(answer.status_code, answer.json["code"]) for answer in answers] == [(400, "reset_invalid")] * 3


@pytest.mark.usefixtures("grace")
def test_nobody_has_a_mailbox_flooded_through_us(client, gateway_db):
    asked = [ask_for_reset(client, address=f"192.0.2.{n}").status_code for n in range(attempts.RESETS_OF_ACCOUNT + 1)]

    assert asked == [202] * attempts.RESETS_OF_ACCOUNT + [429]
    assert len(told(gateway_db, PasswordResetRequested)) == attempts.RESETS_OF_ACCOUNT


@pytest.mark.usefixtures("grace")
def test_what_is_over_is_forgotten_in_the_end(client, gateway, gateway_db):
    ask_for_reset(client)
    old = sa.text("now() - interval '31 days'")
    for model in (AuthSession, PasswordReset):
        change(gateway_db, model, expires_at=old)
    change(gateway_db, AuthAttempt, ends_at=old)

    gateway.prune_identity()

    with gateway_db.transaction() as session:
        left = [
            session.scalar(sa.select(sa.func.count()).select_from(m)) for m in (AuthSession, PasswordReset, AuthAttempt)
        ]
    assert left == [0, 0, 0]
