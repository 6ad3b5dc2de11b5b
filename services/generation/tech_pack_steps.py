"""What may be done next for a technical pack, from what there is of it; and how sure an analysis is. Pure."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from shared.problems import StepNotAllowed

ADD_VIEW: Final = "add_view"
DETECT_CATEGORY: Final = "detect_category"
ANALYZE: Final = "analyze_base_views"
CLOSE_UPS: Final = "generate_close_ups"
SKETCHES: Final = "generate_sketches"
EDIT: Final = "edit_field"
REGENERATE: Final = "regenerate"

NO_VIEWS: Final = "no_views"
NOT_ANALYZED: Final = "not_analyzed"
ANALYZED: Final = "analyzed"
COMPLETE: Final = "complete"
STATUSES: Final = (NO_VIEWS, NOT_ANALYZED, ANALYZED, COMPLETE)

_LOOKED_AT: Final = (ADD_VIEW, DETECT_CATEGORY, ANALYZE)
_ALLOWED: Final[Mapping[str, tuple[str, ...]]] = {
    NO_VIEWS: (ADD_VIEW,),
    NOT_ANALYZED: _LOOKED_AT,
    ANALYZED: (*_LOOKED_AT, CLOSE_UPS, SKETCHES, EDIT, REGENERATE),
    COMPLETE: (*_LOOKED_AT, CLOSE_UPS, SKETCHES, EDIT, REGENERATE),
}
_WHY_NOT: Final = {
    NO_VIEWS: "The product has no view to look at: add one first.",
    NOT_ANALYZED: "Nothing of this was analyzed yet: have the base views analyzed first.",
}
# An analysis that leaves sections empty is worth less, by so much at most.
_SECTIONS: Final = ("materials", "dimensions", "colors", "construction", "design_elements", "attributes")
_OF_COMPLETENESS: Final = 0.4
# Which view is looked at before which.
_VIEWS: Final = ("front", "back", "left", "right", "top", "bottom", "detail")
_UNKNOWN: Final = "unknown"
_KIND_MAX: Final = 100
_CENTIMETRES: Final = {"cm": 1.0, "mm": 0.1, "in": 2.54, "inches": 2.54}
_LONGEST_CM: Final = 1_000_000.0


def status_of(*, views: int, analyzed: int, close_ups: int, sketches: int) -> str:
    """Return where a pack stands, from how many there are of each."""
    if not views:
        return NO_VIEWS
    if not analyzed:
        return NOT_ANALYZED
    return COMPLETE if close_ups and sketches else ANALYZED


def allowed(status: str) -> tuple[str, ...]:
    """Return what may be done next where a pack stands so."""
    return _ALLOWED[status]


def require(step: str, *, views: int, analyzed: int) -> None:
    """Make sure that there is what a step needs.

    Raises:
        StepNotAllowed: there is not; ``allowed`` says what may be done.
    """
    status = status_of(views=views, analyzed=analyzed, close_ups=0, sketches=0)
    steps = list(allowed(status))
    if step not in steps:
        raise StepNotAllowed(
            f"{_WHY_NOT[status]} Allowed now: {', '.join(steps)}.", session_status=status, allowed=steps
        )


def confidence(analysis: Mapping[str, Any]) -> float:
    """Return how far an analysis is to be trusted, 0 to 1: what the model says, less for what it leaves empty."""
    filled = sum(bool(analysis.get(section)) for section in _SECTIONS) / len(_SECTIONS)
    said = min(1.0, max(0.0, float(analysis.get("confidence", 0))))
    return round(said * (1 - _OF_COMPLETENESS * (1 - filled)), 2)


def in_order(views: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return views, the front first; a store of JSON keeps no order of names."""
    return sorted(views, key=lambda view: _VIEWS.index(view["view_type"]))


def stated_size(metadata: Mapping[str, Any]) -> dict[str, float]:
    """Return ``{height_cm, width_cm}`` as a product's metadata states them; 0 where it does not.

    It does by ``height_cm``, ``height_mm``, ``height_in`` or ``height_inches``, and likewise for the width.
    """
    found = {"height_cm": 0.0, "width_cm": 0.0}
    for name in ("height", "width"):
        for unit, factor in _CENTIMETRES.items():
            value = metadata.get(f"{name}_{unit}")
            if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value * factor < _LONGEST_CM:
                found[f"{name}_cm"] = round(value * factor, 3)
    return found


def size_told(analysis: Mapping[str, Any]) -> dict[str, float]:
    """Return the size of a product as `stated_size` does, from what an analysis of it says was stated."""
    stated = [one for one in analysis["dimensions"] if one["basis"] == "stated"]
    return stated_size({f"{one['name']}_{one['unit']}": one["value"] for one in stated})


def kind_told(said: Mapping[str, Any] | None) -> str:
    """Return ``category/subcategory`` of what was detected, or of an analysis; as much of it as is known."""
    category, subcategory = ((said or {}).get(name) or _UNKNOWN for name in ("category", "subcategory"))
    if category.casefold() == _UNKNOWN:
        return ""
    return (category if subcategory.casefold() == _UNKNOWN else f"{category}/{subcategory}")[:_KIND_MAX]


def kind_for(inputs: Mapping[str, Any], product: Mapping[str, Any], analyzed: Iterable[Mapping[str, Any]] = ()) -> str:
    """Return what a step takes a product for: what the request says, the product, or its first analysed view."""
    said = inputs.get("category") or product["category"]
    return said or next((kind_told(view["analysis"]) for view in analyzed), "")


def of_kind(kind: str) -> str:
    """Return the sentence of a prompt that tells of a product's category, if there is one."""
    return f" It is of the category {kind!r}." if kind else ""


def of_size(size: Mapping[str, float]) -> str:
    """Return the sentence of a prompt that tells of a product's stated size, if there is one."""
    known = {"high": size.get("height_cm"), "wide": size.get("width_cm")}
    told = " and ".join(f"{length:g} cm {how}" for how, length in known.items() if length)
    return f" It is stated to be {told}." if told else ""
