//! Answers against what `GET /openapi.json` promises: kinds, choices, names.

use serde_json::Value;
use store::admin::{Call, Reply};

/// The document, read once.
pub(crate) struct Document(Value);

impl Document {
    /// The document that the gateway gives out.
    pub(crate) fn of(gateway: &mut dyn FnMut(Call) -> Reply) -> Self {
        let reply = gateway(Call::new("GET", "/openapi.json"));
        assert_eq!(reply.status, 200);
        Self(serde_json::from_slice(&reply.body).expect("JSON"))
    }

    /// The first thing in an answer that the document does not promise.
    pub(crate) fn broken(&self, call: &Call, reply: &Reply) -> Option<String> {
        let segments = segments(&call.path);
        let paths = self.0["paths"].as_object().expect("paths");
        let fits = |path: &str| {
            let known = path.split('/').filter(|segment| !segment.is_empty()).collect::<Vec<_>>();
            (known.len() == segments.len()).then_some(())?;
            let pairs = known.iter().zip(&segments);
            pairs
                .map(|(known, sent)| match known.starts_with('{') {
                    true => Some(0),
                    false => (known == sent).then_some(1),
                })
                .sum::<Option<i32>>()
        };
        let (literals, path) = paths
            .iter()
            .filter_map(|(path, item)| Some((fits(path)?, item)))
            .max_by_key(|x| x.0)?;
        debug_assert!(literals >= 0);
        let operation = path.get(call.method.to_ascii_lowercase())?;
        let class = format!("{}XX", reply.status / 100);
        let promised = operation["responses"]
            .get(reply.status.to_string())
            .or_else(|| operation["responses"].get(&class));
        let Some(promised) = promised else {
            return Some(format!("status {} is not promised", reply.status));
        };
        let schema = promised.pointer("/content/application~1json/schema")?;
        let body = serde_json::from_slice(&reply.body).expect("JSON");
        self.differs(schema, &body, "")
    }

    fn differs(&self, schema: &Value, value: &Value, path: &str) -> Option<String> {
        if let Some(reference) = schema["$ref"].as_str() {
            let target = self.0.pointer(reference.trim_start_matches('#')).expect("a schema");
            return self.differs(target, value, path);
        }
        let allowed = match &schema["type"] {
            Value::String(kind) => is(kind, value),
            Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).any(|k| is(k, value)),
            _ => true,
        };
        if !allowed || schema["enum"].as_array().is_some_and(|all| !all.contains(value)) {
            return Some(format!("{path}: {value} is not promised"));
        }
        match value {
            Value::Object(fields) => {
                let known = schema["properties"].as_object();
                fields.iter().find_map(|(name, value)| {
                    let inner = known.and_then(|known| known.get(name));
                    let strange = known.is_some() && inner.is_none();
                    if strange && schema.get("additionalProperties").is_none() {
                        return Some(format!("{path}.{name} is not promised"));
                    }
                    let inner = inner.or_else(|| schema.get("additionalProperties"))?;
                    self.differs(inner, value, &format!("{path}.{name}"))
                })
            }
            Value::Array(items) => {
                items.iter().find_map(|item| self.differs(&schema["items"], item, path))
            }
            _ => None,
        }
    }
}

fn segments(path: &str) -> Vec<&str> {
    path.split('/').filter(|segment| !segment.is_empty()).collect()
}

fn is(kind: &str, value: &Value) -> bool {
    match kind {
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        _ => value.is_null(),
    }
}
