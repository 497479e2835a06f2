"""Images per second of the FID's 768-dimensional Inception features against the same network in
eager PyTorch.

    JAXGEN_INCEPTION=<weights> python experiments/benchmark_inception.py
    [--out=benchmarks/results/inception.json] [--smoke]

Both sides take uint8 images of 32x32, resize them bilinearly as pytorch-fid does, and run the trunk
up to Mixed_6e in float32 with batch norm folded into the convolutions. jaxgen is
`inception.extractor` as users call it. PyTorch runs under inference_mode in two memory formats: the
one in which its ports of this network run (NCHW), and channels_last, which is faster on CPUs.

Protocol: each side has a process of its own and all cores; 11 repeats of 2 batches of 32 images in
turn; features of all sides must agree to 1e-4; a ratio is the median over the repeats. Target: at
least 0.9 x PyTorch as its ports run.

Needs a file of weights with the trunk, and PyTorch: pip install torch --index-url
https://download.pytorch.org/whl/cpu"""

import importlib.metadata
import importlib.util
import os
import time

import benchmark_common as common
import numpy as np

from jaxgen.evaluation.features import inception

BATCH = 32


def images(batches: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (batches * BATCH, 32, 32, 3), np.uint8)


def measured(extract):
    """One side: (images per second over `batches` batches, features of the first)."""

    def run(batches: int):
        data = images(batches)
        start = time.perf_counter()
        features = extract(data)
        return len(data) / (time.perf_counter() - start), features[:BATCH]

    run(1)
    return run


def ours():
    """The extractor of `jaxgen.evaluation.features`."""
    extractor = inception.extractor(None, 768, resize="pytorch_bilinear", batch_size=BATCH)
    return measured(lambda data: extractor.extract(data).vectors)


def pytorch(memory_format: str, threads: int):
    """The same in eager PyTorch."""
    import torch
    from torch.nn import functional

    torch.set_num_threads(threads)
    layout = getattr(torch, memory_format)
    weights = {}
    for name, value in inception.load(os.environ[inception.VARIABLE], 768).items():
        tensor = torch.from_numpy(
            np.ascontiguousarray(value.transpose(3, 2, 0, 1) if value.ndim == 4 else value)
        )
        weights[name] = tensor.contiguous(memory_format=layout) if tensor.ndim == 4 else tensor

    def conv(name, x, stride=1, same=True):
        kernel = weights[f"{name}.kernel"]
        padding = [n // 2 if same else 0 for n in kernel.shape[2:]]
        return functional.conv2d(x, kernel, weights[f"{name}.bias"], stride, padding).relu_()

    def chain(name, parts, x):
        for part in range(1, parts + 1):
            x = conv(f"{name}_{part}", x)
        return x

    def block(name, long, double, parts, x):
        pooled = functional.avg_pool2d(x, 3, 1, 1, count_include_pad=False)
        branches = (
            conv(f"{name}.branch1x1", x),
            *(chain(f"{name}.{b}", n, x) for b, n in ((long, parts[0]), (double, parts[1]))),
        )
        return torch.cat([*branches, conv(f"{name}.branch_pool", pooled)], 1)

    def network(x):
        x = conv("Conv2d_2a_3x3", conv("Conv2d_1a_3x3", x, 2, False), 1, False)
        x = functional.max_pool2d(conv("Conv2d_2b_3x3", x), 3, 2)
        x = functional.max_pool2d(conv("Conv2d_4a_3x3", conv("Conv2d_3b_1x1", x), 1, False), 3, 2)
        for name in ("Mixed_5b", "Mixed_5c", "Mixed_5d"):
            x = block(name, "branch5x5", "branch3x3dbl", (2, 3), x)
        double = conv("Mixed_6a.branch3x3dbl_3", chain("Mixed_6a.branch3x3dbl", 2, x), 2, False)
        x = torch.cat(
            [conv("Mixed_6a.branch3x3", x, 2, False), double, functional.max_pool2d(x, 3, 2)], 1
        )
        for name in ("Mixed_6b", "Mixed_6c", "Mixed_6d", "Mixed_6e"):
            x = block(name, "branch7x7", "branch7x7dbl", (3, 5), x)
        return x.mean((2, 3))

    def batch(data):
        x = (
            torch.from_numpy(data)
            .permute(0, 3, 1, 2)
            .float()
            .div_(255)
            .contiguous(memory_format=layout)
        )
        x = functional.interpolate(
            x, (inception.SIZE, inception.SIZE), mode="bilinear", align_corners=False
        )
        return network(2 * x - 1).numpy()

    @torch.inference_mode()
    def extract(data):
        return np.concatenate([batch(data[i : i + BATCH]) for i in range(0, len(data), BATCH)])

    return measured(extract)


def main(arguments=None) -> None:
    options = common.parse(arguments)
    if importlib.util.find_spec("torch") is None:
        raise SystemExit(
            "PyTorch is missing: pip install torch --index-url https://download.pytorch.org/whl/cpu"
        )
    if not os.path.isfile(os.environ.get(inception.VARIABLE, "")):
        raise SystemExit(f"set {inception.VARIABLE} to a file of Inception weights")
    repeats, batches = (3, 1) if options.smoke else (11, 2)
    cores = common.cores()
    with (
        common.in_process(ours) as jaxgen,
        common.in_process(pytorch, "contiguous_format", cores) as standard,
        common.in_process(pytorch, "channels_last", cores) as channels_last,
    ):
        sides = {"jaxgen": jaxgen, "PyTorch": standard, "PyTorch channels_last": channels_last}
        features = [side(1)[1] for side in sides.values()]
        difference = max(float(np.abs(features[0] - other).max()) for other in features[1:])
        if difference > 1e-4:
            raise SystemExit(
                f"the sides do not compute the same: features differ by {difference:.2g}"
            )
        speeds = common.interleave(
            {name: lambda side=side: side(batches)[0] for name, side in sides.items()}, repeats
        )
    ratio = common.compare(speeds, "jaxgen", "PyTorch")
    to_channels_last = common.compare(speeds, "jaxgen", "PyTorch channels_last")
    common.show("images/s", speeds)
    common.verdict("jaxgen / PyTorch", ratio, ">= 0.9 x")
    common.verdict("jaxgen / PyTorch channels_last", to_channels_last, "none")
    common.write(
        options.out,
        common.record(
            __doc__,
            torch=importlib.metadata.version("torch"),
            batch=BATCH,
            images_per_repeat=batches * BATCH,
            images_per_second=speeds,
            ratio=ratio,
            ratio_to_channels_last=to_channels_last,
            largest_difference=difference,
            target=0.9,
        ),
    )


if __name__ == "__main__":
    main()
