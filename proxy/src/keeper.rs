//! Opens the store: the catalogue of what can be configured, the Admin API on top, the backend
//! below.

use std::path::Path;
use std::sync::Arc;

use runtime::clock;
use store::actor::{self, Store, StorePlan, Watch};
use store::admin::{Admin, Node};
use store::backend::Backend;
use store::backend::postgres::{Postgres, PostgresPlan};
use store::backend::sqlite::Sqlite;
use store::conf::{Database, Settings};
use store::schema::{Catalogue, Entity, PluginSchema};
use uuid::Uuid;

use crate::declarative;
use crate::ports::Submit;

/// The embedded database under the prefix.
const DATABASE_FILE: &str = "tollgate.db";
/// The last good configuration under the prefix, for starts while the database is away.
const COPY_FILE: &str = "last-good.rows";

/// What can be configured on this node. `enabled` are the names of the plugins in force,
/// `expressions` says whether routes can be expressions.
#[must_use]
pub fn catalogue(
    plugins: Vec<&'static PluginSchema>,
    owned: &[&'static Entity],
    enabled: Vec<String>,
    expressions: bool,
) -> Arc<Catalogue> {
    let mut catalogue = Catalogue::new(plugins, owned);
    catalogue.enabled = enabled;
    if expressions {
        catalogue = catalogue.with_expressions();
    }
    Arc::new(catalogue)
}

/// Unix time in milliseconds.
#[must_use]
pub fn now_ms() -> i64 {
    i64::try_from(clock::wall_us() / 1_000).unwrap_or(i64::MAX)
}

/// Fills buffers with bytes that nobody can guess.
#[must_use]
pub fn random() -> actor::Random {
    let chance = rustls::crypto::aws_lc_rs::default_provider().secure_random;
    Box::new(move |bytes| {
        // The library's own generator is seeded once and does not fail afterwards; should it
        // ever, a guessable key would be worse than none.
        if chance.fill(bytes).is_err() {
            log::error!("the system gives no random bytes");
            std::process::abort();
        }
    })
}

/// Where this node keeps its rows.
///
/// # Errors
/// One sentence, or the faults of a declarative configuration.
pub fn backend(
    settings: &Settings,
    prefix: &Path,
    catalogue: &Catalogue,
    node_id: Uuid,
) -> Result<Box<dyn Backend>, String> {
    let words = |fault: store::backend::BackendFault| fault.to_string();
    Ok(match settings.database() {
        Database::Off => Box::new(declarative::backend(settings, prefix, catalogue)?),
        Database::Sqlite => Box::new(Sqlite::open(&prefix.join(DATABASE_FILE)).map_err(words)?),
        Database::Postgres => {
            let copy = Some(prefix.join(COPY_FILE));
            let plan = PostgresPlan::of(settings, node_id, copy);
            Box::new(Postgres::open(plan).map_err(words)?)
        }
    })
}

/// Opens the store and publishes its first snapshot through `watch`.
///
/// # Errors
/// One sentence.
pub fn open(
    settings: &Settings,
    prefix: &Path,
    catalogue: Arc<Catalogue>,
    node: Node,
    watch: Watch,
) -> Result<Store, String> {
    let backend = backend(settings, prefix, &catalogue, node.facts.node_id)?;
    let plan = StorePlan {
        backend,
        answer: Admin::new(&catalogue, node).into_answer(),
        catalogue,
        watch,
        now_ms: Box::new(now_ms),
        random: random(),
    };
    actor::start(plan).map_err(|fault| fault.to_string())
}

/// The way from the ports to a store.
#[must_use]
pub fn submit(store: &Arc<Store>) -> Submit {
    let store = Arc::clone(store);
    Arc::new(move |call, done| store.submit(call, done))
}
