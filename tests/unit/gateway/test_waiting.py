"""How long a client prefers to wait (RFC 7240)."""

import pytest

from services.gateway.jobs import wait_seconds


@pytest.mark.parametrize(
    ("prefer", "seconds"),
    [
        (None, 0),
        ("", 0),
        ("wait=10", 10),
        ("WAIT = 10", 10),
        ('wait="10"', 10),
        ("respond-async, wait=5", 5),
        ("respond-async;wait=5", 5),
        ("wait=60", 60),
        ("wait=61", 60),
        ("wait=999999", 60),
        ("wait=0", 0),
        ("wait=-5", 0),
        ("wait=abc", 0),
        ("await=10", 0),
        ("wait=1.5", 0),
        ("wait=99999999999999999999", 0),
    ],
)
def test_a_client_may_wait_for_up_to_a_minute(prefer, seconds):
    assert wait_seconds(prefer) == seconds
