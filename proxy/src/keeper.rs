//! Opens the store: the catalogue of what can be configured, the Admin API on top, the backend
//! below.

use std::path::Path;
use std::sync::Arc;

use runtime::clock;
use store::actor::{self, Store, StorePlan, Watch};
use store::admin::{Admin, Node};
use store::backend::postgres::{Postgres, PostgresPlan};
use store::backend::sqlite::Sqlite;
use store::backend::{Backend, BackendFault};
use store::conf::{Database, Settings};
use store::schema::{Catalogue, Entity, PluginSchema};

use crate::ports::Submit;

/// The embedded database under the prefix.
const DATABASE_FILE: &str = "tollgate.db";
/// The last good configuration under the prefix, for starts while the database is away.
const COPY_FILE: &str = "last-good.rows";

/// What can be configured on this node. `enabled` are the names of the plugins in force.
#[must_use]
pub fn catalogue(
    plugins: Vec<&'static PluginSchema>,
    owned: &[&'static Entity],
    enabled: Vec<String>,
) -> Arc<Catalogue> {
    let mut catalogue = Catalogue::new(plugins, owned);
    catalogue.enabled = enabled;
    Arc::new(catalogue)
}

/// Opens the store that the settings name and publishes its first snapshot through `watch`.
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
    let words = |fault: BackendFault| fault.to_string();
    let backend = backend(settings, prefix, &node).map_err(words)?;
    let chance = rustls::crypto::aws_lc_rs::default_provider().secure_random;
    let plan = StorePlan {
        backend,
        answer: Admin::new(&catalogue, node).into_answer(),
        catalogue,
        watch,
        now_ms: Box::new(|| i64::try_from(clock::wall_us() / 1_000).unwrap_or(i64::MAX)),
        random: Box::new(move |bytes| {
            // The library's own generator is seeded once and does not fail afterwards; should it
            // ever, a guessable key would be worse than none.
            if chance.fill(bytes).is_err() {
                log::error!("the system gives no random bytes");
                std::process::abort();
            }
        }),
    };
    actor::start(plan).map_err(words)
}

fn backend(
    settings: &Settings,
    prefix: &Path,
    node: &Node,
) -> Result<Box<dyn Backend>, BackendFault> {
    Ok(match settings.database() {
        Database::Postgres => {
            let copy = Some(prefix.join(COPY_FILE));
            let plan = PostgresPlan::of(settings, node.facts.node_id, copy);
            Box::new(Postgres::open(plan)?)
        }
        Database::Sqlite | Database::Off => Box::new(Sqlite::open(&prefix.join(DATABASE_FILE))?),
    })
}

/// The way from the ports to a store.
#[must_use]
pub fn submit(store: &Arc<Store>) -> Submit {
    let store = Arc::clone(store);
    Arc::new(move |call, done| store.submit(call, done))
}
