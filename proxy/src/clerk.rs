//! The clerk: the office thread that does the errands of plugins.
//!
//! What is to be written goes to the store as a call like those of the Admin API, and the answer
//! goes back when its snapshot is published. Work that no core may do is done here, one piece after
//! the other.

use std::sync::{Arc, Weak};
use std::thread;

use crossbeam_channel::bounded;
use plugins::pdk::{Answered, Errand, Refused};
use runtime::mailbox::{Desk, Reply};
use store::actor::Store;
use store::admin::{self, Call};

/// How long the clerk waits before it looks whether the store is still there.
const LOOK_MS: u32 = 500;

/// Does errands until the store is gone. A clerk does not keep a store: the program ends by
/// dropping it.
pub fn start(desk: Desk<Errand, Answered>, store: Weak<Store>) -> std::io::Result<()> {
    let work = move || {
        loop {
            let asked = desk.next_blocking(LOOK_MS);
            let Some(store) = store.upgrade() else { return };
            let Some(asked) = asked else { continue };
            match asked.question {
                Errand::Work(work) => asked.reply.give(told(work())),
                Errand::Write(write) => submit(&store, write, asked.reply),
            }
        }
    };
    thread::Builder::new().name("clerk".to_owned()).spawn(work).map(drop)
}

fn told(done: bool) -> Answered {
    if done { Ok(Vec::new()) } else { Err(Refused::Rows("it is not so".to_owned())) }
}

/// Hands an errand in as a call. The last of its runs counts: a call may be answered again.
fn submit(store: &Arc<Store>, write: plugins::pdk::Write, reply: Reply<Answered>) {
    let (put, found) = bounded(1);
    let old = found.clone();
    let call = Call::work(move |working| {
        let (told, status) = match write(working) {
            Ok(rows) => (Ok(rows), 200),
            Err(fault) => (Err(Refused::Rows(fault.message)), 400),
        };
        let _before = old.try_recv();
        let _one_place = put.try_send(told);
        admin::Reply::empty(status)
    });
    let done = move |answer: admin::Reply| {
        let told = found.try_recv().ok().filter(|_| answer.status < 500);
        let unwritten = || Err(Refused::Unavailable("the rows could not be written".to_owned()));
        reply.give(told.unwrap_or_else(unwritten));
    };
    store.submit(call, Box::new(done));
}
