"""The benchmark's networks and training steps in PyTorch, written as its users write them.

Every layer has the name that it has in jaxgen, so that `load` can copy parameters across: the suite
checks that both sides compute the same function before it times them. Networks take and return what
jaxgen's do (images NHWC, times in [0, 1])."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F


def load(module: nn.Module, params: Mapping[str, Any]) -> None:
    """Copy a Flax parameter tree into the module of the same structure."""
    with torch.no_grad():
        for name, value in params.items():
            if isinstance(value, Mapping):
                load(getattr(module, name), value)
                continue
            value = torch.from_numpy(np.array(value))
            if name == "kernel":
                value = value.T if value.ndim == 2 else value.permute(3, 2, 0, 1)
            getattr(module, "bias" if name == "bias" else "weight").copy_(value)


def embedding_of(time: torch.Tensor, size: int) -> torch.Tensor:
    """The sinusoidal embedding of 1000 times the time."""
    half = size // 2
    frequencies = torch.exp(-math.log(10_000) / (half - 1) * torch.arange(half, device=time.device))
    angles = 1000 * time[:, None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], 1)


class MLP(nn.Module):
    def __init__(self, inputs: int, hidden: tuple[int, ...], outputs: int):
        super().__init__()
        self.body = nn.Module()
        sizes = (inputs, *hidden)
        for i, (a, b) in enumerate(zip(sizes, hidden)):
            setattr(self.body, f"dense_{i}", nn.Linear(a, b))
        self.depth, self.out = len(hidden), nn.Linear(sizes[-1], outputs)

    def forward(self, x):
        for i in range(self.depth):
            x = F.relu(getattr(self.body, f"dense_{i}")(x))
        return self.out(x)


class TimeEmbedding(nn.Module):
    def __init__(self, features: int, frequencies: int, num_classes: int = 0):
        super().__init__()
        self.frequencies = frequencies
        self.time_in, self.time_out = (
            nn.Linear(frequencies, features),
            nn.Linear(features, features),
        )
        self.classes = nn.Embedding(num_classes + 1, features) if num_classes else None

    def forward(self, time, label):
        h = self.time_out(F.silu(self.time_in(embedding_of(time, self.frequencies))))
        return h if self.classes is None else h + self.classes(label)


def group_norm(channels: int) -> nn.GroupNorm:
    """As many groups as jaxgen takes: at most 32, of at least 4 channels."""
    groups = max(n for n in range(1, max(1, min(32, channels // 4)) + 1) if channels % n == 0)
    return nn.GroupNorm(groups, channels, eps=1e-6)


class ResidualBlock(nn.Module):
    def __init__(self, inputs: int, channels: int, embedding: int, dropout: float):
        super().__init__()
        self.norm_in, self.norm_out = group_norm(inputs), group_norm(channels)
        self.conv_in = nn.Conv2d(inputs, channels, 3, padding=1)
        self.conv_out = nn.Conv2d(channels, channels, 3, padding=1)
        self.embedding, self.dropout = nn.Linear(embedding, channels), nn.Dropout(dropout)
        self.shortcut = nn.Conv2d(inputs, channels, 1) if inputs != channels else nn.Identity()

    def forward(self, x, embedding):
        h = (
            self.conv_in(F.silu(self.norm_in(x)))
            + self.embedding(F.silu(embedding))[:, :, None, None]
        )
        return self.shortcut(x) + self.conv_out(self.dropout(F.silu(self.norm_out(h))))


class Attention(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.norm = group_norm(channels)
        self.query, self.key, self.value, self.out = (
            nn.Linear(channels, channels) for _ in range(4)
        )

    def forward(self, x):
        h = self.norm(x).flatten(2).transpose(1, 2)[:, None]  # one head
        h = self.out(F.scaled_dot_product_attention(self.query(h), self.key(h), self.value(h)))
        return x + h[:, 0].transpose(1, 2).reshape(x.shape)


class UNet(nn.Module):
    """jaxgen.networks.unet.UNet without classes, with one attention head."""

    def __init__(self, inputs, size, *, channels, multipliers, blocks, attention, dropout, **_):
        super().__init__()
        levels, width, skips = [channels * m for m in multipliers], channels, [channels]
        self.plan = []  # (kind, layers' names) in order of use
        self.embedding = TimeEmbedding(4 * channels, channels)
        self.add_module("in", nn.Conv2d(inputs, channels, 3, padding=1))

        def add(kind, name, layer):
            self.add_module(name, layer)
            self.plan.append((kind, name))

        def block(name, inputs, outputs):
            add("block", name, ResidualBlock(inputs, outputs, 4 * channels, dropout))
            if size in attention:
                add("layer", f"{name}_attention", Attention(outputs))

        for level, outputs in enumerate(levels):
            if level:
                add("down", f"down_{level}", nn.Conv2d(width, width, 3, stride=2))
                self.plan.append(("push", None))
                skips.append(width)
                size //= 2
            for i in range(blocks):
                block(f"down_{level}_{i}", width, outputs)
                self.plan.append(("push", None))
                width = outputs
                skips.append(width)
        add("block", "middle_0", ResidualBlock(width, width, 4 * channels, dropout))
        add("layer", "middle_attention", Attention(width))
        add("block", "middle_1", ResidualBlock(width, width, 4 * channels, dropout))
        for level, outputs in reversed(list(enumerate(levels))):
            for i in range(blocks + 1):
                self.plan.append(("pop", None))
                block(f"up_{level}_{i}", width + skips.pop(), outputs)
                width = outputs
            if level:
                add("up", f"up_{level}", nn.Conv2d(width, width, 3, padding=1))
                size *= 2
        self.norm_out, self.out = group_norm(width), nn.Conv2d(width, inputs, 3, padding=1)

    def forward(self, x, time, label=None):
        embedding = self.embedding(time, None)
        h = getattr(self, "in")(x.permute(0, 3, 1, 2))
        skips = [h]
        for kind, name in self.plan:
            layer = name and getattr(self, name)
            match kind:
                case "block":
                    h = layer(h, embedding)
                case "layer":
                    h = layer(h)
                case "down":
                    h = layer(F.pad(h, (0, 1, 0, 1)))
                case "up":
                    h = layer(F.interpolate(h, scale_factor=2, mode="nearest"))
                case "push":
                    skips.append(h)
                case "pop":
                    h = torch.cat([h, skips.pop()], 1)
        return self.out(F.silu(self.norm_out(h))).permute(0, 2, 3, 1)


class DiTBlock(nn.Module):
    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width, eps=1e-6, elementwise_affine=False)
        self.modulation = nn.Linear(width, 6 * width)
        self.qkv, self.projection = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x, condition):
        batch, length, width = x.shape
        shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = self.modulation(condition)[
            :, None
        ].chunk(6, -1)
        h = self.qkv(self.norm(x) * (1 + scale_a) + shift_a)
        query, key, value = h.reshape(batch, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        h = F.scaled_dot_product_attention(query, key, value).transpose(1, 2).reshape(x.shape)
        x = x + gate_a * self.projection(h)
        h = F.gelu(self.up(self.norm(x) * (1 + scale_m) + shift_m), approximate="tanh")
        return x + gate_m * self.down(h)


class DiT(nn.Module):
    """jaxgen.networks.dit.DiT on square images."""

    def __init__(self, inputs, size, *, patch, width, depth, heads, num_classes, positions, **_):
        super().__init__()
        self.patch, self.depth = patch, depth
        self.add_module("in", nn.Linear(patch * patch * inputs, width))
        self.register_buffer("positions", torch.from_numpy(positions))
        self.embedding = TimeEmbedding(width, 256, num_classes)
        for i in range(depth):
            self.add_module(f"block_{i}", DiTBlock(width, heads))
        self.norm_out = nn.LayerNorm(width, eps=1e-6, elementwise_affine=False)
        self.modulation, self.out = (
            nn.Linear(width, 2 * width),
            nn.Linear(width, patch * patch * inputs),
        )

    def forward(self, x, time, label):
        (batch, size, _, channels), p = x.shape, self.patch
        n = size // p
        x = x.reshape(batch, n, p, n, p, channels).transpose(2, 3).reshape(batch, n * n, -1)
        h = getattr(self, "in")(x) + self.positions
        condition = F.silu(self.embedding(time, label))
        for i in range(self.depth):
            h = getattr(self, f"block_{i}")(h, condition)
        shift, scale = self.modulation(condition)[:, None].chunk(2, -1)
        h = self.out(self.norm_out(h) * (1 + scale) + shift)
        return (
            h.reshape(batch, n, n, p, p, channels)
            .transpose(2, 3)
            .reshape(batch, size, size, channels)
        )


class VAELoss(nn.Module):
    """Negative ELBO of configs/mnist/vae.py: Bernoulli likelihood of dynamically binarised pixels.

    Comparing uniform numbers is the faster of the usual ways to draw the pixels (torch.bernoulli is
    slower)."""

    def __init__(self, pixels: int, hidden: tuple[int, ...], latent: int):
        super().__init__()
        self.encoder, self.decoder = MLP(pixels, hidden, 2 * latent), MLP(latent, hidden, pixels)

    def forward(self, image, label):
        grey = image.flatten(1).float() / 255
        x = (torch.rand_like(grey) < grey).float()
        mean, log_variance = self.encoder(2 * x - 1).chunk(2, 1)
        logits = self.decoder(mean + torch.exp(0.5 * log_variance) * torch.randn_like(mean))
        reconstruction = F.binary_cross_entropy_with_logits(logits, x, reduction="sum")
        kl = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum()
        return (reconstruction + kl) / len(image)


class DenoisingLoss(nn.Module):
    """L_simple on the linear schedule of Ho et al. 2020; a tenth of the labels becomes the null
    class.
    """

    def __init__(self, denoiser: nn.Module, num_classes: int):
        super().__init__()
        self.denoiser, self.num_classes = denoiser, num_classes
        self.register_buffer(
            "alpha_bar",
            torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64), 0).float(),
        )

    def forward(self, image, label):
        x = image.float() / 127.5 - 1
        step = torch.randint(1000, (len(x),), device=x.device)
        noise = torch.randn_like(x)
        signal = self.alpha_bar[step][:, None, None, None]
        if self.num_classes:
            label = torch.where(torch.rand(len(x), device=x.device) < 0.1, self.num_classes, label)
        prediction = self.denoiser(
            signal.sqrt() * x + (1 - signal).sqrt() * noise, (step + 1) / 1000, label
        )
        return F.mse_loss(prediction.float(), noise)


def trainer(
    loss: nn.Module, *, learning_rate: float, ema: float, half: bool, compiled: bool, device: str
):
    """(train step on a batch of NumPy arrays, a function that waits for it): fused Adam and a
    moving average of the parameters.
    """
    loss = loss.to(device).train()
    if device == "cuda":
        loss = loss.to(memory_format=torch.channels_last)
        torch.set_float32_matmul_precision("high")
    parameters = list(loss.parameters())
    average = [p.detach().clone() for p in parameters]
    optimizer = torch.optim.Adam(parameters, lr=learning_rate, fused=True)
    run = torch.compile(loss) if compiled else loss

    def step(image, label):
        image, label = (torch.from_numpy(a).to(device, non_blocking=True) for a in (image, label))
        with torch.autocast(device, torch.bfloat16, enabled=half):
            value = run(image, label)
        optimizer.zero_grad(set_to_none=True)
        value.backward()
        optimizer.step()
        with torch.no_grad():
            torch._foreach_lerp_(average, parameters, 1 - ema)

    return step, torch.cuda.synchronize if device == "cuda" else lambda: None
