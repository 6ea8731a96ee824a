//! A socket that one execution hands to another: it belongs to the network that it was made in, which may be lent to a
//! third execution next. Who holds such a socket must not get into the network of somebody else by it.

use std::fs;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use aion_machine::{ExecLimits, Tier};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketType,
};

use super::acts::{Act, Knowledge};
use super::leavings::PORT;
use super::{Outcome, Target, outcome};
use crate::exec::expected_tier;
use crate::support::options;

pub(super) const ACTS: &[(&str, Act)] = &[
    ("hand_socket", hand_socket),
    ("use_handed_socket", use_handed_socket),
];

/// Files of the workspace: the socket by which the other socket goes, and that it has come.
const HANDOVER: &str = "handover";
const RECEIVED: &str = "received";
const PATIENCE: Duration = Duration::from_secs(10);

fn patiently<T>(mut act: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match act() {
            Err(_) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(5)),
            done => return done,
        }
    }
}

/// Makes a socket of its network, hands it to who asks, and ends.
fn hand_socket(_: &Knowledge) -> io::Result<()> {
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None)?;
    let (other, _) = UnixListener::bind(HANDOVER)?.accept()?;
    let descriptors = [socket.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    assert!(control.push(SendAncillaryMessage::ScmRights(&descriptors)));
    rustix::net::sendmsg(&other, &[IoSlice::new(b"s")], &mut control, SendFlags::empty())?;
    Ok(())
}

fn receive(from: &UnixStream) -> io::Result<OwnedFd> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    rustix::net::recvmsg(
        from,
        &mut [IoSliceMut::new(&mut byte)],
        &mut control,
        RecvFlags::empty(),
    )?;
    let handed = control.drain().find_map(|part| match part {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    handed.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
}

/// Goes by the socket of somebody who is gone to the port of somebody who came after.
fn use_handed_socket(_: &Knowledge) -> io::Result<()> {
    let socket = receive(&patiently(|| UnixStream::connect(HANDOVER))?)?;
    fs::write(RECEIVED, "")?;
    let port = patiently(|| fs::read_to_string(PORT))?;
    let port = port.parse().map_err(io::Error::other)?;
    Ok(rustix::net::connect(
        &socket,
        &SocketAddrV4::new(Ipv4Addr::LOCALHOST, port),
    )?)
}

fn clear(place: &Path) {
    for name in [HANDOVER, RECEIVED, PORT] {
        let _ = fs::remove_file(place.join(name));
    }
}

/// Without walls it is one network for all three.
fn control(target: &Target) -> Outcome {
    let start = |name: &str| {
        let mut command = target.alone(name);
        command.stdout(Stdio::piped()).spawn().unwrap()
    };
    let (mut first, second) = (start("hand_socket"), start("use_handed_socket"));
    first.wait().unwrap();
    let mut third = start("listen");
    let said = second.wait_with_output().unwrap();
    third.kill().unwrap();
    third.wait().unwrap();
    clear(&target.place.inside());
    outcome(&String::from_utf8_lossy(&said.stdout))
}

#[tokio::test]
async fn a_handed_socket_leads_to_nobody_who_came_later() {
    let target = Target::new(options()).await;
    assert_eq!(control(&target), Outcome::Succeeded, "control");
    let reached = target.place.sh("true").await.unwrap().enforcement.tier();
    assert_eq!(reached, expected_tier());
    if reached != Tier::Namespaces {
        return;
    }
    let limits = || ExecLimits::default().with_wall_ms(20_000);
    let inside = target.place.inside();
    for _ in 0..3 {
        let later = async {
            let handed = target.confined("hand_socket", limits()).await;
            assert_eq!(outcome(&handed.stdout.text()), Outcome::Succeeded);
            while !inside.join(RECEIVED).exists() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            // What was lent to the first is free again, and would be the first choice for this one.
            target.confined("listen", limits()).await
        };
        let used = tokio::select! {
            ended = later => panic!("it listens no more: {ended:?}"),
            used = target.confined("use_handed_socket", limits()) => outcome(&used.stdout.text()),
        };
        // Not for want of a socket or a port: nobody listens where the socket belongs.
        let nobody_there = Outcome::Refused("refused: Connection refused (os error 111)".to_owned());
        assert_eq!(used, nobody_there);
        clear(&inside);
        target.check("use_handed_socket").await;
    }
}
