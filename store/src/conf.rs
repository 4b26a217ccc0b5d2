//! Every setting: read from `kong.conf` and the environment, checked, typed.
//!
//! ```text
//! defaults (table.rs) < kong.conf (file.rs) < KONG_* < command line
//!                  -> references (reference.rs) -> types -> faults.rs -> Settings -> show.rs
//! ```
//! Only [`Settings::load`] reads a file; [`Settings::of`] is pure.
//!
//! Source: Kong `kong/conf_loader/init.lua` and `parse.lua`.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

pub mod file;
pub mod listen;
pub mod nginx;
pub mod table;

mod faults;
mod reference;
mod show;

pub use listen::{Listen, Subsystem};
pub use nginx::Edge;

use table::{Kind, NAMESPACES, Setting, Standing, TABLE};

/// Where a `kong.conf` is looked for when none is named.
pub const DEFAULT_PATHS: &[&str] = &["/etc/kong/kong.conf", "/etc/kong.conf"];

/// Most names in one notice; the rest is counted.
const NAMES_SHOWN_MAX: usize = 12;

/// Why settings cannot be used.
#[derive(Debug, PartialEq, Eq)]
pub enum ConfFault {
    /// The named file does not exist.
    NoFile(PathBuf),
    /// It exists but cannot be read.
    Unreadable(PathBuf, String),
    /// A line of it is no setting.
    Broken(PathBuf, file::BrokenLine),
    /// Settings with wrong values, one sentence each, never empty.
    Invalid(Vec<String>),
}

impl fmt::Display for ConfFault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoFile(path) => write!(out, "no file at: {}", path.display()),
            Self::Unreadable(path, why) => write!(out, "cannot read {}: {why}", path.display()),
            Self::Broken(path, line) => {
                write!(out, "{} line {}: {}", path.display(), line.number, line.why)
            }
            Self::Invalid(all) => out.write_str(&all.join("\n")),
        }
    }
}

impl std::error::Error for ConfFault {}

/// A value of its kind; what is unset has none.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Typed {
    Text(String),
    Number(f64),
    Flag(bool),
    List(Vec<String>),
}

/// Where entities live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Database {
    /// The embedded file under the prefix.
    Sqlite,
    /// A Postgres server.
    Postgres,
    /// Nowhere: a declarative file, kept in memory.
    Off,
}

/// All settings of one run. Checked: getters never meet a value of the wrong kind.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Every setting that has a value, dynamic ones included.
    values: BTreeMap<String, Typed>,
    /// The names that somebody gave a value.
    given: Vec<String>,
    /// Settings whose value came out of a vault, with the reference.
    references: BTreeMap<String, String>,
    /// The prefix that takes the place of an unwritable default.
    home_prefix: Option<PathBuf>,
    prefix: PathBuf,
}

impl Settings {
    /// Reads a `kong.conf` and the environment.
    ///
    /// Without `file` the first of [`DEFAULT_PATHS`] that exists is read, or none. Later pairs of
    /// `env` win over earlier ones: a command line adds its own as `KONG_*`. Beside the settings
    /// come notices: sentences for the log, one each for what is not built and what is unknown.
    ///
    /// # Errors
    /// A file that cannot be read or understood, or all values that are wrong.
    pub fn load(
        file: Option<&Path>,
        env: impl Iterator<Item = (String, String)>,
    ) -> Result<(Self, Vec<String>), ConfFault> {
        let found = match file {
            Some(path) if !path.exists() => return Err(ConfFault::NoFile(path.to_owned())),
            Some(path) => Some(path),
            None => DEFAULT_PATHS.iter().map(Path::new).find(|path| path.exists()),
        };
        let Some(path) = found else { return Self::of(None, env) };
        let text = std::fs::read_to_string(path)
            .map_err(|fault| ConfFault::Unreadable(path.to_owned(), fault.to_string()))?;
        Self::of(Some((path, &text)), env)
    }

    /// Reads settings from the text of a file (with its name, for messages) and an environment.
    ///
    /// # Errors
    /// As [`Settings::load`].
    pub fn of(
        file: Option<(&Path, &str)>,
        env: impl Iterator<Item = (String, String)>,
    ) -> Result<(Self, Vec<String>), ConfFault> {
        let env: BTreeMap<String, String> = env.collect();
        let mut sorted = Sorted::default();
        if let Some((path, text)) = file {
            let lines =
                file::parse(text).map_err(|line| ConfFault::Broken(path.to_owned(), line))?;
            for (name, value) in lines {
                sorted.put(name.clone(), value, name);
            }
        }
        for (variable, value) in &env {
            if let Some(name) = variable.strip_prefix("KONG_") {
                sorted.put(name.to_ascii_lowercase(), value.trim().to_owned(), variable.clone());
            }
        }
        let notices = sorted.notices();
        Self::typed_from(sorted.known, &env).map(|settings| (settings, notices))
    }

    fn typed_from(
        mut raw: BTreeMap<String, String>,
        env: &BTreeMap<String, String>,
    ) -> Result<Self, ConfFault> {
        raw.retain(|name, value| !value.is_empty() || name.ends_with("_listen"));
        for setting in TABLE.iter().filter(|setting| !setting.also.is_empty()) {
            let Some(value) = raw.get(setting.name).cloned() else { continue };
            for other in setting.also {
                raw.entry((*other).to_owned()).or_insert_with(|| value.clone());
            }
        }
        // An alias and the one setting that it stands for always say the same.
        for setting in TABLE {
            if let [other] = setting.also
                && let Some(value) = raw.get(*other).cloned()
            {
                raw.insert(setting.name.to_owned(), value);
            }
        }
        let given: Vec<String> = raw.keys().cloned().collect();
        for setting in TABLE.iter().filter(|setting| !setting.default.is_empty()) {
            raw.entry(setting.name.to_owned()).or_insert_with(|| setting.default.to_owned());
        }
        let mut faults = Vec::new();
        let references = dereference(&mut raw, env, &mut faults);
        let mut values = BTreeMap::new();
        for (name, text) in raw {
            match typed(&name, text) {
                Ok(value) => drop(values.insert(name, value)),
                Err(fault) => faults.push(fault),
            }
        }
        let home_prefix = home_prefix(env);
        let mut settings = Self { values, given, references, home_prefix, prefix: PathBuf::new() };
        settings.prefix = folder(settings.text("prefix").unwrap_or("/usr/local/kong"));
        if faults.is_empty() {
            faults = faults::all(&settings);
        }
        if faults.is_empty() { Ok(settings) } else { Err(ConfFault::Invalid(faults)) }
    }

    pub(crate) fn typed(&self, name: &str) -> Option<&Typed> {
        debug_assert!(
            table::find(name).is_some() || NAMESPACES.iter().any(|own| name.starts_with(own)),
            "no setting is called {name}"
        );
        self.values.get(name)
    }

    /// Settings of open namespaces (`nginx_http_…`) that are no rows of the table.
    pub(crate) fn dynamic(&self) -> impl Iterator<Item = (&str, &Typed)> {
        self.values
            .iter()
            .filter(|(name, _)| table::find(name).is_none())
            .map(|(name, value)| (name.as_str(), value))
    }

    /// Whether somebody gave the setting a value.
    #[must_use]
    pub fn is_set(&self, name: &str) -> bool {
        self.given.iter().any(|other| other == name)
    }

    /// A text; `None` when it is unset or of another kind.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        match self.typed(name)? {
            Typed::Text(text) => Some(text),
            _ => None,
        }
    }

    /// A number.
    #[must_use]
    pub fn number(&self, name: &str) -> Option<f64> {
        match self.typed(name)? {
            Typed::Number(number) => Some(*number),
            _ => None,
        }
    }

    /// A number without its fraction.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "saturates, as it should")]
    pub fn integer(&self, name: &str) -> Option<i64> {
        self.number(name).map(|number| number as i64)
    }

    /// A boolean; unset is false. A switch that nginx would read is true when it is `on`.
    #[must_use]
    pub fn flag(&self, name: &str) -> bool {
        match self.typed(name) {
            Some(Typed::Flag(flag)) => *flag,
            Some(Typed::Text(text)) => text == "on",
            _ => false,
        }
    }

    /// The items of a list; unset is empty.
    #[must_use]
    pub fn list(&self, name: &str) -> &[String] {
        match self.typed(name) {
            Some(Typed::List(items)) => items,
            _ => &[],
        }
    }

    /// The addresses of a `*_listen` setting; `off` is none.
    #[must_use]
    pub fn listen(&self, name: &str) -> Vec<Listen> {
        let subsystem = faults::LISTENERS.iter().find(|(other, _)| *other == name);
        let subsystem = subsystem.map_or(Subsystem::Http, |(_, subsystem)| *subsystem);
        listen::parse(name, self.list(name), subsystem).unwrap_or_default()
    }

    /// An nginx directive of the proxy: from `nginx_proxy_…`, else `nginx_http_…`.
    #[must_use]
    pub fn directive(&self, name: &str) -> Option<&str> {
        let own = self.text(&format!("nginx_proxy_{name}"));
        let value = own.or_else(|| self.text(&format!("nginx_http_{name}")));
        value.filter(|value| *value != "NONE")
    }

    /// The headers that the gateway adds to answers, in Kong's spelling; tokens are unfolded.
    ///
    /// `server_tokens` is `Server` and `Via`, `latency_tokens` the four latencies; `off` alone
    /// means none.
    #[must_use]
    pub fn headers(&self) -> Vec<&'static str> {
        let items = self.list("headers");
        let mut on: Vec<&'static str> = Vec::new();
        for name in faults::HEADERS {
            let named = items.iter().any(|item| item.eq_ignore_ascii_case(name));
            let group = match *name {
                "Server" | "Via" => "server_tokens",
                "X-Kong-Upstream-Status"
                | "X-Kong-Request-Id"
                | "server_tokens"
                | "latency_tokens" => "",
                _ => "latency_tokens",
            };
            if named || items.iter().any(|item| !group.is_empty() && item == group) {
                on.push(name);
            }
        }
        on
    }

    /// The pairs of `port_maps`: the port outside and the port here.
    #[must_use]
    pub fn port_maps(&self) -> Vec<(u16, u16)> {
        self.list("port_maps").iter().filter_map(|item| faults::port_map(item)).collect()
    }

    /// The plugins in force, sorted: `bundled` is every installed one but moesif, which is named by
    /// itself as in Kong; `off` is none.
    ///
    /// # Errors
    /// Kong's sentence for a name that is not installed.
    pub fn plugins(&self, installed: &[&str]) -> Result<Vec<String>, String> {
        let mut on = std::collections::BTreeSet::new();
        for item in self.list("plugins").iter().map(String::as_str) {
            match item {
                "off" => return Ok(Vec::new()),
                "bundled" => on.extend(installed.iter().copied().filter(|n| *n != "moesif")),
                name if installed.contains(&name) => {
                    on.insert(name);
                }
                name => return Err(format!("{name} plugin is enabled but not installed")),
            }
        }
        Ok(on.into_iter().map(str::to_owned).collect())
    }

    /// Where entities live: as `database` says; unset it is Postgres when any `pg_*` setting is
    /// given, else the embedded file.
    #[must_use]
    pub fn database(&self) -> Database {
        match self.text("database") {
            Some("sqlite") => Database::Sqlite,
            Some("off") => Database::Off,
            Some(_) => Database::Postgres,
            None if self.given.iter().any(|name| name.starts_with("pg_")) => Database::Postgres,
            None => Database::Sqlite,
        }
    }

    /// What must not be ignored but is not built: one sentence, or `None` when all is well.
    #[must_use]
    pub fn refusal(&self) -> Option<String> {
        let role = self.text("role").unwrap_or("traditional");
        (role != "traditional").then(|| {
            format!("role = {role} is not built yet: only role = traditional can be started")
        })
    }

    /// The working directory, without a slash at its end.
    #[must_use]
    pub fn prefix(&self) -> &Path {
        &self.prefix
    }

    /// Chooses the prefix: when nobody gave one and the default cannot be written, a folder in
    /// the user's home takes its place. Gives back the sentence that says so.
    ///
    /// `writable` tells whether a folder exists or can be made, and can be written to.
    pub fn settle_prefix(&mut self, writable: impl Fn(&Path) -> bool) -> Option<String> {
        if self.is_set("prefix") || writable(&self.prefix) {
            return None;
        }
        let home = self.home_prefix.clone()?;
        let notice = format!(
            "{} cannot be written: the prefix is {} (set prefix to choose another)",
            self.prefix.display(),
            home.display()
        );
        self.prefix = home;
        Some(notice)
    }
}

/// Settings as they are given, sorted by whether they are known.
#[derive(Default)]
struct Sorted {
    known: BTreeMap<String, String>,
    /// As the person wrote them: `KONG_X` or `x`.
    unknown: Vec<String>,
}

impl Sorted {
    fn put(&mut self, name: String, value: String, written: String) {
        let known = table::find(&name).is_some()
            || NAMESPACES.iter().any(|own| name.len() > own.len() && name.starts_with(own));
        if known {
            self.known.insert(name, value);
        } else {
            self.unknown.push(written);
        }
    }

    /// One sentence for settings that are not built, one for those that nobody knows.
    fn notices(&self) -> Vec<String> {
        let idle = |(name, value): &(&String, &String)| match table::find(name) {
            Some(Setting { standing: Standing::Later, default, .. }) => default != &value.as_str(),
            Some(_) => false,
            None => !nginx::is_built(name),
        };
        let idle: Vec<&str> =
            self.known.iter().filter(idle).map(|(name, _)| name.as_str()).collect();
        let unknown: Vec<&str> = self.unknown.iter().map(String::as_str).collect();
        let line = |words: &str, names: &[&str]| {
            (!names.is_empty()).then(|| format!("{words}: {}", some_of(names)))
        };
        let idle = line("known settings that are not built yet and have no effect", &idle);
        let unknown = line("unknown settings, ignored", &unknown);
        idle.into_iter().chain(unknown).collect()
    }
}

fn some_of(names: &[&str]) -> String {
    let shown: Vec<&str> = names.iter().take(NAMES_SHOWN_MAX).copied().collect();
    match names.len().saturating_sub(NAMES_SHOWN_MAX) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

impl Settings {
    /// The secret behind a reference, whole or short (`env/name`). `variable` looks up the
    /// environment.
    ///
    /// # Errors
    /// Kong's words for why it cannot be had.
    pub fn secret(
        &self,
        reference: &str,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<String, String> {
        let whole = match reference::is(reference) {
            true => reference.to_owned(),
            false => format!("{{vault://{reference}}}"),
        };
        let open = self.list("vaults").iter().any(|name| matches!(&**name, "bundled" | "env"));
        let prefix = self.text("vault_env_prefix").unwrap_or_default();
        reference::resolve(&whole, prefix, |name| variable(name).filter(|_| open))
    }
}

/// Puts secrets in the place of references; gives back which were where.
fn dereference(
    raw: &mut BTreeMap<String, String>,
    env: &BTreeMap<String, String>,
    faults: &mut Vec<String>,
) -> BTreeMap<String, String> {
    let prefix = raw.get("vault_env_prefix").cloned().unwrap_or_default();
    let vaults = raw.get("vaults").cloned().unwrap_or_default();
    let open = vaults.split(',').any(|name| matches!(name.trim(), "bundled" | "env"));
    let mut references = BTreeMap::new();
    for (name, value) in raw.iter_mut().filter(|(_, value)| reference::is(value)) {
        match reference::resolve(value, &prefix, |variable| {
            env.get(variable).filter(|_| open).cloned()
        }) {
            Ok(secret) => {
                references.insert(name.clone(), std::mem::replace(value, secret));
            }
            Err(why) => faults
                .push(format!("failed to dereference '{value}': {why} for config option '{name}'")),
        }
    }
    references
}

fn typed(name: &str, text: String) -> Result<Typed, String> {
    let kind = table::find(name).map_or(Kind::Text, |setting| setting.kind);
    Ok(match kind {
        Kind::Text => Typed::Text(text),
        Kind::Flag => Typed::Flag(text == "on" || text == "true"),
        Kind::Switch => {
            let word = if text == "on" || text == "true" { "on" } else { "off" };
            Typed::Text(word.to_owned())
        }
        Kind::List => {
            let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
            Typed::List(items.map(str::to_owned).collect())
        }
        Kind::Number => match text.parse::<f64>() {
            Ok(number) if number.is_finite() => Typed::Number(number),
            _ => return Err(format!("{name} is not a number: '{text}'")),
        },
        Kind::Choice(words) if !words.contains(&text.as_str()) => {
            return Err(format!("{name} has an invalid value: '{text}' ({})", words.join(", ")));
        }
        Kind::Choice(_) => Typed::Text(text),
    })
}

fn home_prefix(env: &BTreeMap<String, String>) -> Option<PathBuf> {
    let folder = |name: &str| env.get(name).filter(|value| value.starts_with('/')).map(Path::new);
    folder("XDG_STATE_HOME")
        .map(|state| state.join("tollgate"))
        .or_else(|| folder("HOME").map(|home| home.join(".tollgate")))
}

fn folder(text: &str) -> PathBuf {
    let bare = text.trim_end_matches('/');
    PathBuf::from(if bare.is_empty() { "/" } else { bare })
}

#[cfg(test)]
mod tests;
