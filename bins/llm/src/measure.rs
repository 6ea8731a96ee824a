//! What Prometheus sees of the model.

use std::sync::Once;

use aion_llm::{Completion, EngineStats};
use metrics::{counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};

const PROMPT_TOKENS: &str = "aion_llm_prompt_tokens_total";
const COMPLETION_TOKENS: &str = "aion_llm_completion_tokens_total";
const REQUESTS: &str = "aion_llm_requests_total";
const PASSES: &str = "aion_llm_passes_total";
const PREFIX: &str = "aion_llm_prefix_lookups_total";
const EVICTIONS: &str = "aion_llm_prefix_evictions_total";
const ENTRIES: &str = "aion_llm_prefix_entries";
const WAITING: &str = "aion_llm_queue_depth";
const ACTIVE: &str = "aion_llm_active_sequences";
const CACHE: &str = "aion_llm_cache_bytes";
const FIRST_TOKEN: &str = "aion_llm_time_to_first_token_seconds";
const INTER_TOKEN: &str = "aion_llm_inter_token_seconds";

/// Says once what the numbers mean.
fn describe() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        describe_counter!(
            PROMPT_TOKENS,
            "Prompt tokens, by where they came from: computed, or cached."
        );
        describe_counter!(COMPLETION_TOKENS, "Tokens made.");
        describe_counter!(REQUESTS, "Sequences by how they ended, and requests refused.");
        describe_counter!(PASSES, "Passes over the weights.");
        describe_counter!(PREFIX, "Prompts by whether their beginning was still there.");
        describe_counter!(EVICTIONS, "Kept prompts dropped to stay within the memory bound.");
        describe_gauge!(ENTRIES, "Kept prompts.");
        describe_gauge!(WAITING, "Requests that wait for a place.");
        describe_gauge!(ACTIVE, "Sequences with a place, by what they do.");
        describe_gauge!(CACHE, "Bytes of keys and values.");
        describe_histogram!(FIRST_TOKEN, "Seconds from the request to its first token.");
        describe_histogram!(INTER_TOKEN, "Mean seconds between the tokens of a completion.");
    });
}

/// Records the times of a completion.
pub(crate) fn completed(completion: &Completion) {
    describe();
    let seconds = |ms: i64| ms.max(0) as f64 / 1000.0;
    let gaps = completion.tokens.len().saturating_sub(1);
    if !completion.tokens.is_empty() {
        histogram!(FIRST_TOKEN).record(seconds(completion.queued_ms + completion.prefill_ms));
    }
    if gaps > 0 {
        histogram!(INTER_TOKEN).record_many(seconds(completion.decode_ms) / gaps as f64, gaps);
    }
}

/// Brings counters and gauges up to the engine's.
pub(crate) fn publish(stats: &EngineStats) {
    describe();
    counter!(PROMPT_TOKENS, "source" => "computed").absolute(stats.read_tokens);
    counter!(PROMPT_TOKENS, "source" => "cached").absolute(stats.prefix.reused_tokens);
    counter!(COMPLETION_TOKENS).absolute(stats.written_tokens);
    let outcomes = [
        ("completed", stats.completed),
        ("cancelled", stats.cancelled),
        ("failed", stats.failed),
        ("refused", stats.refused),
    ];
    for (outcome, count) in outcomes {
        counter!(REQUESTS, "outcome" => outcome).absolute(count);
    }
    counter!(PASSES).absolute(stats.passes);
    counter!(PREFIX, "result" => "hit").absolute(stats.prefix.hits);
    counter!(PREFIX, "result" => "miss").absolute(stats.prefix.misses);
    counter!(EVICTIONS).absolute(stats.prefix.evictions);
    gauge!(ENTRIES).set(stats.prefix.entries as f64);
    gauge!(WAITING).set(stats.waiting as f64);
    gauge!(ACTIVE, "state" => "reading").set(stats.reading as f64);
    gauge!(ACTIVE, "state" => "writing").set(stats.writing as f64);
    let bytes = [
        ("limit", stats.cache.limit),
        ("reserved", stats.cache.reserved),
        ("used", stats.cache.used),
        ("kept", stats.cache.kept),
    ];
    for (kind, bytes) in bytes {
        gauge!(CACHE, "kind" => kind).set(bytes as f64);
    }
}
