//! An error with what caused it, for people who have to find out.

use std::error::Error;

/// The error and its causes in one line.
///
/// ```
/// let cause = std::io::Error::other("the disk is gone");
/// # #[derive(Debug)] struct Unread(std::io::Error);
/// # impl std::fmt::Display for Unread {
/// #     fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result { f.write_str("unread") }
/// # }
/// # impl std::error::Error for Unread {
/// #     fn source(&self) -> Option<&(dyn std::error::Error + 'static)> { Some(&self.0) }
/// # }
/// assert_eq!(aion_service::chain(&Unread(cause)), "unread: the disk is gone");
/// ```
pub fn chain(error: &dyn Error) -> String {
    let links = [error.to_string()].into_iter();
    links.chain(causes(error)).collect::<Vec<_>>().join(": ")
}

/// Tells on the standard error why a program ends: the error, then its causes, one a line.
pub fn report(program: &str, error: &dyn Error) {
    eprintln!("{program}: {error}");
    for cause in causes(error) {
        eprintln!("  because: {cause}");
    }
}

fn causes(error: &dyn Error) -> impl Iterator<Item = String> {
    let causes = std::iter::successors(error.source(), |cause| (*cause).source());
    causes.map(ToString::to_string)
}
