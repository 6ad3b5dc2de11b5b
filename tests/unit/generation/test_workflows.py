import hashlib
import json
import shutil
import sys
from pathlib import Path

import pytest
from marshmallow import ValidationError

from services.generation import workflows
from services.generation.contract import documents
from services.generation.operations import Answered
from services.generation.providers import Provider, Request, available, route
from services.generation.providers.local_pictures import headshot as local_headshot
from services.generation.styles import ROOM_TYPES, STYLES
from services.generation.workflows import headshot, registered, staging, workflow
from shared.problems import BadRequest, NotFound
from tests.fakes import ScriptedProvider
from tools.demo_room import demo_room

SAVED = "sty_01jx0000000000000000000000"
ASSETS = {"ast_1": {"key": "assets/org/a.jpg"}}
INPUTS = {"upload_id": "ast_1", "style": "rustic", "room_type": "bedroom", "variants": 3}


@pytest.mark.parametrize("name", sorted(registered()))
def test_the_example_of_every_workflow_fits_its_own_inputs(name: str) -> None:
    line = workflow(name)

    assert line.inputs().load(dict(line.example)) == dict(line.example)


@pytest.mark.parametrize("name", sorted(registered()))
def test_the_contract_of_every_workflow_is_the_one_on_file(name: str) -> None:
    on_file = json.loads((Path("shared/contracts") / f"{name}.json").read_text())

    assert documents()[name] == on_file


def test_an_unknown_workflow_is_refused_by_name() -> None:
    with pytest.raises(NotFound, match="no_such_line"):
        workflow("no_such_line")


def test_a_copied_file_that_kept_its_name_replaces_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("first_of_a_name", "second_of_a_name"):
        shutil.copy(staging.__file__, tmp_path / f"{name}.py")
    monkeypatch.setattr(workflows, "__path__", [str(tmp_path)])

    with pytest.raises(ValueError, match="'staging'"):
        registered.__wrapped__()


# Digests of what is asked under each name that is kept with operations: by it one knows, years later, what was asked.
PROMPTS = json.loads((Path(__file__).parent / "prompt_versions.json").read_text())


def prompts_by_version() -> dict[str, str]:
    found = {}
    for line in registered().values():
        declared = vars(sys.modules[line.inputs.__module__])
        for name in [name for name in declared if name.endswith("_VERSION")]:
            stem = name.removesuffix("VERSION").removesuffix("PROMPT_")
            prompt = declared.get(f"{stem}PROMPT") or declared[f"{stem}PROMPTS"]
            found[declared[name]] = hashlib.sha256(json.dumps(prompt, sort_keys=True).encode()).hexdigest()[:16]
    return found


def test_a_prompt_is_not_changed_under_the_version_it_had() -> None:
    found = prompts_by_version()

    assert len(found) > 10
    # A new version is written into the file beside this one, and those of before stay there.
    assert found == {version: PROMPTS.get(version) for version in found}


def test_each_variant_is_one_billable_generation_with_its_own_seed_and_the_uploaded_photo() -> None:
    planned = staging.plan(INPUTS, ASSETS, 1)

    assert [item.sku for item in planned] == ["staging.variant"] * 3
    assert len({item.seed for item in planned}) == 3
    assert [item.operations[0].sources for item in planned] == [("assets/org/a.jpg",)] * 3


def test_the_prompt_names_the_style_and_the_room() -> None:
    (planned,) = staging.plan({**INPUTS, "variants": 1}, ASSETS, 1)

    assert STYLES["rustic"] in planned.operations[0].prompt
    assert ROOM_TYPES["bedroom"] in planned.operations[0].prompt


@pytest.mark.parametrize(
    "wrong",
    [{"style": "gothic"}, {"room_type": "moon"}, {"variants": 0}, {"variants": 9}, {"variants": "2"}, {"extra": 1}],
)
def test_what_does_not_fit_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        staging.Inputs().load({**INPUTS, **wrong})


def test_a_route_takes_the_first_provider_that_is_set_up() -> None:
    local: Provider = ScriptedProvider()

    chosen = route("image.stage", routes={"image.stage": ["replicate", "local"]}, providers={"local": local})

    assert chosen is local


def test_an_operation_nobody_does_is_said_by_name() -> None:
    with pytest.raises(LookupError, match=r"image\.fly"):
        route("image.fly", routes={}, providers={"local": ScriptedProvider()})


def test_the_local_provider_needs_no_key_and_does_every_style() -> None:
    assert "image.stage" in available({})["local"].operations


@pytest.mark.parametrize(
    ("name", "sku", "operation", "parameters"),
    [
        ("empty_room", "staging.empty_room", "image.empty_room", {}),
        ("furniture_removal", "staging.edit", "image.edit", {"edit": "furniture_removal"}),
        ("day_to_dusk", "staging.edit", "image.edit", {"edit": "day_to_dusk"}),
        ("enhancement", "staging.edit", "image.edit", {"edit": "enhancement"}),
    ],
)
def test_an_edit_is_one_billable_picture_of_the_upload_by_a_versioned_prompt(
    name: str, sku: str, operation: str, parameters: dict[str, str]
) -> None:
    (planned,) = workflow(name).plan({"upload_id": "ast_1"}, ASSETS, 7)
    (work,) = planned.operations

    assert (planned.sku, planned.seed, work.seed) == (sku, 7, 7)
    assert (work.name, work.parameters, work.sources) == (operation, parameters, ("assets/org/a.jpg",))
    assert (work.prompt_version, work.makes_image) == (f"{name.replace('_', '-')}-1", True)
    assert len(work.prompt) > 100


@pytest.mark.parametrize("name", ["empty_room", "furniture_removal", "day_to_dusk", "enhancement"])
def test_the_local_provider_does_every_edit_by_what_the_workflow_says(name: str) -> None:
    photo = demo_room()
    (planned,) = workflow(name).plan({"upload_id": "ast_1"}, ASSETS, 7)
    (work,) = planned.operations
    local = available({})["local"]
    request = Request(
        operation_id="op_1",
        name=work.name,
        prompt=work.prompt,
        model=local.model_for(work.name),
        seed=work.seed,
        sources=(photo,),
        parameters=work.parameters,
    )

    outcome = local.submit(request)

    assert isinstance(outcome, Answered)
    assert outcome.images[0].data.startswith(b"\xff\xd8\xff")
    assert outcome.images[0].data != photo


def test_there_are_twenty_styles_and_twelve_room_types_each_with_words_of_its_own() -> None:
    assert (len(STYLES), len(ROOM_TYPES)) == (20, 12)
    assert len(set(STYLES.values())) == 20
    assert len(set(ROOM_TYPES.values())) == 12


def test_what_is_staged_may_be_an_image_of_ours_and_the_results_name_it() -> None:
    emptied = {"ast_1": {"key": "images/org/empty.jpg", "image_id": "img_1"}}

    planned = staging.plan(INPUTS, emptied, 1)

    assert {item.operations[0].sources for item in planned} == {("images/org/empty.jpg",)}
    assert [item.settings for item in planned] == [{"parent_image_id": "img_1"}] * 3


def test_a_saved_style_adds_its_words_and_colours_to_its_base() -> None:
    saved = {"id": SAVED, "name": "Ours", "base": "coastal", "words": "olive trees", "colours": ["#1d8c3a"]}

    (planned,) = staging.plan({**INPUTS, "style": SAVED, "variants": 1}, {**ASSETS, SAVED: saved}, 1)

    assert all(words in planned.operations[0].prompt for words in (STYLES["coastal"], "olive trees", "#1d8c3a"))
    assert planned.operations[0].parameters == {"style": "coastal", "colours": ["#1d8c3a"], "room_type": "bedroom"}
    assert planned.style == SAVED


@pytest.mark.parametrize("style", ["modern", "eclectic", SAVED])
def test_a_style_is_a_slug_of_ours_or_the_id_of_a_saved_one(style: str) -> None:
    assert staging.Inputs().load({**INPUTS, "style": style})["style"] == style


@pytest.mark.parametrize("style", ["sty_1", "ast_01jx0000000000000000000000", "", None, 1])
def test_anything_else_is_no_style(style: object) -> None:
    with pytest.raises(ValidationError):
        staging.Inputs().load({**INPUTS, "style": style})


FACE = {"ast_1": {"key": "assets/org/a.jpg", "purpose": "face"}}
BATCH = {"upload_id": "ast_1", "styles": ["corporate", "model"], "aspect_ratio": "4:5", "quality": "low"}


def test_each_style_of_a_headshot_is_one_billable_generation_with_its_own_seed() -> None:
    planned = headshot.plan(BATCH, FACE, 1)

    assert [(item.sku, item.style) for item in planned] == [
        ("headshot.image", "corporate"),
        ("headshot.image", "model"),
    ]
    assert len({item.seed for item in planned}) == 2
    assert [item.operations[0].parameters for item in planned] == [
        {"style": style, "aspect_ratio": "4:5", "quality": "low"} for style in BATCH["styles"]
    ]
    assert headshot.STYLES["model"] in planned[1].operations[0].prompt
    assert planned[0].operations[0].prompt_version == "headshot-1"


@pytest.mark.parametrize("purpose", ["room", "profile", None])
def test_a_headshot_is_planned_of_faces_only(purpose: str | None) -> None:
    with pytest.raises(BadRequest):
        headshot.plan(BATCH, {"ast_1": {"key": "assets/org/a.jpg", "purpose": purpose}}, 1)


def test_the_local_provider_knows_every_style_and_quality_of_headshots() -> None:
    assert set(local_headshot.STYLES) == set(headshot.STYLES)
    assert set(local_headshot.QUALITIES) == set(headshot.QUALITIES)
