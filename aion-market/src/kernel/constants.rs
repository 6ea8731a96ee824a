//! Constants of the elementary functions, made by `tests/golden/coefficients.py`.
#![allow(
    clippy::excessive_precision,
    clippy::unreadable_literal,
    clippy::approx_constant,
    reason = "made by a program"
)]

/// The first 41 bits of ln 2: a multiple by an exponent is exact.
pub(super) const LN2_HIGH: f64 = 0.693147180559663;

/// ln 2 less [`LN2_HIGH`].
pub(super) const LN2_LOW: f64 = 2.8235290563031577e-13;

/// The first 15 bits of ln 2.
pub(super) const LN2_HIGH_32: f32 = 6.9314575e-01;

/// ln 2 less [`LN2_HIGH_32`].
pub(super) const LN2_LOW_32: f32 = 1.4286068e-06;

/// A reciprocal for each 16th of a mantissa in `[0.75, 1.5)`, by its leading four bits.
#[cfg(target_arch = "x86_64")]
pub(super) const INVERSE: [f64; 16] = [
    1.0,
    0.914335999416117,
    0.864826087679594,
    0.8204784937112923,
    0.7804515066351513,
    0.7441871885205725,
    0.711098002775496,
    0.6807909412142357,
    1.3060415114373352,
    1.2549278614445758,
    1.207459362155948,
    1.1636908741726155,
    1.1228550693614037,
    1.084641145898271,
    1.0492587665117679,
    1.0,
];

/// `-ln` of [`INVERSE`], each within `2^-65` of a double.
#[cfg(target_arch = "x86_64")]
pub(super) const LN_OF_INVERSE: [f64; 16] = [
    0.0,
    0.0895571608407186,
    0.14522684697013621,
    0.1978675799944234,
    0.2478826721097835,
    0.295462678320494,
    0.34094502073745286,
    0.38450000790104755,
    -0.2670008155231712,
    -0.22707809001099905,
    -0.18851845144902868,
    -0.15159674202210002,
    -0.11587461075939275,
    -0.08124919117793553,
    -0.048083978223362904,
    0.0,
];

/// `(ln(1 + r) - r) / r^2` on `[-1/32, 1/16]`.
#[cfg(target_arch = "x86_64")]
pub(super) const LN_NEAR: [f64; 9] = [
    -0.49999999999999994,
    0.33333333333340287,
    -0.2500000000009317,
    0.1999999995328674,
    -0.16666665870721806,
    0.1428579138027727,
    -0.12501839998216407,
    0.11081912861679763,
    -0.088437987998088,
];

/// `(2 atanh(s) - 2 s) / s^3` in `s^2`, for arguments of a logarithm in `[2/3, 3/2]`.
pub(super) const ATANH: [f64; 8] = [
    0.6666666666666666,
    0.40000000000007807,
    0.28571428567336676,
    0.2222222303822691,
    0.18181738421712204,
    0.15388835999460426,
    0.1321033443219967,
    0.13604216246696962,
];

/// [`ATANH`] in single precision.
pub(super) const ATANH_32: [f32; 3] = [6.6666716e-01, 3.9979014e-01, 2.9955748e-01];

/// `(ln(1 + f) - f + f^2/2) / f^3` on `[sqrt 1/2 - 1, 1/2]`.
pub(super) const LN_32: [f32; 9] = [
    3.333333e-01,
    -2.5000075e-01,
    2.0000957e-01,
    -1.66612e-01,
    1.4236115e-01,
    -1.2566231e-01,
    1.19499706e-01,
    -1.0618316e-01,
    5.217741e-02,
];

/// `(e^r - 1 - r) / r^2` on `[-ln 2 / 2, ln 2 / 2]`.
pub(super) const EXP: [f64; 10] = [
    0.5000000000000001,
    0.16666666666666669,
    0.041666666666624164,
    0.008333333333330065,
    0.0013888888917196719,
    0.00019841269863040545,
    2.4801521322368692e-05,
    2.7557268480310024e-06,
    2.7620075879983367e-07,
    2.5100375832561234e-08,
];

/// [`EXP`] in single precision.
pub(super) const EXP_32: [f32; 5] = [5.0e-01, 1.6666578e-01, 4.1666556e-02, 8.363173e-03, 1.3926176e-03];

/// Beyond this distance from the mean the tail of a normal forecast adds nothing.
pub(super) const NORMAL_TAIL_FAR: f64 = 9.0;

/// The `k` of the argument `w = (u - k) / (u + k)`.
pub(super) const NORMAL_TAIL_BEND: f64 = 3.0;

/// `(2 phi(u) - u erfc(u / sqrt 2)) e^(u^2 / 2)` in `w`.
pub(super) const NORMAL_TAIL: [f64; 22] = [
    0.06880087066949235,
    -0.21975170821588344,
    0.2793142619428898,
    -0.1827546948316485,
    0.057725892165978974,
    0.003490245783581861,
    -0.0080002134898833,
    1.823635130484121e-05,
    0.0013024038025358632,
    0.00010218093186931986,
    -0.00023320547835516508,
    -6.556576969324027e-05,
    3.3925758236186516e-05,
    2.419467673258755e-05,
    -9.597143032831294e-08,
    -5.833895587252087e-06,
    -2.2740191427779095e-06,
    4.4536708766664287e-07,
    7.478324772611404e-07,
    3.0272237978606383e-07,
    5.342282393336134e-08,
    2.7126137767017378e-09,
];

/// Beyond this distance from the mean the tail of a normal forecast adds nothing.
pub(super) const NORMAL_TAIL_32_FAR: f32 = 6.0e+00;

/// The `k` of the argument `w = (u - k) / (u + k)`.
pub(super) const NORMAL_TAIL_32_BEND: f32 = 3.0e+00;

/// `(2 phi(u) - u erfc(u / sqrt 2)) e^(u^2 / 2)` in `w`.
pub(super) const NORMAL_TAIL_32: [f32; 11] = [
    6.8800874e-02,
    -2.1975172e-01,
    2.793142e-01,
    -1.8275419e-01,
    5.772843e-02,
    3.4853597e-03,
    -8.035392e-03,
    -5.427197e-06,
    1.4307472e-03,
    4.0136697e-04,
    2.1102842e-05,
];

/// `1 / sqrt pi`.
pub(super) const INV_SQRT_PI: f64 = 0.5641895835477563;
