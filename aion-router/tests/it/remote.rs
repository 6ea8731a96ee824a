//! Embeddings by a server: one that behaves, and one that does all that it should not.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use aion_router::embed::remote::{RemoteEmbedder, RemoteError, RemoteOptions};
use aion_router::embed::{EmbedError, Embedder, embed_one};
use aion_router::{
    Blended, EngineOptions, HashingEmbedder, LiveError, LiveRouter, MemoryRouterStore, ShortlistState,
};
use aion_types::{ManualClock, Timestamp};
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use secrecy::SecretString;
use serde_json::{Value, json};

use crate::fixture::{query, tools};

/// What the server does next.
#[derive(Debug, Clone, Copy)]
enum Mood {
    /// As it should, with so many numbers.
    Good(usize),
    /// Fails so often, then is good.
    Shaky(usize),
    Fails(u16),
    Hangs,
    /// Answers slowly for ever.
    Drips,
    Says(&'static str),
    Huge,
    OneTooMany,
}

#[derive(Debug)]
struct Server {
    mood: Mutex<Mood>,
    asked: AtomicUsize,
    seen: Mutex<Vec<(Option<String>, Value)>>,
}

impl Server {
    async fn start(mood: Mood) -> (Arc<Self>, String) {
        let server = Arc::new(Self {
            mood: Mutex::new(mood),
            asked: AtomicUsize::new(0),
            seen: Mutex::default(),
        });
        let app = Router::new()
            .route("/v1/embeddings", post(answer))
            .with_state(server.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}/v1", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        (server, base)
    }

    fn is_now(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
        self.asked.store(0, Ordering::SeqCst);
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

async fn answer(State(server): State<Arc<Server>>, headers: HeaderMap, Json(body): Json<Value>) -> Response {
    let asked = server.asked.fetch_add(1, Ordering::SeqCst);
    let key = headers.get(header::AUTHORIZATION);
    let key = key.map(|key| key.to_str().unwrap().to_owned());
    server.seen.lock().unwrap().push((key, body.clone()));
    let mood = *server.mood.lock().unwrap();
    let texts = body["input"].as_array().unwrap();
    let good = |dim: usize, more: usize| {
        let row =
            |i: usize| json!({"index": i, "embedding": (0..dim).map(|j| i + j + 1).collect::<Vec<_>>()});
        // The last one first: the index counts.
        let data: Vec<Value> = (0..texts.len() + more).rev().map(row).collect();
        Json(json!({"object": "list", "data": data, "model": "m"})).into_response()
    };
    let code = |code: u16| StatusCode::from_u16(code).unwrap().into_response();
    match mood {
        Mood::Good(dim) => good(dim, 0),
        Mood::Shaky(fails) if asked < fails => code(503),
        Mood::Shaky(_) => good(4, 0),
        Mood::Fails(status) => code(status),
        Mood::Hangs => std::future::pending().await,
        Mood::Drips => {
            let drops = tokio_stream();
            Body::from_stream(drops).into_response()
        }
        Mood::Says(text) => text.into_response(),
        Mood::Huge => vec![b' '; 200_000].into_response(),
        Mood::OneTooMany => good(4, 1),
    }
}

/// A blank every 20 ms.
fn tokio_stream() -> impl futures::Stream<Item = Result<&'static str, std::io::Error>> {
    futures::stream::unfold((), |()| async {
        tokio::time::sleep(Duration::from_millis(20)).await;
        Some((Ok(" "), ()))
    })
}

fn options(base: &str) -> RemoteOptions {
    RemoteOptions::new(base, "m")
        .with_timeout(Duration::from_millis(300))
        .with_backoff(Duration::from_millis(5))
        .with_max_answer_bytes(100_000)
        .with_rest_ms(0)
}

fn said(error: &EmbedError) -> &RemoteError {
    let EmbedError::Failed { source, .. } = error else {
        panic!("{error:?}")
    };
    source.downcast_ref().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn texts_go_in_batches_and_vectors_come_back_in_order() {
    let (server, base) = Server::start(Mood::Good(3)).await;
    let options = options(&base).with_batch(2).with_max_text_bytes(5);
    let embedder = RemoteEmbedder::new(options.with_key(SecretString::from("s3cret"))).unwrap();
    assert!(!format!("{embedder:?}").contains("s3cret"));
    assert_eq!(embedder.ask_dim().unwrap(), 3);
    let mut out = vec![9.0; 12];
    embedder
        .embed(&["first", "", "größer", "last"], &mut out)
        .unwrap();
    let unit = |xs: [f64; 3]| {
        let length = xs.iter().map(|x| x * x).sum::<f64>().sqrt();
        xs.map(|x| (x / length) as f32)
    };
    assert_eq!(out[..3], unit([1.0, 2.0, 3.0]));
    assert_eq!(out[3..6], [0.0; 3], "nothing is asked of a text without words");
    assert_eq!(out[6..9], unit([2.0, 3.0, 4.0]));
    assert_eq!(out[9..], unit([1.0, 2.0, 3.0]));
    let seen = server.seen.lock().unwrap();
    assert_eq!(seen.len(), 3, "one to learn the dimension, two batches");
    assert!(seen.iter().all(|(key, body)| {
        key.as_deref() == Some("Bearer s3cret") && body["encoding_format"] == "float" && body["model"] == "m"
    }));
    // Cut between characters.
    assert_eq!(seen[1].1["input"], json!(["first", "grö"]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_passes_is_tried_again_and_what_lasts_is_not() {
    let (server, base) = Server::start(Mood::Shaky(2)).await;
    let embedder = RemoteEmbedder::new(options(&base)).unwrap();
    assert_eq!(embed_one(&embedder, "a").unwrap().len(), 4);
    assert_eq!(server.asked(), 4, "two fail, then the dimension, then the text");
    let fails = |mood: Mood, times: usize, is_it: fn(&RemoteError) -> bool| {
        server.is_now(mood);
        let started = Instant::now();
        let error = embed_one(&embedder, "b").unwrap_err();
        assert!(is_it(said(&error)), "{error:?}");
        assert_eq!(server.asked(), times, "{mood:?}");
        assert!(started.elapsed() < Duration::from_secs(5));
    };
    fails(Mood::Fails(500), 3, |e| matches!(e, RemoteError::Status(500)));
    fails(Mood::Fails(401), 1, |e| matches!(e, RemoteError::Status(401)));
    fails(Mood::Fails(301), 1, |e| matches!(e, RemoteError::Status(301)));
    fails(Mood::Hangs, 1, |e| matches!(e, RemoteError::TooSlow(_)));
    fails(Mood::Drips, 1, |e| matches!(e, RemoteError::TooSlow(_)));
    fails(Mood::Huge, 1, |e| matches!(e, RemoteError::TooLong(100_000)));
    fails(Mood::OneTooMany, 1, |e| {
        matches!(e, RemoteError::Count { texts: 1, found: 2 })
    });
    fails(Mood::Says("no JSON"), 1, |e| {
        matches!(e, RemoteError::Unreadable(_))
    });
    let nan = r#"{"data": [{"embedding": [null, 1, 2, 3]}]}"#;
    fails(Mood::Says(nan), 1, |e| matches!(e, RemoteError::Unreadable(_)));
    let infinite = r#"{"data": [{"embedding": [1e300, 1, 2, 3]}]}"#;
    // The reader of JSON refuses it by itself with some of its features, and rounds it to infinity with others.
    fails(Mood::Says(infinite), 1, |e| {
        matches!(e, RemoteError::NoVector(4) | RemoteError::Unreadable(_))
    });
    server.is_now(Mood::Good(5));
    let changed = embed_one(&embedder, "c").unwrap_err();
    assert!(
        matches!(changed, EmbedError::Dimension { dim: 4, found: 5, .. }),
        "{changed:?}"
    );
    server.is_now(Mood::Good(4));
    assert!(embed_one(&embedder, "d").is_ok(), "it recovers");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_failed_is_left_alone_for_a_while() {
    let (server, base) = Server::start(Mood::Fails(502)).await;
    let clock = ManualClock::at(Timestamp::from_ms(1_000_000));
    let options = options(&base)
        .with_rest_ms(10_000)
        .with_clock(Arc::new(clock.clone()));
    let embedder = RemoteEmbedder::new(options.with_dim(4)).unwrap();
    assert_eq!(embedder.dim(), 4);
    assert!(matches!(
        said(&embed_one(&embedder, "a").unwrap_err()),
        RemoteError::Status(502)
    ));
    clock.advance_ms(4_000);
    let error = embed_one(&embedder, "a").unwrap_err();
    let RemoteError::Resting { ago_ms, rest_ms } = said(&error) else {
        panic!("{error:?}")
    };
    assert_eq!((*ago_ms, *rest_ms, server.asked()), (4_000, 6_000, 3));
    clock.advance_ms(6_000);
    server.is_now(Mood::Good(4));
    assert!(embed_one(&embedder, "a").is_ok());
    // An answer about these texts is no reason to rest.
    server.is_now(Mood::Fails(400));
    assert!(embed_one(&embedder, "too long").is_err());
    server.is_now(Mood::Good(4));
    assert!(embed_one(&embedder, "b").is_ok());
}

#[test]
fn bad_addresses_are_refused_without_their_password() {
    for address in ["", "ftp://x/v1", "http://me:pass@host/v1"] {
        let error = RemoteEmbedder::new(RemoteOptions::new(address, "m")).unwrap_err();
        assert!(matches!(error, RemoteError::BadAddress(_)));
        assert!(!error.to_string().contains("me:pass"), "{error}");
    }
}

/// A router opens while its embedder is away, ranks by words and says so, and catches up when it comes back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_router_goes_on_without_its_embedder() {
    let (server, base) = Server::start(Mood::Fails(503)).await;
    let store = Arc::new(MemoryRouterStore::new());
    let embedder = || {
        let remote = RemoteEmbedder::new(options(&base)).unwrap();
        Arc::new(Blended::new(remote, HashingEmbedder, 0.2).unwrap())
    };
    let router = LiveRouter::open(store.clone(), embedder(), EngineOptions::default())
        .await
        .unwrap();
    let failed = router.upsert_all(tools()).await.unwrap_err();
    assert!(matches!(failed, LiveError::Embed(_)), "{failed:?}");
    let ranking = router.rank(&query("what is the weather", 30)).await.unwrap();
    let ShortlistState::Degraded { reason } = ranking.shortlist.state else {
        panic!("it does not say so")
    };
    assert!(reason.contains("remote:m") && reason.contains("503"), "{reason}");
    assert!(!ranking.shortlist.picks.is_empty());
    let again = LiveRouter::open(store, embedder(), EngineOptions::default())
        .await
        .unwrap();
    server.is_now(Mood::Good(6));
    for router in [router, again] {
        assert_eq!(router.embed_missing().await.unwrap(), 24);
        assert_eq!(router.embed_missing().await.unwrap(), 0);
        let fine = router.rank(&query("what is the weather like", 30)).await.unwrap();
        assert_eq!(fine.shortlist.state, ShortlistState::Active);
        server.is_now(Mood::Good(7));
        let other = router.rank(&query("and tomorrow", 30)).await.unwrap().shortlist;
        assert!(
            matches!(other.state, ShortlistState::Degraded { .. }),
            "{:?}",
            other.state
        );
        server.is_now(Mood::Good(6));
    }
}
