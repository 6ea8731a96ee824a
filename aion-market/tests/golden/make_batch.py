"""Golden values of the batch kernels, by their definitions, in 80 digits or in exact fractions.

Run with mpmath 1.3 and scipy 1.17: `python make_batch.py > batch.json`.
The scores of normal and logistic forecasts are integrals of (F(x) - [x >= y])^2; the divergences of
ordinary rows are scipy's as well, and the script stops where the two disagree.
"""

import json
import random
import sys
from fractions import Fraction

import numpy as np
from mpmath import erfc, exp, inf, log, log1p, mp, mpf, quad, sqrt
from scipy.spatial.distance import jensenshannon
from scipy.special import rel_entr

mp.dps = 80
rng = random.Random(20)


def number(x):
    return "inf" if x == inf else float(x)


def row(k):
    parts = [rng.randrange(1, 1 << 20) / (1 << 26) for _ in range(k - 1)]
    return parts + [1 - sum(parts)]


def kl(p, q):
    total = mpf(0)
    for a, b in zip(map(mpf, p), map(mpf, q)):
        if a > 0 and b == 0:
            return inf
        total += (a * log(a / b) if a > 0 else 0) - a + b
    return total


def js(p, q):
    middle = [(mpf(a) + mpf(b)) / 2 for a, b in zip(p, q)]
    return (kl(p, middle) + kl(q, middle)) / 2


def cross(p, q):
    if any(a > 0 and b == 0 for a, b in zip(p, q)):
        return inf
    return -sum(mpf(a) * log(mpf(b)) for a, b in zip(p, q) if a > 0)


def pairs():
    near = [0.5 + 1e-9, 0.5 - 1e-9]
    fixed = [
        (near, [0.5, 0.5]),
        ([0.5, 0.5], near),
        ([1.0, 0.0], [0.5, 0.5]),
        ([0.5, 0.5], [1.0, 0.0]),
        ([1.0, 5e-324], [0.25, 0.75]),
        ([0.25, 0.75], [1.0, 1e-310]),
        ([0.75, 0.25], [0.75 - 2**-50, 0.25 + 2**-50]),
        ([2**-0.5, 1 - 2**-0.5], [0.5, 0.5]),
        ([1e-200, 1.0], [1e-100, 1.0]),
    ]
    rows = fixed + [(row(k), row(k)) for k in (2, 3, 4, 5, 8, 17) for _ in range(6)]
    out = []
    for p, q in rows:
        out.append({"p": p, "q": q, "kl": number(kl(p, q)), "js": number(js(p, q)), "cross": number(cross(p, q))})
    for (p, q), case in list(zip(rows, out))[len(fixed) :]:
        assert abs(rel_entr(p, q).sum() / case["kl"] - 1) < 1e-9
        assert abs(jensenshannon(np.array(p), np.array(q)) ** 2 / case["js"] - 1) < 1e-9
    return out


def events():
    ps = [0.0, 5e-324, 1e-310, 1e-20, 1e-9, 0.1, 0.25, 0.3, 0.5, 0.7, 0.75, 0.999, 1 - 2**-53, 1.0]
    ps += [rng.random() for _ in range(30)]
    cases = []
    for p in ps:
        for y in (0, 1):
            sure_and_wrong = p == 1 - y
            loss = inf if sure_and_wrong else -log(mpf(p)) if y else -log1p(-mpf(p))
            cases.append({"p": p, "y": y, "log": number(loss), "brier": float((mpf(p) - y) ** 2)})
    return cases


def labelled():
    cases = []
    for k in (2, 3, 4, 5, 8, 9, 33):
        for _ in range(4):
            q, y = row(k), rng.randrange(k)
            exact = [Fraction(x) for x in q]
            brier = sum((x - (i == y)) ** 2 for i, x in enumerate(exact))
            rps = sum((sum(exact[: i + 1]) - (y <= i)) ** 2 for i in range(k - 1))
            spherical = mpf(q[y]) / sqrt(sum(mpf(x) ** 2 for x in q))
            cases.append({"q": q, "y": y, "log": float(-log(mpf(q[y]))), "brier": float(brier), "rps": float(rps),
                          "spherical": float(spherical)})
    return cases


def ensembles():
    cases = []
    for m in (1, 2, 3, 5, 10, 16, 17, 31, 50, 64, 300):
        x = [rng.gauss(0, 2) for _ in range(m)]
        y = rng.gauss(0, 2)
        exact = [Fraction(v) for v in x]
        error = sum(abs(v - Fraction(y)) for v in exact) / m
        spread = sum(abs(a - b) for a in exact for b in exact) / (2 * m * m)
        cases.append({"x": x, "y": y, "crps": float(error - spread)})
    return cases


def by_integral(cdf, mu, sigma, y):
    z = (mpf(y) - mpf(mu)) / mpf(sigma)
    below = quad(lambda x: cdf(x) ** 2, [-inf, min(z, 0) - 10, min(z, 0), z]) if z > 0 else quad(
        lambda x: cdf(x) ** 2, [-inf, z - 10, z])
    above = quad(lambda x: cdf(-x) ** 2, [z, 0, 10, inf]) if z < 0 else quad(
        lambda x: cdf(-x) ** 2, [z, z + 10, inf])
    return float(mpf(sigma) * (below + above))


def locations():
    normal = lambda x: erfc(-x / sqrt(mpf(2))) / 2
    logistic = lambda x: 1 / (1 + exp(-x))
    zs = [0.0, 1e-8, 0.1, -0.5, 1.0, -2.0, 3.0, 5.5, -8.0, 12.0, -40.0]
    cases = []
    for z in zs:
        mu, sigma = rng.choice([0.0, 0.25, -1.5]), rng.choice([0.5, 1.0, 4.0])
        y = mu + sigma * z
        cases.append({"mu": mu, "sigma": sigma, "y": y, "normal": by_integral(normal, mu, sigma, y),
                      "logistic": by_integral(logistic, mu, sigma, y)})
    return cases


def as_text(x):
    """Numbers as text: every reader of text rounds them alike."""
    if isinstance(x, dict):
        return {key: as_text(value) for key, value in x.items()}
    if isinstance(x, list):
        return [as_text(value) for value in x]
    return repr(x) if isinstance(x, float) else x


json.dump(as_text({"events": events(), "labelled": labelled(), "pairs": pairs(), "ensembles": ensembles(),
                   "locations": locations()}), fp=sys.stdout, separators=(",", ":"))
print()
