//! The step machine, case by case.

use aion_loop::{
    Action, Budget, BudgetPart, CallResult, CallStatus, ChatReply, ChatRequest, Claim, Error, FinishReason,
    Input, LoopRun, OnAmbiguous, Outcome, PlannedCall, Protocol, RunOptions, RunSnapshot, Toolset, Usage,
    tools_from_openapi,
};
use aion_types::{Role, RunId, TaskId, Timestamp, ToolCall};
use serde_json::{Value, json};

use crate::world;

pub(crate) fn at(ms: i64) -> Timestamp {
    Timestamp::from_ms(ms)
}

pub(crate) fn tools() -> Toolset {
    let derived = tools_from_openapi(&world::document(), "shelf", &Default::default()).unwrap();
    Toolset::new(derived.tools).unwrap()
}

pub(crate) fn start(options: RunOptions) -> LoopRun {
    let ids = (
        TaskId::from_parts(at(1), [1; 10]),
        RunId::from_parts(at(2), [2; 10]),
    );
    LoopRun::new(ids, "Put 7 into box a", options, tools(), at(0))
}

pub(crate) fn reply(text: &str, calls: &[(&str, Value)]) -> ChatReply {
    ChatReply {
        text: text.to_owned(),
        reasoning: String::new(),
        tool_calls: calls
            .iter()
            .map(|(name, arguments)| ToolCall {
                id: "same".into(),
                name: (*name).to_owned(),
                arguments: arguments
                    .as_str()
                    .map_or_else(|| arguments.to_string(), str::to_owned),
            })
            .collect(),
        finish: FinishReason::Stop,
        usage: Usage {
            prompt_tokens: Some(100),
            completion_tokens: Some(10),
            ..Usage::default()
        },
        model: None,
    }
}

fn observe(run: &mut LoopRun, state: Value) {
    assert_eq!(run.next(), Action::CallState);
    run.feed(
        Input::Observed {
            state,
            shortlist: vec![],
        },
        at(1),
    )
    .unwrap();
}

fn request(run: &mut LoopRun) -> ChatRequest {
    match run.next() {
        Action::CallModel(request) => *request,
        other => panic!("{other:?}"),
    }
}

fn replied(run: &mut LoopRun, reply: ChatReply) {
    request(run);
    run.feed(Input::Replied(Box::new(reply)), at(2)).unwrap();
}

fn calls(run: &mut LoopRun) -> Vec<PlannedCall> {
    match run.next() {
        Action::CallTools(calls) => calls,
        other => panic!("{other:?}"),
    }
}

fn done(run: &mut LoopRun) -> Outcome {
    match run.next() {
        Action::Done(outcome) => outcome,
        other => panic!("{other:?}"),
    }
}

pub(crate) fn results(calls: &[PlannedCall], status: CallStatus) -> Input {
    let result = |call: &PlannedCall| CallResult {
        ordinal: call.ordinal,
        status,
        answer: "ok".into(),
    };
    Input::Called(calls.iter().map(result).collect())
}

fn put(number: i64) -> (&'static str, Value) {
    ("put_box", json!({"name": "a", "number": number}))
}

#[test]
fn one_task_goes_round() {
    let mut run = start(RunOptions::default());
    observe(&mut run, json!({"shelf": {"boxes": {}}}));
    replied(&mut run, reply("I put it.", &[put(7)]));
    let planned = calls(&mut run);
    assert_eq!(planned[0].arguments["number"], 7);
    run.feed(results(&planned, CallStatus::Succeeded), at(3)).unwrap();
    observe(&mut run, json!({"shelf": {"boxes": {"a": 7}}}));
    let Action::AppendDiff(diff) = run.next() else {
        panic!()
    };
    assert_eq!(diff.render(9), "+ shelf.boxes.a: 7");
    run.feed(Input::Appended, at(4)).unwrap();
    let prompt = request(&mut run);
    let roles: Vec<Role> = prompt.messages.iter().map(|message| message.role).collect();
    assert_eq!(
        roles,
        [Role::System, Role::User, Role::Assistant, Role::Tool, Role::User]
    );
    assert!(
        prompt.messages[4]
            .content
            .starts_with("Changed:\n+ shelf.boxes.a: 7\nState: ")
    );
    replied(
        &mut run,
        reply(
            "",
            &[("finish", json!({"status": "SUCCESS", "summary": "7 is in a"}))],
        ),
    );
    let outcome = done(&mut run);
    assert_eq!(
        outcome,
        Outcome::Finished {
            claim: Claim::Success,
            summary: "7 is in a".into()
        }
    );
    assert_eq!(run.ledger().tokens_used(), 220);
    assert_eq!(run.steps(), (1, 1));
    let kinds: Vec<Role> = run.unsaved().iter().map(|unsaved| unsaved.message.role).collect();
    assert_eq!(
        kinds,
        [
            Role::User,
            Role::Assistant,
            Role::Tool,
            Role::User,
            Role::Assistant
        ]
    );
}

#[test]
fn nothing_is_dispatched_before_the_end_of_a_reply_is_known() {
    let mut run = start(RunOptions::default());
    observe(&mut run, json!({}));
    let cut = ChatReply {
        finish: FinishReason::Missing,
        ..reply("", &[put(7)])
    };
    replied(&mut run, cut);
    assert!(matches!(run.next(), Action::CallModel(_)));
    assert!(run.refusal().unwrap().contains("broke off"));
}

#[test]
fn a_broken_call_is_repaired_once_and_then_given_up() {
    let mut run = start(RunOptions {
        repairs: 1,
        ..RunOptions::default()
    });
    observe(&mut run, json!({}));
    replied(&mut run, reply("", &[("put_box", json!("{\"name\": \"a\", "))]));
    let prompt = request(&mut run);
    let history = &prompt.messages[2..];
    assert_eq!(
        history[0].tool_calls[0].arguments, "{}",
        "broken arguments must not go back to a server"
    );
    assert!(history[1].content.contains("not JSON"), "{}", history[1].content);
    assert_eq!(history[1].tool_call_id, Some(history[0].tool_calls[0].id.clone()));
    replied(
        &mut run,
        reply("", &[("put_box", json!({"name": "a", "number": "seven"}))]),
    );
    let Outcome::Unusable { reason } = done(&mut run) else {
        panic!()
    };
    assert!(reason.contains("/number"), "{reason}");
}

#[test]
fn a_good_answer_forgives_earlier_ones() {
    let mut run = start(RunOptions {
        repairs: 1,
        ..RunOptions::default()
    });
    observe(&mut run, json!({}));
    for number in 0..3 {
        replied(&mut run, reply("", &[("no_such_tool", json!({}))]));
        replied(&mut run, reply("", &[put(number)]));
        let planned = calls(&mut run);
        run.feed(results(&planned, CallStatus::Succeeded), at(3)).unwrap();
        observe(&mut run, json!({"n": number}));
        run.next();
        if matches!(run.next(), Action::AppendDiff(_)) {
            run.feed(Input::Appended, at(3)).unwrap();
        }
    }
    assert!(run.outcome().is_none());
}

#[test]
fn the_same_call_without_any_change_is_a_stall() {
    let mut run = start(RunOptions {
        stall_after: 3,
        ..RunOptions::default()
    });
    observe(&mut run, json!({}));
    for time in 1..=3 {
        replied(&mut run, reply("", &[("get_box", json!({"name": "a"}))]));
        let planned = calls(&mut run);
        run.feed(results(&planned, CallStatus::Succeeded), at(3)).unwrap();
        observe(&mut run, json!({}));
        run.feed(Input::Appended, at(3)).unwrap();
        assert_eq!(run.outcome().is_some(), time == 3, "after {time}");
    }
    assert_eq!(done(&mut run), Outcome::Stalled { times: 3 });
}

#[test]
fn different_calls_without_change_are_no_stall() {
    let mut run = start(RunOptions {
        stall_after: 2,
        ..RunOptions::default()
    });
    observe(&mut run, json!({}));
    for name in ["a", "b", "c", "d", "e"] {
        replied(&mut run, reply("", &[("get_box", json!({"name": name}))]));
        let planned = calls(&mut run);
        run.feed(results(&planned, CallStatus::Succeeded), at(3)).unwrap();
        observe(&mut run, json!({}));
        run.feed(Input::Appended, at(3)).unwrap();
    }
    assert!(run.outcome().is_none());
}

#[test]
fn every_part_of_the_budget_ends_a_run() {
    let few = |budget| RunOptions::default().with_budget(budget);
    let wide = Budget {
        tokens: 1_000_000,
        steps: 100,
        seconds: 100,
    };
    for (budget, part) in [
        (Budget { tokens: 60, ..wide }, BudgetPart::Tokens),
        (Budget { steps: 0, ..wide }, BudgetPart::Steps),
        (Budget { seconds: 0, ..wide }, BudgetPart::Seconds),
    ] {
        let mut run = start(few(budget));
        observe(&mut run, json!({}));
        assert_eq!(done(&mut run), Outcome::Exhausted { part });
        assert_eq!(run.ledger().tokens_used(), 0);
    }
}

#[test]
fn a_pause_costs_no_time() {
    let mut run = start(RunOptions::default().with_budget(Budget {
        tokens: 100_000,
        steps: 9,
        seconds: 1,
    }));
    run.wake(at(50_000));
    assert_eq!(run.next(), Action::CallState);
    run.feed(
        Input::Observed {
            state: json!({}),
            shortlist: vec![],
        },
        at(50_900),
    )
    .unwrap();
    assert_eq!(run.ledger().worked_ms(), 900);
    assert!(matches!(run.next(), Action::CallModel(_)));
}

#[test]
fn calls_of_unknown_outcome_park_the_run() {
    let mut run = start(RunOptions::default());
    observe(&mut run, json!({}));
    replied(
        &mut run,
        reply("", &[("add_to_box", json!({"name": "a", "number": 1}))]),
    );
    let planned = calls(&mut run);
    run.feed(results(&planned, CallStatus::Ambiguous), at(3)).unwrap();
    assert_eq!(done(&mut run), Outcome::Parked { calls: vec![0] });
    let mut restored = LoopRun::restore(run.snapshot(), tools()).unwrap();
    restored
        .feed(results(&planned, CallStatus::Succeeded), at(4))
        .unwrap();
    assert_eq!(restored.next(), Action::CallState);

    let mut told = start(RunOptions::default().with_on_ambiguous(OnAmbiguous::Report));
    observe(&mut told, json!({}));
    replied(
        &mut told,
        reply("", &[("add_to_box", json!({"name": "a", "number": 1}))]),
    );
    let planned = calls(&mut told);
    told.feed(results(&planned, CallStatus::Ambiguous), at(3))
        .unwrap();
    assert_eq!(told.next(), Action::CallState);
    assert!(
        told.unsaved()
            .last()
            .unwrap()
            .message
            .content
            .starts_with("Unknown outcome")
    );
}

#[test]
fn a_judge_can_send_the_run_back() {
    let mut run = start(RunOptions::default());
    observe(&mut run, json!({}));
    replied(&mut run, reply("All done.", &[]));
    assert!(run.outcome().unwrap().claims_success());
    run.feed(
        Input::Rejected {
            feedback: "box a is empty".into(),
        },
        at(3),
    )
    .unwrap();
    let prompt = request(&mut run);
    assert!(
        prompt
            .messages
            .last()
            .unwrap()
            .content
            .starts_with("box a is empty")
    );
}

#[test]
fn an_input_that_nobody_asked_for_changes_nothing() {
    let mut run = start(RunOptions::default());
    let before = run.snapshot();
    for input in [
        Input::Appended,
        Input::Replied(Box::new(reply("x", &[]))),
        Input::Called(vec![]),
    ] {
        assert!(matches!(
            run.feed(input, at(9)),
            Err(Error::UnexpectedInput { .. })
        ));
    }
    assert_eq!(run.snapshot(), before);
}

#[test]
fn results_of_other_calls_are_refused() {
    let mut run = start(RunOptions::default());
    observe(&mut run, json!({}));
    replied(&mut run, reply("", &[put(1)]));
    let mut planned = calls(&mut run);
    planned[0].ordinal = 9;
    assert!(run.feed(results(&planned, CallStatus::Succeeded), at(3)).is_err());
}

#[test]
fn the_schema_protocol_asks_for_one_of_the_named_actions() {
    let options = RunOptions::for_small_model().with_shortlist(["put_box"], 1);
    let mut run = start(options);
    run.next();
    let shortlist = vec!["get_box".to_owned(), "add_to_box".to_owned()];
    run.feed(
        Input::Observed {
            state: json!({"shelf": {}}),
            shortlist,
        },
        at(1),
    )
    .unwrap();
    let prompt = request(&mut run);
    assert!(prompt.tools.is_empty());
    let schema = prompt.response_schema.clone().unwrap().schema;
    let named: Vec<&str> = schema["anyOf"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| c["properties"]["action"]["const"].as_str().unwrap())
        .collect();
    assert_eq!(named, ["put_box", "get_box", "finish"]);
    let validator = jsonschema::draft202012::new(&schema).unwrap();
    assert!(validator.is_valid(&json!({"action": "put_box", "arguments": {"name": "a", "number": 7}})));
    assert!(!validator.is_valid(&json!({"action": "put_box", "arguments": {"name": "a"}})));
    assert!(!validator.is_valid(&json!({"action": "add_to_box", "arguments": {"name": "a", "number": 7}})));
    // What changes with every step is at the tail, so that the prefix can be cached.
    assert!(
        prompt.messages[0].content.contains("put_box") && !prompt.messages[0].content.contains("get_box")
    );
    assert!(
        prompt
            .messages
            .last()
            .unwrap()
            .content
            .ends_with("- get_box(name): Reads the number in a box.")
    );

    let answer = "```json\n{\"action\": \"put_box\", \"arguments\": {\"name\": \"a\", \"number\": 7}}\n```";
    replied(&mut run, reply(answer, &[]));
    let planned = calls(&mut run);
    assert_eq!(planned[0].tool, "put_box");
    run.feed(results(&planned, CallStatus::Succeeded), at(3)).unwrap();
    observe(&mut run, json!({"shelf": {"a": 7}}));
    run.feed(Input::Appended, at(3)).unwrap();
    let prompt = request(&mut run);
    assert_eq!(
        prompt.messages[2].content,
        r#"{"action":"put_box","arguments":{"name":"a","number":7}}"#
    );
    assert!(
        prompt.messages[3]
            .content
            .starts_with("Result: ok\nChanged:\n+ shelf.a: 7\nState: ")
    );
    replied(
        &mut run,
        reply(
            r#"{"action":"finish","arguments":{"status":"FAILED","summary":"no"}}"#,
            &[],
        ),
    );
    assert_eq!(
        done(&mut run),
        Outcome::Finished {
            claim: Claim::Failed,
            summary: "no".into()
        }
    );
}

#[test]
fn old_steps_leave_the_prompt_when_the_context_is_full() {
    let mut run = start(RunOptions {
        context_tokens: 1_600,
        budget: Budget {
            steps: 100,
            ..Budget::default()
        },
        ..RunOptions::default()
    });
    observe(&mut run, json!({}));
    let mut longest = 0;
    for number in 0..40 {
        replied(&mut run, reply(&"word ".repeat(40), &[put(number)]));
        let planned = calls(&mut run);
        run.feed(results(&planned, CallStatus::Succeeded), at(3)).unwrap();
        observe(&mut run, json!({"n": number}));
        run.next();
        if matches!(run.next(), Action::AppendDiff(_)) {
            run.feed(Input::Appended, at(3)).unwrap();
        }
        if run.outcome().is_some() {
            break;
        }
        let bytes: usize = request(&mut run)
            .messages
            .iter()
            .map(aion_loop::ChatMessage::bytes)
            .sum();
        longest = longest.max(bytes);
    }
    assert!(longest < 3 * 1_600, "{longest}");
}

#[test]
fn the_prefix_of_prompts_stays() {
    let mut run = start(RunOptions::default());
    observe(&mut run, json!({"n": 0}));
    let first = request(&mut run);
    replied(&mut run, reply("", &[put(1)]));
    let planned = calls(&mut run);
    run.feed(results(&planned, CallStatus::Succeeded), at(3)).unwrap();
    observe(&mut run, json!({"n": 1}));
    run.feed(Input::Appended, at(3)).unwrap();
    let second = request(&mut run);
    assert_eq!(first.tools, second.tools);
    assert_eq!(first.messages[0], second.messages[0]);
    let goal = "Goal: Put 7 into box a";
    assert!(first.messages[1].content.starts_with(goal) && second.messages[1].content.starts_with(goal));
}

/// A snapshot as format 1 writes it; later formats must go on reading it.
const FORMAT_1: &str = include_str!("run_format_1.json");

#[test]
fn snapshots_of_format_1_are_read() {
    let snapshot = RunSnapshot::from_json(FORMAT_1).unwrap();
    let mut run = LoopRun::restore(snapshot, tools()).unwrap();
    assert_eq!(calls(&mut run)[0].tool, "put_box");
    assert_eq!(run.options().protocol, Protocol::Native);
    assert_eq!(run.ledger().tokens_used(), 110);
}

#[test]
fn a_snapshot_goes_there_and_back_in_every_phase() {
    let mut run = start(RunOptions::default());
    let there_and_back = |run: &LoopRun| {
        let text = run.snapshot().to_json().unwrap();
        let back = RunSnapshot::from_json(&text).unwrap();
        assert_eq!(back, run.snapshot());
        LoopRun::restore(back, tools()).unwrap()
    };
    run = there_and_back(&run);
    observe(&mut run, json!({}));
    run = there_and_back(&run);
    replied(&mut run, reply("", &[put(7)]));
    run = there_and_back(&run);
    if std::env::var_os("AION_WRITE_FIXTURES").is_some() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/run_format_1.json");
        std::fs::write(path, run.snapshot().to_json().unwrap() + "\n").unwrap();
    }
    let planned = calls(&mut run);
    run.feed(results(&planned, CallStatus::Ambiguous), at(3)).unwrap();
    run = there_and_back(&run);
    run.feed(results(&planned, CallStatus::Failed), at(3)).unwrap();
    observe(&mut run, json!({"a": 1}));
    run = there_and_back(&run);
    run.feed(Input::Stopped, at(4)).unwrap();
    assert_eq!(there_and_back(&run).outcome(), Some(Outcome::Stopped));
}

#[test]
fn newer_and_broken_snapshots_are_refused() {
    let newer = FORMAT_1.replacen("\"format\":1", "\"format\":2", 1);
    assert!(matches!(
        RunSnapshot::from_json(&newer),
        Err(Error::NewerFormat { found: 2, newest: 1 })
    ));
    assert!(matches!(RunSnapshot::from_json("{}"), Err(Error::BadSnapshot(_))));
    assert!(matches!(RunSnapshot::from_json("no"), Err(Error::BadSnapshot(_))));
    let snapshot = RunSnapshot::from_json(FORMAT_1).unwrap();
    assert!(matches!(
        LoopRun::restore(snapshot, Toolset::default()),
        Err(Error::ToolGone(_))
    ));
}

/// Strict servers refuse a history in which a call has no answer, or two calls one id.
#[test]
fn a_rejected_finish_leaves_a_history_that_servers_take() {
    let mut run = start(RunOptions::default());
    observe(&mut run, json!({}));
    let finish = || reply("", &[("finish", json!({"status": "SUCCESS", "summary": "done"}))]);
    for _ in 0..2 {
        replied(&mut run, finish());
        assert!(run.outcome().unwrap().claims_success());
        let feedback = "box a is empty".to_owned();
        run.feed(Input::Rejected { feedback }, at(3)).unwrap();
    }
    let history = &request(&mut run).messages;
    let asked: Vec<&str> = history
        .iter()
        .flat_map(|message| message.tool_calls.iter().map(|call| call.id.as_str()))
        .collect();
    assert_eq!(asked.len(), 2);
    assert_ne!(asked[0], asked[1]);
    for (i, message) in history.iter().enumerate() {
        for (n, call) in message.tool_calls.iter().enumerate() {
            let answer = &history[i + 1 + n];
            assert_eq!(answer.tool_call_id.as_ref(), Some(&call.id), "{history:?}");
            assert_eq!(answer.content, "box a is empty");
        }
    }
}

#[test]
fn a_model_that_is_down_costs_no_step() {
    let budget = Budget {
        steps: 2,
        ..Budget::default()
    };
    let mut run = start(RunOptions::default().with_budget(budget));
    observe(&mut run, json!({}));
    for outage in 1..=20 {
        for _ in 0..RunOptions::default().model_failures {
            request(&mut run);
            let reason = "down".to_owned();
            run.feed(Input::ModelFailed { reason }, at(2)).unwrap();
        }
        assert!(matches!(done(&mut run), Outcome::ModelFailed { .. }), "{outage}");
        assert_eq!((run.ledger().steps_used(), run.outages()), (0, outage));
        run.wake(at(3));
    }
    replied(&mut run, reply("", &[put(7)]));
    assert_eq!((run.ledger().steps_used(), run.outages()), (1, 0));
}

#[test]
fn a_service_without_a_state_for_a_while_is_no_change() {
    let mut run = start(RunOptions::default());
    let none = json!({"unavailable": true});
    let seen = json!({"boxes": {"a": 7}});
    observe(&mut run, json!({"shelf": seen, "clock": none}));
    for (number, state) in [
        (1, json!({"shelf": none, "clock": none})),
        (2, json!({"shelf": seen, "clock": {"hour": 7}})),
        (3, json!({"shelf": none, "clock": none})),
    ] {
        replied(&mut run, reply("", &[put(number)]));
        let planned = calls(&mut run);
        run.feed(results(&planned, CallStatus::Succeeded), at(3)).unwrap();
        observe(&mut run, state);
        let Action::AppendDiff(diff) = run.next() else {
            panic!()
        };
        assert!(diff.is_empty(), "{number}: {}", diff.render(9));
        run.feed(Input::Appended, at(4)).unwrap();
    }
    assert_eq!(run.steps(), (3, 0));
    assert_eq!(run.state(), Some(&json!({"shelf": seen, "clock": {"hour": 7}})));
}

#[test]
fn a_server_may_claim_any_number_of_tokens() {
    let usage = Usage {
        prompt_tokens: Some(u64::MAX),
        completion_tokens: Some(2),
        ..Usage::default()
    };
    assert_eq!(usage.total(), Some(u64::MAX));
}
