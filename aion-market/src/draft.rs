//! Changes of a market that are not stored yet.

use aion_types::{Format, MarketId, Timestamp};

use crate::Result;
use crate::engine::{Decision, MarketState};
use crate::event::{Event, RequestKey, StoredEvent};
use crate::ledger::{Entry, entries};
use crate::spec::MarketSpec;

/// A market with events that are not stored yet.
#[derive(Debug)]
pub(crate) struct Draft {
    /// The version that it started from; 0 for a new market.
    pub(crate) from: u64,
    /// The market with the new events.
    pub(crate) state: MarketState,
    /// The new events.
    pub(crate) events: Vec<StoredEvent>,
    /// Their ledger rows.
    pub(crate) entries: Vec<Entry>,
}

impl Draft {
    /// A market that opens.
    pub(crate) fn opening(id: MarketId, spec: MarketSpec, at: Timestamp) -> Result<Self> {
        let event = Event::MarketOpened { spec: Box::new(spec) };
        let (format, seq, request) = (Format::default(), 1, None);
        let first = StoredEvent {
            format,
            seq,
            at,
            request,
            event,
        };
        let state = MarketState::open(id, &first)?;
        Ok(Self {
            from: 0,
            state,
            events: vec![first],
            entries: Vec::new(),
        })
    }

    /// A market as it is.
    pub(crate) fn of(state: MarketState) -> Self {
        Self {
            from: state.version(),
            state,
            events: Vec::new(),
            entries: Vec::new(),
        }
    }

    /// Appends an event.
    pub(crate) fn push(&mut self, event: Event, request: Option<RequestKey>, at: Timestamp) -> Result<()> {
        let (format, seq) = (Format::default(), self.state.version() + 1);
        let stored = StoredEvent {
            format,
            seq,
            at,
            request,
            event,
        };
        // Nothing is kept of an event that does not apply.
        let rows = entries(&self.state, &stored)?;
        self.state.apply(&stored)?;
        self.entries.extend(rows);
        self.events.push(stored);
        Ok(())
    }

    /// The event of this number, if it is one of the new ones.
    pub(crate) fn event(&self, seq: u64) -> Option<&StoredEvent> {
        let index = seq.checked_sub(self.from + 1)?;
        self.events.get(usize::try_from(index).ok()?)
    }

    /// Appends what a request becomes, if it is new.
    pub(crate) fn decide(&mut self, decision: Decision, at: Timestamp) -> Result<()> {
        match decision {
            Decision::Append { event, request } => self.push(event, request, at),
            Decision::Recorded { .. } => Ok(()),
        }
    }
}
