"""Where an image comes from: what it was made of, and what that was made of, back to the uploads."""

from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from services.generation.provenance import source_ids
from shared.ids import is_id
from shared.problems import NotFound
from shared.times import rfc3339

# Further back than anybody works; what is older is not followed.
GENERATIONS_BACK = 50

# Sources are keys in the object store, and an image's key has its id in it. What is deleted is told as such: that it
# existed is part of where the others come from. What is come to by several ways is gone on from once, hence the UNION.
_LINE = sa.text("""
WITH RECURSIVE line (id, sources, back) AS (
    SELECT i.id, o.inputs -> 'sources', 0
    FROM images i JOIN operations o ON o.id = i.operation_id
    WHERE i.id = :image_id AND i.org_id = :org_id AND i.livemode = :livemode AND i.deleted_at IS NULL
  UNION
    SELECT i.id, o.inputs -> 'sources', line.back + 1
    FROM line
    CROSS JOIN LATERAL (
        SELECT DISTINCT split_part(split_part(key, '/', 3), '.', 1) AS id
        FROM jsonb_array_elements_text(line.sources) AS source (key)
        WHERE key LIKE 'images/%'
    ) AS source
    JOIN images i ON i.id = source.id AND i.org_id = :org_id
    JOIN operations o ON o.id = i.operation_id
    WHERE line.back < :back
)
SELECT DISTINCT ON (i.id) i.*, line.sources, j.workflow
FROM line JOIN images i ON i.id = line.id JOIN jobs j ON j.id = i.job_id
ORDER BY i.id DESC
""")


def of_image(session: Session, *, org_id: str, livemode: bool, image_id: str) -> dict[str, Any]:
    """Return an image's provenance: itself first, then everything it comes from, the youngest first.

    Raises:
        NotFound: the organization has none of this id in this mode.
    """
    asked = {"org_id": org_id, "livemode": livemode, "image_id": image_id, "back": GENERATIONS_BACK}
    rows = list(session.execute(_LINE, asked))
    if not any(row.id == image_id for row in rows):
        raise NotFound("There is no such image.")
    rows.sort(key=lambda row: row.id != image_id)  # clocks of workers differ: what it is made of may seem younger
    made = [_image(row) for row in rows]
    uploads = dict.fromkeys(one for node in made for one in node["made_of"] if is_id(one, prefix="ast"))
    return {"image_id": image_id, "line": [*made, *({"id": one, "kind": "upload"} for one in uploads)]}


def _image(row: sa.Row[Any]) -> dict[str, Any]:
    return {
        "id": row.id,
        "kind": "image",
        "made_of": source_ids(row.sources),
        "workflow": row.workflow,
        "style": row.style,
        "room_type": row.room_type,
        "seed": row.seed,
        "sha256": row.sha256,
        "job_id": row.job_id,
        "generation_id": row.generation_id,
        "created_at": rfc3339(row.created_at, precision="auto"),
        "deleted": row.deleted_at is not None,
        **row.provenance,
    }
