//! The rules on a JSON body. Names are those of the top level: a dot is part of a name.

use super::rules::Rules;
use crate::pdk::json::{Object, quoted};
use crate::pdk::template::Sight;

/// Does what the rules ask for; none if that was nothing, or the body is no object. An empty body
/// is an empty object.
pub(super) fn change(body: &[u8], rules: &Rules, sight: &Sight<'_>) -> Option<Vec<u8>> {
    let whole = !body.is_empty();
    let mut object = if whole { Object::parse(body)? } else { Object::default() };
    let text = |value: Vec<u8>| quoted(&String::from_utf8_lossy(&value));
    let mut changed = whole && !rules.remove.is_empty();
    if whole {
        rules.remove.iter().for_each(|name| drop(object.remove(name)));
        for rule in &rules.rename {
            let new = rule.value(sight).map(|new| String::from_utf8_lossy(&new).into_owned());
            let Some(new) = new.filter(|new| *new != rule.name) else { continue };
            if holds(&object, &rule.name)
                && let Some(value) = object.remove(&rule.name)
            {
                object.set(&new, value);
                changed = true;
            }
        }
        for rule in &rules.replace {
            if holds(&object, &rule.name)
                && let Some(value) = rule.value(sight)
            {
                object.set(&rule.name, text(value));
                changed = true;
            }
        }
    }
    for rule in &rules.add {
        if !holds(&object, &rule.name)
            && let Some(value) = rule.value(sight)
        {
            object.set(&rule.name, text(value));
            changed = true;
        }
    }
    for rule in &rules.append {
        if let Some(value) = rule.value(sight) {
            object.append(&rule.name, &text(value));
            changed = true;
        }
    }
    changed.then(|| object.write())
}

/// Lua's truth: a member that is false is not there.
fn holds(object: &Object<'_>, name: &str) -> bool {
    object.get(name).is_some_and(|value| value != "false")
}
