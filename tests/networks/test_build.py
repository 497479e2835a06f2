"""What holds for every network by name: shapes, dtypes, independence of the batch, gradients,
labels, errors.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.calls import Call
from jaxgen.conditions import UNCONDITIONAL, ConditionSpec, Kind
from jaxgen.errors import InputError
from jaxgen.networks import NETWORKS, build
from tests.support import close, keys, normal

SHAPE, CLASSES, BATCH, LATENT = (8, 8, 2), 3, 3, 5
OPTIONS = {
    "mlp_encoder": dict(outputs=6, hidden=[8, 8], norm="layer", residual=True),
    "mlp_decoder": dict(shape=(8, 8, 4), hidden=[8, 8], norm="rms"),
    "mlp_critic": dict(hidden=[8, 8], spectral_norm=True),
    "mlp_denoiser": dict(width=8, depth=2, embedding=8, outputs=4),
    "conv_encoder": dict(outputs=6, channels=[4, 8], dropout=0.5),
    "conv_decoder": dict(shape=(8, 8, 4), channels=[4, 8], dropout=0.5),
    "conv_critic": dict(channels=[4, 8], spectral_norm=True),
    "unet": dict(
        channels=8, multipliers=[1, 2], blocks=1, attention=[4], heads=2, dropout=0.5, outputs=4
    ),
    "dit": dict(patch=2, width=8, depth=2, heads=2, dropout=0.5, outputs=4),
}
EVERY = pytest.mark.parametrize("name", list(NETWORKS))
DENOISERS = ["mlp_denoiser", "unet", "dit"]


# The networks are tiny and compilation is all the time there is: compile without optimising.
FAST = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
jit = functools.partial(jax.jit, compiler_options=FAST)


CONDITIONS = ConditionSpec((Kind("label", (), CLASSES),))


def arguments(name):
    """Inputs of the network's kind, all examples different."""
    x = normal(1, BATCH, *((LATENT,) if "decoder" in name else SHAPE))
    time = (jnp.linspace(0.1, 0.9, BATCH),) if name in DENOISERS else ()
    return jnp.asarray(x), *time, {"label": jnp.arange(BATCH) % CLASSES}


@functools.cache
def prepared(name):
    """The class-conditional network, variables away from its initialisation (whose zeros block
    gradients), and it run in evaluation and in training: (output, parameter gradients of the
    output's squared norm)."""
    net = build(name, conditions=CONDITIONS, **OPTIONS[name])
    shapes = jax.eval_shape(net.init, jax.random.key(0), *arguments(name))
    leaves, tree = jax.tree.flatten(shapes)
    assert all(leaf.dtype == jnp.float32 for leaf in leaves)
    variables = tree.unflatten(
        [jnp.asarray(normal(i, *leaf.shape, scale=0.3)) for i, leaf in enumerate(leaves)]
    )
    return net, variables, jit(net.apply), trained(net)


def trained(net):
    def loss(params, rest, args, keys):
        out = net.apply({"params": params, **rest}, *args, Call(True, keys))
        return jnp.sum(jnp.square(image_of(out))), out

    def run(variables, args, keys):
        rest = {k: v for k, v in variables.items() if k != "params"}
        grads, out = jax.grad(loss, has_aux=True)(variables["params"], rest, args, keys)
        return out, grads

    return jit(run)


def image_of(out):
    """The output, or a critic's score."""
    return out[0] if isinstance(out, tuple) else out


def products(jaxpr):
    """The matrix products and convolutions in it, without those by a single vector (power
    iterations) and those that are asked for in full precision (the means of a normalisation)."""
    full = (jax.lax.Precision.HIGHEST,) * 2
    for equation in jaxpr.eqns:
        if (
            equation.primitive.name in ("dot_general", "conv_general_dilated", "convolution")
            and equation.outvars[0].aval.ndim > 1
        ):
            if equation.params.get("precision") != full:
                yield equation
        for parameter in jax.tree.leaves(
            equation.params, is_leaf=lambda p: hasattr(p, "eqns") or hasattr(p, "jaxpr")
        ):
            inner = getattr(parameter, "jaxpr", parameter)
            if hasattr(inner, "eqns"):
                yield from products(inner)


@pytest.mark.slow
@EVERY
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_every_product_is_computed_in_dtype_and_the_output_is_float32(name, dtype):
    net, variables, _, _ = prepared(name)
    jaxpr, out = jax.make_jaxpr(net.clone(dtype=jnp.dtype(dtype)).apply, return_shape=True)(
        variables, *arguments(name)
    )
    found = list(products(jaxpr.jaxpr))
    assert len(found) >= 3
    assert {str(v.aval.dtype) for equation in found for v in equation.invars} == {dtype}
    if "critic" in name:
        assert len(out[1]) == 2 and all(f.shape[0] == BATCH and f.dtype == dtype for f in out[1])
    expected = {"encoder": (6,), "critic": ()}.get(name.split("_")[-1], (*SHAPE[:2], 4))
    assert image_of(out).shape == (BATCH, *expected) and image_of(out).dtype == jnp.float32


@pytest.mark.slow
@EVERY
def test_an_example_does_not_depend_on_its_place_and_mates(name):
    net, variables, evaluated, run = prepared(name)
    args, own = arguments(name), keys(BATCH)
    others = jax.tree.map(lambda a: jnp.concatenate([a[1:2], a[:1], a[:1]]), (args, own))
    out, moved = run(variables, args, own)[0], run(variables, *others)[0]
    rows = zip(jax.tree.leaves(out), jax.tree.leaves(moved), strict=True)
    for whole, other in rows:
        close(whole[1], other[0], whole, terms=64)
    if "dropout" in OPTIONS[name]:
        assert np.abs(out - evaluated(variables, *args)).max() > 1e-3
        with pytest.raises(InputError, match="keys"):
            jax.eval_shape(lambda: net.apply(variables, *args, Call(train=True)))


@EVERY
def test_gradients_reach_every_parameter(name):
    _, variables, _, run = prepared(name)
    grads = run(variables, arguments(name), keys(BATCH))[1]
    for path, g in jax.tree.leaves_with_path(grads):
        place = jax.tree_util.keystr(path)
        assert np.all(np.isfinite(g)), place
        if "'key'" in place and "bias" in place:
            continue  # softmax does not see it
        assert np.abs(g).max() > 1e-6, place


@pytest.mark.slow
@pytest.mark.parametrize("name", [pytest.param("unet", marks=pytest.mark.slow), "dit"])
@pytest.mark.parametrize("remat", ["full", "dots"])
def test_remat_changes_no_gradient_and_no_parameter_name(name, remat):
    net, variables, _, run = prepared(name)
    args, own = arguments(name), keys(BATCH)
    outputs, grads = run(variables, args, own)
    again, same = trained(net.clone(remat=remat))(variables, args, own)
    assert jax.tree.structure(grads) == jax.tree.structure(same)
    scale = max(float(np.abs(g).max()) for g in jax.tree.leaves(grads))
    close((outputs, grads), (again, same), scale, terms=64)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["unet", "dit"])
def test_remat_saves_less_for_the_backward_pass(name):
    """What JAX hands to the backward pass. (The compiler for CPUs undoes it, so that compiled
    memory says nothing here.)
    """
    net, variables, _, _ = prepared(name)

    def saved(remat):
        def run(params):
            call = Call(True, keys(BATCH))
            return net.clone(remat=remat).apply({"params": params}, *arguments(name), call)

        leaves = jax.tree.leaves(jax.eval_shape(lambda p: jax.vjp(run, p)[1], variables["params"]))
        return sum(leaf.size for leaf in leaves)

    assert saved("full") < saved("dots") < saved("none")
    assert saved(True) == saved("full") and saved(False) == saved("none")


def test_remat_of_another_name_is_refused():
    with pytest.raises(InputError, match="remat must be .* not .ful.: did you mean full"):
        jax.eval_shape(
            build("dit", remat="ful", **OPTIONS["dit"]).init,
            jax.random.key(0),
            *arguments("dit")[:2],
        )


@pytest.mark.slow
@EVERY
def test_the_condition_matters_and_must_fit_the_network(name):
    net, variables, evaluated, _ = prepared(name)
    *inputs, condition = arguments(name)
    label = condition["label"]
    labels = [label, (label + 1) % CLASSES] + (
        [jnp.full_like(label, CLASSES)] if name in DENOISERS else []
    )
    outs = [image_of(evaluated(variables, *inputs, {"label": y})) for y in labels]
    for i in range(len(outs)):
        assert np.all(np.isfinite(outs[i]))
        for j in range(i):
            assert np.all(np.abs(outs[i] - outs[j]).reshape(BATCH, -1).max(-1) > 1e-4)
    with pytest.raises(InputError, match="none was given"):
        jax.eval_shape(lambda: net.apply(variables, *inputs))
    with pytest.raises(InputError, match="takes no condition"):
        jax.eval_shape(
            lambda: net.clone(conditions=UNCONDITIONAL).apply(variables, *inputs, condition)
        )


@pytest.mark.parametrize("name", DENOISERS)
def test_denoisers_see_the_time_and_start_at_zero(name):
    net, variables, evaluated, _ = prepared(name)
    x, time, label = arguments(name)
    a, b = (evaluated(variables, x, t, label) for t in (time, time + 0.05))
    assert np.all(np.abs(a - b).reshape(BATCH, -1).max(-1) > 1e-3)

    plain = build(name, **{k: v for k, v in OPTIONS[name].items() if k != "outputs"})  # nor classes
    start = jit(plain.init_with_output)(jax.random.key(0), x, time)[0]
    assert start.shape == x.shape and np.all(start == 0)


@pytest.mark.parametrize(
    "name, options, message",
    [
        ("unett", {}, "did you mean unet"),
        ("unet", {"chanels": 3}, "did you mean channels"),
        ("mlp_encoder", {}, "outputs"),
        ("dit", {"size": "M/2"}, "unknown DiT size"),
    ],
)
def test_build_says_what_is_wrong(name, options, message):
    with pytest.raises(InputError, match=message):
        build(name, **options)


def test_a_network_must_fit_its_role():
    with pytest.raises(
        InputError, match=r"network of config\.model\.critic 'unet': known: conv_cr"
    ):
        build("unet", where="config.model.critic")


def test_build_reads_config_values():
    net = build("dit", size="S/4", depth=2, dtype="bfloat16")
    assert (net.patch, net.width, net.depth, net.heads, net.dtype) == (4, 384, 2, 6, jnp.bfloat16)
    assert build("unet", multipliers=[1, 2]).multipliers == (1, 2)
