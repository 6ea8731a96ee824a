//! Off-policy evaluation, embeddings and statistics on the wire.

use aion_router::ope::{Estimate, Logged, Modelled, OpeOptions};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::PolicyChoice;

/// What is to be judged: a policy by the router's own log, or decisions of your own.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EvaluateBody {
    /// What another way of ranking would have been worth, by the router's log. A decision is worth 1 if the step
    /// succeeded and everything it used was shown.
    pub policy: Option<PolicyChoice>,
    /// With `policy`: how many of the latest decisions count.
    #[serde(default = "many", deserialize_with = "aion_service::whole::one")]
    #[schema(minimum = 1, maximum = 100_000, default = 10_000)]
    pub last: usize,
    /// Decisions that were left to chance, with what came of them.
    #[schema(min_items = 1, max_items = 100_000)]
    pub decisions: Option<Vec<LoggedBody>>,
    /// The least effective sample size for an answer.
    #[serde(default = "least")]
    #[schema(minimum = 1, default = 100.0)]
    pub min_effective: f64,
    /// The largest weight of one decision for an answer.
    #[serde(default = "heaviest")]
    #[schema(minimum = 1, default = 50.0)]
    pub max_weight: f64,
}

fn many() -> usize {
    10_000
}

fn least() -> f64 {
    OpeOptions::default().min_effective
}

fn heaviest() -> f64 {
    OpeOptions::default().max_weight
}

/// A decision that was left to chance.
#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LoggedBody {
    /// The probability with which what was served was served.
    #[schema(exclusive_minimum = 0, maximum = 1)]
    pub propensity: f64,
    /// The probability with which the policy in question would have served the same.
    #[schema(minimum = 0, maximum = 1)]
    pub target: f64,
    /// What came of it.
    pub reward: f64,
    /// What a model expects, if there is one.
    pub model: Option<ModelledBody>,
}

/// What a model of rewards says of one decision.
#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ModelledBody {
    /// The reward that it expects of what was served.
    pub served: f64,
    /// The reward that it expects of the policy in question.
    pub target: f64,
}

impl From<LoggedBody> for Logged {
    fn from(body: LoggedBody) -> Self {
        Self {
            propensity: body.propensity,
            target: body.target,
            reward: body.reward,
            model: body.model.map(|model| Modelled {
                served: model.served,
                target: model.target,
            }),
        }
    }
}

/// What a policy would have been worth.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct EstimateView {
    /// Decisions in the log.
    pub decisions: usize,
    /// Inverse propensities: unbiased, and the noisiest.
    pub ips: f64,
    /// The same, divided by the sum of the weights.
    pub snips: f64,
    /// Doubly robust, if every decision has a model.
    pub dr: Option<f64>,
    /// Half of a 95% interval around `snips`.
    pub half_width: f64,
    /// How many decisions of the policy itself would say as much.
    pub effective: f64,
    /// The largest weight of one decision.
    pub max_weight: f64,
    /// The share of decisions that the policy could have served.
    pub coverage: f64,
}

impl From<Estimate> for EstimateView {
    fn from(estimate: Estimate) -> Self {
        Self {
            decisions: estimate.decisions,
            ips: estimate.ips,
            snips: estimate.snips,
            dr: estimate.dr,
            half_width: estimate.half_width,
            effective: estimate.effective,
            max_weight: estimate.max_weight,
            coverage: estimate.coverage,
        }
    }
}

/// Texts to embed.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EmbedBody {
    /// One text, or 1 to 256, each of at most 65,536 bytes.
    pub input: InputChoice,
    /// The model; only that of the router is there.
    #[schema(max_length = 1024)]
    pub model: Option<String>,
    /// How vectors are written.
    #[serde(default)]
    pub encoding_format: EncodingChoice,
    /// Who asks; not looked at.
    #[schema(max_length = 1024)]
    pub user: Option<String>,
}

/// One text, or several.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum InputChoice {
    /// One.
    One(String),
    /// Several.
    Several(Vec<String>),
}

/// How vectors are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum EncodingChoice {
    /// As lists of numbers.
    #[default]
    Float,
    /// As base64 of little-endian 32-bit floats.
    Base64,
}

/// Vectors of texts.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct EmbedView {
    /// Always `list`.
    pub object: &'static str,
    /// The vectors, in the order of the texts.
    pub data: Vec<VectorView>,
    /// The model that made them.
    pub model: String,
    /// What was read.
    pub usage: UsageView,
}

/// A vector.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct VectorView {
    /// Always `embedding`.
    pub object: &'static str,
    /// The place of its text.
    pub index: usize,
    /// The numbers.
    pub embedding: VectorChoice,
}

/// The numbers of a vector.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(untagged)]
pub enum VectorChoice {
    /// As a list.
    Numbers(Vec<f32>),
    /// As base64.
    Base64(String),
}

/// What was read.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
pub struct UsageView {
    /// Tokens of the texts, as the router counts them.
    pub prompt_tokens: u64,
    /// The same.
    pub total_tokens: u64,
}

/// What the router has and has learned.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct StatsView {
    /// How many items there are.
    pub items: usize,
    /// The version of the catalog: it rises with every change, and begins anew, higher, with every start.
    pub catalog: u64,
    /// How many outcomes it has learned from.
    pub outcomes: u64,
    /// Who makes embeddings.
    pub embedder: String,
    /// How many numbers a vector has; 0 while whoever makes them has not said so.
    pub dimension: usize,
    /// By surface.
    pub surfaces: Vec<SurfaceStats>,
}

/// What the router has learned on one surface.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct SurfaceStats {
    /// The surface.
    pub surface: String,
    /// How many items it has.
    pub items: usize,
    /// The weight of each profile: how well it has predicted so far.
    pub mixture: Vec<MixtureView>,
    /// The learned weights of the features.
    pub weights: Vec<WeightView>,
    /// Whether learning has made this surface worse than the order without it, which is served then.
    pub vetoed: bool,
}

/// The weight of a profile.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct MixtureView {
    /// Which profile.
    pub profile: PolicyChoice,
    /// Its weight.
    pub weight: f64,
}

/// The weight of a feature.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct WeightView {
    /// Which feature.
    pub feature: &'static str,
    /// Its weight.
    pub weight: f64,
}
