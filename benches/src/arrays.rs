//! The arrays that the suite `market` of `cargo xtask peers` works on: made from a seed, written as plain
//! little-endian numbers, read by every side.

use std::io::Write;
use std::path::Path;

/// Features of an example of the logistic regression.
pub const FEATURES: usize = 16;
/// Outcomes of a wide row.
pub const OUTCOMES: usize = 4;
/// Members of an ensemble.
pub const MEMBERS: usize = 16;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// How many rows to make of each sort.
#[derive(Debug, Clone, Copy)]
pub struct Sizes {
    /// Pairs of a probability and an outcome.
    pub pairs: usize,
    /// Rows with four outcomes.
    pub fours: usize,
    /// Ensembles.
    pub ensembles: usize,
    /// Examples of the logistic regression.
    pub examples: usize,
}

/// All arrays of a run.
#[derive(Debug)]
pub struct Arrays {
    /// `[pairs]`, in (0.01, 0.99).
    pub p: Vec<f64>,
    /// `[pairs]`, 0 or 1.
    pub y: Vec<u8>,
    /// `[fours, 4]`, each row a distribution.
    pub p4: Vec<f64>,
    /// `[fours, 4]`, each row a distribution.
    pub q4: Vec<f64>,
    /// `[fours]`, below 4.
    pub label4: Vec<u8>,
    /// `[ensembles, 16]`.
    pub members: Vec<f64>,
    /// `[ensembles]`.
    pub observed: Vec<f64>,
    /// `[examples, 16]`.
    pub x: Vec<f64>,
    /// `[examples]`, 0 or 1.
    pub t: Vec<u8>,
}

impl Arrays {
    /// Makes them; the same for the same seed.
    pub fn make(seed: u64, sizes: &Sizes) -> Self {
        let mut dice = Dice(seed);
        let p: Vec<f64> = (0..sizes.pairs).map(|_| 0.01 + 0.98 * dice.unit()).collect();
        let y = p.iter().map(|p| u8::from(dice.unit() < *p)).collect();
        let p4 = dice.distributions(sizes.fours);
        let q4 = dice.distributions(sizes.fours);
        let label4 = (0..sizes.fours).map(|_| (dice.next() >> 62) as u8).collect();
        let members = dice.normals(sizes.ensembles * MEMBERS);
        let observed = dice.normals(sizes.ensembles);
        let x = dice.normals(sizes.examples * FEATURES);
        let t = x.chunks_exact(FEATURES).map(|row| dice.outcome(row)).collect();
        Self {
            p,
            y,
            p4,
            q4,
            label4,
            members,
            observed,
            x,
            t,
        }
    }

    /// Writes one file for each array.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn write(&self, dir: &Path) -> Result<()> {
        let floats = [
            ("p.f64", &self.p),
            ("p4.f64", &self.p4),
            ("q4.f64", &self.q4),
            ("members.f64", &self.members),
            ("observed.f64", &self.observed),
            ("x.f64", &self.x),
        ];
        for (name, values) in floats {
            write_floats(&dir.join(name), values)?;
        }
        for (name, values) in [("y.u8", &self.y), ("label4.u8", &self.label4), ("t.u8", &self.t)] {
            std::fs::write(dir.join(name), values)?;
        }
        Ok(())
    }

    /// Reads what [`Arrays::write`] wrote.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn read(dir: &Path) -> Result<Self> {
        let floats = |name| read_floats(&dir.join(name));
        let bytes = |name| std::fs::read(dir.join(name));
        Ok(Self {
            p: floats("p.f64")?,
            y: bytes("y.u8")?,
            p4: floats("p4.f64")?,
            q4: floats("q4.f64")?,
            label4: bytes("label4.u8")?,
            members: floats("members.f64")?,
            observed: floats("observed.f64")?,
            x: floats("x.f64")?,
            t: bytes("t.u8")?,
        })
    }
}

/// Writes 64-bit floats.
///
/// # Errors
/// When the file cannot be written.
pub fn write_floats(path: &Path, values: &[f64]) -> Result<()> {
    let mut file = std::io::BufWriter::new(std::fs::File::create(path)?);
    for value in values {
        file.write_all(&value.to_le_bytes())?;
    }
    Ok(file.flush()?)
}

fn read_floats(path: &Path) -> Result<Vec<f64>> {
    let bytes = std::fs::read(path)?;
    let (eights, _) = bytes.as_chunks();
    Ok(eights.iter().map(|eight| f64::from_le_bytes(*eight)).collect())
}

/// SplitMix64.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// In `[0, 1)`.
    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Exponential weights over their sum, none nearly impossible.
    fn distributions(&mut self, rows: usize) -> Vec<f64> {
        let mut all = Vec::with_capacity(rows * OUTCOMES);
        for _ in 0..rows {
            let weights: [f64; OUTCOMES] = std::array::from_fn(|_| 0.02 - (1.0 - self.unit()).ln());
            let total: f64 = weights.iter().sum();
            all.extend(weights.map(|weight| weight / total));
        }
        all
    }

    /// Standard normals, two at a time (Box and Muller).
    fn normals(&mut self, count: usize) -> Vec<f64> {
        let mut all = Vec::with_capacity(count + 1);
        while all.len() < count {
            let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
            let angle = std::f64::consts::TAU * self.unit();
            all.extend([radius * angle.cos(), radius * angle.sin()]);
        }
        all.truncate(count);
        all
    }

    /// An outcome whose log-odds are linear in the row.
    fn outcome(&mut self, row: &[f64]) -> u8 {
        let slope = |at: usize| (at as f64 - 7.5) / 10.0;
        let z: f64 = row.iter().enumerate().map(|(at, x)| slope(at) * x).sum();
        u8::from(self.unit() < 1.0 / (1.0 + (-0.3 - z).exp()))
    }
}
