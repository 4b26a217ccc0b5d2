//! Certificates of the configuration: which is shown for which server name.
//!
//! Source: Kong `kong/runloop/certificate.lua`.

use std::sync::Arc;

use hashbrown::{HashMap, HashSet};
use runtime::tls::{Identity, Names};
use store::snapshot::{Change, Tables};
use store::value::Row;
use uuid::Uuid;

/// Follows the rows of `certificates` and `snis`. Lives in the office.
pub struct Configured {
    names: Arc<Names>,
    /// What the rows hold, read once for each version of a row.
    read: HashMap<Uuid, (u64, Vec<Identity>)>,
}

impl Configured {
    /// Changes what `names` shows.
    pub fn new(names: Arc<Names>) -> Self {
        Self { names, read: HashMap::new() }
    }

    /// Takes up a change. Handshakes that begin after this see it.
    pub fn follow(&mut self, tables: &Tables, changes: &[Change]) {
        let mut touched: HashSet<String> = HashSet::new();
        for change in changes {
            let rows = [&change.before, &change.after];
            let rows = rows.into_iter().flatten();
            match change.entity.name {
                "snis" => touched.extend(rows.filter_map(|row| Some(row.text("name")?.to_owned()))),
                "certificates" => {
                    for row in rows {
                        if change.after.is_none() {
                            self.read.remove(&row.id());
                        }
                        let shown = tables.children("snis", "certificate", row.id(), None);
                        touched.extend(shown.filter_map(|sni| Some(sni.text("name")?.to_owned())));
                    }
                }
                _ => {}
            }
        }
        if touched.is_empty() {
            return;
        }
        let named = |name: String| {
            let identities = self.identities(tables, &name);
            (name, identities)
        };
        let names: Vec<_> = touched.into_iter().map(named).collect();
        self.names.set(&names);
    }

    /// What is shown for a name: none where no row has it.
    fn identities(&mut self, tables: &Tables, name: &str) -> Vec<Identity> {
        let sni = tables.by("snis", "name", name);
        let certificate = sni.and_then(|sni| sni.foreign("certificate"));
        let Some(row) = certificate.and_then(|id| tables.get("certificates", id)) else {
            return Vec::new();
        };
        let known = self.read.get(&row.id()).filter(|(version, _)| *version == row.version());
        if let Some((_, identities)) = known {
            return identities.clone();
        }
        let identities = read(row);
        self.read.insert(row.id(), (row.version(), identities.clone()));
        identities
    }
}

/// The pairs that a row holds; one that cannot be read is left out, and the log says so.
pub fn read(row: &Row) -> Vec<Identity> {
    let pair = |cert, key| {
        let (cert, key) = (row.text(cert)?, row.text(key)?);
        let read = Identity::from_pem(cert, key);
        read.map_err(|fault| log::error!("the certificate {} is not shown: {fault}", row.id())).ok()
    };
    [pair("cert", "key"), pair("cert_alt", "key_alt")].into_iter().flatten().collect()
}
