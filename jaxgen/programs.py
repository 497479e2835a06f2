"""How functions are compiled, what they cost, and what a device could do at most."""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import get_opaque_trace_state, jaxprs_in_params

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
# without it they go to Eigen, which uses all. When the library fuses a matrix product with what is
# added to it, it pulls convolutions into the fusion: it may take single products and reductions.
CPU_OPTIONS = {
    "xla_cpu_experimental_ynn_fusion_type": ",".join(
        ["LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT", "LIBRARY_FUSION_TYPE_REDUCE"]
    )
}


_trace = functools.partial(get_opaque_trace_state, convention="jaxgen")
OUTSIDE = _trace()  # where no function is being traced


def jit(function: Callable, **options: Any) -> Any:
    """`jax.jit` with the compiler options that suit the backend, which JAX takes for the outermost
    function only."""
    return _Jitted(function, options) if _compiler_options() else jax.jit(function, **options)


class _Jitted:
    """What `jax.jit` returns, with everything that it has, in two forms: with compiler options
    where it is called from Python, without them where another function is being traced."""

    def __init__(self, function: Callable, options: dict[str, Any]):
        functools.update_wrapper(self, function)
        self._inner: Any = jax.jit(function, **options)
        self._outer: Any = jax.jit(function, compiler_options=_compiler_options(), **options)

    def _jitted(self):
        return self._outer if _trace() == OUTSIDE else self._inner

    def __call__(self, *args, **kwargs):
        return self._jitted()(*args, **kwargs)

    def __get__(self, instance, owner=None):
        return self if instance is None else functools.partial(self, instance)

    def lower(self, *args, **kwargs) -> jax.stages.Lowered:
        return self._jitted().lower(*args, **kwargs)

    def trace(self, *args, **kwargs) -> jax.stages.Traced:
        return self._jitted().trace(*args, **kwargs)

    def eval_shape(self, *args, **kwargs):
        return self._inner.eval_shape(*args, **kwargs)

    def clear_cache(self) -> None:
        self._outer.clear_cache()
        self._inner.clear_cache()

    def __getattr__(self, name: str):
        if name in ("_inner", "_outer"):  # not yet there: while it is copied or unpickled
            raise AttributeError(name)
        return getattr(self._jitted(), name)


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


# What moves or makes numbers without computing with them.
MOVES = frozenset(
    "broadcast_in_dim concatenate convert_element_type copy copy_p device_put dynamic_slice "
    "dynamic_update_slice gather iota optimization_barrier pad random_bits random_wrap rev reshape "
    "scatter select_n slice sort split squeeze stop_gradient transpose bitcast_convert_type "
    "reduce_precision stack unstack all_gather all_to_all ppermute axis_index".split()
)


def flops(function: Callable, *args: Any, **kwargs: Any) -> float:
    """Floating-point operations of one call, counted on its jaxpr; arguments may be shapes.

    2 m n k for a product of matrices, 2 for each weight that meets a pixel in a convolution, one
    for each number that an elementwise operation gives and a reduction takes. The body of a scan
    counts as often as it runs, that of a loop of unknown length once, and of the branches of a
    `cond` the largest. Of what shard_map or pmap divides among devices, one device's part counts.
    """
    if not isinstance(function, jax.stages.Wrapped):  # a function of Python, or of pmap
        function = jax.jit(
            function, static_argnums=[i for i, x in enumerate(args) if type(x) is int]
        )
    return float(_flops(function.trace(*args, **kwargs).jaxpr.jaxpr))


def _flops(jaxpr) -> int:
    return sum(map(_equation_flops, jaxpr.eqns))


def _equation_flops(equation) -> int:
    name, parameters = equation.primitive.name, equation.params
    inner = [_flops(jaxpr) for jaxpr in jaxprs_in_params(parameters)]
    if name == "scan":
        return parameters["length"] * sum(inner)
    if name == "cond":
        return max(inner)
    if inner:
        return sum(inner)
    operands, result = [v.aval for v in equation.invars], equation.outvars[0].aval
    if name in MOVES or not jnp.issubdtype(result.dtype, jnp.inexact):
        return 0
    if name == "dot_general":
        (contracted, _), _ = parameters["dimension_numbers"]
        return 2 * result.size * math.prod(operands[0].shape[i] for i in contracted)
    if name in ("conv_general_dilated", "convolution"):
        image, kernel = operands
        return _convolution_flops(image, kernel, result, parameters)
    return operands[0].size if name.startswith(("reduce", "cum")) else result.size


def _convolution_flops(image, kernel, result, parameters) -> int:
    """Zeros of the padding and between dilated pixels do not count."""
    numbers = parameters.get("dimension_numbers")
    image_axes, kernel_axes, result_axes = numbers or ((0, 3, 1, 2), (3, 2, 0, 1), (0, 3, 1, 2))
    strides = parameters.get("window_strides", parameters.get("strides"))
    count = 2 * result.shape[result_axes[0]] * math.prod(kernel.shape[i] for i in kernel_axes[:2])
    for d, (low, _) in enumerate(parameters["padding"]):
        at = np.arange(result.shape[result_axes[2 + d]])[:, None] * strides[d] - low
        at = at + np.arange(kernel.shape[kernel_axes[2 + d]]) * parameters["rhs_dilation"][d]
        pixel, hole = np.divmod(at, parameters["lhs_dilation"][d])
        count *= int(np.sum((hole == 0) & (pixel >= 0) & (pixel < image.shape[image_axes[2 + d]])))
    return count // parameters.get("batch_group_count", 1)


def memory(compiled) -> int:
    """Bytes of arguments, results and what lies between: the most that it holds at once."""
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
