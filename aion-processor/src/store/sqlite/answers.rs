//! Tells callers what became of what they asked for, beside the writer: to wake hundreds of them takes as long as some of
//! the writer's statements do.

use std::sync::mpsc;
use std::thread::{self, JoinHandle};

use crate::Result;
use crate::store::group::{Answer, Job};

/// So many callers the writer tells by itself, for to wake another thread takes time as well.
const FEW: usize = 8;

type Answered = (Vec<Job>, Vec<Result<Answer>>);

/// The thread that answers, once there is much to answer. It ends, with everybody told, when it is dropped.
#[derive(Debug, Default)]
pub(super) struct Answers {
    inbox: Option<mpsc::Sender<Answered>>,
    thread: Option<JoinHandle<()>>,
}

impl Answers {
    /// Hands the answers to the units of some jobs over to whoever asked, now or soon.
    pub(super) fn give(&mut self, jobs: Vec<Job>, answers: Vec<Result<Answer>>) {
        if jobs.len() <= FEW || !self.has_thread() {
            return give((jobs, answers));
        }
        let Some(inbox) = &self.inbox else { return };
        if let Err(mpsc::SendError(answered)) = inbox.send((jobs, answers)) {
            give(answered);
        }
    }

    fn has_thread(&mut self) -> bool {
        if self.thread.is_none() {
            let (inbox, answered) = mpsc::channel();
            let thread = thread::Builder::new().name("aion-task-answer".to_owned());
            let started = thread.spawn(move || answered.into_iter().for_each(give));
            // Without one more thread the writer goes on as it did.
            self.thread = started.ok();
            self.inbox = self.thread.is_some().then_some(inbox);
        }
        self.thread.is_some()
    }
}

impl Drop for Answers {
    fn drop(&mut self) {
        self.inbox = None;
        if let Some(thread) = self.thread.take() {
            // It does not panic; and if it did, nobody would be left to tell.
            let _ = thread.join();
        }
    }
}

fn give((jobs, answers): Answered) {
    let mut answers = answers.into_iter();
    for job in jobs {
        job.answer(&mut answers);
    }
}
