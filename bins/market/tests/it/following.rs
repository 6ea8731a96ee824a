//! The market follows a processor over sockets: by polling, and at once when a webhook tells of news.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use aion_market::{BaseRate, BetaHistory, Market, ObserverOptions, Predictor, TaskFeed, TaskHistory};
use aion_market_server::{Follower, HttpFeed, MarketService};
use aion_processor::{MemTaskStore, Processor};
use aion_processor_server::{Deliverer, DelivererOptions, HttpSender, Plain, TargetPolicy};
use aion_service::webhook::WebhookKeys;
use aion_service::{Limits, ServeOptions, Server, Service};
use aion_trust::TrustLedger;
use aion_types::{HandlerId, SystemClock, TaskId};
use axum::Router;
use axum::body::Body;
use http::{Request, StatusCode};
use secrecy::SecretString;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::client::{Client, TASK};

const KEY: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const OLD_KEY: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
/// Polling that never comes to it within a test.
const NEVER: Duration = Duration::from_secs(3_600);

/// A server on a port of its own until it is dropped.
struct Served {
    addr: SocketAddr,
    running: JoinHandle<()>,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.running.abort();
    }
}

async fn serve(router: Router) -> Served {
    let server = Server::bind(router, ServeOptions::loopback(0)).await.unwrap();
    let addr = server.local_addr();
    let running = tokio::spawn(async move {
        server.run(std::future::pending()).await.unwrap();
    });
    Served { addr, running }
}

fn router(service: Service) -> Router {
    service.into_router(&Limits::default())
}

/// A processor on a socket, and a market that follows it.
struct World {
    tree: Processor,
    tasks: Client,
    market: Client,
    processor: Served,
    following: JoinHandle<()>,
}

impl Drop for World {
    fn drop(&mut self) {
        self.following.abort();
    }
}

impl World {
    async fn new(every: Duration) -> Self {
        let store = MemTaskStore::new(SystemClock, aion_processor::Limits::default());
        let tree = Processor::new(store);
        let tasks = router(aion_processor_server::service_with(tree.clone(), here()));
        let processor = serve(tasks.clone()).await;
        let feed = Arc::new(HttpFeed::new(&format!("http://{}/", processor.addr)).unwrap());
        let market = Market::in_memory();
        let history = TaskHistory::new();
        let asked: Vec<Arc<dyn Predictor>> = vec![
            Arc::new(BaseRate::new(market.clone()).unwrap()),
            Arc::new(BetaHistory::new(history).unwrap()),
        ];
        let follower = Follower::new(&market, feed, asked, ObserverOptions::default());
        let keys: [SecretString; 2] = [KEY.into(), OLD_KEY.into()];
        let service = MarketService::new(market, TrustLedger::in_memory())
            .with_follower(follower)
            .with_webhook_keys(WebhookKeys::new(&keys).unwrap());
        let following = tokio::spawn(service.follow(every));
        Self {
            tree,
            tasks: Client::over(tasks),
            market: Client::over(router(service.into_service())),
            processor,
            following,
        }
    }

    async fn created(&self) -> String {
        let task = json!({"kind": "agent.run", "title": "t", "spec": "s"});
        let task = self.tasks.ok("/v1/tasks", task).await;
        task["id"].as_str().unwrap().to_owned()
    }

    async fn completed(&self) -> String {
        let id = self.created().await;
        let claim = json!({"handler_id": "worker-1", "kinds": ["agent.run"], "lease_ms": 60_000});
        let lease = self.tasks.ok("/v1/claims", claim).await["leases"][0].clone();
        let body = json!({"epoch": lease["epoch"], "result": {}});
        self.tasks.ok(&format!("/v1/tasks/{id}/complete"), body).await;
        id
    }

    /// The market of a task once it stands so.
    async fn until(&self, task: &str, status: &str) -> Value {
        for _ in 0..400 {
            let (found, market) = self.market.get(&format!("/v1/markets/{task}")).await;
            if found == StatusCode::OK && market["status"] == status {
                return market;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        panic!("the market of {task} never was {status}");
    }
}

#[tokio::test]
async fn tasks_get_markets_forecasts_ends_and_scores() {
    let world = World::new(Duration::from_millis(20)).await;
    let ended = world.completed().await;
    let other = world.created().await;
    let market = world.until(&ended, "resolved").await;
    assert_eq!(market["executor"], "worker-1");
    let events = world.market.get("/v1/events?type=market.resolved").await.1;
    assert_eq!(events["events"][0]["market_id"], *ended);
    let open = world.until(&other, "open").await;
    assert!(open["forecasts"].as_u64().unwrap() >= 1, "{open}");
    // Trust is settled right after the end is there to be seen.
    let mut accounts = 0;
    for _ in 0..100 {
        let trust = world.market.get("/v1/trust").await.1;
        accounts = trust["accounts"].as_array().unwrap().len();
        if accounts > 1 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    assert!(accounts > 1, "trust was never settled");
    let predictors = world.market.get("/v1/predictors").await.1;
    assert_eq!(predictors["predictors"].as_array().unwrap().len(), 2);
    assert!(
        predictors["predictors"][0]["asked"].as_u64().unwrap() >= 2,
        "{predictors}"
    );
    let id = predictors["predictors"][1]["id"].as_str().unwrap().to_owned();
    let train = format!("/v1/predictors/{id}/train");
    assert_eq!(
        world.market.ok(&train, json!({})).await,
        json!({"predictor": id, "markets": 1})
    );
    let (status, problem) = world.market.post(&train, json!({"markets": 0})).await;
    assert_eq!(
        (status.as_u16(), problem["pointer"].as_str()),
        (422, Some("/markets"))
    );
    let (status, _) = world.market.post("/v1/predictors/nobody/train", json!({})).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
}

fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    i64::try_from(since.unwrap().as_secs()).unwrap()
}

fn message(key: &str, at: i64, body: &str) -> Request<Body> {
    let key: SecretString = key.into();
    let signature = WebhookKeys::new([&key])
        .unwrap()
        .sign("msg_1", at, body.as_bytes());
    Request::post("/v1/hooks/processor")
        .header("content-type", "application/json")
        .header("webhook-id", "msg_1")
        .header("webhook-timestamp", at.to_string())
        .header("webhook-signature", signature)
        .body(Body::from(body.to_owned()))
        .unwrap()
}

#[tokio::test]
async fn a_webhook_makes_the_market_look_at_once() {
    let world = World::new(NEVER).await;
    // Let the first look, at an empty log, pass.
    tokio::time::sleep(Duration::from_millis(200)).await;
    let task = world.created().await;
    let event = world.tasks.get("/v1/events").await.1["events"][0].to_string();
    assert_eq!(
        world.market.get(&format!("/v1/markets/{task}")).await.0,
        StatusCode::NOT_FOUND
    );
    let (status, told) = world.market.ask(message(KEY, now(), &event)).await;
    assert_eq!(
        (status, told),
        (StatusCode::ACCEPTED, json!({"seq": 1, "heard": "new"}))
    );
    let market = world.until(&task, "open").await;
    // The same again, wrapped, and under the key that is being replaced.
    let wrapped = format!("{{\"type\": \"task.created\", \"data\": {event}}}");
    let mut heard = Value::Null;
    for _ in 0..100 {
        let (status, told) = world.market.ask(message(OLD_KEY, now(), &wrapped)).await;
        assert_eq!((status, &told["seq"]), (StatusCode::ACCEPTED, &json!(1)));
        heard = told["heard"].clone();
        if heard == "known" {
            break;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    assert_eq!(heard, "known");
    assert_eq!(
        world.until(&task, "open").await,
        market,
        "telling twice changes nothing"
    );
}

/// Webhooks may go to this host, by http.
fn here() -> TargetPolicy {
    let range = "127.0.0.1".parse().unwrap();
    TargetPolicy::default()
        .with_plain(Plain::Allowed)
        .with_range(range)
}

/// The webhooks of the processor itself, over sockets: the market believes them and looks.
#[tokio::test]
async fn webhooks_of_the_processor_wake_the_market() {
    let world = World::new(NEVER).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    let market = serve(world.market.router()).await;
    let url = format!("http://{}/v1/hooks/processor", market.addr);
    let hook = json!({"name": "market", "url": url, "secret": KEY});
    world.tasks.ok("/v1/webhooks", hook).await;
    let options = DelivererOptions::new(HandlerId::new("test").unwrap());
    let sender = HttpSender::new(here()).unwrap();
    let delivering = Deliverer::new(world.tree.clone(), sender, options).start();
    let task = world.completed().await;
    world.until(&task, "resolved").await;
    delivering.stop().await;
    let hook = world.tasks.get("/v1/webhooks/market").await.1;
    assert!(hook["delivered"].as_u64().unwrap() >= 1, "{hook}");
    assert_eq!((&hook["failed"], &hook["state"]), (&json!(0), &json!("active")));
}

/// Webhooks that come late, twice and in the wrong order make the markets that the log makes.
#[tokio::test]
async fn redelivered_and_reordered_webhooks_change_nothing() {
    let world = World::new(NEVER).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    let mut tasks = Vec::new();
    for _ in 0..3 {
        tasks.push(world.completed().await);
    }
    let events = world.tasks.get("/v1/events").await.1["events"]
        .as_array()
        .unwrap()
        .clone();
    for step in [1, 5, 7, 1] {
        for i in 0..events.len() {
            // Backwards, by steps that meet every event.
            let event = &events[(events.len() * step - i * step - 1) % events.len()];
            let (status, told) = world.market.ask(message(KEY, now(), &event.to_string())).await;
            assert_eq!((status, &told["seq"]), (StatusCode::ACCEPTED, &event["seq"]));
        }
    }
    let mut stories = Vec::new();
    for task in &tasks {
        world.until(task, "resolved").await;
        let told = world.market.get(&format!("/v1/markets/{task}/events")).await.1;
        let events = told["events"].as_array().unwrap();
        stories.push(
            events
                .iter()
                .map(|event| event["type"].clone())
                .collect::<Vec<_>>(),
        );
    }
    let story = stories.remove(0);
    assert_eq!(
        story.iter().filter(|kind| *kind == "market.forecast").count(),
        2,
        "{story:?}"
    );
    assert!(stories.iter().all(|other| *other == story), "{stories:?}");
    let log = world.market.get("/v1/events?limit=1000").await.1;
    assert_eq!(log["events"].as_array().unwrap().len(), 3 * story.len());
}

#[tokio::test]
async fn messages_that_nobody_signed_are_not_believed() {
    let world = World::new(NEVER).await;
    let foreign = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    let mut changed = message(KEY, now(), "{}");
    *changed.body_mut() = Body::from("{\"seq\": 1}");
    let mut bare = message(KEY, now(), "{}");
    bare.headers_mut().remove("webhook-signature");
    let cases = [
        (message(foreign, now(), "{}"), 403, "wrong_signature"),
        (message(KEY, now() - 301, "{}"), 403, "wrong_signature"),
        (message(KEY, now() + 400, "{}"), 403, "wrong_signature"),
        (changed, 403, "wrong_signature"),
        (bare, 400, "invalid_header"),
        (message(KEY, now(), "{"), 400, "invalid_json"),
        (message(KEY, now(), "{\"seq\": -1}"), 422, "invalid_body"),
        (message(KEY, now(), "{\"data\": null}"), 422, "invalid_body"),
    ];
    for (request, status, code) in cases {
        let answer = world.market.raw(request).await;
        assert_eq!((answer.status.as_u16(), answer.code().as_str()), (status, code));
    }
    let closed = Client::new().raw(message(KEY, now(), "{}")).await;
    assert_eq!(
        (closed.status.as_u16(), closed.code().as_str()),
        (404, "no_webhooks")
    );
}

#[tokio::test]
async fn a_processor_that_went_away_is_followed_again() {
    let world = World::new(Duration::from_millis(20)).await;
    let first = world.created().await;
    world.until(&first, "open").await;
    world.processor.running.abort();
    tokio::time::sleep(Duration::from_millis(100)).await;
    let (status, problem) = world
        .market
        .post("/v1/predictors/base_rate/train", json!({}))
        .await;
    assert!(!status.is_server_error(), "{problem}");
    assert_eq!(world.market.get("/readyz").await.0, StatusCode::OK);
    let addr = world.processor.addr;
    let options = ServeOptions::loopback(addr.port());
    let server = Server::bind(world.tasks.router(), options).await.unwrap();
    let again = tokio::spawn(server.run(std::future::pending()));
    let second = world.created().await;
    world.until(&second, "open").await;
    again.abort();
}

#[tokio::test]
async fn the_feed_reads_what_the_processor_writes() {
    let world = World::new(NEVER).await;
    let done = world.completed().await;
    let feed = HttpFeed::new(&format!("http://{}", world.processor.addr)).unwrap();
    let task: TaskId = done.parse().unwrap();
    let events = feed.events(0, 2).await.unwrap();
    assert_eq!(events.iter().map(|event| event.seq).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(feed.events(2, usize::MAX).await.unwrap().len(), 2);
    let ahead = feed.events(99, 10).await.unwrap_err();
    assert!(ahead.to_string().contains("ends before event 99"), "{ahead}");
    assert_eq!(feed.task(task).await.unwrap().unwrap().kind, "agent.run");
    assert!(feed.task(TASK.parse().unwrap()).await.unwrap().is_none());
    assert!(feed.messages(task, 0, 10).await.unwrap().is_empty());
    for bad in ["", "processor", "ftp://127.0.0.1", "file:///etc/passwd"] {
        assert!(HttpFeed::new(bad).is_err(), "{bad}");
    }
    let nowhere = HttpFeed::new("http://127.0.0.1:1/with/secret-path").unwrap();
    let error = nowhere.events(0, 1).await.unwrap_err();
    assert!(!format!("{error:?}").contains("secret-path"), "{error:?}");
}
