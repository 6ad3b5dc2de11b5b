"""What makes two requests the same: a form's boundary does not, and finding it stops nobody else."""

from types import SimpleNamespace

import eventlet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.gateway.idempotency import fingerprint

PIECE = 256 << 10


def a_form(content, *, boundary, parts=1):
    part = b"\r\nContent-Disposition: form-data; name=file\r\n\r\n" + content + b"\r\n--" + boundary
    return b"--" + boundary + part * parts + b"--\r\n"


def of(body, *, boundary):
    headers = {"Content-Type": f"multipart/form-data; boundary={boundary.decode()}"}
    return fingerprint(SimpleNamespace(raw=body, headers=headers, method="POST", full_path="/v1/uploads"))


@given(st.integers(-60, 60), st.sampled_from([b"a", b"----WebKitFormBoundary7MA4YWxkTrZu0gW"]))
def test_a_form_sent_again_with_another_boundary_is_the_same_wherever_the_boundary_lies(offset, boundary):
    content = b"x" * (PIECE + offset)

    assert of(a_form(content, boundary=boundary), boundary=boundary) == of(
        a_form(content, boundary=b"AaB03x"), boundary=b"AaB03x"
    )


@pytest.mark.parametrize(("one", "other"), [(b"aab", b"ab"), (b"x--ab", b"x--b"), (b"b", b"b\r\n")])
def test_two_files_are_never_the_same_though_they_hold_the_text_of_the_boundary(one, other):
    assert of(a_form(one, boundary=b"a"), boundary=b"a") != of(a_form(other, boundary=b"a"), boundary=b"a")


@pytest.mark.parametrize("content", [b"\r", b"\r\n--", b"\r\n--a"])
def test_others_have_their_turn_while_a_large_form_is_looked_through(content):
    turns = []

    def take_turns():
        while True:
            turns.append(None)
            eventlet.sleep(0)

    others = eventlet.spawn(take_turns)

    of(a_form(content * (10_000_000 // len(content)), boundary=b"a"), boundary=b"a")
    others.kill()

    assert len(turns) >= 10_000_000 // PIECE
