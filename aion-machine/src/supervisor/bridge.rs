//! The supervisor's end of the way out: a listener on the loopback interface of the program's own network, which the
//! service gets and accepts on. Nothing of the proxy runs inside.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::net::TcpListener;
use std::os::fd::AsFd;

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

use super::plan::Report;
use super::run::Context;

/// The variables by which programs find a proxy.
const VARIABLES: [&str; 6] = [
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "http_proxy",
    "https_proxy",
    "all_proxy",
];
/// What is not asked for through it: the program itself.
const NOT_PROXIED: &str = "localhost,127.0.0.1,::1";

/// Opens the listener, hands it to the service, and tells the program where it is.
pub(super) fn offer(context: &mut Context) -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let url = format!("http://{}", listener.local_addr()?);
    let mut line = serde_json::to_vec(&Report::Listening)?;
    line.push(b'\n');
    let descriptors = [listener.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !control.push(SendAncillaryMessage::ScmRights(&descriptors)) {
        return Err(io::ErrorKind::OutOfMemory.into());
    }
    let sent = sendmsg(
        &context.control,
        &[IoSlice::new(&line)],
        &mut control,
        SendFlags::empty(),
    )?;
    if sent != line.len() {
        return Err(io::ErrorKind::WriteZero.into());
    }
    let env = &mut context.plan.env;
    env.retain(|(name, _)| !VARIABLES.contains(&name.as_str()));
    env.extend(VARIABLES.map(|name| (name.to_owned(), url.clone())));
    env.extend(["NO_PROXY", "no_proxy"].map(|name| (name.to_owned(), NOT_PROXIED.to_owned())));
    Ok(())
}
