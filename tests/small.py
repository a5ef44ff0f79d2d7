"""Small networks for tests of every family."""

import dataclasses
from typing import Any

from genmodel.models.families import load_family


def network_of(family: str, **wanted: Any) -> dict[str, Any]:
    """Those of the wanted settings that the family has: not each has a latent_dim."""
    known = {field.name for field in dataclasses.fields(load_family(family).Config)}
    return {name: value for name, value in wanted.items() if name in known}
