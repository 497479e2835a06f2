"""How functions are compiled, what XLA says of a compiled program, and what a device could do at
most.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
from jax.extend.core import get_opaque_trace_state

# Dense bfloat16 FLOP/s, as their makers publish them (data sheets of NVIDIA and Google Cloud's TPU
# pages).
PEAK_FLOPS = {
    "TPU v4": 275e12,
    "TPU v5 lite": 197e12,
    "TPU v5e": 197e12,
    "TPU v5p": 459e12,
    "TPU v5": 459e12,
    "TPU v6 lite": 918e12,
    "TPU v6e": 918e12,
    "A100": 312e12,
    "H100": 989e12,
    "H200": 989e12,
    "B200": 2250e12,
}


# XLA's CPU backend hands convolutions to a library (YNNPACK) that runs most of them on one core;
# without it they go to Eigen, which uses all. Reductions stay with the library, and matrix products
# each by itself: fused with what is added to them, they take convolutions along.
CPU_OPTIONS = {
    "xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT,LIBRARY_FUSION_TYPE_REDUCE"
}


_trace = functools.partial(get_opaque_trace_state, convention="jaxgen")
OUTSIDE = _trace()  # where no function is being traced


def jit(function: Callable, **options: Any) -> Callable:
    """`jax.jit` (calls and `lower`) with the compiler options that suit the backend, which JAX
    takes for the outermost function only."""
    inner = jax.jit(function, **options)
    if not _compiler_options():
        return inner
    outer = jax.jit(function, compiler_options=_compiler_options(), **options)

    @functools.wraps(function)
    def call(*args, **kwargs):
        return (outer if _trace() == OUTSIDE else inner)(*args, **kwargs)

    call.lower = outer.lower
    return call


@functools.cache
def _compiler_options() -> dict[str, str]:
    """CPU_OPTIONS on a CPU whose XLA knows them, else none."""
    if jax.default_backend() != "cpu":
        return {}
    try:
        jax.jit(lambda: 0, compiler_options=CPU_OPTIONS).lower().compile()
    except jax.errors.JaxRuntimeError:
        return {}
    return CPU_OPTIONS


def flops(compiled) -> float:
    """FLOPs of a compiled program by XLA's cost analysis, which counts the body of a loop once."""
    analysis = compiled.cost_analysis()
    return float(
        (analysis[0] if isinstance(analysis, list) else analysis or {}).get("flops", float("nan"))
    )


def memory(compiled) -> int:
    """Bytes of arguments, results and what lies between: the most that the program holds at once."""
    sizes = compiled.memory_analysis()
    return int(
        sizes.argument_size_in_bytes
        + sizes.output_size_in_bytes
        + sizes.temp_size_in_bytes
        - sizes.alias_size_in_bytes
    )


def peak_flops(device: jax.Device | None = None) -> float | None:
    """FLOP/s of a device at most, in bfloat16; None where it is not known, as for every CPU."""
    kind = (device or jax.devices()[0]).device_kind
    if kind in PEAK_FLOPS:
        return PEAK_FLOPS[kind]
    return next(
        (peak for name, peak in PEAK_FLOPS.items() if " " not in name and name in kind), None
    )
