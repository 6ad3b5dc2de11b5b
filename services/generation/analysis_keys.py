"""By what an analysis is known: everything that could make another answer of it goes into one hash. Pure."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from services.generation.analyses import schema_for


def analysis_key(
    name: str,
    *,
    prompt: str,
    prompt_version: str,
    provider: str,
    model: str,
    digests: Sequence[str],
    parameters: Mapping[str, Any],
) -> str:
    """Return the key of an analysis, in hex.

    Args:
        name: of the operation.
        prompt: what is asked, word for word.
        prompt_version: the workflow's name for how it asks.
        provider: who is asked.
        model: the id of the model that is asked for; what a fallback answers is known by its own.
        digests: SHA-256, in hex, of the pictures' normalised bytes, in the order the operation takes them.
        parameters: what else is asked for, JSON; the shape of the answer is part of the key, said there or not.
    """
    about = {
        "operation": name,
        "prompt": prompt,
        "prompt_version": prompt_version,
        "provider": provider,
        "model": model,
        "images": list(digests),
        "parameters": parameters,
        "schema": schema_for(name, parameters),
    }
    canonical = json.dumps(_canonical(about), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def _canonical(value: Any) -> Any:
    """Return JSON in which a whole number is written one way: 1.0 is 1 (as in RFC 8785), here and in the database."""
    if isinstance(value, Mapping):
        return {name: _canonical(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_canonical(inner) for inner in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value
