//! Queries, shortlists and outcomes on the wire.

use aion_router::prompt::Listing;
use aion_router::{
    Decision, Gain, LoggedSurface, Outcome, OutcomeStatus, Pick, Query, Ranking, Rung, RungRecord,
    ShortlistState, SurfaceBudget,
};
use aion_service::Problem;
use aion_types::TaskId;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{item_id, surface};

/// What the next step is about.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RankBody {
    /// In words.
    #[schema(max_length = 1_048_576)]
    pub text: String,
    /// The surfaces wanted, in the order of the answer.
    #[schema(min_items = 1, max_items = 64)]
    pub surfaces: Vec<SurfaceBody>,
    /// How many tokens all picks together may have.
    #[serde(deserialize_with = "aion_service::whole::one")]
    pub total_tokens: u32,
    /// The task that it belongs to.
    #[schema(value_type = Option<String>, format = "uuid")]
    pub task_id: Option<TaskId>,
    /// Items used last, the latest first.
    #[serde(default)]
    #[schema(max_items = 4096)]
    pub recent: Vec<String>,
    /// Tells apart decisions on the same query.
    #[serde(default, deserialize_with = "aion_service::whole::one")]
    pub seed: u64,
}

/// What one surface may take of a shortlist.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SurfaceBody {
    /// The surface.
    #[schema(min_length = 1, max_length = 255)]
    pub surface: String,
    /// How many items at most.
    #[serde(default = "items", deserialize_with = "aion_service::whole::one")]
    #[schema(maximum = 4096, default = 64)]
    pub max_items: usize,
    /// How many tokens at most; as many as there are if absent.
    #[serde(default, deserialize_with = "aion_service::whole::maybe")]
    pub max_tokens: Option<u32>,
    /// How many tokens are kept for it.
    #[serde(default, deserialize_with = "aion_service::whole::one")]
    pub floor_tokens: u32,
    /// How many unverified items of one provider at most.
    #[serde(default = "unverified", deserialize_with = "aion_service::whole::one")]
    #[schema(default = 2)]
    pub max_unverified: usize,
}

/// The most picks of one surface.
const MAX_PICKS: usize = 4_096;

fn items() -> usize {
    64
}

fn unverified() -> usize {
    2
}

impl RankBody {
    pub(crate) fn query(self) -> Result<Query, Problem> {
        if self.surfaces.is_empty() {
            return Err(Problem::unprocessable("invalid", "at least one surface is wanted").at("/surfaces"));
        }
        let mut query = Query::new(self.text, self.total_tokens).with_seed(self.seed);
        for (i, wanted) in self.surfaces.iter().enumerate() {
            query = query.with_surface(wanted.budget(&format!("/surfaces/{i}"))?);
        }
        let recent = self.recent.iter().enumerate();
        let recent = recent.map(|(i, id)| item_id(id, &format!("/recent/{i}")));
        query = query.with_recent(recent.collect::<Result<_, _>>()?);
        Ok(match self.task_id {
            Some(task) => query.with_task(task),
            None => query,
        })
    }
}

impl SurfaceBody {
    fn budget(&self, pointer: &str) -> Result<SurfaceBudget, Problem> {
        if self.max_items > MAX_PICKS {
            let detail = format!("at most {MAX_PICKS} items of a surface can be picked");
            return Err(Problem::unprocessable("over_limit", detail).at(format!("{pointer}/max_items")));
        }
        let budget = SurfaceBudget::new(surface(&self.surface, &format!("{pointer}/surface"))?)
            .with_max_items(self.max_items)
            .with_floor_tokens(self.floor_tokens)
            .with_max_unverified(self.max_unverified);
        Ok(match self.max_tokens {
            Some(tokens) => budget.with_max_tokens(tokens),
            None => budget,
        })
    }
}

/// What belongs in the next step.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct RankView {
    /// The id of this decision, under which its outcome is recorded.
    #[schema(format = "uuid")]
    pub decision_id: String,
    /// The picks: surfaces in the order of the query, in each by rank.
    pub picks: Vec<PickView>,
    /// What the picks cost together; never more than the budget.
    pub tokens: u32,
    /// What showing everything in full would cost beyond that.
    pub saved_tokens: u64,
    /// The version of the catalog that was ranked.
    pub catalog: u64,
    /// The version of the weights that ranked it.
    pub weights: u64,
    /// The probability with which just these picks were made, if something was left to chance.
    pub propensity: Option<f64>,
    /// For each surface in the order of the query, the probability that none of its items is needed.
    pub none: Vec<f64>,
    /// Whether something was left out.
    pub state: StateChoice,
    /// Why the ranking is degraded, if it is; several reasons are parted by semicolons.
    pub reason: Option<String>,
    /// The steps that the ranking took, from the cheapest; what they took differs from one time to the next.
    pub rungs: Vec<RungView>,
    /// The picks as a prompt shows them.
    pub prompt: PromptView,
}

/// Whether something was left out.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum StateChoice {
    /// The picks are a selection.
    Active,
    /// Everything fits in full.
    Everything,
    /// Something that must be in is not, or a part of the ranking was left out.
    Degraded,
}

/// The picks as a prompt shows them: first what stays the same, so that a cache keeps it.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct PromptView {
    /// Pinned items, by id.
    pub core: String,
    /// The others, by surface and rank.
    pub tail: String,
    /// How many bytes from the start are those of the prompt before of the same task, counted up to 65,536; absent for the
    /// first one of a task.
    pub shared_bytes: Option<usize>,
}

/// An item of the shortlist.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct PickView {
    /// The item.
    pub item: String,
    /// Its surface.
    pub surface: String,
    /// Its place among the picks of its surface, from 1.
    pub rank: usize,
    /// The probability that it is the one needed.
    pub p: f64,
    /// Which of its renderings is shown, from 0.
    pub rendering: usize,
    /// What is shown.
    pub text: String,
    /// What that costs.
    pub tokens: u32,
    /// Why.
    pub why: WhyView,
}

/// Why an item was picked.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct WhyView {
    /// The sum of the terms.
    pub logit: f64,
    /// What it is made of.
    pub terms: Vec<TermView>,
    /// Whether it is pinned.
    pub pinned: bool,
    /// Whether the query names it.
    pub named: bool,
    /// The rule that wants it.
    pub rule: Option<String>,
    /// The past query nearest to this one that used it.
    pub nearest_past: Option<PastView>,
}

/// A part of a logit.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct TermView {
    /// What it comes from.
    pub feature: &'static str,
    /// What it adds.
    pub logit: f64,
}

/// A past query that used an item.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct PastView {
    /// The task that it belonged to.
    pub task_id: Option<String>,
    /// The cosine of its embedding with this one's.
    pub cosine: f32,
}

/// A step that a ranking took.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct RungView {
    /// Which.
    pub rung: RungChoice,
    /// What it was said to cost, in microseconds: that is what decides.
    pub cost_us: u64,
    /// What it took in truth, in microseconds.
    pub took_us: u64,
    /// The doubt that was left, in bits.
    pub doubt_bits: f64,
    /// How much doubt it took away.
    pub gain_bits: f64,
}

/// A step of a ranking.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RungChoice {
    /// Words, rules, pinned and named items, what was used last.
    Lexical,
    /// Embeddings.
    Embedding,
    /// A model that reads the candidates.
    Rerank,
}

impl RankView {
    /// The view of a ranking; `text_of` gives what is shown of a pick.
    pub(crate) fn new(
        ranking: Ranking,
        listing: Listing,
        shared_bytes: Option<usize>,
        text_of: impl Fn(&Pick) -> String,
    ) -> Self {
        let shortlist = ranking.shortlist;
        let (state, reason) = match shortlist.state {
            ShortlistState::Everything => (StateChoice::Everything, None),
            ShortlistState::Degraded { reason } => (StateChoice::Degraded, Some(reason)),
            _ => (StateChoice::Active, None),
        };
        let pick = |pick: Pick| PickView {
            text: text_of(&pick),
            item: pick.item.into(),
            surface: pick.surface.as_str().to_owned(),
            rank: pick.rank,
            p: pick.p,
            rendering: pick.rendering,
            tokens: pick.tokens,
            why: WhyView::from(pick.why),
        };
        Self {
            decision_id: shortlist.decision.to_string(),
            picks: shortlist.picks.into_iter().map(pick).collect(),
            tokens: shortlist.tokens,
            saved_tokens: shortlist.saved_tokens,
            catalog: shortlist.catalog.get(),
            weights: shortlist.weights,
            propensity: shortlist.propensity,
            none: shortlist.none,
            state,
            reason,
            rungs: ranking.rungs.iter().map(Into::into).collect(),
            prompt: PromptView {
                core: listing.core,
                tail: listing.tail,
                shared_bytes,
            },
        }
    }
}

impl From<&RungRecord> for RungView {
    fn from(record: &RungRecord) -> Self {
        Self {
            rung: match record.rung {
                Rung::Embedding => RungChoice::Embedding,
                Rung::Rerank => RungChoice::Rerank,
                _ => RungChoice::Lexical,
            },
            cost_us: record.cost_us,
            took_us: record.took_us,
            doubt_bits: record.doubt_bits,
            gain_bits: record.gain_bits,
        }
    }
}

impl From<aion_router::Why> for WhyView {
    fn from(why: aion_router::Why) -> Self {
        let terms = why.terms.iter().map(|(feature, logit)| TermView {
            feature: feature.as_str(),
            logit: *logit,
        });
        Self {
            logit: why.logit(),
            terms: terms.collect(),
            pinned: why.pinned,
            named: why.named,
            rule: why.rule.clone(),
            nearest_past: why.nearest_past.map(|past| PastView {
                task_id: past.task.map(|task| task.to_string()),
                cosine: past.cosine,
            }),
        }
    }
}

/// What became of a decision.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct OutcomeBody {
    /// The items that were used, of any surface. A surface without any is one where none was needed.
    #[schema(max_items = 256)]
    pub used: Vec<String>,
    /// How the step ended.
    #[serde(default)]
    pub status: OutcomeChoice,
    /// How far the model of the task was from what came of it, in bits, if that was measured.
    #[serde(default)]
    pub kl_bits: Option<f64>,
}

/// How a step ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum OutcomeChoice {
    /// What was used served its purpose.
    #[default]
    Succeeded,
    /// It did not.
    Failed,
}

impl OutcomeBody {
    pub(crate) fn outcome(self) -> Result<Outcome, Problem> {
        let used = self.used.iter().enumerate();
        let used = used.map(|(i, id)| item_id(id, &format!("/used/{i}")));
        let status = match self.status {
            OutcomeChoice::Succeeded => OutcomeStatus::Succeeded,
            OutcomeChoice::Failed => OutcomeStatus::Failed,
        };
        let outcome = Outcome::used(used.collect::<Result<Vec<_>, _>>()?).with_status(status);
        Ok(match self.kl_bits {
            Some(bits) => outcome.with_kl_bits(bits),
            None => outcome,
        })
    }
}

/// What an outcome was worth.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct GainView {
    /// Bits gained over the order without learning, all surfaces together.
    pub bits: f64,
    /// By surface, in the order of the query.
    pub surfaces: Vec<SurfaceGainView>,
}

/// What an outcome was worth on one surface.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct SurfaceGainView {
    /// The surface.
    pub surface: String,
    /// How surprised the router was, in bits.
    pub loss_bits: f64,
    /// How surprised the order without learning would have been, in bits.
    pub baseline_bits: f64,
}

impl From<Gain> for GainView {
    fn from(gain: Gain) -> Self {
        let surfaces = gain.surfaces.iter().map(|of| SurfaceGainView {
            surface: of.surface.as_str().to_owned(),
            loss_bits: of.loss_bits,
            baseline_bits: of.baseline_bits,
        });
        Self {
            bits: gain.bits(),
            surfaces: surfaces.collect(),
        }
    }
}

/// A decision whose outcome is not known yet.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct DecisionView {
    /// Its id.
    #[schema(format = "uuid")]
    pub decision_id: String,
    /// The task that it belongs to.
    pub task_id: Option<String>,
    /// The version of the catalog that was ranked.
    pub catalog: u64,
    /// The profile whose order was served; absent for the mixture of all.
    pub arm: Option<PolicyChoice>,
    /// The probability with which just these picks were made, if something was left to chance.
    pub propensity: Option<f64>,
    /// The steps that the ranking took, from the cheapest.
    pub rungs: Vec<RungView>,
    /// The surfaces, in the order of the query.
    pub surfaces: Vec<DecidedSurface>,
}

/// One surface of a decision.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct DecidedSurface {
    /// The surface.
    pub surface: String,
    /// How many items it had.
    pub items: u64,
    /// Those that the ranking looked at closely, best first.
    pub candidates: Vec<CandidateView>,
}

/// An item that a ranking looked at closely.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct CandidateView {
    /// The item.
    pub item: String,
    /// The features that are not 0.
    pub features: Vec<FeatureView>,
    /// The probability that each profile gave it.
    pub profiles: Vec<ProfileView>,
    /// Which of its renderings was shown, if it was.
    pub shown: Option<u8>,
}

/// A feature of an item.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct FeatureView {
    /// Which.
    pub feature: &'static str,
    /// How much of it.
    pub value: f32,
}

/// What a profile says of an item.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ProfileView {
    /// Which profile.
    pub profile: PolicyChoice,
    /// The probability.
    pub p: f32,
}

/// A whole way of ranking.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum PolicyChoice {
    /// All profiles, weighed by how well they have predicted.
    Mixture,
    /// Everything, by the learned weights.
    Learned,
    /// Words and rules alone, by fixed weights.
    Baseline,
    /// Words and embeddings, by fixed weights.
    Content,
    /// What was used for queries like this one, by fixed weights.
    History,
    /// Every item alike.
    Uniform,
}

impl From<aion_router::Profile> for PolicyChoice {
    fn from(profile: aion_router::Profile) -> Self {
        use aion_router::Profile;
        match profile {
            Profile::Learned => Self::Learned,
            Profile::Baseline => Self::Baseline,
            Profile::Content => Self::Content,
            Profile::History => Self::History,
            Profile::Uniform => Self::Uniform,
            _ => Self::Mixture,
        }
    }
}

impl From<PolicyChoice> for Option<aion_router::Profile> {
    fn from(choice: PolicyChoice) -> Self {
        use aion_router::Profile;
        match choice {
            PolicyChoice::Mixture => None,
            PolicyChoice::Learned => Some(Profile::Learned),
            PolicyChoice::Baseline => Some(Profile::Baseline),
            PolicyChoice::Content => Some(Profile::Content),
            PolicyChoice::History => Some(Profile::History),
            PolicyChoice::Uniform => Some(Profile::Uniform),
        }
    }
}

impl From<&Decision> for DecisionView {
    fn from(decision: &Decision) -> Self {
        Self {
            decision_id: decision.id.to_string(),
            task_id: decision.task.map(|task| task.to_string()),
            catalog: decision.catalog.get(),
            arm: decision.arm.map(Into::into),
            propensity: decision.propensity,
            rungs: decision.rungs.iter().map(Into::into).collect(),
            surfaces: decision.surfaces.iter().map(Into::into).collect(),
        }
    }
}

impl From<&LoggedSurface> for DecidedSurface {
    fn from(logged: &LoggedSurface) -> Self {
        let candidates = logged.candidates.iter().map(|candidate| CandidateView {
            item: candidate.item.to_string(),
            features: aion_router::Feature::ALL
                .into_iter()
                .zip(candidate.features)
                .filter(|(_, value)| *value != 0.0)
                .map(|(feature, value)| FeatureView {
                    feature: feature.as_str(),
                    value,
                })
                .collect(),
            profiles: aion_router::Profile::ALL
                .into_iter()
                .zip(candidate.p)
                .map(|(profile, p)| ProfileView {
                    profile: profile.into(),
                    p,
                })
                .collect(),
            shown: candidate.shown,
        });
        Self {
            surface: logged.surface.as_str().to_owned(),
            items: logged.items,
            candidates: candidates.collect(),
        }
    }
}
