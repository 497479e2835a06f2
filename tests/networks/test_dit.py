import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.conditions import ConditionSpec, Kind
from jaxgen.errors import InputError
from jaxgen.networks.dit import DiT, dit_size, position_embedding
from tests.support import close


@pytest.mark.slow
@pytest.mark.parametrize("size, millions", [("S", 33), ("B", 130.5), ("L", 458), ("XL", 675)])
def test_parameter_counts_are_the_papers(size, millions):
    """At patch 2, on 32x32x4 latents with 1000 classes and learned variances.

    The published counts include the fixed position embedding, which the released code keeps as a
    frozen parameter: B/2 has 130,512,416 with it and 130,315,808 without. Here it is a constant, so
    the test adds it."""

    def count(patch):
        classes = ConditionSpec((Kind("label", (), 1000),))
        net = DiT(**dit_size(f"{size}/{patch}"), conditions=classes, outputs=8)
        args = jnp.zeros((1, 32, 32, 4)), jnp.zeros(1), classes.blank(1)
        shapes = jax.eval_shape(net.init, jax.random.key(0), *args)
        return sum(p.size for p in jax.tree.leaves(shapes)), net.width

    two, width = count(2)
    positions = 16 * 16 * width
    assert (two + positions) / 1e6 == pytest.approx(millions, abs=0.05 if size == "B" else 0.5)
    assert size != "B" or two + positions == 130_512_416
    for patch in (4, 8):  # only the first and the last layer know the patch
        assert count(patch)[0] - two == (patch**2 - 2**2) * (4 * width + 8 * (width + 1))


def test_without_blocks_a_patch_sees_only_itself():
    net = DiT(patch=2, width=8, depth=0, heads=1)
    draw = np.random.default_rng(0)
    x, time = draw.normal(size=(1, 4, 6, 2)), jnp.zeros(1)
    shapes = jax.eval_shape(net.init, jax.random.key(1), x, time)
    variables = jax.tree.map(lambda p: jnp.asarray(draw.normal(size=p.shape), p.dtype), shapes)
    jacobian = jax.jit(jax.jacobian(lambda x: net.apply(variables, x, time)))(jnp.asarray(x))[
        0, :, :, :, 0
    ]
    reach = np.abs(jacobian).sum((2, 5)) > 0  # [H, W, H, W]
    patch = np.arange(4)[:, None] // 2 * 3 + np.arange(6) // 2
    np.testing.assert_array_equal(reach, patch[:, :, None, None] == patch)


def test_positions_are_distinct_and_their_similarity_depends_on_the_offset_only():
    e = position_embedding(3, 5, 16).reshape(3, 5, 16)
    close(np.sum(e**2, -1), np.full(e.shape[:-1], 8.0))  # sin^2 + cos^2
    similarity = np.einsum("ijd,kld->ijkl", e, e)
    close(similarity[0, 0, 1, 2], similarity[1, 2, 2, 4])
    assert np.sum(similarity > 8 - 1e-3) == 15


def test_sizes_that_do_not_fit_are_refused():
    x, time = jnp.zeros((1, 6, 6, 1)), jnp.zeros(1)
    with pytest.raises(InputError, match="patch=4"):
        DiT(patch=4, width=8, depth=1, heads=2).init(jax.random.key(0), x, time)
    with pytest.raises(InputError, match="width=10"):
        DiT(patch=2, width=10, depth=1, heads=2).init(jax.random.key(0), x, time)
