"""Server-sent events over real sockets: gateway and notifications as processes, which end at any moment."""

import signal
import time

import pytest
import sqlalchemy as sa

from services.gateway.models import ApiKey
from tests.polling import until
from tests.service.notifications.gateways import Follower, client_that_does_not_read, rest_of
from tests.service.notifications.test_event_log_on_the_broker import logs, process, publish
from tests.service.notifications.told import failed, started

pytestmark = pytest.mark.broker


def test_nothing_is_missed_and_nothing_comes_twice_while_the_gateway_is_killed(
    gateway, environment, notifications_db, studio, followers, tmp_path
):
    org_id, key = studio
    items = [started(org_id) for _ in range(399)]
    with process(environment, log=tmp_path / "notifications.log"):
        publish(environment["AMQP_URL"], items[:99])
        until(lambda: len(logs(notifications_db).get(org_id, ())) == 100, seconds=20)
        followers += [Follower(gateway, key, after="0") for _ in range(5)]
        until(lambda: all(one.ids for one in followers), seconds=20)

        for begin in range(99, 399, 20):
            publish(environment["AMQP_URL"], items[begin : begin + 20])
            if begin in {159, 279}:
                gateway.end()
                gateway.start()
            time.sleep(0.05)

        until(lambda: all(len(one.ids) >= 400 for one in followers), seconds=30, what="the last event")

    assert [one.ids for one in followers] == [list(range(1, 401))] * 5
    assert all(one.ended >= 2 for one in followers)


def test_a_stream_goes_on_when_the_broker_has_cut_every_connection(
    gateway, environment, rabbitmq, studio, followers, tmp_path
):
    org_id, key = studio
    vhost = environment["AMQP_URL"].rpartition("/")[2]
    with process(environment, log=tmp_path / "notifications.log"):
        followers.append(Follower(gateway, key, after="0"))
        publish(environment["AMQP_URL"], [started(org_id) for _ in range(5)])
        until(lambda: len(followers[0].ids) == 6, seconds=20)
        ended = followers[0].ended  # it may have been there before the log was

        rabbitmq.ctl("close_all_connections", "--vhost", vhost, "test")
        publish(environment["AMQP_URL"], [started(org_id) for _ in range(5)])

        until(lambda: len(followers[0].ids) == 11, seconds=20)

    assert (followers[0].ids, followers[0].ended) == (list(range(1, 12)), ended)


@pytest.mark.usefixtures("notifications_db")
def test_a_revoked_key_follows_nothing_after_5_seconds(gateway, gateway_db, environment, studio, followers, tmp_path):
    _, key = studio
    with process(environment, log=tmp_path / "notifications.log"):
        followers.append(Follower(gateway, key, after="0"))
        until(lambda: followers[0].ids, seconds=20)
        ended = followers[0].ended
        with gateway_db.transaction() as session:
            session.execute(sa.update(ApiKey).values(revoked_at=sa.func.now()))
        began = time.monotonic()

        until(lambda: followers[0].ended > ended, seconds=5)

    assert time.monotonic() - began < 5
    assert gateway.open_streams() == 0


# Sent away for what waits for it, or because it took nothing for 30 s while the log is read for it.
def until_sent_away(gateway, amqp_url, org_id) -> int:
    """Let events flow until somebody was sent away; return how many that took."""
    sent = 0
    deadline = time.monotonic() + 60
    while gateway.open_streams() > 1:
        assert time.monotonic() < deadline, "both streams are open still"
        publish(amqp_url, [failed(org_id, message="m" * 1_000) for _ in range(50)])
        sent += 50
        time.sleep(0.5)
    return sent


def test_who_does_not_read_is_sent_away_and_holds_up_nobody(
    gateway, environment, notifications_db, studio, followers, tmp_path
):
    org_id, key = studio
    size, count = 16_000, 400
    items = [failed(org_id, message="m" * size) for _ in range(count)]
    with process(environment, log=tmp_path / "notifications.log"):
        until(lambda: logs(notifications_db).get(org_id), seconds=20)
        followers.append(Follower(gateway, key, after="0"))
        with client_that_does_not_read(gateway, key) as stuck:
            until(lambda: gateway.open_streams() == 2, seconds=20)
            before = gateway.memory_bytes()

            for first in range(0, count, 50):
                publish(environment["AMQP_URL"], items[first : first + 50])
            until(lambda: len(followers[0].ids) == count + 1, seconds=60, what="all events at who reads")
            more = until_sent_away(gateway, environment["AMQP_URL"], org_id)
            grown = gateway.memory_bytes() - before
            held = rest_of(stuck)
        publish(environment["AMQP_URL"], [started(org_id)])
        until(lambda: len(followers[0].ids) == count + more + 2, seconds=10)

    assert followers[0].ended == 0
    assert followers[0].ids == list(range(1, count + more + 3))
    assert held < size * count / 2
    assert grown < 60 << 20


@pytest.mark.usefixtures("notifications_db")
def test_a_gateway_that_is_told_to_end_lets_go_of_its_streams(gateway, environment, studio, followers, tmp_path):
    _, key = studio
    with process(environment, log=tmp_path / "notifications.log"):
        followers += [Follower(gateway, key, after="0") for _ in range(3)]
        until(lambda: gateway.open_streams() == 3, seconds=20)
        began = time.monotonic()

        status = gateway.end(signal.SIGTERM)

    assert (status, time.monotonic() - began < 6) == (0, True)
    assert all(one.ended for one in followers)
