"""Images per second of the train step beside the same step in PyTorch, eager and compiled.

    python experiments/benchmark.py [--out=benchmarks/results/benchmark.json] [--only=NAME]
    [--smoke]

Both sides train the same network with the same loss, Adam, moving average, batch and precision, on
uint8 images. Ours is what `jaxgen train` runs: ten steps in a call, on data kept on the device;
PyTorch's batches come from host memory. The networks are compared before anything is timed: with
the same parameters their outputs in float32 differ by less than 1e-4 of the largest. With a GPU
that both JAX and PyTorch can use, three larger workloads in bfloat16 are added, and the sampler's
time per step over the bare network's.

Protocol: each side has a process of its own and all cores, or the GPU; repeats in turn, of so many
steps that each takes about two seconds; the ratio is the median over the repeats.

PyTorch is no dependency: pip install torch (for a CPU: --index-url
https://download.pytorch.org/whl/cpu)"""

import importlib.metadata
import importlib.util
import os
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import benchmark_common as common
import numpy as np

CONFIGS = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "configs")
IMAGES, WARM_UP, TOLERANCE, SAMPLER_STEPS = 4096, 3, 1e-4, 50
OURS, EAGER, COMPILED = "jaxgen", "PyTorch eager", "PyTorch compiled"


class Workload(NamedTuple):
    """A config file with dotted overrides, the denoiser's fields in place of the file's, and the
    target against eager PyTorch.
    """

    config: str
    overrides: Mapping[str, Any]
    denoiser: Mapping[str, Any] = {}
    target: float | None = None
    gpu: bool = False


def diffusion(size: int, channels: int, batch: int, **overrides: Any) -> dict[str, Any]:
    """configs/cifar10/ddpm.py on random images, with what the PyTorch side has not (clipping,
    warm-up, flips) switched off.
    """
    return {
        "data.source": "synthetic",
        "data.image_shape": (size, size, channels),
        "data.flip": False,
        "train.batch_size": batch,
        "players.denoiser.optimizer.clip": 0.0,
        "players.denoiser.optimizer.warmup": 0,
        **overrides,
    }


DDPM, BF16 = "cifar10/ddpm.py", {"precision.compute": "bfloat16"}
LATENT = {"data.num_classes": 1000, "conditional": True, **BF16}
SMALL = dict(name="unet", channels=32, blocks=2, dropout=0.1)
WORKLOADS = {
    "mlp_vae": Workload(
        "mnist/vae.py", {"data.source": "synthetic", "data.train": "train"}, target=1.8
    ),
    "unet_28": Workload(
        DDPM, diffusion(28, 1, 64), dict(SMALL, multipliers=(1, 2, 2), attention=(7,)), target=1.0
    ),
    "unet_8": Workload(
        DDPM, diffusion(8, 1, 128), dict(SMALL, multipliers=(1, 2), attention=(4,)), target=0.8
    ),
    "unet_cifar10": Workload(DDPM, diffusion(32, 3, 128, **BF16), target=1.0, gpu=True),
    "dit_b2": Workload(
        DDPM, diffusion(32, 4, 128, **LATENT), dict(name="dit", size="B/2"), target=1.0, gpu=True
    ),
    "dit_xl2": Workload(
        DDPM, diffusion(32, 4, 32, **LATENT), dict(name="dit", size="XL/2"), target=1.0, gpu=True
    ),
}


def settings_of(name: str):
    """The workload's config."""
    from ml_collections import ConfigDict

    from jaxgen import config

    workload = WORKLOADS[name]
    settings = config.load(os.path.join(CONFIGS, workload.config), workload.overrides)
    if workload.denoiser:
        settings.model.denoiser = ConfigDict(dict(workload.denoiser))
    return settings


def peer(settings):
    """(loss module in PyTorch, its networks by the names that the parameters have in jaxgen)."""
    import benchmark_peers as peers

    size, _, channels = settings.data.image_shape
    if settings.family == "autoencoder":
        loss = peers.VAELoss(
            size * size * channels, settings.model.encoder.hidden, settings.model.latent
        )
        return loss, {"encoder": loss.encoder, "decoder": loss.decoder}
    options, num_classes = settings.model.denoiser.to_dict(), classes(settings)
    if options["name"] == "unet":
        network = peers.UNet(channels, size, **options)
    else:
        from jaxgen.networks import dit

        del options["name"]
        shape = dit.dit_size(options.pop("size")) | options
        positions = dit.position_embedding(
            size // shape["patch"], size // shape["patch"], shape["width"]
        )
        network = peers.DiT(channels, size, num_classes=num_classes, positions=positions, **shape)
    return peers.DenoisingLoss(network, num_classes), {"denoiser": network}


def classes(settings) -> int:
    return settings.data.num_classes if settings.conditional else 0


def largest_difference(name: str) -> Callable[[], float]:
    """The networks' largest difference in float32, relative to the largest output; from random
    parameters, on a CPU.
    """
    import jax

    jax.config.update("jax_platforms", "cpu")
    import benchmark_peers as peers
    import torch

    from jaxgen import conditions, networks

    settings, draw = settings_of(name), np.random.default_rng(0)
    image = draw.normal(size=(2, *settings.data.image_shape)).astype(np.float32)
    time_, label = np.float32([0.2, 0.9]), np.array([0, classes(settings)])

    def inputs(network):
        if network == "encoder":
            return (image,)
        if network == "decoder":
            return (draw.normal(size=(2, settings.model.latent)).astype(np.float32),)
        return (image, time_, {"label": label}) if classes(settings) else (image, time_)

    def module(network):
        options = settings.model[network].to_dict()
        if network == "encoder":
            options["outputs"] = 2 * settings.model.latent
        if network == "decoder":
            options["shape"] = settings.data.image_shape
        if network == "denoiser":
            options["conditions"] = conditions.from_config(settings)
        return networks.build(**options)

    def random(leaf):
        fan_in = leaf.size // leaf.shape[-1] if leaf.ndim > 1 else 100
        return (draw.normal(size=leaf.shape) / np.sqrt(fan_in)).astype(np.float32)

    def difference(network, theirs):
        args, ours = inputs(network), module(network)
        params = jax.tree.map(random, jax.eval_shape(ours.init, jax.random.key(0), *args))["params"]
        expected = np.asarray(jax.jit(ours.apply)({"params": params}, *args))
        peers.load(theirs.eval(), params)
        if network == "encoder":
            args = (image.reshape(2, -1),)
        if network == "denoiser" and classes(settings):
            args = (image, time_, label)
        with torch.no_grad():
            found = theirs(*map(torch.from_numpy, args)).numpy().reshape(expected.shape)
        return float(np.abs(found - expected).max() / np.abs(expected).max())

    return lambda: max(difference(*item) for item in peer(settings)[1].items())


def per_second(settings, step, finish) -> Callable[[int], float]:
    """The measurement of PyTorch's side: images per second over `steps` steps on random batches."""
    rng, batch = np.random.default_rng(1), settings.train.batch_size
    images = rng.integers(0, 256, (IMAGES, *settings.data.image_shape)).astype(np.uint8)
    images[rng.random(images.shape) < 0.8] = 0  # as many black pixels as MNIST has
    labels = rng.integers(0, max(1, classes(settings)), IMAGES).astype(np.int32)

    def run(steps: int) -> float:
        start = time.perf_counter()
        for _ in range(steps):
            chosen = rng.integers(0, IMAGES, batch)
            step(images[chosen], labels[chosen])
        finish()
        return steps * batch / (time.perf_counter() - start)

    run(WARM_UP)
    return run


def ours(name: str) -> Callable[[int], float]:
    """Images per second of the config's training, over the next whole number of calls."""
    settings = settings_of(name)
    longest = settings.train.steps_per_dispatch
    run, _ = common.trainer(settings, longest)
    return lambda steps: settings.train.batch_size * run(-(-steps // longest) * longest)


def theirs(name: str, compiled: bool, device: str) -> Callable[[int], float]:
    """The same in PyTorch."""
    import benchmark_peers as peers
    import torch

    torch.set_num_threads(common.cores())
    settings = settings_of(name)
    (player,) = settings.players.values()
    step, finish = peers.trainer(
        peer(settings)[0],
        learning_rate=player.optimizer.learning_rate,
        ema=settings.ema.rates[0],
        compiled=compiled,
        half=settings.precision.compute == "bfloat16",
        device=device,
    )
    return per_second(settings, step, finish)


def sampler(name: str, bare: bool) -> Callable[[int], float]:
    """Seconds per step of DDIM on 16 images by the library's sampler, or of calls of the bare
    network.
    """
    import jax

    from jaxgen import conditions, families, networks

    settings = settings_of(name)
    family, shape, batch = families.build(settings), tuple(settings.data.image_shape), 16
    condition = {"label": np.zeros(batch, np.int32)} if classes(settings) else None
    examples = {"x": np.zeros((1, *shape), np.float32), "label": np.zeros(1, np.int32)}
    variables = jax.jit(family.init)(jax.random.key(0), examples)
    keys = jax.random.split(jax.random.key(1), batch)
    options = settings.model.denoiser.to_dict()
    network = networks.build(
        **options, conditions=conditions.from_config(settings), dtype=settings.precision.compute
    )
    whole = jax.jit(lambda v, keys: family.sample(v, keys, condition, steps=SAMPLER_STEPS, eta=0.0))
    single = jax.jit(
        lambda v, x: network.apply(
            {"params": v["params"]["denoiser"]}, x, np.full(batch, 0.5, np.float32), condition
        )
    )

    def run(calls: int) -> float:
        start = time.perf_counter()
        for _ in range(calls):
            x = np.zeros((batch, *shape), np.float32)
            if not bare:
                x = whole(variables, keys)
            else:
                for _ in range(SAMPLER_STEPS):
                    x = single(variables, x)
            jax.block_until_ready(x)
        return (time.perf_counter() - start) / (calls * SAMPLER_STEPS)

    run(1)
    return run


def check(name: str) -> float:
    """The largest difference of the two networks; RuntimeError where they are not the same
    function.
    """
    with common.in_process(largest_difference, name) as run:
        difference = run()
    if not difference < TOLERANCE:
        raise RuntimeError(
            f"{name}: the networks' outputs differ by {difference:.1e}: they are not the same "
            f"function"
        )
    return difference


def measure(name: str, smoke: bool, device: str) -> dict[str, Any]:
    """Images per second of all sides in turn, ratios to each PyTorch side, and why a side is
    missing.
    """
    result = {
        "difference": check(name),
        "target": WORKLOADS[name].target,
        "missing": {},
        "ratio": {},
    }
    makers = {
        OURS: (ours, name),
        EAGER: (theirs, name, False, device),
        COMPILED: (theirs, name, True, device),
    }
    rates, steps = common.race(
        makers, repeats=2 if smoke else 15, seconds=0.0 if smoke else 2.0, missing=result["missing"]
    )
    result.update(images_per_second=rates, steps_per_repeat=steps)
    for side in (EAGER, COMPILED):
        if OURS in rates and side in rates:
            result["ratio"][side] = common.compare(rates, OURS, side)
    return result


def have_gpu() -> bool:
    """Whether both libraries see a GPU; asked in a process of its own, which gives it back."""
    with common.in_process(_gpu_seen) as seen:
        return seen()


def _gpu_seen():
    import jax
    import torch

    return lambda: torch.cuda.is_available() and jax.default_backend() == "gpu"


def report(name: str, result: Mapping[str, Any]) -> None:
    """The table of one workload."""
    print(f"\n{name}: same function to {result['difference']:.0e}")
    common.show("images/s", result["images_per_second"])
    for side, why in result["missing"].items():
        print(f"{side:>28}  not measured: {why}")
    for side, ratio in result["ratio"].items():
        common.verdict(f"{OURS} / {side}", ratio, f">= {result['target']} x eager")


def sampler_overhead(name: str, smoke: bool) -> dict[str, Any]:
    """Seconds per step of the sampler over seconds of the bare network."""
    makers = {"sampler": (sampler, name, False), "network": (sampler, name, True)}
    seconds, _ = common.race(
        makers, repeats=2 if smoke else 7, seconds=0.0 if smoke else 2.0, missing={}
    )
    ratio = common.compare(seconds, "sampler", "network")
    common.show(f"s a step, {name}", seconds)
    common.verdict("sampler / bare network", ratio, "<= 1.1 x")
    return {"seconds": seconds, "ratio": ratio}


def main(arguments=None) -> None:
    options = common.parse(arguments, only=list(WORKLOADS))
    if importlib.util.find_spec("torch") is None:
        raise SystemExit(
            "PyTorch is missing: pip install torch --index-url https://download.pytorch.org/whl/cpu"
        )
    # the sides share a GPU's memory
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    gpu = have_gpu()
    chosen = [n for n, w in WORKLOADS.items() if options.only in ("", n) and (gpu or not w.gpu)]
    if not chosen:
        raise SystemExit(f"{options.only} needs a GPU that both JAX and PyTorch can use")
    results, overheads = {}, {}
    for name in chosen:
        results[name] = measure(name, options.smoke, "cuda" if gpu else "cpu")
        report(name, results[name])
        if WORKLOADS[name].gpu:
            overheads[name] = sampler_overhead(name, options.smoke)
    common.write(
        options.out,
        common.record(
            __doc__, torch=importlib.metadata.version("torch"), workloads=results, sampler=overheads
        ),
    )  # fmt: skip


if __name__ == "__main__":
    main()
