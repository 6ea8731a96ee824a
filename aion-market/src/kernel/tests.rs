//! Every kernel on short batches of every layout, each in memory of exactly its size: what a
//! sanitizer and Miri run (`.ci/kernels`).

use super::check::{self, first_bad_block};
use super::crps::{Ensemble, Ensemble16, Logistic, Normal, of_large};
use super::drive::{RowKernel, map_into, sum};
use super::pairs::{CrossEntropy, JensenShannon, Kl};
use super::rows::{BinaryBrier, BinaryLog, Brier, Log, Rps, Spherical};
use super::strided::Strided;
use super::{Float, Real, SimdLevel};

fn levels() -> impl Iterator<Item = SimdLevel> {
    SimdLevel::ALL.into_iter().filter(|level| level.is_available())
}

/// Numbers of rows: around every length of a vector; few where every step is interpreted.
fn lengths() -> Vec<usize> {
    if cfg!(miri) {
        vec![0, 1, 5, 17]
    } else {
        (0..19).chain(31..34).chain(62..67).chain([130]).collect()
    }
}

/// A matrix in five layouts, each in a buffer that ends with its last element.
struct Layouts<T> {
    shape: [usize; 2],
    /// A buffer, where the first element lies, and the steps.
    all: Vec<(Box<[T]>, usize, [isize; 2])>,
}

impl<T: Float + Default> Layouts<T> {
    fn of(rows: usize, cols: usize, value: impl Fn(usize, usize) -> f64) -> Self {
        let (n, k) = (rows as isize, cols as isize);
        let back = (rows * cols).saturating_sub(1);
        let steps = [
            (0, [k, 1]),
            (0, [1, n]),
            (0, [3 * k, 1]),
            (0, [2 * k + 1, 2]),
            (back, [-k, -1]),
        ];
        let all = steps.map(|(start, steps)| {
            let at = |r: usize, c: usize| start as isize + r as isize * steps[0] + c as isize * steps[1];
            let cells = (0..rows).flat_map(|r| (0..cols).map(move |c| (r, c)));
            let size = cells.clone().map(|(r, c)| at(r, c) + 1).max().unwrap_or(0);
            let mut buffer = vec![T::default(); size as usize];
            for (r, c) in cells {
                buffer[at(r, c) as usize] = T::from_f64(value(r, c));
            }
            (buffer.into_boxed_slice(), start, steps)
        });
        Self {
            shape: [rows, cols],
            all: all.into(),
        }
    }

    fn views(&self) -> impl Iterator<Item = Strided<'_, T>> {
        self.all.iter().map(|(buffer, start, steps)| {
            let start = if buffer.is_empty() { 0 } else { *start };
            // SAFETY: the buffer was made as long as these offsets ask.
            unsafe { Strided::from_raw(buffer.as_ptr().add(start), self.shape, *steps) }
        })
    }
}

/// The numbers of a kernel, from one thread and from three, and their sum.
fn run<K: RowKernel>(kernel: &K, level: SimdLevel) -> Vec<f64>
where
    K::Scalar: Default,
{
    let mut out = vec![K::Scalar::default(); kernel.rows()].into_boxed_slice();
    map_into(kernel, level, 1, &mut out);
    let numbers: Vec<f64> = out.iter().map(|x| x.to_f64()).collect();
    map_into(kernel, level, 3, &mut out);
    assert!(out.iter().zip(&numbers).all(|(a, b)| a.to_f64() == *b));
    let (sum, expected) = (sum(kernel, level, 3), numbers.iter().sum::<f64>());
    assert!(
        sum == expected || (sum - expected).abs() <= 1e-5 * expected.abs(),
        "{sum} is not {expected}"
    );
    numbers
}

/// Whether all layouts give the same numbers, and all levels nearly the same.
struct Agreement {
    tolerance: f64,
    first: Vec<Vec<f64>>,
}

impl Agreement {
    fn check(&mut self, level: SimdLevel, what: &str, numbers: Vec<Vec<f64>>) {
        if self.first.is_empty() {
            self.first = numbers;
            return;
        }
        for (got, expected) in numbers.iter().flatten().zip(self.first.iter().flatten()) {
            let close =
                got == expected || (got - expected).abs() <= self.tolerance * expected.abs().max(1e-3);
            assert!(close, "{what} at {level}: {got} is not {expected}");
        }
    }
}

fn weight(row: usize, col: usize) -> f64 {
    ((row * 31 + col * 17) % 13) as f64
}

fn dist(cols: usize) -> impl Fn(usize, usize) -> f64 {
    move |row, col| {
        let total: f64 = (0..cols).map(|col| weight(row, col)).sum();
        if total == 0.0 {
            1.0 / cols as f64
        } else {
            weight(row, col) / total
        }
    }
}

fn distributions<T: Real>(tolerance: f64) {
    for (rows, cols) in lengths()
        .into_iter()
        .flat_map(|rows| [2, 3, 4, 5, 9].map(|cols| (rows, cols)))
    {
        let p = Layouts::<T>::of(rows, cols, dist(cols));
        let q = Layouts::<T>::of(rows, cols, |row, col| dist(cols)(row + 1, col));
        let labels: Box<[u8]> = (0..rows).map(|row| (row * 7 % cols) as u8).collect();
        let wide: Box<[u32]> = labels.iter().map(|label| u32::from(*label)).collect();
        let (y, scale) = (Strided::of_slice(&labels), T::ONE);
        let mut agreement = Agreement {
            tolerance,
            first: Vec::new(),
        };
        for (level, (p, q)) in
            levels().flat_map(|level| p.views().zip(q.views()).map(move |pair| (level, pair)))
        {
            let numbers = vec![
                run(&Log { p, y, scale }, level),
                run(
                    &Log {
                        p,
                        y: Strided::of_slice(&wide),
                        scale,
                    },
                    level,
                ),
                run(&Brier { p, y }, level),
                run(&Rps { p, y }, level),
                run(&Spherical { p, y }, level),
                run(&Kl { p, q, scale }, level),
                run(&JensenShannon { p, q, scale }, level),
                run(&CrossEntropy { p, q, scale }, level),
            ];
            agreement.check(level, &format!("{rows} rows of {cols}"), numbers);
            assert_eq!(first_bad_block(&check::Labelled { p, y }, level, 2), None);
            assert_eq!(first_bad_block(&check::DistPairs { p, q }, level, 2), None);
        }
    }
}

#[test]
fn distributions_of_doubles() {
    distributions::<f64>(1e-12);
}

#[test]
fn distributions_of_singles() {
    distributions::<f32>(1e-5);
}

fn numbers<T: Real>(tolerance: f64) {
    for rows in lengths() {
        let column = |value: fn(usize) -> f64| Layouts::<T>::of(rows, 1, move |row, _| value(row));
        let p = column(|row| (row % 11) as f64 / 10.0);
        let mu = column(|row| (row % 7) as f64 - 3.0);
        let sigma = column(|row| 0.25 + (row % 5) as f64);
        let labels: Box<[u8]> = (0..rows).map(|row| (row % 2) as u8).collect();
        let y = Strided::of_slice(&labels);
        let mut agreement = Agreement {
            tolerance,
            first: Vec::new(),
        };
        let views = || p.views().zip(mu.views()).zip(sigma.views());
        for (level, ((p, mu), sigma)) in levels().flat_map(|level| views().map(move |views| (level, views))) {
            let numbers = vec![
                run(&BinaryLog { p, y, scale: T::ONE }, level),
                run(&BinaryBrier { p, y }, level),
                run(&Normal { mu, sigma, y: p }, level),
                run(&Logistic { mu, sigma, y: p }, level),
            ];
            agreement.check(level, &format!("{rows} rows"), numbers);
            assert_eq!(first_bad_block(&check::Events { p, y }, level, 2), None);
            assert_eq!(
                first_bad_block(&check::Locations { mu, sigma, y: p }, level, 2),
                None
            );
        }
    }
}

#[test]
fn numbers_in_doubles() {
    numbers::<f64>(1e-12);
}

#[test]
fn numbers_in_singles() {
    numbers::<f32>(1e-5);
}

fn ensembles<T: Real>(tolerance: f64) {
    for (rows, cols) in lengths()
        .into_iter()
        .flat_map(|rows| [1, 2, 16, 19].map(|cols| (rows, cols)))
    {
        let x = Layouts::<T>::of(rows, cols, |row, col| weight(row, col * col) - 6.0);
        let y = Layouts::<T>::of(rows, 1, |row, _| (row % 5) as f64 - 2.5);
        let mut agreement = Agreement {
            tolerance,
            first: Vec::new(),
        };
        for (level, (x, y)) in
            levels().flat_map(|level| x.views().zip(y.views()).map(move |pair| (level, pair)))
        {
            let mut scratch = Vec::new();
            let large = (0..rows).map(|row| of_large(&x, y.at(row, 0), row, &mut scratch).to_f64());
            let numbers = vec![large.collect(), run(&Ensemble::<T, 32> { x, y }, level)];
            agreement.check(level, &format!("{rows} ensembles of {cols}"), numbers);
            assert_eq!(first_bad_block(&check::Members { x, y }, level, 2), None);
            if cols == 16 {
                let registers = run(&Ensemble16 { x, y }, level);
                agreement.check(
                    level,
                    "sixteen members",
                    vec![agreement.first[0].clone(), registers],
                );
            }
        }
    }
}

#[test]
fn ensembles_of_doubles() {
    ensembles::<f64>(1e-12);
}

#[test]
fn ensembles_of_singles() {
    ensembles::<f32>(1e-5);
}

/// A bad row is found in every place, and nothing beyond the last one is read for it.
#[test]
fn a_bad_row_is_found_anywhere() {
    for rows in lengths().into_iter().filter(|rows| *rows > 0) {
        let labels = vec![0_u8; rows].into_boxed_slice();
        for bad in [0, rows / 2, rows - 1] {
            let p: Box<[f64]> = (0..2 * rows)
                .map(|i| if i == 2 * bad { f64::NAN } else { 0.5 })
                .collect();
            let rule = check::Labelled {
                p: Strided::row_major(&p, rows, 2),
                y: Strided::of_slice(&labels),
            };
            for level in levels() {
                let block = first_bad_block(&rule, level, 2).unwrap();
                assert!(
                    block <= bad && bad < block + 16,
                    "{level}: row {bad} of {rows} is not from {block}"
                );
            }
        }
    }
}
