"""Texts from outside on the pages of a technical pack: none of them is read as markup, and each letter has a font.

Noto Sans has the letters of Latin, Greek and Cyrillic scripts, and is in the file. Chinese, Japanese and Korean are
written in the fonts that PDF readers bring along (ISO 32000-1, 9.7.5.2: character collections of Adobe). Any other
letter is shown as one that is missing, for all to see.
"""

import io
import unicodedata
from functools import lru_cache
from itertools import groupby
from typing import Final
from xml.sax.saxutils import escape

from pymupdf_fonts.NotoSans_Bold import fontbuffer as noto_sans_bold
from pymupdf_fonts.NotoSans_Regular import fontbuffer as noto_sans
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.cidfonts import UnicodeCIDFont
from reportlab.pdfbase.ttfonts import TTFont

PLAIN: Final = "NotoSans"
BOLD: Final = "NotoSans-Bold"
TEXT_MAX: Final = 600
MISSING: Final = "\N{REPLACEMENT CHARACTER}"
_CHINESE, _JAPANESE, _KOREAN = "STSong-Light", "HeiseiMin-W3", "HYSMyeongJo-Medium"
# By the first word of a character's name in Unicode; Chinese characters are written as the text around them is.
_OF_SCRIPT: Final = {"HIRAGANA": _JAPANESE, "KATAKANA": _JAPANESE, "HANGUL": _KOREAN}
_HAN: Final = ("CJK", "IDEOGRAPHIC", "FULLWIDTH")
_UNSEEN: Final = {"Cc", "Cf"}  # controls and formats: they are to do something to the letters around them


def know_fonts() -> None:
    """Make the fonts known to ReportLab, once a process."""
    if PLAIN in pdfmetrics.getRegisteredFontNames():
        return
    pdfmetrics.registerFont(TTFont(PLAIN, io.BytesIO(noto_sans)))
    pdfmetrics.registerFont(TTFont(BOLD, io.BytesIO(noto_sans_bold)))
    for name in (_CHINESE, _JAPANESE, _KOREAN):
        pdfmetrics.registerFont(UnicodeCIDFont(name))


def shown(text: str, *, most: int = TEXT_MAX) -> str:
    """Return a text of ``most`` characters, as it can be shown: `know_fonts` was called."""
    short = text if len(text) <= most else text[: most - 1] + "…"
    composed = unicodedata.normalize("NFC", "".join(" " if one.isspace() else one for one in short))
    return "".join(_shown(one) for one in composed if unicodedata.category(one) not in _UNSEEN)


def markup(text: str, *, most: int = TEXT_MAX) -> str:
    """Return a text as ReportLab's markup that says just this, each letter in a font that has it."""
    letters = shown(text, most=most)
    han = next((_OF_SCRIPT[word] for one in letters if (word := _script(one)) in _OF_SCRIPT), _CHINESE)
    runs = ((font, "".join(run)) for font, run in groupby(letters, key=lambda one: _font(one, han=han)))
    return "".join(f'<font name="{font}">{escape(run)}</font>' if font else escape(run) for font, run in runs)


def _shown(letter: str) -> str:
    if _is_noto(letter) or _is_asian(letter):
        return letter
    simpler = unicodedata.normalize("NFKD", letter)  # a ligature, a letter in a circle: what it is made of
    return simpler if all(_is_noto(one) for one in simpler) else MISSING


def _font(letter: str, *, han: str) -> str | None:
    """Return the font of a letter, None for that of the style."""
    return None if _is_noto(letter) else _OF_SCRIPT.get(_script(letter), han)


def _is_noto(letter: str) -> bool:
    return ord(letter) in pdfmetrics.getFont(PLAIN).face.charToGlyph


def _is_asian(letter: str) -> bool:
    """Tell whether readers have a font for it: those know the characters of the first 16 bits."""
    return ord(letter) < 1 << 16 and (_script(letter) in _OF_SCRIPT or _script(letter) in _HAN)


@lru_cache(maxsize=4096)
def _script(letter: str) -> str:
    return unicodedata.name(letter, "").partition(" ")[0]
