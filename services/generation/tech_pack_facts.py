"""What is known of a product as a step of its technical pack begins, and how a question tells of it. Pure."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

# How long the name of a category may be.
CATEGORY_MAX: Final = 100
_UNKNOWN: Final = "unknown"
_KNOWN_MAX: Final = 1500
_CENTIMETRES: Final = {"cm": 1.0, "mm": 0.1, "in": 2.54, "inches": 2.54}
_LONGEST_CM: Final = 1_000_000.0


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
    return stated_size({f"{one['name']}_{one['unit']}".casefold(): one["value"] for one in stated})


def kind_told(said: Mapping[str, Any] | None) -> str:
    """Return ``category/subcategory`` of what was detected, or of an analysis; as much of it as is known."""
    category, subcategory = ((said or {}).get(name) or _UNKNOWN for name in ("category", "subcategory"))
    if category.casefold() == _UNKNOWN:
        return ""
    return (category if subcategory.casefold() == _UNKNOWN else f"{category}/{subcategory}")[:CATEGORY_MAX]


def kind_for(inputs: Mapping[str, Any], product: Mapping[str, Any], analyzed: Iterable[Mapping[str, Any]] = ()) -> str:
    """Return what a step takes a product for: what the request says, the product, or its first analysed view."""
    said = inputs.get("category") or product["category"]
    return said or next((kind_told(view["analysis"]) for view in analyzed), "")


def known_of(analyses: Iterable[Mapping[str, Any]]) -> str:
    """Return in one line what analyses say of a product, for a prompt."""
    return "; ".join(map(_in_words, analyses))[:_KNOWN_MAX]


def of_kind(kind: str) -> str:
    """Return the sentence of a prompt that tells of a product's category, if there is one."""
    return f" It is of the category {kind!r}." if kind else ""


def of_size(size: Mapping[str, float]) -> str:
    """Return the sentence of a prompt that tells of a product's stated size, if there is one."""
    known = {"high": size.get("height_cm"), "wide": size.get("width_cm")}
    told = " and ".join(f"{length:g} cm {how}" for how, length in known.items() if length)
    return f" It is stated to be {told}." if told else ""


def _in_words(analysis: Mapping[str, Any]) -> str:
    fields = [*analysis["construction"], *analysis["design_elements"], *analysis["attributes"]]
    materials = [f"{one['name']} ({one['finish']})" for one in analysis["materials"]]
    return ", ".join([analysis["summary"], *materials, *(f"{one['name']}: {one['value']}" for one in fields)])
