"""Computes the constants of `src/kernel/constants.rs` from their definitions, and prints that file.

Run with mpmath 1.3 or newer: `python coefficients.py > ../../src/kernel/constants.rs`, then `cargo fmt`.
Polynomials are Chebyshev interpolants in 60 digits, turned into powers and rounded once.
"""

import random

from mpmath import mp, mpf, cos, erfc, exp, log, matrix, lu_solve, pi, sqrt

mp.dps = 60


def fit(f, low, high, terms):
    """Powers of the interpolant of `f` at the Chebyshev points of [low, high]."""
    low, high = mpf(low), mpf(high)
    nodes = [(low + high) / 2 + (high - low) / 2 * cos(pi * (2 * i + 1) / (2 * terms)) for i in range(terms)]
    rows = matrix([[x**k for k in range(terms)] for x in nodes])
    return list(lu_solve(rows, matrix([f(x) for x in nodes])))


def rust(x, kind):
    if kind == "f64":
        return repr(float(x))
    import struct

    single = struct.unpack("f", struct.pack("f", float(x)))[0]
    for digits in range(1, 12):
        text = f"{single:.{digits}e}"
        if struct.unpack("f", struct.pack("f", float(text)))[0] == single:
            break
    return text


def array(name, doc, values, kind, only=None):
    print(f"\n/// {doc}")
    if only:
        print(f'#[cfg(target_arch = "{only}")]')
    print(f"pub(super) const {name}: [{kind}; {len(values)}] = [")
    for value in values:
        print(f"    {rust(value, kind)},")
    print("];")


def scalar(name, doc, value, kind="f64"):
    print(f"\n/// {doc}\npub(super) const {name}: {kind} = {rust(value, kind)};")


def split(x, bits, kind="f64"):
    """`x` as a part of so many bits, rounded down, and the rest."""
    unit = mpf(2) ** (mp.floor(log(x, 2)) + 1 - bits)
    high = mp.floor(x / unit) * unit
    return high, x - high


def series(f, taylor):
    """`f` away from 0, its first terms near it."""
    return lambda x: taylor(x) if abs(x) < mpf(10) ** -25 else f(x)


def table():
    """For each 16th of the mantissa a reciprocal c whose logarithm is nearly a double."""
    rng = random.Random(7)
    inverse, logs = [], []
    for j in range(16):
        scale = mpf(1) if j < 8 else mpf(1) / 2
        low, high = scale * (1 + mpf(j) / 16), scale * (1 + mpf(j + 1) / 16)
        if j in (0, 15):
            inverse.append(mpf(1))
            logs.append(mpf(0))
            continue
        best = None
        for _ in range(4000):
            c = mpf(float(2 / (low + high) * (1 + mpf(rng.uniform(-1e-4, 1e-4)))))
            exact = -log(c)
            off = abs(exact - mpf(float(exact)))
            if best is None or off < best[0]:
                best = (off, c, exact)
        inverse.append(best[1])
        logs.append(best[2])
    return inverse, logs


def atanh_rest(z):
    """(2 atanh(s) - 2 s) / (s z) with z = s^2."""
    s = sqrt(z)
    return (log((1 + s) / (1 - s)) - 2 * s) / (s * z)


def normal_tail(u):
    """(2 phi(u) - u erfc(u / sqrt 2)) exp(u^2 / 2): what the score of a normal forecast adds to u - 1/sqrt(pi)."""
    return 2 / sqrt(2 * pi) - u * erfc(u / sqrt(mpf(2))) * exp(u * u / 2)


def tail_of(k):
    return lambda w: normal_tail(k * (1 + w) / (1 - w))


ln2 = log(mpf(2))
print("//! Constants of the elementary functions, made by `tests/golden/coefficients.py`.")
print("#![allow(")
print("    clippy::excessive_precision,")
print("    clippy::unreadable_literal,")
print("    clippy::approx_constant,")
print('    reason = "made by a program"')
print(")]")
high, low = split(ln2, 41)
scalar("LN2_HIGH", "The first 41 bits of ln 2: a multiple by an exponent is exact.", high)
scalar("LN2_LOW", "ln 2 less [`LN2_HIGH`].", low)
high, low = split(ln2, 15, "f32")
scalar("LN2_HIGH_32", "The first 15 bits of ln 2.", high, "f32")
scalar("LN2_LOW_32", "ln 2 less [`LN2_HIGH_32`].", low, "f32")
inverse, logs = table()
array("INVERSE", "A reciprocal for each 16th of a mantissa in `[0.75, 1.5)`, by its leading four bits.", inverse, "f64", "x86_64")
array("LN_OF_INVERSE", "`-ln` of [`INVERSE`], each within `2^-65` of a double.", logs, "f64", "x86_64")
array(
    "LN_NEAR",
    "`(ln(1 + r) - r) / r^2` on `[-1/32, 1/16]`.",
    fit(series(lambda r: (log(1 + r) - r) / r**2, lambda r: -mpf(1) / 2 + r / 3), -mpf(1) / 32, mpf(1) / 16, 9),
    "f64",
    "x86_64",
)
# Mantissas lie in [sqrt 1/2, sqrt 2) or in [3/4, 3/2), by the instructions.
bound = mpf(1) / 5
array(
    "ATANH",
    "`(2 atanh(s) - 2 s) / s^3` in `s^2`, for arguments of a logarithm in `[2/3, 3/2]`.",
    fit(series(atanh_rest, lambda z: mpf(2) / 3 + 2 * z / 5), 0, bound**2 * mpf("1.0001"), 8),
    "f64",
)
array(
    "ATANH_32",
    "[`ATANH`] in single precision.",
    fit(series(atanh_rest, lambda z: mpf(2) / 3 + 2 * z / 5), 0, bound**2 * mpf("1.0001"), 3),
    "f32",
)
array(
    "LN_32",
    "`(ln(1 + f) - f + f^2/2) / f^3` on `[sqrt 1/2 - 1, 1/2]`.",
    fit(
        series(lambda f: (log(1 + f) - f + f * f / 2) / f**3, lambda f: mpf(1) / 3 - f / 4),
        1 / sqrt(mpf(2)) - 1,
        mpf(1) / 2,
        9,
    ),
    "f32",
)
array(
    "EXP",
    "`(e^r - 1 - r) / r^2` on `[-ln 2 / 2, ln 2 / 2]`.",
    fit(series(lambda r: (exp(r) - 1 - r) / r**2, lambda r: mpf(1) / 2 + r / 6), -ln2 / 2, ln2 / 2, 10),
    "f64",
)
array(
    "EXP_32",
    "[`EXP`] in single precision.",
    fit(series(lambda r: (exp(r) - 1 - r) / r**2, lambda r: mpf(1) / 2 + r / 6), -ln2 / 2, ln2 / 2, 5),
    "f32",
)
for name, kind, far, terms, k in [("NORMAL_TAIL", "f64", 9, 22, mpf(3)), ("NORMAL_TAIL_32", "f32", 6, 11, mpf(3))]:
    scalar(f"{name}_FAR", "Beyond this distance from the mean the tail of a normal forecast adds nothing.", mpf(far), kind)
    scalar(f"{name}_BEND", "The `k` of the argument `w = (u - k) / (u + k)`.", k, kind)
    array(
        name,
        "`(2 phi(u) - u erfc(u / sqrt 2)) e^(u^2 / 2)` in `w`.",
        fit(tail_of(k), -1, (far - k) / (far + k), terms),
        kind,
    )
scalar("INV_SQRT_PI", "`1 / sqrt pi`.", 1 / sqrt(pi))
