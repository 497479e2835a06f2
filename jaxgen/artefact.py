"""A trained model as one value, for notebooks, sampling, evaluation and applications."""

import dataclasses
import functools
import hashlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Shaped

from jaxgen import programs, sampling, spaces
from jaxgen.errors import InputError
from jaxgen.families.base import Family, Variables


@dataclasses.dataclass(frozen=True, repr=False)
class Artefact:
    """A trained model: its config, its wiring and its variables. It needs no folder.

    All methods take and give plain arrays and are compiled once for each shape. Examples are stored
    ones (uint8 images [N, H, W, C]); a condition is the class `label`, one for all or one for each,
    or {name: [N, ...]}.
    """

    config: Any
    family: Family
    variables: Variables
    _programs: dict[Any, Callable] = dataclasses.field(default_factory=dict, compare=False)

    @functools.cached_property
    def digest(self) -> str:
        """SHA-256 of the names, shapes and bytes of all variables."""
        digest = hashlib.sha256()
        for path, leaf in jax.tree_util.tree_leaves_with_path(self.variables):
            array = np.asarray(leaf)
            digest.update(f"{jax.tree_util.keystr(path)} {array.dtype} {array.shape}".encode())
            digest.update(np.ascontiguousarray(array).view(np.uint8).data)
        return digest.hexdigest()

    @functools.cached_property
    def space(self) -> spaces.Space:
        """Between stored examples and what networks see."""
        return spaces.from_config(self.config)

    @property
    def parameters(self) -> int:
        """How many numbers were trained, or came with it."""
        return sum(x.size for x in jax.tree.leaves(self.variables["params"]))

    def __repr__(self) -> str:
        name = self.config.name or self.config.family
        return f"{type(self).__name__}({name}: {self.parameters:,} parameters, {self.family!r})"

    def sample(
        self,
        num: int,
        *,
        seed: int = 0,
        label: int | None = None,
        condition: Mapping[str, np.ndarray] | None = None,
        batch_size: int | None = None,
        **options: Any,
    ) -> Shaped[np.ndarray, "num ..."]:
        """`num` samples as they are stored; sample i depends on the seed and i alone.

        options: the family's sampling options, in place of the config's. Raises InputError for
        options, labels and conditions that the model does not take.
        """
        spec = self.family.data.conditions
        if condition is None:
            condition = sampling.conditions(spec, num, label=label)
        chosen = {**dict(self.config.sample.options), **options}
        draw = self._compiled(
            ("sample", *sorted(chosen.items())),
            lambda: sampling.sampler(self.family, chosen, self.space),
        )
        size = batch_size or min(num, self.config.sample.batch_size)
        return sampling.generate(
            draw, self.variables, num, seed=seed, batch_size=size, condition=condition
        )

    def encode(
        self, examples, *, label=None, condition=None, seed: int = 0
    ) -> Float[np.ndarray, "N D"]:
        """The latents of stored examples."""
        encode = self._able("encode")

        def run(variables, batch, keys):
            return encode(variables, self.space.enter(batch, keys), keys)

        return self._run("encode", run, self._batch(examples, label, condition), seed)

    def decode(self, latents, *, label=None, condition=None) -> Shaped[np.ndarray, "N ..."]:
        """Stored examples from latents [N, D]."""
        decode = self._able("decode")
        condition = self._condition(len(latents), label, condition)
        run = self._compiled(
            "decode", lambda: programs.jit(lambda v, z, c: self.space.leave(decode(v, z, c)))
        )
        return np.asarray(run(self.variables, jnp.asarray(latents, jnp.float32), condition))

    def log_prob(
        self, examples, *, label=None, condition=None, seed: int = 0, **options: Any
    ) -> Float[np.ndarray, "N"]:
        """Nats of each stored example: exact or a lower bound, as `family.log_prob` says."""
        log_prob = self._able("log_prob")

        def run(variables, batch, keys):
            with jax.default_matmul_precision("highest"):
                return log_prob(variables, self.space.enter(batch, keys), keys, **options).nats

        name = ("log_prob", *sorted(options.items()))
        return self._run(name, run, self._batch(examples, label, condition), seed)

    def denoise(
        self, x_t, time: float, *, label=None, condition=None, **options: Any
    ) -> tuple[Float[np.ndarray, "N ..."], Float[np.ndarray, "N ..."]]:
        """(x_0, noise) that the model sees in the noised x_t (floats as networks see them) at
        `time` in [0, 1]."""
        denoise = self._able("denoise")
        condition = self._condition(len(x_t), label, condition)
        run = self._compiled(
            ("denoise", *sorted(options.items())),
            lambda: programs.jit(lambda v, x, t, c: denoise(v, x, t, c, **options)),
        )
        x0, noise = run(self.variables, jnp.asarray(x_t, jnp.float32), jnp.float32(time), condition)
        return np.asarray(x0), np.asarray(noise)

    def _able(self, name: str) -> Callable:
        function = getattr(self.family, name)
        if function is None:
            raise InputError(f"the wiring {self.family.name} has no {name}")
        return function

    def _compiled(self, key: Any, make: Callable[[], Callable]) -> Callable:
        if key not in self._programs:
            self._programs[key] = make()
        return self._programs[key]

    def _run(self, name, function, batch, seed: int) -> np.ndarray:
        keys = sampling.sample_keys(seed, 0, len(batch[self.space.column]))
        run = self._compiled(name, lambda: programs.jit(function))
        return np.asarray(run(self.variables, batch, keys))

    def _batch(self, examples, label, condition) -> dict[str, np.ndarray]:
        shape = self.family.data.shape
        examples = np.asarray(examples)
        if examples.shape[1:] != shape or examples.dtype != self.space.dtype:
            wanted = f"{np.dtype(self.space.dtype)} of shape (N, {', '.join(map(str, shape))})"
            raise InputError(f"examples are {examples.dtype} {examples.shape}, expected {wanted}")
        derived = {name for name, options in self.config.data.columns.items() if "name" in options}
        names = set(self.family.data.conditions.names)
        if names and derived >= names:
            return {self.space.column: examples}  # made of the examples themselves
        given = self._condition(len(examples), label, condition) or {}
        return {self.space.column: examples, **given}

    def _condition(self, num: int, label, condition) -> dict[str, np.ndarray] | None:
        if condition is None and label is not None:
            condition = {"label": np.broadcast_to(np.asarray(label, np.int32), (num,))}
        self.family.data.conditions.check(condition)
        return condition
