//! Redis: one connection for each place, on which many requests are under way at once.
//!
//! Keys are Kong's, so that Kong's nodes count with us.
//!
//! Source: Kong `kong/plugins/{rate-limiting,response-ratelimiting}/policies/init.lua`.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::LazyLock;
use std::time::Duration;

use plugins::pdk::counters::{Counter, Decision, Place, RedisPlace, Told};
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, ConnectionAddr, IntoConnectionInfo, Script};
use redis::{RedisConnectionInfo, RedisError};
use runtime::clock;
use uuid::Uuid;

/// A place that did not answer is left alone so long, in milliseconds: requests must not queue up
/// behind it.
const REST_MS: u64 = 500;

/// Decides all windows of a request at once: nothing is counted that is refused. The first answer
/// is whether it may pass, the others are the counts before. For each key: the limit, how long it
/// is kept, and by how much it rises; where that is nothing, it is only looked at.
static DECIDE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "local told, admitted = {}, 1 \
         for i, key in ipairs(KEYS) do \
           told[i] = tonumber(redis.call('GET', key) or '0') \
           local more = tonumber(ARGV[3 * i]) \
           if more > 0 and told[i] + more > tonumber(ARGV[3 * i - 2]) then admitted = 0 end \
         end \
         if admitted == 1 then \
           for i, key in ipairs(KEYS) do \
             local more = tonumber(ARGV[3 * i]) \
             if more > 0 and redis.call('INCRBY', key, more) == more then \
               redis.call('EXPIRE', key, ARGV[3 * i - 1]) \
             end \
           end \
         end \
         table.insert(told, 1, admitted) \
         return told",
    )
});

/// The key of a counter of requests, or of what upstreams report under a name. `scope` is its route
/// and its service.
pub(super) fn key(
    [route, service]: [&Uuid; 2],
    identifier: &str,
    starts_s: i64,
    period: &str,
    counted: Option<&str>,
) -> String {
    let starts_ms = starts_s * 1_000;
    match counted {
        None => format!("ratelimit:{route}:{service}:{identifier}:{starts_ms}:{period}"),
        Some(name) => {
            format!("response-ratelimit:{route}:{service}:{identifier}:{starts_ms}:{name}:{period}")
        }
    }
}

/// The connections.
#[derive(Default)]
pub(super) struct Lines {
    all: std::cell::RefCell<HashMap<RedisPlace, Rc<Line>>>,
}

/// One connection; the lock is held only while it is being made.
#[derive(Default)]
struct Line {
    connection: tokio::sync::Mutex<State>,
}

#[derive(Default)]
struct State {
    connection: Option<MultiplexedConnection>,
    /// Not tried again before, on the monotonic clock.
    rests_until_us: u64,
}

impl Lines {
    fn line(&self, place: &RedisPlace) -> Rc<Line> {
        Rc::clone(self.all.borrow_mut().entry(place.clone()).or_default())
    }

    /// Lets the Redis of a counter decide; none if it does not answer.
    pub(super) async fn decide(&self, counter: &Counter) -> Told {
        let Place::Redis(place, standing) = &counter.place else { return None };
        let mut script = DECIDE.prepare_invoke();
        for window in &counter.windows {
            let (scope, counted) = ([&counter.route, &counter.service], window.counted.as_deref());
            let identifier = &counter.identifier;
            let key = key(scope, identifier, window.starts_s, window.period, counted);
            script.key(key).arg(window.slot.limit).arg(window.kept_s).arg(window.amount);
        }
        let line = self.line(place);
        let asked =
            line.with(place, async |connection| script.invoke_async::<Vec<u64>>(connection).await);
        let told = asked.await;
        if standing.set_down(told.is_err()) {
            match &told {
                Err(why) => log::error!("redis {}:{}: {why}", place.host, place.port),
                Ok(_) => log::info!("redis {}:{} answers again", place.host, place.port),
            }
        }
        let told = told.ok()?;
        let (admitted, before) = told.split_first()?;
        Some(Decision { admitted: *admitted == 1, before: before.iter().copied().collect() })
    }

    /// Adds to counters in one pipeline; gives what each has then.
    pub(super) async fn add(
        &self,
        place: &RedisPlace,
        steps: &[(String, u64, i64)],
    ) -> Result<Vec<u64>, String> {
        let mut pipe = redis::pipe();
        for (key, count, kept_s) in steps {
            pipe.cmd("INCRBY").arg(key).arg(*count);
            pipe.cmd("EXPIRE").arg(key).arg(*kept_s).ignore();
        }
        let line = self.line(place);
        line.with(place, async |connection| pipe.query_async::<Vec<u64>>(connection).await).await
    }
}

impl Line {
    /// Does something on the connection, which is made if there is none, and given up if it fails.
    async fn with<T>(
        &self,
        place: &RedisPlace,
        work: impl AsyncFnOnce(&mut MultiplexedConnection) -> Result<T, RedisError>,
    ) -> Result<T, String> {
        let mut connection = self.connect(place).await?;
        let done = work(&mut connection).await;
        if let Err(why) = &done
            && (why.is_io_error() || why.is_timeout() || why.is_connection_dropped())
        {
            let mut state = self.connection.lock().await;
            state.connection = None;
            state.rests_until_us = clock::now_us() + REST_MS * 1_000;
        }
        done.map_err(|why| why.to_string())
    }

    async fn connect(&self, place: &RedisPlace) -> Result<MultiplexedConnection, String> {
        let mut state = self.connection.lock().await;
        if let Some(connection) = &state.connection {
            return Ok(connection.clone());
        }
        if clock::now_us() < state.rests_until_us {
            return Err("it did not answer a moment ago".to_owned());
        }
        match open(place).await {
            Ok(connection) => {
                state.connection = Some(connection.clone());
                Ok(connection)
            }
            Err(why) => {
                state.rests_until_us = clock::now_us() + REST_MS * 1_000;
                Err(why.to_string())
            }
        }
    }
}

async fn open(place: &RedisPlace) -> Result<MultiplexedConnection, RedisError> {
    let (host, port) = (place.host.clone(), place.port);
    let address = match place.ssl {
        true => {
            let insecure = !place.ssl_verify;
            ConnectionAddr::TcpTls { host, port, insecure, tls_params: None }
        }
        false => ConnectionAddr::Tcp(host, port),
    };
    let mut login = RedisConnectionInfo::default().set_db(place.database);
    if let Some(password) = &place.password {
        login = login.set_password(password);
        if let Some(username) = &place.username {
            login = login.set_username(username);
        }
    }
    let client = Client::open(address.into_connection_info()?.set_redis_settings(login))?;
    let limit = Some(Duration::from_millis(place.timeout_ms));
    let config =
        AsyncConnectionConfig::new().set_connection_timeout(limit).set_response_timeout(limit);
    client.get_multiplexed_async_connection_with_config(&config).await
}
