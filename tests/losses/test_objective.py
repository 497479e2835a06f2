"""The table of weighted terms, on outputs whose terms are known numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.errors import InputError
from jaxgen.losses import objective

OUTPUTS = {
    "log_likelihood": -jnp.array([1.0, 2.0, 3.0, 6.0]),  # reconstruction: mean 3
    "posterior": (jnp.full((4, 1), 2.0), jnp.zeros((4, 1))),  # kl: 2 for every example
}


def at(table, step, outputs=OUTPUTS):
    """(loss, means) of `table` at `step`, compiled with a traced step."""
    rows = objective.build("model", table)
    total, means = jax.jit(lambda s: objective.loss(rows, outputs, s, 4))(jnp.int32(step))
    return float(total), {k: float(v) for k, v in means.items()}


def test_the_loss_is_the_weighted_sum_of_means_and_the_means_are_unweighted():
    total, means = at({"reconstruction": {}, "kl": {"weight": 0.25}}, 0)
    assert total == pytest.approx(3 + 0.25 * 2)
    assert means == pytest.approx({"reconstruction": 3.0, "kl": 2.0})
    values = objective.evaluate(
        objective.build("m", {"reconstruction": {"weight": 9.0}}), OUTPUTS, 4
    )
    np.testing.assert_array_equal(values["reconstruction"], [1, 2, 3, 6])


def test_a_row_may_be_named_otherwise_than_its_term_and_give_it_options():
    total, means = at({"kl": {}, "floor": {"term": "kl", "free_bits": 5.0, "weight": 10.0}}, 0)
    assert total == pytest.approx(2 + 10 * 5)
    assert means == pytest.approx({"kl": 2.0, "floor": 5.0})


@pytest.mark.parametrize(("step", "weight"), [(0, 0.5), (5, 0.75), (10, 1.0), (1000, 1.0)])
def test_a_weight_runs_linearly_from_init_to_end(step, weight):
    table = {"kl": {"weight": {"init": 0.5, "end": 1.0, "steps": 10}}}
    assert at(table, step)[0] == pytest.approx(weight * 2)


def test_a_term_starts_at_its_step():
    table = {"reconstruction": {}, "kl": {"start": 3}}
    assert [at(table, step)[0] for step in (0, 2, 3, 4)] == pytest.approx([3, 3, 5, 5])
    assert at(table, 2)[1]["kl"] == 0.0


def test_a_lazy_term_weighs_as_often_as_it_is_left_out():
    table = {"reconstruction": {"weight": 0.0}, "kl": {"every": 4, "weight": 0.5}}
    losses = [at(table, step)[0] for step in range(8)]
    assert losses == pytest.approx([4, 0, 0, 0] * 2)
    assert np.mean(losses) == pytest.approx(0.5 * 2)  # so that its long-run strength is its weight


def test_lazy_terms_and_late_ones_carry_gradients_when_active_only():
    rows = objective.build("m", {"kl": {"every": 2}})

    def slope(step):
        def loss(mean):
            return objective.loss(
                rows, {"posterior": (jnp.full((4, 1), mean), jnp.zeros((4, 1)))}, step, 4
            )[0]

        return jax.jit(jax.grad(loss))(3.0)

    assert [float(slope(jnp.int32(s))) for s in (0, 1, 2)] == pytest.approx([6.0, 0.0, 6.0])


def test_a_term_that_is_not_finite_does_not_harm_while_inactive():
    outputs = {**OUTPUTS, "log_likelihood": jnp.full(4, jnp.nan)}
    assert np.isfinite(at({"kl": {}, "reconstruction": {"start": 10}}, 9, outputs)[0])
    assert np.isnan(at({"kl": {}, "reconstruction": {"start": 10}}, 10, outputs)[0])


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({}, r"players\.model\.terms is empty"),
        (
            {"reconstrution": {}},
            r"players\.model\.terms\.reconstrution.*did you mean reconstruction",
        ),
        ({"x": {"term": "hing"}}, "unknown loss term of .*terms.x 'hing'"),
        (
            {"kl": {"free_bit": 1.0}},
            r"players\.model\.terms\.kl has no option 'free_bit': did you mean free_bits",
        ),
        (
            {"kl": {"weight": "high"}},
            r"players\.model\.terms\.kl\.weight must be a number or \{init, end, steps\}",
        ),
        ({"kl": {"weight": True}}, "weight must be a number"),
        ({"kl": {"weight": {"init": 0.0, "end": 1.0}}}, "weight must be a number"),
        ({"kl": {"weight": {"init": 0.0, "end": 1.0, "steps": 0}}}, "weight.steps must be"),
        ({"kl": {"every": 0}}, "every must be an integer of at least 1"),
        ({"kl": {"start": -1}}, "start must be an integer of at least 0"),
    ],
)
def test_bad_tables_are_refused_by_name(table, message):
    with pytest.raises(InputError, match=message):
        objective.build("model", table)


@pytest.mark.parametrize("row", [{}, {"start": 5}])
def test_a_missing_output_names_the_term_and_what_there_is(row):
    with pytest.raises(
        InputError, match="loss term 'r1' needs the output 'critic'.*log_likelihood, posterior"
    ):
        at({"r1": row}, 0)


def test_a_term_must_return_one_number_per_example():
    with pytest.raises(ValueError, match="one number per example"):
        at({"reconstruction": {}}, 0, {"log_likelihood": jnp.float32(1.0)})
