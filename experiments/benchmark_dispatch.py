"""Train steps per second with ten steps in one call of the compiled program against one, and the
memory that both need.

    python experiments/benchmark_dispatch.py [--out=benchmarks/results/dispatch.json] [--smoke]

Both sides train the same system as `jaxgen train` does, on data kept on the device, and read the
loss as often. In the first system the call itself costs most of the time, as small models do on
every accelerator: a VAE of one hidden layer of 32 units and batches of 16. The others are the
digits' configs as they are: what they gain is what calls cost them.

Protocol: 15 repeats in turn, of 2,000 steps for the small VAE and 500 for the others; the ratio is
the median over the repeats. Bytes are the most that the program holds on a device, by XLA's
account. Targets, for the small VAE: at least 1.2 x the steps per second, at most 1.1 x the memory.
"""

import os

import benchmark_common as common

from jaxgen import config

CONFIGS = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "configs")
SMALL = {
    "train.batch_size": 16,
    "model.encoder.hidden": (32,),
    "model.decoder.hidden": (32,),
    "model.latent": 2,
}
SYSTEMS = {  # name: (config file, overrides, steps in a repeat)
    "small VAE": ("digits/vae.py", SMALL, 2_000),
    "digits VAE": ("digits/vae.py", {}, 500),
    "digits GAN": ("digits/gan.py", {}, 500),
    "digits diffusion": ("digits/ddpm.py", {}, 500),
}
LONGEST = (1, 10)


def main(arguments=None) -> None:
    options = common.parse(arguments)
    systems = {}
    for name, (file, overrides, steps) in SYSTEMS.items():
        settings = config.load(os.path.join(CONFIGS, file), overrides)
        steps = 100 if options.smoke else steps
        sides = {longest: common.trainer(settings, longest) for longest in LONGEST}
        runs = {
            f"{longest} a call": lambda run=run, steps=steps: run(steps)
            for longest, (run, _) in sides.items()
        }
        measured = common.interleave(runs, 2 if options.smoke else 15)
        ratio = common.compare(measured, "10 a call", "1 a call")
        held = {f"{longest} a call": cost.bytes for longest, (_, cost) in sides.items()}
        systems[name] = {"steps_per_second": measured, "ratio": ratio, "bytes": held,
                         "memory_ratio": held["10 a call"] / held["1 a call"]}  # fmt: skip
        common.show(f"steps/s, {name}", measured)
        common.verdict(f"10 / 1 steps a call, {name}", ratio, ">= 1.2 x for the small VAE")
        print(f"{'memory':>28}  {systems[name]['memory_ratio']:.3f} x; target <= 1.1 x")
    common.write(
        options.out, common.record(__doc__, systems=systems, target=1.2, memory_target=1.1)
    )


if __name__ == "__main__":
    main()
