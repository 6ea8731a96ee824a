//! Versions as entity tags: `ETag`, `If-Match`, `If-None-Match`.

use aion_service::Problem;
use axum::response::{IntoResponse, Response};
use http::header::{self, HeaderName};
use http::{HeaderMap, HeaderValue, StatusCode};

/// An answer that has a version, or 304 if the client has that version already.
pub(crate) fn versioned(version: u64, headers: &HeaderMap, answer: impl IntoResponse) -> Response {
    let tag = format!("\"{version}\"");
    let known = lines(headers, &header::IF_NONE_MATCH).any(|tags| {
        let mut tags = tags.split(',').map(|one| one.trim().trim_start_matches("W/"));
        tags.any(|one| one == "*" || one == tag)
    });
    let mut response = if known {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        answer.into_response()
    };
    tagged(&mut response, version);
    response
}

/// Says which version the answer is about.
pub(crate) fn tagged(response: &mut Response, version: u64) {
    if let Ok(tag) = HeaderValue::from_str(&format!("\"{version}\"")) {
        response.headers_mut().insert(header::ETAG, tag);
    }
    let fresh = HeaderValue::from_static("private, no-cache");
    response.headers_mut().insert(header::CACHE_CONTROL, fresh);
}

/// What a write expects to find.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Condition {
    /// Anything or nothing: neither header was given.
    Nothing,
    /// Nothing: `If-None-Match: *`.
    Absent,
    /// Any version: `If-Match: *`.
    Present,
    /// One of these: `If-Match` with tags. Tags that are none of ours match nothing.
    OneOf(Vec<u64>),
}

impl Condition {
    pub(crate) fn of(headers: &HeaderMap) -> Result<Self, Problem> {
        let absent = headers.contains_key(header::IF_NONE_MATCH);
        if absent && headers.contains_key(header::IF_MATCH) {
            return Err(bad(
                "if-match",
                "If-Match and If-None-Match do not go together here",
            ));
        }
        if absent {
            let star = lines(headers, &header::IF_NONE_MATCH).all(|value| value.trim() == "*");
            return star
                .then_some(Self::Absent)
                .ok_or_else(|| bad("if-none-match", "a write takes If-None-Match: * only"));
        }
        if !headers.contains_key(header::IF_MATCH) {
            return Ok(Self::Nothing);
        }
        let mut versions = Vec::new();
        for tag in lines(headers, &header::IF_MATCH).flat_map(|line| line.split(',')) {
            match tag.trim() {
                "*" => return Ok(Self::Present),
                tag => versions.extend(version_of(tag)?),
            }
        }
        Ok(Self::OneOf(versions))
    }
}

/// The version that a tag names, if it is one of ours; weak tags never match a write.
fn version_of(tag: &str) -> Result<Option<u64>, Problem> {
    let strong = tag.strip_prefix("W/").unwrap_or(tag);
    let inner = strong.strip_prefix('"').and_then(|tag| tag.strip_suffix('"'));
    let inner = inner.ok_or_else(|| bad("if-match", "If-Match takes ETags, such as \"3\", or *"))?;
    Ok(inner.parse().ok().filter(|_| strong == tag))
}

fn lines<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    headers
        .get_all(name)
        .iter()
        .map(|value| value.to_str().unwrap_or_default())
}

fn bad(header: &str, detail: &str) -> Problem {
    Problem::bad_request("invalid_header", detail).at(format!("header:{header}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn headers_become_conditions() {
        let cases = [
            (&[][..], Condition::Nothing),
            (&[("if-none-match", "*")], Condition::Absent),
            (&[("if-match", "*")], Condition::Present),
            (&[("if-match", "\"3\"")], Condition::OneOf(vec![3])),
            (
                &[("if-match", "\"3\", \"x\", W/\"4\""), ("if-match", "\"5\"")],
                Condition::OneOf(vec![3, 5]),
            ),
        ];
        for (pairs, wanted) in cases {
            assert_eq!(Condition::of(&headers(pairs)).unwrap(), wanted, "{pairs:?}");
        }
        for pairs in [
            &[("if-match", "3")][..],
            &[("if-match", "")],
            &[("if-none-match", "\"3\"")],
            &[("if-match", "*"), ("if-none-match", "*")],
        ] {
            assert_eq!(
                Condition::of(&headers(pairs)).unwrap_err().status(),
                400,
                "{pairs:?}"
            );
        }
    }

    #[test]
    fn a_version_that_is_known_is_not_sent_again() {
        for (tags, status) in [
            ("\"7\"", 304),
            ("W/\"7\"", 304),
            ("*", 304),
            ("\"6\", \"7\"", 304),
            ("\"6\"", 200),
        ] {
            let known = headers(&[("if-none-match", tags)]);
            let response = versioned(7, &known, "body");
            assert_eq!(
                (response.status().as_u16(), &response.headers()["etag"]),
                (status, &HeaderValue::from_static("\"7\""))
            );
        }
    }
}
