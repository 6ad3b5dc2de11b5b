"""What names and metadata of products say: kinds of things, rooms, styles. It knows a few hundred words, no more."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

# Kind of thing: words that mean it. The first kind that a name holds a word of is taken.
KINDS: Final[Mapping[str, Sequence[str]]] = {
    "furniture/sofa": ("sofa", "couch", "settee", "loveseat", "sectional"),
    "furniture/chair": ("chair", "armchair", "stool", "bench", "recliner"),
    "furniture/table": ("table", "desk", "nightstand", "console"),
    "furniture/bed": ("bed", "headboard", "mattress", "cot"),
    "furniture/storage": ("cabinet", "shelf", "shelves", "bookcase", "dresser", "wardrobe", "sideboard"),
    "lighting/lamp": ("lamp", "light", "chandelier", "pendant", "sconce"),
    "textile/rug": ("rug", "carpet", "mat", "runner"),
    "textile/soft goods": ("cushion", "pillow", "throw", "blanket", "curtain", "towel"),
    "decor/object": ("vase", "mirror", "frame", "clock", "candle", "sculpture", "planter"),
    "apparel/top": ("shirt", "tee", "blouse", "sweater", "hoodie", "jacket", "coat", "vest"),
    "apparel/bottom": ("trousers", "pants", "jeans", "skirt", "shorts"),
    "apparel/dress": ("dress", "gown"),
    "footwear/shoe": ("shoe", "sneaker", "boot", "sandal", "loafer"),
    "accessories/bag": ("bag", "backpack", "handbag", "tote", "wallet", "purse"),
    "accessories/jewellery": ("ring", "necklace", "bracelet", "earring", "watch"),
    "kitchen/ware": ("mug", "cup", "plate", "bowl", "pan", "pot", "kettle", "glass", "bottle", "jar"),
    "electronics/device": ("phone", "laptop", "tablet", "speaker", "headphone", "camera", "monitor"),
    "toys/toy": ("toy", "doll", "puzzle", "game"),
}
ROOMS: Final[Mapping[str, Sequence[str]]] = {
    "living_room": ("sofa", "couch", "sectional", "coffee", "armchair", "rug", "living", "sideboard"),
    "bedroom": ("bed", "nightstand", "headboard", "dresser", "wardrobe", "bedroom", "mattress"),
    "dining_room": ("dining", "buffet"),
    "kitchen": ("kitchen", "stool", "mug", "plate", "bowl", "pan", "pot", "kettle"),
    "home_office": ("desk", "office", "bookcase"),
    "bathroom": ("bath", "bathroom", "towel", "vanity"),
    "nursery": ("nursery", "cot", "crib"),
    "kids_room": ("kids", "toy", "bunk"),
    "hallway": ("hall", "hallway", "console", "coat"),
    "balcony": ("outdoor", "garden", "patio", "balcony"),
}
STYLES: Final[Mapping[str, Sequence[str]]] = {
    "modern": ("modern", "contemporary", "glass", "chrome"),
    "scandinavian": ("scandinavian", "nordic", "birch", "ash", "pale"),
    "rustic": ("rustic", "reclaimed", "farm", "farmhouse"),
    "industrial": ("industrial", "steel", "iron", "concrete"),
    "bohemian": ("boho", "bohemian", "rattan", "woven", "macrame"),
    "coastal": ("coastal", "linen", "beach"),
    "mid_century": ("mid-century", "midcentury", "teak", "walnut", "tapered"),
    "minimalist": ("minimal", "minimalist", "plain"),
    "luxury": ("luxury", "velvet", "marble", "brass"),
}
UNKNOWN: Final = "unknown"
_WORD: Final = re.compile(r"[a-z][a-z-]+")
_DULL: Final = frozenset({"with", "and", "the", "for", "from", "set", "new", "large", "small", "product", "item"})


def words_of(*texts: Any) -> list[str]:
    """Return the words of texts, dicts and lists, in lower case and singular where that is plain to see."""
    found: list[str] = []
    for text in texts:
        if isinstance(text, Mapping):
            found += words_of(*text.values())
        elif isinstance(text, list | tuple):
            found += words_of(*text)
        elif text is not None:
            found += [_singular(word) for word in _WORD.findall(str(text).lower())]
    return found


def kind_of(words: Iterable[str]) -> str | None:
    """Return the kind of thing that words name, or None."""
    known = set(words)
    return next((kind for kind, names in KINDS.items() if known & set(names)), None)


def ranked(words: Iterable[str], table: Mapping[str, Sequence[str]]) -> list[str]:
    """Return the entries of a table that words speak for, strongest first."""
    counts = Counter(words)
    votes = {entry: sum(counts[name] for name in names) for entry, names in table.items()}
    return [entry for entry, count in sorted(votes.items(), key=lambda pair: -pair[1]) if count]


def keywords(words: Iterable[str], *, most: int = 12) -> list[str]:
    """Return the words that come most often and say something."""
    counts = Counter(word for word in words if len(word) > 3 and word not in _DULL)  # noqa: PLR2004  shorter say little
    return [word for word, _ in counts.most_common(most)]


def _singular(word: str) -> str:
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word  # noqa: PLR2004  as above
