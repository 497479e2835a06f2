"""The Frechet distance against scipy's matrix square root and closed forms."""

import numpy as np
import pytest
from scipy import linalg

from jaxgen.errors import InputError
from jaxgen.evaluation import metrics
from jaxgen.evaluation.metrics import frechet
from tests.support import close


def features(seed, rows, columns, scale=1.0, shift=0.0):
    rng = np.random.default_rng(seed)
    return shift + scale * rng.normal(size=(rows, columns)) @ rng.normal(size=(columns, columns))


def by_square_root(a, b):
    """The textbook formula with scipy's matrix square root, for covariances of full rank."""
    ca, cb = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = linalg.sqrtm(ca @ cb)
    return np.sum((a.mean(0) - b.mean(0)) ** 2) + np.trace(ca + cb - 2 * root.real)


def by_eigenvalues(a, b):
    """The same for any rank: in the span of both sets, with symmetric roots Tr (C_a^(1/2) C_b
    C_a^(1/2))^(1/2).
    """
    ca, cb = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    values, vectors = np.linalg.eigh(ca)
    keep = values > 1e-12 * values[-1]
    half = vectors[:, keep] * np.sqrt(values[keep])
    products = np.linalg.eigvalsh(half.T @ cb @ half)
    root = np.sqrt(products[products > 1e-12 * products[-1]]).sum()
    return np.sum((a.mean(0) - b.mean(0)) ** 2) + np.trace(ca) + np.trace(cb) - 2 * root


def test_it_is_the_textbook_formula():
    a, b = features(0, 300, 12), features(1, 200, 12, 1.5, 0.3)
    assert metrics.frechet_distance(a, b) == pytest.approx(by_square_root(a, b), rel=1e-6)
    single = metrics.frechet_distance(a.astype(np.float32), b.astype(np.float32))
    assert single == pytest.approx(
        by_square_root(a.astype(np.float32), b.astype(np.float32)), rel=1e-6
    )


@pytest.mark.parametrize("rows", [(300, 8), (8, 300), (9, 7), (300, 13), (13, 12), (2, 300)])
def test_any_mix_of_few_and_many_rows(rows):
    a, b = features(0, rows[0], 12), features(1, rows[1], 12, 1.5, 0.3)
    assert metrics.frechet_distance(a, b) == pytest.approx(by_eigenvalues(a, b), rel=1e-6)


def degenerate(kind):
    base = features(0, 400, 12)
    if kind == "rank 5":
        return base[:, :5] @ features(2, 5, 12)[:, :12]
    if kind == "constant column":
        return np.where(np.arange(12) == 4, 0.1, base)
    if kind == "collapsed to a point":
        return np.repeat(base[:1], 400, axis=0)
    if kind == "two columns equal":
        return base[:, [*range(11), 0]]
    return np.repeat(base[:3], 100, axis=0)  # collapsed to three points


KINDS = [
    "rank 5",
    "constant column",
    "collapsed to a point",
    "two columns equal",
    "collapsed to three",
]


@pytest.mark.parametrize("kind", KINDS)
def test_rank_deficient_sets(kind):
    a, b = degenerate(kind), features(1, 300, 12, 1.5, 0.3)
    # of a point
    expected = np.sum((a.mean(0) - b.mean(0)) ** 2) + np.trace(np.cov(b, rowvar=False))
    expected = expected if kind == "collapsed to a point" else by_eigenvalues(a, b)
    assert metrics.frechet_distance(a, b) == pytest.approx(expected, rel=1e-6)
    assert metrics.frechet_distance(b, a) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_copies_are_at_no_distance_and_none_is_negative(kind):
    for a in (degenerate(kind), features(0, 20, 40), features(0, 200, 40)):
        assert 0.0 <= metrics.frechet_distance(a, a[::-1]) <= 1e-9 * np.var(a, axis=0).sum() + 1e-20


def test_aligned_gaussians_are_closed_form():
    base = features(0, 500, 6)
    assert metrics.frechet_distance(base, base + 2.0) == pytest.approx(6 * 4.0, rel=1e-9)
    center = base - base.mean(0)
    expected = (3.0 - 1.0) ** 2 * np.trace(np.cov(base, rowvar=False))
    assert metrics.frechet_distance(center, 3.0 * center) == pytest.approx(expected, rel=1e-9)


def test_fewer_samples_than_features():
    """Padding both sets with constant columns changes nothing; the branches must agree."""
    a, b = features(0, 20, 10), features(1, 15, 10)
    wide = [np.concatenate([x, np.zeros((len(x), 30))], axis=1) for x in (a, b)]
    assert metrics.frechet_distance(*wide) == pytest.approx(
        metrics.frechet_distance(a, b), rel=1e-9
    )


def test_large_matrices_by_eigenvalues_or_singular_values(monkeypatch):
    """The quick branch for large matrices, and its refusal of matrices whose small values it would
    get wrong.
    """
    monkeypatch.setattr(frechet, "_SMALL", 4)
    good, bad = features(0, 200, 30), features(0, 200, 30) @ np.diag(np.logspace(0, -9, 30))
    for a in (good, bad):
        other = (
            features(1, 100, 30) @ np.diag(np.logspace(0, -9, 30))
            if a is bad
            else features(1, 100, 30)
        )
        matrix = np.linalg.cholesky(np.cov(a, rowvar=False)).T @ np.linalg.cholesky(
            np.cov(other, rowvar=False)
        )
        truth = linalg.svd(matrix, compute_uv=False, lapack_driver="gesvd").sum()
        assert frechet._nuclear_norm(matrix) == pytest.approx(truth, rel=1e-9)
        assert frechet._nuclear_norm(matrix[:20]) == pytest.approx(
            linalg.svdvals(matrix[:20]).sum(), rel=1e-9
        )


def test_moments_are_those_of_numpy_across_chunks(monkeypatch):
    monkeypatch.setattr(frechet, "_CHUNK", 7)
    a, b = features(0, 50, 6, shift=1e3), features(1, 40, 6)
    found = metrics.moments(a)
    assert found.count == 50
    exact = dict(dtype=np.float64, terms=50)
    close(found.mean, a.mean(0), **exact)
    # columns 1e3 from the origin cancel in deviations of about 3
    close(found.covariance, np.cov(a, rowvar=False), 3e3, **exact)
    by_moments = metrics.frechet_distance_of_moments(found, metrics.moments(b))
    assert by_moments == pytest.approx(by_square_root(a, b), rel=1e-6)


def test_the_limit_of_many_samples_is_nearer_the_truth():
    """600 samples of N(0, 1.5^2) beside many of N(0, 1) in 20 dimensions: 20 (1.5 - 1)^2 = 5."""
    rng = np.random.default_rng(0)
    real = rng.normal(size=(20_000, 20))
    trials = [1.5 * rng.normal(size=(600, 20)) for _ in range(3)]
    limit = np.mean([metrics.frechet_distance_infinity(real, x) for x in trials])
    raw = np.mean([metrics.frechet_distance(real, x) for x in trials])
    assert raw - 5.0 > 0.25
    assert abs(limit - 5.0) < 0.4 * (raw - 5.0)


def test_the_limit_is_the_intercept_of_a_line_and_repeats_by_seed():
    real, generated = features(0, 300, 5), features(1, 200, 5)
    first = metrics.frechet_distance_infinity(real, generated, seed=3)
    assert first == metrics.frechet_distance_infinity(real, generated, seed=3)
    assert first != metrics.frechet_distance_infinity(real, generated, seed=4)
    rng, sizes = np.random.default_rng(3), np.linspace(20, 200, 15).astype(int)
    sets = [generated[rng.choice(200, n, replace=False)] if n < 200 else generated for n in sizes]
    distances = [by_square_root(real, s) for s in sets]
    design = np.stack([np.ones(15), 1.0 / sizes], axis=1)
    assert first == pytest.approx(np.linalg.lstsq(design, distances)[0][0], rel=1e-6)
    assert np.isfinite(metrics.frechet_distance_infinity(real, generated[:6]))


GOOD = metrics.moments(np.random.default_rng(0).normal(size=(9, 2)))


@pytest.mark.parametrize(
    ("real", "generated", "message"),
    [
        (np.zeros((5, 2)), np.zeros((5, 3)), "one extractor"),
        (np.zeros((1, 2)), np.zeros((5, 2)), "real has 1 rows.*at least 2"),
        (np.zeros((5, 2)), np.zeros((0, 2)), "generated has 0 rows"),
        (np.zeros((5, 2, 2)), np.zeros((5, 2)), r"\[N, D\]"),
        (np.zeros((5, 0)), np.zeros((5, 0)), "without a single"),
        (np.zeros((5, 2)), np.array([[0.0, 0.0], [np.nan, 0.0]]), "generated.*row 1"),
        (np.zeros((5, 2), np.float32), np.full((5, 2), np.inf, np.float32), "row 0"),
        (np.zeros((5, 2), complex), np.zeros((5, 2)), "real numbers"),
        ([[1.0], [1.0, 2.0]], np.zeros((5, 2)), "differ in length"),
        (np.zeros((5, 2)), 1e200 * np.ones((5, 2)), "overflow"),
    ],
)
def test_bad_features_are_named(real, generated, message):
    for metric in (
        metrics.frechet_distance,
        metrics.frechet_distance_infinity,
        metrics.polynomial_mmd,
    ):
        with pytest.raises(InputError, match=message) as caught:
            metric(real, generated)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (GOOD._replace(covariance=np.eye(3)), "must be"),
        (GOOD._replace(mean=np.array([0.0, np.nan])), "mean: row 1 holds NaN"),
        (GOOD._replace(covariance=np.diag([1.0, -1.0])), "positive semi-definite"),
        (GOOD._replace(covariance=np.array([[1.0, 0.9], [0.0, 1.0]])), "symmetric"),
        (metrics.Moments(9, np.zeros(3), np.eye(3)), "one extractor"),
    ],
)
def test_bad_moments_are_named(bad, message):
    with pytest.raises(InputError, match=message):
        metrics.frechet_distance_of_moments(GOOD, bad)


def test_too_few_for_a_line():
    with pytest.raises(InputError, match="at least 3"):
        metrics.frechet_distance_infinity(np.zeros((5, 2)), np.zeros((2, 2)))
    with pytest.raises(InputError, match="num_points"):
        metrics.frechet_distance_infinity(np.zeros((5, 2)), np.zeros((5, 2)), num_points=1)
