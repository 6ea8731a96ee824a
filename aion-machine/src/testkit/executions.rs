//! The cases about executions. Each asks a workspace that executes nothing for one thing only: that it
//! says so.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use crate::{
    Ending, ExecCursor, ExecEvent, ExecFollower, ExecLimits, ExecRequest, ReadOptions, RelPath, Workspace,
    WriteRequest,
};

fn path(text: &str) -> RelPath {
    RelPath::parse(text).unwrap()
}

/// Whether there are executions to look at; if not, that starting one is refused as it must be.
async fn executes(work: &dyn Workspace) -> bool {
    if work.capabilities().exec {
        return true;
    }
    let refused = work.exec(ExecRequest::new(["true"])).await.unwrap_err();
    assert_eq!(refused.code(), "unsupported");
    false
}

/// The bytes of both streams and how many are missing, from where a follower stands to the end. Checks
/// that there is no gap and no repetition.
async fn read_on(follower: &mut ExecFollower) -> ([Vec<u8>; 2], u64) {
    let (mut bytes, mut missing) = ([Vec::new(), Vec::new()], 0);
    let mut at = follower.cursor();
    while let Some(event) = follower.next().await {
        assert_eq!(event.offset(), at.of(event.stream()));
        at = at.past(&event);
        match event {
            ExecEvent::Output {
                stream, bytes: more, ..
            } => bytes[stream as usize].extend(more),
            ExecEvent::Omitted { bytes, .. } => missing += bytes,
        }
    }
    assert_eq!(at, follower.cursor());
    (bytes, missing)
}

/// Exit code, both outputs, input, directory and variables are those of the request.
pub async fn an_execution_is_what_was_asked_for(work: &dyn Workspace) {
    if !executes(work).await {
        return;
    }
    work.mkdir(&path("sub")).await.unwrap();
    let line = "cat; echo \"$WORD\" >&2; echo here > made; exit 3";
    let request = ExecRequest::shell(line)
        .with_cwd(path("sub"))
        .with_env("WORD", "variable")
        .with_stdin("input");
    let output = work.exec(request).await.unwrap();
    assert_eq!(
        (output.exit_code, output.signal, output.ending),
        (Some(3), None, Ending::Itself)
    );
    assert_eq!(
        (output.stdout.text().as_str(), output.stderr.text().as_str()),
        ("input", "variable\n")
    );
    assert!(!output.success());
    let made = work
        .read(&path("sub/made"), ReadOptions::default())
        .await
        .unwrap();
    assert_eq!(made.bytes, b"here\n");
}

/// What cannot be executed is a typed error.
pub async fn bad_executions_are_errors(work: &dyn Workspace) {
    if !executes(work).await {
        return;
    }
    let code = async |request| work.exec(request).await.unwrap_err().code();
    assert_eq!(code(ExecRequest::new::<&str>([])).await, "invalid_request");
    assert_eq!(code(ExecRequest::new(["a\0b"])).await, "invalid_request");
    assert_eq!(
        code(ExecRequest::new(["no-such-program-anywhere"])).await,
        "program_not_found"
    );
    assert_eq!(
        code(ExecRequest::new(["true"]).with_env("LD_PRELOAD", "x")).await,
        "env_denied"
    );
    assert_eq!(
        code(ExecRequest::new(["true"]).with_env("MY_TOKEN", "x")).await,
        "env_denied"
    );
    assert_eq!(
        code(ExecRequest::new(["true"]).with_cwd(path("nowhere"))).await,
        "not_found"
    );
    let limits = ExecLimits::default().with_wall_ms(0);
    assert_eq!(
        code(ExecRequest::new(["true"]).with_limits(limits)).await,
        "invalid_request"
    );
}

/// A program is followed while it runs, and what a follower sees is what is collected.
pub async fn an_execution_is_followed(work: &dyn Workspace) {
    if !executes(work).await {
        return;
    }
    let line = "echo one; echo two >&2; while [ ! -e go ]; do sleep 0.02; done; printf three";
    let execution = work.start(ExecRequest::shell(line)).await.unwrap();
    let mut follower = execution.handle().follow();
    while follower.cursor() != ExecCursor::new(4, 4) {
        assert!(follower.next().await.is_some(), "it ended before it was told to");
    }
    // Seen while it ran: it waits for this file.
    work.write(&path("go"), WriteRequest::new("")).await.unwrap();
    let (rest, missing) = read_on(&mut follower).await;
    assert_eq!((rest, missing), ([b"three".to_vec(), Vec::new()], 0));
    let (all, _) = read_on(&mut execution.handle().follow()).await;
    assert_eq!(all, [b"one\nthree".to_vec(), b"two\n".to_vec()]);
    let (resumed, _) = read_on(&mut execution.handle().follow_from(ExecCursor::new(6, 4))).await;
    assert_eq!(resumed, [b"ree".to_vec(), Vec::new()]);
    let output = execution.wait().await.unwrap();
    assert_eq!(
        (output.stdout.text().as_str(), output.stderr.text().as_str()),
        ("one\nthree", "two\n")
    );
}

/// A follower that is too slow gets the newest bytes and is told how many are missing; the program is
/// not held up by it.
pub async fn a_slow_follower_is_told_what_it_missed(work: &dyn Workspace) {
    if !executes(work).await {
        return;
    }
    let line = "head -c 1000000 /dev/zero; printf end";
    let request = ExecRequest::shell(line).with_replay_bytes(64 << 10);
    let execution = work.start(request).await.unwrap();
    let mut follower = execution.handle().follow();
    let output = execution.wait().await.unwrap();
    assert_eq!(output.stdout.total_bytes, 1_000_003);
    let ([stdout, _], missing) = read_on(&mut follower).await;
    assert_eq!(stdout.len() as u64 + missing, 1_000_003);
    assert!(
        missing > 0 && stdout.len() <= 64 << 10,
        "{} bytes were kept",
        stdout.len()
    );
    assert!(stdout.ends_with(b"end"));
}

/// What is killed ends, with all that it started, and says so.
pub async fn a_killed_execution_ends(work: &dyn Workspace) {
    if !executes(work).await {
        return;
    }
    let execution = work
        .start(ExecRequest::shell("echo up; sleep 600 & sleep 600"))
        .await
        .unwrap();
    let handle = execution.handle();
    assert!(handle.follow().next().await.is_some());
    handle.kill();
    let ended = tokio::time::timeout(Duration::from_secs(20), execution.wait()).await;
    let output = ended.expect("it ends in time").unwrap();
    assert_eq!((output.ending, output.exit_code), (Ending::Killed, None));
    assert_eq!(output.stdout.text(), "up\n");
}

/// Dropping an execution kills it; one that is not dropped goes on.
pub async fn a_dropped_execution_does_not_go_on(work: &dyn Workspace) {
    if !executes(work).await {
        return;
    }
    let late = |name: &str| ExecRequest::shell(format!("echo up; sleep 0.5; echo late > {name}"));
    let kept = work.start(late("kept")).await.unwrap();
    let dropped = work.start(late("dropped")).await.unwrap();
    assert!(dropped.handle().follow().next().await.is_some());
    drop(dropped);
    assert!(kept.wait().await.unwrap().success());
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(work.stat(&path("kept")).await.is_ok());
    assert_eq!(work.stat(&path("dropped")).await.unwrap_err().code(), "not_found");
}

/// Time and output are limited, and the end says which it was.
pub async fn limits_end_an_execution(work: &dyn Workspace) {
    if !executes(work).await {
        return;
    }
    let short = ExecLimits::default().with_wall_ms(300);
    let output = work
        .exec(ExecRequest::new(["sleep", "600"]).with_limits(short))
        .await
        .unwrap();
    assert!(output.timed_out() && !output.success());
    let little = ExecLimits::default()
        .with_max_output_bytes(1 << 20)
        .with_output_bytes(10, 10);
    let flood = ExecRequest::new(["yes"]).with_limits(little);
    let output = work.exec(flood).await.unwrap();
    assert_eq!(output.ending, Ending::OutputLimit);
    assert!(output.stdout.total_bytes > 1 << 20);
    let within = ExecLimits::default().with_max_output_bytes(4);
    let output = work
        .exec(ExecRequest::new(["echo", "abc"]).with_limits(within))
        .await
        .unwrap();
    assert!(output.success(), "a limit that is just reached ends nothing");
}

/// Bytes that are not text come back as they are, also when only the ends are kept.
pub async fn outputs_are_bytes(work: &dyn Workspace) {
    if !executes(work).await {
        return;
    }
    let limits = ExecLimits::default().with_output_bytes(3, 2);
    let request = ExecRequest::shell(r"printf '\377\000\001middle\376\375'").with_limits(limits);
    let execution = work.start(request).await.unwrap();
    let ([bytes, _], _) = read_on(&mut execution.handle().follow()).await;
    assert_eq!(bytes, b"\xFF\x00\x01middle\xFE\xFD");
    let stdout = execution.wait().await.unwrap().stdout;
    assert_eq!(
        (stdout.head.as_slice(), stdout.tail.as_slice()),
        (&b"\xFF\x00\x01"[..], &b"\xFE\xFD"[..])
    );
    assert_eq!((stdout.total_bytes, stdout.omitted_bytes()), (11, 6));
}
