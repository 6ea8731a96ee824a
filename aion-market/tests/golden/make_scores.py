#!/usr/bin/env python3
"""Writes scores.json, what tests/it/golden_scores.rs holds this crate's scores against.

    python -m venv venv && venv/bin/pip install mpmath numpy scipy scikit-learn scoringrules
    venv/bin/python aion-market/tests/golden/make_scores.py

Numbers are computed with mpmath at 50 digits from their definitions (fits: to a gradient of 1e-30)
and, where a library has the same thing, checked here against scipy, scikit-learn and scoringrules.
Made with mpmath 1.4.1, numpy 2.4.6, scipy 1.17.1, scikit-learn 1.9.1, scoringrules 0.10.0.
"""

import json
import pathlib

import mpmath as mp
import numpy as np
import scoringrules as sr
from scipy.spatial.distance import jensenshannon
from scipy.special import rel_entr
from scipy.stats import binomtest
from sklearn.calibration import calibration_curve
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss

mp.mp.dps = 50
rng = np.random.default_rng(20261122)
ONE = mp.mpf(1)


def num(x):
    """A float for the file; infinities by name."""
    x = float(x)
    return x if np.isfinite(x) else ("inf" if x > 0 else "-inf")


def near(a, b, tolerance=1e-9):
    assert abs(float(a) - float(b)) <= tolerance * (1 + abs(float(b))), (a, b)


def exact(xs):
    return [mp.mpf(float(x)) for x in xs]


def dist(k, zeros=False):
    w = rng.random(k) + 1e-3
    if zeros:
        w[rng.integers(k)] = 0.0
    return w / w.sum()


# ---------------------------------------------------------------- scores of outcomes


def brier(q, y):
    return sum((p - (k == y)) ** 2 for k, p in enumerate(q))


def rps(q, y):
    return sum((sum(q[: k + 1]) - (y <= k)) ** 2 for k in range(len(q) - 1))


def spherical(q, y):
    return q[y] / mp.sqrt(sum(p * p for p in q))


def log(q, y):
    return mp.log(q[y]) if q[y] > 0 else -mp.inf


RULES = {"log": log, "brier": brier, "rps": rps, "spherical": spherical}


def categorical():
    rows = []
    for i in range(16):
        k = 2 + i % 5
        q = dist(k, zeros=i % 4 == 3)
        y = int(rng.integers(k))
        f = dist(k) if i % 4 != 3 else q  # a mixture, with no share where q has none
        row = {"q": list(q), "y": y, "f": list(f)}
        e, fe = exact(q), exact(f)
        for name, rule in RULES.items():
            row[name] = num(rule(e, y))
            row[name + "_mixture"] = num(sum(fe[j] * rule(e, j) for j in range(k) if fe[j] > 0))
        near(row["rps"], sr.rps_score(y + 1, q))
        if k == 2 and row["brier"] > 0:
            near(row["brier"], 2 * sr.brier_score(float(y == 0), q[0]))
            near(row["brier"], 2 * brier_score_loss([int(y == 0)], [q[0]], pos_label=1))
        rows.append(row)
    return rows


# ---------------------------------------------------------------- divergences


def kl(p, q):
    return sum((a * mp.log(a / b) if b > 0 else mp.inf) for a, b in zip(p, q) if a > 0)


def divergences():
    pairs = [(dist(k, z), dist(k, w)) for k, z, w in [(2, 0, 0), (3, 1, 0), (4, 0, 0), (5, 1, 1), (4, 0, 1), (8, 1, 0)]]
    for eps in [1e-3, 1e-6, 1e-9, 1e-12]:
        q = dist(4)
        d = np.array([1, -1, 2, -2]) * eps * q.min()
        pairs.append((q + d, q))
    rows = []
    for p, q in pairs:
        e, g = exact(p), exact(q)
        # The definition for masses that sum to 1 but for rounding: sum p ln(p/q) - p + q.
        slack = sum(g) - sum(e)
        m = [(a + b) / 2 for a, b in zip(e, g)]
        cross = sum((-a * mp.log(b) if b > 0 else mp.inf) for a, b in zip(e, g) if a > 0)
        row = {
            # As text: a reader that is off by one unit in the last place changes small divergences.
            "p": [repr(float(x)) for x in p],
            "q": [repr(float(x)) for x in q],
            "kl": num(kl(e, g) + slack),
            "jensen_shannon": num((kl(e, m) + kl(g, m)) / 2),
            "entropy": num(sum(-a * mp.log(a) for a in e if a > 0)),
            "cross_entropy": num(cross),
        }
        if row["jensen_shannon"] > 1e-10:  # below, scipy takes the root of a negative number
            near(row["jensen_shannon"], jensenshannon(p, q) ** 2, 1e-7)
        if row["kl"] != "inf":
            near(row["kl"], rel_entr(p, q).sum())
        rows.append(row)
    return rows


# ---------------------------------------------------------------- scores of numbers


def crps():
    ensembles = []
    for m in [1, 2, 3, 7, 16, 50]:
        x = rng.normal(10, 3, m).round(6)
        y = float(rng.normal(10, 3))
        e, t = exact(x), mp.mpf(y)
        error = sum(abs(a - t) for a in e) / m
        spread = sum(abs(a - b) for a in e for b in e) / 2
        row = {"members": list(x), "y": y, "standard": num(error - spread / m**2)}
        near(row["standard"], sr.crps_ensemble(y, x, estimator="nrg"))
        if m > 1:
            row["fair"] = num(error - spread / (m * (m - 1)))
            near(row["fair"], sr.crps_ensemble(y, x, estimator="fair"))
        ensembles.append(row)
    closed = []
    for _ in range(12):
        mean, scale, y = float(rng.normal(0, 5)), float(rng.gamma(2, 1)), float(rng.normal(0, 9))
        z = (mp.mpf(y) - mp.mpf(mean)) / mp.mpf(scale)
        normal = mp.mpf(scale) * (z * (2 * mp.ncdf(z) - 1) + 2 * mp.npdf(z) - 1 / mp.sqrt(mp.pi))
        logistic = mp.mpf(scale) * (z - 2 * mp.log(1 / (1 + mp.exp(-z))) - 1)
        near(normal, sr.crps_normal(y, mean, scale))
        near(logistic, sr.crps_logistic(y, mean, scale))
        closed.append({"mean": mean, "scale": scale, "y": y, "normal": num(normal), "logistic": num(logistic)})
    return {"ensembles": ensembles, "closed": closed}


def intervals():
    rows = []
    for _ in range(8):
        lower = float(rng.normal(0, 2))
        upper, y = lower + float(rng.random() * 3), float(rng.normal(0, 3))
        miss, t = float(rng.uniform(0.01, 0.5)), float(rng.uniform(0.01, 0.99))
        row = {"lower": lower, "upper": upper, "y": y, "miss": miss, "t": t}
        row["interval_score"] = num(sr.interval_score(y, lower, upper, miss))
        row["pinball"] = num(sr.quantile_score(y, lower, t))
        rows.append(row)
    wilson = []
    for hits, n in [(0, 5), (5, 5), (1, 10), (8, 10), (37, 120), (999, 1000)]:
        ci = binomtest(hits, n).proportion_ci(method="wilson")
        wilson.append({"hits": hits, "n": n, "lower": float(ci.low), "upper": float(ci.high)})
    return {"scores": rows, "wilson": wilson}


# ---------------------------------------------------------------- Metaculus


def metaculus():
    """Three forecasters over a question of 60 milliseconds that closed at 47, one at a time."""
    histories = [
        [(0, 20, 0.6), (20, None, 0.8)],
        [(5, 30, 0.3), (40, None, 0.5)],
        [(-10, 25, 0.9)],
    ]
    opened, closed, planned = 0, 47, 60

    def standing(history, t):
        return next((p for a, b, p in history if a <= t < (b if b is not None else mp.inf)), None)

    baseline, peer, coverage = [mp.mpf(0)] * 3, [mp.mpf(0)] * 3, [mp.mpf(0)] * 3
    for t in range(opened, closed):
        said = [standing(h, t) for h in histories]
        active = [mp.log(mp.mpf(p)) for p in said if p is not None]
        for i, p in enumerate(said):
            if p is None:
                continue
            baseline[i] += 100 * mp.log(2 * mp.mpf(p)) / mp.log(2) / (planned - opened)
            coverage[i] += ONE / (planned - opened)
            if len(active) > 1:
                n = len(active)
                mean = sum(active) / n
                peer[i] += 100 * mp.mpf(n) / (n - 1) * (mp.log(mp.mpf(p)) - mean) / (planned - opened)
    return {
        "histories": [[{"from": a, "until": b, "p": p} for a, b, p in h] for h in histories],
        "open": opened,
        "closed": closed,
        "planned": planned,
        "baseline": [num(x) for x in baseline],
        "peer": [num(x) for x in peer],
        "coverage": [num(x) for x in coverage],
    }


# ---------------------------------------------------------------- skill


def skill():
    n = 40
    a, b = rng.random(n), rng.random(n)
    clusters = rng.integers(0, 9, n)
    d = a - b
    mean = d.mean()
    sums = np.array([(d[clusters == g] - mean).sum() for g in np.unique(clusters)])
    groups = len(sums)
    return {
        "a": list(a),
        "b": list(b),
        "clusters": [int(c) for c in clusters],
        "mean": num(mean),
        "paired": num(d.std(ddof=1) / np.sqrt(n)),
        "clustered": num(np.sqrt(groups / (groups - 1) * (sums**2).sum()) / n),
    }


# ---------------------------------------------------------------- reliability


def reliability():
    p = rng.beta(1.2, 1.2, 200)
    o = (rng.random(200) < 0.15 + 0.7 * p).astype(float)
    out = {"p": list(p), "o": list(o), "brier": num(((p - o) ** 2).mean()), "sharpness": num(p.var())}
    for name, strategy in [("equal_width", "uniform"), ("equal_mass", "quantile")]:
        true, said = calibration_curve(o, p, n_bins=10, strategy=strategy)
        if strategy == "uniform":
            index = np.minimum((p * 10).astype(int), 9)
        else:
            index = np.argsort(np.argsort(p)) * 10 // len(p)
        members = [index == b for b in np.unique(index)]
        share = np.array([m.mean() for m in members])
        for b, m in enumerate(members):
            near(true[b], o[m].mean())
            near(said[b], p[m].mean())
        gap = np.abs(true - said)
        out[name] = {
            "mean_forecast": list(said),
            "mean_outcome": list(true),
            "ece": num((share * gap).sum()),
            "mce": num(gap.max()),
            "reliability": num((share * gap**2).sum()),
            "resolution": num((share * (true - o.mean()) ** 2).sum()),
            "uncertainty": num(o.var()),
            "variance_within": num(sum(m.mean() * p[m].var() for m in members)),
            "covariance_within": num(
                sum(2 * m.mean() * ((p[m] - p[m].mean()) * (o[m] - o[m].mean())).mean() for m in members)
            ),
        }
    return out


# ---------------------------------------------------------------- calibration


def newton(features, targets, free):
    """The maximum of a logistic likelihood over the free columns, to a gradient of 1e-30."""
    theta = [mp.mpf(0)] * len(features[0])
    columns = [j for j, on in enumerate(free) if on]
    for _ in range(200):
        z = [sum(t * x for t, x in zip(theta, row)) for row in features]
        p = [1 / (1 + mp.exp(-v)) for v in z]
        g = mp.matrix([sum((pi - ti) * row[j] for pi, ti, row in zip(p, targets, features)) for j in columns])
        if mp.norm(g) < mp.mpf("1e-30"):
            break
        h = mp.matrix(len(columns))
        for a, i in enumerate(columns):
            for b, j in enumerate(columns):
                h[a, b] = sum(pi * (1 - pi) * row[i] * row[j] for pi, row in zip(p, features))
        step = mp.lu_solve(h, g)
        for a, j in enumerate(columns):
            theta[j] -= step[a]
    else:
        raise RuntimeError("no convergence")
    loss = sum(mp.log(1 + mp.exp(v)) - t * v for v, t in zip(z, targets))
    return theta, loss


def smoothed(o):
    high, low = (o.sum() + 1) / (o.sum() + 2), 1 / (len(o) - o.sum() + 2)
    return [mp.mpf(float(low)) + (mp.mpf(float(high)) - mp.mpf(float(low))) * mp.mpf(v) for v in o]


def beta_fit(p, targets):
    rows = [[mp.log(v), -mp.log(1 - v), ONE] for v in exact(p)]
    best = None
    for free in [(1, 1, 1), (1, 0, 1), (0, 1, 1), (0, 0, 1)]:
        theta, loss = newton(rows, targets, free)
        if min(theta[:2]) >= 0 and (best is None or loss < best[1]):
            best = (theta, loss)
    return [num(t) for t in best[0]]


def calibration():
    n = 60
    p = rng.uniform(0.02, 0.98, n).round(3)
    o = (rng.random(n) < 0.2 + 0.5 * p).astype(float)
    # Falls with p below a half and rises above: the constrained optimum has a = 0.
    bowl = (rng.random(n) < np.abs(2 * p - 1)).astype(float)
    logits = [[mp.log(v / (1 - v)), ONE] for v in exact(p)]
    platt_raw, _ = newton(logits, exact(o), (1, 1))
    platt_smooth, _ = newton(logits, smoothed(o), (1, 1))
    temperature, _ = newton([[r[0]] for r in logits], smoothed(o), (1,))
    ours = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(np.log(p / (1 - p))[:, None], o)
    near(platt_raw[0], ours.coef_[0, 0], 1e-5)
    near(platt_raw[1], ours.intercept_[0], 1e-5)
    weights = rng.uniform(0.5, 3, n)
    coarse = p.round(1)  # with ties
    iso = IsotonicRegression(out_of_bounds="clip").fit(coarse, o, weights)
    asked = np.linspace(0, 1, 23)
    return {
        "p": list(p),
        "o": list(o),
        "bowl": list(bowl),
        "platt_raw": [num(t) for t in platt_raw],
        "platt_smoothed": [num(t) for t in platt_smooth],
        "temperature_smoothed": num(temperature[0]),
        "beta_raw": beta_fit(p, exact(o)),
        "beta_smoothed": beta_fit(p, smoothed(o)),
        "beta_bowl_raw": beta_fit(p, exact(bowl)),
        "weights": list(weights),
        "coarse": list(coarse),
        "asked": list(asked),
        "isotonic": list(iso.predict(asked)),
    }


# ---------------------------------------------------------------- comparison


def comparison():
    n, lo, hi, alpha = 80, -1.0, 1.0, mp.mpf("0.05")
    d = exact(np.clip(rng.normal(0.15, 0.3, n), lo, hi).round(6))
    c = mp.mpf(hi) - mp.mpf(lo)
    total, spread = mp.mpf(0), mp.mpf(0)
    for i, x in enumerate(d):
        spread += (x - total / (i + 1)) ** 2
        total += x
    stakes = [mp.mpf("0.95") * mp.mpf(2) ** (mp.mpf(-j) / 2) for j in range(24)]

    def capital(excess):
        return sum(mp.exp(s * excess / c - (-mp.log(1 - s) - s) * spread / c**2) for s in stakes) / 24

    reach = mp.findroot(lambda e: mp.log(capital(e)) - mp.log(2 / alpha), (5, 40), solver="anderson")

    # Hedged capital at a difference of 0, and the interval over the same grid.
    x = [(v - mp.mpf(lo)) / c for v in d]
    stake, s1, s2 = [], mp.mpf("0.5"), mp.mpf("0.25")
    for i, v in enumerate(x):
        t = i + 1
        stake.append(mp.sqrt(2 * mp.log(2 / alpha) / (s2 * mp.log(1 + t))))
        s1 += v
        s2 += (v - s1 / (t + 1)) ** 2

    def capitals(m, side):
        path, k = [], ONE
        for l, v in zip(stake, x):
            v, mm = (v, m) if side else (1 - v, 1 - m)
            k *= 1 + (min(l, 1 / (2 * mm)) if mm > 0 else l) * (v - mm)
            path.append(k)
        return path

    grid = [mp.mpf(i) / 1024 for i in range(1025)]
    low = max([i for i, m in enumerate(grid) if max(capitals(m, True)) >= 2 / alpha], default=0)
    high = min([i for i, m in enumerate(grid) if max(capitals(m, False)) >= 2 / alpha], default=1024)
    return {
        "differences": [float(v) for v in d],
        "drifting": {
            "lower": num((total - reach) / n),
            "upper": num((total + reach) / n),
            "e_a": num(capital(total)),
            "e_b": num(capital(-total)),
        },
        "constant": {
            "lower": num(mp.mpf(lo) + c * grid[low]),
            "upper": num(mp.mpf(lo) + c * grid[high]),
            "e_a": num(capitals(mp.mpf("0.5"), True)[-1]),
            "e_b": num(capitals(mp.mpf("0.5"), False)[-1]),
        },
    }


def rounded(x):
    """Lists on one line; floats keep every digit."""
    return json.dumps(x, separators=(", ", ": "))


golden = {
    "categorical": categorical(),
    "divergences": divergences(),
    "crps": crps(),
    "intervals": intervals(),
    "metaculus": metaculus(),
    "skill": skill(),
    "reliability": reliability(),
    "calibration": calibration(),
    "comparison": comparison(),
}
path = pathlib.Path(__file__).with_name("scores.json")
body = ",\n".join(f'  "{name}": {rounded(part)}' for name, part in golden.items())
path.write_text("{\n" + body + "\n}\n")
print(path, path.stat().st_size, "bytes")
