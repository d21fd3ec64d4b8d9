"""The fit of loss to parameters and tokens finds a law that is known, and says how sure it is."""

import numpy as np
import pytest
from scipy.optimize import approx_fprime

from pipelines.planning.ladder import Rung
from pipelines.planning.scaling_law import Fit, Law, _objective, fit

TRUE = Law(np.log(400.0), np.log(2000.0), np.log(1.7), 0.34, 0.37)
SIZES = (6e5, 1.4e6, 2.6e6, 5.9e6)
LENGTHS = (1e5, 4e5, 1.6e6)


def ladder(noise: float, seed: int = 0) -> list[Rung]:
    generator = np.random.default_rng(seed)
    return [
        Rung("", "", int(n), int(d), 1e-3, TRUE.loss(n, d) * float(np.exp(generator.normal(0, noise))), 6 * n * d)
        for n in SIZES
        for d in LENGTHS
    ]


@pytest.fixture(scope="module")
def noisy() -> Fit:
    return fit(ladder(noise=0.004))


def test_a_law_without_noise_is_found() -> None:
    found = fit(ladder(noise=0.0)).law
    assert (found.alpha, found.beta) == pytest.approx((TRUE.alpha, TRUE.beta), rel=0.02)
    assert np.exp(found.log_e) == pytest.approx(1.7, rel=0.02)
    assert found.loss(1e8, 1e9) == pytest.approx(TRUE.loss(1e8, 1e9), rel=0.01)


def test_the_gradient_is_that_of_the_loss() -> None:
    runs = np.log([(rung.parameters, rung.tokens, rung.loss) for rung in ladder(noise=0.02)])
    point = np.array([5.0, 6.0, 0.4, 0.3, 0.4])
    numeric = approx_fprime(point, lambda at: _objective(at, runs)[0], 1e-7)
    assert _objective(point, runs)[1] == pytest.approx(numeric, rel=1e-3, abs=1e-3)


def test_the_interval_holds_a_larger_run_that_was_not_fitted(noisy: Fit) -> None:
    expected = noisy.interval(1.6e7, 3e6)
    assert expected.low < TRUE.loss(1.6e7, 3e6) < expected.high
    assert expected.high / expected.low < 1.2
    nearer = noisy.interval(2.6e6, 4e5)
    assert nearer.high - nearer.low < expected.high - expected.low


def test_the_optimum_is_where_no_other_split_of_the_budget_is_better(noisy: Fit) -> None:
    parameters, tokens = TRUE.optimum(1e15)
    assert 6 * parameters * tokens == pytest.approx(1e15)
    best = TRUE.loss(parameters, tokens)
    assert all(TRUE.loss(parameters * by, tokens / by) > best for by in (0.5, 0.9, 1.1, 2.0))
    own, _ = noisy.optimum(1e15)
    assert own.low < parameters < own.high


def test_the_same_ladder_gives_the_same_fit(noisy: Fit) -> None:
    assert fit(ladder(noise=0.004)) == noisy
