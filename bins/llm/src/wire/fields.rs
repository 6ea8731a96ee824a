//! Parameters that several endpoints share, and those that are accepted without effect or refused.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};

use aion_llm::{GenerateRequest, Prompt, Sampling};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::error::{ApiError, ApiResult, shown};
use crate::options::LlmOptions;

const MAX_TOP_LOGPROBS: usize = 20;

/// How tokens are chosen; the names are OpenAI's, `top_k`, `min_p` and `repetition_penalty` those of other servers.
#[derive(Debug, Clone, Default, Deserialize, Serialize, ToSchema)]
pub(crate) struct SamplingFields {
    /// From 0, which takes the most probable token each time, to 2; the default is 1.
    #[schema(nullable = false, minimum = 0, maximum = 2)]
    pub(crate) temperature: Option<f64>,
    /// Keeps the fewest tokens that have this share of the probability; above 0 and at most 1.
    #[schema(nullable = false, exclusive_minimum = 0, maximum = 1)]
    pub(crate) top_p: Option<f64>,
    /// Keeps the most probable tokens, so many; -1 and 0 keep all.
    #[schema(nullable = false, minimum = -1)]
    top_k: Option<i64>,
    /// Keeps the tokens with at least this share of the best one's probability.
    #[schema(nullable = false, minimum = 0, maximum = 1)]
    min_p: Option<f64>,
    /// Taken from a token's logit for each time that the completion has it.
    #[schema(nullable = false, minimum = -2, maximum = 2)]
    frequency_penalty: Option<f64>,
    /// Taken from a token's logit if the completion has it.
    #[schema(nullable = false, minimum = -2, maximum = 2)]
    presence_penalty: Option<f64>,
    /// Divides the logit of a token that the prompt or the completion has, if it is positive, and multiplies it if not.
    #[schema(nullable = false, minimum = 0.1, maximum = 10)]
    repetition_penalty: Option<f64>,
    /// Added to the logits of tokens by their id: from -100, which bans one, to 100, which leaves only those with it.
    #[schema(nullable = false)]
    logit_bias: Option<BTreeMap<String, f64>>,
    /// The same seed, request and model give the same text.
    #[schema(nullable = false)]
    pub(crate) seed: Option<i64>,
}

impl SamplingFields {
    fn sampling(&self) -> ApiResult<Sampling> {
        let temperature = self.temperature.unwrap_or(1.0);
        if temperature > 2.0 {
            let detail = "invalid `temperature`: it must be from 0 to 2";
            return Err(ApiError::bad_request("invalid_value", detail, "/temperature"));
        }
        let seed = self
            .seed
            .map_or_else(|| RandomState::new().hash_one(0), i64::cast_unsigned);
        let mut sampling = Sampling::greedy().with_seed(seed).with_temperature(temperature)?;
        if let Some(p) = self.top_p {
            sampling = sampling.with_top_p(p)?;
        }
        if let Some(k) = self.top_k.filter(|k| !matches!(k, -1 | 0)) {
            sampling = sampling.with_top_k(usize::try_from(k).unwrap_or(0))?;
        }
        if let Some(p) = self.min_p {
            sampling = sampling.with_min_p(p)?;
        }
        sampling = sampling
            .with_frequency_penalty(self.frequency_penalty.unwrap_or(0.0))?
            .with_presence_penalty(self.presence_penalty.unwrap_or(0.0))?
            .with_repetition_penalty(self.repetition_penalty.unwrap_or(1.0))?;
        Ok(sampling)
    }

    fn bias(&self) -> ApiResult<Vec<(u32, f64)>> {
        let entries = self.logit_bias.iter().flatten().map(|(token, bias)| {
            let token = token.parse().map_err(|_| {
                let detail = format!("`{}` is no token id", shown(token));
                ApiError::bad_request("invalid_value", detail, "/logit_bias")
            })?;
            Ok((token, *bias))
        });
        entries.collect()
    }

    /// A request for at most so many tokens.
    pub(crate) fn request(&self, prompt: Prompt, max_tokens: usize) -> ApiResult<GenerateRequest> {
        let request = GenerateRequest::new(prompt)
            .with_sampling(self.sampling()?)
            .with_max_tokens(max_tokens)
            .with_logit_bias(self.bias()?)?;
        Ok(request)
    }
}

/// One text or several.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
#[serde(untagged)]
pub(crate) enum OneOrMany {
    /// One.
    One(String),
    /// Several.
    Many(Vec<String>),
}

impl OneOrMany {
    pub(crate) fn into_vec(self) -> Vec<String> {
        match self {
            Self::One(text) => vec![text],
            Self::Many(texts) => texts,
        }
    }
}

/// The number of choices, if so many and their tokens are within the limits.
pub(crate) fn choices(
    n: Option<u64>,
    prompts: usize,
    max_tokens: usize,
    options: &LlmOptions,
) -> ApiResult<usize> {
    let refuse = |detail: String| Err(ApiError::bad_request("invalid_value", detail, "/n"));
    let n = usize::try_from(n.unwrap_or(1)).unwrap_or(usize::MAX);
    let all = n.saturating_mul(prompts);
    if n == 0 || all > options.max_choices {
        return refuse(format!(
            "1 to {} completions for a request, not {all}",
            options.max_choices
        ));
    }
    let tokens = all.saturating_mul(max_tokens);
    if all > 1 && tokens > options.max_total_tokens {
        let most = options.max_total_tokens;
        return refuse(format!(
            "{all} completions of {max_tokens} tokens are {tokens} tokens, the limit is {most}"
        ));
    }
    Ok(n)
}

pub(crate) fn top_logprobs(k: usize, pointer: &str) -> ApiResult<usize> {
    if k > MAX_TOP_LOGPROBS {
        let detail = format!("at most {MAX_TOP_LOGPROBS} alternatives are reported, not {k}");
        return Err(ApiError::bad_request("invalid_value", detail, pointer));
    }
    Ok(k)
}

/// What is done with a parameter that no field reads.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Rule {
    /// It changes nothing here.
    NoEffect,
    /// A text that says who asks, or null.
    Client,
    /// Only these values, as JSON, or null; and why.
    Only(&'static [&'static str], &'static str),
}

/// Parameters that say who asks, the one that says it best first: clients that wait get places in turn.
const CLIENTS: [&str; 3] = ["safety_identifier", "user", "prompt_cache_key"];

/// Parameters that every generating endpoint has.
pub(crate) const COMMON: &[(&str, Rule)] = &[
    (CLIENTS[0], Rule::Client),
    (CLIENTS[1], Rule::Client),
    (CLIENTS[2], Rule::Client),
    ("prompt_cache_retention", Rule::NoEffect),
    (
        "service_tier",
        Rule::Only(&["\"auto\"", "\"default\""], "there is one tier"),
    ),
];

/// The parameters of a request that no field reads.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(transparent)]
pub(crate) struct Rest(Map<String, Value>);

impl Rest {
    /// Refuses what would change the answer if it were read, and what nobody knows.
    pub(crate) fn check(&self, rules: &[(&str, Rule)]) -> ApiResult<()> {
        for (name, value) in &self.0 {
            let pointer = format!("/{}", shown(name).replace('~', "~0").replace('/', "~1"));
            let rule = rules.iter().chain(COMMON).find(|(known, _)| known == name);
            match rule.map(|(_, rule)| rule) {
                Some(Rule::NoEffect) => {}
                Some(Rule::Client) if value.is_string() || value.is_null() => {}
                Some(Rule::Client) => {
                    let detail = format!("`{name}` is a text");
                    return Err(ApiError::bad_request("invalid_value", detail, &pointer));
                }
                Some(Rule::Only(values, why)) => {
                    if !value.is_null() && !values.contains(&value.to_string().as_str()) {
                        let detail = format!("this value of `{name}` is not supported: {why}");
                        return Err(ApiError::bad_request("unsupported_parameter", detail, &pointer));
                    }
                }
                None => {
                    let detail = format!("there is no parameter `{}`", shown(name));
                    return Err(ApiError::bad_request("unknown_parameter", detail, &pointer));
                }
            }
        }
        Ok(())
    }

    /// Who asks, as far as the request says so.
    pub(crate) fn client(&self) -> &str {
        let mut named = CLIENTS.iter().filter_map(|name| self.get(name)?.as_str());
        shown(named.find(|name| !name.is_empty()).unwrap_or_default())
    }

    /// A member, for answers that repeat the request.
    pub(crate) fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }
}

/// `stream_options.include_usage`.
pub(crate) fn wants_usage(options: Option<&Value>) -> ApiResult<bool> {
    let Some(options) = options.filter(|options| !options.is_null()) else {
        return Ok(false);
    };
    match (options.is_object(), &options["include_usage"]) {
        (true, Value::Null) => Ok(false),
        (true, Value::Bool(wanted)) => Ok(*wanted),
        _ => {
            let detail = "an object with `include_usage`, true or false";
            Err(ApiError::bad_request("invalid_value", detail, "/stream_options"))
        }
    }
}
