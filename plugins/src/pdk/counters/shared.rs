//! Counting together with other nodes: where, how often, under which name.

use std::sync::Arc;

use smallvec::SmallVec;
use store::value::Value;
use uuid::Uuid;

use super::{Counter, Place, RedisPlace, Standing, Window};
use crate::pdk::Config;

/// How often `policy=cluster` is brought in step, in milliseconds.
const CLUSTER_EVERY_MS: u64 = 200;

/// Where nodes count together.
#[derive(Clone)]
pub struct Shared {
    place: Place,
    standing: Arc<Standing>,
    /// Tells this place's counts from those of others and from the node's own.
    pub mark: Arc<str>,
    /// How often; 0: each request is decided there.
    every_ms: u64,
    /// How long a decision may take.
    pub timeout_ms: u64,
}

impl Shared {
    /// None with `policy=local`.
    pub fn of(config: &Config<'_>) -> Option<Self> {
        let standing = Arc::new(Standing::default());
        match config.text("policy") {
            Some("cluster") => {
                let place = Place::Cluster(Arc::clone(&standing));
                let (mark, every_ms) = ("cluster".into(), CLUSTER_EVERY_MS);
                Some(Self { place, standing, mark, every_ms, timeout_ms: 0 })
            }
            Some("redis") => {
                let redis = redis(config.get("redis"));
                let timeout_ms = redis.timeout_ms;
                let mark = format!("{}:{};{}", redis.host, redis.port, redis.database).into();
                let every_ms = match config.number("sync_rate") {
                    Some(seconds) if seconds > 0.0 => (seconds * 1_000.0) as u64,
                    _ => 0,
                };
                let place = Place::Redis(Arc::new(redis), Arc::clone(&standing));
                Some(Self { place, standing, mark, every_ms, timeout_ms })
            }
            _ => None,
        }
    }

    /// Whether each request is decided there.
    pub fn decides(&self) -> bool {
        self.every_ms == 0
    }

    /// Whether it did not answer when it was last brought in step.
    pub fn is_down(&self) -> bool {
        self.standing.is_down()
    }

    /// The counter of one identifier. `scope` is the row's route and service.
    pub fn counter(
        &self,
        scope: &[u8; 32],
        identifier: String,
        windows: SmallVec<[Window; 2]>,
    ) -> Counter {
        let id = |from: usize| {
            let bytes = scope.get(from..from + 16).and_then(|bytes| bytes.try_into().ok());
            Uuid::from_bytes(bytes.unwrap_or_default())
        };
        let (place, every_ms) = (self.place.clone(), self.every_ms);
        Counter { place, route: id(0), service: id(16), identifier, windows, every_ms }
    }
}

fn redis(config: &Value) -> RedisPlace {
    let text = |name| config.get(name).as_text().filter(|text| !text.is_empty());
    let number = |name, usual: i64| config.get(name).as_integer().unwrap_or(usual);
    let flag = |name| config.get(name).as_flag().unwrap_or(false);
    RedisPlace {
        host: text("host").unwrap_or("127.0.0.1").to_owned(),
        port: u16::try_from(number("port", 6379)).unwrap_or(6379),
        database: number("database", 0),
        username: text("username").map(str::to_owned),
        password: text("password").map(str::to_owned),
        ssl: flag("ssl"),
        ssl_verify: flag("ssl_verify"),
        timeout_ms: u64::try_from(number("timeout", 2_000)).unwrap_or(2_000),
    }
}
