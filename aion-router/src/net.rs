//! What the clients of other servers share: which addresses they take, and how they connect.

use std::time::Duration;

use reqwest::redirect::Policy;
use reqwest::{ClientBuilder, Url};

/// The longest that a connection takes to be made.
const CONNECT: Duration = Duration::from_secs(5);

/// An http or https address without a password; else what may be said of it.
pub(crate) fn address(text: &str) -> Result<Url, String> {
    let fits = |url: &Url| matches!(url.scheme(), "http" | "https") && url.password().is_none();
    let place = || text.rsplit('@').next().unwrap_or_default().to_owned();
    Url::parse(text).ok().filter(fits).ok_or_else(place)
}

/// A client that goes nowhere else than it was sent.
pub(crate) fn client() -> ClientBuilder {
    // Fails only where a provider is set already, and then that one is used.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder()
        .connect_timeout(CONNECT)
        .redirect(Policy::none())
}
