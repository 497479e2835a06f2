"""Networks by name: `build("unet", channels=64)` returns a flax.linen module whose parameters live
outside it.

All share four call conventions (`keys`: one PRNG key per example, only for dropout):

    encoder:   net(image, label=None, *, train=False, keys=None) -> [B, outputs]
    decoder:   net(latent, label=None, *, train=False, keys=None) -> [B, H, W, outputs]
    critic:    net(image, label=None, *, train=False, keys=None) -> (score [B], features: one
    activation per stage)
    denoiser:  net(x, time, label=None, *, train=False, keys=None) -> [B, H, W, outputs], time in
    [0, 1]

Parameters and outputs are float32; `dtype` is what the layers compute in. `num_classes = 0` means
unconditional; a denoiser embeds one class more, `label == num_classes`, the null class of
classifier-free guidance."""

import importlib
from typing import TYPE_CHECKING, Any

from jaxgen.errors import InputError, call_with_options, nearest

if TYPE_CHECKING:
    from flax import linen as nn

NETWORKS = {  # name -> (module, class); imported when asked for
    "mlp_encoder": ("mlp", "MLPEncoder"),
    "mlp_decoder": ("mlp", "MLPDecoder"),
    "mlp_critic": ("mlp", "MLPCritic"),
    "mlp_denoiser": ("mlp", "MLPDenoiser"),
    "conv_encoder": ("conv", "ConvEncoder"),
    "conv_decoder": ("conv", "ConvDecoder"),
    "conv_critic": ("conv", "ConvCritic"),
    "unet": ("unet", "UNet"),
    "dit": ("dit", "DiT"),
}


def build(name: str = "", *, where: str = "", **options: Any) -> "nn.Module":
    """The network `name` with its attributes set from `options`.

    Lists become tuples and `dtype` may be a string ("bfloat16"). `dit` also takes `size="B/2"`,
    which sets patch, width, depth and heads unless they are given as well. where: the field of the
    config that describes it, for messages. Raises InputError for an unknown network, an option that
    it does not have, and one that it needs."""
    if name not in NETWORKS:
        what = f"network of {where}" if where else "network"
        raise InputError(f"unknown {what} '{name}': {nearest(str(name), NETWORKS)}")
    file, class_name = NETWORKS[name]
    module = importlib.import_module(f"{__name__}.{file}")
    if name == "dit" and "size" in options:
        options = module.dit_size(options.pop("size")) | options
    options = {
        key: tuple(value) if isinstance(value, list) else value for key, value in options.items()
    }
    if "dtype" in options:
        options["dtype"] = importlib.import_module("jax.numpy").dtype(options["dtype"])
    return call_with_options(where or f"the network '{name}'", getattr(module, class_name), options)
