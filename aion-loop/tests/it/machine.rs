//! The step machine against random models, tools and interruptions.

use std::collections::BTreeMap;

use aion_loop::{
    Action, Budget, CallResult, CallStatus, ChatReply, FinishReason, Input, LoopRun, Outcome, Protocol,
    RunOptions, RunSnapshot, StateDiff,
};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::run::{at, reply, start, tools};

/// What the world does next, whatever it is asked for.
#[derive(Debug, Clone)]
enum Happens {
    Calls { count: usize, number: i64, tokens: u64 },
    BadCall,
    Words,
    Cut,
    Fails,
    Interrupted,
    NoUsage,
}

fn happens() -> impl Strategy<Value = Happens> {
    prop_oneof![
        6 => (1..4_usize, 0..3_i64, 0..2_000_u64)
            .prop_map(|(count, number, tokens)| Happens::Calls { count, number, tokens }),
        1 => Just(Happens::BadCall),
        1 => Just(Happens::Words),
        1 => Just(Happens::Cut),
        1 => Just(Happens::Fails),
        2 => Just(Happens::Interrupted),
        1 => Just(Happens::NoUsage),
    ]
}

fn answer(happens: &Happens, protocol: Protocol) -> Option<ChatReply> {
    let call = |number: i64| ("put_box", json!({"name": "a", "number": number}));
    let mut answer = match happens {
        Happens::Calls {
            count,
            number,
            tokens,
        } if protocol == Protocol::Native => {
            let mut answer = reply(
                "",
                &(0..*count as i64).map(|i| call(number + i)).collect::<Vec<_>>(),
            );
            answer.usage.prompt_tokens = Some(*tokens);
            answer
        }
        Happens::Calls { number, .. } => {
            let (action, arguments) = call(*number);
            reply(
                &json!({"action": action, "arguments": arguments}).to_string(),
                &[],
            )
        }
        Happens::BadCall => reply("", &[("put_box", json!({"name": 1}))]),
        Happens::Words => reply("The end.", &[]),
        Happens::NoUsage | Happens::Interrupted | Happens::Cut => reply("", &[call(1)]),
        Happens::Fails => return None,
    };
    match happens {
        Happens::Cut => answer.finish = FinishReason::Missing,
        Happens::NoUsage => answer.usage = Default::default(),
        _ => {}
    }
    Some(answer)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Whatever a model and a world do: no call comes from a reply whose end is unknown, ordinals have
    /// no gaps and keys no repetition, every call validates, tokens exceed the budget by one call at
    /// most, differences lead from state to state, an interruption changes nothing, and the run ends.
    #[test]
    fn invariants_hold(
        story in prop::collection::vec(happens(), 1..60),
        native in any::<bool>(),
        tokens in 500..20_000_u64,
        steps in 1..30_u32,
    ) {
        let protocol = if native { Protocol::Native } else { Protocol::JsonSchema };
        let options = RunOptions::default().with_protocol(protocol).with_budget(Budget { tokens, steps, seconds: 1_000 });
        let mut run = start(options);
        let mut world = json!({});
        let mut mirror = Value::Null;
        let mut used = 0;
        let mut largest_call = 0;
        let mut keys: BTreeMap<String, u64> = BTreeMap::new();
        let mut story = story.into_iter().cycle();
        let mut ended = false;
        for tick in 0..2_000 {
            let now = at(tick);
            let happens = story.next().unwrap();
            if matches!(happens, Happens::Interrupted) {
                let asked = run.next();
                let text = run.snapshot().to_json().unwrap();
                run = LoopRun::restore(RunSnapshot::from_json(&text).unwrap(), tools()).unwrap();
                run.wake(now);
                if !matches!(asked, Action::Done(Outcome::ModelFailed { .. })) {
                    prop_assert_eq!(&run.next(), &asked);
                }
            }
            match run.next() {
                Action::CallState => {
                    if mirror.is_null() {
                        mirror = world.clone();
                    }
                    run.feed(Input::Observed { state: world.clone(), shortlist: vec![] }, now).unwrap();
                }
                Action::CallModel(request) => {
                    let ledger = run.ledger();
                    prop_assert!(ledger.tokens_used() + ledger.tokens_reserved() <= tokens, "reserved beyond the budget");
                    prop_assert!(ledger.steps_used() <= steps);
                    prop_assert!(request.max_tokens >= 1);
                    let reserved = ledger.tokens_reserved();
                    match answer(&happens, protocol) {
                        Some(reply) => {
                            let cut = reply.finish == FinishReason::Missing;
                            let cost = reply.usage.total().unwrap_or(reserved);
                            used += cost;
                            largest_call = largest_call.max(cost);
                            run.feed(Input::Replied(Box::new(reply)), now).unwrap();
                            prop_assert!(!cut || !matches!(run.next(), Action::CallTools(_)), "a cut reply was dispatched");
                        }
                        None => run.feed(Input::ModelFailed { reason: "down".into() }, now).unwrap(),
                    }
                    prop_assert_eq!(run.ledger().tokens_used(), used, "the ledger differs from the usage");
                    prop_assert!(used <= tokens + largest_call);
                }
                Action::CallTools(calls) => {
                    for call in &calls {
                        let arguments = Value::Object(call.arguments.clone());
                        prop_assert_eq!(run.tools().validate(&call.tool, &arguments), Ok(()));
                        prop_assert_eq!(call.ordinal, keys.len() as u64, "a gap or a repetition");
                        prop_assert!(keys.insert(call.key.clone(), call.ordinal).is_none(), "a key was used twice");
                        world["a"] = call.arguments["number"].clone();
                    }
                    let done = |ordinal| CallResult { ordinal, status: CallStatus::Succeeded, answer: "ok".into() };
                    let results = calls.iter().map(|call| done(call.ordinal)).collect();
                    run.feed(Input::Called(results), now).unwrap();
                }
                Action::AppendDiff(diff) => {
                    diff.apply(&mut mirror).unwrap();
                    prop_assert_eq!(Some(&mirror), run.state());
                    run.feed(Input::Appended, now).unwrap();
                }
                Action::Done(_) => {
                    ended = true;
                    break;
                }
            }
        }
        prop_assert!(ended, "the run never ended");
    }

    /// The difference of two states, applied to the first, gives the second, also through JSON.
    #[test]
    fn diff_then_apply_is_the_state(before in value(), after in value()) {
        let diff = StateDiff::between(&before, &after);
        let stored: StateDiff = serde_json::from_str(&serde_json::to_string(&diff).unwrap()).unwrap();
        let mut state = before.clone();
        stored.apply(&mut state).unwrap();
        prop_assert_eq!(&state, &after);
        prop_assert_eq!(diff.is_empty(), before == after);
        let mut cut = before.clone();
        diff.limited(1, &after).apply(&mut cut).unwrap();
        prop_assert_eq!(cut, after);
    }
}

/// Any JSON of a few levels.
pub(crate) fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-5..5_i64).prop_map(Value::from),
        "[a-z/~é]{0,4}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 40, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::btree_map("[a-c/~]{0,2}", inner, 0..5)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}
