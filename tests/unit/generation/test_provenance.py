"""What a generated file says of itself, read by others."""

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from io import BytesIO
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from PIL import Image

from services.generation import provenance
from services.generation.provenance import Provenance

IPTC = "{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}"
XMP = "{http://ns.adobe.com/xap/1.0/}"
MEDIA = "{http://ns.adobe.com/xap/1.0/mm/}"
REFERENCE = "{http://ns.adobe.com/xap/1.0/sType/ResourceRef#}documentID"
RDF = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"
COMPOSITE = "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"


def a_provenance(**changed: object) -> Provenance:
    fields = {
        "image_id": "img_01jx0000000000000000000000",
        "generation_id": "gen_01jx0000000000000000000000",
        "digital_source_type": COMPOSITE,
        "provider": "replicate",
        "model": "acme/stager:1",
        "created_at": datetime(2026, 11, 20, 12, 30, tzinfo=UTC),
        "sources": ("ast_01jx0000000000000000000000", "img_01jx0000000000000000000001"),
    }
    return Provenance(**fields | changed)


def described(packet: bytes) -> ET.Element:
    root = ET.fromstring(packet.decode().strip("\ufeff"))  # noqa: S314  our own packet
    found = root.find(f".//{RDF}Description")
    assert found is not None
    return found


def test_it_says_what_it_is_by_which_system_and_when() -> None:
    found = described(provenance.packet(a_provenance()))

    assert found.attrib[f"{IPTC}DigitalSourceType"] == COMPOSITE
    assert found.attrib[f"{IPTC}AISystemUsed"] == "replicate acme/stager:1"
    assert found.attrib[f"{XMP}CreateDate"] == "2026-11-20T12:30:00+00:00"
    assert found.attrib[f"{MEDIA}DocumentID"] == "darkroom:img_01jx0000000000000000000000"


def test_it_names_what_it_was_made_from_in_order() -> None:
    found = described(provenance.packet(a_provenance()))

    derived = found.find(f"{MEDIA}DerivedFrom")
    ingredients = found.findall(f"{MEDIA}Ingredients/{RDF}Bag/{RDF}li")

    assert derived is not None
    assert derived.attrib[REFERENCE] == "darkroom:ast_01jx0000000000000000000000"
    assert [one.attrib[REFERENCE] for one in ingredients] == [
        "darkroom:ast_01jx0000000000000000000000",
        "darkroom:img_01jx0000000000000000000001",
    ]


def test_what_was_made_from_nothing_names_nothing() -> None:
    found = described(provenance.packet(a_provenance(sources=())))

    assert list(found) == []


@pytest.mark.parametrize("model", ['"/><x:evil xmlns:x="y"/>', "a\x00b\x1f\ud800", "<!--", "]]>", "{image_id}", "ünï"])
def test_whatever_a_vendor_calls_its_model_is_only_a_name(model: str) -> None:
    found = described(provenance.packet(a_provenance(model=model)))

    assert found.attrib[f"{IPTC}AISystemUsed"] == "replicate " + re.sub("[\x00\x1f\ud800]", "", model)
    assert found.attrib[f"{IPTC}DigitalSourceType"] == COMPOSITE


def told_to_pillow(file: bytes) -> dict[str, Any]:
    with Image.open(BytesIO(file)) as image:
        image.load()
        found = described(image.info["xmp"])
    derived = found.find(f"{MEDIA}DerivedFrom")
    assert derived is not None
    return {
        "DigitalSourceType": found.attrib[f"{IPTC}DigitalSourceType"],
        "AISystemUsed": found.attrib[f"{IPTC}AISystemUsed"],
        "DocumentID": found.attrib[f"{MEDIA}DocumentID"],
        "DerivedFrom": {"DocumentID": derived.attrib[REFERENCE]},
        "Ingredients": [
            {"DocumentID": one.attrib[REFERENCE]} for one in found.findall(f"{MEDIA}Ingredients/{RDF}Bag/{RDF}li")
        ],
    }


def told_to_exiftool(file: bytes) -> dict[str, Any]:
    command = [str(EXIFTOOL), "-json", "-struct", "-validate", "-warning", "-XMP:all", "-"]
    answer = subprocess.run(command, input=file, capture_output=True, check=True)
    (found,) = json.loads(answer.stdout)
    assert (found.pop("Validate"), found.get("Warning")) == ("OK", None)
    return {name: found[name] for name in ("DigitalSourceType", "AISystemUsed", "DocumentID", *LINEAGE)}


LINEAGE = ("DerivedFrom", "Ingredients")
EXIFTOOL = shutil.which("exiftool")
# `make test` installs exiftool where it can; where not, there is one opinion less.
READERS = [told_to_pillow, told_to_exiftool] if EXIFTOOL else [told_to_pillow]


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_a_marked_file_of_every_kind_says_it_to_whoever_reads_it(
    kind: str, read: Callable[[bytes], dict[str, Any]]
) -> None:
    output = BytesIO()
    Image.new("RGB", (64, 48), "navy").save(output, kind)

    marked = provenance.mark(output.getvalue(), provenance.packet(a_provenance()))

    upload, image = ("darkroom:ast_01jx0000000000000000000000", "darkroom:img_01jx0000000000000000000001")
    assert read(marked) == {
        "DigitalSourceType": COMPOSITE,
        "AISystemUsed": "replicate acme/stager:1",
        "DocumentID": "darkroom:img_01jx0000000000000000000000",
        "DerivedFrom": {"DocumentID": upload},
        "Ingredients": [{"DocumentID": upload}, {"DocumentID": image}],
    }
    with Image.open(BytesIO(marked)) as shown:
        assert shown.size == (64, 48)
