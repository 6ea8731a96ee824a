//! The machine of a server over loopback: the same kit as for a machine on this host.

use std::future::IntoFuture;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use aion_machine::{
    Ending, ExecRequest, Machine, RelPath, RemoteMachine, RemoteOptions, TaskKeys, Workspace, WorkspaceSpec,
};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;

use crate::support::{Server, options};

const KEYS: &str = "k 0123456789abcdef0123456789abcdef";
const OPERATOR: &str = "an operator's own key";

/// A server on a free port, and its machine.
struct Remote {
    machine: RemoteMachine,
    address: String,
    serving: AbortHandle,
    _dir: TempDir,
}

impl Drop for Remote {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Deref for Remote {
    type Target = RemoteMachine;

    fn deref(&self) -> &RemoteMachine {
        &self.machine
    }
}

fn signing() -> RemoteOptions {
    RemoteOptions::default()
        .with_task_keys(Arc::new(TaskKeys::parse(KEYS).unwrap()))
        .with_operator_key(OPERATOR)
        .with_pause(Duration::from_millis(10))
}

async fn remote() -> Remote {
    let dir = tempfile::tempdir().unwrap();
    let served = options(&dir)
        .with_task_keys(Arc::new(TaskKeys::parse(KEYS).unwrap()))
        .with_operator_key(aion_service::ApiKey::new(&OPERATOR.into()).unwrap())
        .with_audit(dir.path().join("audit"));
    let Server { dir, router } = Server::of(dir, served);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let serving = tokio::spawn(axum::serve(listener, router).into_future()).abort_handle();
    let machine = RemoteMachine::connect(&format!("http://{address}/"), signing())
        .await
        .unwrap();
    Remote {
        machine,
        address,
        serving,
        _dir: dir,
    }
}

aion_machine::machine_tests!(kit, remote());

async fn open(machine: &RemoteMachine) -> Arc<dyn Workspace> {
    machine
        .open(&WorkspaceSpec::new(RelPath::parse("w").unwrap()))
        .await
        .unwrap()
}

/// A wire between a client and a server that breaks off after a number of bytes of an answer, again and again.
async fn brittle(to: String, every: usize) -> (String, AbortHandle) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let relaying = tokio::spawn(async move {
        let mut wires = tokio::task::JoinSet::new();
        while let Ok((client, _)) = listener.accept().await {
            let to = to.clone();
            wires.spawn(async move {
                let Ok(server) = TcpStream::connect(to).await else {
                    return;
                };
                let ((mut from_client, mut to_client), (mut from_server, mut to_server)) =
                    (client.into_split(), server.into_split());
                let up = tokio::io::copy(&mut from_client, &mut to_server);
                let down = async {
                    let mut left = every;
                    let mut buffer = vec![0; 256];
                    while let Ok(n @ 1..) = from_server.read(&mut buffer).await {
                        if n > left || to_client.write_all(&buffer[..n]).await.is_err() {
                            return;
                        }
                        left -= n;
                    }
                };
                tokio::select! { _ = up => {}, () = down => {} }
            });
        }
    });
    (address, relaying.abort_handle())
}

/// However often the wire breaks, every byte comes once and in order, and the program is started once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_output_survives_a_wire_that_breaks() {
    let remote = remote().await;
    let (address, relaying) = brittle(remote.address.clone(), 6000).await;
    let options = signing().with_retries(8);
    let machine = RemoteMachine::connect(&format!("http://{address}"), options)
        .await
        .unwrap();
    let work = open(&machine).await;
    let line = "echo started >> log; i=0; while [ $i -lt 3000 ]; do echo line $i; i=$((i+1)); [ $((i % 50)) = 0 ] && sleep 0.02; done";
    let execution = work.start(ExecRequest::shell(line)).await.unwrap();
    let mut follower = execution.handle().follow();
    let mut seen = Vec::new();
    while let Some(event) = follower.next().await {
        let aion_machine::ExecEvent::Output { bytes, .. } = event else {
            panic!("{event:?}")
        };
        seen.extend(bytes);
    }
    let expected: String = (0..3000).map(|i| format!("line {i}\n")).collect();
    assert_eq!(String::from_utf8(seen).unwrap(), expected);
    // The last event has both ends of the output, which is more than this wire lets through.
    let _ = execution.wait().await;
    let direct = open(&remote).await;
    let log = direct
        .read(&RelPath::parse("log").unwrap(), Default::default())
        .await
        .unwrap();
    assert_eq!(log.bytes, b"started\n");
    relaying.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_machine_and_what_is_not_allowed_are_typed_errors() {
    let remote = remote().await;
    let connect =
        async |address: &str, options: RemoteOptions| RemoteMachine::connect(address, options).await;
    let quick = || signing().with_retries(1);
    assert_eq!(
        connect("http://127.0.0.1:1", quick()).await.unwrap_err().code(),
        "unreachable"
    );
    assert_eq!(
        connect("ftp://127.0.0.1", quick()).await.unwrap_err().code(),
        "invalid_request"
    );
    let base = format!("http://{}", remote.address);
    let unsigned = connect(&base, RemoteOptions::default()).await.unwrap();
    let refused = unsigned
        .open(&WorkspaceSpec::new(RelPath::root()))
        .await
        .unwrap_err();
    assert!(refused.to_string().contains("task_state_unsigned"), "{refused}");
    let small = connect(&base, signing().with_max_answer_bytes(500))
        .await
        .unwrap();
    let work = open(&small).await;
    work.write(
        &RelPath::parse("f").unwrap(),
        aion_machine::WriteRequest::new("x".repeat(400)),
    )
    .await
    .unwrap_err();
    let long = work
        .read(&RelPath::parse("f").unwrap(), Default::default())
        .await
        .unwrap_err();
    assert!(long.to_string().contains("longer than 500 bytes"), "{long}");
}

/// The client kills above its limit too, and a server that goes away is an error and not a hang.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_goes_away_is_said() {
    let remote = remote().await;
    let work = open(&remote).await;
    let execution = work.start(ExecRequest::new(["sleep", "600"])).await.unwrap();
    let (address, relaying) = brittle(remote.address.clone(), usize::MAX).await;
    let machine = RemoteMachine::connect(&format!("http://{address}"), signing().with_retries(1))
        .await
        .unwrap();
    let through = open(&machine).await;
    let lost = through.start(ExecRequest::new(["sleep", "600"])).await.unwrap();
    let killed = execution.handle();
    killed.kill();
    assert_eq!(execution.wait().await.unwrap().ending, Ending::Killed);
    relaying.abort();
    drop(remote);
    let ended = tokio::time::timeout(Duration::from_secs(30), lost.wait())
        .await
        .expect("it does not hang");
    assert!(ended.is_err() || ended.is_ok_and(|output| output.ending != Ending::Itself));
}

/// How the executions in the workspace of these tests are, asked for on the server itself.
async fn phases(remote: &Remote) -> Vec<(String, String)> {
    let keys = TaskKeys::parse(KEYS).unwrap();
    let state = keys.sign(None, Some(&RelPath::parse("w").unwrap()), u64::MAX >> 12);
    let url = format!("http://{}/v1/executions", remote.address);
    let request = reqwest::Client::new().get(url).header("x-task-state", state);
    let text = request.send().await.unwrap().text().await.unwrap();
    let list: serde_json::Value = serde_json::from_str(&text).unwrap();
    let word = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let all = list["executions"].as_array().unwrap().iter();
    all.map(|one| (word(&one["state"]), word(&one["result"]["ending"])))
        .collect()
}

async fn until_killed(remote: &Remote) {
    let killed = ("ended".to_owned(), "killed".to_owned());
    for _ in 0..500 {
        if phases(remote).await == [killed.clone()] {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{:?}", phases(remote).await);
}

/// A follower that gives up does not leave the program behind.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_gives_up_kills() {
    let remote = remote().await;
    // One event is more than this wire lets through; an answer of the server is not.
    let (address, relaying) = brittle(remote.address.clone(), 2000).await;
    let options = signing().with_retries(2);
    let machine = RemoteMachine::connect(&format!("http://{address}"), options)
        .await
        .unwrap();
    let work = open(&machine).await;
    let line = "head -c 6000 /dev/zero | tr '\\0' x; sleep 600";
    let execution = work.start(ExecRequest::shell(line)).await.unwrap();
    assert_eq!(execution.wait().await.unwrap_err().code(), "unreachable");
    until_killed(&remote).await;
    relaying.abort();
}

/// Who stops waiting for the start does not leave the program behind either.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_wait_for_the_start_kills() {
    let remote = remote().await;
    let work = open(&remote).await;
    let mut starting = work.start(ExecRequest::new(["sleep", "600"]));
    tokio::select! {
        biased;
        _ = &mut starting => panic!("it takes a while"),
        () = std::future::ready(()) => {}
    }
    drop(starting);
    until_killed(&remote).await;
}

/// However often an answer is lost, a change happens once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_whose_answer_is_lost_happens_once() {
    let remote = remote().await;
    let (address, relaying) = brittle(remote.address.clone(), 1100).await;
    let options = signing().with_retries(8);
    let machine = RemoteMachine::connect(&format!("http://{address}"), options)
        .await
        .unwrap();
    let work = open(&machine).await;
    let path = |n: u32| RelPath::parse(&format!("f{n}")).unwrap();
    work.write(&path(0), aion_machine::WriteRequest::new("x"))
        .await
        .unwrap();
    for n in 0..40 {
        work.rename(&path(n), &path(n + 1), Default::default())
            .await
            .unwrap();
    }
    assert_eq!(open(&remote).await.stat(&path(40)).await.unwrap().size_bytes, 1);
    relaying.abort();
}
