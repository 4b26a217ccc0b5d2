//! `config init | parse | db_import | db_export`: declarative configuration from the command line.
//!
//! Source: Kong `kong/cmd/config.lua`.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use store::backend::{Backend, CommitFault, Conflict, ConflictKind, Turn};
use store::conf::{Database, Settings};
use store::declarative::{self as documents, Node};
use store::schema::Catalogue;
use store::snapshot::{Change, Tables, Taken};

use super::Command;
use crate::{declarative, engine, keeper, prefix, process};

const DEFAULT_FILE: &str = "kong.yml";
/// An export holds secrets.
const MODE: u32 = 0o600;

const EXAMPLE: &str = "\
# A declarative configuration. Check it with `config parse`; it is used with
#   database = off
#   declarative_config = /path/to/this/file
_format_version: \"3.0\"
_transform: true

# services:
# - name: example
#   url: http://example.com
#   routes:
#   - name: example
#     paths:
#     - /example
#   plugins:
#   - name: key-auth

# consumers:
# - username: somebody
#   keyauth_credentials:
#   - key: my-key
";

/// Answers the command with words for standard output.
pub(super) fn answer(command: &Command) -> Result<String, String> {
    let mut words = command.rest.iter().map(String::as_str);
    let name = words.next().unwrap_or_default().replace('-', "_");
    let file = words.next().map(absolute);
    let or_default = || file.clone().unwrap_or_else(|| absolute(DEFAULT_FILE));
    match name.as_str() {
        "init" => {
            write(&or_default(), EXAMPLE, "already exists.\nWill not overwrite it.", 0o644)?;
            Ok(String::new())
        }
        "parse" | "db_import" => {
            let (settings, catalogue) = prepare(command, &name)?;
            let file =
                file.ok_or("expected a declarative configuration file; see `kong config --help`")?;
            let loaded = parse(&settings, &catalogue, &file)?;
            if name == "parse" {
                return Ok("parse successful".to_owned());
            }
            super::say("parse successful, beginning import\n");
            let import = import(&settings, &catalogue, &loaded);
            import.map_err(|why| format!("Failed importing:\n{why}"))?;
            Ok("import successful".to_owned())
        }
        "db_export" => {
            let (settings, catalogue) = prepare(command, &name)?;
            let tables = open(&settings, &catalogue)?.1;
            let now_s = keeper::now_ms().div_euclid(1_000);
            let text = documents::export(&catalogue, &tables, now_s);
            write(&or_default(), &text, "already exists. Will not overwrite it.", MODE)?;
            Ok(String::new())
        }
        other => Err(format!("unknown command '{other}'")),
    }
}

fn absolute(path: &str) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| PathBuf::from(path))
}

/// Settings and what can be configured; what the command cannot do with this store is refused.
fn prepare(command: &Command, name: &str) -> Result<(Settings, Arc<Catalogue>), String> {
    let (settings, _) = super::settings(command)?;
    if let Some(refusal) = settings.refusal() {
        return Err(refusal);
    }
    if settings.database() == Database::Off && name != "parse" {
        let mut words = format!("'kong config {name}' only works with a database.");
        if name == "db_import" {
            words += "\nWhen using database=off, reload your declarative configuration\n\
                      using the /config endpoint.";
        }
        return Err(words);
    }
    let specs = engine::specs();
    let installed: Vec<&str> = specs.iter().map(|spec| spec.schema.name).collect();
    let enabled = settings.plugins(&installed)?;
    let schemas = specs.iter().map(|spec| &spec.schema).collect();
    let owned: Vec<_> = specs.iter().flat_map(|spec| spec.entities.iter().copied()).collect();
    let expressions = settings.text("router_flavor") == Some("expressions");
    Ok((settings, keeper::catalogue(schemas, &owned, enabled, expressions)))
}

fn parse(
    settings: &Settings,
    catalogue: &Catalogue,
    file: &Path,
) -> Result<documents::Loaded, String> {
    let failed = |why: &str| format!("Failed parsing:\n{why}");
    let text = declarative::read(file)
        .map_err(|why| failed(&format!("{}: {}", file.display(), why.words())))?;
    let node = match settings.database() {
        Database::Off => Node::Off,
        _ => Node::Database,
    };
    let shown = file.to_string_lossy();
    declarative::parse_for(catalogue, &text, Some(&shown), node)
        .map_err(|refusal| failed(&refusal.to_text()))
}

/// The store of a gateway that does not run, with its rows.
fn open(settings: &Settings, catalogue: &Catalogue) -> Result<(Box<dyn Backend>, Tables), String> {
    let path = settings.prefix();
    if settings.database() == Database::Sqlite && prefix::running(path).is_some() {
        return Err(format!(
            "the gateway in {} runs and keeps its store to itself: stop it first, or use its Admin \
             API",
            path.display()
        ));
    }
    std::fs::create_dir_all(path).map_err(|why| format!("{}: {why}", path.display()))?;
    // To a gateway that runs on the same database we are another node: it must hear of our writes.
    let node_id = match settings.database() {
        Database::Postgres => uuid::Uuid::new_v4(),
        _ => process::node_id(path, settings.text("node_id"))?,
    };
    let mut backend = keeper::backend(settings, path, catalogue, node_id)?;
    let mut tables = Tables::new(catalogue);
    let mut twice = false;
    let mut each = |row| twice |= tables.put(&Arc::new(row)).is_err();
    backend.load(catalogue, &mut each).map_err(|fault| fault.to_string())?;
    if twice {
        return Err("the database contradicts itself".to_owned());
    }
    if !backend.reachable() {
        return Err("the database cannot be reached".to_owned());
    }
    Ok((backend, tables))
}

/// Puts rows beside those that there are; one with the same id is replaced.
fn import(
    settings: &Settings,
    catalogue: &Catalogue,
    loaded: &documents::Loaded,
) -> Result<(), String> {
    let (mut backend, mut tables) = open(settings, catalogue)?;
    backend.begin(Turn::Write, &tables).map_err(|fault| fault.to_string())?;
    let mut changes = Vec::with_capacity(loaded.items.len());
    for row in loaded.rows(catalogue) {
        let row = Arc::new(row);
        let put = tables.put(&row);
        let mut change = Change { entity: row.entity(), before: None, after: Some(row) };
        change.before = put.map_err(|taken| {
            let kind = match taken {
                Taken::Field(field) => ConflictKind::Unique(field),
                Taken::Key => ConflictKind::CacheKey,
            };
            let fault = Conflict { change: 0, kind }.fault(std::slice::from_ref(&change));
            format!("{}: {}", change.entity.name, fault.message)
        })?;
        changes.push(change);
    }
    backend.commit(&changes).map_err(|fault| match fault {
        CommitFault::Failed(fault) | CommitFault::Refused(fault) => fault.to_string(),
        CommitFault::Conflict(conflict) => conflict.fault(&changes).message,
    })
}

fn write(path: &Path, text: &str, exists: &str, mode: u32) -> Result<(), String> {
    let told = |why: std::io::Error| match why.kind() {
        ErrorKind::AlreadyExists => format!("{} {exists}", path.display()),
        _ => format!("{}: {why}", path.display()),
    };
    let mut file = OpenOptions::new();
    let mut file = file.write(true).create_new(true).mode(mode).open(path).map_err(told)?;
    file.write_all(text.as_bytes()).map_err(told)
}
