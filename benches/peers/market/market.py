"""numpy, scipy, scoringrules and scikit-learn as a driver of `cargo xtask peers market`.

One JSON object a line: greets, then answers {"load": dir} after reading the arrays, and
{"work", "peer", "threads", "reps", "out"} with {"label", "cpu_s", "wall_s"}: the smallest times of `reps` passes over
the arrays. With two threads each takes half of the rows. Where `out` is given, the results go there as 64-bit floats.
Natural logarithms throughout; a log score is ln of the probability that the outcome had, a KL is in nats.
"""

import importlib.metadata
import json
import sys
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import scoringrules
from scipy.special import rel_entr
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

BLOCK = 8192  # rows that stay in the second-level cache


class Arrays:
    """The arrays of a run, as the generator wrote them."""

    def __init__(self, dir: str) -> None:
        def read(name: str, dtype: str, *shape: int) -> np.ndarray:
            return np.fromfile(Path(dir) / name, dtype=dtype).reshape(-1, *shape)

        self.p, self.y = read("p.f64", "<f8"), read("y.u8", "u1")
        self.p4, self.q4, self.label4 = read("p4.f64", "<f8", 4), read("q4.f64", "<f8", 4), read("label4.u8", "u1")
        self.members, self.observed = read("members.f64", "<f8", 16), read("observed.f64", "<f8")
        self.x, self.t = read("x.f64", "<f8", 16), read("t.u8", "u1")
        # What a caller of these packages has at hand: no conversion is in a measured time.
        self.y_float = self.y.astype(np.float64)
        self.rank4 = (self.label4 + 1).astype(np.float64)
        self.onehot4 = np.eye(4)[self.label4]
        self.out = {len(rows): np.empty(len(rows)) for rows in (self.p, self.p4, self.observed)}
        self.wide = np.empty_like(self.p4)


# Each work: (arrays, the rows to do, where the results go) -> a value instead of rows, or None.


def log_score_numpy(a: Arrays, rows: slice, out: np.ndarray):
    out[rows] = np.log(np.where(a.y[rows] == 1, a.p[rows], 1 - a.p[rows]))


def log_score_numpy_in_place(a: Arrays, rows: slice, out: np.ndarray):
    """The fastest form found: no temporary, |p + y - 1| instead of a choice."""
    o = out[rows]
    np.add(a.p[rows], a.y[rows], out=o)
    np.subtract(o, 1, out=o)
    np.abs(o, out=o)
    np.log(o, out=o)


def log_score_scoringrules(a: Arrays, rows: slice, out: np.ndarray):
    np.negative(scoringrules.log_score(a.y_float[rows], a.p[rows]), out=out[rows])


def log_score_sklearn(a: Arrays, rows: slice, out: np.ndarray):
    return -log_loss(a.y[rows], a.p[rows], labels=[0, 1])


def kl_numpy(a: Arrays, rows: slice, out: np.ndarray):
    out[rows] = np.einsum("ij,ij->i", a.p4[rows], np.log(a.p4[rows] / a.q4[rows]))


def kl_numpy_blocked(a: Arrays, rows: slice, out: np.ndarray):
    """The fastest form found: no temporary leaves the cache."""
    for start in range(rows.start, rows.stop, BLOCK):
        block = slice(start, min(start + BLOCK, rows.stop))
        p, ratio = a.p4[block], np.empty((block.stop - block.start, 4))
        np.divide(p, a.q4[block], out=ratio)
        np.log(ratio, out=ratio)
        np.einsum("ij,ij->i", p, ratio, out=out[block])


def kl_scipy(a: Arrays, rows: slice, out: np.ndarray):
    rel_entr(a.p4[rows], a.q4[rows], out=a.wide[rows])
    np.add.reduce(a.wide[rows], 1, out=out[rows])


def brier_numpy(a: Arrays, rows: slice, out: np.ndarray):
    """With the one-hot labels at hand already."""
    out[rows] = ((a.p4[rows] - a.onehot4[rows]) ** 2).sum(1)


def brier_numpy_blocked(a: Arrays, rows: slice, out: np.ndarray):
    for start in range(rows.start, rows.stop, BLOCK):
        block = slice(start, min(start + BLOCK, rows.stop))
        off = a.p4[block] - a.onehot4[block]
        np.einsum("ij,ij->i", off, off, out=out[block])


def rps_scoringrules(a: Arrays, rows: slice, out: np.ndarray):
    out[rows] = scoringrules.rps_score(a.rank4[rows], a.p4[rows], backend="numba")


def crps_scoringrules(a: Arrays, rows: slice, out: np.ndarray):
    out[rows] = scoringrules.crps_ensemble(a.observed[rows], a.members[rows], estimator="nrg", backend="numba")


def logistic_sklearn(a: Arrays, rows: slice, out: np.ndarray):
    """As people call it: L2 of 1, lbfgs with its own tolerance."""
    return fit(a, solver="lbfgs")


def logistic_sklearn_exact(a: Arrays, rows: slice, out: np.ndarray):
    """To the end: what the coefficients are compared with."""
    return fit(a, solver="newton-cholesky", tol=1e-12, max_iter=1000)


def fit(a: Arrays, **options) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # 1e-12 is below what the line search can see
        fitted = LogisticRegression(C=1.0, **options).fit(a.x, a.t)
    return np.append(fitted.coef_[0], fitted.intercept_)


WORKS = {
    ("log_score", "numpy"): log_score_numpy,
    ("log_score", "numpy in place"): log_score_numpy_in_place,
    ("checked_log_score", "scoringrules"): log_score_scoringrules,
    ("mean_log_score", "scikit-learn"): log_score_sklearn,
    ("kl", "numpy"): kl_numpy,
    ("kl", "numpy in blocks"): kl_numpy_blocked,
    ("kl", "scipy"): kl_scipy,
    ("checked_kl", "numpy"): kl_numpy,
    ("brier", "numpy"): brier_numpy,
    ("brier", "numpy in blocks"): brier_numpy_blocked,
    ("rps", "scoringrules"): rps_scoringrules,
    ("checked_rps", "scoringrules"): rps_scoringrules,
    ("checked_crps", "scoringrules"): crps_scoringrules,
    ("crps", "scoringrules"): crps_scoringrules,
    ("logistic", "scikit-learn"): logistic_sklearn,
    ("logistic", "scikit-learn exact"): logistic_sklearn_exact,
}
ROWS = {"log_score": "p", "kl": "p4", "brier": "p4", "rps": "p4", "crps": "observed"}


def halves(count: int, threads: int) -> list[slice]:
    at = [count * i // threads for i in range(threads + 1)]
    return [slice(a, b) for a, b in zip(at, at[1:])]


def measure(a: Arrays, request: dict, pool: ThreadPoolExecutor) -> dict:
    """A fit is one piece of work: its threads are those of the linear algebra, which the environment sets."""
    work = WORKS[request["work"], request["peer"]]
    whole = request["work"] == "logistic"
    rows = request["work"].removeprefix("checked_").removeprefix("mean_")
    count = len(a.t) if whole else len(getattr(a, ROWS[rows]))
    parts = halves(count, 1 if whole else request["threads"])
    out = a.out.get(count)
    cpu, wall = [], []
    for _ in range(request["reps"]):
        cpu_start, wall_start = time.process_time(), time.perf_counter()
        if len(parts) == 1:
            values = [work(a, parts[0], out)]
        else:
            values = list(pool.map(lambda rows: work(a, rows, out), parts))
        wall.append(time.perf_counter() - wall_start)
        cpu.append(time.process_time() - cpu_start)
    if request.get("out"):
        value = out if values[0] is None else np.mean(values, axis=0)
        np.asarray(value, dtype="<f8").tofile(request["out"])
    return {"label": label(request["peer"]), "cpu_s": min(cpu), "wall_s": min(wall)}


def label(peer: str) -> str:
    package, _, form = peer.partition(" ")
    version = importlib.metadata.version(package)
    return f"{package} {version} {form}".strip()


def say(document: dict) -> None:
    print(json.dumps(document), flush=True)


def main() -> None:
    arrays = None
    pool = ThreadPoolExecutor(2)
    say({"name": "Python", "version": sys.version.split()[0]})
    for line in sys.stdin:
        request = json.loads(line)
        try:
            if "load" in request:
                arrays = Arrays(request["load"])
                say({})
            else:
                say(measure(arrays, request, pool))
        except Exception as error:  # the answer of a driver, not a crash
            say({"error": repr(error)})


main()
