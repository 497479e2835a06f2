"""What a train step needs of each chip when 64 or 256 train together, asked of the compiler,
without any of them.

    python experiments/scaling.py --out=benchmarks/results/scaling.json

With `pip install libtpu` (in an environment of its own: JAX there looks for TPUs), some of the
programs are compiled by the TPU's own compiler as well, which needs no TPU; without it, only by the
CPU's.

Protocol: the real train step (forward, backward, optimiser, average of the parameters) is compiled
ahead of time for as many virtual CPU devices as there would be chips, from shapes alone, in
bfloat16 with float32 parameters. Memory is XLA's own account for one device (arguments + results -
what results take over from arguments + temporaries). FLOPs are those of one device by XLA's cost
analysis. Traffic is read from the compiled program: of each collective the bytes of the whole array
(an all-gather's result, the operand of the others), and from them the bytes that a device sends on
a ring of its n group members, (n - 1) / n of the array, twice that for an all-reduce. The CPU's
compiler stands in for that of
the chips: see docs/scaling.md for what it does differently. Rows of "TPU v5 lite" are of the TPU's
compiler, for the slices v5e:8x8 and v5e:16x16; they have memory and FLOPs only, as its programs
split the collectives up."""

import collections
import importlib.metadata
import importlib.util
import math
import os
import re
import time
from typing import Any

from benchmark_common import in_process, parse, record, write

BYTES = {
    "pred": 1,
    "s8": 1,
    "u8": 1,
    "bf16": 2,
    "f16": 2,
    "s32": 4,
    "u32": 4,
    "f32": 4,
    "s64": 8,
    "u64": 8,
    "f64": 8,
}
COLLECTIVE = re.compile(
    r" = (.*?) (all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute)"
    r"(?:-start)?\(.*?replica_groups=(mesh\[.*?\}|\S+)"
)
ARRAY = re.compile(r"(\w+)\[([\d,]*)\]")

LATENTS = {
    "model.denoiser.size": "XL/2",
    "model.denoiser.remat": "full",
    "data.image_shape": (32, 32, 4),
    "data.num_classes": 1000,
    "data.flip": False,
}
# name: configuration, images on each chip, changes
MODELS = {
    "DDPM U-Net, CIFAR-10": ("configs/cifar10/ddpm.py", 16, {}),
    "DiT-XL/2, 32x32x4 latents": ("configs/cifar10/dit.py", 16, LATENTS),
}
# chips, and how many of them share one state
MESHES = ((64, 1), (64, 64), (256, 1), (256, 64), (256, 256))
TPU_MESHES = ((64, 1), (64, 64), (256, 64))
SMOKE = ((4, 1), (4, 4))
SLICES = {4: "v5e:2x2", 64: "v5e:8x8", 256: "v5e:16x16"}


def collectives(text: str) -> dict[str, dict[str, float]]:
    """{kind: {count, bytes: of whole arrays, sent: by one device on a ring}} of a compiled
    program's text.
    """
    found = collections.defaultdict(lambda: {"count": 0, "bytes": 0, "sent": 0.0})
    for result, kind, groups in COLLECTIVE.findall(text):
        members = group_size(groups)
        size = sum(
            BYTES[kind] * math.prod(map(int, filter(None, sides.split(","))))
            for kind, sides in ARRAY.findall(result)
        )
        size *= members if kind == "reduce-scatter" else 1
        found[kind]["count"] += 1
        found[kind]["bytes"] += size
        found[kind]["sent"] += size * (members - 1) / members * (2 if kind == "all-reduce" else 1)
    return dict(found)


def at_once(text: str) -> dict[str, int]:
    """The most bytes of gathered arrays that are live at once, before and after the first barrier
    of the backward pass, in the order of the compiled program; live is what it uses directly later.
    """
    lines = [line for line in text[text.index("\nENTRY") :].splitlines() if " = " in line]
    last, sizes, barrier = {}, {}, len(lines)
    for at, line in enumerate(lines):
        name, rest = line.strip().removeprefix("ROOT ").split(" = ", 1)
        if found := re.match(r"(\w+)\[([\d,]*)\]\S* all-gather\(", rest):
            sizes[at, name] = BYTES[found[1]] * math.prod(map(int, found[2].split(",")))
        if " opt-barrier(" in rest:
            barrier = min(barrier, at)
        for used in re.findall(r"%[\w.-]+", rest.split(", metadata=")[0]):
            last[used] = at
    most = {"forward": 0, "backward": 0}
    for now in range(len(lines)):
        live = sum(size for (at, name), size in sizes.items() if at <= now <= last.get(name, at))
        part = "forward" if now < barrier else "backward"
        most[part] = max(most[part], live)
    return most


def group_size(groups: str) -> int:
    """Members of a group in HLO's notations: {{0,1},{2,3}}, [groups,members]<=[devices],
    mesh['a'=2,'b'=2] {'b'}.
    """
    if groups.startswith("["):
        return int(re.match(r"\[\d+,(\d+)\]", groups)[1])
    if groups.startswith("mesh"):
        sides = dict(re.findall(r"('\w+')=(\d+)", groups))
        return math.prod(
            int(sides[axis]) for axis in re.findall(r"'\w+'", groups[groups.rindex("{") :])
        )
    return len(re.match(r"\{\{([\d,]*)\}", groups)[1].split(","))


def compiler(chips: int, tpu: bool):
    """A function that compiles for `chips` devices; to be called in a process of its own, before
    JAX is there.
    """
    if tpu:
        return tpu_compiler(SLICES[chips])
    # How much work goes into machine code changes nothing of what is asked here, but the time it
    # takes. The pass that is left out drops the barriers that keep what is to be computed or
    # gathered again from being kept instead, before a later one merges what is there twice: on a
    # CPU rematerialisation would save nothing.
    flags = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
    flags += " --xla_disable_hlo_passes=cse_barrier_expander"
    os.environ |= {
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={chips} {flags}",
    }
    return measure


def tpu_compiler(name: str):
    """The same for the chips of a TPU slice."""
    os.environ |= {
        "JAX_PLATFORMS": "cpu",
        "TPU_SKIP_MDS_QUERY": "1",
        "TPU_WORKER_HOSTNAMES": "localhost",
        "TPU_ACCELERATOR_TYPE": "v5litepod-1",
    }
    import jax
    from jax.experimental import topologies

    devices = topologies.get_topology_desc(topology_name=name, platform="tpu").devices
    # the library asks JAX where it runs: a CPU's program would be another one
    jax.devices, jax.device_count, jax.default_backend = (
        lambda: devices,
        lambda: len(devices),
        lambda: "tpu",
    )
    return measure


def measure(path: str, per_chip: int, changes: dict[str, Any], fsdp: int) -> dict[str, Any]:
    """What one device of the train step of the config `path` needs, `fsdp` devices sharing one
    state.
    """
    import jax

    from jaxgen import config as config_lib
    from jaxgen import families, programs
    from jaxgen.training import parallel, players, state, step

    overrides = {
        "parallel.fsdp": fsdp,
        "precision.compute": "bfloat16",
        "train.batch_size": per_chip * jax.device_count(),
    }
    config = config_lib.load(path, {**overrides, **changes})
    family = families.build(config)
    table = players.build(config, family)
    devices = parallel.from_config(config)
    shapes = devices.with_shardings(jax.eval_shape(state.initial(config, family, table)))
    rows = devices.batch_sharding
    batch = {
        "image": jax.ShapeDtypeStruct(
            (config.train.batch_size, *config.data.image_shape), "uint8", sharding=rows
        )
    }
    if config.data.num_classes:
        batch["label"] = jax.ShapeDtypeStruct((config.train.batch_size,), "int32", sharding=rows)
    since = time.perf_counter()
    trained = devices.compile(step.build(config, family, table, devices))
    compiled = trained.lower(shapes, batch).compile()
    seconds = time.perf_counter() - since
    sizes, text, kind = compiled.memory_analysis(), compiled.as_text(), jax.devices()[0].device_kind
    traffic = (
        {"collectives": collectives(text), "gathered_at_once": at_once(text)}
        if kind == "cpu"
        else {}
    )
    whole = lambda tree: sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(tree))  # noqa: E731
    return {
        "compiler": kind,
        "parameters": sum(x.size for x in jax.tree.leaves(shapes.params)),
        "state_bytes": whole(shapes),
        "parameter_bytes": whole(shapes.params),
        "argument_bytes": sizes.argument_size_in_bytes,
        "temporary_bytes": sizes.temp_size_in_bytes,
        "peak_bytes": programs.memory(compiled),
        "flops": programs.flops(trained, shapes, batch),
        "compile_seconds": seconds,
        **traffic,
    }


def main(arguments=None) -> None:
    options = parse(arguments)
    with_tpu = importlib.util.find_spec("libtpu") is not None
    programs = [(False, mesh) for mesh in (SMOKE if options.smoke else MESHES)]
    programs += [(True, mesh) for mesh in (SMOKE if options.smoke else TPU_MESHES) if with_tpu]
    rows = []
    for model, (path, per_chip, changes) in MODELS.items():
        path, changes = (
            (f"{path}:smoke", {"parallel.fsdp_min_size": 64}) if options.smoke else (path, changes)
        )
        for tpu, (chips, fsdp) in programs:
            with in_process(compiler, chips, tpu) as compile_for:
                found = compile_for(path, per_chip, changes, fsdp)
            rows.append(
                {"model": model, "chips": chips, "fsdp": fsdp, "per_chip": per_chip, **found}
            )
            print(describe(rows[-1]), flush=True)
    write(
        options.out,
        record(
            __doc__, rows=rows, libtpu=importlib.metadata.version("libtpu") if with_tpu else None
        ),
    )


def describe(row: dict[str, Any]) -> str:
    """One line of the table."""
    memory = " + ".join(
        f"{row[name] / 2**30:.2f}" for name in ("argument_bytes", "temporary_bytes")
    )
    traffic = row.get("collectives", {}).items()
    fields = (
        f"{row['model']} by the compiler for {row['compiler']}",
        f"{row['chips']} chips, fsdp {row['fsdp']}",
        f"{memory} GiB, peak {row['peak_bytes'] / 2**30:.2f}",
        f"{row['flops'] / 1e12:.3f} TFLOP",
        ", ".join(f"{v['count']:.0f} {kind} {v['bytes'] / 2**20:.0f} MiB" for kind, v in traffic),
        f"{row['compile_seconds']:.0f} s",
    )
    return " | ".join(filter(None, fields))


if __name__ == "__main__":
    main()
