import pytest

from services.generation.standings import Standing, eta, waiting_reason

FREE = {"at_work": 3, "most_of_organization": 20, "at_work_of_provider": 50, "most_of_provider": 200}


@pytest.mark.parametrize(
    ("standing", "ahead", "expected"),
    [
        ({"circuit_open": True, "rate_limited": True}, 0, "circuit_open"),
        ({"rate_limited": True, "at_work": 20}, 0, "rate_limit"),
        ({"at_work": 20, "at_work_of_provider": 200}, 0, "organization_limit"),
        ({"at_work_of_provider": 200}, 0, "provider_limit"),
        ({}, 7, "behind_others"),
        ({}, 0, "free_worker"),
    ],
)
def test_a_job_says_what_it_waits_for(standing: dict[str, int], ahead: int, expected: str) -> None:
    assert waiting_reason(Standing(job_id="job_1", **{**FREE, **standing}), ahead=ahead) == expected


def test_where_nothing_was_ever_claimed_no_limit_is_blamed() -> None:
    assert waiting_reason(Standing(job_id="job_1"), ahead=0) == "free_worker"


def test_the_narrower_limit_says_how_long_it_takes() -> None:
    standing = Standing(job_id="job_1", mean_seconds=30.0, most_of_organization=20, most_of_provider=4)

    assert eta(standing, ahead=4, remaining=4) == 60


def test_what_was_never_measured_is_not_made_up() -> None:
    assert eta(Standing(job_id="job_1"), ahead=0, remaining=1) is None
