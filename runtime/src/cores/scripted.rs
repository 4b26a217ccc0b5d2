//! A core without a thread, for worlds without a kernel.

use super::accepting::accept_all;
use super::{Accepted, Core, Inner, Order, Shared, hear};
use crate::clock;
use crate::io::{self, IoKind, Listener};
use std::cell::{Cell, RefCell};
use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;

impl Core {
    /// A core of a scripted world (`io::script`), without a thread: it accepts what it is told to
    /// `serve`, and nobody orders it but through `begin_draining`.
    ///
    /// # Errors
    /// When descriptors have run out.
    pub fn scripted() -> io::Result<Self> {
        let shared = Shared::new()?;
        Ok(Self(Rc::new(Inner {
            number: 0,
            kind: IoKind::Script,
            all: Arc::from([Arc::clone(&shared)]),
            connections_max: 0,
            shared,
            order: Cell::new(Order::Run),
            listening: Cell::new(0),
            watchers: RefCell::default(),
            open: RefCell::default(),
            free: RefCell::default(),
            errands: RefCell::default(),
        })))
    }

    /// Accepts on a listener of a scripted world until the core drains, and serves each connection
    /// in a task of its own.
    pub fn serve<S, F>(&self, listener: Listener, serve: S)
    where
        S: Fn(Accepted) -> F + 'static,
        F: Future<Output = ()> + 'static,
    {
        io::spawn(accept_all(self.clone(), listener, 0, Rc::new(serve)));
    }

    /// Drains a core of a scripted world: it accepts no more, and idle connections close.
    pub fn begin_draining(&self) {
        self.0.shared.give(Order::Drain);
        hear(self);
        clock::close_idle();
    }
}
