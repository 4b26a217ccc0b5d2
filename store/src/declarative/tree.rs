//! Faults in the form of the document: a tree of objects and lists.

use serde_json::{Map, Value as Json};

/// One step from the top of a document to a place in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step<'a> {
    /// Into a name of an object.
    Name(&'a str),
    /// Into an item of a list, counted from 0.
    Index(usize),
}

/// Puts a fault at a place. Objects join, anything else is replaced.
pub(super) fn put(tree: &mut Json, path: &[Step<'_>], fault: Json) {
    let Some((first, rest)) = path.split_first() else { return join(tree, fault) };
    match first {
        Step::Name(name) => {
            if !tree.is_object() {
                *tree = Json::Object(Map::new());
            }
            if let Json::Object(pairs) = tree {
                put(pairs.entry(*name).or_insert(Json::Null), rest, fault);
            }
        }
        Step::Index(at) => {
            if !tree.is_array() {
                *tree = Json::Array(Vec::new());
            }
            if let Json::Array(items) = tree {
                if items.len() <= *at {
                    items.resize(at + 1, Json::Null);
                }
                if let Some(item) = items.get_mut(*at) {
                    put(item, rest, fault);
                }
            }
        }
    }
}

/// Lays one tree over another.
pub(super) fn join(tree: &mut Json, over: Json) {
    match (tree, over) {
        (Json::Object(pairs), Json::Object(over)) => {
            for (name, value) in over {
                join(pairs.entry(name).or_insert(Json::Null), value);
            }
        }
        (Json::Array(items), Json::Array(over)) => {
            for (at, value) in over.into_iter().enumerate() {
                match items.get_mut(at) {
                    Some(item) => join(item, value),
                    None => items.push(value),
                }
            }
        }
        (_, Json::Null) => {}
        (tree, over) => *tree = over,
    }
}

/// The part of a tree whose sentences are `words`.
pub(super) fn only(tree: &Json, words: &str) -> Json {
    match tree {
        Json::Object(pairs) => {
            let kept = pairs.iter().map(|(name, value)| (name.clone(), only(value, words)));
            let kept: Map<_, _> = kept.filter(|(_, value)| !value.is_null()).collect();
            if kept.is_empty() { Json::Null } else { kept.into() }
        }
        Json::Array(items) => {
            let kept: Vec<_> = items.iter().map(|item| only(item, words)).collect();
            if kept.iter().all(Json::is_null) { Json::Null } else { kept.into() }
        }
        Json::String(found) if found == words => tree.clone(),
        _ => Json::Null,
    }
}

/// As lines of text, deeper places indented.
pub(super) fn text(fields: &Map<String, Json>) -> String {
    let mut lines = Vec::new();
    for (name, fault) in fields {
        line(&mut lines, &format!("in '{name}'"), name, fault, 0);
    }
    lines.join("\n")
}

fn line(lines: &mut Vec<String>, place: &str, name: &str, fault: &Json, depth: usize) {
    let indent = "  ".repeat(depth);
    match fault {
        Json::Null => {}
        Json::Object(pairs) => {
            lines.push(format!("{indent}{place}:"));
            for (name, fault) in pairs {
                line(lines, &format!("in '{name}'"), name, fault, depth + 1);
            }
        }
        Json::Array(items) => {
            lines.push(format!("{indent}{place}:"));
            for (at, fault) in items.iter().enumerate() {
                let place = format!("- in entry {} of '{name}'", at + 1);
                line(lines, &place, name, fault, depth + 1);
            }
        }
        Json::String(words) => lines.push(format!("{indent}{place}: {words}")),
        other => lines.push(format!("{indent}{place}: {other}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn faults_have_the_documents_form() {
        let mut tree = json!({});
        let routes = [Step::Name("services"), Step::Index(1), Step::Name("routes"), Step::Index(0)];
        put(&mut tree, &routes, json!({"paths": "bad"}));
        put(&mut tree, &routes, json!({"name": "worse"}));
        put(&mut tree, &[Step::Name("x")], json!("unknown field"));
        let expected = json!({
            "services": [null, {"routes": [{"paths": "bad", "name": "worse"}]}],
            "x": "unknown field",
        });
        assert_eq!(tree, expected);
        let Json::Object(fields) = &tree else { unreachable!("an object") };
        let lines = "in 'services':\n  - in entry 2 of 'services':\n    in 'routes':\n      \
                     - in entry 1 of 'routes':\n        in 'paths': bad\n        in 'name': worse\n\
                     in 'x': unknown field";
        assert_eq!(text(fields), lines);
        let kept = json!({"services": [null, {"routes": [{"paths": "bad"}]}]});
        assert_eq!(only(&tree, "bad"), kept);
        assert_eq!(only(&tree, "none"), Json::Null);
    }
}
