"""How lists are cut into pages."""

from shared import pages


def shown(row: int) -> dict[str, object]:
    return {"id": f"row_{row}", "name": str(row)}


def test_a_page_has_so_many_items_and_the_cursor_of_the_last_where_there_are_more() -> None:
    page = pages.page([1, 2, 3], limit=2, show=shown)

    assert page == {"data": [shown(1), shown(2)], "has_more": True, "next_cursor": "row_2"}


def test_the_last_page_leads_nowhere() -> None:
    assert pages.page([1, 2], limit=2, show=shown) == {
        "data": [shown(1), shown(2)],
        "has_more": False,
        "next_cursor": None,
    }
    assert pages.page([], limit=2, show=shown) == {"data": [], "has_more": False, "next_cursor": None}


def test_another_field_may_be_the_cursor() -> None:
    assert pages.page([1, 2], limit=1, show=shown, key="name")["next_cursor"] == "1"


def test_of_rows_that_are_shown_together_only_those_of_the_page_are_looked_at() -> None:
    asked = []

    def all_shown(rows: list[int]) -> list[dict[str, object]]:
        asked.append(rows)
        return [shown(row) for row in rows]

    page = pages.page_together([1, 2, 3], limit=2, show=all_shown)

    assert page == pages.page([1, 2, 3], limit=2, show=shown)
    assert asked == [[1, 2]]
