"""What a generated image says of itself: made by which system from what. As data, and as the XMP packet in its file.

Follows the IPTC Photo Metadata Standard 2025.1 (DigitalSourceType, AI system) and XMP's media management (lineage). The
prompt is ours, and is not told.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from xml.sax.saxutils import quoteattr

import structlog

from services.generation.claims import Claimed
from services.generation.operations import Answered
from shared import images, xmp
from shared.ids import is_id
from shared.off_hub import off_hub

log = structlog.get_logger(__name__)

# What IPTC has for what a model has made of pictures, and for what it has made of words alone.
_OF_PICTURES = "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"
_OF_WORDS = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"

# What XML 1.0 has no way of writing.
_UNWRITABLE = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

_PACKET = """<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/">
 <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
  <rdf:Description rdf:about=""
    xmlns:xmp="http://ns.adobe.com/xap/1.0/"
    xmlns:xmpMM="http://ns.adobe.com/xap/1.0/mm/"
    xmlns:stRef="http://ns.adobe.com/xap/1.0/sType/ResourceRef#"
    xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
    Iptc4xmpExt:DigitalSourceType={digital_source_type}
    Iptc4xmpExt:AISystemUsed={system}
    xmp:CreatorTool="Darkroom"
    xmp:CreateDate={created_at}
    xmpMM:DocumentID={document}
    xmpMM:InstanceID={instance}>{lineage}
  </rdf:Description>
 </rdf:RDF>
</x:xmpmeta>
<?xpacket end="r"?>"""
_LINEAGE = """
   <xmpMM:DerivedFrom stRef:documentID={first}/>
   <xmpMM:Ingredients>
    <rdf:Bag>
{all}
    </rdf:Bag>
   </xmpMM:Ingredients>"""


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """Where an image comes from.

    ``digital_source_type`` is a URL of IPTC's vocabulary, ``sources`` are the ids of the uploads and images it was made
    from, the one it shows first, ``generation_id`` tells two files with the same image apart from two images.
    """

    image_id: str
    generation_id: str
    digital_source_type: str
    provider: str
    model: str
    created_at: datetime
    sources: Sequence[str] = ()


def completed(item: Claimed, answer: Answered) -> Answered:
    """Return the answer with how its images came about, unless its provider has said so."""
    source_type = _OF_PICTURES if item.inputs["sources"] else _OF_WORDS
    return replace(answer, provenance={"digital_source_type": source_type, **answer.provenance})


def of_result(item: Claimed, answer: Answered, *, image_id: str) -> Provenance:
    """Return what the image ``image_id`` of this `completed` answer is to say of itself, made now."""
    return Provenance(
        image_id=image_id,
        generation_id=item.generation_id,
        digital_source_type=answer.provenance["digital_source_type"],
        provider=item.provider,
        model=answer.model or item.model_requested,
        created_at=datetime.now(UTC),
        sources=source_ids(item.inputs["sources"]),
    )


def source_ids(keys: Iterable[str]) -> list[str]:
    """Return the ids of the uploads and images whose bytes lie under these keys, in order; each once."""
    found = (part.partition(".")[0] for key in keys for part in key.split("/"))
    return list(dict.fromkeys(id_ for id_ in found if is_id(id_, prefix="ast") or is_id(id_, prefix="img")))


def packet(provenance: Provenance) -> bytes:
    """Return it as an XMP packet, in UTF-8. Texts of vendors lose what XML cannot hold."""
    lineage = ""
    if provenance.sources:
        every = [_quoted(_document(source)) for source in provenance.sources]
        ingredients = "\n".join(f"     <rdf:li stRef:documentID={one}/>" for one in every)
        lineage = _LINEAGE.format(first=every[0], all=ingredients)
    text = _PACKET.format(
        digital_source_type=_quoted(provenance.digital_source_type),
        system=_quoted(f"{provenance.provider} {provenance.model}"),
        created_at=_quoted(provenance.created_at.isoformat(timespec="seconds")),
        document=_quoted(_document(provenance.image_id)),
        instance=_quoted(_document(provenance.generation_id)),
        lineage=lineage,
    )
    return text.encode()


def mark(data: bytes, words: bytes, *, upright: bool = True) -> bytes:
    """Return the image file with ``words``, a `packet`, as all it says, every pixel as it was.

    Where a file decodes but does not follow its format, so that nothing can be put into it, or where its pixels are not
    ``upright`` but turned by what else it says, it is encoded anew first.

    Raises:
        Problem: the image workers cannot do that (`shared.images.normalise`).
    """
    if upright:
        try:
            return xmp.embed(data, words)
        except xmp.UnmarkableImage as error:
            log.warning("image_encoded_anew", why=str(error))
    return xmp.embed(off_hub(images.normalise, data).bytes, words)


def _document(id_: str) -> str:
    return f"darkroom:{id_}"


def _quoted(text: str) -> str:
    return quoteattr(_UNWRITABLE.sub("", text))
