//! Asking predictors: who is due, all at once, each within its time; those that listen after the others.

use std::sync::Arc;
use std::time::Duration;

use aion_types::{EventRecord, ForecasterId, MessageRecord, PpmDist, Prob, TaskRecord};
use futures::future::join_all;

use super::Observer;
use super::health::{Failure, FailureKind, reason_of};
use crate::Result;
use crate::draft::Draft;
use crate::engine::Decision;
use crate::event::Event;
use crate::feed::{TaskView, token_ratio};
use crate::order::Forecast;
use crate::predict::{Cadence, Opinion, Pace, Predictor};

/// At which point in the life of a task predictors are asked.
#[derive(Debug, Clone, Copy)]
pub(super) enum Moment<'a> {
    /// It was just made.
    Creation,
    /// After the message of this number.
    Message { number: u64, message: &'a MessageRecord },
}

impl Moment<'_> {
    /// The number of the last message that there is.
    pub(super) const fn messages(self) -> u64 {
        match self {
            Self::Creation => 0,
            Self::Message { number, .. } => number,
        }
    }

    /// Whether a predictor of this cadence is asked now.
    pub(super) fn is_due(self, cadence: Cadence, debounce: u64) -> bool {
        match (self, cadence) {
            (Self::Creation, _) => true,
            (Self::Message { .. }, Cadence::OnCreation) => false,
            (Self::Message { number, .. }, Cadence::Debounced) => number.is_multiple_of(debounce),
            (Self::Message { number, .. }, Cadence::EveryMessages(n)) => {
                number.is_multiple_of(u64::from(n.get()))
            }
            (Self::Message { message, .. }, Cadence::OnPersistence) => token_ratio(message).is_some(),
        }
    }
}

impl Observer {
    /// Those of a pace that are asked at this moment. Those that only listen are not among them: they
    /// have nothing new to hear when nobody else speaks.
    pub(super) fn due(&self, moment: Moment<'_>, pace: Pace) -> impl Iterator<Item = &Arc<dyn Predictor>> {
        let debounce = self.options.debounce;
        self.predictors.iter().filter(move |predictor| {
            let speaks = pace == Pace::Aside || !predictor.listens();
            speaks && predictor.pace() == pace && moment.is_due(predictor.cadence(), debounce)
        })
    }

    fn listening(&self) -> impl Iterator<Item = &Arc<dyn Predictor>> {
        let listens =
            |predictor: &&Arc<dyn Predictor>| predictor.listens() && predictor.pace() == Pace::InStep;
        self.predictors.iter().filter(listens)
    }

    /// Asks those that are due and waited for, and enters what they say in their order. Gives how many
    /// forecasts came.
    pub(super) async fn ask_all(
        &self,
        draft: &mut Draft,
        task: &TaskRecord,
        messages: &[MessageRecord],
        event: &EventRecord,
        moment: Moment<'_>,
    ) -> Result<u64> {
        let view = TaskView::new(task, messages, event.at);
        let mut entered = self
            .ask(self.due(moment, Pace::InStep), draft, &view, event.seq)
            .await?;
        if entered > 0 && self.listening().next().is_some() {
            let said = self.said(draft).await?;
            let view = view.with_said(&said);
            entered += self.ask(self.listening(), draft, &view, event.seq).await?;
        }
        Ok(entered)
    }

    async fn ask<'p>(
        &self,
        predictors: impl Iterator<Item = &'p Arc<dyn Predictor>>,
        draft: &mut Draft,
        view: &TaskView<'_>,
        seq: u64,
    ) -> Result<u64> {
        let price = draft.state.price().clone();
        let asked = predictors.map(|predictor| self.ask_one(predictor.as_ref(), view, &price, seq));
        let mut entered = 0;
        for (id, forecast) in join_all(asked).await.into_iter().flatten() {
            entered += self.enter(draft, view, &id, &forecast)?;
        }
        Ok(entered)
    }

    /// The forecast of one predictor under a key of the event, so that asking again changes nothing.
    pub(super) async fn ask_one(
        &self,
        predictor: &dyn Predictor,
        view: &TaskView<'_>,
        price: &PpmDist,
        seq: u64,
    ) -> Option<(ForecasterId, Forecast)> {
        let id = predictor.id();
        self.health.asked(id);
        let said = match within(self.options.patience, predictor, view, price).await {
            Ok(Some(said)) => said,
            Ok(None) => {
                self.health.silent(id);
                return None;
            }
            Err((kind, reason)) => {
                self.fail(id, view, kind, reason);
                return None;
            }
        };
        match forecast_of(predictor, said, seq) {
            Ok(forecast) => Some((id.clone(), forecast)),
            Err(error) => {
                self.fail(id, view, FailureKind::Invalid, reason_of(&error));
                None
            }
        }
    }

    fn enter(
        &self,
        draft: &mut Draft,
        view: &TaskView<'_>,
        id: &ForecasterId,
        forecast: &Forecast,
    ) -> Result<u64> {
        let now = self.market.now();
        match draft.state.forecast(forecast, now) {
            Ok(decision) => {
                let new = matches!(decision, Decision::Append { .. });
                draft.decide(decision, now)?;
                self.spoke(id);
                Ok(u64::from(new))
            }
            Err(error) => {
                self.fail(id, view, FailureKind::Refused, reason_of(&error));
                Ok(0)
            }
        }
    }

    pub(super) fn spoke(&self, id: &ForecasterId) {
        self.health.spoke(id);
    }

    pub(super) fn fail(&self, id: &ForecasterId, view: &TaskView<'_>, kind: FailureKind, reason: String) {
        let task = view.task.id;
        self.health.failed(id, Failure { kind, task, reason });
    }

    /// The last opinions in a market, what is not stored yet included.
    async fn said(&self, draft: &Draft) -> Result<Vec<(ForecasterId, Prob)>> {
        let mut said: Vec<(ForecasterId, Prob)> = Vec::new();
        let stored = if draft.from == 0 {
            Vec::new()
        } else {
            self.market.events(draft.state.id()).await?
        };
        for event in stored.iter().chain(&draft.events) {
            let Event::ForecastReported { forecaster, dist, .. } = &event.event else {
                continue;
            };
            let Some(p) = dist.get(crate::SUCCESS).map(aion_types::Ppm::to_prob) else {
                continue;
            };
            match said.iter_mut().find(|(who, _)| who == forecaster) {
                Some((_, last)) => *last = p,
                None => said.push((forecaster.clone(), p)),
            }
        }
        Ok(said)
    }
}

async fn within(
    patience: Duration,
    predictor: &dyn Predictor,
    view: &TaskView<'_>,
    price: &PpmDist,
) -> Result<Option<Opinion>, (FailureKind, String)> {
    match tokio::time::timeout(patience, predictor.predict(view, price)).await {
        Ok(Ok(said)) => Ok(said),
        Ok(Err(error)) => Err((FailureKind::Error, reason_of(&*error))),
        Err(_) => {
            let reason = format!("no answer within {} ms", patience.as_millis());
            Err((FailureKind::Timeout, reason))
        }
    }
}

fn forecast_of(predictor: &dyn Predictor, said: Opinion, seq: u64) -> Result<Forecast> {
    let mut forecast = Forecast::new(predictor.id().clone(), PpmDist::binary(said.success))
        .with_weight(said.weight)?
        .with_key(format!("{}@{seq}", predictor.id()))?;
    if let Some(ln_ratio) = said.ln_ratio {
        forecast = forecast.with_signal(ln_ratio)?;
    }
    Ok(if predictor.informed() {
        forecast.informed()
    } else {
        forecast
    })
}
