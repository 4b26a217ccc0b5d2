//! A whole object against its entity: every field, what is required, rules across fields.
//!
//! Source: Kong `kong/db/schema/init.lua` (`Schema:validate`).

use super::complete::Fields;
use super::{Faults, Mode, Wrong, fields, rules};
use crate::schema::{Catalogue, Entity, Field, PluginSchema, Rule, Shape, Variant, Variants};
use crate::value::Value;

/// The variant of one object.
#[derive(Clone, Copy)]
pub(super) enum Chosen {
    /// The entity has none.
    None,
    /// One of its list.
    Listed(&'static Variant),
    /// A plugin's.
    Plugin(&'static PluginSchema),
}

impl Chosen {
    /// The field that it puts in the place of the entity's own.
    pub(super) fn field(self, name: &str) -> Option<Field> {
        match self {
            Self::None => None,
            Self::Listed(variant) => {
                variant.fields.iter().find(|field| field.name == name).copied()
            }
            Self::Plugin(plugin) => plugin.field(name),
        }
    }

    fn rules(self) -> &'static [Rule] {
        match self {
            Self::None => &[],
            Self::Listed(variant) => variant.rules,
            Self::Plugin(plugin) => plugin.rules,
        }
    }
}

/// The variant that an object's key chooses, if it chooses any.
pub(super) fn chosen(catalogue: &Catalogue, entity: &Entity, object: &Value) -> Option<Chosen> {
    match entity.variants {
        Variants::None => Some(Chosen::None),
        Variants::Plugins => catalogue.plugin(object.get("name").as_text()?).map(Chosen::Plugin),
        Variants::Of { key, list, .. } => {
            let find = |text: &str| list.iter().find(|variant| variant.keys.contains(&text));
            let found = match object.get(key) {
                Value::Text(text) => find(text),
                Value::List(items) => items.iter().filter_map(Value::as_text).find_map(find),
                _ => None,
            };
            found.map(Chosen::Listed)
        }
    }
}

/// Checks a whole object. `given` is what the client sent, `before` the row that it changes.
///
/// # Errors
/// Everything that is wrong with it; without a known variant, only that.
pub(super) fn whole(
    catalogue: &Catalogue,
    entity: &'static Entity,
    object: &Value,
    mode: Mode,
    given: &Value,
    before: Option<&Value>,
) -> Result<(), Faults> {
    let chosen = variant(catalogue, entity, object)?;
    let known = Fields { shape: entity.shape(), variant: &|name| chosen.field(name) };
    let full = mode != Mode::Update;
    let mut faults = each(catalogue, &known, object, full, mode, |name| {
        name == "updated_at" || (name == "ttl" && entity.ttl)
    });
    for rule in entity.rules.iter().chain(chosen.rules()) {
        rules::run(catalogue, &known, rule, object, mode, &mut faults);
    }
    rules::transforms(entity.transforms, object, given, before, &mut faults);
    if faults.is_empty() { Ok(()) } else { Err(faults) }
}

/// Checks what there is of an object; absent fields are no fault.
pub(super) fn partial(
    catalogue: &Catalogue,
    entity: &'static Entity,
    object: &Value,
) -> Result<(), Faults> {
    whole(catalogue, entity, object, Mode::Update, object, None)
}

/// Checks a record, completed first.
pub(super) fn record(
    catalogue: &Catalogue,
    shape: Shape,
    value: &Value,
    mode: Mode,
) -> Result<(), Faults> {
    let completed = fields::completed(catalogue, shape, value)?;
    let known = Fields { shape, variant: &|_| None };
    let mut faults = each(catalogue, &known, &completed, true, mode, |name| name == "updated_at");
    for rule in shape.rules {
        // Records are always checked whole, but in the words of the call.
        rules::run_whole(catalogue, &known, rule, &completed, mode, &mut faults);
    }
    if faults.is_empty() { Ok(()) } else { Err(faults) }
}

fn variant(catalogue: &Catalogue, entity: &Entity, object: &Value) -> Result<Chosen, Faults> {
    let (key, unknown) = match entity.variants {
        Variants::None => return Ok(Chosen::None),
        Variants::Plugins => {
            ("name", "plugin '%s' not enabled; add it to the 'plugins' configuration property")
        }
        Variants::Of { key, unknown, .. } => (key, unknown),
    };
    if object.get(key).is_null() {
        return Err(Faults::of(key, "required field missing"));
    }
    chosen(catalogue, entity, object).ok_or_else(|| {
        // Kong takes the first of whatever table it is, and prints it as Lua does.
        let first = match object.get(key) {
            Value::List(items) => match items.first() {
                None => "nil".to_owned(),
                Some(Value::Null) => "userdata: NULL".to_owned(),
                Some(first) => fields::shown(first),
            },
            Value::Map(_) | Value::Record(_) => "nil".to_owned(),
            other => fields::shown(other),
        };
        Faults::of(key, unknown.replace("%s", &first))
    })
}

/// Every field of an object, and those that are missing.
fn each(
    catalogue: &Catalogue,
    known: &Fields<'_>,
    object: &Value,
    full: bool,
    mode: Mode,
    ignored: impl Fn(&str) -> bool,
) -> Faults {
    let mut faults = Faults::new();
    for (name, value) in object.pairs() {
        if ignored(name) {
            continue;
        }
        match known.named(name) {
            None => faults.set(name, "unknown field"),
            Some(field) => {
                if let Err(wrong) = fields::check(catalogue, &field, value, mode) {
                    faults.set(name, wrong);
                }
            }
        }
    }
    for field in known.all() {
        let absent = match object.lookup(field.name) {
            None => full,
            Some(value) => value.is_null(),
        };
        if absent && field.is_required() {
            faults.set(field.name, Wrong::from("required field missing"));
        }
    }
    faults
}
