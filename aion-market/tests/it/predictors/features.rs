//! Features: what is counted, what is missing, and that any transcript gives finite numbers.

use aion_market::TaskView;
use aion_market::features::{Features, Prospect, SCHEMA, Share};
use aion_types::{MessageRecord, Role, Timestamp};
use proptest::prelude::*;

use super::records::{call, message, reported, task};

fn of(messages: &[MessageRecord]) -> Features {
    let task = task(1, "Copy a.txt");
    Features::of(&TaskView::new(&task, messages, Timestamp::from_ms(9)), None)
}

#[test]
fn counts_are_those_of_the_transcript() {
    let messages = [
        message(1, Role::User, "Copy a.txt, please."),
        call(2, "read_file", r#"{"path":"a.txt"}"#),
        message(3, Role::Tool, "Error: no such file"),
        call(4, "read_file", r#"{"path":"a.txt"}"#),
        call(5, "glob", "{}"),
        message(6, Role::Tool, "b.txt"),
        reported(7, 2.0, 0.5),
        message(
            8,
            Role::Assistant,
            "I'm sorry, there is no a.txt. Shall I copy b.txt?",
        ),
    ];
    let features = of(&messages);
    let n = |count: f64| Some(count.ln_1p());
    assert_eq!(features.get("messages"), n(8.0));
    assert_eq!(features.get("messages.tool"), n(2.0));
    assert_eq!(features.get("calls"), n(3.0));
    assert_eq!(features.get("calls.tools"), n(2.0));
    assert_eq!(features.get("calls.repeated"), n(1.0));
    assert_eq!(features.get("calls.longest_run"), n(3.0));
    assert_eq!(features.get("errors.share"), Some(0.5));
    assert_eq!(features.get("errors.last"), Some(0.0));
    assert_eq!(features.get("assistant.questions"), Some(0.5));
    assert_eq!(features.get("assistant.regrets"), Some(0.5));
    assert_eq!(features.get("user.last_chars"), n(19.0));
    assert_eq!(features.get("persistence.harm"), Some(2.0_f64.ln()));
    assert_eq!(features.get("persistence.min"), Some(0.5_f64.ln()));
    assert_eq!(features.get("seconds"), n(7.0));
    let entropy = -(2.0 / 3.0 * (2.0_f64 / 3.0).ln() + 1.0 / 3.0 * (1.0_f64 / 3.0).ln());
    assert!((features.get("calls.entropy").unwrap() - entropy).abs() < 1e-12);
}

#[test]
fn what_is_not_known_is_missing() {
    let features = of(&[]);
    assert_eq!(features.get("messages"), Some(0.0));
    for name in [
        "persistence.harm",
        "persistence.min",
        "seconds",
        "history.log_odds",
    ] {
        assert_eq!(features.get(name), None, "{name}");
    }
    assert_eq!(features.get("no such column"), None);
    assert!(Features::default().with("no such column", None).is_err());
    assert!(Features::default().with("seconds", Some(f64::INFINITY)).is_err());
    let task = task(1, "t");
    let view = TaskView::new(&task, &[], Timestamp::from_ms(1));
    let told = Features::of(&view, Some(Prospect::new(-0.5, 3.0)));
    assert_eq!(told.get("history.log_odds"), Some(-0.5));
    // A model of version 1 reads exactly these columns: a change of them is another version.
    let names: Vec<&str> = Features::columns().iter().map(|column| column.name).collect();
    let digest = blake3::hash(names.join(" ").as_bytes()).to_hex();
    assert_eq!((SCHEMA, &digest[..16]), ("aion.transcript/1", "4e8c6b2a4824a91d"));
}

#[test]
fn a_view_of_a_share_is_its_beginning() {
    let messages: Vec<MessageRecord> = (1..=10).map(|seq| message(seq, Role::User, "x")).collect();
    let task = task(1, "t");
    let view = TaskView::new(&task, &messages, Timestamp::from_ms(1));
    for (share, seen) in [(0.25, 3), (0.5, 5), (1.0, 10), (1e-9, 1)] {
        let share = Share::new(share).unwrap();
        assert_eq!(view.until(share.of(10)).messages, &messages[..seen]);
    }
    assert_eq!(view.until(99).messages.len(), 10);
    for bad in [0.0, -1.0, 1.5, f64::NAN] {
        assert!(Share::new(bad).is_err());
    }
}

fn any_message() -> impl Strategy<Value = MessageRecord> {
    let role = prop_oneof![
        Just(Role::System),
        Just(Role::User),
        Just(Role::Assistant),
        Just(Role::Tool)
    ];
    (role, "\\PC{0,60}", 0..4_usize, -2.0..5.0, any::<i32>()).prop_map(|(role, text, calls, ratio, at)| {
        let mut message = reported(1, ratio, ratio - 1.0);
        message.role = role;
        message.tool_calls = (0..calls)
            .map(|n| aion_types::ToolCall {
                id: n.to_string(),
                name: text.clone(),
                arguments: text.clone(),
            })
            .collect();
        message.content = text;
        message.created_at = Timestamp::from_ms(i64::from(at));
        message
    })
}

proptest! {
    /// Every feature of every transcript is finite or missing.
    #[test]
    fn any_transcript_has_finite_features(messages in proptest::collection::vec(any_message(), 0..30)) {
        let features = of(&messages);
        for column in Features::columns() {
            prop_assert!(features.get(column.name).is_none_or(f64::is_finite), "{}", column.name);
        }
    }
}
