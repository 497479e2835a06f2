"""The Inception network of the FID in Flax: TensorFlow's graph of 2015-12-05.

Heusel et al. 2017 (FID) take this graph, not the Inception v3 that came later: its average pools
leave the padding out, and its last block pools by the maximum. Szegedy et al. 2016 describe the
blocks. Batch norm is folded into the convolutions, so a layer is convolution, bias, relu."""

import functools
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import lax
from jaxtyping import Array, Float

SIZE = 299  # pixels a side
_float32 = functools.partial(jnp.matmul, precision=lax.Precision.HIGHEST)


class Inception(nn.Module):
    """Normalised images -> (vectors, logits): the mean over positions of one layer, named by its
    width.

    layer: 64 and 192 are the first and second max pool, 768 is Mixed_6e, 2048 is Mixed_7c, the
    layer of published FIDs. Logits over the graph's 1,008 classes come with 2048 alone, otherwise
    None. They leave out the bias of `fc`, as Inception scores do since Salimans et al. 2016.
    Parameters are `<layer>.kernel` (HWIO) and `<layer>.bias` in one flat dictionary.

    Branches of a block that begin with a 1x1 convolution of the same input share one matrix
    product, and that of the average pool branch goes before the pool: both are linear, and the pool
    then has fewer channels."""

    layer: int

    @nn.compact
    def __call__(
        self, x: Float[Array, "N H W 3"]
    ) -> tuple[Float[Array, "N D"], Float[Array, "N K"] | None]:
        x = self.conv("Conv2d_1a_3x3", x, 32, (3, 3), stride=2, same=False)
        x = self.conv("Conv2d_2a_3x3", x, 32, (3, 3), same=False)
        x = self.conv("Conv2d_2b_3x3", x, 64, (3, 3))
        x = _max_pool(x)
        if self.layer == 64:
            return x.mean((1, 2)), None
        (x,) = self.heads("Conv2d_3b_1x1", x, {"": 80})
        x = self.conv("Conv2d_4a_3x3", x, 192, (3, 3), same=False)
        x = _max_pool(x)
        if self.layer == 192:
            return x.mean((1, 2)), None
        for name, pooled in (("Mixed_5b", 32), ("Mixed_5c", 64), ("Mixed_5d", 64)):
            x = self.block_35(name, x, pooled)
        x = self.to_17(x)
        for name, inner in (
            ("Mixed_6b", 128),
            ("Mixed_6c", 160),
            ("Mixed_6d", 160),
            ("Mixed_6e", 192),
        ):
            x = self.block_17(name, x, inner)
        if self.layer == 768:
            return x.mean((1, 2)), None
        x = self.to_8(x)
        x = self.block_8("Mixed_7b", x, max_pool=False)
        x = self.block_8("Mixed_7c", x, max_pool=True)
        vectors = x.mean((1, 2))
        return vectors, _float32(vectors, self.weights("fc", (2048, 1008))[0])

    def block_35(self, name: str, x: Array, pooled: int) -> Array:
        heads = {
            ".branch1x1": 64,
            ".branch5x5_1": 48,
            ".branch3x3dbl_1": 64,
            ".branch_pool": pooled,
        }
        one, five, three, pool = self.heads(name, x, heads)
        five = self.conv(f"{name}.branch5x5_2", five, 64, (5, 5))
        three = self.conv(f"{name}.branch3x3dbl_2", three, 96, (3, 3))
        three = self.conv(f"{name}.branch3x3dbl_3", three, 96, (3, 3))
        return jnp.concatenate([one, five, three, pool], -1)

    def to_17(self, x: Array) -> Array:
        three = self.conv("Mixed_6a.branch3x3", x, 384, (3, 3), stride=2, same=False)
        (double,) = self.heads("Mixed_6a", x, {".branch3x3dbl_1": 64})
        double = self.conv("Mixed_6a.branch3x3dbl_2", double, 96, (3, 3))
        double = self.conv("Mixed_6a.branch3x3dbl_3", double, 96, (3, 3), stride=2, same=False)
        return jnp.concatenate([three, double, _max_pool(x)], -1)

    def block_17(self, name: str, x: Array, inner: int) -> Array:
        heads = {
            ".branch1x1": 192,
            ".branch7x7_1": inner,
            ".branch7x7dbl_1": inner,
            ".branch_pool": 192,
        }
        one, seven, double, pool = self.heads(name, x, heads)
        seven = self.conv(f"{name}.branch7x7_2", seven, inner, (1, 7))
        seven = self.conv(f"{name}.branch7x7_3", seven, 192, (7, 1))
        for part, features, size in (
            (2, inner, (7, 1)),
            (3, inner, (1, 7)),
            (4, inner, (7, 1)),
            (5, 192, (1, 7)),
        ):
            double = self.conv(f"{name}.branch7x7dbl_{part}", double, features, size)
        return jnp.concatenate([one, seven, double, pool], -1)

    def to_8(self, x: Array) -> Array:
        three, seven = self.heads("Mixed_7a", x, {".branch3x3_1": 192, ".branch7x7x3_1": 192})
        three = self.conv("Mixed_7a.branch3x3_2", three, 320, (3, 3), stride=2, same=False)
        seven = self.conv("Mixed_7a.branch7x7x3_2", seven, 192, (1, 7))
        seven = self.conv("Mixed_7a.branch7x7x3_3", seven, 192, (7, 1))
        seven = self.conv("Mixed_7a.branch7x7x3_4", seven, 192, (3, 3), stride=2, same=False)
        return jnp.concatenate([three, seven, _max_pool(x)], -1)

    def block_8(self, name: str, x: Array, max_pool: bool) -> Array:
        heads = {".branch1x1": 320, ".branch3x3_1": 384, ".branch3x3dbl_1": 448}
        if max_pool:  # not linear, so its convolution comes after it
            one, three, double = self.heads(name, x, heads)
            # zero is below or equal to every value after relu
            (pool,) = self.heads(name, _max_pool(_pad(x, 1), stride=1), {".branch_pool": 192})
        else:
            one, three, double, pool = self.heads(name, x, heads | {".branch_pool": 192})
        double = self.conv(f"{name}.branch3x3dbl_2", double, 384, (3, 3))
        wide, high = (1, 3), (3, 1)
        threes = [
            self.conv(f"{name}.branch3x3_2{part}", three, 384, size)
            for part, size in (("a", wide), ("b", high))
        ]
        doubles = [
            self.conv(f"{name}.branch3x3dbl_3{part}", double, 384, size)
            for part, size in (("a", wide), ("b", high))
        ]
        return jnp.concatenate([one, *threes, *doubles, pool], -1)

    def weights(self, name: str, shape: Sequence[int]) -> tuple[Array, Array]:
        kernel = self.param(f"{name}.kernel", nn.initializers.zeros, tuple(shape))
        return kernel, self.param(f"{name}.bias", nn.initializers.zeros, (shape[-1],))

    def conv(
        self,
        name: str,
        x: Array,
        features: int,
        size: tuple[int, int],
        stride: int = 1,
        same: bool = True,
    ) -> Array:
        """Convolution, bias, relu. not same: without padding."""
        kernel, bias = self.weights(name, (*size, x.shape[-1], features))
        # without padding XLA's convolution is up to seven times slower on a CPU: pad, then cut
        padding = "SAME" if same else ((0, 1), (0, 1))
        y = lax.conv_general_dilated(
            x,
            kernel,
            (stride, stride),
            padding,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            precision=lax.Precision.HIGHEST,
        )
        if not same:
            y = y[:, : (x.shape[1] - size[0]) // stride + 1, : (x.shape[2] - size[1]) // stride + 1]
        return nn.relu(y + bias)

    def heads(self, name: str, x: Array, features: Mapping[str, int]) -> list[Array]:
        """Parallel 1x1 convolutions of x by one matrix product; what is called .branch_pool is
        averaged over 3x3 as well.
        """
        weights = [
            self.weights(name + branch, (1, 1, x.shape[-1], width))
            for branch, width in features.items()
        ]
        joint = _float32(x, jnp.concatenate([kernel[0, 0] for kernel, _ in weights], -1))
        parts = jnp.split(joint, np.cumsum(list(features.values()))[:-1], -1)
        if ".branch_pool" in features and len(features) > 1:
            parts[-1] = _average_pool(parts[-1])
        return [nn.relu(part + bias) for part, (_, bias) in zip(parts, weights)]


def _pad(x: Array, width: int) -> Array:
    return jnp.pad(x, ((0, 0), (width, width), (width, width), (0, 0)))


def _three(x: Array, axis: int, stride: int) -> list[Array]:
    """The first, middle and last pixels of all windows of three along an axis: pooling by
    reduce_window is slow on the CPU.
    """
    span = (x.shape[axis] - 3) // stride * stride + 1
    return [lax.slice_in_dim(x, i, i + span, stride, axis) for i in range(3)]


def _max_pool(x: Array, stride: int = 2) -> Array:
    for axis in (1, 2):
        x = functools.reduce(jnp.maximum, _three(x, axis, stride))
    return x


def _average_pool(x: Array) -> Array:
    """3x3 at stride one; the mean at a border is over the pixels inside."""
    rows, columns = ([min(i + 2, n) - max(i - 1, 0) for i in range(n)] for n in x.shape[1:3])
    x = _pad(x, 1)
    for axis in (1, 2):
        x = functools.reduce(jnp.add, _three(x, axis, 1))
    return x / np.outer(rows, columns).astype(np.float32)[..., None]


@functools.cache
def shapes(layer: int) -> dict[str, tuple[int, ...]]:
    """What `Inception(layer)` needs: name of a parameter -> its shape."""
    image = jax.ShapeDtypeStruct((1, SIZE, SIZE, 3), jnp.float32)
    found = jax.eval_shape(Inception(layer).init, jax.random.key(0), image)["params"]
    return {name: value.shape for name, value in found.items()}
