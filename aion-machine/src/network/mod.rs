//! A way to the network for those who may use it: an allow-list proxy.
//!
//! A program in its own network namespace has no way out. Where the operator allows some
//! ([`NetworkPolicy::Allow`]), the supervisor opens a listener on the loopback interface of that namespace and
//! hands it to the service, which accepts on it from outside: nothing of the proxy runs inside, and there is no
//! other door. The program is told by `HTTP_PROXY`, `HTTPS_PROXY` and `ALL_PROXY`.
//!
//! For each connection the proxy reads one `CONNECT` or one plain HTTP request, normalises the name of the
//! host ([`Host`]), looks it up in the operator's list and the request's own, resolves it, refuses addresses that
//! are not public unless the operator allows their range, and connects to the very address that it looked at.
//! What was asked and answered is in [`ExecOutput::network`](crate::ExecOutput::network).
//!
//! What it does not do: it does not look into TLS, so a name that is allowed and shares its address with others
//! (a content network) can be used to reach those.

mod decision;
mod head;
mod host;
mod policy;
mod proxy;
mod resolve;

pub use self::decision::{NetworkDecision, NetworkVerdict};
pub use self::host::{Host, HostPattern};
pub use self::policy::{AllowList, NetworkPolicy, NetworkRequest, ProxyLimits};
pub(crate) use self::proxy::Proxy;
pub use self::resolve::{Resolve, SystemResolver};
