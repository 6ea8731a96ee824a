//! One sequence on its way through the model.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::held::Held;
use super::plan::Wish;
use crate::error::{Error, Result};
use crate::generation::{Generation, Next, Parts};
use crate::model::Want;
use crate::request::{Completion, FinishReason, StreamEvent, TokenScore};
use crate::surprise::Prediction;
use crate::ticket::Outlet;

/// What a caller asks for, before it has a place.
#[derive(Debug)]
pub(crate) struct Job {
    /// The prompt or the given text; at least one token.
    pub(crate) tokens: Vec<u32>,
    pub(crate) work: Work,
}

/// What is done with a text.
#[derive(Debug)]
pub(crate) enum Work {
    /// Read it, then go on from it in as many ways as there are members.
    Read(Vec<Member>),
    /// Go on from it.
    Write(Box<Member>),
    /// Say of each token how surprising it was.
    Score(Scoring),
    /// Sum up its hidden states.
    Embed(Summing),
}

#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) generation: Generation,
    pub(crate) outlet: Outlet<Completion>,
}

#[derive(Debug)]
pub(crate) struct Scoring {
    pub(crate) outlet: Outlet<Vec<TokenScore>>,
    pub(crate) scores: Vec<TokenScore>,
    pub(crate) top_logprobs: usize,
}

#[derive(Debug)]
pub(crate) struct Summing {
    pub(crate) outlet: Outlet<Vec<f32>>,
    pub(crate) sum: Vec<f64>,
}

impl Job {
    /// Positions that each of its sequences may come to hold, and how many sequences there are. The last token of a
    /// completion never runs, but its place is kept.
    pub(crate) fn need(&self) -> (usize, usize) {
        match &self.work {
            Work::Read(members) => {
                let most = members.iter().map(|member| member.generation.most_tokens());
                (most.max().unwrap_or(0).max(self.tokens.len()), members.len())
            }
            _ => (self.tokens.len(), 1),
        }
    }

    /// Whether nobody waits for it any more.
    pub(crate) fn is_cancelled(&self) -> bool {
        self.work.is_cancelled()
    }
}

impl Work {
    fn is_cancelled(&self) -> bool {
        match self {
            Self::Read(members) => members.iter().all(|member| member.outlet.is_cancelled()),
            Self::Write(member) => member.outlet.is_cancelled(),
            Self::Score(scoring) => scoring.outlet.is_cancelled(),
            Self::Embed(summing) => summing.outlet.is_cancelled(),
        }
    }

    /// Ends it because its callers asked for that.
    pub(crate) fn cancel(self) {
        match self {
            Self::Read(members) => members.into_iter().for_each(Member::cancel),
            Self::Write(member) => member.cancel(),
            Self::Score(scoring) => scoring.outlet.end(Err(Error::Cancelled)),
            Self::Embed(summing) => summing.outlet.end(Err(Error::Cancelled)),
        }
    }

    /// Ends it with an error, which may have several callers.
    pub(crate) fn fail(self, mut error: impl FnMut() -> Error) {
        match self {
            Self::Read(members) => members.iter().for_each(|member| member.outlet.end(Err(error()))),
            Self::Write(member) => member.outlet.end(Err(error())),
            Self::Score(scoring) => scoring.outlet.end(Err(error())),
            Self::Embed(summing) => summing.outlet.end(Err(error())),
        }
    }

    /// How many callers it has.
    pub(crate) fn callers(&self) -> u64 {
        match self {
            Self::Read(members) => members.len() as u64,
            _ => 1,
        }
    }
}

impl Member {
    fn cancel(self) {
        self.end(FinishReason::Cancelled);
    }

    fn end(self, finish: FinishReason) {
        let completion = self.generation.finish(finish, &self.outlet);
        self.outlet.end(Ok(completion));
    }
}

/// What a pass gave one sequence.
#[derive(Debug, Clone, Default)]
pub(crate) struct Given {
    /// Logits or hidden states, row by row.
    pub(crate) values: Vec<f32>,
    /// The teacher's logits of the same rows, if there is one.
    pub(crate) teacher: Vec<f32>,
}

/// A sequence with a place.
#[derive(Debug)]
pub(crate) struct Sequence {
    /// The text so far; the cache holds its beginning.
    pub(crate) tokens: Vec<u32>,
    pub(crate) cache: Held,
    /// How many tokens were computed in whole aligned chunks.
    pub(crate) exact: usize,
    /// Bytes set aside for it.
    pub(crate) reserved: usize,
    /// Whether it has looked for a beginning to use again.
    pub(crate) looked: bool,
    pub(crate) work: Work,
    /// What the last pass gave, and at which position it begins; not yet looked at.
    pub(crate) given: Option<(usize, Given)>,
    pub(crate) ending: Option<Ending>,
}

/// How a sequence ended.
#[derive(Debug)]
pub(crate) enum Ending {
    /// As asked.
    Whole(FinishReason),
    /// Not as asked.
    Broken(Error),
}

impl Sequence {
    pub(crate) fn new(job: Job, cache: Held, reserved: usize) -> Self {
        Self {
            tokens: job.tokens,
            cache,
            exact: 0,
            reserved,
            looked: false,
            work: job.work,
            given: None,
            ending: None,
        }
    }

    pub(crate) fn is_writing(&self) -> bool {
        matches!(self.work, Work::Write(_))
    }

    /// Tokens of text that it has made.
    pub(crate) fn made(&self) -> usize {
        match &self.work {
            Work::Write(member) => member.generation.made(),
            _ => 0,
        }
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.work.is_cancelled()
    }

    pub(crate) fn wish(&self) -> Wish {
        if self.is_writing() {
            return Wish::Write;
        }
        Wish::Read {
            held: self.cache.len(),
            total: self.tokens.len(),
        }
    }

    /// What it wants of a pass that runs its next `rows` tokens.
    pub(crate) fn want(&self, rows: usize) -> Want {
        match &self.work {
            Work::Read(_) if self.cache.len() + rows < self.tokens.len() => Want::Nothing,
            Work::Read(_) | Work::Write(_) => Want::LastLogits,
            Work::Score(_) => Want::AllLogits,
            Work::Embed(_) => Want::Hidden,
        }
    }

    /// Notes that a pass ran the tokens from `start` to `end`, in chunks of `chunk`.
    pub(crate) fn ran(&mut self, start: usize, end: usize, chunk: usize, given: Given) {
        if end - start == chunk && start == self.exact && start.is_multiple_of(chunk) {
            self.exact = end;
        }
        if let Work::Read(members) = &self.work {
            let (done, total) = (end, self.tokens.len());
            members
                .iter()
                .for_each(|member| member.outlet.event(StreamEvent::Prefill { done, total }));
        }
        if !given.values.is_empty() {
            self.given = Some((start, given));
        }
    }

    /// A sequence whose prompt is read becomes one for each member, all with the same cache and logits.
    pub(crate) fn split(self) -> Vec<Self> {
        let Work::Read(members) = self.work else {
            return vec![self];
        };
        let share = self.reserved / members.len().max(1);
        let (tokens, exact, given) = (self.tokens, self.exact, self.given);
        let mut last = Some(self.cache);
        let count = members.len();
        let mut out = Vec::with_capacity(count);
        for (i, member) in members.into_iter().enumerate() {
            let whole = last.take_if(|_| i + 1 == count);
            let Some(cache) = whole.or_else(|| last.as_ref().map(|cache| cache.fork(cache.len()))) else {
                break;
            };
            out.push(Self {
                tokens: tokens.clone(),
                cache,
                exact,
                reserved: share,
                looked: true,
                work: Work::Write(Box::new(member)),
                given: given.clone(),
                ending: None,
            });
        }
        out
    }

    /// Looks at what the last pass gave. A panic on the way ends this sequence alone.
    pub(crate) fn absorb(&mut self, parts: &Parts, width: usize) {
        let Some((start, given)) = self.given.take() else {
            return;
        };
        let result = catch_unwind(AssertUnwindSafe(|| self.look(start, &given, parts, width)));
        match result.unwrap_or_else(|panic| Err(Error::Panicked(panic_text(&*panic)))) {
            Ok(Some(finish)) => self.ending = Some(Ending::Whole(finish)),
            Ok(None) => {}
            Err(error) => self.ending = Some(Ending::Broken(error)),
        }
    }

    fn look(
        &mut self,
        start: usize,
        given: &Given,
        parts: &Parts,
        width: usize,
    ) -> Result<Option<FinishReason>> {
        let (total, values) = (self.tokens.len(), given.values.as_slice());
        match &mut self.work {
            Work::Read(_) => Ok(None),
            Work::Write(member) => match member.generation.take(values, &given.teacher, &member.outlet)? {
                Next::End(finish) => Ok(Some(finish)),
                Next::Token(token) => {
                    self.tokens.push(token);
                    Ok(None)
                }
            },
            Work::Score(scoring) => {
                for (i, (row, at)) in values.chunks_exact(width).zip(start + 1..total).enumerate() {
                    let teacher = given.teacher.get(i * width..(i + 1) * width).unwrap_or_default();
                    let score = token_score(parts, row, teacher, self.tokens[at], scoring.top_logprobs)?;
                    scoring.scores.push(score);
                }
                Ok(self.whole())
            }
            Work::Embed(summing) => {
                let width = values.len() / (self.cache.len() - start).max(1);
                summing.sum.resize(width, 0.0);
                for row in values.chunks_exact(width) {
                    summing
                        .sum
                        .iter_mut()
                        .zip(row)
                        .for_each(|(sum, x)| *sum += f64::from(*x));
                }
                Ok(self.whole())
            }
        }
    }

    /// The end of a given text.
    fn whole(&self) -> Option<FinishReason> {
        (self.cache.len() == self.tokens.len()).then_some(FinishReason::Stop)
    }
}

impl Work {
    /// Hands the result to the caller.
    pub(crate) fn end(self, finish: FinishReason) {
        match self {
            Self::Read(members) => members.into_iter().for_each(|member| member.end(finish)),
            Self::Write(member) => member.end(finish),
            Self::Score(scoring) => scoring.outlet.end(Ok(scoring.scores)),
            Self::Embed(summing) => summing.outlet.end(Ok(unit(&summing.sum))),
        }
    }
}

/// A vector scaled to length 1.
fn unit(sum: &[f64]) -> Vec<f32> {
    let norm = sum.iter().map(|x| x.powi(2)).sum::<f64>().sqrt();
    sum.iter()
        .map(|x| (x / norm.max(f64::MIN_POSITIVE)) as f32)
        .collect()
}

fn token_score(
    parts: &Parts,
    logits: &[f32],
    teacher: &[f32],
    token: u32,
    top_logprobs: usize,
) -> Result<TokenScore> {
    let prediction = Prediction::new(logits)?;
    Ok(TokenScore {
        token,
        surprise_nats: prediction.surprise_nats(token),
        entropy_nats: prediction.entropy_nats(),
        persistence: parts.reference.persistence(&prediction, token, teacher)?,
        top: prediction.top(top_logprobs),
    })
}

/// What a panic said.
pub(crate) fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no reason given".into())
}
