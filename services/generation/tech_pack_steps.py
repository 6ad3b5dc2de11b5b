"""What may be done next for a technical pack, from what there is of it; and how sure an analysis is. Pure."""

from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final

from shared.problems import StepNotAllowed

ADD_VIEW: Final = "add_view"
DETECT_CATEGORY: Final = "detect_category"
ANALYZE: Final = "analyze_base_views"
CLOSE_UPS: Final = "generate_close_ups"
SKETCHES: Final = "generate_sketches"
EDIT: Final = "edit_field"
REGENERATE: Final = "regenerate"

# Kinds of parts.
CATEGORY: Final = "category"
CLOSE_UP: Final = "close_up"
SKETCH: Final = "sketch"

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


def analyzed_of(views: Collection[Mapping[str, Any]], *, before: str) -> list[Mapping[str, Any]]:
    """Return those of ``views`` that are analysed.

    Raises:
        StepNotAllowed: as `require` for the step ``before`` which that must have been.
    """
    analyzed = [view for view in views if view["analysis"]]
    require(before, views=len(views), analyzed=len(analyzed))
    return analyzed


def confidence(analysis: Mapping[str, Any]) -> float:
    """Return how far an analysis is to be trusted, 0 to 1: what the model says, less for what it leaves empty."""
    filled = sum(bool(analysis.get(section)) for section in _SECTIONS) / len(_SECTIONS)
    said = min(1.0, max(0.0, float(analysis.get("confidence", 0))))
    return round(said * (1 - _OF_COMPLETENESS * (1 - filled)), 2)


def in_order(views: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return views, the front first; a store of JSON keeps no order of names."""
    return sorted(views, key=lambda view: _VIEWS.index(view["view_type"]))
