"""Styles and room types a client may name: slugs, with the words a prompt uses for them. Data only."""

STYLES: dict[str, str] = {
    "modern": "clean lines, neutral palette, low furniture, crisp daylight",
    "scandinavian": "pale wood, white walls, light textiles, bright soft daylight",
    "rustic": "reclaimed wood, warm earth tones, heavy textiles, warm evening light",
    "industrial": "exposed metal and concrete, dark leather, cool muted light",
    "bohemian": "layered textiles, plants, saturated warm accents",
    "coastal": "white and sea blue, linen, airy daylight",
    "mid_century": "teak, tapered legs, mustard and teal accents",
    "minimalist": "few pieces, white and grey, even light",
    "farmhouse": "painted wood, cream and sage, soft morning light",
    "luxury": "velvet, marble, brass, deep contrast",
    "japandi": "low oak furniture, beige and charcoal, calm diffuse light",
    "art_deco": "geometric brass, emerald and black, dramatic light",
}

ROOM_TYPES: dict[str, str] = {
    "living_room": "living room with sofa, coffee table, rug",
    "bedroom": "bedroom with bed, bedside tables, soft rug",
    "dining_room": "dining room with table and chairs",
    "kitchen": "kitchen with stools and tableware",
    "home_office": "home office with desk, chair, shelves",
    "bathroom": "bathroom with towels and plants",
    "kids_room": "children's room with small bed and toys",
    "nursery": "nursery with cot and soft light",
    "hallway": "hallway with console and mirror",
    "balcony": "balcony with outdoor chairs and plants",
    "studio_apartment": "studio apartment with bed, desk and seating",
    "basement": "basement lounge with seating",
}
