//! cors: tells browsers which pages of other origins may use an API.
//!
//! A preflight is answered here and never reaches the upstream, unless `preflight_continue`.
//!
//! Source: Kong `kong/plugins/cors/{schema,handler}.lua`; recorded cases of the suites
//! `plugins-traffic` and `plugins-precedence`.

use std::borrow::Cow;

use store::schema::{Field, PluginSchema, Preset, array, boolean, number, text};
use store::value::Value;

use crate::pdk::{
    Answer, AnswerBody, Config, Exchange, Fault, Pattern, Phase, Plugin, Prepared, Search, Spec,
    Step, lua,
};

/// The plugin.
pub static PLUGIN: Spec = Spec {
    schema: PluginSchema {
        name: "cors",
        priority: 2000,
        no_consumer: true,
        config: CONFIG,
        ..PluginSchema::EMPTY
    },
    phases: &[Phase::Access, Phase::HeaderFilter],
    entities: &[],
    endpoints: &[],
    prepare,
};

const METHODS: &[&str] =
    &["GET", "HEAD", "PUT", "PATCH", "POST", "DELETE", "OPTIONS", "TRACE", "CONNECT"];

const CONFIG: &[Field] = &[
    array(
        "origins",
        "List of allowed domains for the `Access-Control-Allow-Origin` header. If you want to \
         allow all origins, add `*` as a single value to this configuration field. The accepted \
         values can either be flat strings or PCRE regexes.",
        &text("", "").custom(is_origin),
    ),
    array("headers", "Value for the `Access-Control-Allow-Headers` header.", &text("", "")),
    array(
        "exposed_headers",
        "Value for the `Access-Control-Expose-Headers` header. If not specified, no custom \
         headers are exposed.",
        &text("", ""),
    ),
    array(
        "methods",
        "'Value for the `Access-Control-Allow-Methods` header. Available options include `GET`, \
         `HEAD`, `PUT`, `PATCH`, `POST`, `DELETE`, `OPTIONS`, `TRACE`, `CONNECT`. By default, all \
         options are allowed.'",
        &text("", "").one_of(METHODS),
    )
    .or(Preset::List(&[
        Preset::Text("GET"),
        Preset::Text("HEAD"),
        Preset::Text("PUT"),
        Preset::Text("PATCH"),
        Preset::Text("POST"),
        Preset::Text("DELETE"),
        Preset::Text("OPTIONS"),
        Preset::Text("TRACE"),
        Preset::Text("CONNECT"),
    ])),
    number(
        "max_age",
        "Indicates how long the results of the preflight request can be cached, in `seconds`.",
    ),
    boolean(
        "credentials",
        "Flag to determine whether the `Access-Control-Allow-Credentials` header should be sent \
         with `true` as the value.",
    )
    .required()
    .or(Preset::Flag(false)),
    boolean(
        "private_network",
        "Flag to determine whether the `Access-Control-Allow-Private-Network` header should be \
         sent with `true` as the value.",
    )
    .required()
    .or(Preset::Flag(false)),
    boolean(
        "preflight_continue",
        "A boolean value that instructs the plugin to proxy the `OPTIONS` preflight request to \
         the Upstream service.",
    )
    .required()
    .or(Preset::Flag(false)),
];

/// A star, or what compiles.
fn is_origin(value: &Value) -> Result<(), String> {
    let origin = value.as_text().unwrap_or_default();
    if origin == "*" || Pattern::new(origin).is_ok() {
        return Ok(());
    }
    Err(format!("'{origin}' is not a valid regex"))
}

/// What the configuration says about origins.
#[derive(Clone)]
enum Origins {
    /// All of them.
    Any,
    /// This one, whoever asks.
    Only(String),
    /// Those that match one of these.
    Listed(Vec<Listed>),
}

/// One entry of a list of origins.
#[derive(Clone)]
enum Listed {
    /// A star among others.
    Star,
    /// `scheme://host[:port]`, without a port that goes without saying.
    Plain(String),
    /// A pattern, for the host alone where it has no colon.
    Regex { pattern: Pattern, by_host: bool },
}

#[derive(Clone)]
struct Cors {
    origins: Origins,
    headers: Option<String>,
    exposed_headers: Option<String>,
    methods: String,
    max_age: Option<String>,
    credentials: bool,
    private_network: bool,
    preflight_continue: bool,
}

/// One core's instance: the configuration, and what it searches origins with.
struct Instance {
    cors: Cors,
    /// In the order of the regular expressions in `Origins::Listed`.
    searches: Vec<Search>,
}

/// Noted when a preflight was answered or passed on: its response gets no more lines.
struct Preflight;

fn prepare(config: &Config<'_>) -> Result<Prepared, Fault> {
    let joined = |field| Some(config.texts(field)).filter(|list| !list.is_empty());
    let prepared = Cors {
        origins: Origins::new(&config.texts("origins"))?,
        headers: joined("headers").map(|list| list.join(",")),
        exposed_headers: joined("exposed_headers").map(|list| list.join(",")),
        methods: match config.get("methods") {
            Value::Null => METHODS.join(","),
            _ => config.texts("methods").join(","),
        },
        max_age: config.number("max_age").map(lua::number),
        credentials: config.flag("credentials"),
        private_network: config.flag("private_network"),
        preflight_continue: config.flag("preflight_continue"),
    };
    Ok(Prepared::new(move || {
        let searches = match &prepared.origins {
            Origins::Listed(list) => list.iter().filter_map(Listed::search).collect(),
            Origins::Any | Origins::Only(_) => Vec::new(),
        };
        Box::new(Instance { cors: prepared.clone(), searches })
    }))
}

impl Origins {
    fn new(texts: &[String]) -> Result<Self, Fault> {
        match texts {
            [] => Ok(Self::Any),
            [star] if star == "*" => Ok(Self::Any),
            [only] if is_plain(only) => Ok(Self::Only(only.clone())),
            many => {
                Ok(Self::Listed(many.iter().map(|t| Listed::new(t)).collect::<Result<_, _>>()?))
            }
        }
    }
}

impl Listed {
    fn new(text: &str) -> Result<Self, Fault> {
        if text == "*" {
            return Ok(Self::Star);
        }
        if is_plain(text) {
            return Ok(Self::Plain(Origin::of(text).domain.into_owned()));
        }
        // The whole origin must match, each alternative of the pattern too.
        let pattern = Pattern::new(&format!("^(?:{text})$"));
        let fault = |message| Fault { field: "origins", message };
        Ok(Self::Regex { pattern: pattern.map_err(fault)?, by_host: !text.contains(':') })
    }

    fn search(&self) -> Option<Search> {
        match self {
            Self::Regex { pattern, .. } => Some(pattern.search()),
            Self::Star | Self::Plain(_) => None,
        }
    }
}

/// Whether an entry has no character that would make it a pattern.
fn is_plain(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b".:/-".contains(&b))
}

/// An origin taken apart.
#[derive(Debug, PartialEq, Eq)]
struct Origin<'a> {
    /// `scheme://host[:port]`, without a port that goes without saying.
    domain: Cow<'a, str>,
    host: &'a str,
}

impl<'a> Origin<'a> {
    /// What has no host, such as `null`, is its own host.
    fn of(text: &'a str) -> Self {
        let itself = Self { domain: Cow::Borrowed(text), host: text };
        let Some(at) = text.find("//") else { return itself };
        let (scheme, rest) = (text.get(..at).unwrap_or(""), text.get(at + 2..).unwrap_or(""));
        let scheme = match (scheme, scheme.strip_suffix(':')) {
            ("", _) => "",
            (_, Some(name)) if is_scheme(name) => name,
            _ => return itself,
        };
        let authority = rest.split(['/', '?', '#']).next().unwrap_or("");
        let authority = authority.split_once('@').map_or(authority, |(_, after)| after);
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => (host, Some(port)),
            _ => (authority, None),
        };
        let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
        if bare.is_empty() {
            return itself;
        }
        let usual = matches!((scheme, port), ("http", Some("80")) | ("https", Some("443")));
        let port = port.filter(|port| !usual && !port.is_empty());
        let colon = if scheme.is_empty() { "" } else { "://" };
        let domain = match port {
            Some(port) => format!("{scheme}{colon}{host}:{port}"),
            None => format!("{scheme}{colon}{host}"),
        };
        Self { domain: Cow::Owned(domain), host: bare }
    }
}

fn is_scheme(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b))
}

/// What a response is told about origins.
#[derive(Debug, Default, PartialEq, Eq)]
struct Told {
    /// Access-Control-Allow-Origin; none removes the upstream's.
    allow: Option<String>,
    /// Whether the answer depends on the origin.
    vary: bool,
    /// Access-Control-Allow-Credentials.
    credentials: bool,
}

impl Instance {
    fn told(&self, origin: Option<&[u8]>) -> Told {
        let origin = origin.and_then(|origin| std::str::from_utf8(origin).ok());
        let (allow, all) = match &self.cors.origins {
            Origins::Any => (Some("*".to_owned()), true),
            Origins::Only(origin) => (Some(origin.clone()), false),
            Origins::Listed(list) => self.listed(list, origin),
        };
        let vary = !matches!(self.cors.origins, Origins::Any);
        match (self.cors.credentials, all, origin) {
            // A browser takes no star together with credentials: the origin is named.
            (true, true, Some(origin)) => {
                Told { allow: Some(origin.to_owned()), vary: true, credentials: true }
            }
            (credentials, all, _) => Told { allow, vary, credentials: credentials && !all },
        }
    }

    fn listed(&self, list: &[Listed], origin: Option<&str>) -> (Option<String>, bool) {
        let Some(origin) = origin else { return (None, false) };
        if list.iter().any(|entry| matches!(entry, Listed::Star)) {
            return (Some("*".to_owned()), true);
        }
        let origin = Origin::of(origin);
        let mut searches = self.searches.iter();
        let found = list.iter().any(|entry| match entry {
            Listed::Star => true,
            Listed::Plain(domain) => *domain == origin.domain,
            Listed::Regex { by_host, .. } => {
                let subject = if *by_host { origin.host } else { &origin.domain };
                searches.next().is_some_and(|search| search.is_match(subject.as_bytes()))
            }
        });
        (found.then(|| origin.domain.into_owned()), false)
    }

    fn preflight(&self, exchange: &Exchange) -> Answer {
        let fields = &exchange.request.fields;
        let told = self.told(fields.get("origin"));
        let mut answer = Answer { status: 200, body: AnswerBody::Empty, headers: Vec::new() };
        if told.vary {
            answer = answer.with("vary", "Origin");
        }
        if let Some(origin) = told.allow {
            answer = answer.with("Access-Control-Allow-Origin", origin);
        }
        if told.credentials {
            answer = answer.with("Access-Control-Allow-Credentials", "true");
        }
        let asked = || fields.get("access-control-request-headers").map(String::from_utf8_lossy);
        if let Some(headers) = self.cors.headers.clone().map(Cow::Owned).or_else(asked) {
            answer = answer.with("Access-Control-Allow-Headers", headers.into_owned());
        }
        answer = answer.with("Access-Control-Allow-Methods", self.cors.methods.clone());
        if let Some(max_age) = &self.cors.max_age {
            answer = answer.with("Access-Control-Max-Age", max_age.clone());
        }
        let private = fields.get("access-control-request-private-network");
        if self.cors.private_network && private == Some(b"true") {
            answer = answer.with("Access-Control-Allow-Private-Network", "true");
        }
        answer
    }
}

impl Plugin for Instance {
    fn access<'a>(&'a self, exchange: &'a mut Exchange) -> Step<'a> {
        let fields = &exchange.request.fields;
        if exchange.request.method() != "OPTIONS"
            || !fields.contains("origin")
            || !fields.contains("access-control-request-method")
        {
            return Step::NEXT;
        }
        exchange.notes.put(Preflight);
        if self.cors.preflight_continue {
            return Step::NEXT;
        }
        Step::answer(self.preflight(exchange))
    }

    fn header_filter(&self, exchange: &mut Exchange) {
        if exchange.notes.has::<Preflight>() {
            return;
        }
        let told = self.told(exchange.request.fields.get("origin"));
        let fields = &mut exchange.response.fields;
        if told.vary {
            fields.add("vary", "Origin");
        }
        match told.allow {
            Some(origin) => {
                fields.set("Access-Control-Allow-Origin", origin);
            }
            None => {
                fields.remove("Access-Control-Allow-Origin");
            }
        }
        if told.credentials {
            fields.set("Access-Control-Allow-Credentials", "true");
        }
        if let Some(exposed) = &self.cors.exposed_headers {
            fields.set("Access-Control-Expose-Headers", exposed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pdk::script::{Script, answered, fault, lines};
    use crate::pdk::{Outcome, Step};
    use serde_json::json;

    const PREFLIGHT: &[(&str, &str)] = &[
        ("Origin", "http://a.example"),
        ("Access-Control-Request-Method", "PUT"),
        ("Access-Control-Request-Headers", "x-a, x-b"),
    ];

    /// What a GET with this origin is told.
    #[track_caller]
    fn check(config: serde_json::Value, origin: Option<&str>, expected: &[&str]) {
        let script = Script::new(&PLUGIN, config);
        let plugin = script.plugin();
        let sent: Vec<_> = origin.map(|origin| ("Origin", origin)).into_iter().collect();
        let mut exchange = script.get("/", &sent);
        assert!(answered(plugin.access(&mut exchange)).is_none());
        exchange.response.fields.add("Access-Control-Allow-Origin", "http://up");
        plugin.header_filter(&mut exchange);
        assert_eq!(lines(&exchange.response.fields), expected);
    }

    #[test]
    fn by_default_every_origin_is_allowed() {
        check(json!({}), None, &["Access-Control-Allow-Origin: *"]);
        check(json!({"origins": ["*"]}), Some("http://c"), &["Access-Control-Allow-Origin: *"]);
        let credentials = json!({"credentials": true});
        check(credentials.clone(), None, &["Access-Control-Allow-Origin: *"]);
        let named = [
            "Access-Control-Allow-Origin: http://c",
            "vary: Origin",
            "Access-Control-Allow-Credentials: true",
        ];
        check(credentials, Some("http://c"), &named);
    }

    #[test]
    fn one_origin_is_always_named() {
        let named = ["Access-Control-Allow-Origin: http://a.example", "vary: Origin"];
        check(json!({"origins": ["http://a.example"]}), Some("http://evil"), &named);
        check(json!({"origins": ["http://a.example"]}), None, &named);
    }

    #[test]
    fn of_many_the_one_that_matches_is_named() {
        let found = |origins: &[&str], origin: &str| {
            let script = Script::new(&PLUGIN, json!({ "origins": origins }));
            let plugin = script.plugin();
            let mut exchange = script.get("/", &[("Origin", origin)]);
            plugin.header_filter(&mut exchange);
            let fields = &exchange.response.fields;
            fields
                .get("Access-Control-Allow-Origin")
                .map(|v| String::from_utf8(v.to_vec()).unwrap())
        };
        for (origins, origin, expected) in [
            (
                &["http://a.test:8080", "b.test"][..],
                "http://a.test:8080",
                Some("http://a.test:8080"),
            ),
            (&["http://a.test:8080", "b.test"], "http://a.test", None),
            (&["http://a.test:80", "x"], "http://a.test", Some("http://a.test")),
            (&["http://a.test", "x"], "http://a.test:80", Some("http://a.test")),
            (&["https://a.test", "x"], "https://a.test:443", Some("https://a.test")),
            (&["https://a.test", "x"], "https://a.test:80", None),
            (
                &["https://.*\\.example\\.com$"],
                "https://x.example.com",
                Some("https://x.example.com"),
            ),
            (&["https://.*\\.example\\.com$"], "https://x.example.com.evil", None),
            (&[".*\\.example\\.com"], "https://x.example.com:99", Some("https://x.example.com:99")),
            (&[".*\\.example\\.com"], "https://example.com", None),
            (&["^(a|b)\\.test"], "http://a.test", Some("http://a.test")),
            (&["(a|b)\\.test"], "http://xa.test", None),
            (&["http://a", "*"], "http://z", Some("*")),
            (&["http://a", "http://b"], "null", None),
        ] {
            assert_eq!(found(origins, origin).as_deref(), expected, "{origins:?} {origin}");
        }
    }

    #[test]
    fn a_preflight_is_answered() {
        let config = json!({
            "origins": ["http://a.example", "https://b.example"], "methods": ["GET", "PUT"],
            "headers": ["x-a"], "exposed_headers": ["x-e"], "max_age": 60, "credentials": true,
        });
        let script = Script::new(&PLUGIN, config);
        let plugin = script.plugin();
        let mut exchange = script.get("/", PREFLIGHT);
        exchange.request.set_method("OPTIONS");
        let Step::Done(Outcome::Answer(answer)) = plugin.access(&mut exchange) else {
            panic!("no answer")
        };
        assert_eq!((answer.status, &answer.body), (200, &AnswerBody::Empty));
        let lines: Vec<_> = answer.headers.iter().map(|(n, v)| format!("{n}: {v}")).collect();
        let expected = [
            "vary: Origin",
            "Access-Control-Allow-Origin: http://a.example",
            "Access-Control-Allow-Credentials: true",
            "Access-Control-Allow-Headers: x-a",
            "Access-Control-Allow-Methods: GET,PUT",
            "Access-Control-Max-Age: 60",
        ];
        assert_eq!(lines, expected);
        plugin.header_filter(&mut exchange);
        assert!(exchange.response.fields.is_empty(), "it gets no more lines");
    }

    #[test]
    fn a_preflight_can_be_left_to_the_upstream() {
        let script = Script::new(&PLUGIN, json!({"preflight_continue": true}));
        let plugin = script.plugin();
        let mut exchange = script.get("/", PREFLIGHT);
        exchange.request.set_method("OPTIONS");
        assert!(answered(plugin.access(&mut exchange)).is_none());
        plugin.header_filter(&mut exchange);
        assert!(exchange.response.fields.is_empty());
    }

    #[test]
    fn an_origin_that_is_no_pattern_is_a_fault() {
        let found = fault(&PLUGIN, json!({"origins": ["http://(a"]})).unwrap();
        assert!(found.contains("'http://(a' is not a valid regex"), "{found}");
    }

    #[test]
    fn origins_are_taken_apart() {
        for (text, domain, host) in [
            ("null", "null", "null"),
            ("", "", ""),
            ("http://", "http://", "http://"),
            ("http://h:80/p?q", "http://h", "h"),
            ("http://u@h:81", "http://h:81", "h"),
            ("//h", "h", "h"),
            ("http://h:", "http://h", "h"),
            ("http://[::1]", "http://[::1]", "::1"),
        ] {
            assert_eq!(Origin::of(text), Origin { domain: domain.into(), host }, "{text}");
        }
    }
}
