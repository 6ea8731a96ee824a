//! The framework of comparisons: rows, and drivers that answer, fail or end.

use std::process::Command;

use serde_json::{Value, json};
use xtask::Error;
use xtask::peers::driver::Driver;
use xtask::peers::row::{Better, Row, median, ratio, table};

fn shell(script: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", script]);
    command
}

const GREETING: &str = r#"echo '{"name": "echo", "version": "1"}';"#;

#[test]
fn a_driver_greets_and_answers() {
    let script = format!("{GREETING} while read line; do echo \"{{\\\"got\\\": $line}}\"; done");
    let mut driver = Driver::start(&mut shell(&script)).unwrap();
    assert_eq!(driver.label(), "echo 1");
    for number in 0..3 {
        let answer: Value = driver.ask(&json!({ "n": number })).unwrap();
        assert_eq!(answer["got"]["n"], number);
    }
}

#[test]
fn errors_ends_and_garbage_of_a_driver_are_errors() {
    let failing = format!("{GREETING} read line; echo '{{\"error\": \"no model\"}}'");
    let error = Driver::start(&mut shell(&failing))
        .unwrap()
        .ask::<Value>(&json!({}))
        .unwrap_err();
    assert!(error.to_string().contains("no model"), "{error}");
    let ending = Driver::start(&mut shell(GREETING))
        .unwrap()
        .ask::<Value>(&json!({}));
    assert!(ending.is_err());
    assert!(matches!(
        Driver::start(&mut shell("echo hello")),
        Err(Error::Json { .. })
    ));
    assert!(matches!(
        Driver::start(&mut shell("exit 3")),
        Err(Error::Missing(_))
    ));
    assert!(matches!(
        Driver::start(&mut Command::new("no-such-driver")),
        Err(Error::Start { .. })
    ));
}

#[test]
fn a_ratio_above_one_is_always_better() {
    assert!(ratio(Better::Higher, 120.0, 100.0) > 1.0);
    assert!(ratio(Better::Lower, 80.0, 100.0) > 1.0);
    assert_eq!(median(&[]), None);
}

#[test]
fn a_row_without_a_peer_is_still_a_row() {
    let row = Row {
        work: "parse".to_owned(),
        unit: "MB/s",
        ours: 123.4,
        peer: "none".to_owned(),
        theirs: None,
        ratio: None,
        goal_ratio: None,
        kept: None,
        limit: "memory".to_owned(),
        agreement: "itself".to_owned(),
        threads: 1,
        rounds: 3,
    };
    let text = table(&[row]);
    let cells = |line: &str| line.matches('|').count();
    assert!(
        text.lines()
            .all(|line| cells(line) == cells(text.lines().next().unwrap())),
        "{text}"
    );
    assert!(
        text.contains("| parse | MB/s | 123 | none | - | - | - |"),
        "{text}"
    );
}

#[test]
fn the_probe_of_the_machine_is_plausible() {
    let machine = xtask::machine::Machine::probe();
    assert!(machine.cores >= 1 && !machine.simd.is_empty());
    let dir = tempfile::tempdir().unwrap();
    let fsync = xtask::machine::fsync_p50(dir.path()).unwrap();
    assert!(fsync.as_nanos() > 0 && fsync.as_secs() < 5, "{fsync:?}");
    assert_eq!(
        std::fs::read_dir(dir.path()).unwrap().count(),
        0,
        "the probe is gone"
    );
}
