"""Values as JSON holds them."""

import math
from collections.abc import Mapping
from typing import Any


def plain(value: Any) -> Any:
    """The same value as JSON holds it: lists and dicts of plain values, null for a number that is
    not finite.
    """
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if hasattr(value, "tolist"):  # numpy's and jax's numbers and arrays
        return plain(value.tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value
