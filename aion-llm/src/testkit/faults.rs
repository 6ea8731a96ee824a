//! A model that fails when told to, and waits when told to.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// Faults of an engine made [`with_faults`](crate::EngineOptions::with_faults), and a log of its passes.
///
/// ```
/// use aion_llm::testkit::{Faults, TinyModel};
/// use aion_llm::{Engine, EngineOptions, Error};
/// let faults = Faults::new();
/// let options = EngineOptions::default().with_threads(1).with_faults(faults.clone());
/// let engine = Engine::load(&TinyModel::random(1).source(), options)?;
/// faults.panic_at(b'!'.into());
/// assert!(matches!(engine.score_text("help!"), Err(Error::Panicked(_))));
/// assert!(engine.score_text("help").is_ok());
/// # Ok::<(), Error>(())
/// ```
#[derive(Debug, Default)]
pub struct Faults {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    panic_at: Option<u32>,
    broken_at: Option<u32>,
    /// Passes that may still begin; none for no limit.
    allowed: Option<usize>,
    passes: Vec<Vec<usize>>,
}

impl Faults {
    /// No faults yet.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Every pass that runs this token panics.
    pub fn panic_at(&self, token: u32) {
        self.lock().panic_at = Some(token);
    }

    /// The logits after this token are not numbers.
    pub fn break_at(&self, token: u32) {
        self.lock().broken_at = Some(token);
    }

    /// No pass begins until it is allowed.
    pub fn hold(&self) {
        self.lock().allowed = Some(0);
    }

    /// This many more passes may begin.
    pub fn allow(&self, passes: usize) {
        let mut state = self.lock();
        state.allowed = state.allowed.map(|allowed| allowed + passes);
        drop(state);
        self.changed.notify_all();
    }

    /// All passes may begin.
    pub fn release(&self) {
        self.lock().allowed = None;
        self.changed.notify_all();
    }

    /// The passes that have begun: how many tokens of each sequence.
    pub fn passes(&self) -> Vec<Vec<usize>> {
        self.lock().passes.clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn before(&self, steps: &[&[u32]]) {
        let mut state = self.lock();
        while state.allowed == Some(0) {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.allowed = state.allowed.map(|allowed| allowed - 1);
        state
            .passes
            .push(steps.iter().map(|tokens| tokens.len()).collect());
        let panics = state
            .panic_at
            .is_some_and(|token| steps.iter().any(|tokens| tokens.contains(&token)));
        drop(state);
        assert!(!panics, "a fault that was asked for");
    }

    pub(crate) fn after(&self, tokens: &[u32], values: &mut [f32]) {
        if self.lock().broken_at.is_some_and(|token| tokens.contains(&token)) {
            values.fill(f32::NAN);
        }
    }
}
