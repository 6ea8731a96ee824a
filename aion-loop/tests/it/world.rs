//! A small world with a service in it: a shelf of numbered boxes, changed by tools, with a log of effects.

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use aion_loop::{
    IdempotencyKeys, InProcessTransport, OpenApiOptions, ServiceLimits, ServiceLink, Services, Toolset,
    tools_from_openapi,
};
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};

/// What happens to a request on its way.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) enum Weather {
    /// It arrives and is answered.
    #[default]
    Fair,
    /// It arrives, has its effect, and the answer is lost.
    AnswerLost,
    /// It arrives, has its effect, and a gateway answers in the place of the service.
    GatewayLost,
    /// It arrives, has its effect, and the service answers that it lost what it had begun; under the
    /// same key it then says that nobody knows.
    BegunAndLost,
    /// It arrives, and under its key the service goes on for two more questions.
    Slow,
    /// It arrives, has its effect, and the service breaks before it answers.
    Broken,
    /// It arrives, has its effect, the answer is lost, and from then on the service is busy.
    Gone,
}

#[derive(Debug, Default)]
pub(crate) struct Shelf {
    pub(crate) boxes: BTreeMap<String, i64>,
    /// Every effect that took place, in order.
    pub(crate) effects: Vec<String>,
    /// Every request that arrived.
    pub(crate) arrived: Vec<String>,
    answers: HashMap<String, (StatusCode, Value)>,
    /// Questions that are still answered with "in use".
    busy: u32,
    /// Whether the service has no time for anybody.
    gone: bool,
    pub(crate) weather: Weather,
}

/// The service: `put_box` (PUT), `add_to_box` (POST, honours keys or not), `get_box` (GET).
#[derive(Debug, Clone, Default)]
pub(crate) struct World {
    pub(crate) shelf: Arc<Mutex<Shelf>>,
    pub(crate) honours_keys: bool,
    /// Knows only that it began what comes again under its key, as after a kill of the service.
    pub(crate) loses_answers: bool,
}

impl World {
    pub(crate) fn with_keys() -> Self {
        Self {
            honours_keys: true,
            ..Self::default()
        }
    }

    pub(crate) fn services(&self) -> Services {
        self.services_that_resend(0)
    }

    pub(crate) fn services_that_resend(&self, resends: u32) -> Services {
        let keys = if self.honours_keys {
            IdempotencyKeys::Honoured
        } else {
            IdempotencyKeys::WhereDeclared
        };
        let options = OpenApiOptions::default().with_keys(keys);
        let tools = tools_from_openapi(&document(), "shelf", &options).unwrap().tools;
        let transport = InProcessTransport::<_, Full<Bytes>>::new(self.clone());
        let link = ServiceLink::in_process("shelf", Arc::new(transport));
        let limits = ServiceLimits {
            resends,
            ..ServiceLimits::default()
        };
        Services::new([link], Toolset::new(tools).unwrap(), limits)
    }

    pub(crate) fn boxes(&self) -> BTreeMap<String, i64> {
        self.shelf.lock().unwrap().boxes.clone()
    }

    pub(crate) fn effects(&self) -> Vec<String> {
        self.shelf.lock().unwrap().effects.clone()
    }

    fn answer(
        &self,
        method: &Method,
        path: &str,
        key: Option<String>,
        body: &Value,
    ) -> Result<(StatusCode, Value), ()> {
        let mut shelf = self.shelf.lock().unwrap();
        if path == "/state" {
            return Ok((StatusCode::OK, json!({"boxes": shelf.boxes})));
        }
        shelf.arrived.push(format!("{method} {path} {body}"));
        if shelf.gone {
            return Ok((StatusCode::SERVICE_UNAVAILABLE, json!({"code": "busy"})));
        }
        if shelf.busy > 0 {
            shelf.busy -= 1;
            return Ok((StatusCode::CONFLICT, json!({"code": "idempotency_key_in_use"})));
        }
        if let Some(known) = key
            .as_ref()
            .filter(|_| self.honours_keys)
            .and_then(|key| shelf.answers.get(key))
        {
            if self.loses_answers {
                return Ok((StatusCode::CONFLICT, json!({"code": "outcome_unknown"})));
            }
            return Ok(known.clone());
        }
        let name = path.rsplit('/').next().unwrap().to_owned();
        let answer = match *method {
            Method::PUT => {
                let number = body["number"].as_i64().unwrap();
                shelf.effects.push(format!("put {name} {number}"));
                shelf.boxes.insert(name, number);
                (StatusCode::OK, json!({"ok": true}))
            }
            Method::POST if !shelf.boxes.contains_key(&name) => (
                StatusCode::NOT_FOUND,
                json!({"detail": format!("there is no box {name}"), "code": "no_box"}),
            ),
            Method::POST => {
                let number = body["number"].as_i64().unwrap();
                shelf.effects.push(format!("add {name} {number}"));
                *shelf.boxes.get_mut(&name).unwrap() += number;
                (StatusCode::OK, json!({"now": shelf.boxes[&name]}))
            }
            _ => (StatusCode::OK, json!({"number": shelf.boxes.get(&name)})),
        };
        let weather = std::mem::take(&mut shelf.weather);
        if let Some(key) = key {
            let unknown = (StatusCode::CONFLICT, json!({"code": "outcome_unknown"}));
            let kept = match weather {
                Weather::BegunAndLost => unknown,
                _ => answer.clone(),
            };
            shelf.answers.insert(key, kept);
        }
        match weather {
            Weather::Fair => {}
            Weather::AnswerLost => return Err(()),
            Weather::BegunAndLost => {
                let lost = json!({"code": "supervisor_failed", "detail": "the supervisor ended"});
                return Ok((StatusCode::SERVICE_UNAVAILABLE, lost));
            }
            Weather::Broken => return Ok((StatusCode::INTERNAL_SERVER_ERROR, json!({"code": "internal"}))),
            Weather::Gone => {
                shelf.gone = true;
                return Err(());
            }
            Weather::Slow => {
                shelf.busy = 2;
                return Err(());
            }
            Weather::GatewayLost => return Ok((StatusCode::BAD_GATEWAY, json!({"title": "Bad Gateway"}))),
        }
        Ok(answer)
    }
}

impl tower::Service<Request<Full<Bytes>>> for World {
    type Response = Response<Full<Bytes>>;
    type Error = std::io::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, std::io::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), std::io::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Full<Bytes>>) -> Self::Future {
        let world = self.clone();
        Box::pin(async move {
            let (head, body) = request.into_parts();
            let bytes = infallible(body.collect().await).to_bytes();
            let body: Value = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
            let key = head
                .headers
                .get("idempotency-key")
                .map(|value| value.to_str().unwrap().to_owned());
            let answered = world.answer(&head.method, head.uri.path(), key, &body);
            let (status, value) =
                answered.map_err(|()| std::io::Error::from(std::io::ErrorKind::ConnectionReset))?;
            let mut response = Response::new(Full::new(Bytes::from(value.to_string())));
            *response.status_mut() = status;
            Ok(response)
        })
    }
}

fn infallible<T>(result: Result<T, Infallible>) -> T {
    result.unwrap_or_else(|never| match never {})
}

/// The OpenAPI document of the shelf.
pub(crate) fn document() -> Value {
    let name = json!([{"name": "name", "in": "path", "required": true, "schema": {"type": "string", "minLength": 1}}]);
    let body = json!({"required": true, "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Number"}}}});
    json!({
        "openapi": "3.1.0",
        "info": {"title": "shelf", "version": "1"},
        "paths": {"/v1/boxes/{name}": {
            "parameters": name,
            "put": {"operationId": "put_box", "summary": "Puts a number into a box.", "requestBody": body},
            "post": {"operationId": "add_to_box", "summary": "Adds to the number in a box.", "requestBody": body},
            "get": {"operationId": "get_box", "summary": "Reads the number in a box."},
        }},
        "components": {"schemas": {"Number": {"type": "object", "required": ["number"],
            "properties": {"number": {"type": "integer"}}, "additionalProperties": false}}},
    })
}
