"""Networks by name: `build("unet", channels=64)` returns a flax.linen module whose parameters live
outside it.

All share four call conventions, with a `condition` ({name: [B, ...]}, see `conditions`) and a
`call` (see `calls`), whose keys serve dropout:

    encoder:   net(x, condition=None, call=EVALUATION) -> [B, outputs]
    decoder:   net(latent, condition=None, call=EVALUATION) -> [B, *shape]
    critic:    net(x, condition=None, call=EVALUATION) -> (score [B], one activation per stage)
    denoiser:  net(x, time, condition=None, call=EVALUATION) -> [B, *S, outputs], time in [0, 1]

Parameters and outputs are float32; `dtype` is what the layers compute in. `conditions` says what
the network sees beside its input.
"""

import importlib
from typing import TYPE_CHECKING, Any

from jaxgen.errors import lookup
from jaxgen.ranges import call_with_options

if TYPE_CHECKING:
    from flax import linen as nn

NETWORKS = {  # name -> module class; imported when asked for
    "mlp_encoder": "jaxgen.networks.mlp:MLPEncoder",
    "mlp_decoder": "jaxgen.networks.mlp:MLPDecoder",
    "mlp_critic": "jaxgen.networks.mlp:MLPCritic",
    "mlp_denoiser": "jaxgen.networks.mlp:MLPDenoiser",
    "conv_encoder": "jaxgen.networks.conv:ConvEncoder",
    "conv_decoder": "jaxgen.networks.conv:ConvDecoder",
    "conv_critic": "jaxgen.networks.conv:ConvCritic",
    "unet": "jaxgen.networks.unet:UNet",
    "dit": "jaxgen.networks.dit:DiT",
}
ROLES = {  # what a network is for -> those of NETWORKS that can be that and nothing else
    "encoder": ("mlp_encoder", "conv_encoder"),
    "decoder": ("mlp_decoder", "conv_decoder"),
    "generator": ("mlp_decoder", "conv_decoder"),
    "critic": ("mlp_critic", "conv_critic"),
    "denoiser": ("mlp_denoiser", "unet", "dit"),
}


def build(name: Any = "", *, where: str = "", **options: Any) -> "nn.Module":
    """The network `name`, or "package.module:Class", with its attributes set from `options`.

    Lists become tuples and `dtype` may be a string ("bfloat16"). `dit` also takes `size="B/2"`,
    which sets patch, width, depth and heads unless they are given as well. where: the field of the
    config that describes it, for messages. Raises InputError for an unknown network, an option that
    it does not have, and one that it needs."""
    fitting = ROLES.get(where.rpartition(".")[2], tuple(NETWORKS))
    others = {known for names in ROLES.values() for known in names} - set(fitting)
    table = {known: place for known, place in NETWORKS.items() if known not in others}
    module = lookup(table, f"network of {where}" if where else "network", name)
    if name == "dit" and "size" in options:
        from jaxgen.networks.dit import dit_size

        options = dit_size(options.pop("size")) | options
    options = {key: tuple(x) if isinstance(x, list) else x for key, x in options.items()}
    if "dtype" in options:
        options["dtype"] = importlib.import_module("jax.numpy").dtype(options["dtype"])
    return call_with_options(where or f"the network '{name}'", module, options)
