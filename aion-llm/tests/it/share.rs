//! Many requests on one model: what they share, and what they must not notice of each other.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aion_llm::testkit::{Faults, TinyModel};
use aion_llm::{
    Completion, Engine, EngineOptions, EngineStats, Error, FinishReason, GenerateRequest, OutputFormat,
    PrefixReuse, Progress, Prompt, Sampling, StreamEvent, Ticket,
};
use proptest::prelude::*;
use serde_json::json;

const TEXT: &str =
    "When the river rises the ferry does not run, and the post waits on the other side until it falls.";

/// Bytes of one position of the tiny model: two layers of keys and values, 16 wide, in 32-bit floats.
const POSITION: usize = 2 * 2 * 16 * 4;

fn options() -> EngineOptions {
    EngineOptions::default().with_threads(2).with_prefill_chunk(16)
}

fn load(options: EngineOptions) -> Engine {
    Engine::load(&TinyModel::random(1).endless().source(), options).unwrap()
}

fn faulty(options: EngineOptions) -> (Engine, Arc<Faults>) {
    let faults = Faults::new();
    (load(options.with_faults(Arc::clone(&faults))), faults)
}

fn ask(prompt: &str, tokens: usize) -> GenerateRequest {
    GenerateRequest::new(Prompt::Text(prompt.into())).with_max_tokens(tokens)
}

fn warm(seed: u64) -> Sampling {
    Sampling::greedy().with_temperature(1.3).unwrap().with_seed(seed)
}

/// Waits until the engine says so.
fn until(engine: &Engine, what: impl Fn(&EngineStats) -> bool) -> EngineStats {
    let begun = Instant::now();
    loop {
        let stats = engine.stats();
        if what(&stats) {
            return stats;
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "{stats:?}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn at_rest(stats: &EngineStats) -> bool {
    stats.waiting + stats.reading + stats.writing + stats.cache.reserved + stats.cache.used == 0
}

/// Requests of every kind, all different.
fn requests() -> Vec<GenerateRequest> {
    let schema = json!({"type": "object", "properties": {"sure": {"type": "boolean"}}, "required": ["sure"],
        "additionalProperties": false});
    let mut all: Vec<GenerateRequest> = (0..12)
        .map(|i| {
            let from = i * 5;
            ask(&TEXT[from..], 5 + 3 * i)
                .with_sampling(warm(i as u64))
                .with_top_logprobs(i % 3)
        })
        .collect();
    all.push(ask(TEXT, 30).with_format(OutputFormat::JsonSchema(schema)));
    all.push(ask(&TEXT.repeat(3), 8));
    all.push(ask("x", 60).with_stop(["e".to_owned()]));
    all
}

fn essence(completion: &Completion) -> impl PartialEq + std::fmt::Debug + use<> {
    let Completion {
        text,
        tokens,
        finish,
        prompt_tokens,
        persistence,
        ..
    } = completion.clone();
    (text, tokens, finish, prompt_tokens, persistence)
}

/// What a request gets does not depend on who else runs: bit for bit, whatever shares its passes.
#[test]
fn together_is_the_same_as_alone() {
    for reuse in [PrefixReuse::Exact, PrefixReuse::Off] {
        let load = |options| Engine::load(&TinyModel::random(1).source(), options).unwrap();
        let alone = load(options().with_prefix_reuse(PrefixReuse::Off));
        let alone: Vec<_> = requests()
            .iter()
            .map(|r| essence(&alone.complete(r).unwrap()))
            .collect();
        let faults = Faults::new();
        let shared = options().with_sequences(8).with_prefix_reuse(reuse);
        let engine = load(shared.with_faults(Arc::clone(&faults)));
        let tickets: Vec<Ticket> = requests().iter().map(|r| engine.start(r).unwrap()).collect();
        for (ticket, alone) in tickets.into_iter().zip(&alone) {
            assert_eq!(&essence(&ticket.wait().unwrap()), alone);
        }
        assert!(
            faults.passes().iter().any(|pass| pass.len() >= 6),
            "passes were shared"
        );
        let scores = engine.score_text(TEXT).unwrap();
        let alone = load(options()).score_text(TEXT).unwrap();
        assert_eq!(scores, alone);
    }
}

/// A long prompt delays those who write by at most one chunk a pass, and they run in every pass.
#[test]
fn a_long_prompt_stalls_nobody() {
    let (engine, faults) = faulty(options());
    faults.hold();
    let mut writers: Vec<Ticket> = (0..3)
        .map(|i| engine.start(&ask(&TEXT[i..20], 300)).unwrap())
        .collect();
    faults.allow(12);
    until(&engine, |stats| stats.writing == 3);
    let before = faults.passes().len();
    let long = engine.start(&ask(&TEXT.repeat(4), 1)).unwrap();
    faults.release();
    let long = long.wait().unwrap();
    let passes = faults.passes();
    let mixed: Vec<_> = passes[before..].iter().filter(|pass| pass.len() == 4).collect();
    assert!(mixed.len() >= long.prompt_tokens / 16, "{mixed:?}");
    for pass in mixed {
        assert_eq!(
            pass.iter().filter(|rows| **rows == 1).count().min(3),
            3,
            "{pass:?}"
        );
        assert!(pass.iter().sum::<usize>() <= 16 + 3, "{pass:?}");
    }
    writers.iter_mut().for_each(|ticket| ticket.cancel());
    let ends = writers.into_iter().map(|ticket| ticket.wait().unwrap().finish);
    // On a fast machine they may have written all before they were told to stop.
    let ended = |finish| matches!(finish, FinishReason::Cancelled | FinishReason::Length);
    assert!(ends.into_iter().all(ended));
}

/// A short prompt does not wait for the end of a long one that came before.
#[test]
fn a_short_prompt_overtakes_a_long_one() {
    let (engine, faults) = faulty(options());
    faults.hold();
    let long = engine.start(&ask(&TEXT.repeat(4), 1)).unwrap();
    let short = engine.start(&ask("the inn", 1)).unwrap();
    until(&engine, |stats| stats.reading == 2 || stats.waiting == 1);
    faults.allow(5);
    assert_eq!(short.wait().unwrap().tokens.len(), 1);
    assert_eq!(engine.stats().reading, 1, "the long one is still being read");
    faults.release();
    long.wait().unwrap();
}

#[test]
fn dropped_requests_leave_no_work() {
    let engine = load(options().with_sequences(8));
    let tickets: Vec<Ticket> = (0..100)
        .map(|i| engine.start(&ask(&TEXT[i % 50..], 400)).unwrap())
        .collect();
    until(&engine, |stats| stats.written_tokens > 20);
    drop(tickets);
    let stats = until(&engine, at_rest);
    assert_eq!((stats.cancelled, stats.failed), (100, 0));
    let passes = engine.stats().passes;
    std::thread::sleep(Duration::from_millis(30));
    assert_eq!(engine.stats().passes, passes, "nothing runs for nobody");
}

#[test]
fn a_full_queue_says_when_to_come_back() {
    let (engine, faults) = faulty(options().with_sequences(1).with_queue(1));
    faults.hold();
    let running = engine.start(&ask(TEXT, 4)).unwrap();
    until(&engine, |stats| stats.reading == 1);
    let waiting = engine.start(&ask("x", 4)).unwrap();
    let Err(Error::Busy {
        waiting: 1,
        retry_after_s,
    }) = engine.start(&ask("y", 4))
    else {
        panic!("a third request has no room")
    };
    assert!((1..=60).contains(&retry_after_s));
    assert!(matches!(engine.score_text(TEXT), Err(Error::Busy { .. })));
    assert!(
        !Error::Busy {
            waiting: 1,
            retry_after_s
        }
        .is_bad_request()
    );
    engine.limit_queue(2);
    let third = engine.start(&ask("y", 4)).unwrap();
    faults.release();
    for ticket in [running, waiting, third] {
        assert_eq!(ticket.wait().unwrap().tokens.len(), 4);
    }
    assert_eq!((engine.stats().refused, engine.stats().requests), (2, 3));
}

/// Clients that wait get places in turn.
#[test]
fn one_client_with_many_requests_keeps_nobody_out() {
    let (engine, faults) = faulty(options().with_sequences(1));
    faults.hold();
    let first = engine.start(&ask("x", 1)).unwrap();
    until(&engine, |stats| stats.reading == 1);
    let greedy: Vec<Ticket> = (0..20)
        .map(|_| engine.start(&ask("y", 1).with_client("greedy")).unwrap())
        .collect();
    let modest = engine.start(&ask("z", 1).with_client("modest")).unwrap();
    // One pass for each: the first, one of the greedy client, and the modest client's.
    faults.allow(3);
    first.wait().unwrap();
    modest.wait().unwrap();
    faults.release();
    assert!(greedy.into_iter().all(|ticket| ticket.wait().is_ok()));
}

/// Scores and embeddings wait in their clients' lanes too.
#[test]
fn readers_take_turns_as_writers_do() {
    let (engine, faults) = faulty(options().with_sequences(1));
    faults.hold();
    let first = engine.start(&ask("x", 1)).unwrap();
    until(&engine, |stats| stats.reading == 1);
    let tokens = engine.text_tokens("the inn").unwrap();
    let scores: Vec<_> = (0..9)
        .map(|_| engine.start_score_for("greedy", &tokens, 0).unwrap())
        .collect();
    let texts = vec![tokens.clone(); 9];
    let vectors = engine.start_embed_all("greedy", &texts).unwrap();
    let modest = engine.start_embed_all("modest", &texts[..1]).unwrap();
    faults.allow(3);
    first.wait().unwrap();
    let expected = modest
        .into_iter()
        .map(|ticket| ticket.wait().unwrap())
        .next()
        .unwrap();
    faults.release();
    assert!(scores.into_iter().all(|ticket| ticket.wait().is_ok()));
    for ticket in vectors {
        assert_eq!(ticket.wait().unwrap(), expected);
    }
    let unknown = engine
        .start_embed_all("", &[vec![1], vec![u32::MAX]])
        .unwrap_err();
    assert!(unknown.is_bad_request());
    assert_eq!(until(&engine, at_rest).waiting, 0);
}

/// A request that is still being read takes as many places as it has completions.
#[test]
fn several_completions_take_several_places() {
    let (engine, faults) = faulty(options().with_sequences(3).with_queue(0));
    faults.hold();
    let three = engine.start_many(&ask("the inn", 2), 3).unwrap();
    until(&engine, |stats| stats.reading == 1);
    assert!(matches!(engine.start(&ask("x", 1)), Err(Error::Busy { .. })));
    assert!(matches!(engine.check_room(), Err(Error::Busy { .. })));
    faults.release();
    assert!(three.into_iter().all(|ticket| ticket.wait().is_ok()));
    until(&engine, at_rest);
    let two = engine.start_many(&ask("the inn", 2), 2).unwrap();
    assert!(two.into_iter().all(|ticket| ticket.wait().is_ok()));
}

#[test]
fn the_memory_is_bounded_and_what_can_never_fit_is_said() {
    let limit = 1000 * POSITION;
    let engine = load(options().with_cache_bytes(limit));
    let error = engine.complete_many(&ask(TEXT, 400), 3).unwrap_err();
    assert!(
        matches!(error, Error::CacheFull { needed, limit: l } if needed > l && l == limit),
        "{error}"
    );
    assert!(
        error.is_bad_request() && error.to_string().contains("MiB"),
        "{error}"
    );
    // Without a number the completion takes what there is.
    let free = engine
        .complete(&GenerateRequest::new(Prompt::Text(TEXT.into())))
        .unwrap();
    assert!(free.finish == FinishReason::Length && free.tokens.len() > 100);
    let tickets: Vec<Ticket> = (0..40)
        .map(|i| engine.start(&ask(&TEXT[i..], 20)).unwrap())
        .collect();
    let mut most = 0;
    for mut ticket in tickets {
        while let Some(progress) = ticket.recv() {
            let stats = engine.stats();
            assert!(stats.cache.reserved + stats.cache.kept <= limit, "{stats:?}");
            assert!(stats.cache.used <= stats.cache.reserved, "{stats:?}");
            most = most.max(stats.writing + stats.reading);
            assert!(!matches!(progress, Progress::Failed(_)), "{progress:?}");
        }
    }
    // As many as there are pages of 64 positions, at the most.
    assert!((2..=20).contains(&most), "{most} fit at once");
    assert!(until(&engine, at_rest).prefix.evictions > 0);
}

#[test]
fn a_model_that_does_not_fit_is_said_before_it_is_loaded() {
    let options = options().with_cache_bytes(usize::MAX / 2);
    let error = Engine::load(&TinyModel::random(1).source(), options).unwrap_err();
    assert!(matches!(error, Error::OutOfMemory { .. }), "{error}");
    assert!(error.to_string().matches("MiB").count() == 3, "{error}");
}

/// Requests that come together and begin the same read the beginning once.
#[test]
fn a_common_beginning_is_read_once() {
    let (engine, faults) = faulty(options());
    faults.hold();
    let prompts: Vec<String> = (0..6)
        .map(|i| format!("{}{i} and so on", TEXT.repeat(2)))
        .collect();
    let tickets: Vec<Ticket> = prompts
        .iter()
        .map(|p| engine.start(&ask(p, 3)).unwrap())
        .collect();
    faults.release();
    let completions: Vec<Completion> = tickets.into_iter().map(|t| t.wait().unwrap()).collect();
    let total: usize = completions.iter().map(|c| c.prompt_tokens).sum();
    let stats = engine.stats();
    assert_eq!(stats.prefix.hits + stats.prefix.misses, 6);
    assert_eq!(stats.read_tokens + stats.prefix.reused_tokens, total as u64);
    let cached: usize = completions.iter().map(|c| c.cached_tokens).sum();
    assert_eq!(cached as u64, stats.prefix.reused_tokens);
    assert!(
        stats.prefix.hits == 5 && stats.read_tokens < total as u64 / 3,
        "{stats:?}"
    );
    let cold = load(options().with_prefix_reuse(PrefixReuse::Off));
    for (prompt, completion) in prompts.iter().zip(&completions) {
        assert_eq!(
            essence(&cold.complete(&ask(prompt, 3)).unwrap()),
            essence(completion)
        );
    }
}

#[test]
fn several_completions_of_one_prompt_read_it_once() {
    let engine = load(options().with_prefix_reuse(PrefixReuse::Off));
    let request = ask(TEXT, 12).with_sampling(warm(40));
    let many = engine.complete_many(&request, 4).unwrap();
    let read = engine.stats().read_tokens;
    assert_eq!(read, many[0].prompt_tokens as u64);
    for (i, completion) in many.iter().enumerate() {
        let single = engine
            .complete(&request.clone().with_sampling(warm(40 + i as u64)))
            .unwrap();
        assert_eq!(essence(&single), essence(completion), "choice {i}");
    }
    assert_ne!(many[0].tokens, many[1].tokens);
    for n in [0, 17, usize::MAX] {
        assert!(matches!(
            engine.complete_many(&request, n),
            Err(Error::Request { field: "n", .. })
        ));
    }
}

/// One of several completions may leave while the prompt is read, and after.
#[test]
fn one_of_several_completions_may_leave() {
    let (engine, faults) = faulty(options());
    faults.hold();
    let mut tickets = engine
        .start_many(&ask(TEXT, 200).with_sampling(warm(1)), 3)
        .unwrap();
    drop(tickets.remove(0));
    faults.release();
    drop(tickets.remove(0));
    let alone = engine.complete(&ask(TEXT, 200).with_sampling(warm(3))).unwrap();
    let last = tickets.remove(0).wait().unwrap();
    assert_eq!(last.tokens, alone.tokens);
    assert_eq!(until(&engine, at_rest).cancelled, 2);
}

#[test]
fn a_panic_takes_only_its_own_pass() {
    let (engine, faults) = faulty(options().with_sequences(2));
    let expected = engine.complete(&ask(TEXT, 6)).unwrap();
    faults.hold();
    let same_pass = engine
        .start_all(&[ask("the inn", 6), ask("boom!", 6)], 1)
        .unwrap();
    let after = engine.start(&ask(TEXT, 6)).unwrap();
    until(&engine, |stats| stats.waiting == 1);
    faults.panic_at(b'!'.into());
    faults.release();
    for ticket in same_pass {
        assert!(matches!(ticket.wait(), Err(Error::Panicked(reason)) if reason.contains("asked for")));
    }
    let after = after.wait().unwrap();
    assert_eq!(after.tokens, expected.tokens);
    assert!(after.cached_tokens > 0, "what was kept before is still good");
    assert_eq!(until(&engine, at_rest).failed, 2);
}

#[test]
fn logits_that_are_no_numbers_end_one_sequence() {
    let (engine, faults) = faulty(options());
    faults.break_at(b'!'.into());
    faults.hold();
    let sound = engine.start(&ask("the inn", 6)).unwrap();
    let broken = engine.start(&ask("boom!", 6)).unwrap();
    faults.release();
    assert!(matches!(broken.wait(), Err(Error::Numeric(_))));
    assert_eq!(sound.wait().unwrap().tokens.len(), 6);
    assert_eq!(until(&engine, at_rest).failed, 1);
}

#[test]
fn a_request_outlives_the_engine_that_took_it() {
    let engine = load(options());
    let ticket = engine.start(&ask(TEXT, 20)).unwrap();
    drop(engine);
    assert_eq!(ticket.wait().unwrap().tokens.len(), 20);
}

#[test]
fn a_listener_that_has_enough_gets_what_it_heard() {
    let engine = load(options());
    let (mut text, mut left) = (String::new(), 5);
    let completion = engine.generate(&ask(TEXT, 200), &mut |event| {
        if let StreamEvent::Token(token) = event {
            text += &token.text;
            left -= 1;
        }
        if left == 0 {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    });
    let completion = completion.unwrap();
    assert_eq!((completion.tokens.len(), &completion.text), (5, &text));
    assert_eq!(completion.persistence.unwrap().n, 5);
    assert_eq!(completion.finish, FinishReason::Cancelled);
}

/// Threads that ask for everything at once, some going away: all get their answer, and nothing is left behind.
#[test]
fn many_threads_at_once() {
    let engine = load(
        options()
            .with_sequences(5)
            .with_cache_bytes(2500 * POSITION)
            .with_queue(1000),
    );
    let expected = engine.complete(&ask(TEXT, 10)).unwrap().tokens;
    let vector = engine.embed(TEXT).unwrap();
    let scores = engine.score_text(TEXT).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..12usize {
            let (engine, expected, vector, scores) = (&engine, &expected, &vector, &scores);
            scope.spawn(move || {
                for round in 0..6 {
                    match (thread + round) % 5 {
                        0 => assert_eq!(&engine.complete(&ask(TEXT, 10)).unwrap().tokens, expected),
                        1 => assert_eq!(&engine.embed(TEXT).unwrap(), vector),
                        2 => assert_eq!(&engine.score_text(TEXT).unwrap(), scores),
                        3 => drop(engine.start(&ask(&TEXT[thread..], 300)).unwrap()),
                        _ => {
                            let many = engine.complete_many(&ask(TEXT, 10), 3).unwrap();
                            assert!(many.iter().all(|completion| &completion.tokens == expected));
                        }
                    }
                }
            });
        }
    });
    let stats = until(&engine, at_rest);
    assert_eq!(stats.failed, 0);
    assert!(stats.prefix.hits > 0 && stats.cache.kept <= stats.cache.limit);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whatever comes in whatever order, bytes stay within the bound, every request ends, and the tokens computed and
    /// reused are those of the prompts.
    #[test]
    fn the_books_are_right(
        limit in 150usize..900, longest: bool, sequences in 1usize..6,
        asked in proptest::collection::vec((0usize..40, 1usize..3, 1usize..40, 1usize..4), 1..14),
    ) {
        let reuse = if longest { PrefixReuse::Longest } else { PrefixReuse::Exact };
        let options = options().with_sequences(sequences).with_prefix_reuse(reuse).with_threads(1);
        let engine = load(options.with_cache_bytes(limit * POSITION));
        let mut prompts = 0;
        let mut tickets = Vec::new();
        for (from, times, tokens, n) in asked {
            let request = ask(&TEXT.repeat(times)[from..], tokens);
            match engine.start_many(&request, n) {
                Ok(more) => {
                    prompts += engine.prompt_tokens(&Prompt::Text(TEXT.repeat(times)[from..].into()))?.len();
                    tickets.extend(more.into_iter().map(|ticket| (ticket, tokens)));
                }
                Err(Error::CacheFull { needed, limit: l }) => prop_assert!(needed > l),
                Err(Error::Request { field: "n", .. }) => prop_assert!(n > sequences),
                Err(error) => return Err(TestCaseError::fail(error.to_string())),
            }
        }
        for (ticket, tokens) in tickets {
            prop_assert_eq!(ticket.wait()?.tokens.len(), tokens);
            let stats = engine.stats();
            prop_assert!(stats.cache.reserved + stats.cache.kept <= limit * POSITION);
            prop_assert!(stats.cache.used <= stats.cache.reserved);
        }
        let stats = until(&engine, at_rest);
        prop_assert_eq!(stats.read_tokens + stats.prefix.reused_tokens, prompts as u64);
    }
}

/// The prompts of one request wait together or not at all, whichever of them is in the way.
#[test]
fn several_prompts_get_in_together_or_not_at_all() {
    let (engine, faults) = faulty(options().with_sequences(1).with_queue(2));
    faults.hold();
    let first = engine.start(&ask("x", 4)).unwrap();
    until(&engine, |stats| stats.reading == 1);
    let many: Vec<GenerateRequest> = (0..4).map(|i| ask(&TEXT[i..], 4)).collect();
    assert!(matches!(engine.start_all(&many[..3], 1), Err(Error::Busy { .. })));
    let for_ever = engine.start_all(&many, 1);
    assert!(
        matches!(for_ever, Err(Error::Request { field: "prompt", .. })),
        "{for_ever:?}"
    );
    let one_is_bad = [ask("x", 4), ask("x", 0)];
    assert!(engine.start_all(&one_is_bad, 1).is_err());
    let one_is_large = [ask("x", 4), ask(&TEXT.repeat(20), 4)];
    assert!(engine.start_all(&one_is_large, 1).is_err());
    let stats = engine.stats();
    assert_eq!((stats.waiting, stats.requests, stats.refused), (0, 1, 1));
    let two = engine.start_all(&many[..2], 1).unwrap();
    assert_eq!((engine.stats().waiting, engine.stats().requests), (2, 2));
    faults.release();
    first.wait().unwrap();
    for (ticket, request) in two.into_iter().zip(&many) {
        assert_eq!(
            essence(&ticket.wait().unwrap()),
            essence(&engine.complete(request).unwrap())
        );
    }
    assert!(engine.start_all(&[], 1).unwrap().is_empty());
}

/// Equal formats of one request are compiled once, and each completion goes through its own copy.
#[test]
fn a_grammar_is_compiled_once_for_all_completions() {
    let engine = Engine::load(&TinyModel::random(1).source(), options()).unwrap();
    let schema =
        json!({"type": "array", "items": {"enum": ["red", "green", "blue"]}, "minItems": 3, "maxItems": 9});
    let request = |seed: u64| {
        ask(TEXT, 40)
            .with_format(OutputFormat::JsonSchema(schema.clone()))
            .with_sampling(warm(seed))
    };
    let alone: Vec<_> = (0..5)
        .map(|seed| essence(&engine.complete(&request(seed)).unwrap()))
        .collect();
    assert_eq!(engine.stats().grammars, 5);
    let together = engine.complete_many(&request(0), 5).unwrap();
    assert_eq!(engine.stats().grammars, 6);
    assert!(together.iter().map(essence).eq(alone));
    let mut texts: Vec<_> = together.iter().map(|completion| &completion.text).collect();
    texts.sort_unstable();
    texts.dedup();
    assert!(texts.len() > 1, "{texts:?}");
    let requests = [request(1), request(2), ask(TEXT, 3), request(3), request(4)];
    let all = engine.start_all(&requests, 2).unwrap();
    assert_eq!((all.len(), engine.stats().grammars), (10, 8));
    for ticket in all {
        ticket.wait().unwrap();
    }
}

/// A teacher reads what the model reads, in the same chunks, once for all completions of a prompt; its keys and values
/// count.
#[test]
fn a_teacher_shares_passes_prompts_and_the_bound() {
    let pupil = || TinyModel::random(1).endless().source();
    let held = |options: EngineOptions| {
        let faults = Faults::new();
        let options = options.with_faults(Arc::clone(&faults));
        (Engine::load(&pupil(), options).unwrap(), faults)
    };
    let prompt = TEXT.repeat(3);
    let reserved = |options: EngineOptions| {
        let (engine, faults) = held(options);
        faults.hold();
        let ticket = engine.start(&ask(&prompt, 6)).unwrap();
        let stats = until(&engine, |stats| stats.reading == 1);
        drop(ticket);
        faults.release();
        stats.cache.reserved
    };
    let (alone, taught) = (reserved(options()), reserved(options().with_teacher(pupil())));
    assert_eq!(taught, 2 * alone);
    let (engine, _) = held(options().with_teacher(pupil()).with_cache_bytes(2 * alone - 1));
    assert!(matches!(
        engine.complete(&ask(&prompt, 6)),
        Err(Error::CacheFull { .. })
    ));

    let (engine, faults) = held(options().with_teacher(pupil()));
    // What is only embedded the teacher does not read, so it has nothing to give to a completion.
    engine.embed(&prompt).unwrap();
    assert_eq!(engine.stats().teacher_tokens, 0);
    let request = ask(&prompt, 6).with_sampling(warm(4));
    let completions = engine.complete_many(&request, 4).unwrap();
    let read = completions[0].prompt_tokens;
    assert_eq!(engine.stats().teacher_tokens, (read + 4 * 5) as u64);
    assert!(faults.passes().iter().flatten().all(|rows| *rows <= 16));
    for completion in &completions {
        // The same weights, the same sums: exactly.
        let summary = completion.persistence.unwrap();
        assert_eq!((summary.r_min, summary.r_harm, summary.n), (1.0, 1.0, 6));
    }
    let before = engine.stats().teacher_tokens;
    let again = engine.complete(&request).unwrap();
    assert!(again.cached_tokens >= 64);
    assert_eq!(
        engine.stats().teacher_tokens - before,
        (read - again.cached_tokens + 5) as u64
    );
    assert_eq!(essence(&again), essence(&completions[0]));
    until(&engine, at_rest);
}
