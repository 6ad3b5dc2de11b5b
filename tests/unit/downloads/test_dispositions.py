"""Names of files in Content-Disposition (RFC 6266)."""

from services.downloads.files import disposition_header


def test_a_plain_name_stays_as_it_was_signed():
    assert disposition_header('attachment; filename="a room.jpg"') == 'attachment; filename="a room.jpg"'


def test_letters_outside_ascii_are_sent_as_the_standard_wants_them():
    header = disposition_header('attachment; filename="Küche € 1.jpg"')

    assert header == "attachment; filename=\"K_che _ 1.jpg\"; filename*=UTF-8''K%C3%BCche%20%E2%82%AC%201.jpg"
    assert header.isascii()
