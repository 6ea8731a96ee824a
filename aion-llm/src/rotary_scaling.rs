//! Rotary frequencies for contexts longer than those of the first training.
//!
//! # Sources
//! Llama 3.1's rule: long waves turn slower by a factor, short ones stay, those between are blended. `linear`: all turn
//! slower (Chen et al. 2023).

use serde_json::Value as Json;

use crate::error::{Error, Result};

/// What `rope_scaling` (or `rope_parameters`) of a `config.json` asks for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum RotaryScaling {
    None,
    Linear {
        factor: f64,
    },
    Llama3 {
        factor: f64,
        low: f64,
        high: f64,
        original: f64,
    },
}

impl RotaryScaling {
    pub(crate) fn of(value: Option<&Json>) -> Result<Self> {
        let Some(value) = value.filter(|value| !value.is_null()) else {
            return Ok(Self::None);
        };
        let kind = value["rope_type"].as_str().or(value["type"].as_str());
        let number = |key: &str| {
            let n = value[key].as_f64().filter(|n| n.is_finite() && *n > 0.0);
            n.ok_or_else(|| Error::Config(format!("rotary scaling: `{key}` is missing or not above 0")))
        };
        match kind.unwrap_or("default") {
            "default" => Ok(Self::None),
            "linear" => Ok(Self::Linear {
                factor: number("factor")?,
            }),
            "llama3" => Self::Llama3 {
                factor: number("factor")?,
                low: number("low_freq_factor")?,
                high: number("high_freq_factor")?,
                original: number("original_max_position_embeddings")?,
            }
            .checked(),
            _ => Err(Error::Unsupported(format!("rotary scaling {value}"))),
        }
    }

    fn checked(self) -> Result<Self> {
        match self {
            Self::Llama3 { low, high, .. } if low >= high => Err(Error::Config(format!(
                "rotary scaling: the low factor {low} is not below the high one {high}"
            ))),
            scaling => Ok(scaling),
        }
    }

    /// By what each pair's frequency is divided, `[head_dim / 2]`.
    pub(crate) fn divisors(self, base: f64, head_dim: usize) -> Option<Vec<f32>> {
        let pairs = head_dim / 2;
        let wave = |i: usize| std::f64::consts::TAU * base.powf(i as f64 / pairs as f64);
        match self {
            Self::None => None,
            Self::Linear { factor } => Some(vec![factor as f32; pairs]),
            Self::Llama3 {
                factor,
                low,
                high,
                original,
            } => {
                let divisor = |i: usize| {
                    let share = ((original / wave(i) - low) / (high - low)).clamp(0.0, 1.0);
                    ((1.0 - share) / factor + share).recip() as f32
                };
                Some((0..pairs).map(divisor).collect())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn long_waves_turn_slower_and_short_ones_stay() {
        let wire = json!({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192});
        let divisors = RotaryScaling::of(Some(&wire))
            .unwrap()
            .divisors(500_000.0, 128)
            .unwrap();
        assert_eq!((divisors[0], divisors[63]), (1.0, 8.0));
        assert!(divisors.is_sorted() && divisors.iter().any(|d| (1.01..7.9).contains(d)));
    }

    #[test]
    fn what_is_unknown_or_contradicts_itself_is_refused() {
        assert_eq!(RotaryScaling::of(None).unwrap(), RotaryScaling::None);
        assert_eq!(
            RotaryScaling::of(Some(&json!({"rope_type": "default", "rope_theta": 1e4}))).unwrap(),
            RotaryScaling::None
        );
        let linear = RotaryScaling::of(Some(&json!({"type": "linear", "factor": 2.0}))).unwrap();
        assert_eq!(linear.divisors(10_000.0, 8).unwrap(), [2.0; 4]);
        for bad in [
            json!({"type": "linear"}),
            json!({"type": "linear", "factor": 0}),
            json!({"type": "yarn"}),
            json!({"rope_type": "llama3", "factor": 8, "low_freq_factor": 4, "high_freq_factor": 4, "original_max_position_embeddings": 10}),
        ] {
            assert!(RotaryScaling::of(Some(&bad)).is_err(), "{bad}");
        }
    }
}
