"""The limit: the fastest straight script that takes events out of the outbox and publishes them with confirms.

No framework, no green threads, no leader, no reconnecting, no metrics; an error ends it.
"""

import sys
from typing import Any
from urllib.parse import urlsplit

import amqp
import psycopg2
from amqp.spec import Basic

from benchmarks.child import Conversation

PUBLISH = Basic.Publish
BATCH = 1000
POLL_SECONDS = 0.002
TAKE = "SELECT id, event_id, body FROM outbox ORDER BY id LIMIT %s"
DROP = "DELETE FROM outbox WHERE id = ANY(%s)"


class Confirmed:
    """A channel that counts what the broker has not confirmed yet."""

    def __init__(self, amqp_url: str) -> None:
        parts = urlsplit(amqp_url)
        self.connection = amqp.Connection(f"{parts.hostname}:{parts.port}", parts.username, parts.password)
        self.connection.connect()
        self.channel = self.connection.channel()
        self.channel.confirm_select()
        self.channel.events["basic_ack"].add(self._on_ack)
        self.channel.events["basic_nack"].add(lambda *_: sys.exit("the broker refused an event"))
        self.sent = self.confirmed = 0

    def publish(self, body: str, *, message_id: str) -> None:
        """Send one persistent event without waiting."""
        message = amqp.Message(
            body, content_type="application/cloudevents+json", delivery_mode=2, message_id=message_id
        )
        self.channel.send_method(PUBLISH, "Bssbb", (0, "raw.events", "CreditCaptured", False, False), message)
        self.sent += 1

    def wait(self) -> None:
        """Wait until everything sent is confirmed."""
        while self.confirmed < self.sent:
            self.connection.drain_events()

    def _on_ack(self, delivery_tag: int, _multiple: bool) -> None:  # noqa: FBT001  py-amqp's signature
        # Confirms of one channel to one queue come in order, so the highest tag covers all before it.
        self.confirmed = max(self.confirmed, delivery_tag)


def main() -> None:
    """Empty the outbox; with ``keep_on`` look into it again and again."""
    talk = Conversation()
    orders = talk.orders()
    connection = psycopg2.connect(orders["database_url"].replace("+psycopg2", ""))
    link = Confirmed(orders["amqp_url"])
    with connection.cursor() as cursor:
        cursor.execute("SET ROLE darkroom_system")
        connection.commit()
        talk.say("ready")
        talk.wait()
        while relay(cursor, link) or (orders.get("keep_on") and not talk.is_over(POLL_SECONDS)):
            connection.commit()
    talk.say("done")
    talk.wait()


def relay(cursor: Any, link: Confirmed) -> int:
    """Take, publish, wait, delete one batch; return its size."""
    cursor.execute(TAKE, (BATCH,))
    rows = cursor.fetchall()
    for _, event_id, body in rows:
        link.publish(body, message_id=event_id)
    link.wait()
    cursor.execute(DROP, ([row[0] for row in rows],))
    return len(rows)


if __name__ == "__main__":
    main()
