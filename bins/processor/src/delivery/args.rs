//! What the operator says on the command line.

use clap::Args;

use super::AddressRange;
use super::target::{Plain, TargetPolicy};

/// Where webhooks may go beyond public addresses by https.
#[derive(Debug, Clone, Default, Args)]
pub struct TargetArgs {
    /// Addresses that webhooks may go to besides public ones, such as 10.0.0.0/8
    #[arg(long, value_name = "RANGE", env = "AION_WEBHOOK_ALLOW", value_delimiter = ',')]
    webhook_allow: Vec<AddressRange>,
    /// Lets webhooks go to http:// as well
    #[arg(long, env = "AION_WEBHOOK_HTTP")]
    webhook_http: bool,
}

impl TargetArgs {
    /// What they come to.
    pub fn policy(&self) -> TargetPolicy {
        let plain = if self.webhook_http {
            Plain::Allowed
        } else {
            Plain::Refused
        };
        let policy = TargetPolicy::default().with_plain(plain);
        let ranges = self.webhook_allow.iter();
        ranges.fold(policy, |policy, range| policy.with_range(*range))
    }
}
