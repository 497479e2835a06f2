"""Wirings: how networks become a generative model. `build` makes one from a config."""

from jaxgen.errors import InputError, lookup
from jaxgen.families.base import Data, Family, LogProb, Net
from jaxgen.ranges import call_with_options

WIRINGS = {  # name -> build(data, **options of config.model) -> Family; imported when asked for
    "adversarial": "jaxgen.families.adversarial:build",
    "autoencoder": "jaxgen.families.autoencoder:build",
    "diffusion": "jaxgen.families.diffusion:build",
    "distillation": "jaxgen.families.distillation:build",
}
MODEL = ("critic", "condition_dropout")  # options of config.model that every wiring has

__all__ = ["WIRINGS", "Data", "Family", "LogProb", "Net", "build"]


def build(config) -> Family:
    """The wiring that `config.family` names, with a critic where `config.model.critic` names one.

    Raises InputError for a wiring, network or option that does not exist.
    """
    import jax.numpy as jnp

    from jaxgen import conditions, networks, ranges
    from jaxgen.families.critic import with_critic

    if config.precision.compute not in ("float32", "bfloat16"):
        raise InputError(
            "config.precision.compute must be float32 or bfloat16, not "
            f"'{config.precision.compute}'"
        )
    wiring = lookup(WIRINGS, "wiring of config.family", config.family)
    spec, dtype = conditions.from_config(config), jnp.dtype(config.precision.compute)
    data = Data(tuple(config.data.image_shape), spec, dtype)
    options = {name: value for name, value in config.model.items() if name not in MODEL}
    family = call_with_options("config.model", wiring, options, data)
    if critic := config.model.get("critic"):
        ranges.check("config.model.critic", ranges.Section, critic)
        module = networks.build(**critic, where="config.model.critic", **data.common)
        family = with_critic(family, module)
    return family
