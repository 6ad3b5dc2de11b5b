"""Product lines: one module each, found by scanning this package; adding one is adding a file.

A workflow module has: ``NAME``, ``TITLE``, ``Inputs`` (a marshmallow schema), ``ASSETS`` (which inputs are upload
ids), ``EXAMPLE`` (inputs), ``ESTIMATED_SECONDS`` (for one generation), ``plan(inputs, assets, seed)`` and, where later
operations depend on earlier results, ``follow_up(settings, done)``. All of it is pure. A ``plan`` that takes ``cached``
too is asked again where analyses are known of what it plans: what then costs nothing gets no SKU. The result of a
generation is what its last operation found out, or what ``result_of(settings, done)`` makes of all of them.

``PRODUCTS`` and ``REVISIONS`` say which inputs, if any, are ids of products and of revisions of their views;
``assets`` has what is known of these too, by id. ``renews_view(settings)`` says of a generation with a ``product_id``
and a ``view_type`` whether its image is a new revision of that view: then the catalog takes it up.
"""

import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from inspect import signature
from typing import Any

from marshmallow import Schema

from shared.problems import NotFound


@dataclass(frozen=True, kw_only=True)
class PlannedOperation:
    """One call to a provider. ``sources`` are keys in the object store, in the order the operation takes them."""

    name: str
    prompt: str
    prompt_version: str
    seed: int
    sources: tuple[str, ...] = ()
    parameters: dict[str, Any] = field(default_factory=dict)
    makes_image: bool = True


@dataclass(frozen=True, kw_only=True)
class PlannedGeneration:
    """One billable result. ``sku`` is None where it is free; the operations start side by side.

    ``revision_id`` is the view of ``product_id`` that it is made of.
    ``priced_by_operation``: its price is for these operations, in equal parts, and each that takes an analysis which is
    known makes it cheaper by one. What takes all of its operations from there costs nothing in any case.
    """

    sku: str | None
    seed: int
    operations: tuple[PlannedOperation, ...]
    style: str | None = None
    room_type: str | None = None
    product_id: str | None = None
    revision_id: str | None = None
    view_type: str | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    priced_by_operation: bool = False


@dataclass(frozen=True, kw_only=True)
class DoneOperation:
    """A finished operation, as a follow-up sees it: its result, its images, and the pictures it was made of."""

    name: str
    result: Mapping[str, Any] | None
    image_keys: tuple[str, ...]
    image_ids: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()


Assets = Mapping[str, Mapping[str, Any]]
# Whether what an operation would answer is known already.
Cached = Callable[[PlannedOperation], bool]


def nothing_cached(_operation: PlannedOperation) -> bool:
    """Know nothing."""
    return False


@dataclass(frozen=True, kw_only=True)
class Workflow:
    """A product line, as its module declares it."""

    name: str
    title: str
    inputs: type[Schema]
    assets: tuple[str, ...]
    products: tuple[str, ...]
    revisions: tuple[str, ...]
    example: Mapping[str, Any]
    estimated_seconds: int
    plan: Callable[[Mapping[str, Any], Assets, int, Cached], Sequence[PlannedGeneration]]
    follow_up: Callable[[Mapping[str, Any], Sequence[DoneOperation]], Sequence[PlannedOperation]]
    choices: Mapping[str, Sequence[str]]
    renews_view: Callable[[Mapping[str, Any]], bool]
    result_of: Callable[[Mapping[str, Any], Sequence[DoneOperation]], Mapping[str, Any] | None]


def nothing_follows(_settings: Mapping[str, Any], _done: Sequence[DoneOperation]) -> Sequence[PlannedOperation]:
    """Plan no further operation: the generation is complete when its first operations are."""
    return ()


def last_result(_settings: Mapping[str, Any], done: Sequence[DoneOperation]) -> Mapping[str, Any] | None:
    """Return what the last operation found out; None where it made an image."""
    return done[-1].result


def never(_settings: Mapping[str, Any]) -> bool:
    """Tell that no generation makes a view anew."""
    return False


@cache
def registered() -> Mapping[str, Workflow]:
    """Return every workflow of this package, by name.

    Raises:
        ValueError: two files have the same ``NAME``: one would be sold in the place of the other.
    """
    modules = (import_module(f"{__name__}.{found.name}") for found in pkgutil.iter_modules(__path__))
    known: dict[str, Workflow] = {}
    for line in map(_read, modules):
        if known.setdefault(line.name, line) is not line:
            raise ValueError(f"two files of {__name__} have the NAME {line.name!r}")
    return known


def workflow(name: str) -> Workflow:
    """Return the workflow called ``name``.

    Raises:
        NotFound: there is none.
    """
    try:
        return registered()[name]
    except KeyError:
        raise NotFound(f"There is no workflow {name!r}. GET /v1/workflows lists them.") from None


def _whatever_is_cached(plan: Callable[..., Sequence[PlannedGeneration]]) -> Callable[..., Sequence[PlannedGeneration]]:
    def planned(
        inputs: Mapping[str, Any], assets: Assets, seed: int, _cached: Cached = nothing_cached
    ) -> Sequence[PlannedGeneration]:
        return plan(inputs, assets, seed)

    return planned


def _read(module: Any) -> Workflow:
    return Workflow(
        name=module.NAME,
        title=module.TITLE,
        inputs=module.Inputs,
        assets=module.ASSETS,
        products=getattr(module, "PRODUCTS", ()),
        revisions=getattr(module, "REVISIONS", ()),
        example=module.EXAMPLE,
        estimated_seconds=module.ESTIMATED_SECONDS,
        plan=module.plan if "cached" in signature(module.plan).parameters else _whatever_is_cached(module.plan),
        follow_up=getattr(module, "follow_up", nothing_follows),
        choices=getattr(module, "CHOICES", {}),
        renews_view=getattr(module, "renews_view", never),
        result_of=getattr(module, "result_of", last_result),
    )
