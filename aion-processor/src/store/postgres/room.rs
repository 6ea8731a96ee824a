//! Whether the server has room, and how often that is tried.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How often a claim is let through to see whether a full server has room again.
const PROBE: Duration = Duration::from_secs(1);

/// Whether the server has room; shared with the readers.
#[derive(Debug, Default)]
pub(super) struct Room {
    full: AtomicBool,
    probed: Mutex<Option<Instant>>,
}

impl Room {
    pub(super) fn is_full(&self) -> bool {
        self.full.load(Ordering::Relaxed)
    }

    pub(super) fn set_full(&self, full: bool) {
        if self.full.swap(full, Ordering::Relaxed) != full {
            if full {
                tracing::error!("the storage is full: nothing is claimed until it has room");
            } else {
                tracing::info!("the storage has room again");
            }
        }
    }

    /// Whether a claim is put off because there is no room.
    pub(super) fn puts_off(&self) -> bool {
        if !self.is_full() {
            return false;
        }
        let mut probed = self
            .probed
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if probed.is_none_or(|probed| probed.elapsed() >= PROBE) {
            *probed = Some(Instant::now());
            return false;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A full server is tried by one claim a second, and any write that succeeds ends that.
    #[test]
    fn one_claim_probes() {
        let room = Room::default();
        assert!(!room.puts_off());
        room.set_full(true);
        assert!(!room.puts_off());
        assert!(room.puts_off());
        room.set_full(false);
        assert!(!room.puts_off());
    }
}
