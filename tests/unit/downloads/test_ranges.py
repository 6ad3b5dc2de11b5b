"""Which bytes a Range header asks for (RFC 9110, section 14)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.downloads.ranges import NotSatisfiable, Span, matches, requested

ETAG = '"abc"'


def span(header, *, total=1000, if_range=None):
    return requested(range_header=header, if_range=if_range, etag=ETAG, total=total)


@pytest.mark.parametrize(
    ("header", "start", "end"),
    [
        ("bytes=0-499", 0, 500),
        ("bytes=500-999", 500, 1000),
        ("bytes=0-0", 0, 1),
        ("bytes=999-", 999, 1000),
        ("bytes=500-5000", 500, 1000),
        ("bytes=-500", 500, 1000),
        ("bytes=-5000", 0, 1000),
        ("Bytes= 1-2 ", 1, 3),
    ],
)
def test_one_range_names_its_first_and_last_byte(header, start, end):
    assert span(header) == Span(start, end, 1000)


@pytest.mark.parametrize("header", ["bytes=1000-", "bytes=1000-1001", "bytes=-0"])
def test_a_range_behind_the_end_is_not_satisfiable(header):
    with pytest.raises(NotSatisfiable):
        span(header)


@pytest.mark.parametrize("header", ["bytes=0-", "bytes=-1", "bytes=0-0"])
def test_an_empty_file_has_no_range(header):
    with pytest.raises(NotSatisfiable):
        span(header, total=0)


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "bytes",
        "bytes=",
        "bytes=-",
        "bytes=5-4",
        "bytes=a-b",
        "bytes=0-1,5-6",
        "items=0-1",
        "bytes=0x1-2",
        "bytes=-+1",
        "bytes=٣-٤",
        "bytes=" + "9" * 5000 + "-",
    ],
)
def test_what_is_no_single_range_is_ignored(header):
    assert span(header) is None


def test_if_range_with_the_files_own_tag_lets_the_range_through():
    assert span("bytes=0-1", if_range=ETAG) == Span(0, 2, 1000)


@pytest.mark.parametrize("other", ['"abd"', 'W/"abc"', "Wed, 21 Oct 2015 07:28:00 GMT", ""])
def test_if_range_with_anything_else_gives_the_whole_file(other):
    assert span("bytes=0-1", if_range=other) is None


@pytest.mark.parametrize("held", ['"abc"', 'W/"abc"', '"x", "abc"', "*"])
def test_a_client_that_holds_the_file_is_recognized(held):
    assert matches(held, ETAG)


@pytest.mark.parametrize("held", [None, "", '"x"', "abc"])
def test_a_client_that_holds_another_file_is_not(held):
    assert not matches(held, ETAG)


@given(total=st.integers(0, 50), first=st.integers(0, 60), last=st.integers(0, 60))
def test_a_span_is_never_empty_and_never_leaves_the_file(total, first, last):
    file = bytes(range(total))

    try:
        found = span(f"bytes={first}-{last}", total=total)
    except NotSatisfiable:
        assert first >= total
        return

    if first > last:
        assert found is None
    else:
        assert found is not None
        assert file[found.start : found.end] == file[first : last + 1]
        assert found.end > found.start
