"""What XLA says of a compiled program, and what a device could do at most."""

import jax

# Dense bfloat16 FLOP/s, as their makers publish them (data sheets of NVIDIA and Google Cloud's TPU pages).
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


def flops(compiled) -> float:
    """FLOPs of a compiled program by XLA's cost analysis, which counts the body of a loop once."""
    analysis = compiled.cost_analysis()
    return float((analysis[0] if isinstance(analysis, list) else analysis or {}).get("flops", float("nan")))


def memory(compiled) -> int:
    """Bytes of arguments, results and what lies between: the most that the program holds at once."""
    sizes = compiled.memory_analysis()
    return int(sizes.argument_size_in_bytes + sizes.output_size_in_bytes + sizes.temp_size_in_bytes - sizes.alias_size_in_bytes)


def peak_flops(device: jax.Device | None = None) -> float | None:
    """FLOP/s of a device at most, in bfloat16; None where it is not known, as for every CPU."""
    kind = (device or jax.devices()[0]).device_kind
    if kind in PEAK_FLOPS:
        return PEAK_FLOPS[kind]
    return next((peak for name, peak in PEAK_FLOPS.items() if " " not in name and name in kind), None)
