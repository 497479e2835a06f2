"""What every record holds beside its scores: machine, versions, commit; and how records are written
and summed up.
"""

import functools
import importlib.metadata
import json
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Shaped

from jaxgen import files
from jaxgen.plain import plain


def summary(values: Sequence[float]) -> dict[str, Any]:
    """Mean and sample standard deviation (0 for one value), and the values themselves."""
    values = [float(v) for v in values]
    return {"mean": float(np.mean(values)), "std": deviation(values), "values": values}


def deviation(values: Sequence[float] | np.ndarray, ddof: int = 1) -> float:
    """Standard deviation, 0 for one value, NaN where a value is infinite."""
    with np.errstate(invalid="ignore"):
        return float(np.std(values, ddof=ddof)) if len(values) > 1 else 0.0


def commit() -> str:
    """The source's git commit, with a + where files differ from it, or "unknown"."""
    folder = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    try:
        head = subprocess.run(
            ["git", "-C", folder, "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True
        )
        dirty = subprocess.run(
            ["git", "-C", folder, "status", "--porcelain"], capture_output=True, text=True
        )
    except OSError:
        return "unknown"
    return (
        head.stdout.strip() + ("+" if dirty.stdout.strip() else "")
        if head.returncode == 0
        else "unknown"
    )


def machine() -> dict[str, Any]:
    """Device and versions."""
    device = jax.devices()[0]
    return {
        "device": device.device_kind if device.platform != "cpu" else f"CPU ({platform.machine()})",
        "devices": jax.device_count(),
        "cores": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "python": platform.python_version(),
        **{
            package: importlib.metadata.version(package)
            for package in ("jax", "flax", "optax", "numpy")
        },
    }


def write(record: dict[str, Any], path: str) -> None:
    """A record as JSON, atomically."""
    files.replace(path, json.dumps(plain(record), indent=2, allow_nan=False) + "\n")


def keep_samples(images: Mapping[int, Shaped[np.ndarray, "N ..."]], stem: str) -> None:
    """The samples of each seed as `<stem>_seed_<seed>.npz` (arr_0), which other tools read."""
    for seed, each in images.items():
        save = functools.partial(np.savez_compressed, arr_0=each)
        files.replace(f"{stem}_seed_{seed}.npz", save)


def read(path: str) -> dict[str, Any] | None:
    """A record written before; None where there is none that can be read."""
    try:
        return json.loads(files.read(path))
    except (OSError, ValueError):
        return None
