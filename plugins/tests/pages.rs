//! Keeps `plugins/README.md` equal to the schemas: a page for each plugin, with its parameters, their
//! defaults, and an example that its own schema accepts. This test writes the file and asks for a
//! second run.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on says why")]

#[path = "pages/words.rs"]
mod words;

use std::fmt::Write;
use std::fs;
use std::path::Path;

use plugins::bundled::ALL;
use plugins::pdk::script::fault;
use plugins::pdk::{Phase, Spec};
use serde_json::{Map, Value, json};
use store::schema::{Choices, Field, Kind, Limit};

/// Configurations of plugins whose rules ask for more than their required fields.
const EXAMPLES: &[(&str, &str)] = &[
    ("acl", r#"{"allow": ["admins"]}"#),
    ("acme", r#"{"account_email": "ops@example.com", "storage": "kong"}"#),
    ("ai-prompt-guard", r#"{"deny_patterns": [".*secret.*"]}"#),
    (
        "ai-prompt-decorator",
        r#"{"prompts": {"append": [{"role": "user", "content": "Be brief."}]}}"#,
    ),
    (
        "ai-proxy",
        r#"{"route_type": "llm/v1/chat", "auth": {"header_name": "Authorization", "header_value": "Bearer key"}, "model": {"provider": "openai", "name": "gpt-4o"}}"#,
    ),
    (
        "ai-request-transformer",
        r#"{"prompt": "Translate to English.", "llm": {"route_type": "llm/v1/chat", "auth": {"header_name": "Authorization", "header_value": "Bearer key"}, "model": {"provider": "openai", "name": "gpt-4o"}}}"#,
    ),
    (
        "ai-response-transformer",
        r#"{"prompt": "Translate to English.", "llm": {"route_type": "llm/v1/chat", "auth": {"header_name": "Authorization", "header_value": "Bearer key"}, "model": {"provider": "openai", "name": "gpt-4o"}}}"#,
    ),
    (
        "ai-prompt-template",
        r#"{"templates": [{"name": "tell", "template": "{\"prompt\": \"Tell about {{subject}}.\"}"}]}"#,
    ),
    ("aws-lambda", r#"{"function_name": "hello", "aws_region": "eu-west-1"}"#),
    ("bot-detection", r#"{"deny": ["curl/.*"]}"#),
    ("file-log", r#"{"path": "/var/log/tollgate/requests.log", "reopen": true}"#),
    (
        "http-log",
        r#"{"http_endpoint": "https://logs.example.com/in", "queue": {"max_batch_size": 100}}"#,
    ),
    ("ip-restriction", r#"{"allow": ["10.0.0.0/8"]}"#),
    (
        "ldap-auth",
        r#"{"ldap_host": "ldap.example.com", "base_dn": "dc=example,dc=com", "attribute": "cn"}"#,
    ),
    (
        "oauth2",
        r#"{"scopes": ["email"], "mandatory_scope": true, "enable_client_credentials": true}"#,
    ),
    ("opentelemetry", r#"{"traces_endpoint": "http://collector.example.com:4318/v1/traces"}"#),
    ("post-function", r#"{"log": ["kong.log.notice('done')"]}"#),
    ("pre-function", r#"{"access": ["kong.log.notice('begins')"]}"#),
    ("prometheus", r#"{"status_code_metrics": true, "latency_metrics": true}"#),
    ("proxy-cache", r#"{"strategy": "memory"}"#),
    ("rate-limiting", r#"{"minute": 60, "policy": "local"}"#),
    ("redirect", r#"{"location": "https://www.example.com"}"#),
    ("request-termination", r#"{"status_code": 503, "message": "Back at noon"}"#),
    ("request-transformer", r#"{"add": {"headers": ["X-From:gateway"]}}"#),
    ("response-ratelimiting", r#"{"limits": {"video": {"minute": 10}}}"#),
    ("response-transformer", r#"{"remove": {"headers": ["X-Internal"]}}"#),
    ("standard-webhooks", r#"{"secret_v1": "d2ViaG9va3NlY3JldA=="}"#),
    ("zipkin", r#"{"http_endpoint": "http://zipkin.example.com:9411/api/v2/spans"}"#),
];

#[test]
fn the_pages_are_the_schemas() {
    let mut specs: Vec<&&Spec> = ALL.iter().collect();
    specs.sort_by_key(|spec| spec.schema.name);
    let mut page = String::from(HEAD);
    for spec in &specs {
        let name = spec.schema.name;
        let mark = if spec.is_built() { "" } else { " (not built yet)" };
        writeln!(page, "- [{name}](#{name}){mark}").unwrap();
    }
    specs.iter().for_each(|spec| push_plugin(&mut page, spec));
    let faults: Vec<String> = specs.iter().filter_map(|spec| refused(spec)).collect();
    assert!(faults.is_empty(), "examples that are refused:\n{}", faults.join("\n"));
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    if fs::read_to_string(&file).unwrap_or_default() != page {
        fs::write(&file, page).unwrap();
        panic!("the pages were out of date and have been written: run the tests again");
    }
}

const HEAD: &str = "\
# Plugins

One section for each plugin that this gateway knows, written by `plugins/tests/pages.rs` out of the
schemas that check configurations: what stands here is what the Admin API accepts.

A plugin is set on a service, a route, a consumer, on several of them, or on everything; the most
specific configuration wins. Plugins of higher priority run earlier. One that is not built yet can be
stored; while it is enabled, requests in its scope are answered 503.

";

fn push_plugin(page: &mut String, spec: &Spec) {
    let schema = &spec.schema;
    let name = schema.name;
    writeln!(page, "\n## {name}\n\n{}\n", about(name)).unwrap();
    if !spec.is_built() {
        page.push_str("**Not built yet**: its configurations are checked and stored.\n\n");
    }
    let phases: Vec<&str> = spec.phases.iter().map(|phase| phase_name(*phase)).collect();
    writeln!(page, "- priority {}", schema.priority).unwrap();
    if !phases.is_empty() {
        writeln!(page, "- runs in {}", phases.join(", ")).unwrap();
    }
    let scopes = [
        ("services", schema.no_service),
        ("routes", schema.no_route),
        ("consumers", schema.no_consumer),
    ];
    let scopes: Vec<&str> =
        scopes.iter().filter(|(_, forbidden)| !forbidden).map(|(scope, _)| *scope).collect();
    let scopes = if scopes.is_empty() {
        "everything only".to_owned()
    } else {
        format!("everything, {}", scopes.join(", "))
    };
    writeln!(page, "- can be set on {scopes}").unwrap();
    if !spec.entities.is_empty() {
        let names: Vec<String> = spec.entities.iter().map(|e| format!("`{}`", e.name)).collect();
        writeln!(page, "- brings along {}", names.join(", ")).unwrap();
    }
    for endpoint in spec.endpoints {
        writeln!(page, "- answers `{}`", endpoint.path).unwrap();
    }
    if !schema.config.is_empty() {
        page.push_str("\n| parameter | type | default | |\n|---|---|---|---|\n");
        push_fields(page, name, "", schema.config);
    }
    push_example(page, spec);
}

/// The first paragraph of the plugin's own file.
fn about(name: &str) -> String {
    let file = format!("src/bundled/{}.rs", name.replace('-', "_"));
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap();
    let lines = text.lines().map_while(|line| line.strip_prefix("//!"));
    let first: Vec<&str> = lines.map(str::trim).take_while(|line| !line.is_empty()).collect();
    let first = first.join(" ");
    let words = first.strip_prefix(&format!("{name}: ")).unwrap_or(&first);
    let mut letters = words.chars();
    letters.next().map(|letter| letter.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

const fn phase_name(phase: Phase) -> &'static str {
    match phase {
        Phase::Access => "access",
        Phase::HeaderFilter => "header_filter",
        Phase::BodyFilter => "body_filter",
        Phase::Log => "log",
    }
}

fn push_fields(page: &mut String, plugin: &str, path: &str, fields: &[Field]) {
    for field in fields {
        let name = format!("{path}{}", field.name);
        let (kind, inner) = kind(field);
        let preset = field.preset.as_ref().map(|preset| {
            let value = store::value::Value::from_preset(preset).to_json().to_string();
            if value.len() > 60 { "see `/schemas`".to_owned() } else { format!("`{value}`") }
        });
        let mut words: Vec<String> = Vec::new();
        if field.required == Some(true) && field.preset.is_none() {
            words.push("required".to_owned());
        }
        words.extend(limits(field));
        if field.deprecation.is_some() {
            words.push("deprecated".to_owned());
        }
        let about = match field.about {
            "" => words::words_for(plugin, &name),
            about => about,
        };
        let about = about.replace('|', "\\|").replace('\n', " ");
        let note =
            if words.is_empty() { about } else { format!("**{}** {about}", words.join("; ")) };
        let preset = preset.unwrap_or_default().replace('|', "\\|");
        writeln!(page, "| `{name}` | {kind} | {preset} | {} |", note.trim()).unwrap();
        if let Some((suffix, inner)) = inner {
            push_fields(page, plugin, &format!("{name}{suffix}."), inner);
        }
    }
}

type Inner = Option<(&'static str, &'static [Field])>;

fn kind(field: &Field) -> (String, Inner) {
    match field.kind {
        Kind::Text => ("string".to_owned(), None),
        Kind::Integer => ("integer".to_owned(), None),
        Kind::Number => ("number".to_owned(), None),
        Kind::Flag => ("boolean".to_owned(), None),
        Kind::List(element) | Kind::Set(element) => {
            let word = if matches!(field.kind, Kind::Set(_)) { "set" } else { "array" };
            let (of, inner) = kind(element);
            (format!("{word} of {of}"), inner.map(|(_, fields)| ("[]", fields)))
        }
        Kind::Map(_, values) => {
            let (of, inner) = kind(values);
            (format!("map to {of}"), inner.map(|(_, fields)| ("{}", fields)))
        }
        Kind::Record(shape) => ("record".to_owned(), Some(("", shape.fields))),
        Kind::Foreign(entity, _) => (format!("id of `{entity}`"), None),
        Kind::Json(_) | Kind::Any => ("JSON".to_owned(), None),
    }
}

fn limits(field: &Field) -> Vec<String> {
    let words = |limit: &Limit| match limit {
        Limit::OneOf(Choices::Texts(texts)) => Some(format!("one of {}", texts.join(", "))),
        Limit::OneOf(Choices::Integers(numbers)) => {
            let numbers: Vec<String> = numbers.iter().map(i64::to_string).collect();
            Some(format!("one of {}", numbers.join(", ")))
        }
        Limit::Between(low, high) => Some(format!("{low} to {high}")),
        Limit::Gt(low) => Some(format!("above {low}")),
        Limit::StartsWith(start) => Some(format!("begins with `{start}`")),
        _ => None,
    };
    field.limits.iter().filter_map(words).collect()
}

fn push_example(page: &mut String, spec: &Spec) {
    let (name, config) = (spec.schema.name, example(spec));
    let row = if config == json!({}) {
        json!({ "name": name })
    } else {
        json!({ "name": name, "config": config })
    };
    let path = if spec.schema.no_service { "/plugins" } else { "/services/example/plugins" };
    writeln!(page, "\n```sh\ncurl -X POST http://localhost:8001{path} \\\n    -H 'Content-Type: application/json' \\\n    -d '{}'\n```\n", row.to_string().replace('\'', r"'\''")).unwrap();
    page.push_str("```yaml\nplugins:\n");
    let mut yaml = String::new();
    push_yaml(&mut yaml, &row, 1);
    page.push_str(
        &yaml.replacen("    name:", "  - name:", 1).replace("\n  config", "\n    config"),
    );
    if !spec.schema.no_service {
        page.push_str("    service: example\n");
    }
    page.push_str("```\n");
}

fn example(spec: &Spec) -> Value {
    match EXAMPLES.iter().find(|(known, _)| *known == spec.schema.name) {
        Some((_, text)) => serde_json::from_str(text).unwrap(),
        None => Value::Object(required(spec.schema.config)),
    }
}

/// Why a plugin's own schema refuses its example.
fn refused(spec: &Spec) -> Option<String> {
    let name = spec.schema.name;
    let spec: &'static Spec = ALL.iter().find(|known| known.schema.name == name).unwrap();
    let config = example(spec);
    fault(spec, config.clone()).map(|why| format!("{name} {config}: {why}"))
}

/// A value for each field that has none of its own.
fn required(fields: &[Field]) -> Map<String, Value> {
    let missing = fields.iter().filter(|f| f.required == Some(true) && f.preset.is_none());
    let value = |field: &Field| match field.kind {
        Kind::Text if field.name == "host" => json!("logs.example.com"),
        Kind::Text => json!("example"),
        Kind::Integer if field.name == "port" => json!(9000),
        Kind::Integer | Kind::Number => json!(1),
        Kind::Flag => json!(true),
        Kind::Record(shape) => Value::Object(required(shape.fields)),
        _ => json!(["example"]),
    };
    missing.map(|field| (field.name.to_owned(), value(field))).collect()
}

/// A value as YAML, indented; texts always quoted.
fn push_yaml(out: &mut String, value: &Value, depth: usize) {
    let indent = "    ".repeat(depth);
    match value {
        Value::Object(object) => {
            for (name, value) in object {
                push_pair(out, &format!("{indent}{name}:"), value, depth);
            }
        }
        Value::Array(items) => {
            for item in items {
                match item {
                    Value::Object(_) => {
                        let mut inner = String::new();
                        push_yaml(&mut inner, item, depth + 1);
                        let inner = inner.trim_start();
                        out.push_str(&format!("{indent}  - {inner}"));
                    }
                    other => out.push_str(&format!("{indent}  - {other}\n")),
                }
            }
        }
        other => out.push_str(&format!("{indent}{other}\n")),
    }
}

fn push_pair(out: &mut String, head: &str, value: &Value, depth: usize) {
    match value {
        Value::Object(_) => {
            out.push_str(&format!("{head}\n"));
            push_yaml(out, value, depth + 1);
        }
        Value::Array(_) => {
            out.push_str(&format!("{head}\n"));
            push_yaml(out, value, depth);
        }
        plain => out.push_str(&format!("{head} {plain}\n")),
    }
}
