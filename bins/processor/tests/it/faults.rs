//! The store over HTTP when things go wrong: servers that die, come back, refuse, or are somebody else's.

use std::error::Error as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use aion_processor::{
    ClaimReq, Done, Error, HttpOptions, HttpTaskStore, Limits, MemTaskStore, NewTask, Op, Processor, Query,
    Retry, TaskStore, Write,
};
use aion_service::{ApiKey, Json, Problem, ServeOptions};
use aion_types::{Clock, HandlerId, Json as Value, Status, SystemClock, TaskId};
use axum::Router;
use axum::extract::Request;
use axum::middleware::{Next, from_fn};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::any;
use http_body_util::BodyExt;
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;

use crate::served::{Served, options};

fn memory() -> Arc<dyn TaskStore> {
    Arc::new(MemTaskStore::new(SystemClock, Limits::default()))
}

fn task() -> NewTask {
    NewTask::new(TaskId::generate(SystemClock.now()), "test", "A task")
}

fn create() -> Write {
    Op::Create(Box::new(task())).into()
}

fn wish() -> ClaimReq {
    ClaimReq::new(HandlerId::new("worker").unwrap())
}

/// The error and its causes.
fn told(error: &Error) -> String {
    let cause = error.source().map(ToString::to_string).unwrap_or_default();
    format!("{error}: {cause}")
}

/// A server that takes requests and dies before it answers; counts them.
async fn deadly() -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut some = [0; 4_096];
            if stream.read(&mut some).await.unwrap_or(0) > 0 {
                counted.fetch_add(1, Ordering::SeqCst);
            }
        }
    });
    (url, count)
}

#[tokio::test]
async fn an_unknown_outcome_is_told_and_only_repeated_where_that_is_harmless() {
    let (url, count) = deadly().await;
    let store = HttpTaskStore::new(&url, options()).unwrap();
    let told_of = |error: Error| assert!(error.is_unknown(), "{error:?}");
    let start = Write::from(Op::Start(task().id));
    told_of(store.apply(vec![start.clone()]).await.unwrap_err());
    assert_eq!(count.swap(0, Ordering::SeqCst), 1, "starting is not repeated");
    told_of(store.claim(wish()).await.unwrap_err());
    assert_eq!(count.swap(0, Ordering::SeqCst), 1, "claiming is not repeated");
    told_of(store.apply(vec![create()]).await.unwrap_err());
    assert_eq!(count.swap(0, Ordering::SeqCst), 3, "creating is");
    told_of(store.apply(vec![create(), start]).await.unwrap_err());
    assert_eq!(count.swap(0, Ordering::SeqCst), 1, "not with something else");
    told_of(store.read(Query::Counts).await.unwrap_err());
    assert_eq!(count.load(Ordering::SeqCst), 3, "asking is");
}

#[tokio::test]
async fn a_client_goes_on_when_the_server_is_back() {
    let store = memory();
    let served = Served::over(Arc::clone(&store)).await;
    let (addr, processor) = (served.addr, Processor::new(served.client()));
    let mut hints = processor.wake();
    let first = processor.create(task()).await.unwrap().id;
    assert_eq!(next(&mut hints).await.last_seq, 2);
    served.stop().await;
    let error = processor.create(task()).await.unwrap_err();
    assert!(error.is_unknown(), "{error:?}");
    assert!(processor.counts().await.unwrap_err().is_unknown());

    let _served = Served::at(store, ServeOptions::loopback(addr.port())).await;
    let second = processor.create(task()).await.unwrap().id;
    assert!(next(&mut hints).await.last_seq >= 4, "hints come again");
    for id in [first, second] {
        assert_eq!(processor.get(id).await.unwrap().status, Status::Ready);
    }
}

async fn next(hints: &mut futures::stream::BoxStream<'static, aion_processor::Wake>) -> aion_processor::Wake {
    let hint = tokio::time::timeout(Duration::from_secs(20), futures::StreamExt::next(hints));
    hint.await.expect("a hint in time").expect("the stream goes on")
}

#[tokio::test]
async fn a_server_that_dies_while_it_works_leaves_the_outcome_open() {
    let slow = Router::new().fallback(any(async || {
        tokio::time::sleep(Duration::from_secs(600)).await;
    }));
    let served = Served::router(slow, ServeOptions::loopback(0)).await;
    let store = served.client();
    let asked = tokio::spawn(async move { store.claim(wish()).await });
    while served.requests() == 0 {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    served.stop().await;
    let error = asked.await.unwrap().unwrap_err();
    assert!(error.is_unknown(), "{error:?}");
}

#[tokio::test]
async fn a_wrong_key_is_denied() {
    let key = ApiKey::new(&"correct horse battery".to_owned().into()).unwrap();
    let served = Served::at(memory(), ServeOptions::loopback(0).with_api_key(key)).await;
    let with = |options: HttpOptions| Processor::new(HttpTaskStore::new(&served.url(), options).unwrap());
    for wrong in [options(), options().with_api_key("wrong horse battery")] {
        let processor = with(wrong);
        let errors = [
            processor.create(task()).await.unwrap_err(),
            processor.claim(wish()).await.unwrap_err(),
            processor.counts().await.unwrap_err(),
        ];
        for error in errors {
            assert!(
                matches!(&error, Error::Denied(why) if why.contains("unauthorized")),
                "{error:?}"
            );
            assert!(error.is_refusal() && !error.is_unknown());
        }
    }
    assert_eq!(served.requests(), 0, "nothing got past the key");
    let processor = with(options().with_api_key("correct horse battery"));
    processor.create(task()).await.unwrap();
}

#[tokio::test]
async fn a_strangers_answer_is_no_answer() {
    let page = || Html("<html><body>It works!</body></html>");
    let json = || Json(serde_json::json!({"hello": "world"}));
    let routers = [
        Router::new().fallback(any(async move || page())),
        Router::new().fallback(any(async move || json())),
        Router::new().fallback(any(async move || (http::StatusCode::NOT_FOUND, page()))),
        Router::new().fallback(any(async || {
            axum::response::Redirect::temporary("http://example.invalid/")
        })),
    ];
    for router in routers {
        let served = Served::router(router, ServeOptions::loopback(0)).await;
        let store = served.client();
        let errors = [
            store.apply(vec![create()]).await.unwrap_err(),
            store.claim(wish()).await.unwrap_err(),
            store.now().await.unwrap_err(),
        ];
        for error in errors {
            assert!(
                told(&error).contains("does not speak as a processor does"),
                "{}",
                told(&error)
            );
        }
    }
}

#[tokio::test]
async fn a_server_without_a_store_says_so() {
    let empty = aion_service::Service::new(
        "empty",
        9_999,
        utoipa_axum::router::OpenApiRouter::new(),
        Arc::new(aion_service::NoState),
    );
    let options = ServeOptions::loopback(0);
    let served = Served::router(empty.into_router(&options.limits), options).await;
    let error = served.client().now().await.unwrap_err();
    assert!(
        matches!(&error, Error::Denied(why) if why.contains("unknown_route")),
        "{error:?}"
    );
}

#[tokio::test]
async fn what_is_too_much_is_refused_by_name() {
    let served = Served::over(memory()).await;
    let store = served.client();
    let many = (0..1_001).map(|_| create()).collect();
    let error = store.apply(many).await.unwrap_err();
    let limit = Error::Limit {
        what: "writes",
        limit: 1_000,
        got: 1_001,
    };
    assert_eq!(format!("{error:?}"), format!("{limit:?}"));
    let huge = task().with_payload(Value::from("x".repeat(17 << 20)));
    let error = store
        .apply(vec![Op::Create(Box::new(huge)).into()])
        .await
        .unwrap_err();
    assert!(
        matches!(&error, Error::Invalid { why, .. } if why.contains("body_too_large")),
        "{error:?}"
    );
    let error = store.claim(wish().with_max(257)).await.unwrap_err();
    assert!(
        matches!(
            error,
            Error::Limit {
                what: "max",
                limit: 256,
                got: 257
            }
        ),
        "{error:?}"
    );
    assert_eq!(Processor::over(Arc::new(store)).counts().await.unwrap().open(), 0);
}

#[tokio::test]
async fn callers_go_together_and_get_their_own_answers() {
    let served = Served::over(memory()).await;
    let processor = Processor::new(served.client());
    let tasks: Vec<_> = (0..200).map(|n| task().with_priority(n)).collect();
    let created = futures::future::join_all(tasks.iter().map(|task| processor.create(task.clone()))).await;
    for (task, created) in tasks.iter().zip(created) {
        assert_eq!(created.unwrap().id, task.id);
    }
    let sent = served.requests();
    assert!(sent <= 20, "{sent} requests for 200 creates");
    let claims = (0..250).map(|_| processor.claim(wish()));
    let granted = futures::future::join_all(claims).await;
    let mut leases: Vec<_> = granted.into_iter().flat_map(Result::unwrap).collect();
    leases.sort_by_key(|lease| lease.task.priority);
    leases.dedup_by_key(|lease| lease.task.id);
    assert_eq!(leases.len(), 200, "each task once");
    let ends = leases.iter().enumerate().map(async |(n, lease)| match n % 3 {
        0 => processor.fail(lease.fence(), "no", Retry::Never).await,
        _ => processor.complete(lease.fence(), Value::Null).await,
    });
    for (n, head) in futures::future::join_all(ends).await.into_iter().enumerate() {
        let wanted = if n % 3 == 0 {
            Status::Failed
        } else {
            Status::Completed
        };
        assert_eq!(head.unwrap().status, wanted);
    }
}

/// Whoever comes just as a request lands is taken along by the next one.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nobody_is_left_behind() {
    let served = Served::over(memory()).await;
    let store = HttpTaskStore::new(&served.url(), options().with_in_flight(1)).unwrap();
    let workers = (0..4).map(|_| {
        let processor = Processor::new(store.clone());
        tokio::spawn(async move {
            for _ in 0..50 {
                processor.create(task()).await.unwrap();
            }
        })
    });
    let all = futures::future::try_join_all(workers);
    tokio::time::timeout(Duration::from_secs(60), all)
        .await
        .expect("all are answered")
        .unwrap();
}

/// Refuses bodies that hold this word, as a server does that does not know an operation.
async fn refuse_poison(request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    if String::from_utf8_lossy(&body).contains("poison") {
        return Problem::unprocessable("invalid_body", "unknown variant")
            .at("/writes/0/op")
            .into_response();
    }
    next.run(Request::from_parts(parts, body.into())).await
}

#[tokio::test]
async fn nobody_answers_for_another() {
    let options = ServeOptions::loopback(0);
    let router = aion_processor_server::service(Processor::over(memory())).into_router(&options.limits);
    let served = Served::router(router.layer(from_fn(refuse_poison)), options).await;
    let store = served.client();
    let writes = (0..50).map(|n| {
        let kind = if n == 17 { "poison" } else { "fine" };
        let new = NewTask::new(task().id, kind, "A task");
        store.apply(vec![Op::Create(Box::new(new)).into()])
    });
    for (n, done) in futures::future::join_all(writes).await.into_iter().enumerate() {
        match done {
            Err(Error::Invalid { what: "request", .. }) => assert_eq!(n, 17),
            Ok(done) => assert!(matches!(done[0], Ok(Done::Record(_))) && n != 17),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn an_overloaded_server_is_asked_again() {
    let refused = Arc::new(AtomicUsize::new(2));
    let left = Arc::clone(&refused);
    let shed = from_fn(move |request: Request, next: Next| {
        let full = left
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1))
            .is_ok();
        async move {
            if full {
                return Problem::unavailable("overloaded", "too many requests at once")
                    .retry_after(0)
                    .into_response();
            }
            next.run(request).await
        }
    });
    let options = ServeOptions::loopback(0);
    let router = aion_processor_server::service(Processor::over(memory())).into_router(&options.limits);
    let served = Served::router(router.layer(shed), options).await;
    let store = served.client();
    let start = Op::Start(task().id).into();
    assert!(matches!(
        store.apply(vec![start]).await.unwrap()[0],
        Err(Error::NotFound(_))
    ));
    refused.store(9, Ordering::SeqCst);
    let error = store.claim(wish()).await.unwrap_err();
    assert!(matches!(error, Error::Busy { .. }), "{error:?}");
}

#[tokio::test]
async fn a_call_that_is_dropped_before_it_is_sent_is_not_made() {
    let served = Served::over(memory()).await;
    let store = HttpTaskStore::new(&served.url(), options().with_in_flight(1)).unwrap();
    let mut dropped = Box::pin(store.apply(vec![create()]));
    assert!(futures::poll!(&mut dropped).is_pending());
    drop(dropped);
    let kept = store.apply(vec![create()]).await.unwrap();
    assert!(matches!(kept[0], Ok(Done::Record(_))));
    assert_eq!(Processor::new(store).counts().await.unwrap().open(), 1);
}

#[test]
fn addresses_and_keys_are_checked() {
    for address in ["", "processor", "ftp://a", "http://a?b=c", "http://"] {
        let error = HttpTaskStore::new(address, HttpOptions::default()).unwrap_err();
        assert!(
            matches!(error, Error::Invalid { what: "base_url", .. }),
            "{address}: {error:?}"
        );
    }
    let odd = HttpOptions::default().with_api_key("a\nb");
    let error = HttpTaskStore::new("http://127.0.0.1:1", odd).unwrap_err();
    assert!(matches!(error, Error::Invalid { what: "api_key", .. }));
    let store = HttpTaskStore::new(
        "http://127.0.0.1:1",
        HttpOptions::default().with_api_key("very secret key"),
    );
    assert!(!format!("{store:?}").contains("secret key"));
}
