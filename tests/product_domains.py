"""Twenty kinds of products, each with what its own trade says of it: the fields of no two are the same."""

from typing import Any, Final

# Of each: what it is sold as, a material with place and finish, a dimension, and its own fields.
DOMAINS: Final[dict[str, dict[str, Any]]] = {
    "apparel": {
        "name": "Merino sweater",
        "material": ("merino wool", "body", "12 gg fully fashioned"),
        "dimension": ("chest", 54, "cm"),
        "fields": {"stitch density": "14 courses/cm", "neckline": "crew, 2x2 rib", "seams": "linked"},
    },
    "footwear": {
        "name": "Trail sneaker",
        "material": ("ripstop mesh", "upper", "TPU overlay"),
        "dimension": ("heel drop", 8, "mm"),
        "fields": {"last": "EU 42 standard", "outsole": "rubber, 4 mm lugs", "closure": "lace, gusseted tongue"},
    },
    "furniture": {
        "name": "Oak dining chair",
        "material": ("white oak", "frame", "hard-wax oil"),
        "dimension": ("seat height", 46, "cm"),
        "fields": {"joinery": "mortise and tenon", "load": "120 kg", "glides": "felt"},
    },
    "jewellery": {
        "name": "Signet ring",
        "material": ("gold 750", "shank", "high polish"),
        "dimension": ("inner diameter", 17.3, "mm"),
        "fields": {"setting": "bezel", "stone": "onyx, 8 x 6 mm", "hallmark": "inside the shank"},
    },
    "electronics": {
        "name": "Bluetooth speaker",
        "material": ("ABS", "housing", "VDI 24 texture"),
        "dimension": ("depth", 78, "mm"),
        "fields": {"ingress protection": "IP67", "ports": "USB-C", "driver": "52 mm"},
    },
    "lighting": {
        "name": "Pendant lamp",
        "material": ("spun aluminium", "shade", "powder coat RAL 9005"),
        "dimension": ("shade diameter", 380, "mm"),
        "fields": {"lamp holder": "E27", "cord": "textile, 2 m", "light distribution": "direct"},
    },
    "bags": {
        "name": "Roll-top backpack",
        "material": ("waxed canvas", "shell", "dry wax"),
        "dimension": ("volume", 22, "l"),
        "fields": {"hardware": "zinc, gunmetal", "zips": "YKK 8 reversed", "webbing": "25 mm"},
    },
    "ceramics": {
        "name": "Espresso cup",
        "material": ("stoneware", "body", "reactive glaze"),
        "dimension": ("capacity", 80, "ml"),
        "fields": {"firing": "1240 degrees, oxidation", "foot ring": "unglazed", "wall": "3 mm"},
    },
    "textiles": {
        "name": "Wool rug",
        "material": ("New Zealand wool", "pile", "hand-tufted"),
        "dimension": ("pile height", 14, "mm"),
        "fields": {"backing": "cotton canvas", "density": "4,000 g/m2", "edge": "overlocked"},
    },
    "toys": {
        "name": "Stacking toy",
        "material": ("beech", "rings", "water-based varnish"),
        "dimension": ("smallest part", 62, "mm"),
        "fields": {"age grade": "12 months and up", "standard": "EN 71-1", "cord length": "none"},
    },
    "cosmetics": {
        "name": "Serum bottle",
        "material": ("flint glass", "bottle", "frosted"),
        "dimension": ("fill volume", 30, "ml"),
        "fields": {
            "closure": "18/415 dropper",
            "shelf life": "24 months, 6M after opening",
            "label": "PP, silver foil",
        },
    },
    "food": {
        "name": "Chocolate bar",
        "material": ("couverture 70 %", "bar", "tempered"),
        "dimension": ("net weight", 80, "g"),
        "fields": {"allergens": "soy", "wrap": "foil and paper band", "storage": "16 to 18 degrees"},
    },
    "tools": {
        "name": "Claw hammer",
        "material": ("drop-forged steel", "head", "tempered, 52 HRC"),
        "dimension": ("head weight", 450, "g"),
        "fields": {"handle": "hickory, wedged", "face": "crowned", "claw": "rip"},
    },
    "sports": {
        "name": "Climbing harness",
        "material": ("Dyneema", "tie-in loop", "bar-tacked"),
        "dimension": ("waist", 80, "cm"),
        "fields": {"standard": "EN 12277 type C", "buckles": "self-locking", "gear loops": "4"},
    },
    "automotive": {
        "name": "Roof rack",
        "material": ("aluminium 6063", "crossbar", "anodised"),
        "dimension": ("bar length", 1270, "mm"),
        "fields": {"dynamic load": "75 kg", "fit": "flush rails", "torque": "6 Nm"},
    },
    "medical": {
        "name": "Wrist brace",
        "material": ("perforated neoprene", "sleeve", "nylon-faced"),
        "dimension": ("wrist circumference", 18, "cm"),
        "fields": {"splint": "aluminium, removable", "class": "MDR class I", "cleaning": "hand wash 30 degrees"},
    },
    "instruments": {
        "name": "Ukulele",
        "material": ("koa", "top", "satin nitro"),
        "dimension": ("scale length", 380, "mm"),
        "fields": {"bracing": "fan", "nut": "bone, 35 mm", "tuning": "gCEA"},
    },
    "stationery": {
        "name": "Dotted notebook",
        "material": ("100 g wood-free paper", "block", "uncoated"),
        "dimension": ("spine", 15, "mm"),
        "fields": {"binding": "thread-sewn, lay-flat", "grid": "5 mm dots", "ribbon": "two"},
    },
    "pets": {
        "name": "Dog collar",
        "material": ("bridle leather", "strap", "waxed"),
        "dimension": ("width", 25, "mm"),
        "fields": {"buckle": "solid brass", "breaking load": "180 kg", "holes": "five, 25 mm apart"},
    },
    "packaging": {
        "name": "Mailer box",
        "material": ("E-flute kraft", "blank", "one-colour flexo"),
        "dimension": ("inner length", 240, "mm"),
        "fields": {"FEFCO": "0427", "burst strength": "900 kPa", "closure": "tear strip"},
    },
}
