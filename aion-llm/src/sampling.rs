//! The choice of the next token from raw logits.

use crate::error::{Error, Result};

/// How the next token is chosen. The default is greedy: the most probable token, ties by the smaller id.
///
/// The filters apply in this order, each to what the one before left over: temperature, `top_k`, `top_p`, `min_p`.
///
/// ```
/// use aion_llm::Sampling;
/// let sampling = Sampling::greedy().with_temperature(0.8)?.with_top_p(0.95)?.with_seed(7);
/// assert_eq!(sampling.top_k(), None);
/// assert!(sampling.with_min_p(2.0).is_err());
/// # Ok::<(), aion_llm::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Sampling {
    temperature: f64,
    top_k: Option<usize>,
    top_p: Option<f64>,
    min_p: Option<f64>,
    seed: u64,
}

fn check(field: &'static str, ok: bool, reason: &str) -> Result<()> {
    if ok {
        Ok(())
    } else {
        Err(Error::Request {
            field,
            reason: reason.into(),
        })
    }
}

impl Sampling {
    /// The most probable token each time.
    #[must_use]
    pub fn greedy() -> Self {
        Self::default()
    }

    /// Divides the logits; 0 is greedy.
    ///
    /// # Errors
    /// [`Error::Request`] outside 0 to 100.
    pub fn with_temperature(mut self, temperature: f64) -> Result<Self> {
        check(
            "temperature",
            (0.0..=100.0).contains(&temperature),
            "it must be from 0 to 100",
        )?;
        self.temperature = temperature;
        Ok(self)
    }

    /// Keeps the `k` most probable tokens.
    ///
    /// # Errors
    /// [`Error::Request`] for 0.
    pub fn with_top_k(mut self, k: usize) -> Result<Self> {
        check("top_k", k > 0, "it must be at least 1")?;
        self.top_k = Some(k);
        Ok(self)
    }

    /// Keeps the fewest tokens whose probabilities reach `p`.
    ///
    /// # Errors
    /// [`Error::Request`] outside (0, 1].
    pub fn with_top_p(mut self, p: f64) -> Result<Self> {
        check("top_p", p > 0.0 && p <= 1.0, "it must be above 0 and at most 1")?;
        self.top_p = Some(p);
        Ok(self)
    }

    /// Keeps the tokens with at least `p` times the probability of the best one.
    ///
    /// # Errors
    /// [`Error::Request`] outside [0, 1].
    pub fn with_min_p(mut self, p: f64) -> Result<Self> {
        check("min_p", (0.0..=1.0).contains(&p), "it must be from 0 to 1")?;
        self.min_p = Some(p);
        Ok(self)
    }

    /// Sets the seed: the same seed, prompt and settings give the same tokens.
    #[must_use]
    pub fn with_seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// The temperature.
    #[must_use]
    pub fn temperature(&self) -> f64 {
        self.temperature
    }

    /// The number of tokens kept, if limited.
    #[must_use]
    pub fn top_k(&self) -> Option<usize> {
        self.top_k
    }

    /// The seed.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.seed
    }
}

/// Draws tokens one after the other.
#[derive(Debug)]
pub(crate) struct Sampler {
    sampling: Sampling,
    random: SplitMix,
}

impl Sampler {
    pub(crate) fn new(sampling: Sampling) -> Self {
        Self {
            sampling,
            random: SplitMix(sampling.seed),
        }
    }

    /// The next token among those that `allowed` admits; `None` when it admits none.
    pub(crate) fn choose(&mut self, logits: &[f32], allowed: impl Fn(u32) -> bool) -> Option<u32> {
        if self.sampling.temperature == 0.0 {
            return best(logits, allowed);
        }
        let kept = self.filter(candidates(logits, allowed)?);
        let total: f64 = kept.iter().map(|(_, weight)| weight).sum();
        let mut left = self.random.unit() * total;
        for (token, weight) in &kept {
            left -= weight;
            if left < 0.0 {
                return Some(*token);
            }
        }
        kept.last().map(|(token, _)| *token)
    }

    /// Turns `(token, logit)` into `(token, weight)`, the best weight being 1, after all filters.
    fn filter(&self, mut tokens: Vec<(u32, f64)>) -> Vec<(u32, f64)> {
        let Sampling {
            temperature,
            top_k,
            top_p,
            min_p,
            ..
        } = self.sampling;
        let order = |a: &(u32, f64), b: &(u32, f64)| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0));
        if let Some(k) = top_k.filter(|k| *k < tokens.len()) {
            tokens.select_nth_unstable_by(k - 1, order);
            tokens.truncate(k);
        }
        let max = tokens
            .iter()
            .map(|(_, logit)| *logit)
            .fold(f64::NEG_INFINITY, f64::max);
        tokens
            .iter_mut()
            .for_each(|(_, logit)| *logit = ((*logit - max) / temperature).exp());
        if let Some(p) = top_p.filter(|p| *p < 1.0) {
            tokens.sort_unstable_by(order);
            let keep = nucleus(&tokens, p);
            tokens.truncate(keep);
        }
        if let Some(p) = min_p {
            tokens.retain(|(_, weight)| *weight >= p);
        }
        tokens
    }
}

/// How many of the tokens, best first, reach the share `p` of the whole weight.
fn nucleus(tokens: &[(u32, f64)], p: f64) -> usize {
    let wanted = p * tokens.iter().map(|(_, weight)| weight).sum::<f64>();
    let mut reached = 0.0;
    let before = tokens.iter().take_while(|(_, weight)| {
        let short = reached < wanted;
        reached += weight;
        short
    });
    before.count().max(1)
}

fn best(logits: &[f32], allowed: impl Fn(u32) -> bool) -> Option<u32> {
    let mut best: Option<(u32, f32)> = None;
    for (token, logit) in (0u32..).zip(logits) {
        if best.is_none_or(|(_, top)| *logit > top) && *logit > f32::NEG_INFINITY && allowed(token) {
            best = Some((token, *logit));
        }
    }
    best.map(|(token, _)| token)
}

fn candidates(logits: &[f32], allowed: impl Fn(u32) -> bool) -> Option<Vec<(u32, f64)>> {
    let tokens = (0u32..)
        .zip(logits)
        .filter(|(token, logit)| **logit > f32::NEG_INFINITY && allowed(*token));
    let tokens: Vec<_> = tokens.map(|(token, logit)| (token, f64::from(*logit))).collect();
    (!tokens.is_empty()).then_some(tokens)
}

/// SplitMix64 (Steele, Lea and Flood 2014): one 64-bit state, so a seed is the whole of it.
#[derive(Debug)]
pub(crate) struct SplitMix(pub(crate) u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ z >> 31
    }

    /// Uniform in [0, 1).
    pub(crate) fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LOGITS: [f32; 5] = [1.0, 4.0, 2.0, 4.0, -1.0];

    fn draws(sampling: Sampling, n: usize) -> Vec<u32> {
        let mut sampler = Sampler::new(sampling);
        (0..n)
            .map(|_| sampler.choose(&LOGITS, |_| true).unwrap())
            .collect()
    }

    #[test]
    fn greedy_takes_the_first_best_that_is_allowed() {
        let mut sampler = Sampler::new(Sampling::greedy());
        assert_eq!(sampler.choose(&LOGITS, |_| true), Some(1));
        assert_eq!(sampler.choose(&LOGITS, |token| token != 1), Some(3));
        assert_eq!(sampler.choose(&LOGITS, |_| false), None);
    }

    /// The generator gives the published first values for seed 0.
    #[test]
    fn the_generator_is_split_mix_64() {
        let mut random = SplitMix(0);
        assert_eq!(
            [random.next(), random.next()],
            [0xE220_A839_7B1D_CDAF, 0x6E78_9E6A_A1B9_65F4]
        );
    }

    #[test]
    fn a_seed_fixes_the_draws() {
        let warm = Sampling::greedy().with_temperature(1.5).unwrap();
        assert_eq!(draws(warm.with_seed(9), 50), draws(warm.with_seed(9), 50));
        assert_ne!(draws(warm.with_seed(9), 50), draws(warm.with_seed(10), 50));
    }

    #[test]
    fn each_filter_keeps_only_its_tokens() {
        let warm = Sampling::greedy().with_temperature(5.0).unwrap();
        let only =
            |sampling, kept: &[u32]| assert!(draws(sampling, 300).iter().all(|token| kept.contains(token)));
        only(warm.with_top_k(2).unwrap(), &[1, 3]);
        only(warm.with_top_p(0.3).unwrap(), &[1, 3]);
        only(warm.with_min_p(0.99).unwrap(), &[1, 3]);
        only(warm.with_top_k(1).unwrap(), &[1]);
    }

    /// At temperature 1 without filters the frequencies are the softmax probabilities (within 5 standard errors).
    #[test]
    fn frequencies_match_probabilities() {
        let n = 40_000;
        let drawn = draws(Sampling::greedy().with_temperature(1.0).unwrap(), n);
        let total: f64 = LOGITS.iter().map(|logit| f64::from(*logit).exp()).sum();
        for (token, logit) in LOGITS.iter().enumerate() {
            let p = f64::from(*logit).exp() / total;
            let seen = drawn.iter().filter(|drawn| **drawn == token as u32).count() as f64 / n as f64;
            assert!(
                (seen - p).abs() < 5.0 * (p * (1.0 - p) / n as f64).sqrt(),
                "token {token}: {seen} for {p}"
            );
        }
    }

    proptest! {
        /// Whatever the settings, a drawn token is an allowed one, and the best allowed one is never filtered out.
        #[test]
        fn a_draw_is_always_allowed(
            logits in proptest::collection::vec(-20.0f32..20.0, 1..40),
            temperature in 0.0f64..3.0, k in 1usize..10, p in 0.01f64..1.0, seed: u64, banned in 0u32..40,
        ) {
            let sampling = Sampling::greedy().with_temperature(temperature)?.with_top_k(k)?.with_top_p(p)?.with_min_p(p)?;
            let token = Sampler::new(sampling.with_seed(seed)).choose(&logits, |token| token != banned);
            prop_assert_eq!(token.is_some(), logits.len() > 1 || banned != 0);
            prop_assert!(token.is_none_or(|token| token != banned && (token as usize) < logits.len()));
        }
    }
}
