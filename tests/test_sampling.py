"""Drawing many samples, with toy families whose samples are known; families by name."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen import families
from jaxgen import sampling as generate
from jaxgen.conditions import UNCONDITIONAL, ConditionSpec, Kind
from jaxgen.config import default
from jaxgen.errors import InputError
from jaxgen.families.base import Data, Family

SHAPE = (3, 3, 1)
TEN = ConditionSpec((Kind("label", (), 10),))


def family(sample):
    return Family("toy", (), Data(SHAPE), None, None, sample, {"steps": 4})


def noise(variables, keys, condition=None, steps=4):
    """Pictures whose first pixel is the label, or its key's bits."""
    images = jax.vmap(lambda key: jax.random.uniform(key, SHAPE, minval=-1.0, maxval=1.0))(keys)
    if condition is None:
        return images * variables
    return images.at[:, 0, 0, 0].set(condition["label"] / 127.5 - 1)


def classes(num, count=3):
    spec = ConditionSpec((Kind("label", (), count),)) if count else UNCONDITIONAL
    return generate.conditions(spec, num)


def diffusion():
    config = default()
    config.family, config.conditional = "diffusion", True
    config.data.update(image_shape=(4, 4, 1), num_classes=3)
    config.model.update(
        schedule=dict(name="linear", steps=10, end=0.5), prediction="v",
        denoiser=dict(name="mlp_denoiser", width=16, depth=1, embedding=8),
    )  # fmt: skip
    built = families.build(config)
    batch = {"x": jnp.zeros((1, 4, 4, 1)), "label": jnp.zeros(1, jnp.int32)}
    return built, jax.jit(built.init)(jax.random.key(0), batch)


@pytest.mark.slow
def test_samples_are_the_same_in_batches_of_any_size():
    system, variables = diffusion()
    run = generate.sampler(system, {"steps": 3})

    def draw(size, num=20, seed=5):
        return generate.generate(
            run, variables, num, seed=seed, batch_size=size, condition=classes(num)
        )

    whole = draw(16)
    assert whole.dtype == np.uint8 and whole.shape == (20, 4, 4, 1)
    assert len(np.unique(whole.reshape(20, -1), axis=0)) == 20
    for other in (draw(7), draw(16, num=11)):
        # a level of difference: rounding at a border
        assert np.abs(whole[: len(other)].astype(int) - other).max() <= 1
    assert np.abs(draw(16, seed=6).astype(int) - whole).mean() > 10


def test_keys_and_labels_go_to_their_samples_and_progress_adds_up():
    counts, condition = [], classes(10, 4)
    run = generate.sampler(family(noise), {})
    images = generate.generate(
        run, 1.0, 10, seed=0, batch_size=4, condition=condition, progress=counts.append
    )
    np.testing.assert_array_equal(images[:, 0, 0, 0], condition["label"])
    assert counts == [4, 4, 2]
    one = jax.random.uniform(generate.sample_keys(0, 9, 1)[0], SHAPE, minval=-1.0, maxval=1.0)
    np.testing.assert_array_equal(
        images[9].ravel()[1:], np.round(127.5 * (np.asarray(one) + 1)).ravel()[1:]
    )


def test_samples_are_quantised_by_rounding_and_clipping():
    values = np.array([-3.0, -1.0, -0.999, 0.0, 0.999, 1.0, 5.0])
    run = generate.sampler(
        family(lambda v, keys, label: jnp.tile(v.reshape(1, 1, -1, 1), (len(keys), 1, 1, 1))), {}
    )
    images = generate.generate(run, jnp.float32(values), 2, seed=0, batch_size=2)
    np.testing.assert_array_equal(
        images[0].ravel(), np.clip(np.round(127.5 * (values + 1)), 0, 255)
    )


@pytest.mark.parametrize(("num", "count"), [(10, 4), (3, 10), (1000, 10)])
def test_classes_are_balanced(num, count):
    counts = np.bincount(classes(num, count)["label"], minlength=count)
    assert counts.sum() == num and counts.max() - counts.min() <= 1
    assert classes(num, 0) is None


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: generate.conditions(UNCONDITIONAL, 4, label=1), "does not see the class"),
        (lambda: generate.conditions(TEN, 4, label=10), "0 to 9"),
        (lambda: generate.conditions(TEN, 4, label=-1), "0 to 9"),
        (
            lambda: generate.sampler(family(noise), {"step": 3}),
            "no sampling option 'step': did you mean steps",
        ),
        (
            lambda: generate.sampler(family(noise)._replace(sample_options={}), {"eta": 0.0}),
            "one step",
        ),
        (lambda: generate.generate(None, None, 0, seed=0, batch_size=4), "at least 1"),
    ],
)
def test_bad_requests_are_refused(call, message):
    with pytest.raises(InputError, match=message):
        call()


def test_samples_that_are_not_finite_are_named():
    run = generate.sampler(family(noise), {})
    with pytest.raises(InputError, match="samples 0 to 3 hold NaN"):
        generate.generate(run, jnp.float32(jnp.nan), 8, seed=0, batch_size=4)


def test_a_trajectory_is_refused_or_gives_its_samples():
    """A notebook's option that `jaxgen sample` can be given as well."""
    system, variables = diffusion()
    try:
        run = generate.sampler(system, {"steps": 3, "trajectory": True})
        images = generate.generate(run, variables, 2, seed=0, batch_size=2, condition=classes(2))
        assert images.shape == (2, 4, 4, 1)
    except InputError as error:
        assert "trajectory" in str(error)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(family="autoencodr"), "did you mean autoencoder"),
        ({"precision.compute": "float16"}, "float32 or bfloat16"),
        ({"model.denoiser.name": "unett"}, "did you mean unet"),
        ({"model.denoiser.widht": 3}, "did you mean width"),
    ],
)
def test_a_family_that_does_not_exist_is_named(change, message):
    config = default()
    config.family = "diffusion"
    config.data.image_shape = (4, 4, 1)
    config.model.update(
        schedule=dict(name="linear"), prediction="v", denoiser=dict(name="mlp_denoiser")
    )
    with config.unlocked():
        config.update_from_flattened_dict(change)
    with pytest.raises(InputError, match=message):
        families.build(config)
