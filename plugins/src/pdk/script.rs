//! A scripted exchange: what the tests of plugins run on, without a socket or a thread.

use std::net::{IpAddr, Ipv4Addr};
use std::rc::Rc;
use std::sync::Arc;

use exporter::remote::Remotes;
use runtime::board::Board;
use runtime::buffers::Piece;
use runtime::http::head::{Fields, Version};
use runtime::mailbox::Asker;
use runtime::tally::Tally;
use store::schema::Catalogue;
use store::snapshot::Tables;

use super::cache::Parcel;
use super::meters::Table;
use super::{
    AnswerBody, BodyState, Cache, Client, Config, Exchange, Keeper, Kit, Node, Outcome, Plugin,
    Prepared, Scheme, Snapshot, Spec, Step,
};

/// A plugin, its configuration, and the rows around it.
pub struct Script {
    spec: &'static Spec,
    catalogue: Arc<Catalogue>,
    config: serde_json::Value,
    tables: Tables,
    kit: Rc<Kit>,
    remotes: Arc<Board<Remotes>>,
    meters: Arc<Table>,
}

/// Series that a scripted core has room for.
const SERIES: usize = 64;
/// What a scripted node's cache may hold.
const CACHE_BYTES_MAX: usize = 16 << 20;
/// Counters that a scripted node has.
const TALLY_SLOTS: usize = 1_024;

impl Script {
    /// A node with one plugin.
    pub fn new(spec: &'static Spec, config: serde_json::Value) -> Self {
        let catalogue = Arc::new(Catalogue::new(vec![&spec.schema], spec.entities));
        let tally = Arc::new(Tally::new(TALLY_SLOTS));
        let remotes = Arc::new(Board::new(Arc::new(Remotes::default())));
        let kit = Kit::new(tally, None, Arc::new(Node::default()), &remotes, 1 << 20);
        let meters = Arc::new(Table::new(SERIES));
        let kit = kit.counting_in(Arc::clone(&meters)).with_cache(cache());
        let tables = Tables::new(&catalogue);
        Self { spec, tables, catalogue, config, kit: Rc::new(kit), remotes, meters }
    }

    /// What Moesif says about its applications, from the next exchange on.
    pub fn publish_remotes(&self, remotes: Remotes) {
        self.remotes.publish(Arc::new(remotes));
    }

    /// Where events go: the reading end of the core's ring.
    pub fn with_ring(&self, producer: runtime::ring::Producer) {
        *self.kit.ring.borrow_mut() = Some(producer);
    }

    /// What was counted of exchanges.
    pub fn meters(&self) -> &Table {
        &self.meters
    }

    /// The plugin's configuration, made ready.
    ///
    /// # Errors
    /// What the Admin API would say.
    pub fn prepared(&self) -> Result<Prepared, String> {
        prepared(self.spec, &self.catalogue, &self.config)
    }

    /// With one more row.
    #[must_use]
    pub fn row(mut self, entity: &str, input: serde_json::Value) -> Self {
        match store::script::with_row(&self.catalogue, Some(self.tables), entity, &input) {
            Ok(tables) => self.tables = tables,
            Err(fault) => unreachable!("the row is refused: {fault}"),
        }
        self
    }

    /// The plugin, configured as the Admin API would.
    ///
    /// # Panics
    /// When the configuration is refused; see `fault`.
    pub fn plugin(&self) -> Box<dyn Plugin> {
        match prepared(self.spec, &self.catalogue, &self.config) {
            Ok(prepared) => prepared.instance(),
            Err(fault) => unreachable!("the configuration is refused: {fault}"),
        }
    }

    /// A GET request that has arrived and was routed.
    pub fn get(&self, target: &str, fields: &[(&str, &str)]) -> Exchange {
        let snapshot =
            Snapshot { number: 1, tables: Arc::new(self.tables.clone()), road: Box::new(()) };
        let client = Client {
            ip: IpAddr::V4(Ipv4Addr::LOCALHOST),
            port: 40_000,
            peer: (Ipv4Addr::LOCALHOST, 40_000).into(),
            trusted: false,
            scheme: Scheme::Http,
            local_ip: IpAddr::V4(Ipv4Addr::LOCALHOST),
            local_port: 8_000,
            shown_port: 8_000,
            sni: None,
            connection: 1,
            requests: 1,
            tls: None,
        };
        let mut exchange = Exchange::new(Rc::clone(&self.kit), Rc::new(Arc::new(snapshot)), client);
        exchange.request.version = Version::H11;
        exchange.request.set_method("GET");
        exchange.request.set_target(target.as_bytes());
        for (name, value) in fields {
            exchange.request.fields.add(name, value.as_bytes());
        }
        let path = exchange.raw_path().to_vec();
        exchange.onward.path = path;
        let query = exchange.query().map(<[u8]>::to_vec);
        exchange.onward.has_query = query.is_some();
        exchange.onward.query = query.unwrap_or_default();
        exchange
    }

    /// A POST request whose body was read whole.
    pub fn post(&self, target: &str, fields: &[(&str, &str)], body: &str) -> Exchange {
        let mut exchange = self.get(target, fields);
        exchange.request.set_method("POST");
        exchange.request_body.push(Piece::from_vec(body.as_bytes().to_vec()));
        exchange.request_body_state = BodyState::Whole;
        exchange
    }

    /// The path and query that go upstream.
    pub fn onward(&self, exchange: &Exchange) -> String {
        let path = String::from_utf8_lossy(&exchange.onward.path).into_owned();
        match exchange.onward.has_query {
            true => format!("{path}?{}", String::from_utf8_lossy(&exchange.onward.query)),
            false => path,
        }
    }
}

/// A cache whose keeper takes in at once.
fn cache() -> Cache {
    let keeper = Arc::new(Keeper::new(1, CACHE_BYTES_MAX));
    let taker = Arc::clone(&keeper);
    let asker = Asker::scripted(move |entry: Parcel| {
        taker.take(entry.into_iter());
        Some(())
    });
    Cache::new(&keeper, asker, 0)
}

fn prepared(
    spec: &'static Spec,
    catalogue: &Arc<Catalogue>,
    config: &serde_json::Value,
) -> Result<Prepared, String> {
    let input = serde_json::json!({ "name": spec.schema.name, "config": config });
    let row = store::script::row(catalogue, "plugins", &input)?;
    (spec.prepare)(&Config::of(&row)).map_err(|fault| fault.message)
}

/// Header lines as text.
pub fn lines(fields: &Fields) -> Vec<String> {
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    fields.iter().map(|(name, value)| format!("{}: {}", text(name), text(value))).collect()
}

/// What the Admin API would say against a configuration.
pub fn fault(spec: &'static Spec, config: serde_json::Value) -> Option<String> {
    let catalogue = Arc::new(Catalogue::new(vec![&spec.schema], spec.entities));
    prepared(spec, &catalogue, &config).err()
}

/// Compares what the Admin API would say against a configuration with the words that it must
/// contain; no words: it says nothing.
///
/// # Panics
/// When it says something else.
#[track_caller]
pub fn check_fault(spec: &'static Spec, config: serde_json::Value, expected: &str) {
    let shown = config.to_string();
    let found = fault(spec, config).unwrap_or_default();
    let equal = if expected.is_empty() { found.is_empty() } else { found.contains(expected) };
    assert!(equal, "{shown}: {found:?}, not {expected:?}");
}

/// The answer of a plugin that decides at once: its status, and its message or body.
pub fn answered(step: Step<'_>) -> Option<(u16, String)> {
    let Step::Done(Outcome::Answer(answer)) = step else { return None };
    let body = match &answer.body {
        AnswerBody::Message(message) => message.to_string(),
        AnswerBody::Exact { bytes, .. } => String::from_utf8_lossy(bytes).into_owned(),
        AnswerBody::Empty => String::new(),
    };
    Some((answer.status, body))
}
