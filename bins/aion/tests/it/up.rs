//! `aion up`: every service on one port.

use std::io::{BufRead, BufReader};
use std::process::Child;

use aion_loop::{NetworkTransport, Transport, read_body};
use serde_json::Value;

use crate::world::World;

struct Up {
    child: Child,
    url: String,
}

impl Up {
    fn start(world: &World) -> Self {
        let cache = world.data().join("no-models");
        let mut command = world.aion(&["up", "--listen", "127.0.0.1:0"]);
        let mut child = command.env("AION_CACHE", cache).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let url = line.trim().strip_prefix("listening on ").unwrap().to_owned();
        Self { child, url }
    }

    async fn get(&self, path: &str) -> (u16, Value) {
        let transport = NetworkTransport::new(std::time::Duration::from_secs(5)).unwrap();
        let request = http::Request::get(format!("{}{path}", self.url))
            .body(bytes::Bytes::new())
            .unwrap();
        let response = transport.send(request).await.unwrap();
        let status = response.status().as_u16();
        let body = read_body(response.into_body(), 1 << 22).await.unwrap();
        (status, serde_json::from_slice(&body).unwrap_or(Value::Null))
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _waited = self.child.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_service_answers_below_its_name() {
    let world = World::with(&[]);
    let up = Up::start(&world);
    for name in ["processor", "machine", "market", "loop", "llm"] {
        let (status, document) = up.get(&format!("/{name}/openapi.json")).await;
        assert_eq!(status, 200, "{name}");
        assert!(document["paths"].as_object().unwrap().len() > 4, "{name}");
    }
    let (status, state) = up.get("/state").await;
    assert_eq!(status, 200, "{state}");
    assert!(state.as_object().unwrap().len() >= 3, "{state}");
    let (status, tasks) = up.get("/processor/v1/tasks").await;
    assert_eq!(status, 200, "{tasks}");
    // There is no model here: the OpenAI paths are there and say so.
    let (status, problem) = up.get("/v1/models").await;
    assert_eq!(status, 503, "{problem}");
    let (status, problem) = up.get("/v1/nothing").await;
    assert_eq!((status, &problem["code"]), (404, &Value::from("unknown_route")));
    assert_eq!(up.get("/nothing").await.0, 404);
}
