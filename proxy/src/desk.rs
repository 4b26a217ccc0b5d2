//! The desk: the office thread that answers what requests wait for, and looks after upstreams.
//!
//! ```text
//!   cores ─ names ─► resolver ─ hosts file, cache, name servers
//!   registry ─ targets' names ─► targets ─► resolver        registry ─ rounds ─► checks ─► peers
//! ```
//! It does nothing that takes over 1 ms by itself; every question is a task of its own, so a slow
//! name server holds up nobody who asks for another name.

pub mod checks;
pub mod resolver;

mod cache;
mod grpc;
mod hosts;
mod targets;

use std::convert::Infallible;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use runtime::mailbox::Desk;
use uuid::Uuid;

use crate::balance::registry::Registry;
use crate::names::{NameFault, Question, Told};
use checks::Trust;
use resolver::{NameSettings, Resolver};

/// How often somebody who waits for an Upstream's names looks again.
const SETTLE_LOOK: Duration = Duration::from_millis(5);
/// How long it looks at most; name servers are given up on sooner.
const SETTLE_LOOKS_MAX: u32 = 2_000;

/// What the desk works with.
pub struct Duties {
    /// The book of Upstreams.
    pub registry: Arc<Registry>,
    /// How names are looked up.
    pub names: NameSettings,
    /// TLS towards peers that are checked.
    pub trust: Trust,
}

/// Answers questions for ever. Runs on the desk's thread, inside a `LocalSet`.
///
/// # Errors
/// No resolver can be built, or the cores are gone.
pub async fn run(mut desk: Desk<Question, Told>, duties: Duties) -> Result<Infallible, String> {
    let Duties { registry, names, trust } = duties;
    let resolver = Rc::new(Resolver::new(&names)?);
    tokio::task::spawn_local(targets::look_up(Arc::clone(&registry), Rc::clone(&resolver)));
    tokio::task::spawn_local(checks::run(Arc::clone(&registry), Rc::new(trust)));
    loop {
        let asked = desk.next().await.map_err(|error| format!("the desk hears nobody: {error}"))?;
        let (resolver, registry) = (Rc::clone(&resolver), Arc::clone(&registry));
        tokio::task::spawn_local(async move {
            let told = match &asked.question {
                Question::Name(name) => resolver.look_up(name).await,
                Question::Settled(upstream) => settled(&registry, *upstream).await,
            };
            asked.reply.give(told);
        });
    }
}

async fn settled(registry: &Registry, upstream: Uuid) -> Told {
    for _ in 0..SETTLE_LOOKS_MAX {
        if registry.is_settled(upstream) {
            break;
        }
        tokio::time::sleep(SETTLE_LOOK).await;
    }
    Err(NameFault::Unanswered)
}
