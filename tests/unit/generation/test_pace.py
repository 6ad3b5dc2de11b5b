from services.generation.pace import eta_seconds


def test_what_fits_at_once_takes_as_long_as_one() -> None:
    assert eta_seconds(20, ahead=0, remaining=4, at_once=20) == 20


def test_what_stands_behind_others_waits_for_them() -> None:
    assert eta_seconds(20, ahead=40, remaining=4, at_once=20) == 60


def test_parts_of_seconds_count_as_whole_ones() -> None:
    assert eta_seconds(0.2, ahead=0, remaining=1, at_once=1) == 1
