//! The way to the network: none by default, and by the proxy only what the operator's list allows.
//!
//! All servers are the test's own, on loopback, which the operator allows here by a range; names are resolved by a
//! table. The programs inside speak to the proxy by hand, through `/dev/tcp` of bash.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aion_machine::{
    AllowList, ExecOutput, ExecRequest, Host, LocalOptions, Namespaces, NetworkConfinement, NetworkPolicy,
    NetworkRequest, NetworkVerdict, ProxyLimits, Resolve, Tier,
};
use async_trait::async_trait;

use crate::support::{Place, options};

/// Names with the addresses that they have one after the other; the last one stays.
#[derive(Debug, Default)]
struct Table {
    names: BTreeMap<&'static str, Vec<Vec<IpAddr>>>,
    asked: Mutex<Vec<String>>,
    count: AtomicUsize,
}

#[async_trait]
impl Resolve for Table {
    async fn resolve(&self, name: &str) -> std::io::Result<Vec<IpAddr>> {
        self.asked.lock().unwrap().push(name.to_owned());
        let nth = self.count.fetch_add(1, Ordering::Relaxed);
        let found = self.names.get(name);
        let found = found.map(|answers| answers[nth.min(answers.len() - 1)].clone());
        found.ok_or_else(|| std::io::ErrorKind::NotFound.into())
    }
}

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// A server that answers every connection with one word, one after the other, and how many there were.
struct Word {
    port: u16,
    count: Arc<AtomicUsize>,
    heard: Arc<Mutex<Vec<String>>>,
    /// How many of them were only to see how many there were.
    looks: AtomicUsize,
}

impl Word {
    fn serve() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (count, heard) = (
            Arc::<AtomicUsize>::default(),
            Arc::<Mutex<Vec<String>>>::default(),
        );
        let (counted, kept) = (Arc::clone(&count), Arc::clone(&heard));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                counted.fetch_add(1, Ordering::Relaxed);
                let mut buffer = [0; 4096];
                let n = stream.read(&mut buffer).unwrap_or(0);
                kept.lock()
                    .unwrap()
                    .push(String::from_utf8_lossy(&buffer[..n]).into_owned());
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nanswer");
            }
        });
        let looks = AtomicUsize::new(0);
        Self {
            port,
            count,
            heard,
            looks,
        }
    }

    /// How many connections there were. They are accepted in their order: one more, answered, and all before it have
    /// been counted.
    fn connections(&self) -> usize {
        let mut stream = TcpStream::connect((HERE, self.port)).unwrap();
        stream.write_all(b"look").unwrap();
        stream.read_to_end(&mut Vec::new()).unwrap();
        let looks = self.looks.fetch_add(1, Ordering::Relaxed) + 1;
        self.count.load(Ordering::Relaxed) - looks
    }
}

fn allow(hosts: &[&str], names: &[(&'static str, Vec<Vec<IpAddr>>)]) -> (AllowList, Arc<Table>) {
    let table = Arc::new(Table {
        names: names.iter().cloned().collect(),
        ..Table::default()
    });
    let list = hosts.iter().fold(AllowList::new(), |list, host| {
        list.with_host(host.parse().unwrap())
    });
    (list.with_resolver(Arc::clone(&table) as Arc<dyn Resolve>), table)
}

fn with(list: AllowList) -> LocalOptions {
    options().with_network(NetworkPolicy::Allow(list))
}

/// A line of bash that sends these bytes to the proxy, written as for `printf`, and shows what comes back.
fn ask(bytes: &str) -> String {
    format!(
        "p=${{HTTP_PROXY##*:}}; exec 3<>/dev/tcp/127.0.0.1/$p || exit 9; printf '{bytes}' >&3; timeout 5 cat <&3"
    )
}

async fn bash(place: &Place, line: &str) -> ExecOutput {
    let request = ExecRequest::new(["bash", "-c", line]);
    place.work.exec(request).await.unwrap()
}

async fn verdict_of(list: AllowList, bytes: &str) -> (NetworkVerdict, String) {
    let place = Place::with(with(list)).await;
    let output = bash(&place, &ask(bytes)).await;
    assert_eq!(output.network.len(), 1, "{output:?}");
    (output.network[0].verdict, output.stdout.text())
}

fn get(host: &str, port: u16) -> String {
    format!("GET http://{host}:{port}/path HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n")
}

fn connect(host: &str, port: u16) -> String {
    format!("CONNECT {host}:{port} HTTP/1.1\\r\\n\\r\\nGET / HTTP/1.0\\r\\n\\r\\n")
}

/// Whether a tier with a network of its own is promised here.
fn has_namespaces() -> bool {
    std::env::var("AION_EXPECT_TIER").as_deref() != Ok("2")
}

#[tokio::test]
async fn a_listed_name_is_reached_both_ways_and_what_happened_is_said() {
    if !has_namespaces() {
        return;
    }
    let server = Word::serve();
    let names = [("good.test", vec![vec![HERE]])];
    let (list, _) = allow(&["good.test:*"], &names);
    let place = Place::with(with(list.with_range("127.0.0.0/8".parse().unwrap()))).await;
    let output = bash(&place, &ask(&get("GOOD.test.", server.port))).await;
    assert!(output.stdout.text().ends_with("answer"), "{output:?}");
    assert_eq!(output.enforcement.network, NetworkConfinement::NamespaceAndProxy);
    assert_eq!(output.enforcement.tier(), Tier::Namespaces);
    let said = &output.network[0];
    assert_eq!((said.host.as_str(), said.port), ("good.test", server.port));
    assert_eq!(
        (said.address, said.verdict),
        (Some(HERE), NetworkVerdict::Allowed)
    );
    assert!(said.sent_bytes > 20 && said.received_bytes > 40, "{said:?}");
    let heard = server.heard.lock().unwrap()[0].clone();
    assert!(heard.starts_with("GET /path HTTP/1.1\r\n"), "{heard}");
    assert!(
        heard.contains(&format!("Host: good.test:{}\r\n", server.port)),
        "{heard}"
    );
    let output = bash(&place, &ask(&connect("good.test", server.port))).await;
    assert!(
        output.stdout.text().contains("200 Connection established"),
        "{output:?}"
    );
    assert!(output.stdout.text().ends_with("answer"), "{output:?}");
    // The variables that programs look for are there, and none of the operator's own.
    let env = bash(&place, "echo $https_proxy $ALL_PROXY $NO_PROXY")
        .await
        .stdout
        .text();
    assert!(
        env.starts_with("http://127.0.0.1:") && env.contains("localhost,127.0.0.1"),
        "{env}"
    );
}

#[tokio::test]
async fn what_is_not_listed_or_not_public_is_not_reached() {
    if !has_namespaces() {
        return;
    }
    let server = Word::serve();
    let metadata = IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254));
    let names = [
        ("inside.test", vec![vec![HERE]]),
        ("meta.test", vec![vec![metadata]]),
        ("mapped.test", vec![vec!["::ffff:127.0.0.1".parse().unwrap()]]),
        (
            "both.test",
            vec![vec![IpAddr::V4(Ipv4Addr::new(93, 184, 215, 14)), HERE]],
        ),
        ("gone.test", vec![vec![]]),
    ];
    let port = server.port;
    // The operator names the hosts, but not the range that they are in.
    let any = || allow(&["*:*", "127.0.0.1:*", "[::1]:*"], &names).0;
    for (host, wanted) in [
        ("inside.test", NetworkVerdict::NotPublic),
        ("meta.test", NetworkVerdict::NotPublic),
        ("mapped.test", NetworkVerdict::NotPublic),
        ("both.test", NetworkVerdict::NotPublic),
        ("127.0.0.1", NetworkVerdict::NotPublic),
        ("[::1]", NetworkVerdict::NotPublic),
        ("gone.test", NetworkVerdict::Unresolved),
        ("nowhere.test", NetworkVerdict::Unresolved),
        ("10.0.0.1", NetworkVerdict::NotListed),
        ("0x7f.1", NetworkVerdict::Malformed),
        ("2130706433", NetworkVerdict::Malformed),
        ("127.1", NetworkVerdict::Malformed),
    ] {
        let (verdict, answer) = verdict_of(any(), &get(host, port)).await;
        assert_eq!(verdict, wanted, "{host}");
        assert!(!answer.contains("answer"), "{host}: {answer}");
    }
    let (other, _) = allow(&["other.test:*"], &names);
    let (verdict, answer) = verdict_of(other, &connect("inside.test", port)).await;
    assert_eq!(verdict, NetworkVerdict::NotListed);
    assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
    assert_eq!(server.connections(), 0);
    // The control: with the range, the same name is reached.
    let listed = allow(&["*:*"], &names)
        .0
        .with_range("127.0.0.0/8".parse().unwrap());
    assert_eq!(
        verdict_of(listed, &get("inside.test", port)).await.0,
        NetworkVerdict::Allowed
    );
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn a_nul_byte_in_a_name_fools_nobody() {
    if !has_namespaces() {
        return;
    }
    let server = Word::serve();
    let names = [("evil.test", vec![vec![HERE]]), ("x.good.test", vec![vec![HERE]])];
    let fooled = |list: AllowList| list.with_range("127.0.0.0/8".parse().unwrap());
    for host in [
        "evil.test\\0.good.test",
        "evil.test%%00.good.test",
        "evil.test\\r\\n.good.test",
        "evil.test@x.good.test",
    ] {
        let (list, table) = allow(&["*.good.test:*"], &names);
        let (verdict, _) = verdict_of(fooled(list), &connect(host, server.port)).await;
        assert_eq!(verdict, NetworkVerdict::Malformed, "{host}");
        assert!(table.asked.lock().unwrap().is_empty(), "{host} was resolved");
    }
    assert_eq!(server.connections(), 0);
    let (list, _) = allow(&["*.good.test:*"], &names);
    let (verdict, _) = verdict_of(fooled(list), &connect("x.good.test", server.port)).await;
    assert_eq!(verdict, NetworkVerdict::Allowed);
}

/// A name that has a harmless address when it is looked at and another one a moment later (DNS rebinding): it is
/// resolved once, and what was looked at is connected to.
#[tokio::test]
async fn a_name_that_changes_its_address_is_resolved_once() {
    if !has_namespaces() {
        return;
    }
    let (good, bad) = (Word::serve(), IpAddr::V4(Ipv4Addr::new(127, 0, 0, 77)));
    let names = [("moving.test", vec![vec![HERE], vec![bad]])];
    let (list, table) = allow(&["moving.test:*"], &names);
    // Only the first address is in the range: had it been asked for again, there would be no connection.
    let list = list.with_range("127.0.0.1".parse().unwrap());
    let place = Place::with(with(list)).await;
    let output = bash(&place, &ask(&get("moving.test", good.port))).await;
    assert_eq!(output.network[0].address, Some(HERE), "{output:?}");
    assert_eq!(table.asked.lock().unwrap().len(), 1);
    let output = bash(&place, &ask(&get("moving.test", good.port))).await;
    assert_eq!(output.network[0].verdict, NetworkVerdict::NotPublic);
    assert_eq!(good.connections(), 1);
}

#[tokio::test]
async fn there_is_no_other_way_out_than_the_proxy() {
    if !has_namespaces() {
        return;
    }
    let server = Word::serve();
    let names = [("good.test", vec![vec![HERE]])];
    let direct = format!("exec 3<>/dev/tcp/127.0.0.1/{}", server.port);
    let raw = "python3 -c 'import socket; socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)'";
    let packet = "python3 -c 'import socket; socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)'";
    let resolve = "python3 -c 'import socket; socket.create_connection((\"192.0.2.1\", 53), 2)'";
    let outside = std::process::Command::new("bash")
        .args(["-c", &direct])
        .status()
        .unwrap();
    assert!(outside.success(), "the control failed");
    if rustix::process::getuid().is_root() {
        for line in [raw, packet] {
            let outside = std::process::Command::new("bash")
                .args(["-c", line])
                .status()
                .unwrap();
            assert!(outside.success(), "the control failed: {line}");
        }
    }
    let before = server.connections();
    for list in [
        None,
        Some(
            allow(&["good.test:*"], &names)
                .0
                .with_range("127.0.0.0/8".parse().unwrap()),
        ),
    ] {
        let options = list.map_or_else(options, with);
        let place = Place::with(options).await;
        for line in [direct.as_str(), raw, packet, resolve] {
            let output = bash(&place, line).await;
            assert!(!output.success(), "{line}: {output:?}");
            assert_ne!(output.exit_code, Some(127), "{line}: {output:?}");
        }
    }
    assert_eq!(server.connections(), before);
}

#[tokio::test]
async fn a_request_narrows_and_never_widens() {
    if !has_namespaces() {
        return;
    }
    let server = Word::serve();
    let names = [("a.test", vec![vec![HERE]]), ("b.test", vec![vec![HERE]])];
    let (list, _) = allow(&["a.test:*"], &names);
    let place = Place::with(with(list.with_range("127.0.0.0/8".parse().unwrap()))).await;
    let run = async |network: NetworkRequest, host: &str| {
        let line = ask(&get(host, server.port));
        let request = ExecRequest::new(["bash", "-c", line.as_str()]).with_network(network);
        place.work.exec(request).await.unwrap()
    };
    let only = |host: &str| NetworkRequest::Only(vec![format!("{host}:*").parse().unwrap()]);
    assert_eq!(
        run(NetworkRequest::Granted, "a.test").await.network[0].verdict,
        NetworkVerdict::Allowed
    );
    assert_eq!(
        run(only("a.test"), "a.test").await.network[0].verdict,
        NetworkVerdict::Allowed
    );
    assert_eq!(
        run(only("b.test"), "a.test").await.network[0].verdict,
        NetworkVerdict::NotListed
    );
    assert_eq!(
        run(only("b.test"), "b.test").await.network[0].verdict,
        NetworkVerdict::NotListed
    );
    let off = run(NetworkRequest::Off, "a.test").await;
    assert!(off.network.is_empty() && !off.success(), "{off:?}");
    assert_eq!(off.enforcement.network, NetworkConfinement::Namespace);
    // Where the operator allows nothing, a request gets nothing.
    let place = Place::new().await;
    let request = ExecRequest::new(["bash", "-c", "echo \"[$HTTP_PROXY]\""]).with_network(only("a.test"));
    let output = place.work.exec(request).await.unwrap();
    assert_eq!(output.stdout.text(), "[]\n");
    assert_eq!(output.enforcement.network, NetworkConfinement::Namespace);
}

#[tokio::test]
async fn connections_bytes_and_time_are_bounded() {
    if !has_namespaces() {
        return;
    }
    let server = Word::serve();
    let names = [("a.test", vec![vec![HERE]])];
    let limited = |limits| {
        let (list, _) = allow(&["a.test:*"], &names);
        with(
            list.with_range("127.0.0.0/8".parse().unwrap())
                .with_limits(limits),
        )
    };
    let place = Place::with(limited(ProxyLimits::default().with_connections(1))).await;
    let line = format!(
        "p=${{HTTP_PROXY##*:}}; exec 4<>/dev/tcp/127.0.0.1/$p; sleep 0.5; {}",
        ask(&get("a.test", server.port))
    );
    let output = bash(&place, &line).await;
    assert!(output.stdout.text().starts_with("HTTP/1.1 503"), "{output:?}");
    assert_eq!(output.network[0].verdict, NetworkVerdict::TooMany);
    let place = Place::with(limited(ProxyLimits::default().with_total_bytes(100))).await;
    let output = bash(&place, &ask(&get("a.test", server.port))).await;
    assert!(!output.stdout.text().ends_with("answer"), "{output:?}");
    // Whoever says nothing is not waited for.
    let place = Place::with(limited(
        ProxyLimits::default().with_head_time(Duration::from_millis(300)),
    ))
    .await;
    let silent = "p=${HTTP_PROXY##*:}; exec 3<>/dev/tcp/127.0.0.1/$p; timeout 20 cat <&3";
    let output = bash(&place, silent).await;
    assert!(output.success() && output.duration_ms < 15_000, "{output:?}");
}

#[tokio::test]
async fn without_a_network_of_its_own_nothing_is_executed_that_was_to_have_a_proxy() {
    let (list, _) = allow(&["a.test:*"], &[]);
    let place = Place::with(
        with(list)
            .with_namespaces(Namespaces::Never)
            .with_run_as(aion_machine::RunAs::Service),
    )
    .await;
    let refused = place.sh("true").await.unwrap_err();
    assert_eq!(refused.code(), "confinement_unavailable");
    assert!(refused.to_string().contains("network"), "{refused}");
    // A request that wants none of it is executed.
    let request = ExecRequest::new(["true"]).with_network(NetworkRequest::Off);
    assert!(place.work.exec(request).await.unwrap().success());
}

#[tokio::test]
async fn nothing_is_left_when_the_program_ends_before_its_connections() {
    if !has_namespaces() {
        return;
    }
    // A host that never answers.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let names = [("a.test", vec![vec![HERE]])];
    let (list, _) = allow(&["a.test:*"], &names);
    let place = Place::with(with(list.with_range("127.0.0.0/8".parse().unwrap()))).await;
    let line = format!("{} & sleep 0.5", ask(&connect("a.test", port)));
    let output = bash(&place, &line).await;
    assert!(output.duration_ms < 4000, "{output:?}");
    assert!(output.network[0].sent_bytes > 0, "{output:?}");
    let (mut held, _) = silent.accept().unwrap();
    held.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let mut all = Vec::new();
    // The end of the stream, or a reset: either way the other side is gone.
    let _ = held.read_to_end(&mut all);
    assert!(Host::parse("a.test").is_ok() && !all.is_empty());
}
