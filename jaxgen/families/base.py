"""What a generative model is to the rest of the library: a `Family` of pure functions.

A wiring owns named networks. Its variables are

    {"params": {network: tree}, "state": {network: tree}}

where "state" holds what gradients do not train (spectral-norm vectors, codebooks). Which *player*
trains which networks is the config's business: a wiring does not know the players."""

import zlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxgen.errors import InputError

Variables = Mapping[str, Any]
Outputs = Mapping[str, Any]


class LogProb(NamedTuple):
    """Nats per example and what they are: `kind` is "exact" or "lower bound"; `of` names what is
    modelled.
    """

    nats: Float[Array, "B"]
    kind: str
    of: str


class Family(NamedTuple):
    """Pure functions; parameters live outside.

    networks: names of the networks, i.e. of the sub-trees of the parameters.
    init: (key, batch) -> Variables.
    forward: (variables, batch, keys[B], train) -> (Outputs, new state). Images in [-1, 1].
    sample: (variables, keys[N], labels[N] | None, **options) -> images [N,H,W,C] in [-1, 1]. Sample
        i depends on keys[i] (and labels[i]) alone.
    sample_options: the options that `sample` takes, with their defaults.
    nfe: (**options) -> network calls per sample, exactly.
    encode: (variables, batch, keys) -> latents [B,D].
    decode: (variables, latents, labels) -> images.
    log_prob: (variables, batch, keys, **options) -> LogProb.
    """

    networks: tuple[str, ...]
    init: Callable[..., Variables]
    forward: Callable[..., tuple[Outputs, Any]]
    sample: Callable[..., Any]
    sample_options: Mapping[str, Any]
    nfe: Callable[..., int]
    encode: Callable[..., Any] | None = None
    decode: Callable[..., Any] | None = None
    log_prob: Callable[..., LogProb] | None = None


def named_key(key: jax.Array, name: str) -> jax.Array:
    """`key` (or each of an array of keys) folded with a name, so that separate uses draw separate
    numbers.
    """
    salt = zlib.crc32(name.encode())
    return (
        jax.vmap(lambda k: jax.random.fold_in(k, salt))(key)
        if key.ndim
        else jax.random.fold_in(key, salt)
    )


def init_network(key: jax.Array, name: str, module, *arguments) -> Variables:
    """Variables of one network: {"params": {name: tree}, "state": {name: tree}} (no state entry
    when it has none).
    """
    variables = dict(module.init(named_key(key, name), *arguments))
    params = variables.pop("params", {})
    return {"params": {name: params}, "state": {name: variables} if variables else {}}


def merge(*parts: Variables) -> Variables:
    """One Variables out of several networks'."""
    return {
        "params": {k: v for part in parts for k, v in part["params"].items()},
        "state": {k: v for part in parts for k, v in part["state"].items()},
    }


def apply_network(variables: Variables, name: str, module, *arguments, **keywords):
    """Run network `name` without changing its state."""
    state = variables["state"].get(name, {})
    return module.apply({"params": variables["params"][name], **state}, *arguments, **keywords)


def update_network(variables: Variables, name: str, module, *arguments, **keywords):
    """Run network `name` in training mode: (outputs, state of all networks with this one's
    renewed).
    """
    state = variables["state"].get(name, {})
    if not state:
        return apply_network(variables, name, module, *arguments, **keywords), variables["state"]
    outputs, new = module.apply(
        {"params": variables["params"][name], **state}, *arguments, mutable=list(state), **keywords
    )
    return outputs, {**variables["state"], name: new}


def critique(
    variables: Variables, critic, real, fake, label, keys, train: bool
) -> tuple[Outputs, Any]:
    """What every adversarial term reads: scores and hidden features of real and generated images,
    and the critic itself.

    Real and generated images go through the critic apart, since joining them would move data
    between devices."""

    def run(images, use):
        return apply_network(
            variables,
            "critic",
            critic,
            images,
            label,
            train=train,
            keys=named_key(keys, f"critic/{use}"),
        )

    keywords = {"train": train, "keys": named_key(keys, "critic/real")}
    (real_score, real_features), state = update_network(
        variables, "critic", critic, real, label, **keywords
    )
    fake_score, fake_features = run(fake, "fake")
    outputs = {
        "real": real,
        "fake": fake,
        "real_score": real_score,
        "fake_score": fake_score,
        "real_features": real_features,
        "fake_features": fake_features,
        "critic": lambda images: run(images, "penalty")[0],
    }
    return outputs, state


def check_label(num_classes: int, label) -> None:
    """Raise InputError when a conditional model gets no labels, or an unconditional one does."""
    if num_classes and label is None:
        raise InputError(
            f"this model has {num_classes} classes and needs labels: give --label or a labelled "
            f"data set"
        )
    if not num_classes and label is not None:
        raise InputError("this model is unconditional and takes no labels")


def batch_label(num_classes: int, batch):
    """The batch's labels for a conditional model, else None."""
    if not num_classes:
        return None
    check_label(num_classes, batch.get("label"))
    return batch["label"]


def float_image(shape: tuple[int, int, int], batch_size: int = 1):
    """A blank batch of images: what initialisation needs to know of the data."""
    return jnp.zeros((batch_size, *shape), jnp.float32)
