//! A gateway without a database: where its configuration comes from at the start and on SIGHUP.
//!
//! ```text
//! declarative_config (a file) ─┐
//! declarative_config_string ───┴─► checked ─► rows ─► <prefix>/declarative.kept
//!                  the file is gone, or none was named ◄──┘
//! ```
//!
//! Source: Kong `kong/init.lua` (`parse_declarative_config`).

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use store::actor::Store;
use store::admin::{Call, Reply};
use store::backend::declarative::Declarative;
use store::check::Facts;
use store::conf::Settings;
use store::declarative::{self, Loaded, Node, Refusal};
use store::schema::Catalogue;

use crate::{engine, keeper, office};

/// The last good configuration, under the prefix.
const KEPT_FILE: &str = "declarative.kept";
/// Largest file that is read.
const FILE_BYTES_MAX: u64 = 256 << 20;

/// The rows of this node: what the settings name, or else the last good configuration.
///
/// # Errors
/// What the settings name is no configuration, or cannot be read; or it is gone and there is no
/// last good one.
pub fn backend(
    settings: &Settings,
    prefix: &Path,
    catalogue: &Catalogue,
) -> Result<Declarative, String> {
    let kept = prefix.join(KEPT_FILE);
    if let Some(path) = file(settings) {
        return match read(&path) {
            Ok(text) => {
                let shown = path.to_string_lossy();
                let loaded = parse(catalogue, &text, Some(&shown)).map_err(|refusal| {
                    let why = refusal.to_text();
                    format!("error parsing declarative config file {shown}:\n{why}")
                })?;
                Ok(Declarative::with(&kept, loaded.rows(catalogue), loaded.hash))
            }
            Err(Unreadable::Gone) if Declarative::is_kept(&kept) => {
                log::warn!(
                    "the file {} is gone: the last good configuration is used ({})",
                    path.display(),
                    kept.display()
                );
                Ok(Declarative::open(&kept))
            }
            Err(why) => Err(format!(
                "error parsing declarative config file {}:\n{}",
                path.display(),
                why.words()
            )),
        };
    }
    if let Some(text) = settings.text("declarative_config_string") {
        let loaded = parse(catalogue, text, None).map_err(|refusal| {
            format!("error parsing declarative config string:\n{}", refusal.to_text())
        })?;
        return Ok(Declarative::with(&kept, loaded.rows(catalogue), loaded.hash));
    }
    if Declarative::is_kept(&kept) {
        log::info!("the last good configuration is used ({})", kept.display());
    } else {
        log::warn!("there is no declarative configuration: nothing is served until one arrives");
    }
    Ok(Declarative::open(&kept))
}

/// Reads the file again and puts it in the place of what is configured. A file that is gone or
/// faulty changes nothing.
pub fn reload(settings: &Settings, store: &Arc<Store>) {
    let Some(path) = file(settings) else { return };
    let shown = path.display().to_string();
    let text = match read(&path) {
        Ok(text) => text,
        Err(why) => {
            log::error!("the old configuration stays: {shown}: {}", why.words());
            return;
        }
    };
    let call = Call::new("POST", "/config")
        .header("Content-Type", b"text/yaml")
        .with_body(text.into_bytes());
    let done = move |reply: Reply| match reply.status {
        201 => log::info!("the configuration {shown} is loaded again"),
        _ => {
            let why = String::from_utf8_lossy(&reply.body).into_owned();
            log::error!("the old configuration stays: {shown}: {why}");
        }
    };
    store.submit(call, Box::new(done));
}

/// Reads a document for this node.
///
/// # Errors
/// Everything that is wrong with it.
pub fn parse(catalogue: &Catalogue, text: &str, file: Option<&str>) -> Result<Loaded, Refusal> {
    parse_for(catalogue, text, file, Node::Off)
}

/// Reads a document; plugins are asked whether they can run with their rows.
///
/// # Errors
/// Everything that is wrong with it.
pub fn parse_for(
    catalogue: &Catalogue,
    text: &str,
    file: Option<&str>,
    node: Node,
) -> Result<Loaded, Refusal> {
    let (now_ms, mut random) = (keeper::now_ms(), keeper::random());
    let mut facts = Facts { now_s: now_ms.div_euclid(1_000), now_ms, random: &mut random };
    declarative::parse(catalogue, text, file, node, &mut facts)?
        .checked(catalogue, |change| office::check(engine::specs(), change))
}

/// Why a file cannot be read.
#[derive(Debug)]
pub enum Unreadable {
    /// There is none.
    Gone,
    /// One sentence.
    Because(String),
}

impl Unreadable {
    /// One sentence.
    #[must_use]
    pub fn words(&self) -> &str {
        match self {
            Self::Gone => "there is no such file",
            Self::Because(why) => why,
        }
    }
}

/// Reads a whole file of text, of at most 256 MiB.
///
/// # Errors
/// It is gone, too large, no text, or may not be read.
pub fn read(path: &Path) -> Result<String, Unreadable> {
    let because = |why: std::io::Error| match why.kind() {
        ErrorKind::NotFound => Unreadable::Gone,
        _ => Unreadable::Because(why.to_string()),
    };
    let known = fs::metadata(path).map_err(because)?;
    if known.len() > FILE_BYTES_MAX {
        let why = format!("the file is larger than {} MiB", FILE_BYTES_MAX >> 20);
        return Err(Unreadable::Because(why));
    }
    fs::read_to_string(path).map_err(because)
}

fn file(settings: &Settings) -> Option<PathBuf> {
    settings.text("declarative_config").map(PathBuf::from)
}
