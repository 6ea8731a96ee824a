//! Following what happens on the server: the output of an execution, changes of files.

use std::sync::Arc;

use eventsource_stream::Eventsource;
use futures::StreamExt;
use reqwest::{Method, Response};
use serde::Deserialize;
use serde_json::Value;

use super::calls::{Call, Calls, Failed, unreachable};
use crate::wire::{Ended, Omitted, Wrote, error_of};
use crate::{
    Error, ExecCursor, ExecFeed, ExecOutput, OutputStream, RelPath, Result, WatchEvent, WatchSender,
};

/// An execution on the server.
pub(super) struct Following {
    pub(super) calls: Arc<Calls>,
    pub(super) cwd: RelPath,
    pub(super) id: String,
    pub(super) feed: ExecFeed,
}

/// Why a stream is not read any further.
enum Stop {
    /// The program has ended.
    Ended(Box<Result<ExecOutput>>),
    /// The connection has.
    Broken(Error),
    /// What the server says cannot be followed, or it does not want to be.
    Useless(Error),
}

#[derive(Deserialize)]
struct EndedEvent {
    #[serde(default)]
    result: Option<Ended>,
    #[serde(default)]
    problem: Option<Refusal>,
}

#[derive(Deserialize)]
struct Refusal {
    code: String,
    #[serde(default)]
    detail: String,
    #[serde(default)]
    error: Value,
}

impl Following {
    /// Feeds what the server tells until the program has ended, or the server cannot be reached any more.
    pub(super) async fn run(self) {
        let (mut at, mut tries) = (ExecCursor::default(), 0);
        let result = loop {
            let before = at;
            let stop = tokio::select! {
                stop = self.read(&mut at) => stop,
                _ = self.feed.killed() => break self.kill(&mut at).await,
            };
            match stop {
                Stop::Ended(result) => break *result,
                Stop::Broken(error) => {
                    tries = if at == before { tries + 1 } else { 0 };
                    if tries > self.calls.options().retries {
                        break self.give_up(error).await;
                    }
                }
                Stop::Useless(error) => break self.give_up(error).await,
            }
            tokio::time::sleep(self.calls.options().pause_after(tries)).await;
        };
        self.feed.finish_with(result);
    }

    async fn ask_for_end(&self) -> Result<()> {
        let path = format!("/v1/executions/{}", self.id);
        let call = Call {
            method: Method::DELETE,
            path: &path,
            cwd: Some(&self.cwd),
            body: None,
            key: None,
        };
        self.calls.call::<Value>(call).await.map(drop)
    }

    /// What nobody follows any more must not go on, if the server still hears of it.
    async fn give_up(&self, error: Error) -> Result<ExecOutput> {
        if let Err(reason) = self.ask_for_end().await {
            tracing::warn!(id = self.id, %reason, "an execution may go on at the remote machine");
        }
        Err(error)
    }

    /// Asks for the end and reads on to it.
    async fn kill(&self, at: &mut ExecCursor) -> Result<ExecOutput> {
        self.ask_for_end().await?;
        let mut tries = 0;
        loop {
            match self.read(at).await {
                Stop::Ended(result) => return *result,
                Stop::Useless(error) => return Err(error),
                Stop::Broken(error) if tries == self.calls.options().retries => return Err(error),
                Stop::Broken(_) => tries += 1,
            }
            tokio::time::sleep(self.calls.options().pause_after(tries)).await;
        }
    }

    async fn read(&self, at: &mut ExecCursor) -> Stop {
        match self.read_stream(at).await {
            Ok(stop) => stop,
            Err(failed) if failed.is_refusal() => Stop::Useless(failed.error),
            Err(failed) => Stop::Broken(failed.error),
        }
    }

    async fn read_stream(&self, at: &mut ExecCursor) -> Result<Stop, Failed> {
        let path = format!("/v1/executions/{}/events", self.id);
        let response = self.calls.events(&path, &self.cwd, Some(&at.to_string())).await?;
        let mut events = Box::pin(response.bytes_stream().eventsource());
        while let Some(Ok(event)) = events.next().await {
            if let Some(result) = self.take(&event.event, &event.data, at)? {
                return Ok(Stop::Ended(Box::new(result)));
            }
        }
        Ok(Stop::Broken(unreachable("the stream of an execution broke off")))
    }

    /// Feeds one event; the result, if it is the last.
    fn take(&self, name: &str, data: &str, at: &mut ExecCursor) -> Result<Option<Result<ExecOutput>>> {
        let stream = match name {
            "stdout" => OutputStream::Stdout,
            "stderr" => OutputStream::Stderr,
            "omitted" => {
                let omitted: Omitted = read(data)?;
                in_order(omitted.offset, *at, omitted.stream)?;
                self.feed.omit(omitted.stream, omitted.bytes);
                *at = at.after(omitted.stream, omitted.bytes);
                return Ok(None);
            }
            "ended" => return Ok(Some(ended(read(data)?))),
            _ => return Ok(None),
        };
        let wrote: Wrote = read(data)?;
        in_order(wrote.offset, *at, stream)?;
        let bytes = wrote.content.into_bytes()?;
        self.feed.push(stream, &bytes);
        *at = at.after(stream, bytes.len() as u64);
        Ok(None)
    }
}

fn ended(event: EndedEvent) -> Result<ExecOutput> {
    match (event.result, event.problem) {
        (Some(ended), _) => ended.into_output(),
        (None, Some(refusal)) => Err(error_of(&refusal.code, &refusal.error, &refusal.detail)),
        (None, None) => Err(unreachable("the server did not say how the execution ended")),
    }
}

fn in_order(offset: u64, at: ExecCursor, stream: OutputStream) -> Result<()> {
    if offset == at.of(stream) {
        return Ok(());
    }
    Err(unreachable("the server told of an output out of order"))
}

fn read<'d, T: Deserialize<'d>>(data: &'d str) -> Result<T> {
    serde_json::from_str(data)
        .map_err(|e| unreachable(format!("an event of the server cannot be read ({e})")))
}

/// Passes changes on until nobody listens or the stream breaks off, which loses some.
pub(super) async fn pass_on(response: Response, sender: WatchSender) {
    let mut events = Box::pin(response.bytes_stream().eventsource());
    loop {
        let event = tokio::select! {
            event = events.next() => event,
            () = sender.closed() => return,
        };
        match event {
            Some(Ok(event)) if event.event == "change" => match serde_json::from_str(&event.data) {
                Ok(change) => sender.send(change),
                Err(_) => sender.send(WatchEvent::Lost),
            },
            Some(Ok(_)) => {}
            _ => return sender.send(WatchEvent::Lost),
        }
    }
}
