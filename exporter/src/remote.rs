//! What Moesif says about each application (`/v1/config`, `/v1/rules`): fetched when an application
//! is configured, every minute, and when a batch's answer names tags that are not known yet.
//!
//! ```text
//!   fetcher threads ── GET ──► Moesif        copy on disk (the last good one)
//!         │  compile (regexes, cohorts)  ───────────┘
//!         └─► board of all applications ──► each core's view (one atomic load a look)
//! ```
//! An answer that is an error, or no configuration, changes nothing: what was good stays in force,
//! over restarts, too.

use crate::moesif::remote::{Remote, merged};
use crate::moesif::settings::Settings;
use crate::sink::Target;
use crate::sinks::moesif::{Trust, agent};
use runtime::board::Board;
use runtime::clock;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;
use ureq::Agent;
use uuid::Uuid;

/// How often an application is asked about, in milliseconds.
const POLL_MS: u64 = 60_000;
/// How long after a failure the next try comes, in milliseconds.
const AGAIN_MS: u64 = 5_000;
/// How long a fetch waits for the one before, in milliseconds, whatever tags come.
const REST_MS: u64 = 1_000;
/// Most fetches at one time: one application's slow answers do not hold up another's.
const FETCHERS_MAX: usize = 4;
/// Largest configuration, in bytes: it names users one by one.
const CONFIG_BYTES_MAX: u64 = 64 << 20;
/// Largest list of rules, in bytes.
const RULES_BYTES_MAX: u64 = 8 << 20;
/// Stack of a fetcher.
const STACK_BYTES: usize = 1 << 20;
/// Tags that were fetched and are remembered: Moesif's machines may disagree for a while.
const TAGS_KEPT: usize = 4;

/// What Moesif says about all applications, for the cores.
#[derive(Debug, Default)]
pub struct Remotes {
    by_lane: HashMap<u64, Arc<Remote>>,
}

impl Remotes {
    /// About one application, by [`Target::lane`].
    pub fn get(&self, lane: u64) -> Option<&Remote> {
        self.by_lane.get(&lane).map(|remote| &**remote)
    }

    /// With what is said about one application; for tests.
    #[must_use]
    pub fn with(mut self, lane: u64, remote: Remote) -> Self {
        self.by_lane.insert(lane, Arc::new(remote));
        self
    }
}

/// The tags of a configuration and of its rules.
type Tags = (Option<String>, Option<String>);

/// What was fetched last and was good.
#[derive(Debug, Clone, PartialEq)]
struct Said {
    config: Value,
    rules: Value,
    config_tag: Option<String>,
    rules_tag: Option<String>,
}

impl Default for Said {
    fn default() -> Self {
        Self { config: json!({}), rules: json!([]), config_tag: None, rules_tag: None }
    }
}

/// One application.
struct Entry {
    target: Target,
    agent: Agent,
    due_ms: u64,
    begun_ms: u64,
    busy: bool,
    /// Why the last fetch failed, which was said then.
    last_error: Option<String>,
    /// When the last good answer came.
    fetched_ms: Option<u64>,
    /// What of the last answer is switched off, and why.
    faults: Vec<String>,
    has_rules: bool,
    said: Said,
    /// Tags of configuration and rules that were fetched, the newest last.
    seen: Vec<Tags>,
}

#[derive(Default)]
struct State {
    entries: HashMap<u64, Entry>,
    /// Which plugin rows are about which application.
    rows: HashMap<Uuid, u64>,
    threads: usize,
    stopped: bool,
}

/// The fetchers and what they know.
pub struct Fetching {
    state: Mutex<State>,
    wake: Condvar,
    board: Arc<Board<Remotes>>,
    folder: PathBuf,
    trust: Trust,
}

/// One fetch, without the lock.
struct Task {
    lane: u64,
    target: Target,
    agent: Agent,
    said: Said,
    has_rules: bool,
}

/// A configuration, and why its rules are still the old ones, if they could not be fetched.
struct Fetched {
    said: Said,
    fault: Option<String>,
}

impl Fetching {
    /// Knows nothing yet; keeps copies below `prefix`.
    pub(crate) fn new(prefix: &Path, trust: Trust) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::default(),
            wake: Condvar::new(),
            board: Arc::new(Board::new(Arc::new(Remotes::default()))),
            folder: prefix.join("moesif"),
            trust,
        })
    }

    /// Where the cores look.
    pub(crate) const fn board(&self) -> &Arc<Board<Remotes>> {
        &self.board
    }

    /// Asks about the application of a row from now on. The last good copy is in force when this
    /// returns; a fetch follows at once.
    pub(crate) fn add(self: &Arc<Self>, row: Uuid, settings: &Settings) {
        let target = settings.target();
        let lane = target.lane();
        let agent = agent(&self.trust, settings.connect_timeout_ms, 1, settings.keepalive_ms);
        let mut state = self.lock();
        let before = state.rows.insert(row, lane);
        let known = state.entries.contains_key(&lane);
        let now_ms = now_ms();
        if let Some(entry) = state.entries.get_mut(&lane) {
            entry.agent = agent;
            entry.due_ms = now_ms;
        } else {
            let kept = read(&self.path(lane));
            let has_rules = kept.is_some();
            let said = kept.unwrap_or_default();
            let faults = match has_rules {
                true => self.publish(lane, Some(&said), &target.label()),
                false => Vec::new(),
            };
            let entry = Entry {
                target,
                agent,
                due_ms: now_ms,
                begun_ms: 0,
                busy: false,
                last_error: None,
                fetched_ms: None,
                faults,
                has_rules,
                said,
                seen: Vec::new(),
            };
            state.entries.insert(lane, entry);
        }
        if let Some(before) = before.filter(|before| *before != lane) {
            self.leave(&mut state, before);
        }
        if !known && state.threads < FETCHERS_MAX && !state.stopped {
            self.spawn(&mut state);
        }
        drop(state);
        self.wake.notify_one();
    }

    /// A row is gone; an application without rows is not asked about any more.
    pub(crate) fn remove(&self, row: Uuid) {
        let mut state = self.lock();
        if let Some(lane) = state.rows.remove(&row) {
            self.leave(&mut state, lane);
        }
    }

    fn leave(&self, state: &mut State, lane: u64) {
        if !state.rows.values().any(|other| *other == lane) {
            state.entries.remove(&lane);
            self.publish(lane, None, "");
        }
    }

    /// Tags that an answer has named: if they are new, the application is asked about soon.
    pub(crate) fn saw(&self, lane: u64, config_tag: Option<&str>, rules_tag: Option<&str>) {
        let mut state = self.lock();
        let Some(entry) = state.entries.get_mut(&lane) else { return };
        let known_config = |(tag, _): &Tags| tag.as_deref() == config_tag;
        let known_rules = |(_, tag): &Tags| tag.as_deref() == rules_tag;
        if (config_tag.is_none() || entry.seen.iter().any(known_config))
            && (rules_tag.is_none() || entry.seen.iter().any(known_rules))
        {
            return;
        }
        let tags = (config_tag.map(str::to_owned), rules_tag.map(str::to_owned));
        entry.remember(tags);
        entry.due_ms = entry.due_ms.min((entry.begun_ms + REST_MS).max(now_ms()));
        drop(state);
        self.wake.notify_one();
    }

    /// What was last said about an application, for people.
    pub(crate) fn describe(&self, lane: u64) -> Option<Value> {
        let state = self.lock();
        let entry = state.entries.get(&lane)?;
        let count = |value: Option<&Value>| value.and_then(Value::as_array).map_or(0, Vec::len);
        Some(json!({
            "sample_rate": entry.said.config.get("sample_rate"),
            "sampling_groups": count(entry.said.config.get("regex_config")),
            "rules": count(Some(&entry.said.rules)),
            "switched_off": entry.faults,
            "config_tag": entry.said.config_tag,
            "rules_tag": entry.said.rules_tag,
            "fetched_age_ms": entry.fetched_ms.map(|at| now_ms().saturating_sub(at)),
            "last_error": entry.last_error,
        }))
    }

    /// Ends the fetchers; a fetch that is under way ends by itself and changes nothing.
    pub(crate) fn stop(&self) {
        let mut state = self.lock();
        state.stopped = true;
        state.entries.clear();
        drop(state);
        self.wake.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn spawn(self: &Arc<Self>, state: &mut State) {
        let own = Arc::clone(self);
        let thread = thread::Builder::new()
            .name("tollgate-rules".to_owned())
            .stack_size(STACK_BYTES)
            .spawn(move || own.run());
        match thread {
            Ok(_) => state.threads += 1,
            Err(fault) => log::error!("[moesif] no thread to fetch rules with: {fault}"),
        }
    }

    /// One fetcher's whole life.
    fn run(&self) {
        let mut state = self.lock();
        while !state.stopped {
            // What cores have sent back since the last change.
            self.board.drop_returned();
            let now_ms = now_ms();
            let due = state.entries.iter_mut().filter(|(_, entry)| !entry.busy);
            match due.min_by_key(|(_, entry)| entry.due_ms) {
                Some((lane, entry)) if entry.due_ms <= now_ms => {
                    let task = entry.begin(*lane, now_ms);
                    drop(state);
                    let fetched = task.fetch();
                    state = self.lock();
                    self.finish(&mut state, &task, fetched);
                }
                next => {
                    let wait_ms = next.map_or(POLL_MS, |(_, entry)| entry.due_ms - now_ms);
                    let wait = Duration::from_millis(wait_ms.max(1));
                    let woken = self.wake.wait_timeout(state, wait);
                    state = woken.unwrap_or_else(PoisonError::into_inner).0;
                }
            }
        }
    }

    fn finish(&self, state: &mut State, task: &Task, fetched: Result<Fetched, String>) {
        let Some(entry) = state.entries.get_mut(&task.lane) else { return };
        entry.busy = false;
        let (said, fault) = match fetched {
            Ok(Fetched { said, fault }) => (Some(said), fault),
            Err(fault) => (None, Some(fault)),
        };
        entry.tell(fault.as_deref());
        let Some(said) = said else { return };
        entry.fetched_ms = Some(now_ms());
        let changed = !entry.has_rules || said != entry.said;
        entry.remember((said.config_tag.clone(), said.rules_tag.clone()));
        entry.has_rules |= fault.is_none();
        entry.said = said.clone();
        if !changed {
            return;
        }
        let label = entry.target.label();
        log::debug!("[moesif] a new configuration of {label}");
        let faults = self.publish(task.lane, Some(&said), &label);
        if let Some(entry) = state.entries.get_mut(&task.lane) {
            entry.faults = faults;
        }
        if let Err(fault) = self.save(task.lane, &said) {
            log::warn!("[moesif] the configuration of {label} cannot be kept: {fault}");
        }
    }

    /// Compiles what was said and pins it to the board, beside what is said of the others. Gives
    /// what of it cannot be used. Only with the state locked: one at a time.
    fn publish(&self, lane: u64, said: Option<&Said>, label: &str) -> Vec<String> {
        let mut by_lane = self.board.newest().by_lane.clone();
        let mut faults = Vec::new();
        if let Some(said) = said {
            let remote;
            (remote, faults) = Remote::compile(&said.config, &said.rules);
            for fault in &faults {
                log::error!("[moesif] {label}: {fault}");
            }
            by_lane.insert(lane, Arc::new(remote));
        } else {
            by_lane.remove(&lane);
        }
        self.board.publish(Arc::new(Remotes { by_lane }));
        faults
    }

    fn path(&self, lane: u64) -> PathBuf {
        self.folder.join(format!("{lane:016x}.json"))
    }

    fn save(&self, lane: u64, said: &Said) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.folder)?;
        let path = self.path(lane);
        let beside = path.with_extension("new");
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
        let kept = json!({
            "config": said.config,
            "rules": said.rules,
            "config_tag": said.config_tag,
            "rules_tag": said.rules_tag,
        });
        file.write_all(kept.to_string().as_bytes())?;
        fs::rename(&beside, &path)
    }
}

/// The last good copy, if there is one that can be read.
fn read(path: &Path) -> Option<Said> {
    let kept: Value = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
    let tag = |name: &str| kept.get(name).and_then(Value::as_str).map(str::to_owned);
    Some(Said {
        config: kept.get("config").filter(|config| config.is_object())?.clone(),
        rules: kept.get("rules").filter(|rules| rules.is_array())?.clone(),
        config_tag: tag("config_tag"),
        rules_tag: tag("rules_tag"),
    })
}

impl Entry {
    fn begin(&mut self, lane: u64, now_ms: u64) -> Task {
        self.busy = true;
        self.begun_ms = now_ms;
        self.due_ms = now_ms + POLL_MS;
        Task {
            lane,
            target: self.target.clone(),
            agent: self.agent.clone(),
            said: self.said.clone(),
            has_rules: self.has_rules,
        }
    }

    /// Says that fetching fails, once, and that it works again.
    fn tell(&mut self, fault: Option<&str>) {
        let label = self.target.label();
        let before = std::mem::replace(&mut self.last_error, fault.map(str::to_owned));
        match (fault, before.is_some()) {
            (Some(why), false) => log::warn!(
                "[moesif] the configuration of {label} cannot be fetched, the last one stays in \
                 force: {why}"
            ),
            (Some(why), true) => {
                log::debug!("[moesif] the configuration of {label} is still away: {why}");
            }
            (None, true) => log::info!("[moesif] the configuration of {label} is back"),
            (None, false) => {}
        }
        if fault.is_some() {
            self.due_ms = self.due_ms.min(now_ms() + AGAIN_MS);
        }
    }

    fn remember(&mut self, tags: Tags) {
        self.seen.retain(|seen| *seen != tags);
        self.seen.push(tags);
        if self.seen.len() > TAGS_KEPT {
            self.seen.remove(0);
        }
    }
}

impl Task {
    /// Fetches the configuration, and the rules if they may be others than the known ones.
    fn fetch(&self) -> Result<Fetched, String> {
        let (config, (config_tag, wanted)) = self.get("config", CONFIG_BYTES_MAX)?;
        let config = merged(&self.said.config, &config)
            .ok_or("the answer of /v1/config is no configuration")?;
        let mut said = Said { config, config_tag, ..self.said.clone() };
        if self.has_rules && wanted.is_some() && wanted == said.rules_tag {
            return Ok(Fetched { said, fault: None });
        }
        let fault = match self.get("rules", RULES_BYTES_MAX) {
            Ok((rules, (_, rules_tag))) if rules.is_array() => {
                (said.rules, said.rules_tag) = (rules, wanted.or(rules_tag));
                None
            }
            Ok(_) => Some("the answer of /v1/rules is no list".to_owned()),
            Err(fault) => Some(fault),
        };
        Ok(Fetched { said, fault })
    }

    /// One answer with its tags, of configuration and rules.
    fn get(&self, what: &str, bytes_max: u64) -> Result<(Value, Tags), String> {
        let url = format!("{}/v1/{what}", self.target.api_endpoint);
        let request = self.agent.get(&url);
        let request = request.header("X-Moesif-Application-Id", &self.target.application_id);
        let mut answer = request.call().map_err(|fault| format!("/v1/{what}: {fault}"))?;
        let status = answer.status();
        let body = answer.body_mut().with_config().limit(bytes_max).read_to_vec();
        if !status.is_success() {
            return Err(format!("/v1/{what} answers {}", status.as_u16()));
        }
        let tag = |name: &str| {
            let value = answer.headers().get(name).and_then(|value| value.to_str().ok());
            value.map(str::to_owned)
        };
        let tags = (tag("x-moesif-config-etag"), tag("x-moesif-rules-tag"));
        let body = body.map_err(|fault| format!("/v1/{what}: {fault}"))?;
        let value = serde_json::from_slice(&body);
        Ok((value.map_err(|_| format!("the answer of /v1/{what} is no JSON"))?, tags))
    }
}

fn now_ms() -> u64 {
    clock::now_us() / 1_000
}
