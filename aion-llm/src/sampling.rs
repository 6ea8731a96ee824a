//! The choice of the next token from raw logits.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};

use crate::error::{Error, Result};

/// The most entries of a [`GenerateRequest::with_logit_bias`](crate::GenerateRequest::with_logit_bias).
pub const MAX_LOGIT_BIAS: usize = 1024;

/// A bias of this size bans a token, or leaves only it.
const DECISIVE_BIAS: f64 = 100.0;

/// How the next token is chosen. The default is greedy: the most probable token, ties by the smaller id.
///
/// Penalties and biases change the logits first; then the filters apply in this order, each to what the one before left
/// over: temperature, `top_k`, `top_p`, `min_p`. None of them changes what is reported of a token: surprise, entropy and
/// persistence are of the raw logits.
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
    frequency_penalty: f64,
    presence_penalty: f64,
    repetition_penalty: Option<f64>,
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

    /// Takes `penalty` from a token's logit for each time that the completion has it already.
    ///
    /// # Errors
    /// [`Error::Request`] outside -2 to 2.
    pub fn with_frequency_penalty(mut self, penalty: f64) -> Result<Self> {
        let ok = (-2.0..=2.0).contains(&penalty);
        check("frequency_penalty", ok, "it must be from -2 to 2")?;
        self.frequency_penalty = penalty;
        Ok(self)
    }

    /// Takes `penalty` from a token's logit if the completion has it already.
    ///
    /// # Errors
    /// [`Error::Request`] outside -2 to 2.
    pub fn with_presence_penalty(mut self, penalty: f64) -> Result<Self> {
        let ok = (-2.0..=2.0).contains(&penalty);
        check("presence_penalty", ok, "it must be from -2 to 2")?;
        self.presence_penalty = penalty;
        Ok(self)
    }

    /// Divides a positive logit, and multiplies a negative one, by `penalty` if the prompt or the completion has the
    /// token already; 1 changes nothing.
    ///
    /// # Errors
    /// [`Error::Request`] outside 0.1 to 10.
    ///
    /// # Sources
    /// N. S. Keskar et al., CTRL, 2019, section 4.1.
    pub fn with_repetition_penalty(mut self, penalty: f64) -> Result<Self> {
        let ok = (0.1..=10.0).contains(&penalty);
        check("repetition_penalty", ok, "it must be from 0.1 to 10")?;
        self.repetition_penalty = (penalty != 1.0).then_some(penalty);
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

/// What is added to the logits of some tokens.
pub(crate) type LogitBias = BTreeMap<u32, f64>;

/// Reads biases, each from -100 to 100.
pub(crate) fn logit_bias(entries: impl IntoIterator<Item = (u32, f64)>) -> Result<LogitBias> {
    let bias: LogitBias = entries.into_iter().take(MAX_LOGIT_BIAS + 1).collect();
    let few = bias.len() <= MAX_LOGIT_BIAS;
    check("logit_bias", few, "it has more than 1,024 entries")?;
    let sound = bias
        .values()
        .all(|b| (-DECISIVE_BIAS..=DECISIVE_BIAS).contains(b));
    check("logit_bias", sound, "a bias must be from -100 to 100")?;
    Ok(bias)
}

/// The tokens so far, as penalties see them.
#[derive(Debug, Default)]
struct History {
    prompt: HashSet<u32>,
    made: HashMap<u32, u32>,
}

/// Draws tokens one after the other.
#[derive(Debug)]
pub(crate) struct Sampler {
    sampling: Sampling,
    bias: LogitBias,
    history: History,
    random: SplitMix,
}

impl Sampler {
    pub(crate) fn new(sampling: Sampling) -> Self {
        Self {
            sampling,
            bias: LogitBias::new(),
            history: History::default(),
            random: SplitMix(sampling.seed),
        }
    }

    pub(crate) fn with_bias(mut self, bias: &LogitBias) -> Self {
        self.bias.clone_from(bias);
        self
    }

    /// The tokens before the completion, for the repetition penalty.
    pub(crate) fn with_prompt(mut self, prompt: &[u32]) -> Self {
        if self.sampling.repetition_penalty.is_some() {
            self.history.prompt = prompt.iter().copied().collect();
        }
        self
    }

    /// The next token among those that `allowed` admits; `None` when it admits none, or a bias bans all that it admits.
    pub(crate) fn choose(&mut self, logits: &[f32], allowed: impl Fn(u32) -> bool) -> Option<u32> {
        let logits = self.adjusted(logits);
        let forced =
            |token: &u32| self.bias.get(token).is_some_and(|bias| *bias >= DECISIVE_BIAS) && allowed(*token);
        let only: HashSet<u32> = self.bias.keys().copied().filter(forced).collect();
        let token = if only.is_empty() {
            self.draw(&logits, allowed)
        } else {
            self.draw(&logits, |token| only.contains(&token))
        };
        if let Some(token) = token.filter(|_| self.penalises()) {
            *self.history.made.entry(token).or_default() += 1;
        }
        token
    }

    fn penalises(&self) -> bool {
        let Sampling {
            frequency_penalty,
            presence_penalty,
            repetition_penalty,
            ..
        } = self.sampling;
        frequency_penalty != 0.0 || presence_penalty != 0.0 || repetition_penalty.is_some()
    }

    /// The logits after biases and penalties.
    fn adjusted<'l>(&self, logits: &'l [f32]) -> Cow<'l, [f32]> {
        if self.bias.is_empty() && !self.penalises() {
            return logits.into();
        }
        let mut logits = logits.to_vec();
        let mut change = |token: u32, f: &dyn Fn(f64) -> f64| {
            if let Some(logit) = logits.get_mut(token as usize) {
                *logit = f(f64::from(*logit)) as f32;
            }
        };
        if let Some(penalty) = self.sampling.repetition_penalty {
            let made = self.history.made.keys();
            let fresh = made.filter(|token| !self.history.prompt.contains(token));
            for token in fresh.chain(&self.history.prompt) {
                change(*token, &|logit| {
                    if logit > 0.0 {
                        logit / penalty
                    } else {
                        logit * penalty
                    }
                });
            }
        }
        let Sampling {
            frequency_penalty,
            presence_penalty,
            ..
        } = self.sampling;
        for (token, count) in &self.history.made {
            let taken = frequency_penalty * f64::from(*count) + presence_penalty;
            change(*token, &|logit| logit - taken);
        }
        for (token, bias) in &self.bias {
            let bias = if *bias <= -DECISIVE_BIAS {
                f64::NEG_INFINITY
            } else {
                *bias
            };
            change(*token, &|logit| logit + bias);
        }
        logits.into()
    }

    fn draw(&mut self, logits: &[f32], allowed: impl Fn(u32) -> bool) -> Option<u32> {
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

    #[test]
    fn penalties_count_what_was_made() {
        let mut sampler = Sampler::new(Sampling::greedy().with_frequency_penalty(1.5).unwrap());
        let drawn: Vec<_> = (0..5)
            .map(|_| sampler.choose(&LOGITS, |_| true).unwrap())
            .collect();
        // 1 and 3 have 4.0; after one of each 2.5; then 2 has 2.0 and they have 1.0.
        assert_eq!(drawn, [1, 3, 1, 3, 2]);
        let mut sampler = Sampler::new(Sampling::greedy().with_presence_penalty(2.0).unwrap());
        let drawn: Vec<_> = (0..4)
            .map(|_| sampler.choose(&LOGITS, |_| true).unwrap())
            .collect();
        assert_eq!(drawn, [1, 3, 1, 1], "taken once, however often it was made");
    }

    #[test]
    fn the_repetition_penalty_sees_the_prompt() {
        let sampling = Sampling::greedy().with_repetition_penalty(2.5).unwrap();
        let mut sampler = Sampler::new(sampling).with_prompt(&[1, 3, 99]);
        assert_eq!(sampler.choose(&LOGITS, |_| true), Some(2));
        let mut sampler = Sampler::new(sampling).with_prompt(&[4]);
        let logits = [-1.0, -9.0, -9.0, -9.0, -0.5];
        assert_eq!(
            sampler.choose(&logits, |_| true),
            Some(0),
            "a negative logit is multiplied"
        );
    }

    #[test]
    fn a_decisive_bias_bans_or_forces() {
        let biased = |entries: &[(u32, f64)]| {
            let bias = logit_bias(entries.iter().copied()).unwrap();
            Sampler::new(Sampling::greedy()).with_bias(&bias)
        };
        assert_eq!(biased(&[(1, -100.0)]).choose(&[1e9, 2e9, 0.0], |_| true), Some(0));
        assert_eq!(biased(&[(4, 100.0)]).choose(&LOGITS, |_| true), Some(4));
        assert_eq!(biased(&[(4, 100.0)]).choose(&LOGITS, |token| token != 4), Some(1));
        assert_eq!(biased(&[(0, -100.0)]).choose(&LOGITS, |token| token == 0), None);
        assert_eq!(biased(&[(2, 2.5), (77, 3.0)]).choose(&LOGITS, |_| true), Some(2));
        for wrong in [101.0, -100.5, f64::NAN] {
            assert!(logit_bias([(0, wrong)]).is_err());
        }
        assert!(logit_bias((0..2000).map(|token| (token, 1.0))).is_err());
    }

    #[test]
    fn each_number_has_its_range() {
        let s = Sampling::greedy();
        assert!(s.with_frequency_penalty(2.1).is_err() && s.with_presence_penalty(-2.1).is_err());
        assert!(s.with_repetition_penalty(0.0).is_err() && s.with_repetition_penalty(f64::NAN).is_err());
        assert!(s.with_temperature(f64::NAN).is_err() && s.with_top_p(f64::NAN).is_err());
    }

    proptest! {
        /// Penalties of nothing and biases of nothing change nothing.
        #[test]
        fn zero_is_none(logits in proptest::collection::vec(-9.0f32..9.0, 2..30), seed: u64) {
            let warm = Sampling::greedy().with_temperature(1.0)?.with_seed(seed);
            let none = warm.with_frequency_penalty(0.0)?.with_presence_penalty(0.0)?.with_repetition_penalty(1.0)?;
            let bias = logit_bias((0..30).map(|token| (token, 0.0)))?;
            let (mut plain, mut zero) = (Sampler::new(warm), Sampler::new(none).with_bias(&bias).with_prompt(&[0, 1]));
            for _ in 0..20 {
                prop_assert_eq!(plain.choose(&logits, |_| true), zero.choose(&logits, |_| true));
            }
        }

        /// A greater penalty never leaves a token a greater logit, and changes no other token's.
        #[test]
        fn penalties_are_monotone(
            logits in proptest::collection::vec(-9.0f32..9.0, 2..12), low in 0.0f64..2.0, more in 0.0f64..1.0, token in 0u32..12,
        ) {
            let high = (low + more).min(2.0);
            for with in [Sampling::with_frequency_penalty, Sampling::with_presence_penalty] {
                let adjusted = |penalty: f64| -> Result<Vec<f32>> {
                    let mut sampler = Sampler::new(with(Sampling::greedy(), penalty)?);
                    sampler.history.made.insert(token, 3);
                    Ok(sampler.adjusted(&logits).into_owned())
                };
                let (weak, strong) = (adjusted(low)?, adjusted(high)?);
                for (i, (weak, strong)) in weak.iter().zip(&strong).enumerate() {
                    prop_assert!(strong <= weak && (i as u32 == token || strong == weak));
                }
            }
        }

        /// A ban holds, and so does force, whatever else is asked.
        #[test]
        fn bans_and_force_hold(
            logits in proptest::collection::vec(-20.0f32..20.0, 3..40), temperature in 0.0f64..2.0, seed: u64,
        ) {
            let sampling = Sampling::greedy().with_temperature(temperature)?.with_frequency_penalty(1.0)?.with_seed(seed);
            let ban = logit_bias([(0, -100.0), (1, 100.0)])?;
            let mut sampler = Sampler::new(sampling).with_bias(&ban);
            for _ in 0..10 {
                prop_assert_eq!(sampler.choose(&logits, |_| true), Some(1));
                let other = sampler.choose(&logits, |token| token != 1);
                prop_assert!(other.is_some_and(|token| token > 1));
            }
        }

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
