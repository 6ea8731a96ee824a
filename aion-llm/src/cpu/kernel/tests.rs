//! Every body that this processor has, against sums in f64.

use std::ops::Range;

use super::lanes::{Lanes, float_to_half, half_to_float};
use super::vector::exp;
use super::*;

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    /// Between -1 and 1.
    fn unit(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }

    fn units(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| self.unit()).collect()
    }
}

const FORMATS: [Format; 7] = [
    Format::Q4Zero,
    Format::Q4Min,
    Format::Q8,
    Format::Q6,
    Format::F16,
    Format::BF16,
    Format::F32,
];

/// Rows of random weights of moderate size, as they lie in a file.
fn random_rows(random: &mut Random, format: Format, rows: usize, columns: usize) -> Vec<u8> {
    let half = |random: &mut Random| float_to_half(random.unit() / 16.0).to_le_bytes();
    let mut out = Vec::new();
    while out.len() < rows * format.row_bytes(columns) {
        let noise = |random: &mut Random, n: usize| (0..n).map(|_| random.next() as u8).collect::<Vec<_>>();
        match format {
            Format::Q4Zero => out.extend(half(random).into_iter().chain(noise(random, 16))),
            Format::Q4Min => {
                out.extend(half(random));
                out.extend(half(random).into_iter().chain(noise(random, 16)));
            }
            Format::Q8 => out.extend(half(random).into_iter().chain(noise(random, 32))),
            Format::Q6 => {
                out.extend(noise(random, 208));
                out.extend(half(random));
            }
            Format::F16 => out.extend(half(random)),
            Format::BF16 => out.extend(&random.unit().to_bits().to_le_bytes()[2..]),
            Format::F32 => out.extend(random.unit().to_le_bytes()),
        }
    }
    out
}

struct Matrix {
    format: Format,
    rows: usize,
    columns: usize,
    tiles: Vec<u8>,
}

impl Matrix {
    fn random(random: &mut Random, format: Format, rows: usize, columns: usize) -> Self {
        let source = random_rows(random, format, rows, columns);
        let bytes = format.tile_bytes(columns);
        let mut tiles = vec![0; rows.div_ceil(TILE) * bytes];
        let sixteen = source.chunks(TILE * format.row_bytes(columns));
        for (rows, tile) in sixteen.zip(tiles.chunks_exact_mut(bytes)) {
            pack_tile(format, rows, columns, tile);
        }
        Self {
            format,
            rows,
            columns,
            tiles,
        }
    }

    fn row(&self, row: usize) -> Vec<f32> {
        let bytes = self.format.tile_bytes(self.columns);
        let mut out = vec![0.0; self.columns];
        unpack_row(
            self.format,
            &self.tiles[row / TILE * bytes..][..bytes],
            row % TILE,
            &mut out,
        );
        out
    }

    #[allow(unsafe_code, reason = "one thread writes to rows that live long enough")]
    fn multiply(&self, body: Body, floats: &[f32], blocks: &[XBlock]) -> Vec<Vec<f32>> {
        let n = floats.len() / self.columns;
        let mut out = vec![vec![f32::NAN; self.rows]; n];
        let rows: Vec<*mut f32> = out.iter_mut().map(Vec::as_mut_ptr).collect();
        let work = Multiply {
            format: self.format,
            weights: &self.tiles,
            tiles: 0..self.rows.div_ceil(TILE),
            outputs: self.rows,
            x: Activations {
                floats,
                blocks,
                rows: n,
                width: self.columns,
            },
            // SAFETY: every row has room for all outputs, and there is one thread.
            out: unsafe { Place::new(&rows, 0) },
        };
        dispatch(body, work);
        out
    }
}

fn quantised(body: Body, x: &[f32]) -> Vec<XBlock> {
    let mut out = vec![XBlock::default(); x.len() / BLOCK];
    dispatch(body, Quantise { x, out: &mut out });
    out
}

fn byte_of(block: &XBlock, i: usize) -> i8 {
    block.quads[i / 4].to_le_bytes()[i % 4].cast_signed()
}

/// What the product is, from what was really multiplied, and the size of its terms.
fn exact(weights: &[f32], floats: &[f32], blocks: &[XBlock], format: Format) -> (f64, f64) {
    let terms = weights.iter().enumerate().map(|(i, w)| {
        let x = if format.takes_bytes() {
            f64::from(blocks[i / BLOCK].d) * f64::from(byte_of(&blocks[i / BLOCK], i % BLOCK))
        } else {
            f64::from(floats[i])
        };
        f64::from(*w) * x
    });
    terms.fold((0.0, 0.0), |(sum, size), term| (sum + term, size + term.abs()))
}

/// Every format on random shapes is the sum in f64 of the same weights and activations, up to rounding of floats, and
/// a row alone gives the bits that it gives among others.
#[test]
fn products_are_those_of_f64_alone_and_together() {
    let mut random = Random(1);
    for round in 0..6 {
        for format in FORMATS {
            let columns = match format {
                Format::Q6 => 256 * (1 + random.below(3)),
                _ if format.takes_bytes() => 32 * (1 + random.below(9)),
                _ => 1 + random.below(70),
            };
            let (rows, n) = (
                1 + random.below(50),
                if round == 0 { 1 } else { 1 + random.below(21) },
            );
            let matrix = Matrix::random(&mut random, format, rows, columns);
            let floats = random.units(n * columns);
            for body in Body::here() {
                let blocks = quantised(body, &floats[..floats.len() / BLOCK * BLOCK]);
                let blocks = if format.takes_bytes() { blocks } else { Vec::new() };
                let out = matrix.multiply(body, &floats, &blocks);
                for (i, out) in out.iter().enumerate() {
                    let x = &floats[i * columns..(i + 1) * columns];
                    let x_blocks = if format.takes_bytes() {
                        &blocks[i * columns / 32..(i + 1) * columns / 32]
                    } else {
                        &[]
                    };
                    for (row, y) in out.iter().enumerate() {
                        let (sum, size) = exact(&matrix.row(row), x, x_blocks, format);
                        let error = (f64::from(*y) - sum).abs();
                        // Q4_1 adds its two halves after rounding each.
                        assert!(
                            error <= 4e-6 * size + 1e-6,
                            "{body:?} {format:?} {rows}x{columns}: {y} for {sum}"
                        );
                    }
                    assert_eq!(
                        out,
                        &matrix.multiply(body, x, x_blocks)[0],
                        "{body:?} {format:?}: alone or not"
                    );
                }
            }
        }
    }
}

/// Eight bits keep each activation to half a step, and all bodies agree on the bytes.
#[test]
fn bytes_are_the_nearest_ones() {
    let mut random = Random(2);
    let x = random.units(640);
    let first = quantised(Body::Portable, &x);
    for body in Body::here() {
        for ((x, block), same) in x
            .as_chunks::<BLOCK>()
            .0
            .iter()
            .zip(quantised(body, &x))
            .zip(&first)
        {
            let bytes: Vec<i8> = (0..BLOCK).map(|i| byte_of(&block, i)).collect();
            for (x, byte) in x.iter().zip(&bytes) {
                assert!((x - block.d * f32::from(*byte)).abs() <= 0.5001 * block.d);
            }
            let sum = |bytes: &[i8]| bytes.iter().map(|byte| i32::from(*byte)).sum::<i32>();
            assert_eq!(block.sums, [sum(&bytes[..16]), sum(&bytes[16..])]);
            assert_eq!(block.quads, same.quads, "{body:?}");
            assert_eq!(block.d_sum, block.d * sum(&bytes) as f32);
        }
    }
}

#[test]
fn what_is_not_finite_is_not_lost_in_bytes() {
    for body in Body::here() {
        for (i, broken) in [(3, f32::NAN), (20, f32::INFINITY), (31, f32::NEG_INFINITY)] {
            let mut x = [0.5; BLOCK];
            x[i] = broken;
            assert!(!quantised(body, &x)[0].d.is_finite(), "{body:?} {broken}");
        }
        assert_eq!(quantised(body, &[0.0; BLOCK])[0].d, 0.0);
    }
}

struct Exp<'a>(&'a mut [f32; 16]);

impl body::Work for Exp<'_> {
    type Out = ();

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        l.store(exp(l, l.load(self.0)), self.0);
    }
}

#[test]
fn exp_is_that_of_f64() {
    let mut random = Random(3);
    for body in Body::here() {
        for _ in 0..2000 {
            let x: [f32; 16] = std::array::from_fn(|_| 87.0 * random.unit());
            let mut y = x;
            dispatch(body, Exp(&mut y));
            for (x, y) in x.iter().zip(y) {
                let exact = f64::from(*x).exp();
                assert!(
                    (f64::from(y) / exact - 1.0).abs() < 4e-7,
                    "{body:?}: exp {x} is {y}, not {exact}"
                );
            }
        }
    }
}

#[test]
fn exp_keeps_what_is_not_a_number_and_bounds_the_rest() {
    for body in Body::here() {
        for (x, low, high) in [
            (f32::INFINITY, 1e38, f32::INFINITY),
            (f32::NEG_INFINITY, 0.0, 2e-38),
            (-1e30, 0.0, 2e-38),
        ] {
            let mut y = [x; 16];
            dispatch(body, Exp(&mut y));
            assert!(
                y.iter().all(|y| (low..=high).contains(y)),
                "{body:?}: exp {x} is {y:?}"
            );
        }
        let mut y = [0.5; 16];
        y[7] = f32::NAN;
        dispatch(body, Exp(&mut y));
        assert!(
            y[7].is_nan() && y.iter().filter(|y| y.is_nan()).count() == 1,
            "{body:?} {y:?}"
        );
    }
}

#[test]
fn halves_survive_and_round_to_even() {
    for half in 0..=u16::MAX {
        let x = half_to_float(half);
        if x.is_nan() {
            assert!(half_to_float(float_to_half(x)).is_nan());
        } else {
            assert_eq!(float_to_half(x), half, "{x}");
        }
    }
    let mut random = Random(4);
    for body in Body::here() {
        for _ in 0..500 {
            let x: [f32; 16] =
                std::array::from_fn(|_| random.unit() * 10f32.powi(random.below(12) as i32 - 8));
            let mut bytes = [0; 32];
            dispatch(
                body,
                StoreValues {
                    row: &x,
                    out: &mut bytes,
                },
            );
            for (x, half) in x.iter().zip(bytes.as_chunks::<2>().0) {
                assert_eq!(u16::from_le_bytes(*half), float_to_half(*x), "{body:?} {x}");
            }
        }
    }
}

#[test]
fn rows_are_normalised_gated_and_squared() {
    let mut random = Random(5);
    for body in Body::here() {
        for n in [1, 15, 16, 48, 131] {
            let (x, w) = (random.units(n), random.units(n));
            let mut out = vec![0.0; n];
            dispatch(
                body,
                Norm {
                    x: &x,
                    weight: &w,
                    eps: 1e-5,
                    out: &mut out,
                },
            );
            let mean = x.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>() / n as f64;
            for i in 0..n {
                let exact = f64::from(x[i]) / (mean + 1e-5).sqrt() * f64::from(w[i]);
                assert!((f64::from(out[i]) - exact).abs() < 1e-5, "{body:?} norm of {n}");
            }
            let gate: Vec<f32> = x.iter().map(|x| 20.0 * x).collect();
            dispatch(
                body,
                Gate {
                    gate: &gate,
                    up: &w,
                    out: &mut out,
                },
            );
            for i in 0..n {
                let g = f64::from(gate[i]);
                let exact = g / (1.0 + (-g).exp()) * f64::from(w[i]);
                assert!((f64::from(out[i]) - exact).abs() < 1e-5, "{body:?} gate of {n}");
            }
            dispatch(body, Square { x: &x, out: &mut out });
            assert!(
                x.iter().zip(&out).all(|(x, y)| *y == x.max(0.0) * x.max(0.0)),
                "{body:?}"
            );
        }
    }
}

/// A cache of one layer and one head, filled by the kernels.
struct OneHead {
    dim: usize,
    padded: usize,
    pages: Vec<Vec<u8>>,
    keys: Vec<Vec<f32>>,
    values: Vec<Vec<f32>>,
}

impl OneHead {
    fn random(random: &mut Random, body: Body, dim: usize, positions: usize) -> Self {
        let rows = (0..positions).map(|_| (random.units(dim), random.units(dim)));
        Self::of(body, dim, rows.collect())
    }

    /// Of these keys and values.
    fn of(body: Body, dim: usize, rows: Vec<(Vec<f32>, Vec<f32>)>) -> Self {
        let positions = rows.len();
        let padded = dim.next_multiple_of(16);
        let mut pages = vec![vec![0u8; 2 * 64 * (dim + padded)]; positions.div_ceil(64)];
        let (mut keys, mut values) = (Vec::new(), Vec::new());
        for (position, (key, value)) in rows.into_iter().enumerate() {
            let page = &mut pages[position / 64];
            let at = position % 64;
            let mut put = |i: usize, half: u16| {
                let start = 2 * (at / 16 * 16 * dim + i * 16 + at % 16);
                page[start..start + 2].copy_from_slice(&half.to_le_bytes());
            };
            dispatch(
                body,
                StoreKeys {
                    row: &key,
                    put: &mut put,
                },
            );
            let start = 2 * (64 * dim + at * padded);
            dispatch(
                body,
                StoreValues {
                    row: &value,
                    out: &mut page[start..start + 2 * padded],
                },
            );
            let rounded = |row: Vec<f32>| row.into_iter().map(|x| half_to_float(float_to_half(x))).collect();
            keys.push(rounded(key));
            values.push(rounded(value));
        }
        Self {
            dim,
            padded,
            pages,
            keys,
            values,
        }
    }

    /// Over the positions from `first` on, with a cap of the scores or none.
    fn attend(&self, body: Body, queries: &[f32], seen: Range<usize>, cap: Option<f32>) -> Vec<f32> {
        let Range { start: first, end } = seen;
        let group = queries.len() / self.dim;
        let pages: Vec<&[u8]> = self.pages.iter().map(Vec::as_slice).collect();
        let mut all: Vec<f32> = Vec::new();
        for start in (first / SEGMENT * SEGMENT..end).step_by(SEGMENT) {
            let mut out = vec![0.0; group * partial_len(self.padded)];
            let work = Attend {
                pages: &pages[start / 64..],
                keys: 0,
                values: 2 * 64 * self.dim,
                queries,
                head_dim: self.dim,
                padded_dim: self.padded,
                scale: 0.3,
                cap,
                first: first.saturating_sub(start),
                positions: end.min(start + SEGMENT) - start,
                out: &mut out,
            };
            dispatch(body, work);
            if all.is_empty() {
                all = out;
            } else {
                let n = partial_len(self.padded);
                all.chunks_exact_mut(n)
                    .zip(out.chunks_exact(n))
                    .for_each(|(into, from)| merge(into, from));
            }
        }
        all
    }

    fn exact(&self, query: &[f32], seen: Range<usize>, cap: Option<f32>) -> Vec<f64> {
        let score = |key: &Vec<f32>| {
            let products = key.iter().zip(query).map(|(k, q)| f64::from(*k) * f64::from(*q));
            let score = products.sum::<f64>() * f64::from(0.3f32);
            cap.map_or(score, |cap| f64::from(cap) * (score / f64::from(cap)).tanh())
        };
        let weights: Vec<f64> = self.keys[seen.clone()]
            .iter()
            .map(|key| score(key).exp())
            .collect();
        let total: f64 = weights.iter().sum();
        let mixed = |i: usize| {
            weights
                .iter()
                .zip(&self.values[seen.clone()])
                .map(|(w, v)| w * f64::from(v[i]))
                .sum::<f64>()
                / total
        };
        (0..self.dim).map(mixed).collect()
    }
}

/// Attention over any number of positions, segments and heads of a group is the softmax in f64 over the same halves.
#[test]
fn attention_is_that_of_f64() {
    let mut random = Random(6);
    for body in Body::here() {
        for (dim, group, positions) in [
            (8, 3, 5),
            (64, 3, 300),
            (64, 5, 64),
            (16, 1, 513),
            (80, 4, 257),
            (6, 2, 17),
        ] {
            let head = OneHead::random(&mut random, body, dim, positions);
            let queries: Vec<f32> = random.units(group * dim).iter().map(|q| 4.0 * q).collect();
            for (end, window, cap) in [
                (1, positions, None),
                (positions / 2 + 1, positions, None),
                (positions, positions, None),
                (positions, positions, Some(2.5)),
                (positions, 1, None),
                (positions, positions / 3 + 1, Some(0.5)),
                (positions / 2 + 1, 16, None),
            ] {
                let seen = end.saturating_sub(window)..end;
                let out = head.attend(body, &queries, seen.clone(), cap);
                for (query, out) in queries
                    .chunks_exact(dim)
                    .zip(out.chunks_exact(partial_len(head.padded)))
                {
                    for (exact, y) in head.exact(query, seen.clone(), cap).iter().zip(&out[2..]) {
                        let y = f64::from(*y) / f64::from(out[1]);
                        assert!(
                            (y - exact).abs() < 2e-5,
                            "{body:?} {dim} {group} {seen:?} {cap:?}: {y} for {exact}"
                        );
                    }
                }
            }
        }
    }
}

/// A key or a value that no half can hold, whichever way the query looks, never becomes a finite mixture.
#[test]
fn what_halves_cannot_hold_is_not_lost_in_attention() {
    let mut random = Random(7);
    for body in Body::here() {
        for (dim, positions, broken) in [
            (8, 5, 2),
            (64, 300, 17),
            (64, 300, 290),
            (16, 1, 0),
            (80, 257, 256),
        ] {
            for large in [
                70_000.0,
                -70_000.0,
                1e30,
                f32::INFINITY,
                f32::NEG_INFINITY,
                f32::NAN,
            ] {
                for in_key in [true, false] {
                    let mut rows: Vec<_> = (0..positions)
                        .map(|_| (random.units(dim), random.units(dim)))
                        .collect();
                    let (key, value) = &mut rows[broken];
                    let row = if in_key { key } else { value };
                    row[random.below(dim)] = large;
                    let head = OneHead::of(body, dim, rows);
                    let queries = random.units(3 * dim);
                    let cap = (positions > 5).then_some(9.0);
                    let out = head.attend(body, &queries, 0..positions, cap);
                    for out in out.chunks_exact(partial_len(head.padded)) {
                        let mixed = out[2..].iter().map(|y| y / out[1]);
                        assert!(
                            mixed.take(dim).any(|y| !y.is_finite()),
                            "{body:?} {dim} {positions}: {large} in {}",
                            if in_key { "a key" } else { "a value" }
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn caps_are_those_of_f64_and_lose_no_damage() {
    let mut random = Random(8);
    for body in Body::here() {
        for (n, cap, size) in [
            (1, 30.0, 100.0),
            (16, 5.0, 1.0),
            (37, 50.0, 400.0),
            (64, 1.0, 0.5),
            (64, 1e4, 10.0),
            (64, 1e4, 4e3),
            (32, 1e-3, 1.0),
        ] {
            let x: Vec<f32> = random.units(n).iter().map(|x| size * x).collect();
            let mut y = x.clone();
            dispatch(body, Cap { x: &mut y, cap });
            for (x, y) in x.iter().zip(y) {
                let exact = f64::from(cap) * (f64::from(*x) / f64::from(cap)).tanh();
                // Digits are kept however small the score is beside the cap.
                assert!(
                    (f64::from(y) - exact).abs() < 1.5e-6 * exact.abs() + 1e-30,
                    "{body:?}: {y} for {exact}"
                );
            }
        }
        for broken in [f32::NAN, f32::INFINITY] {
            let mut x = [1.0, broken, 2.0];
            dispatch(body, Cap { x: &mut x, cap: 30.0 });
            assert!(x[1].is_nan() && x[2].is_finite(), "{body:?} {x:?}");
        }
    }
}
