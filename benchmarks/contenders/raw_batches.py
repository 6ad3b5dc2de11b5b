"""The limit: a straight script that deduplicates, updates, commits and acknowledges a hundred messages at once.

No framework, no green threads, no retries, no dead letters, no reconnecting; an error ends it.
"""

from typing import Any
from urllib.parse import urlsplit

import amqp
import msgspec
import psycopg2

from benchmarks.child import Conversation

BATCH = 100
PREFETCH = 200
CONSUMER = "raw.captures"
_SEEN = "INSERT INTO inbox (consumer, event_id) SELECT %s, unnest(%s::text[]) ON CONFLICT DO NOTHING RETURNING event_id"
_CAPTURE = "UPDATE lines SET state = 'captured', times = times + 1 WHERE line_id = ANY(%s)"


class _Data(msgspec.Struct):
    line_id: str


class _Envelope(msgspec.Struct):
    id: str
    data: _Data


_decoder = msgspec.json.Decoder(_Envelope)


def main() -> None:
    """Consume as many messages as ordered."""
    talk = Conversation()
    orders = talk.orders()
    talk.say("ready")
    talk.wait()
    database = psycopg2.connect(orders["database_url"].replace("+psycopg2", ""))
    parts = urlsplit(orders["amqp_url"])
    with amqp.Connection(f"{parts.hostname}:{parts.port}", parts.username, parts.password) as broker:
        channel = broker.channel()
        arrived: list[Any] = []
        channel.basic_qos(0, PREFETCH, False)  # noqa: FBT003  py-amqp's signature
        channel.basic_consume(orders["queue"], callback=arrived.append)
        with database.cursor() as cursor:
            cursor.execute("SET ROLE darkroom_system")
            handled = 0
            while handled < orders["count"]:
                while len(arrived) < min(BATCH, orders["count"] - handled):
                    broker.drain_events()
                batch, arrived[:] = arrived[:BATCH], arrived[BATCH:]
                handle(cursor, batch)
                database.commit()
                channel.basic_ack(batch[-1].delivery_tag, multiple=True)
                handled += len(batch)
    talk.wait()


def handle(cursor: Any, messages: list[Any]) -> None:
    """Apply the messages that were not seen before."""
    lines = {item.id: item.data.line_id for item in (_decoder.decode(message.body) for message in messages)}
    cursor.execute(_SEEN, (CONSUMER, list(lines)))
    cursor.execute(_CAPTURE, ([lines[event_id] for (event_id,) in cursor.fetchall()],))


if __name__ == "__main__":
    main()
