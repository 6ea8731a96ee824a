//! [`ServiceOptions`]: what a service has beside its tasks.

use crate::{Archive, TargetPolicy};

/// What a service has beside its tasks.
#[derive(Debug, Clone, Default)]
pub struct ServiceOptions {
    pub(crate) archive: Option<Archive>,
    pub(crate) targets: TargetPolicy,
}

impl From<TargetPolicy> for ServiceOptions {
    fn from(targets: TargetPolicy) -> Self {
        Self::default().with_targets(targets)
    }
}

impl ServiceOptions {
    /// Lets webhooks go where this allows. [`Deliverer`](crate::Deliverer) sends for them.
    #[must_use]
    pub fn with_targets(mut self, targets: TargetPolicy) -> Self {
        self.targets = targets;
        self
    }

    /// Keeps removed trees here where that is asked for.
    #[must_use]
    pub fn with_archive(mut self, archive: Archive) -> Self {
        self.archive = Some(archive);
        self
    }
}
