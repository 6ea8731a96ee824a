//! A directory that turns into a link to the outside and back while files are read below it.

use std::os::unix::fs::symlink;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use aion_machine::{GrepRequest, LocalMachine, ReadOptions, Workspace, WorkspaceSpec, WriteRequest};
use rustix::fs::{CWD, RenameFlags, renameat_with};

use crate::support::{Place, options, path};

const DURATION: Duration = Duration::from_secs(3);
/// A busy host gets longer, until the attack is seen to work at all.
const PATIENCE: Duration = Duration::from_secs(60);

/// Exchanges `dir` (a directory) and `link` (to the outside) until told to stop.
fn exchange(inside: std::path::PathBuf, stop: Arc<AtomicBool>) -> std::thread::JoinHandle<u64> {
    std::thread::spawn(move || {
        let mut turns = 0;
        while !stop.load(Ordering::Relaxed) {
            let (a, b) = (inside.join("dir"), inside.join("link"));
            renameat_with(CWD, &a, CWD, &b, RenameFlags::EXCHANGE).unwrap();
            turns += 1;
        }
        turns
    })
}

/// In three seconds: reads, writes and searches never reach the outside, while the control, which
/// resolves and then opens as programs usually do, does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_escapes_through_a_link_that_comes_and_goes() {
    let place = Place::with(options()).await;
    let (inside, outside) = (place.inside(), place.outside().join("other"));
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("t"), "outside").unwrap();
    place.put("dir/t", "inside").await;
    symlink(&outside, inside.join("link")).unwrap();

    let stop = Arc::new(AtomicBool::new(false));
    let attacker = exchange(inside.clone(), Arc::clone(&stop));
    let machine = LocalMachine::open_root(&inside, options()).unwrap();
    let work = machine.workspace(&WorkspaceSpec::new(path(""))).unwrap();
    let (mut reads, mut escapes, mut control_escapes) = (0_u64, 0_u64, 0_u64);
    let started = Instant::now();
    let shown = |rounds: u64, control: u64| rounds > 100 && control > 0;
    while started.elapsed() < DURATION || (!shown(reads, control_escapes) && started.elapsed() < PATIENCE) {
        if let Ok(read) = work.read(&path("dir/t"), ReadOptions::default()).await {
            escapes += u64::from(read.bytes == b"outside");
        }
        let _ = work
            .write(&path("dir/w"), WriteRequest::new(reads.to_string()))
            .await;
        if let Ok(found) = work.grep(GrepRequest::new("outside")).await {
            escapes += found.hits.len() as u64;
        }
        reads += 1;
        control_escapes += u64::from(naive_read(&inside).as_deref() == Some("outside"));
    }
    stop.store(true, Ordering::Relaxed);
    let turns = attacker.join().unwrap();
    eprintln!("{reads} rounds, {turns} exchanges, {escapes} escapes; control: {control_escapes}");
    assert_eq!(escapes, 0);
    assert!(!outside.join("w").exists(), "a write went outside");
    assert!(
        control_escapes > 0,
        "the attack does not work here, so this test shows nothing"
    );
    assert!(reads > 100 && turns > 100);
}

/// The usual mistake: look first, then open by the same path.
fn naive_read(inside: &std::path::Path) -> Option<String> {
    let mut last = None;
    for _ in 0..20 {
        let file = inside.join("dir/t");
        if file.canonicalize().is_ok_and(|real| real.starts_with(inside)) {
            last = std::fs::read_to_string(&file).ok();
        }
        if last.as_deref() == Some("outside") {
            break;
        }
    }
    last
}
