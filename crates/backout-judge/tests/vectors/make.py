"""Writes vectors.json: what published packages say, for the tests to agree with.

    python3 -m venv venv && . venv/bin/activate
    pip install 'cmake<4' 'pybind11<3' ninja scikit-build 'setuptools<81' wheel
    pip install --no-build-isolation confseq==0.0.11      # needs libboost-dev and a C++ compiler
    pip install savvi==0.3.1
    python make.py > vectors.json

Nothing here is run by the tests; they read the numbers.
"""

import json
from importlib.metadata import version

import numpy as np

np.float_ = np.float64  # confseq 0.0.11 names a type that NumPy 2 no longer has

from confseq import betting, boundaries, predmix, quantiles
from savvi.multinomial import Multinomial

rng = np.random.default_rng(20261121)


def multinomial(share, k, batches):
    """Lindon and Malek 2022: odds after each batch of (canary, baseline) events."""
    test = Multinomial(0.01, np.array([share, 1 - share]), k=k)
    odds = []
    for batch in batches:
        test.update(np.array(batch))
        odds.append(float(test.odds))
    return {"share": share, "k": k, "batches": batches, "odds": odds}


def beta_binomial(p, n, below, t_opt, alpha_opt, one_sided):
    """Howard, Ramdas, McAuliffe, Sekhon 2021: log mixture of a Bernoulli sum."""
    s, v = below - n * p, n * p * (1 - p)
    value = boundaries.beta_binomial_log_mixture(
        s, v, t_opt * p * (1 - p), p, 1 - p, alpha_opt, one_sided)
    return {"p": p, "n": n, "below": below, "t_opt": t_opt, "alpha_opt": alpha_opt,
            "one_sided": one_sided, "log": float(value)}


def band(t, alpha, t_min):
    """Howard and Ramdas 2022, theorem 2."""
    value = quantiles.empirical_process_lil_bound(t, alpha, t_min, 0.85)
    return {"t": t, "alpha": alpha, "t_min": t_min, "half_width": float(value)}


def quantile_test(p, n, m, shift, t_opt, alpha_opt):
    """Howard and Ramdas 2022, the A/B test; values in whole microseconds."""
    arms = [(scale * np.exp(0.4 * rng.standard_normal(size)) * 1e5).astype(int)
            for scale, size in ((shift, n), (1.0, m))]
    value = quantiles.quantile_ab_p_value(
        arms[0].astype(float), arms[1].astype(float), p, t_opt, alpha_opt)
    return {"p": p, "t_opt": t_opt, "alpha_opt": alpha_opt,
            "arms": [sorted(map(int, arm)) for arm in arms], "p_value": float(value)}


def bets(stake, outcomes):
    """Waudby-Smith and Ramdas 2024: capital after each bet of a fixed part on a coin."""
    x = np.array(outcomes, dtype=float)
    capital = betting.betting_mart(
        x, 0.5, lambdas_fn_positive=lambda x, m: np.repeat(2 * stake, len(x)),
        lambdas_fn_negative=lambda x, m: np.repeat(0.0, len(x)), theta=1,
        trunc_scale=1.0)
    return {"stake": stake, "outcomes": outcomes, "capital": [float(c) for c in capital]}


def bounded_bets(part, m, values):
    """The same on values between 0 and 1 against a mean of m: the part of the largest bet, which is 1/m."""
    x = np.array(values)
    capital = betting.betting_mart(
        x, m, lambdas_fn_positive=lambda x, m: np.repeat(part / m, len(x)),
        lambdas_fn_negative=lambda x, m: np.repeat(0.0, len(x)), theta=1, trunc_scale=1.0)
    return {"part": part, "m": m, "values": values, "capital": [float(c) for c in capital]}


def bounded_mean(alpha, values):
    """Waudby-Smith and Ramdas 2024, theorem 2: the empirical-Bernstein lower confidence sequence."""
    lower = predmix.predmix_empbern_lower_cs(np.array(values), alpha=alpha)
    return {"alpha": alpha, "values": values, "lower": [float(l) for l in lower]}


def normal_mixture(s, v, v_opt, alpha):
    """Howard, Ramdas, McAuliffe, Sekhon 2021: one-sided log mixture and two-sided boundary."""
    return {"s": s, "v": v, "v_opt": v_opt, "alpha": alpha,
            "log": float(boundaries.normal_log_mixture(s, v, v_opt, alpha, True)),
            "bound": float(boundaries.normal_mixture_bound(v, alpha, v_opt, alpha, False))}


def batches(share, risk, count):
    theta = risk * share / (risk * share + 1 - share)
    sizes = rng.integers(1, 6, count)
    canary = [int(rng.binomial(size, theta)) for size in sizes]
    return [[c, int(size) - c] for c, size in zip(canary, sizes)]


out = {
    "made_with": {name: version(name) for name in ("confseq", "savvi", "numpy")},
    "multinomial": [
        multinomial(share, k, batches(share, risk, 12))
        for share, k in ((0.1, 10), (0.1, 20), (0.25, 4), (0.25, 8), (0.5, 2), (0.5, 8))
        for risk in (1, 6)
    ],
    "beta_binomial": [
        beta_binomial(p, n, below, t_opt, alpha_opt, one_sided)
        for one_sided in (False, True)
        for p, n, below in ((0.001, 3000, 3), (0.001, 2000, 30), (0.01, 500, 21), (0.5, 60, 44),
                            (0.9, 400, 300), (0.5, 10, 5))
        for t_opt, alpha_opt in ((100, 0.05), (1000, 0.01))
    ],
    "band": [
        band(t, alpha, t_min)
        for alpha in (0.05, 0.01, 0.001)
        for t, t_min in ((32, 32), (100, 1), (1000, 32), (50000, 32))
    ],
    "quantile_test": [
        quantile_test(p, n, m, shift, 1000, 0.01)
        for p, n, m, shift in ((0.5, 60, 300, 1.0), (0.5, 80, 400, 2.0), (0.9, 120, 500, 1.5),
                               (0.5, 400, 150, 0.7), (0.9, 100, 100, 0.5), (0.99, 150, 400, 3.0))
    ],
    "bets": [
        bets(stake, [int(x) for x in rng.binomial(1, chance, 30)])
        for stake in (0.2, 0.5, 0.8) for chance in (0.5, 0.8)
    ],
    # Drawn last, so that what stands above stays as it was.
    "bounded_bets": [
        bounded_bets(part, m, [round(float(x), 6) for x in rng.beta(a, b, 30)])
        for part in (0.1, 0.6, 0.9) for m, a, b in ((0.5, 2, 2), (0.55, 0.3, 0.2))
    ],
    "bounded_mean": [
        bounded_mean(0.05, [round(float(x), 6) for x in rng.beta(a, b, count)])
        for a, b, count in ((2, 2, 60), (8, 1, 200), (0.2, 0.2, 80), (50, 50, 300), (1, 30, 40), (9, 9, 5))
    ],
    "normal_mixture": [
        normal_mixture(s, v, v_opt, alpha)
        for s, v in ((0.0, 1.0), (12.0, 20.0), (-5.0, 9.0), (60.0, 150.0))
        for v_opt, alpha in ((30.0, 0.05), (250.0, 0.01))
    ],
}
print(json.dumps(out, separators=(",", ":")).replace("},{", "},\n{"))
