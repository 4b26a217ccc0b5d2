//! How a core takes in connections, and whom it takes in while it drains.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::task::Poll;

use super::{Accepted, Core, OVER_MAX, Order, begin_one, handoff};
use crate::clock;
use crate::io::{self, Listener};

/// How long a core rests when accepting fails, in milliseconds.
const ACCEPT_REST_MS: u64 = 50;
/// How often a core says in the log that accepting fails, in microseconds.
const ACCEPT_LOG_US: u64 = 1_000_000;

/// One task that accepts.
struct Listening(Core);

impl Listening {
    fn begin(core: &Core) -> Self {
        core.0.listening.set(core.0.listening.get() + 1);
        Self(core.clone())
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.0.0.listening.set(self.0.0.listening.get() - 1);
        self.0.wake_watchers();
    }
}

/// Accepts until the core drains, and serves each connection in a task of its own.
///
/// Whom the kernel has let in before is served even then, at most `ACCEPTS_MAX` of them: closing
/// the socket would break the connection of a client who has asked already.
pub(super) async fn accept_all<S, F>(
    core: Core,
    mut listener: Listener,
    listen: usize,
    serve: Rc<S>,
) where
    S: Fn(Accepted) -> F + 'static,
    F: Future<Output = ()> + 'static,
{
    let _listening = Listening::begin(&core);
    let (mut log_us, mut burst) = (0, 0);
    let (mut has_looked, mut late) = (false, 0);
    loop {
        burst += 1;
        if burst % io::ACCEPTS_MAX == 0 {
            // A full queue of clients must not hold up those that are being served.
            io::yield_now().await;
        }
        let next = {
            let mut accept = pin!(listener.accept());
            let mut drained = pin!(core.until(|inner| inner.order.get() != Order::Run));
            poll_fn(|cx| match accept.as_mut().poll(cx) {
                Poll::Ready(accepted) => Poll::Ready(Some(accepted)),
                Poll::Pending => drained.as_mut().poll(cx).map(|()| None),
            })
            .await
        };
        late += usize::from(core.draining());
        match next {
            _ if late > io::ACCEPTS_MAX => return,
            None if has_looked => return,
            // The driver has not told yet of those who came with the order.
            None => {
                has_looked = true;
                io::yield_now().await;
            }
            Some(Ok((reader, writer, peer))) => {
                let Some(over) = admit(&core) else { continue };
                let accepted = Accepted { reader, writer, peer, listen, over };
                if let Some(accepted) = handoff::hand_over(&core, accepted) {
                    core.0.shared.counters.active.fetch_add(1, Ordering::Relaxed);
                    begin_one(&core, &*serve, accepted);
                }
            }
            Some(Err(error)) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Some(Err(error)) => {
                core.0.shared.counters.accept_faults.fetch_add(1, Ordering::Relaxed);
                if clock::now_us() > log_us {
                    log_us = clock::now_us() + ACCEPT_LOG_US;
                    log::error!("core {} cannot accept: {error}", core.number());
                }
                clock::sleep_ms(ACCEPT_REST_MS).await;
            }
        }
    }
}

/// Whether a new connection is one too many; none if it must be closed at once.
fn admit(core: &Core) -> Option<bool> {
    let most = core.0.connections_max;
    if most == 0 {
        return Some(false);
    }
    let active = core.node_active();
    if active >= most.saturating_add(OVER_MAX) {
        core.0.shared.counters.refused.fetch_add(1, Ordering::Relaxed);
        return None;
    }
    Some(active >= most)
}
