//! Waiting for the end of a program, or bringing it about.

use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags};

use super::plan::word;
use super::usage::Scales;
use crate::Ending;

/// How often the tree is looked at while the program runs.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Looking takes at most one part of so many of the time, however large the tree is.
const LOOK_SHARE: u32 = 20;
const LOOK_AT_LEAST_EVERY: Duration = Duration::from_secs(1);

/// What is watched, and what for.
pub(super) struct Vigil<'a> {
    /// The line to the service.
    pub(super) control: &'a OwnedFd,
    /// The first process of what is watched.
    pub(super) process: Pid,
    pub(super) deadline: Instant,
    /// How long a program has after it was asked to end.
    pub(super) grace: Duration,
    pub(super) scales: Scales,
}

/// Between asking a program to end and killing it.
#[derive(Clone, Copy)]
struct Asked {
    by: Ending,
    kill_at: Instant,
}

impl Vigil<'_> {
    /// Waits until the first process has ended or must be killed, which is left to the caller.
    /// `ask_to_end` sends `SIGTERM` to all; `meanwhile` is called now and then.
    pub(super) fn keep(mut self, ask_to_end: impl Fn(), meanwhile: impl Fn()) -> io::Result<Ending> {
        let process_fd = rustix::process::pidfd_open(self.process, PidfdFlags::empty())?;
        let mut ending: Option<Asked> = None;
        let mut next_look = Instant::now() + LOOK_EVERY;
        loop {
            let now = Instant::now();
            match ending {
                Some(Asked { by, kill_at }) if now >= kill_at => return Ok(by),
                None if now >= self.deadline => {
                    ending = Some(self.begin(Ending::TimedOut, &ask_to_end));
                    continue;
                }
                _ => {}
            }
            let until = ending.map_or(self.deadline, |e| e.kill_at).min(next_look);
            let mut fds = [
                PollFd::new(&process_fd, PollFlags::IN),
                PollFd::new(self.control, PollFlags::IN | PollFlags::RDHUP),
            ];
            match poll(&mut fds, Some(&timespec(until.saturating_duration_since(now)))) {
                Err(rustix::io::Errno::INTR) | Ok(0) => {}
                Err(e) => return Err(e.into()),
                Ok(_) if !fds[0].revents().is_empty() => {
                    return Ok(ending.map_or(Ending::Itself, |e| e.by));
                }
                Ok(_) => match self.listen() {
                    Some(word::END) if ending.is_none() => {
                        ending = Some(self.begin(Ending::Killed, &ask_to_end));
                    }
                    Some(word::END) => {}
                    _ => return Ok(Ending::Killed),
                },
            }
            if Instant::now() >= next_look {
                meanwhile();
                let began = Instant::now();
                if let Some(by) = self.scales.look() {
                    return Ok(by);
                }
                next_look = Instant::now() + pause_after(began.elapsed());
            }
        }
    }

    fn begin(&self, by: Ending, ask_to_end: impl Fn()) -> Asked {
        if !self.grace.is_zero() {
            ask_to_end();
        }
        let kill_at = Instant::now() + self.grace;
        Asked { by, kill_at }
    }

    /// The next word of the service; `None` if it is not there any more.
    fn listen(&self) -> Option<u8> {
        let mut byte = [0];
        let read = std::fs::File::from(self.control.try_clone().ok()?).read(&mut byte);
        (read.ok()? == 1).then_some(byte[0])
    }
}

/// How long nobody looks after a look that took so long.
pub(super) fn pause_after(look: Duration) -> Duration {
    (look * LOOK_SHARE).clamp(LOOK_EVERY, LOOK_AT_LEAST_EVERY)
}

fn timespec(d: Duration) -> Timespec {
    Timespec {
        tv_sec: d.as_secs() as i64,
        tv_nsec: i64::from(d.subsec_nanos()),
    }
}
