//! correlation-id: gives each request an id, for the upstream and, where that is asked for, the
//! client.
//!
//! Source: Kong `kong/plugins/correlation-id/{schema,handler}.lua`; recorded cases of the suites
//! `plugins-transform` and `plugins-precedence`.

use std::cell::Cell;

use runtime::clock;
use store::schema::{Field, PluginSchema, Preset, boolean, text};
use uuid::{Builder, Uuid};

use crate::pdk::{Config, Exchange, Fault, Phase, Plugin, Prepared, Spec, Step, lines};

/// The plugin.
pub static PLUGIN: Spec = Spec {
    schema: PluginSchema {
        name: "correlation-id",
        priority: 100_001,
        config: CONFIG,
        ..PluginSchema::EMPTY
    },
    phases: &[Phase::Access, Phase::HeaderFilter],
    entities: &[],
    endpoints: &[],
    prepare,
};

const CONFIG: &[Field] = &[
    text("header_name", "The HTTP header name to use for the correlation ID.")
        .or(Preset::Text("Kong-Request-ID")),
    text(
        "generator",
        "The generator to use for the correlation ID. Accepted values are `uuid`, `uuid#counter`, \
         and `tracker`. See [Generators](#generators).",
    )
    .required()
    .or(Preset::Text("uuid#counter"))
    .one_of(&["uuid", "uuid#counter", "tracker"]),
    boolean("echo_downstream", "Whether to echo the header back to downstream (the client).")
        .required()
        .or(Preset::Flag(false)),
];

/// How an id is made.
#[derive(Clone, Copy)]
enum Generator {
    /// A random UUID.
    Random,
    /// A UUID of the core, and a number that rises.
    Counter,
    /// Where the request arrived, and when.
    Tracker,
}

#[derive(Clone)]
struct CorrelationId {
    /// None where the configuration sets no name: then there is nothing to do.
    header_name: Option<String>,
    generator: Generator,
    echo_downstream: bool,
}

/// The id that the client is to be told.
struct Echoed(Vec<u8>);

fn prepare(config: &Config<'_>) -> Result<Prepared, Fault> {
    let prepared = CorrelationId {
        header_name: config.text("header_name").map(str::to_owned),
        generator: match config.text("generator") {
            Some("uuid") => Generator::Random,
            Some("tracker") => Generator::Tracker,
            _ => Generator::Counter,
        },
        echo_downstream: config.flag("echo_downstream"),
    };
    Ok(Prepared::new(move || Box::new(prepared.clone())))
}

impl Plugin for CorrelationId {
    fn access<'a>(&'a self, exchange: &'a mut Exchange) -> Step<'a> {
        let Some(name) = &self.header_name else { return Step::NEXT };
        let id = match sent(exchange, name) {
            Some(id) => id.to_vec(),
            None => {
                let id = self.generator.id(exchange).into_bytes();
                exchange.request.fields.set(name, &id);
                id
            }
        };
        let shown = String::from_utf8_lossy(&id).into_owned();
        exchange.log_values.push(("correlation_id", shown));
        if self.echo_downstream {
            exchange.notes.put(Echoed(id));
        }
        Step::NEXT
    }

    /// Also where the access phase was never reached: then the id is made here.
    fn header_filter(&self, exchange: &mut Exchange) {
        let Some(name) = self.header_name.as_deref().filter(|_| self.echo_downstream) else {
            return;
        };
        let noted = exchange.notes.take::<Echoed>().map(|Echoed(id)| id);
        let id = noted.or_else(|| sent(exchange, name).map(<[u8]>::to_vec));
        let id = id.unwrap_or_else(|| self.generator.id(exchange).into_bytes());
        exchange.response.fields.set(name, id);
    }
}

/// The id that the request came with, or was given.
fn sent<'a>(exchange: &'a Exchange, name: &str) -> Option<&'a [u8]> {
    let fields = &exchange.request.fields;
    fields.get(&*lines::spelled(fields, name)).filter(|id| !id.is_empty())
}

impl Generator {
    fn id(self, exchange: &Exchange) -> String {
        match self {
            Self::Random => random_uuid().to_string(),
            Self::Counter => counted(),
            Self::Tracker => tracker(exchange),
        }
    }
}

fn random_uuid() -> Uuid {
    let bits = (u128::from(clock::random()) << 64) | u128::from(clock::random());
    Builder::from_random_bytes(bits.to_be_bytes()).into_uuid()
}

thread_local! {
    /// The core's UUID and how many ids it has made: every row of the plugin counts in one series.
    static SERIES: Cell<(Uuid, u64)> = Cell::new((random_uuid(), 0));
}

fn counted() -> String {
    SERIES.with(|series| {
        let (uuid, count) = series.get();
        series.set((uuid, count + 1));
        format!("{uuid}#{}", count + 1)
    })
}

fn tracker(exchange: &Exchange) -> String {
    let (client, pid) = (&exchange.client, std::process::id());
    let now_ms = clock::wall_us() / 1_000;
    format!(
        "{}-{}-{pid}-{}-{}-{}.{:03}",
        client.local_ip,
        client.local_port,
        client.connection,
        client.requests,
        now_ms / 1_000,
        now_ms % 1_000,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pdk::script::{Script, answered};
    use serde_json::json;

    /// The id that the upstream gets, and the one that the client is told.
    fn ids(config: serde_json::Value, sent: &[(&str, &str)]) -> (Option<String>, Option<String>) {
        let script = Script::new(&PLUGIN, config);
        let plugin = script.plugin();
        let mut exchange = script.get("/", sent);
        assert!(answered(plugin.access(&mut exchange)).is_none());
        plugin.header_filter(&mut exchange);
        let text = |value: Option<&[u8]>| value.map(|v| String::from_utf8(v.to_vec()).unwrap());
        let upstream = text(exchange.request.fields.get("x-id"));
        assert_eq!(exchange.log_values.first().map(|(_, id)| id.clone()), upstream);
        (upstream, text(exchange.response.fields.get("x-id")))
    }

    #[track_caller]
    fn check(generator: &str, pattern: &str) {
        let config =
            json!({"generator": generator, "header_name": "X-Id", "echo_downstream": true});
        let (upstream, echoed) = ids(config.clone(), &[]);
        assert_eq!(upstream, echoed);
        let id = upstream.unwrap();
        assert!(regex::Regex::new(pattern).unwrap().is_match(&id), "{id}");
        let mine = Some("mine".to_owned());
        assert_eq!(ids(config.clone(), &[("x-id", "mine")]), (mine.clone(), mine));
        let (emptied, echoed) = ids(config, &[("x-id", "")]);
        assert_eq!(emptied, echoed);
        assert!(emptied.is_some_and(|id| !id.is_empty()));
    }

    #[test]
    fn ids_are_made_where_the_client_sent_none() {
        check("uuid", "^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$");
        check("uuid#counter", "^[0-9a-f-]{36}#[0-9]+$");
        check("tracker", r"^127\.0\.0\.1-8000-[0-9]+-[0-9]+-[0-9]+-[0-9]+\.[0-9]{3}$");
    }

    #[test]
    fn a_counter_counts() {
        let config = json!({"header_name": "x-id"});
        let (first, echoed) = ids(config.clone(), &[]);
        assert_eq!(echoed, None, "the client is not told unless that is asked for");
        let number = |id: &str| id.split_once('#').unwrap().1.parse::<u64>().unwrap();
        let second = ids(config, &[]).0.unwrap();
        assert_eq!(number(&second), number(&first.unwrap()) + 1);
    }

    #[test]
    fn an_answer_without_access_gets_one_too() {
        let script = Script::new(&PLUGIN, json!({"generator": "uuid", "echo_downstream": true}));
        let mut exchange = script.get("/", &[]);
        script.plugin().header_filter(&mut exchange);
        assert_eq!(exchange.response.fields.get("kong-request-id").map(<[u8]>::len), Some(36));
    }
}
