//! Rules across the fields of an object.
//!
//! Source: Kong `kong/db/schema/init.lua` (`run_entity_check`, `Schema.entity_checkers`).

use super::complete::Fields;
use super::fields::{self, is_reference, quoted};
use super::{Faults, Mode, Wrong};
use crate::schema::{Catalogue, Field, Kind, LIMITS_MAX, Limit, Otherwise, Rule, Transform};
use crate::value::Value;

/// One object under rules.
struct Run<'a> {
    catalogue: &'a Catalogue,
    known: &'a Fields<'a>,
    object: &'a Value,
    /// In an update Kong says so in some of its sentences.
    mode: Mode,
    /// The object is whole.
    full: bool,
}

/// Runs one rule over an object that in an update may lack fields.
pub(super) fn run(
    catalogue: &Catalogue,
    known: &Fields<'_>,
    rule: &Rule,
    object: &Value,
    mode: Mode,
    faults: &mut Faults,
) {
    let full = mode != Mode::Update;
    Run { catalogue, known, object, mode, full }.run(rule, faults);
}

/// Runs one rule over a whole object.
pub(super) fn run_whole(
    catalogue: &Catalogue,
    known: &Fields<'_>,
    rule: &Rule,
    object: &Value,
    mode: Mode,
    faults: &mut Faults,
) {
    Run { catalogue, known, object, mode, full: true }.run(rule, faults);
}

impl Run<'_> {
    fn run(&self, rule: &Rule, faults: &mut Faults) {
        let (sources, required) = sources(rule);
        if !self.may_run(rule, &sources, required, faults) {
            return;
        }
        match rule {
            Rule::AtLeastOneOf(names) => {
                if !self.any_given(names) {
                    faults.add_whole(self.in_update(&format!(
                        "at least one of these fields must be non-empty: {}",
                        quoted(names)
                    )));
                }
            }
            Rule::OnlyOneOf(names) => self.count(
                names,
                faults,
                "exactly one of these fields must be non-empty: ",
                |given, _| given == 1,
            ),
            Rule::MutuallyRequired(names) => self.count(
                names,
                faults,
                "all or none of these fields must be set: ",
                |given, all| given == 0 || given == all,
            ),
            Rule::MutuallyExclusive(names) => self.count(
                names,
                faults,
                "only one or none of these fields must be set: ",
                |given, _| given <= 1,
            ),
            Rule::MutuallyExclusiveSets(one, two) => self.sets(one, two, faults),
            Rule::Distinct(names) => self.distinct(names, faults),
            Rule::Conditional { if_field, if_match, then_field, then_match, then_err } => {
                if self.fits(if_field, if_match) {
                    self.then(if_field, then_field, then_match, *then_err, faults);
                }
            }
            Rule::ConditionalAtLeastOneOf {
                if_field,
                if_match,
                then_at_least_one_of,
                then_err,
                otherwise,
            } => {
                if self.object.path(if_field).is_none() {
                    return;
                }
                if self.fits(if_field, if_match) {
                    self.one_of(then_at_least_one_of, *then_err, faults);
                } else if let Some(Otherwise { matching, at_least_one_of, err }) = otherwise
                    && self.fits(if_field, matching)
                {
                    self.one_of(at_least_one_of, *err, faults);
                }
            }
            Rule::Custom { check, .. } => {
                if let Err(words) = check(self.object) {
                    faults.add_whole(words);
                }
            }
        }
    }

    /// Whether the rule has all that it needs; says what it lacks.
    fn may_run(&self, rule: &Rule, sources: &[&str], required: usize, faults: &mut Faults) -> bool {
        let (with_missing, with_invalid, runs_on_nothing) = tolerance(rule);
        let mut absent = Vec::new();
        let mut all_absent = true;
        for (place, name) in sources.iter().enumerate() {
            match self.object.path(name) {
                None if !with_missing && place < required => absent.push(*name),
                None => {}
                Some(value) => {
                    all_absent = false;
                    let field = self.field(name);
                    let may_refer = field.is_some_and(|field| field.referenceable);
                    if may_refer && value.as_text().is_some_and(is_reference) {
                        return false;
                    }
                }
            }
        }
        if !with_invalid && sources.iter().any(|name| faults.get(name).is_some()) {
            return false;
        }
        if all_absent && !(runs_on_nothing && self.full) {
            return false;
        }
        for name in &absent {
            let when = if self.mode == Mode::Update { " when updating" } else { "" };
            faults.set_path(name, format!("field required for entity check{when}"));
        }
        absent.is_empty()
    }

    fn field(&self, path: &str) -> Option<Field> {
        let mut names = path.split('.');
        let first = self.known.named(names.next()?)?;
        names.try_fold(first, |field, name| match field.kind {
            Kind::Record(shape) => shape.field(name).copied(),
            _ => None,
        })
    }

    fn given(&self, name: &str) -> bool {
        self.object.path(name).is_some_and(|value| !value.is_empty())
    }

    fn any_given(&self, names: &[&str]) -> bool {
        names.iter().any(|name| self.given(name))
    }

    fn in_update(&self, words: &str) -> String {
        if self.mode == Mode::Update { format!("when updating, {words}") } else { words.to_owned() }
    }

    fn count(
        &self,
        names: &[&str],
        faults: &mut Faults,
        words: &str,
        holds: impl Fn(usize, usize) -> bool,
    ) {
        let given = names.iter().filter(|name| self.given(name)).count();
        if !holds(given, names.len()) {
            faults.add_whole(format!("{words}{}", quoted(names)));
        }
    }

    fn sets(&self, one: &[&str], two: &[&str], faults: &mut Faults) {
        let (first, second): (Vec<&str>, Vec<&str>) = (
            one.iter().copied().filter(|name| self.given(name)).collect(),
            two.iter().copied().filter(|name| self.given(name)).collect(),
        );
        if !first.is_empty() && !second.is_empty() {
            faults.add_whole(format!(
                "these sets are mutually exclusive: ({}), ({})",
                quoted(&first),
                quoted(&second)
            ));
        }
    }

    fn distinct(&self, names: &[&str], faults: &mut Faults) {
        let mut seen: Vec<&Value> = Vec::new();
        for name in names {
            let Some(value) = self.object.path(name).filter(|value| !value.is_empty()) else {
                continue;
            };
            if seen.contains(&value) {
                let words = format!("values of these fields must be distinct: {}", quoted(names));
                return faults.add_whole(words);
            }
            seen.push(value);
        }
    }

    fn fits(&self, name: &str, matching: &Field) -> bool {
        let field = over(self.field(name), matching);
        let value = self.object.path(name).unwrap_or(&Value::Null);
        fields::check(self.catalogue, &field, value, self.mode).is_ok()
    }

    fn then(
        &self,
        if_field: &str,
        then_field: &str,
        then_match: &Field,
        then_err: Option<&str>,
        faults: &mut Faults,
    ) {
        let value = self.object.path(then_field).unwrap_or(&Value::Null);
        let usual = || format!("failed conditional validation given value of field '{if_field}'");
        if value.is_null() && then_match.required == Some(true) {
            faults.set_path(then_field, Wrong::from("required field missing"));
            return faults.add_whole(usual());
        }
        let field = over(self.field(then_field), then_match);
        if let Err(wrong) = fields::check(self.catalogue, &field, value, self.mode) {
            faults.set_path(then_field, wrong);
            faults.add_whole(match then_err {
                Some(words) => words.replace("%s", if_field),
                None => usual(),
            });
        }
    }

    fn one_of(&self, names: &[&str], words: Option<&str>, faults: &mut Faults) {
        if self.any_given(names) {
            return;
        }
        let list = quoted(names);
        faults.add_whole(match words {
            Some(words) => words.replace("%s", &list),
            None => {
                self.in_update(&format!("at least one of these fields must be non-empty: {list}"))
            }
        });
    }
}

/// The fields that a rule looks at; the first so many must be there for it to run.
fn sources(rule: &Rule) -> (Vec<&'static str>, usize) {
    match rule {
        Rule::AtLeastOneOf(names)
        | Rule::OnlyOneOf(names)
        | Rule::Distinct(names)
        | Rule::MutuallyRequired(names)
        | Rule::MutuallyExclusive(names) => (names.to_vec(), names.len()),
        Rule::MutuallyExclusiveSets(one, two) => ([*one, *two].concat(), 0),
        Rule::Conditional { if_field, then_field, .. } => (vec![if_field, then_field], 1),
        Rule::ConditionalAtLeastOneOf { if_field, then_at_least_one_of, otherwise, .. } => {
            let mut names = vec![*if_field];
            names.extend_from_slice(then_at_least_one_of);
            if let Some(otherwise) = otherwise {
                names.extend_from_slice(otherwise.at_least_one_of);
            }
            (names, 0)
        }
        Rule::Custom { fields, .. } => (fields.to_vec(), fields.len()),
    }
}

/// Whether the rule runs with absent fields, with faulty ones, and when all of them are absent.
fn tolerance(rule: &Rule) -> (bool, bool, bool) {
    match rule {
        Rule::AtLeastOneOf(_) | Rule::ConditionalAtLeastOneOf { .. } => (true, true, true),
        Rule::OnlyOneOf(_) | Rule::Distinct(_) | Rule::Conditional { .. } => (false, true, false),
        Rule::MutuallyRequired(_)
        | Rule::MutuallyExclusive(_)
        | Rule::MutuallyExclusiveSets(..) => (true, false, true),
        Rule::Custom { run_with_missing_fields, run_with_invalid_fields, .. } => {
            (*run_with_missing_fields, *run_with_invalid_fields, false)
        }
    }
}

/// Lays the conditions of a rule over a field: its kind and other limits count too.
fn over(field: Option<Field>, matching: &Field) -> Field {
    let Some(mut field) = field else { return *matching };
    for limit in matching.limits.iter().filter(|limit| !matches!(limit, Limit::None)) {
        let same = field.limits.iter().position(|known| known.rank() == limit.rank());
        let free = field.limits.iter().position(|known| matches!(known, Limit::None));
        // A field has room for one condition more: LIMITS_MAX is above what any of them has.
        let place = same.or(free).unwrap_or(LIMITS_MAX - 1);
        field.limits[place] = *limit;
    }
    field.limits.sort_by_key(Limit::rank);
    if let (Kind::Set(_) | Kind::List(_), Kind::List(elements)) = (field.kind, matching.kind) {
        field.kind = Kind::List(elements);
    }
    field.required = matching.required.or(field.required);
    field.fault = matching.fault.or(field.fault);
    field
}

/// All inputs and needs of a transform must be given, or none.
pub(super) fn transforms(
    transforms: &[Transform],
    object: &Value,
    given: &Value,
    before: Option<&Value>,
    faults: &mut Faults,
) {
    let has = |value: &Value, name: &str| value.path(name).is_some_and(|value| !value.is_empty());
    for transform in transforms {
        let some_given = transform.input.iter().any(|name| has(given, name));
        let changed = before.is_some_and(|before| {
            transform.needs.iter().any(|name| given.path(name) != before.path(name))
        });
        if !some_given && !changed {
            continue;
        }
        let names = [transform.input, transform.needs].concat();
        let all = |value: &Value, names: &[&str]| {
            let count = names.iter().filter(|name| has(value, name)).count();
            count == 0 || count == names.len()
        };
        let looked_at = if changed { given } else { object };
        let wrong = if !all(looked_at, &names) {
            &names[..]
        } else if !all(given, transform.input) {
            transform.input
        } else {
            continue;
        };
        faults.add_whole(format!("all or none of these fields must be set: {}", quoted(wrong)));
    }
}
