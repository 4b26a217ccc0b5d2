//! redirect: sends clients to another place.
//!
//! Source: Kong `kong/plugins/redirect/{schema,handler}.lua` (added in 3.9), which joins a URL with
//! the library ada, an implementation of the URL standard (url.spec.whatwg.org); recorded cases.

use std::sync::Arc;

use store::check::uri;
use store::schema::{Field, PluginSchema, Preset, boolean, integer, typical};

use crate::pdk::{Answer, Config, Exchange, Fault, Phase, Plugin, Prepared, Spec, Step};

/// The plugin.
pub static PLUGIN: Spec = Spec {
    schema: PluginSchema { name: "redirect", priority: 779, config: CONFIG, ..PluginSchema::EMPTY },
    phases: &[Phase::Access],
    entities: &[],
    endpoints: &[],
    prepare,
};

const CONFIG: &[Field] = &[
    integer("status_code", "The response code to send. Must be an integer between 100 and 599.")
        .required()
        .or(Preset::Integer(301))
        .between(100, 599),
    typical::url("location").about("The URL to redirect to").required(),
    boolean(
        "keep_incoming_path",
        "Use the incoming request's path and query string in the redirect URL",
    )
    .or(Preset::Flag(false)),
];

fn prepare(config: &Config<'_>) -> Result<Prepared, Fault> {
    let location = config.text("location").unwrap_or("");
    let prepared = Redirect {
        status: config.integer("status_code").and_then(|n| n.try_into().ok()).unwrap_or(301),
        location: location.to_owned(),
        ends: config.flag("keep_incoming_path").then(|| Ends::of(location)),
        body: Arc::from(&b"redirecting"[..]),
    };
    Ok(Prepared::new(move || Box::new(prepared.clone())))
}

#[derive(Clone)]
struct Redirect {
    status: u16,
    location: String,
    /// What stands around the client's path and query, where those are kept.
    ends: Option<Ends>,
    body: Arc<[u8]>,
}

/// A URL without its path and query.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Ends {
    /// Scheme, user, host and port.
    origin: String,
    /// The fragment with its number sign, or nothing.
    fragment: String,
}

impl Ends {
    fn of(url: &str) -> Self {
        let (url, fragment) = match url.find('#') {
            Some(at) => url.split_at(at),
            None => (url, ""),
        };
        let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
        let scheme = scheme.to_ascii_lowercase();
        let authority = rest.split(['/', '?', '\\']).next().unwrap_or("");
        let (user, host) = match authority.rsplit_once('@') {
            Some((user, host)) => (format!("{user}@"), host),
            None => (String::new(), authority),
        };
        let usual = match scheme.as_str() {
            "http" => ":80",
            "https" => ":443",
            _ => "",
        };
        let host = host.to_ascii_lowercase();
        let host = Some(usual)
            .filter(|u| !u.is_empty())
            .and_then(|u| host.strip_suffix(u))
            .unwrap_or(&host);
        Self { origin: format!("{scheme}://{user}{host}"), fragment: fragment.to_owned() }
    }

    fn around(&self, path: &str, query: &[u8]) -> String {
        let mut url = self.origin.clone();
        escape(path.as_bytes(), b"\"#<>?`{}", &mut url);
        if !query.is_empty() {
            url.push('?');
            escape(query, b"\"#<>'", &mut url);
        }
        url.push_str(&self.fragment);
        url
    }
}

/// Appends bytes; those that are not printable ASCII, and the given ones, as `%XX`.
fn escape(bytes: &[u8], also: &[u8], out: &mut String) {
    for byte in bytes {
        if byte.is_ascii_graphic() && !also.contains(byte) {
            out.push(char::from(*byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
}

impl Plugin for Redirect {
    fn access<'a>(&'a self, exchange: &'a mut Exchange) -> Step<'a> {
        let location = match &self.ends {
            None => self.location.clone(),
            Some(ends) => {
                let raw = String::from_utf8_lossy(exchange.raw_path());
                ends.around(&uri::normalize(&raw), exchange.query().unwrap_or_default())
            }
        };
        let answer = Answer::exact(self.status, None, Arc::clone(&self.body));
        Step::answer(answer.with("Location", location))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pdk::Outcome;
    use crate::pdk::script::{Script, fault};
    use serde_json::json;

    #[track_caller]
    fn check(config: serde_json::Value, target: &str, status: u16, location: &str) {
        let script = Script::new(&PLUGIN, config);
        let plugin = script.plugin();
        let mut exchange = script.get(target, &[]);
        let Step::Done(Outcome::Answer(answer)) = plugin.access(&mut exchange) else {
            panic!("no answer")
        };
        let expected = Answer::exact(status, None, &b"redirecting"[..]);
        assert_eq!(*answer, expected.with("Location", location.to_owned()));
    }

    #[test]
    fn the_location_is_given_as_it_is() {
        let config = json!({"location": "https://new.test/base"});
        check(config, "/r/x?a=1", 301, "https://new.test/base");
        let config = json!({"location": "https://NEW.test:443", "status_code": 307});
        check(config, "/", 307, "https://NEW.test:443");
    }

    #[test]
    fn the_clients_path_and_query_can_be_kept() {
        for (location, target, expected) in [
            ("https://new.test:8443/base?z=1", "/r/x?a=1", "https://new.test:8443/r/x?a=1"),
            ("https://new.test:8443/base?z=1", "/r/%20y", "https://new.test:8443/r/%20y"),
            ("HTTPS://New.Test:443", "/", "https://new.test/"),
            ("http://new.test:80/", "/a?", "http://new.test/a"),
            ("http://new.test:443/", "/a", "http://new.test:443/a"),
            ("http://u:p@new.test/x#top", "/a/../b?c='d'", "http://u:p@new.test/b?c=%27d%27#top"),
            ("http://[::1]:80", "//a//b", "http://[::1]/a/b"),
        ] {
            let config =
                json!({"location": location, "status_code": 308, "keep_incoming_path": true});
            check(config, target, 308, expected);
        }
    }

    #[test]
    fn a_location_is_a_url() {
        assert!(fault(&PLUGIN, json!({})).is_some());
        let found = fault(&PLUGIN, json!({"location": "new.test"})).unwrap();
        assert!(found.contains("missing host in url"), "{found}");
    }
}
