//! What a session remembers: `[[[consumer, credential, groups], audience, subject]]` as JSON.

use serde_json::{Value as Json, json};

use super::cookie::Header;

/// Who was let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Memory {
    pub(super) consumer: String,
    pub(super) credential: String,
    pub(super) groups: Option<Vec<String>>,
    pub(super) subject: Option<String>,
}

/// A session that was opened or made.
#[derive(Clone, Debug)]
pub(super) struct Session {
    pub(super) header: Header,
    /// The sealed data, as it stands in the cookie or the row.
    pub(super) payload: String,
    pub(super) memory: Memory,
}

impl Memory {
    /// Reads what is meant for an audience.
    pub(super) fn read(json: &[u8], audience: &str) -> Option<Self> {
        let all: Json = serde_json::from_slice(json).ok()?;
        let is_meant = |entry: &&Json| entry.get(1).and_then(Json::as_str) == Some(audience);
        let entry = all.as_array()?.iter().find(is_meant)?;
        let who = entry.get(0)?;
        let text = |at: usize| Some(who.get(at)?.as_str()?.to_owned());
        let groups = who
            .get(2)
            .and_then(Json::as_array)
            .map(|groups| groups.iter().filter_map(Json::as_str).map(str::to_owned).collect());
        let subject = entry.get(2).and_then(Json::as_str).map(str::to_owned);
        Some(Self { consumer: text(0)?, credential: text(1)?, groups, subject })
    }

    /// As it is sealed.
    pub(super) fn to_json(&self, audience: &str) -> String {
        let mut who = vec![json!(self.consumer), json!(self.credential)];
        who.extend(self.groups.as_ref().map(|groups| json!(groups)));
        let mut entry = vec![Json::Array(who), json!(audience)];
        entry.extend(self.subject.as_ref().map(|subject| json!(subject)));
        json!([entry]).to_string()
    }

    /// Whether this credential of this consumer was let in.
    pub(super) fn is_of(&self, consumer: &str, credential: &str) -> bool {
        self.consumer == consumer && self.credential == credential
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_by_its_audience() {
        let mut data = Memory {
            consumer: "c".into(),
            credential: "k".into(),
            groups: Some(vec!["a".into(), "b".into()]),
            subject: Some("bob".into()),
        };
        let text = data.to_json("default");
        assert_eq!(text, r#"[[["c","k",["a","b"]],"default","bob"]]"#);
        assert_eq!(Memory::read(text.as_bytes(), "default"), Some(data.clone()));
        assert_eq!(Memory::read(text.as_bytes(), "other"), None);
        (data.groups, data.subject) = (None, None);
        assert_eq!(Memory::read(data.to_json("x").as_bytes(), "x"), Some(data));
        for odd in ["", "7", "[]", "[7]", r#"[[[],"x"]]"#, r#"[[["c"],"x"]]"#, r#"[[7,"x"]]"#] {
            assert_eq!(Memory::read(odd.as_bytes(), "x"), None, "{odd}");
        }
    }
}
