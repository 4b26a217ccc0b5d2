//! What the rules do to a multipart form.

use super::rules::Rules;
use crate::pdk::multipart::Form;
use crate::pdk::template::Sight;

/// Does what the rules ask for; false if that was nothing. As in Kong, names are changed before
/// parts are removed, a changed part loses its head, and nothing is appended.
pub(super) fn change(form: &mut Form, rules: &Rules, sight: &Sight<'_>, whole: bool) -> bool {
    let before = form.len();
    let mut changed = whole && !rules.remove.is_empty();
    if whole {
        for rule in &rules.rename {
            let new = rule.value(sight).filter(|new| *new != rule.name.as_bytes());
            let body = form.find(rule.name.as_bytes()).map(<[u8]>::to_vec);
            if let (Some(new), Some(body)) = (new, body) {
                form.add(&new, body);
                form.remove(rule.name.as_bytes());
                changed = true;
            }
        }
        rules.remove.iter().for_each(|name| form.remove(name.as_bytes()));
        for rule in &rules.replace {
            if form.find(rule.name.as_bytes()).is_some() {
                form.remove(rule.name.as_bytes());
                form.add(rule.name.as_bytes(), rule.value(sight).unwrap_or_default());
                changed = true;
            }
        }
    }
    for rule in &rules.add {
        if form.find(rule.name.as_bytes()).is_none() {
            form.add(rule.name.as_bytes(), rule.value(sight).unwrap_or_default());
        }
    }
    changed || form.len() != before
}
