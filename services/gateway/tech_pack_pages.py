"""The technical pack as a PDF: cover, analysed views, materials, close-ups, sketches with their callouts.

Drawn by ReportLab in a worker process, from what the pack says and the bytes of its pictures; the same makes the same
bytes. Texts come from outside: see `tech_pack_letters`.
"""

import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from reportlab.lib import colors
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.platypus import Flowable, Image, KeepTogether, PageBreak, Paragraph, SimpleDocTemplate, Spacer, Table

from services.gateway.tech_pack_letters import BOLD, PLAIN, TEXT_MAX, know_fonts, markup, shown
from shared.images import decode, encode_jpeg

# A row of a table, or a close-up, has to fit on one page: what stands in a narrow column, or beside more, is short.
_NARROW_MAX: Final = 60
_SHORT_MAX: Final = 200
_ROW_MAX: Final = 800
ROWS_MAX: Final = 40
_SIDE_MAX: Final = 1400
_INK, _GREY, _LINE = colors.HexColor("#22262c"), colors.HexColor("#6b7280"), colors.HexColor("#d4d7dc")
_WIDTH: Final = A4[0] - 36 * mm
_STYLES: Final = {
    "title": ParagraphStyle("title", fontName=BOLD, fontSize=26, leading=32, textColor=_INK),
    "head": ParagraphStyle("head", fontName=BOLD, fontSize=16, leading=22, textColor=_INK, spaceAfter=8),
    "part": ParagraphStyle("part", fontName=BOLD, fontSize=10, leading=14, textColor=_INK, spaceBefore=8, spaceAfter=3),
    "text": ParagraphStyle("text", fontName=PLAIN, fontSize=8.5, leading=12, textColor=_INK),
    "note": ParagraphStyle("note", fontName=PLAIN, fontSize=8, leading=11, textColor=_GREY),
    "foot": ParagraphStyle("foot", fontName=PLAIN, fontSize=7.5, leading=10, textColor=_GREY),
}
_RULED: Final = [
    ("VALIGN", (0, 0), (-1, -1), "TOP"),
    ("LINEBELOW", (0, 0), (-1, -1), 0.4, _LINE),
    ("LEFTPADDING", (0, 0), (-1, -1), 0),
    ("TOPPADDING", (0, 0), (-1, -1), 2),
    ("BOTTOMPADDING", (0, 0), (-1, -1), 3),
]
_FIELDS: Final = (
    ("Construction", "construction"),
    ("Design elements", "design_elements"),
    ("Further attributes", "attributes"),
)


def drawn(pack: dict[str, Any], pictures: dict[str, bytes]) -> bytes:
    """Return the pack as a PDF.

    A second or two of CPU: call it through `shared.off_hub`.

    Args:
        pack: as `GET /v1/tech-packs/{product_id}` has it.
        pictures: files by revision or image id; what is missing, or cannot be read, is left out.
    """
    know_fonts()
    output = io.BytesIO()
    name = shown(pack["product"]["name"], most=_NARROW_MAX)
    document = SimpleDocTemplate(
        output,
        pagesize=A4,
        leftMargin=18 * mm,
        rightMargin=18 * mm,
        topMargin=18 * mm,
        bottomMargin=20 * mm,
        title=f"Technical pack: {name}",
        author="Darkroom",
        invariant=1,
    )

    def foot(canvas: Any, page: Any) -> None:
        text = _text(name, "foot")
        text.wrapOn(canvas, _WIDTH, 10)
        text.drawOn(canvas, 18 * mm, 11 * mm)
        canvas.setFont(PLAIN, 7.5)
        canvas.setFillColor(_GREY)
        canvas.drawRightString(A4[0] - 18 * mm, 11 * mm, str(page.page))

    document.build(list(_story(pack, _Pictures(pictures))), onFirstPage=foot, onLaterPages=foot)
    return output.getvalue()


class _Pictures:
    """Pictures ready to be placed: each no larger than a page can show."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self._files = files

    def of(self, one_id: str, *, width: float, height: float) -> Flowable:
        """Return the picture in a box of that size, in points; an empty one where there is none."""
        data = self._files.get(one_id)
        if data is None:
            return Spacer(width, 1)
        try:
            picture = decode(data, side=_SIDE_MAX)
        except Exception:  # noqa: BLE001  one picture that cannot be read is no reason for no pack
            return Spacer(width, 1)
        scale = min(width / picture.width, height / picture.height)
        file = io.BytesIO(encode_jpeg(picture, quality=86))
        return Image(file, width=picture.width * scale, height=picture.height * scale)


def _story(pack: Mapping[str, Any], pictures: _Pictures) -> Iterator[Flowable]:
    yield from _cover(pack, pictures)
    analyzed = [view for view in pack["base_views"] if view["analysis"]]
    if pack["base_views"]:
        yield PageBreak()
        yield from _views(pack["base_views"], pictures)
    for view in analyzed:
        yield PageBreak()
        yield from _materials(view)
    if pack["close_ups"]:
        yield PageBreak()
        yield _text("Close-ups", "head")
        for one in pack["close_ups"]:
            yield _close_up(one, pictures)
    for one in pack["sketches"]:
        yield PageBreak()
        yield from _sketch(one, pictures)


def _cover(pack: Mapping[str, Any], pictures: _Pictures) -> Iterator[Flowable]:
    product = pack["product"]
    yield Spacer(1, 12 * mm)
    yield _text("TECHNICAL PACK", "note")
    yield _text(product["name"], "title")
    yield Spacer(1, 8 * mm)
    if pack["base_views"]:
        yield pictures.of(pack["base_views"][0]["revision"]["id"], width=_WIDTH, height=96 * mm)
        yield Spacer(1, 8 * mm)
    detected = pack["category"] or {}
    kind = " / ".join(part for part in (detected.get("category"), detected.get("subcategory")) if part)
    facts = [
        ("SKU", product["sku"]),
        ("Category", product["category"] or kind),
        ("Detected as", f"{kind} ({round(100 * detected['confidence'])} % sure)" if kind else None),
        ("Description", product["description"]),
        ("Product", f"{product['id']}, version {product['version']}"),
        (
            "Contents",
            f"{len(pack['base_views'])} views, {len(pack['close_ups'])} close-ups, {len(pack['sketches'])} sketches",
        ),
    ]
    yield _table([(name, value) for name, value in facts if value], widths=(0.22, 0.78))
    palette: list[dict[str, Any]] = next(
        (view["analysis"]["colors"] for view in pack["base_views"] if view["analysis"]), []
    )
    if palette:
        yield Spacer(1, 6 * mm)
        yield _swatches(palette)


def _views(views: Sequence[Mapping[str, Any]], pictures: _Pictures) -> Iterator[Flowable]:
    yield _text("Views", "head")
    cells = []
    for view in views:
        revision = view["revision"]
        sure = f", {round(100 * view['confidence'])} % sure" if view["confidence"] is not None else ""
        cells.append(
            [
                pictures.of(revision["id"], width=_WIDTH / 2 - 12, height=66 * mm),
                _text(f"{revision['view_type']}, version {revision['version']}{sure}", "note"),
            ]
        )
    rows = [cells[number : number + 2] for number in range(0, len(cells), 2)]
    padded = [row + [""] * (2 - len(row)) for row in rows]
    yield Table(padded, colWidths=[_WIDTH / 2] * 2, style=[("VALIGN", (0, 0), (-1, -1), "TOP")])


def _materials(view: Mapping[str, Any]) -> Iterator[Flowable]:
    """Return the page of what is known of one view."""
    analysis, provenance = view["analysis"], view["provenance"]
    yield _text(f"Materials and make: {view['revision']['view_type']}", "head")
    yield _text(analysis["summary"], "text")
    yield _text("Materials", "part")
    yield _table([(one["name"], one["location"], one["finish"]) for one in analysis["materials"]], (0.34, 0.38, 0.28))
    yield _text("Dimensions", "part")
    lengths = [(one["name"], f"{one['value']:g} {one['unit']}", one["basis"]) for one in analysis["dimensions"]]
    yield _table(lengths, (0.34, 0.38, 0.28))
    if analysis["colors"]:
        yield _text("Colours", "part")
        yield _swatches(analysis["colors"])
    for title, name in _FIELDS:
        if analysis[name]:
            yield _text(title, "part")
            yield _table([(one["name"], one["value"]) for one in analysis[name]], (0.34, 0.66))
    yield Spacer(1, 4 * mm)
    yield _text(
        f"Version {view['version']}; analysed by {provenance['provider']} {provenance['model']},"
        f" {round(100 * view['confidence'])} % sure.",
        "note",
    )


def _close_up(one: Mapping[str, Any], pictures: _Pictures) -> Flowable:
    analysis = one["analysis"]
    materials = "; ".join(f"{each['name']}: {each['finish']}" for each in analysis["materials"])
    texts = [
        _text(f"{one['order']}. {one['title']}", "part", most=_SHORT_MAX),
        _text(f"Of the {one['seen_from']} view. {one['reason']}", "note", most=_SHORT_MAX),
        _text(analysis["summary"], "text", most=_SHORT_MAX),
        _text(materials, "text", most=_SHORT_MAX),
        *([_swatches(analysis["colors"], width=_WIDTH * 0.55)] if analysis["colors"] else []),
    ]
    picture = pictures.of(one["image"]["id"], width=_WIDTH * 0.36, height=58 * mm)
    style = [("VALIGN", (0, 0), (-1, -1), "TOP"), ("LEFTPADDING", (0, 0), (0, 0), 0)]
    return KeepTogether([Table([[picture, texts]], colWidths=[_WIDTH * 0.4, _WIDTH * 0.6], style=style), Spacer(1, 8)])


def _sketch(one: Mapping[str, Any], pictures: _Pictures) -> Iterator[Flowable]:
    yield _text(f"Technical sketch: {one['view_type']}", "head")
    if one["seen_from"] != one["view_type"]:
        yield _text(f"Made of the photo of the {one['seen_from']}.", "note")
    yield pictures.of(one["image"]["id"], width=_WIDTH, height=140 * mm)
    yield _text("Measurements", "part")
    lengths = [
        (each["code"], each["name"], f"{each['value']:g} {each['unit']}", each["basis"]) for each in one["measurements"]
    ]
    yield _table(lengths, (0.08, 0.46, 0.26, 0.2))
    yield _text("Callouts", "part")
    yield _table([(str(each["number"]), each["label"], each["note"]) for each in one["callouts"]], (0.08, 0.37, 0.55))


def _swatches(palette: Sequence[Mapping[str, Any]], *, width: float = _WIDTH) -> Flowable:
    """Return colours side by side, with what they are called below, and how much of the product has them."""
    some = [one for one in palette[:5] if _is_colour(one["hex"])]
    if not some:
        return Spacer(1, 1)
    widths = [width / len(some)] * len(some)
    names = [
        _text(f"{one['hex']} {round(100 * one['share'])} % {one['name']}", "note", most=_NARROW_MAX) for one in some
    ]
    style: list[tuple[Any, ...]] = [
        ("BACKGROUND", (column, 0), (column, 0), colors.HexColor(one["hex"])) for column, one in enumerate(some)
    ]
    style += [("BOX", (0, 0), (-1, 0), 0.4, _LINE), ("LEFTPADDING", (0, 0), (-1, -1), 0)]
    style += [("VALIGN", (0, 1), (-1, 1), "TOP")]
    return Table([[""] * len(some), names], colWidths=widths, rowHeights=[8 * mm, None], style=style, hAlign="LEFT")


def _is_colour(text: str) -> bool:
    return len(text) == 7 and text[0] == "#" and all(one in "0123456789abcdef" for one in text[1:])  # noqa: PLR2004  #rrggbb


def _table(rows: Sequence[Sequence[Any]], widths: Sequence[float]) -> Flowable:
    if not rows:
        return _text("None.", "note")
    longest = [min(TEXT_MAX, round(_ROW_MAX * share)) for share in widths]
    cells = [
        [_text(cell, "text", most=most) for cell, most in zip(row, longest, strict=True)] for row in rows[:ROWS_MAX]
    ]
    return Table(cells, colWidths=[_WIDTH * share for share in widths], style=_RULED, hAlign="LEFT")


def _text(text: Any, style: str, *, most: int = TEXT_MAX) -> Paragraph:
    return Paragraph(markup(str(text), most=most), _STYLES[style])
