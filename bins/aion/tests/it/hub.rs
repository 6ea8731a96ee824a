//! `aion model pull` against a hub on the loopback interface that serves ranges and redirects, drops connections and
//! sends other bytes than it says.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};

use sha2::Digest;

/// What the hub does wrong.
#[derive(Debug, Clone, Copy, Default)]
struct Faults {
    /// Connections that end after this many bytes of a file, and how many of them.
    drops: (usize, usize),
    /// A byte is changed on the way.
    damage: bool,
    /// Ranges are not understood.
    no_ranges: bool,
    /// The digest is this instead.
    digest: Option<&'static str>,
    /// Only this file is dropped or damaged.
    only: Option<&'static str>,
}

impl Faults {
    fn concern(&self, name: &str) -> bool {
        self.only.is_none_or(|only| only == name)
    }
}

struct Hub {
    endpoint: String,
    state: Arc<Mutex<State>>,
}

struct State {
    /// The one revision that there is.
    sha: &'static str,
    files: HashMap<String, Vec<u8>>,
    faults: Faults,
    /// Ranges of downloads, in order.
    ranges: Vec<String>,
}

impl Hub {
    fn start(files: &[(&str, Vec<u8>)], faults: Faults) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::new(Mutex::new(State {
            sha: "c0ffee",
            files: named(files),
            faults,
            ranges: Vec::new(),
        }));
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = Arc::clone(&shared);
                std::thread::spawn(move || {
                    // A client that has gone away ends the thread.
                    let _gone = answer(&stream, &shared);
                });
            }
        });
        Self { endpoint, state }
    }

    fn ranges(&self) -> Vec<String> {
        self.state.lock().unwrap().ranges.clone()
    }

    fn set(&self, faults: Faults) {
        self.state.lock().unwrap().faults = faults;
    }

    /// Puts another revision in the place of the old one.
    fn commit(&self, sha: &'static str, files: &[(&str, Vec<u8>)]) {
        let mut state = self.state.lock().unwrap();
        (state.sha, state.files) = (sha, named(files));
    }

    fn pull(&self, cache: &Path, name: &str) -> Output {
        Command::new(env!("CARGO_BIN_EXE_aion"))
            .args(["model", "pull", name])
            .env("AION_CACHE", cache)
            .env("HF_ENDPOINT", &self.endpoint)
            .env("HF_HOME", cache.join("hf"))
            .output()
            .unwrap()
    }
}

fn named(files: &[(&str, Vec<u8>)]) -> HashMap<String, Vec<u8>> {
    let owned = files
        .iter()
        .map(|(name, bytes)| ((*name).to_owned(), bytes.clone()));
    owned.collect()
}

fn answer(stream: &TcpStream, state: &Mutex<State>) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    loop {
        let mut first = String::new();
        if reader.read_line(&mut first)? == 0 {
            return Ok(());
        }
        let mut range = None;
        loop {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            if line.trim().is_empty() {
                break;
            }
            if let Some((name, value)) = line.split_once(':')
                && name.eq_ignore_ascii_case("range")
            {
                range = Some(value.trim().trim_start_matches("bytes=").to_owned());
            }
        }
        let path = first.split(' ').nth(1).unwrap_or("/").to_owned();
        reply(stream, state, &path, range)?;
    }
}

fn reply(
    mut stream: &TcpStream,
    state: &Mutex<State>,
    path: &str,
    range: Option<String>,
) -> std::io::Result<()> {
    let mut state = state.lock().unwrap();
    if path.starts_with("/api/models/") {
        let siblings: Vec<_> = state
            .files
            .keys()
            .map(|name| serde_json::json!({"rfilename": name}))
            .collect();
        let body = serde_json::json!({"sha": state.sha, "siblings": siblings}).to_string();
        return write!(
            stream,
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
    }
    let sha = state.sha;
    // Only this revision is there; what is asked of `main` may be of any.
    let revision = format!("/resolve/{sha}/");
    let name = [revision.as_str(), "/cdn/"]
        .iter()
        .find_map(|start| path.split_once(start));
    let name = name.map(|(_, name)| name.to_owned()).unwrap_or_default();
    let Some(bytes) = state.files.get(&name).cloned() else {
        return write!(stream, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
    };
    let etag = state.faults.digest.map(str::to_owned);
    let etag = etag.unwrap_or_else(|| hex(&sha2::Sha256::digest(&bytes)));
    let named = format!("X-Repo-Commit: {sha}\r\nX-Linked-Etag: \"{etag}\"\r\nETag: \"{etag}\"\r\n");
    // The weights lie on another path, as on a hub with a content network.
    if name.ends_with(".gguf") && !path.starts_with("/cdn/") {
        return write!(
            stream,
            "HTTP/1.1 302 Found\r\nLocation: http://{}/cdn/{name}\r\n{named}Content-Length: 0\r\n\r\n",
            stream.local_addr()?
        );
    }
    let range = range.filter(|_| !state.faults.no_ranges);
    let Some((from, to)) = range.as_deref().and_then(|range| range.split_once('-')) else {
        write!(
            stream,
            "HTTP/1.1 200 OK\r\n{named}Content-Length: {}\r\n\r\n",
            bytes.len()
        )?;
        return stream.write_all(&bytes);
    };
    let from: usize = from.parse().unwrap();
    if from >= bytes.len() {
        state.ranges.push(format!("{name}:{from}"));
        return write!(
            stream,
            "HTTP/1.1 416 Range Not Satisfiable\r\nContent-Range: bytes */{}\r\nContent-Length: 0\r\n\r\n",
            bytes.len()
        );
    }
    let to = to.parse().unwrap_or(bytes.len() - 1);
    let mut part = bytes[from.min(bytes.len())..=to].to_vec();
    write!(
        stream,
        "HTTP/1.1 206 Partial Content\r\n{named}Content-Range: bytes {from}-{to}/{}\r\nContent-Length: {}\r\n\r\n",
        bytes.len(),
        part.len()
    )?;
    let probe = to == 0;
    if !probe {
        state.ranges.push(format!("{name}:{from}"));
        if state.faults.damage && state.faults.concern(&name) {
            part[0] ^= 0x55;
        }
        let (after, times) = state.faults.drops;
        if times > 0 && state.faults.concern(&name) {
            state.faults.drops.1 -= 1;
            stream.write_all(&part[..after.min(part.len())])?;
            stream.flush()?;
            return stream.shutdown(std::net::Shutdown::Both);
        }
    }
    stream.write_all(&part)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn weights(seed: u8) -> Vec<u8> {
    (0..300_000u32)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8 ^ seed)
        .collect()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn left(cache: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(cache.join("models")).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.retain(|name| !name.ends_with(".lock"));
    names.sort();
    names
}

#[test]
fn a_file_comes_over_a_redirect_and_connections_that_drop() {
    let hub = Hub::start(
        &[("m.gguf", weights(1)), ("README.md", b"x".to_vec())],
        Faults {
            drops: (70_000, 3),
            ..Faults::default()
        },
    );
    let cache = tempfile::tempdir().unwrap();
    let output = hub.pull(cache.path(), "org/repo");
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(left(cache.path()), ["org--repo"]);
    let place = cache.path().join("models/org--repo");
    assert_eq!(std::fs::read(place).unwrap(), weights(1));
    assert_eq!(
        hub.ranges(),
        ["m.gguf:0", "m.gguf:70000", "m.gguf:140000", "m.gguf:210000"]
    );
    // What is there is not fetched again.
    assert!(hub.pull(cache.path(), "org/repo").status.success());
    assert_eq!(hub.ranges().len(), 4);
}

#[test]
fn a_pull_goes_on_where_the_last_one_broke_off() {
    let always = Faults {
        drops: (10_000, usize::MAX),
        ..Faults::default()
    };
    let hub = Hub::start(&[("m.gguf", weights(2))], always);
    let cache = tempfile::tempdir().unwrap();
    let output = hub.pull(cache.path(), "org/repo/m.gguf");
    assert!(
        !output.status.success() && said(&output).contains("org/repo"),
        "{}",
        said(&output)
    );
    assert_eq!(left(cache.path()), [".org--repo--m.gguf.part"]);
    let before = hub.ranges().len();
    hub.set(Faults::default());
    let output = hub.pull(cache.path(), "org/repo/m.gguf");
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(hub.ranges()[before..], [format!("m.gguf:{}", before * 10_000)]);
    assert_eq!(left(cache.path()), ["org--repo--m.gguf"]);
    assert_eq!(
        std::fs::read(cache.path().join("models/org--repo--m.gguf")).unwrap(),
        weights(2)
    );
}

/// A pull that goes on, and whose first connection ends before any byte: what is there already is not fetched again.
#[test]
fn a_connection_without_a_byte_leaves_the_part_as_it_is() {
    let drops = |after, times| Faults {
        drops: (after, times),
        ..Faults::default()
    };
    let hub = Hub::start(&[("m.gguf", weights(8))], drops(10_000, usize::MAX));
    let cache = tempfile::tempdir().unwrap();
    assert!(!hub.pull(cache.path(), "org/repo").status.success());
    let before = hub.ranges().len();
    hub.set(drops(0, 2));
    let output = hub.pull(cache.path(), "org/repo");
    assert!(output.status.success(), "{}", said(&output));
    let rest = format!("m.gguf:{}", before * 10_000);
    assert_eq!(hub.ranges()[before..], [rest.as_str(); 3]);
    let place = cache.path().join("models/org--repo");
    assert_eq!(std::fs::read(place).unwrap(), weights(8));
}

#[test]
fn a_damaged_file_is_thrown_away_and_the_others_stay() {
    let files = [
        ("config.json", b"{}".to_vec()),
        ("tokenizer.json", b"{ }".to_vec()),
        ("model.safetensors", weights(3)),
    ];
    let damaged = Faults {
        damage: true,
        only: Some("model.safetensors"),
        ..Faults::default()
    };
    let hub = Hub::start(&files, damaged);
    let cache = tempfile::tempdir().unwrap();
    let output = hub.pull(cache.path(), "org/repo");
    assert!(
        !output.status.success() && said(&output).contains("SHA-256"),
        "{}",
        said(&output)
    );
    assert_eq!(left(cache.path()), [".org--repo.part"]);
    let before = hub.ranges().len();
    hub.set(Faults::default());
    let output = hub.pull(cache.path(), "org/repo");
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(hub.ranges()[before..], ["model.safetensors:0"]);
    assert_eq!(left(cache.path()), ["org--repo"]);
}

#[test]
fn a_hub_that_is_odd_gives_an_error_and_nothing_outside_the_cache() {
    for faults in [
        Faults {
            no_ranges: true,
            ..Faults::default()
        },
        Faults {
            digest: Some("../../../escaped"),
            ..Faults::default()
        },
        // What cannot be checked is not taken.
        Faults {
            digest: Some("0123abcd"),
            ..Faults::default()
        },
    ] {
        let hub = Hub::start(&[("m.gguf", weights(4))], faults);
        let cache = tempfile::tempdir().unwrap();
        let output = hub.pull(cache.path(), "org/repo");
        assert!(!output.status.success(), "{faults:?}");
        assert!(
            left(cache.path()).iter().all(|name| name.starts_with('.')),
            "{faults:?}"
        );
        let outside: Vec<_> = std::fs::read_dir(cache.path())
            .unwrap()
            .map(|e| e.unwrap().file_name())
            .collect();
        assert!(
            outside.iter().all(|name| name == "models" || name == "hf"),
            "{outside:?}"
        );
    }
}

#[test]
fn shards_become_one_directory_and_a_missing_file_is_an_error() {
    let files = [
        ("config.json", b"{}".to_vec()),
        ("tokenizer.json", b"{ }".to_vec()),
        ("tokenizer_config.json", b"{  }".to_vec()),
        ("model.safetensors.index.json", b"{   }".to_vec()),
        ("model-00001-of-00002.safetensors", weights(5)),
        ("model-00002-of-00002.safetensors", weights(6)),
    ];
    let hub = Hub::start(&files, Faults::default());
    let cache = tempfile::tempdir().unwrap();
    let output = hub.pull(cache.path(), "org/repo");
    assert!(output.status.success(), "{}", said(&output));
    for (name, bytes) in &files {
        assert_eq!(
            &std::fs::read(cache.path().join("models/org--repo").join(name)).unwrap(),
            bytes
        );
    }
    let output = hub.pull(cache.path(), "org/repo/none.gguf");
    assert!(
        !output.status.success() && said(&output).contains("404"),
        "{}",
        said(&output)
    );
}

/// A pull that broke off between the last byte and the end of the file has nothing left to ask for.
#[test]
fn a_part_that_is_whole_is_taken_as_it_is() {
    let hub = Hub::start(&[("m.gguf", weights(7))], Faults::default());
    let digest = hex(&sha2::Sha256::digest(weights(7)));
    for (left_over, asked) in [
        (weights(7), vec![]),
        (
            [weights(7), b"and more".to_vec()].concat(),
            vec!["m.gguf:0".to_owned()],
        ),
    ] {
        let cache = tempfile::tempdir().unwrap();
        let blobs = cache
            .path()
            .join("models/.org--repo--m.gguf.part/hub/models--org--repo/blobs");
        std::fs::create_dir_all(&blobs).unwrap();
        std::fs::write(blobs.join(&digest).with_extension("part"), left_over).unwrap();
        let before = hub.ranges().len();
        let output = hub.pull(cache.path(), "org/repo/m.gguf");
        assert!(output.status.success(), "{}", said(&output));
        assert_eq!(hub.ranges()[before..], asked);
        let place = cache.path().join("models/org--repo--m.gguf");
        assert_eq!(std::fs::read(place).unwrap(), weights(7));
        assert_eq!(left(cache.path()), ["org--repo--m.gguf"]);
    }
}

/// A repository that changes between two pulls gives the files of one revision, not some of each.
#[test]
fn files_of_two_revisions_never_mix() {
    let files = |seed: u8| {
        [
            ("config.json", format!("{{\"revision\": {seed}}}").into_bytes()),
            ("tokenizer.json", vec![b'0' + seed]),
            ("model.safetensors", weights(seed)),
        ]
    };
    let always = Faults {
        drops: (10_000, usize::MAX),
        only: Some("model.safetensors"),
        ..Faults::default()
    };
    let hub = Hub::start(&files(1), always);
    let cache = tempfile::tempdir().unwrap();
    assert!(!hub.pull(cache.path(), "org/repo").status.success());
    assert_eq!(left(cache.path()), [".org--repo.part"]);
    hub.commit("beef01", &files(2));
    hub.set(Faults::default());
    let output = hub.pull(cache.path(), "org/repo");
    assert!(output.status.success(), "{}", said(&output));
    for (name, bytes) in files(2) {
        let found = std::fs::read(cache.path().join("models/org--repo").join(name)).unwrap();
        assert!(found == bytes, "{name} is of another revision");
    }
    assert_eq!(left(cache.path()), ["org--repo"]);
}
