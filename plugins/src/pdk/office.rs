//! What plugins ask of the office: rows to be written, and work that takes too long for a core.
//!
//! A plugin waits for the answer with a deadline ([`Office::write`], [`Office::work`]), inside
//! [`super::Step::Wait`], or does not wait at all ([`Office::post`]). Rows that were written are in
//! the next exchange's snapshot when the answer is there.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Waker};

use runtime::mailbox::Asker;
use store::actor::Working;
use store::check::Fault;
use store::value::Row;

/// How long a request waits for the office.
const ANSWER_MS_MAX: u64 = 5_000;

/// Rows that were written or found.
pub type Rows = Vec<Arc<Row>>;

/// A question to the office.
pub enum Errand {
    /// Runs on the store's thread as one transaction: all that it wrote is kept, or nothing if it
    /// fails. It may run more than once (a database that others write to as well), so it must take
    /// all that it needs from the tables that it is given.
    Write(Write),
    /// Runs in the office, beside the store.
    Work(Box<dyn FnOnce() -> bool + Send>),
}

/// See [`Errand::Write`].
pub type Write = Arc<dyn Fn(&mut Working<'_>) -> Result<Rows, Fault> + Send + Sync>;

/// What the office answers.
pub type Answered = Result<Rows, Refused>;

/// Why an errand came to nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The rows are not as the errand wants them; nothing was written.
    Rows(String),
    /// The office is busy, or the database cannot be written.
    Unavailable(String),
}

impl fmt::Display for Refused {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rows(why) | Self::Unavailable(why) => out.write_str(why),
        }
    }
}

/// The way from a core to the office. Cheap to clone; belongs to one core.
#[derive(Clone, Default)]
pub struct Office(Option<Asker<Errand, Answered>>);

impl Office {
    /// The way through a mailbox.
    pub fn new(asker: Asker<Errand, Answered>) -> Self {
        Self(Some(asker))
    }

    async fn ask(&self, errand: Errand) -> Answered {
        let Some(asker) = &self.0 else {
            return Err(Refused::Unavailable("there is no office".to_owned()));
        };
        let answer = asker.ask(errand, ANSWER_MS_MAX).await;
        answer.unwrap_or_else(|fault| Err(Refused::Unavailable(fault.to_string())))
    }

    /// Writes rows, or finds them behind all writes that were asked for before.
    ///
    /// # Errors
    /// Nothing was written, or it is not known in time whether it was.
    pub async fn write(
        &self,
        write: impl Fn(&mut Working<'_>) -> Result<Rows, Fault> + Send + Sync + 'static,
    ) -> Answered {
        self.ask(Errand::Write(Arc::new(write))).await
    }

    /// Does what takes longer than a core may; false if the office could not.
    pub async fn work(&self, work: impl FnOnce() -> bool + Send + 'static) -> bool {
        self.ask(Errand::Work(Box::new(work))).await.is_ok()
    }

    /// Writes rows without waiting for it; a failure is logged as `about`.
    pub fn post(
        &self,
        about: &'static str,
        write: impl Fn(&mut Working<'_>) -> Result<Rows, Fault> + Send + Sync + 'static,
    ) {
        let office = self.clone();
        let mut task: Pin<Box<dyn Future<Output = ()>>> = Box::pin(async move {
            if let Err(why) = office.write(write).await {
                log::error!("{about}: {why}");
            }
        });
        // A scripted office answers at once, where no core runs.
        let mut nobody = Context::from_waker(Waker::noop());
        if task.as_mut().poll(&mut nobody).is_pending() {
            runtime::io::spawn(task);
        }
    }
}
