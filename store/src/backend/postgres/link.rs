//! The one connection to the database: kept up on a thread of its own, used from the store's.
//!
//! ```text
//! store's thread ── run(limit, work) ──► client ──┐
//! "store-postgres" thread: connect ► serve ► lost ► rest (50 ms … 2 s) ► connect …
//!                          hears NOTIFY and wakes the store; asks for a sign of life each second
//! ```
//! Work that misses its limit costs the connection, because its answer could come at any time. No
//! statement is ever sent twice: what was not acknowledged may have happened, and the next look at
//! the database tells.

use super::settings::Server;
use super::tls::Tls;
use crate::backend::{BackendFault, Wake};
use std::future::{Future, poll_fn};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::runtime::{Builder, Handle};
use tokio::sync::{Notify, watch};
use tokio_postgres::config::SslMode;
use tokio_postgres::error::SqlState;
use tokio_postgres::{AsyncMessage, Client, Config, Connection, NoTls};

/// The channel on which Tollgate nodes tell each other of changes.
pub(super) const CHANNEL: &str = "tollgate";
/// First and longest rest before another attempt to connect.
const REST_MS: (u64, u64) = (50, 2_000);
/// How often a connection that nobody uses is asked for a sign of life.
const LIFE_MS: u64 = 1_000;
/// How long it may take to give one.
const LIFE_WAIT_MS: u64 = 2_000;
/// How long the thread may take to end.
const END_MS: u64 = 500;

/// Why the database did not do what it was asked.
#[derive(Debug)]
pub(super) enum Trouble {
    /// It said no, or the connection broke.
    Sql(tokio_postgres::Error),
    /// One sentence.
    Said(String),
}

impl From<tokio_postgres::Error> for Trouble {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Sql(error)
    }
}

impl Trouble {
    /// One sentence for the operator.
    pub(super) fn words(&self) -> String {
        match self {
            Self::Sql(error) => words(error),
            Self::Said(words) => words.clone(),
        }
    }

    /// The code of the database's refusal, if it was one.
    pub(super) fn code(&self) -> Option<&SqlState> {
        match self {
            Self::Sql(error) => error.code(),
            Self::Said(_) => None,
        }
    }
}

/// A refusal's own words, else the whole chain of causes.
pub(super) fn words(error: &tokio_postgres::Error) -> String {
    if let Some(refusal) = error.as_db_error() {
        return refusal.message().to_owned();
    }
    let mut words = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        words = format!("{words}: {cause}");
        source = cause.source();
    }
    words
}

/// The link. Dropping it closes the connection and ends the thread.
pub(super) struct Link {
    hand: Hand,
    ended: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

/// A hand on the link, for another thread.
#[derive(Clone)]
pub(super) struct Hand {
    shared: Arc<Shared>,
    handle: Handle,
    end: watch::Receiver<bool>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    /// Rises with each connection, and with each attempt that failed.
    attempts: Notify,
    /// Somebody has lost patience with the connection.
    suspect: Notify,
    busy: AtomicBool,
    /// A wake-up by [`Link::wake_in`] is to come.
    waits: AtomicBool,
    wake: OnceLock<Wake>,
}

#[derive(Default)]
struct State {
    client: Option<Arc<Client>>,
    why: String,
    /// How often it was tried.
    tries: u64,
}

impl Link {
    /// Starts the thread, which begins to connect.
    ///
    /// # Errors
    /// One sentence: files of certificates, or no thread.
    pub(super) fn start(server: &Server, own: String) -> Result<Self, BackendFault> {
        let failed = |why: &dyn std::fmt::Display| {
            BackendFault(format!("cannot start the database's thread: {why}"))
        };
        let tls = server.ssl.then(|| Tls::of(server)).transpose().map_err(BackendFault)?;
        let runtime =
            Builder::new_current_thread().enable_all().build().map_err(|why| failed(&why))?;
        let handle = runtime.handle().clone();
        let shared = Arc::new(Shared::default());
        shared.lock().why = "it has not answered yet".to_owned();
        let (ended, end) = watch::channel(false);
        let hand = Hand { shared: Arc::clone(&shared), handle, end: end.clone() };
        let keeper = Keeper { shared: Arc::clone(&shared), server: server.clone(), tls, own };
        let thread = std::thread::Builder::new()
            .name("store-postgres".to_owned())
            .spawn(move || {
                let mut end = end;
                runtime.block_on(async {
                    tokio::select! {
                        () = keeper.keep() => {}
                        _ = end.wait_for(|end| *end) => {}
                    }
                });
                runtime.shutdown_timeout(Duration::from_millis(END_MS));
            })
            .map_err(|why| failed(&why))?;
        Ok(Self { hand, ended, thread: Some(thread) })
    }

    /// A hand for another thread.
    pub(super) fn hand(&self) -> Hand {
        self.hand.clone()
    }

    /// Calls this whenever something may have changed.
    pub(super) fn follow(&self, wake: Wake) {
        let _first = self.hand.shared.wake.set(wake);
    }

    /// Runs something on the link's thread until the link ends.
    pub(super) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        drop(self.hand.handle.spawn(work));
    }

    /// Calls what [`Link::follow`] was given after so long; one such call waits at a time.
    pub(super) fn wake_in(&self, ms: u64) {
        let shared = Arc::clone(&self.hand.shared);
        if shared.waits.swap(true, Ordering::Relaxed) {
            return;
        }
        self.spawn(async move {
            tokio::time::sleep(Duration::from_millis(ms)).await;
            shared.waits.store(false, Ordering::Relaxed);
            shared.wake();
        });
    }

    /// Whether there is a connection.
    pub(super) fn is_up(&self) -> bool {
        self.hand.shared.lock().client.is_some()
    }

    /// Waits for a connection, at most so long, or until an attempt has failed.
    pub(super) fn wait(&self, limit_ms: u64) -> Result<Arc<Client>, BackendFault> {
        let (client, tries) = {
            let state = self.hand.shared.lock();
            (state.client.clone(), state.tries)
        };
        if let Some(client) = client {
            return Ok(client);
        }
        let shared = &self.hand.shared;
        let tried = async {
            loop {
                let attempt = shared.attempts.notified();
                if shared.lock().tries > tries {
                    return;
                }
                attempt.await;
            }
        };
        let limit = Duration::from_millis(limit_ms);
        let _out_of_time =
            self.hand.handle.block_on(async { tokio::time::timeout(limit, tried).await });
        self.client()
    }

    /// The connection, if there is one.
    ///
    /// # Errors
    /// Why there is none.
    pub(super) fn client(&self) -> Result<Arc<Client>, BackendFault> {
        let state = self.hand.shared.lock();
        match &state.client {
            Some(client) if !client.is_closed() => Ok(Arc::clone(client)),
            Some(_) => Err(unreachable_because("the connection is lost")),
            None => Err(unreachable_because(&state.why)),
        }
    }

    /// Does some work on the connection, at most so long.
    ///
    /// # Errors
    /// What the work said, or that it took too long, which costs the connection.
    pub(super) fn run<T>(
        &self,
        limit_ms: u64,
        work: impl Future<Output = Result<T, Trouble>>,
    ) -> Result<T, Trouble> {
        self.hand.run(limit_ms, work)
    }

    /// Gives the connection up and makes a new one.
    pub(super) fn distrust(&self, why: &str) {
        self.hand.distrust(why);
    }
}

impl Hand {
    /// As [`Link::run`]; ends with the link.
    ///
    /// # Errors
    /// As there.
    pub(super) fn run<T>(
        &self,
        limit_ms: u64,
        work: impl Future<Output = Result<T, Trouble>>,
    ) -> Result<T, Trouble> {
        self.shared.busy.store(true, Ordering::Relaxed);
        let limit = Duration::from_millis(limit_ms);
        let mut end = self.end.clone();
        let done = self.handle.block_on(async {
            tokio::select! {
                biased;
                _ = end.wait_for(|end| *end) => {
                    Ok(Err(Trouble::Said("the node ends".to_owned())))
                }
                done = tokio::time::timeout(limit, work) => done,
            }
        });
        self.shared.busy.store(false, Ordering::Relaxed);
        match done {
            Ok(done) => done,
            Err(_) => {
                let words = format!("the database has not answered for {limit_ms} ms");
                self.distrust(&words);
                Err(Trouble::Said(words))
            }
        }
    }

    /// Calls what [`Link::follow`] was given.
    pub(super) fn wake(&self) {
        self.shared.wake();
    }

    fn distrust(&self, why: &str) {
        self.shared.down(why.to_owned());
        self.shared.suspect.notify_one();
    }
}

fn unreachable_because(why: &str) -> BackendFault {
    BackendFault(format!("the database cannot be reached: {why}"))
}

impl Drop for Link {
    fn drop(&mut self) {
        let _gone = self.ended.send(true);
        if let Some(thread) = self.thread.take() {
            let _joined = thread.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn up(&self, client: Arc<Client>) {
        let mut state = self.lock();
        state.client = Some(client);
        state.tries += 1;
        drop(state);
        self.attempts.notify_waiters();
        self.wake();
    }

    fn down(&self, why: String) {
        let mut state = self.lock();
        state.client = None;
        state.why = why;
        state.tries += 1;
        drop(state);
        self.attempts.notify_waiters();
    }

    fn wake(&self) {
        if let Some(wake) = self.wake.get() {
            wake();
        }
    }
}

/// What the thread does.
struct Keeper {
    shared: Arc<Shared>,
    server: Server,
    tls: Option<Tls>,
    /// What our own notifications say.
    own: String,
}

impl Keeper {
    async fn keep(&self) {
        let (mut rest_ms, longest_ms) = REST_MS;
        loop {
            let limit = Duration::from_millis(self.server.timeout_ms);
            match tokio::time::timeout(limit, self.connect()).await {
                Ok(Ok((client, serving))) => {
                    (rest_ms, _) = REST_MS;
                    log::info!("the database {} is connected", self.server.place());
                    let why = self.serve(client, serving).await;
                    log::warn!("the database {} is lost: {why}", self.server.place());
                    self.shared.down(why);
                }
                Ok(Err(why)) => self.shared.down(why),
                Err(_) => self.shared.down("it does not answer".to_owned()),
            }
            tokio::time::sleep(Duration::from_millis(rest_ms)).await;
            rest_ms = (rest_ms * 2).min(longest_ms);
        }
    }

    /// Connects and logs in; the second part must be polled for the first to work.
    async fn connect(&self) -> Result<(Client, Serving), String> {
        let connected = connect(&self.server, self.tls.as_ref(), &self.shared, &self.own).await;
        connected.map_err(|error| words(&error))
    }

    /// Serves a connection until it ends; gives back why.
    async fn serve(&self, client: Client, serving: Serving) -> String {
        let client = Arc::new(client);
        let mut serving = tokio::spawn(serving);
        let listen = format!("LISTEN {CHANNEL}");
        let listening = client.batch_execute(&listen);
        // A pooler may refuse it; then changes are found by polling alone.
        if let Ok(Err(why)) = tokio::time::timeout(Duration::from_secs(1), listening).await {
            log::info!("no notifications, polling alone: {}", words(&why));
        }
        self.shared.up(Arc::clone(&client));
        let why = loop {
            tokio::select! {
                ended = &mut serving => break ended.unwrap_or_else(|why| why.to_string()),
                () = self.shared.suspect.notified() => break "it does not answer".to_owned(),
                () = tokio::time::sleep(Duration::from_millis(LIFE_MS)) => {
                    if !self.is_alive(&client).await {
                        break "it gives no sign of life".to_owned();
                    }
                }
            }
        };
        serving.abort();
        why
    }

    /// Asks for a sign of life, unless the connection is busy giving one.
    async fn is_alive(&self, client: &Client) -> bool {
        if self.shared.busy.load(Ordering::Relaxed) {
            return true;
        }
        let limit = Duration::from_millis(LIFE_WAIT_MS);
        let asked = tokio::time::timeout(limit, client.batch_execute("")).await;
        let busy = self.shared.busy.load(Ordering::Relaxed);
        busy || matches!(asked, Ok(Ok(())))
    }
}

/// Drives a connection; ends with it, and tells why.
type Serving = std::pin::Pin<Box<dyn Future<Output = String> + Send>>;

/// A connection of its own, for commands that need no link.
///
/// # Errors
/// Why it cannot be had.
pub(super) async fn connect_alone(server: &Server) -> Result<Client, String> {
    let tls = server.ssl.then(|| Tls::of(server)).transpose()?;
    let shared = Arc::new(Shared::default());
    let limit = Duration::from_millis(server.timeout_ms);
    let connecting = connect(server, tls.as_ref(), &shared, "");
    let (client, serving) = match tokio::time::timeout(limit, connecting).await {
        Ok(connected) => connected.map_err(|error| words(&error))?,
        Err(_) => return Err(format!("{} does not answer", server.place())),
    };
    tokio::spawn(serving);
    Ok(client)
}

async fn connect(
    server: &Server,
    tls: Option<&Tls>,
    shared: &Arc<Shared>,
    own: &str,
) -> Result<(Client, Serving), tokio_postgres::Error> {
    let mut config = Config::new();
    config
        .host(&server.host)
        .port(server.port)
        .dbname(&server.database)
        .user(&server.user)
        .application_name("tollgate")
        .connect_timeout(Duration::from_millis(server.timeout_ms))
        .ssl_mode(if server.ssl { SslMode::Require } else { SslMode::Disable });
    if let Some(password) = &server.password {
        config.password(password);
    }
    let (shared, own) = (Arc::clone(shared), own.to_owned());
    Ok(match tls {
        Some(tls) => {
            let (client, connection) = config.connect(tls.clone()).await?;
            (client, Box::pin(drive(connection, shared, own)))
        }
        None => {
            let (client, connection) = config.connect(NoTls).await?;
            (client, Box::pin(drive(connection, shared, own)))
        }
    })
}

/// Moves bytes until the connection ends, and hears what other nodes say.
async fn drive<S, T>(mut connection: Connection<S, T>, shared: Arc<Shared>, own: String) -> String
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    loop {
        match poll_fn(|context| connection.poll_message(context)).await {
            Some(Ok(AsyncMessage::Notification(told))) if told.payload() != own => shared.wake(),
            Some(Ok(_)) => {}
            Some(Err(error)) => return words(&error),
            None => return "the connection was closed".to_owned(),
        }
    }
}
