"""The table of roles in docs/identity.md."""

import pytest

from tools import roles_table

PAGE = f"# Roles\n\n{roles_table.BEGIN}\n| old |\n{roles_table.END}\n\nMore.\n"


def test_the_table_replaces_what_is_between_the_marks_and_nothing_else():
    page = roles_table.page(PAGE)

    assert page.startswith("# Roles\n\n")
    assert page.endswith(f"{roles_table.END}\n\nMore.\n")
    assert "| old |" not in page
    assert roles_table.page(page) == page


@pytest.mark.parametrize(
    "row",
    [
        "| `PUT /v1/plan` | yes |  |  | `manage` |",
        "| `POST /v1/jobs` | yes | yes |  | `spend` |",
        "| `GET /v1/jobs/{job_id}` | yes | yes | yes | `read` |",
        "| `DELETE /v1/uploads/{upload_id}` | yes | yes |  | `write` |",
        "| `PATCH /v1/me` | yes | yes | yes | none: for a person only |",
    ],
)
def test_a_row_says_who_may(row):
    assert row in roles_table.page(PAGE).splitlines()


def test_routes_of_administrators_and_providers_and_open_ones_have_no_row():
    page = roles_table.page(PAGE)

    assert "/admin/" not in page
    assert "/webhooks-in/" not in page
    assert "/healthz" not in page


def test_a_page_without_the_marks_is_refused():
    with pytest.raises(ValueError, match="marks"):
        roles_table.page("# Roles\n")
