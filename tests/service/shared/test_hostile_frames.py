"""Messages whose properties are no text: py-amqp fails over them in the middle of a frame, before any code of ours."""

import pika
import pytest

from shared import events
from shared.config import Settings
from shared.database import Database
from shared.rpc import RpcConnection
from shared.topology import rpc_queue
from tests.polling import until
from tests.service.shared.host_service import Script, running
from tests.service.shared.test_rpc import Call, call, connection  # noqa: F401  fixtures
from tests.service.shared.test_subscriptions import CAPTURED_QUEUE, DEAD_LETTERS, effects, every, reason
from tests.service.shared.wire import Wire, captured

pytestmark = [pytest.mark.broker, pytest.mark.usefixtures("amqp_url")]
NO_TEXT = b"\xff\xfe"


def send_with_pika(amqp_url: str, *, queue: str, body: bytes, **properties: bytes) -> None:
    """Publish what only a hostile or broken client publishes; pika sends bytes as they are."""
    link = pika.BlockingConnection(pika.URLParameters(amqp_url))
    link.channel().basic_publish("", queue, body, pika.BasicProperties(**properties))
    link.close()


@pytest.mark.parametrize("name", ["content_type", "correlation_id", "message_id", "type"])
def test_a_property_that_is_no_text_does_not_block_a_queue(
    amqp_url: str, db: Database, chosen: Settings, wire: Wire, name: str
) -> None:
    with running(chosen):
        send_with_pika(amqp_url, queue=CAPTURED_QUEUE, body=b"{}", **{name: NO_TEXT})
        wire.send(events.encode(captured(0)), queue=CAPTURED_QUEUE)
        until(lambda: effects(db) == every(1))
        until(lambda: wire.depth(DEAD_LETTERS) == 1)

    (letter,) = wire.take_all(DEAD_LETTERS)
    assert reason(letter) in {"wrong_content_type", "undecodable"}


def test_a_request_whose_properties_are_no_text_does_not_block_the_others(
    amqp_url: str,
    chosen: Settings,
    call: Call,  # noqa: F811  the fixture
    connection: RpcConnection,  # noqa: F811  the fixture
) -> None:
    with running(chosen, Script(answer=lambda **arguments: arguments)):
        send_with_pika(amqp_url, queue=rpc_queue("credits"), body=b"{}", content_type=NO_TEXT, reply_to=NO_TEXT)

        assert call("echo", number=1) == {"number": 1}
        assert connection.problem() is None
