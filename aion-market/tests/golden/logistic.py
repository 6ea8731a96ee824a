"""Coefficients of scikit-learn for small problems: python logistic.py > logistic.json

Needs scikit-learn (1.9.1 when the file was made). The data are drawn from a seed.
"""

import json

import numpy as np
from sklearn.linear_model import LogisticRegression


def problem(rng, n, d, rate):
    x = np.round(rng.normal(size=(n, d)) * rng.uniform(0.2, 3.0, size=d), 3)
    beta = rng.normal(size=d)
    p = 1 / (1 + np.exp(-(x @ beta + rate)))
    return x, (rng.uniform(size=n) < p).astype(int)


def case(rng, n, d, ridge, rate=0.0, balanced=False, weighted=False):
    x, y = problem(rng, n, d, rate)
    weight = np.round(rng.uniform(0.1, 2.0, size=n), 2) if weighted else None
    model = LogisticRegression(
        C=1 / ridge if ridge else np.inf,
        class_weight="balanced" if balanced else None,
        solver="newton-cholesky",
        tol=1e-14,
        max_iter=1000,
    )
    model.fit(x, y, sample_weight=weight)
    return {
        "columns": d,
        "ridge": ridge,
        "balanced": balanced,
        "x": x.ravel().tolist(),
        "y": y.tolist(),
        "weight": [] if weight is None else weight.tolist(),
        "coefficients": model.coef_[0].tolist() + model.intercept_.tolist(),
    }


def main():
    rng = np.random.default_rng(20)
    cases = [
        case(rng, 60, 3, 1.0),
        case(rng, 60, 3, 10.0, rate=1.5),
        case(rng, 80, 2, 0.0, rate=-0.5),
        case(rng, 60, 5, 0.1, balanced=True, rate=2.0),
        case(rng, 50, 1, 0.5, weighted=True),
        case(rng, 40, 8, 3.0, balanced=True, weighted=True, rate=-1.0),
    ]
    print(json.dumps({"cases": cases}))


main()
