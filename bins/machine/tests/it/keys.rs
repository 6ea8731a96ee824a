//! Idempotency keys, also over the end of the process.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use aion_machine::Supervisor;
use serde_json::{Value, json};

use crate::support::{Server, call, local};

fn append(word: &str) -> Value {
    json!({"argv": ["sh", "-c", format!("echo {word} >> log; cat log")]})
}

#[tokio::test]
async fn the_same_key_has_one_effect_and_one_answer() {
    let server = Server::new();
    let first = server.ok(call("exec", append("x")).key("k1")).await;
    let again = server.ok(call("exec", append("x")).key("k1")).await;
    assert_eq!((&first, &first["stdout"]), (&again, &json!("x\n")));
    let other = server.problem(call("exec", append("y")).key("k1")).await;
    assert_eq!(other, (409, "idempotency_key_reused".to_owned()));
    let elsewhere = server
        .problem(call("exec", append("x")).key("k1").task(r#"{"cwd": "b"}"#))
        .await;
    assert_eq!(elsewhere, (409, "idempotency_key_reused".to_owned()));
    let server = server.restart();
    assert_eq!(server.ok(call("exec", append("x")).key("k1")).await, first);
    assert_eq!(std::fs::read_to_string(server.file("log")).unwrap(), "x\n");
    server.ok(call("exec", append("x")).key("k2")).await;
    assert_eq!(std::fs::read_to_string(server.file("log")).unwrap(), "x\nx\n");
}

#[tokio::test]
async fn an_edit_is_not_done_twice_and_a_failure_is_not_kept() {
    let server = Server::new();
    let edit = json!({"path": "t", "old": "a", "new": "aa"});
    assert_eq!(
        server.problem(call("edit_file", edit.clone()).key("e")).await,
        (404, "not_found".to_owned())
    );
    server
        .ok(call("write_file", json!({"path": "t", "content": "a"})).key("w"))
        .await;
    let done = server.ok(call("edit_file", edit.clone()).key("e")).await;
    assert_eq!(server.ok(call("edit_file", edit).key("e")).await, done);
    assert_eq!(std::fs::read_to_string(server.file("t")).unwrap(), "aa");
    let wrote = server
        .ok(call("write_file", json!({"path": "t", "content": "a"})).key("w"))
        .await;
    assert_eq!(wrote["created"], true, "the answer of then");
    assert_eq!(
        std::fs::read_to_string(server.file("t")).unwrap(),
        "aa",
        "nothing was written again"
    );
}

#[tokio::test]
async fn a_key_in_use_is_told_to_wait() {
    let server = Server::new();
    let slow = json!({"argv": ["sleep", "0.5"]});
    let (first, second) = tokio::join!(server.ok(call("exec", slow.clone()).key("k")), async {
        tokio::time::sleep(Duration::from_millis(150)).await;
        server.problem(call("exec", slow.clone()).key("k")).await
    });
    assert_eq!(first["exit_code"], 0);
    assert_eq!(second, (409, "idempotency_key_in_use".to_owned()));
    assert_eq!(
        server
            .problem(call("exec", json!({"argv": ["true"]})).key(""))
            .await
            .0,
        400
    );
}

/// Every change of a workspace is made once for its key, and answered alike.
#[tokio::test]
async fn the_changes_of_a_workspace_take_keys() {
    let server = Server::new();
    let steps = [
        ("write", json!({"path": "a", "content": {"text": "1\n"}})),
        ("edit", json!({"path": "a", "edits": [{"old": "1", "new": "11"}]})),
        ("patch", json!({"path": "a", "patch": "@@ -1 +1,2 @@\n 11\n+2\n"})),
        ("mkdir", json!({"path": "d"})),
        ("move", json!({"from": "a", "to": "d/a"})),
        ("write", json!({"path": "b", "content": {"text": ""}})),
        ("remove", json!({"path": "b"})),
    ];
    let mut answers = Vec::new();
    for (at, (operation, body)) in steps.iter().enumerate() {
        let path = format!("workspace/{operation}");
        let ask = || call(&path, body.clone()).key(&at.to_string());
        let first = server.ok(ask()).await;
        assert_eq!(server.ok(ask()).await, first, "{operation}");
        answers.push(first);
    }
    let server = server.restart();
    for (at, ((operation, body), answer)) in steps.iter().zip(&answers).enumerate() {
        let path = format!("workspace/{operation}");
        let again = server.ok(call(&path, body.clone()).key(&at.to_string())).await;
        assert_eq!(again, *answer, "{operation}");
    }
    assert_eq!(std::fs::read_to_string(server.file("d/a")).unwrap(), "11\n2\n");
    assert!(!server.file("b").exists());
    let other = call("workspace/mkdir", json!({"path": "e"})).key("0");
    assert_eq!(
        server.problem(other).await,
        (409, "idempotency_key_reused".to_owned())
    );
    // A refusal is not kept.
    let gone = || call("workspace/remove", json!({"path": "c"})).key("gone");
    assert_eq!(server.problem(gone()).await, (404, "not_found".to_owned()));
    std::fs::write(server.file("c"), "").unwrap();
    server.ok(gone()).await;
}

/// A change with a key goes on when its client goes away; the same request then gets its answer.
#[tokio::test]
async fn a_change_outlives_its_client() {
    let server = Server::new();
    let content = "x".repeat(4 << 20);
    let write = || {
        call(
            "workspace/write",
            json!({"path": "f", "content": {"text": content}}),
        )
        .key("k")
    };
    for _ in 0..50 {
        let mut sent = Box::pin(server.send(write()));
        tokio::select! {
            biased;
            _ = &mut sent => break,
            () = tokio::time::sleep(Duration::from_millis(2)) => {}
        }
        drop(sent);
        let (status, body) = server.send(write()).await;
        if status.as_u16() == 200 {
            assert_eq!(body["created"], true);
            break;
        }
        assert_eq!(
            (status.as_u16(), &body["code"]),
            (409, &json!("idempotency_key_in_use"))
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(server.ok(write()).await["created"], true);
}

/// An edit is made only in the content that it is for.
#[tokio::test]
async fn an_edit_can_be_of_one_content_only() {
    let server = Server::new();
    let wrote = server
        .ok(call("write_file", json!({"path": "f", "content": "a"})))
        .await;
    let tool = |etag: &Value| json!({"path": "f", "old": "a", "new": "b", "if_match": etag});
    let program = |etag: &Value| json!({"path": "f", "edits": [{"old": "b", "new": "c"}], "if_match": etag});
    let stale = json!("0".repeat(64));
    let conflict = (412, "conflict".to_owned());
    assert_eq!(server.problem(call("edit_file", tool(&stale))).await, conflict);
    assert_eq!(
        server.problem(call("edit_file", tool(&stale)).key("k")).await,
        conflict
    );
    let edited = server.ok(call("edit_file", tool(&wrote["etag"]))).await;
    assert_eq!(
        server.problem(call("workspace/edit", program(&stale))).await,
        conflict
    );
    server.ok(call("workspace/edit", program(&edited["etag"]))).await;
    assert_eq!(std::fs::read_to_string(server.file("f")).unwrap(), "c");
}

/// A supervisor that is lost may have started the program before: the key does not start it a second time.
#[tokio::test]
async fn an_execution_that_lost_its_supervisor_is_not_started_again() {
    let tools = tempfile::tempdir().unwrap();
    let (script, ran) = (tools.path().join("lost"), tools.path().join("ran"));
    // Another process writes it, so that nobody here holds it open for writing when it is executed.
    let text = format!("#!/bin/sh\necho ran >> {}\n", ran.display());
    let made = Command::new("/bin/sh")
        .args(["-c", r#"printf %s "$1" > "$2"; chmod +x "$2""#, "sh", &text])
        .arg(&script)
        .status();
    assert!(made.unwrap().success());
    let dir = tempfile::tempdir().unwrap();
    // A warden would be a run of its own, before any execution.
    let local = local().with_max_wardens(0);
    let server = Server::with(dir, local.with_supervisor(Supervisor::Program(script)));
    for expected in [(503, "supervisor_failed"), (409, "outcome_unknown")] {
        let (status, code) = server.problem(call("exec", append("x")).key("k")).await;
        assert_eq!((status, &*code), expected);
        assert_eq!(std::fs::read_to_string(&ran).unwrap(), "ran\n");
    }
}

/// What the journal says of a write that was begun: done if the file says so, else done now.
#[tokio::test]
async fn a_begun_write_is_settled_by_looking() {
    for happened in [true, false] {
        let server = Server::new();
        let body = json!({"path": "t", "content": "new", "mode": "create_new"});
        let done = server.ok(call("write_file", body.clone()).key("k")).await;
        let journal = server.dir.path().join("keys/idempotency.jsonl");
        let lines = std::fs::read_to_string(&journal).unwrap();
        let begun: Vec<_> = lines.lines().filter(|line| line.contains("begun")).collect();
        assert_eq!((begun.len(), lines.lines().count()), (1, 2));
        let dir = {
            let Server { dir, router } = server;
            drop(router);
            dir
        };
        std::fs::write(&journal, format!("{}\n", begun[0])).unwrap();
        if !happened {
            std::fs::remove_file(dir.path().join("work/t")).unwrap();
        }
        let server = Server::over(dir);
        assert_eq!(
            server.ok(call("write_file", body).key("k")).await,
            done,
            "happened: {happened}"
        );
        assert_eq!(std::fs::read_to_string(server.file("t")).unwrap(), "new");
    }
}

/// The real binary, killed while it executes: nothing runs on, and the key does not start it again.
#[tokio::test]
async fn a_killed_server_does_not_start_an_execution_twice() {
    let dir = tempfile::tempdir().unwrap();
    let body = json!({"argv": ["sh", "-c", "echo started >> log; sleep 61.777"]}).to_string();
    let mut server = Running::start(dir.path());
    let address = server.address.clone();
    let asking = std::thread::spawn({
        let body = body.clone();
        move || post(&address, "/v1/exec", &body)
    });
    let log = dir.path().join("work/log");
    for _ in 0..250 {
        if log.exists() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(std::fs::read_to_string(&log).unwrap(), "started\n");
    server.child.kill().unwrap();
    server.child.wait().unwrap();
    let _ = asking.join();
    for _ in 0..100 {
        if !sleeps() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(!sleeps(), "the program outlived the server");
    let server = Running::start(dir.path());
    let answer = post(&server.address, "/v1/exec", &body);
    assert!(
        answer.contains("409") && answer.contains("outcome_unknown"),
        "{answer}"
    );
    assert_eq!(std::fs::read_to_string(&log).unwrap(), "started\n");
    // The audit log holds, and says that it was asked for and nothing of its end.
    let audit = dir.path().join("keys/audit");
    assert!(aion_machine::audit::verify(&audit, None).is_ok());
    let rows = std::fs::read_to_string(audit.join("audit-000000000001.jsonl")).unwrap();
    let execs: Vec<_> = rows
        .lines()
        .filter(|row| row.contains(r#""op":"exec""#))
        .collect();
    assert!(
        execs.len() == 1 && execs[0].contains(r#""outcome":"asked""#),
        "{rows}"
    );
    let read = post(&server.address, "/v1/read_file", r#"{"path": "log"}"#);
    assert!(read.contains("200 OK") && read.contains("started"), "{read}");
}

/// A disk that is full: what cannot be recorded does not happen, is said to be so, and the server lives on.
#[tokio::test]
async fn a_full_disk_refuses_before_anything_happens() {
    let dir = tempfile::tempdir().unwrap();
    let keys = dir.path().join("keys");
    std::fs::create_dir(&keys).unwrap();
    let script = r#"mount -t tmpfs -o size=64k none "$1" && shift && exec "$@""#;
    let mut command = Command::new("unshare");
    command.args([
        "--user",
        "--map-current-user",
        "--keep-caps",
        "--mount",
        "sh",
        "-c",
        script,
        "sh",
    ]);
    command.arg(&keys).arg(env!("CARGO_BIN_EXE_aion-machine-server"));
    let server = Running::by(command, dir.path());
    let write = |name: u32| {
        let body = format!(r#"{{"path": "f{name}", "content": "x"}}"#);
        post_unkeyed(&server.address, "/v1/write_file", &body)
    };
    let made = |name: u32| dir.path().join(format!("work/f{name}")).exists();
    let refused = (0..1000).find(|name| !write(*name).contains("200 OK"));
    let refused = refused.expect("64 KiB are full at some time");
    assert!(refused > 20 && made(refused - 1), "{refused}");
    let answer = write(refused);
    assert!(
        answer.contains("507") && answer.contains("audit_no_space"),
        "{answer}"
    );
    assert!(!made(refused));
    let exec = post_unkeyed(&server.address, "/v1/exec", r#"{"argv": ["touch", "ran"]}"#);
    assert!(exec.contains("507"), "{exec}");
    assert!(!dir.path().join("work/ran").exists());
}

fn sleeps() -> bool {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let lines = entries.filter_map(|e| std::fs::read(e.path().join("cmdline")).ok());
    lines
        .map(|line| String::from_utf8_lossy(&line).into_owned())
        .any(|line| line.starts_with("sleep\u{0}61.777"))
}

/// The server's own binary on a free port.
struct Running {
    child: Child,
    address: String,
}

impl Running {
    fn start(dir: &std::path::Path) -> Self {
        Self::by(Command::new(env!("CARGO_BIN_EXE_aion-machine-server")), dir)
    }

    /// Starts it by a command that ends in it.
    fn by(mut command: Command, dir: &std::path::Path) -> Self {
        let free = std::net::TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        let child = command
            .args(["--listen", &free.to_string()])
            .env("DATA_ROOT", dir.join("work"))
            .env("AION_MACHINE_JOURNAL", dir.join("keys"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let running = Self {
            child,
            address: free.to_string(),
        };
        for _ in 0..250 {
            if TcpStream::connect(&running.address).is_ok() {
                return running;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("the server does not listen");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One request over a socket; the raw answer.
fn post(address: &str, path: &str, body: &str) -> String {
    send(address, path, body, "idempotency-key: one\r\n")
}

fn post_unkeyed(address: &str, path: &str, body: &str) -> String {
    send(address, path, body, "")
}

fn send(address: &str, path: &str, body: &str, more: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\n{more}\
         content-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(body.as_bytes()).unwrap();
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    answer
}
