"""Steps of stories about people: inviting them, letting them sign up, moving the clock of what they hold."""

import threading

import sqlalchemy as sa

from shared import events

PASSWORD = "correct horse battery"


def invite(client, headers, email="grace@example.com", role="editor"):
    answer = client.post("/v1/invitations", json={"email": email, "role": role}, headers=headers)
    assert answer.status_code == 201, answer.text
    return answer.json


def sign_up(client, invitation, **fields):
    body = {"token": invitation["token"], "name": "Grace", "password": PASSWORD, "terms_accepted": True}
    return client.post("/v1/auth/signup", json={**body, **fields})


def join(client, headers, email="grace@example.com", role="editor"):
    """Let somebody be invited and sign up; return ``(user id, headers with the session's token)``."""
    answer = sign_up(client, invite(client, headers, email, role))
    assert answer.status_code == 201, answer.text
    return answer.json["member"]["id"], bearer(answer.json["session_token"])


def log_in(client, email="grace@example.com", password=PASSWORD, address="192.0.2.1"):
    return client.post(
        "/v1/auth/login",
        json={"email": email, "password": password},
        environ_base={"REMOTE_ADDR": address},
    )


def bearer(token):
    return {"Authorization": f"Bearer {token}"}


def told(db, kind=None):
    """Return the events that were written down, those of one kind or all."""
    with db.transaction() as session:
        bodies = session.execute(sa.text("SELECT body FROM outbox ORDER BY id")).scalars().all()
    found = [events.decode(body.encode()) for body in bodies]
    return [event for event in found if kind is None or isinstance(event, kind)]


def everything_kept(db):
    """Return all that the gateway's tables hold, as text."""
    tables = ("members", "invitations", "auth_sessions", "password_resets", "api_keys", "admin_keys", "outbox")
    tables = (*tables, "linked_identities", "webhook_receipts")
    with db.transaction() as session:
        rows = [session.execute(sa.text(f"SELECT t::text FROM {table} t")).scalars().all() for table in tables]
    return "\n".join(text for each in rows for text in each)


def change(db, model, **values):
    with db.transaction() as session:
        session.execute(sa.update(model).values(**values))


def at_once(client, *calls):
    """Make all ``calls`` at the same time, each with a client of its own; return what they return, in order."""
    answers = [None] * len(calls)
    ready = threading.Barrier(len(calls))

    def make(place, call):
        own = type(client)(client.application)
        ready.wait(timeout=5)
        answers[place] = call(own)

    threads = [threading.Thread(target=make, args=each) for each in enumerate(calls)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers
