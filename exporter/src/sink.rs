//! Where batches go.

use serde_json::{Value, json};

/// The FNV-1a hash: the same on every machine and in every build, for names of files.
pub fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// A destination as the journal knows it: what is needed to deliver after a restart, before any
/// configuration is there.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Target {
    /// The sort of destination.
    pub kind: TargetKind,
    /// Moesif's application id.
    pub application_id: String,
    /// What stands in front of the path.
    pub api_endpoint: String,
}

/// Sorts of destinations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TargetKind {
    /// Moesif's events API.
    Moesif,
}

impl Target {
    /// A Moesif application.
    pub fn moesif(application_id: &str, api_endpoint: &str) -> Self {
        Self {
            kind: TargetKind::Moesif,
            application_id: application_id.to_owned(),
            api_endpoint: api_endpoint.to_owned(),
        }
    }

    /// As it stands in a segment's head.
    pub(crate) fn to_json(&self) -> Vec<u8> {
        let TargetKind::Moesif = self.kind;
        let target = json!({
            "kind": "moesif",
            "application_id": self.application_id,
            "api_endpoint": self.api_endpoint,
        });
        target.to_string().into_bytes()
    }

    /// From a segment's head; `None` for a kind that this version does not know.
    pub(crate) fn from_json(text: &[u8]) -> Option<Self> {
        let target: Value = serde_json::from_slice(text).ok()?;
        if target.get("kind")?.as_str()? != "moesif" {
            return None;
        }
        let text = |name: &str| target.get(name)?.as_str();
        Some(Self::moesif(text("application_id")?, text("api_endpoint")?))
    }

    /// A number for it, the same in every process: names files, and finds what is known of it.
    pub fn lane(&self) -> u64 {
        fnv(&self.to_json())
    }

    /// What logs and status may say: never the whole id, it is a key.
    pub fn label(&self) -> String {
        let id = &self.application_id;
        let tail = id.char_indices().nth_back(9).and_then(|(at, _)| id.get(at..)).unwrap_or("");
        format!("…{tail} at {}", self.api_endpoint)
    }
}

/// What became of one batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Acknowledged.
    Delivered,
    /// Not this time: network, 429, 5xx.
    Later {
        /// In words, for log and status.
        why: String,
        /// What the destination asked for.
        retry_after_ms: Option<u64>,
    },
    /// Something in this batch is not acceptable (400, 413).
    Refused {
        /// In words.
        why: String,
    },
    /// The application may not send now (401, 402, 403).
    Paused {
        /// In words.
        why: String,
    },
}

/// A destination that takes batches. Called on a sender thread; may block, within its own
/// time-outs.
pub trait Sink: Send + Sync {
    /// Delivers one batch: a JSON array of `events` events.
    fn deliver(&self, batch: Vec<u8>, events: usize) -> Outcome;
}
