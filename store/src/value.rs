//! Values and rows: configuration in memory, compact, and its way from and to JSON.
//!
//! A [`Value`] takes 24 bytes. A [`Row`] is a boxed slice of the values that are not null, in the
//! order of its entity's fields: names live in the schema, not in the row. While a row is being
//! checked it is a [`Value::Map`]; once it is valid it is packed ([`Row::pack`]) and never changes
//! again.
//! `serde_json` appears only here, at the edge.

mod json;
mod pack;

use crate::schema::{Entity, Field, Preset, Shape};
use uuid::Uuid;

/// One value of a row, or a whole object while it is being checked.
#[derive(Clone, Debug, Default)]
pub enum Value {
    /// JSON null. In input it differs from an absent name; in a row there is no difference.
    #[default]
    Null,
    /// A boolean.
    Flag(bool),
    /// A number without a fraction, within ±2⁵³.
    Integer(i64),
    /// Any other number.
    Number(f64),
    /// A string.
    Text(Box<str>),
    /// A UUID: ids and pointers to other rows. In JSON a string, or `{"id": …}`.
    Id(Uuid),
    /// An array or a set.
    List(Vec<Value>),
    /// Names of the caller's choice: maps, and objects in input form. Order is kept.
    Map(Vec<(Box<str>, Value)>),
    /// A packed record.
    Record(Box<Record>),
}

/// A packed record: values in the order of its fields.
#[derive(Clone, Debug)]
pub struct Record {
    shape: Shape,
    values: Box<[Value]>,
}

static NULL: Value = Value::Null;

impl Value {
    /// A string.
    pub fn text(text: impl Into<Box<str>>) -> Self {
        Self::Text(text.into())
    }

    /// An object in input form.
    pub fn object<const N: usize>(pairs: [(&str, Value); N]) -> Self {
        Self::Map(pairs.into_iter().map(|(name, value)| (name.into(), value)).collect())
    }

    /// Any finite number; without a fraction it becomes an integer, as all of Kong's numbers are
    /// doubles and print without one.
    pub fn from_number(number: f64) -> Self {
        const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
        if number.fract() == 0.0 && number.abs() <= EXACT_MAX {
            Self::Integer(number as i64)
        } else {
            Self::Number(number)
        }
    }

    /// The value of a preset.
    pub fn from_preset(preset: &Preset) -> Self {
        match preset {
            Preset::Null => Self::Null,
            Preset::Flag(flag) => Self::Flag(*flag),
            Preset::Integer(number) => Self::Integer(*number),
            Preset::Number(number) => Self::from_number(*number),
            Preset::Text(text) => Self::text(*text),
            Preset::List(items) => Self::List(items.iter().map(Self::from_preset).collect()),
            Preset::Record(pairs) => Self::Map(
                pairs.iter().map(|(name, preset)| ((*name).into(), preset.into())).collect(),
            ),
        }
    }

    /// Whether it is null.
    pub fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    /// Whether it is null, `""`, `[]` or `{}`: Kong's opposite of "non-empty".
    pub fn is_empty(&self) -> bool {
        match self {
            Self::Null => true,
            Self::Text(text) => text.is_empty(),
            Self::List(items) => items.is_empty(),
            Self::Map(pairs) => pairs.is_empty(),
            _ => false,
        }
    }

    /// The string, if it is one.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The boolean, if it is one.
    pub fn as_flag(&self) -> Option<bool> {
        match self {
            Self::Flag(flag) => Some(*flag),
            _ => None,
        }
    }

    /// The whole number, if it is one.
    pub fn as_integer(&self) -> Option<i64> {
        match self {
            Self::Integer(number) => Some(*number),
            _ => None,
        }
    }

    /// The number, whole or not.
    pub fn as_number(&self) -> Option<f64> {
        match self {
            Self::Integer(number) => Some(*number as f64),
            Self::Number(number) => Some(*number),
            _ => None,
        }
    }

    /// The UUID, also of an object `{"id": …}` in input form.
    pub fn as_id(&self) -> Option<Uuid> {
        match self {
            Self::Id(id) => Some(*id),
            Self::Text(text) => parse_uuid(text),
            Self::Map(_) => self.lookup("id")?.as_id(),
            _ => None,
        }
    }

    /// The items of a list, none for anything else.
    pub fn items(&self) -> &[Value] {
        match self {
            Self::List(items) => items,
            _ => &[],
        }
    }

    /// The strings of a list.
    pub fn texts(&self) -> impl Iterator<Item = &str> {
        self.items().iter().filter_map(Self::as_text)
    }

    /// The pairs of a map or an object in input form, none for anything else.
    pub fn pairs(&self) -> &[(Box<str>, Value)] {
        match self {
            Self::Map(pairs) => pairs,
            _ => &[],
        }
    }

    /// The value under `name` in a map or a record; `None` where there is none.
    pub fn lookup(&self, name: &str) -> Option<&Value> {
        match self {
            Self::Map(pairs) => {
                pairs.iter().find(|(key, _)| &**key == name).map(|(_, value)| value)
            }
            Self::Record(record) => record.lookup(name),
            _ => None,
        }
    }

    /// The value under `name`; null where there is none.
    pub fn get(&self, name: &str) -> &Value {
        self.lookup(name).unwrap_or(&NULL)
    }

    /// The value at a dotted path (`redis.host`); `None` where any part is absent.
    pub fn path(&self, path: &str) -> Option<&Value> {
        path.split('.').try_fold(self, |value, name| value.lookup(name))
    }

    /// The value under `name` of an object in input form, made if it is absent.
    ///
    /// Anything that is not a map becomes one.
    pub fn slot(&mut self, name: &str) -> &mut Value {
        if !matches!(self, Self::Map(_)) {
            *self = Self::Map(Vec::new());
        }
        let Self::Map(pairs) = self else { unreachable!("it has just been made a map") };
        let place = match pairs.iter().position(|(key, _)| &**key == name) {
            Some(place) => place,
            None => {
                pairs.push((name.into(), Self::Null));
                pairs.len() - 1
            }
        };
        &mut pairs[place].1
    }

    /// Puts a value under `name` of an object in input form.
    pub fn put(&mut self, name: &str, value: Value) {
        *self.slot(name) = value;
    }

    /// Takes the value under `name` out of an object in input form.
    pub fn take(&mut self, name: &str) -> Option<Value> {
        let Self::Map(pairs) = self else { return None };
        let place = pairs.iter().position(|(key, _)| &**key == name)?;
        Some(pairs.remove(place).1)
    }
}

impl From<&Preset> for Value {
    fn from(preset: &Preset) -> Self {
        Self::from_preset(preset)
    }
}

/// Equal as Kong sees it: `5` and `5.0`, a UUID and its text, a record and its input form are
/// the same; an absent name and a null differ.
impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Null, Self::Null) => true,
            (Self::Flag(one), Self::Flag(two)) => one == two,
            (Self::Integer(one), Self::Integer(two)) => one == two,
            (Self::Text(one), Self::Text(two)) => one == two,
            (Self::Id(one), Self::Id(two)) => one == two,
            (Self::Id(id), Self::Text(text)) | (Self::Text(text), Self::Id(id)) => {
                parse_uuid(text) == Some(*id)
            }
            (Self::List(one), Self::List(two)) => one == two,
            (Self::Map(one), Self::Map(two)) => {
                one.len() == two.len()
                    && one.iter().all(|(name, value)| other.lookup(name) == Some(value))
            }
            (Self::Record(one), Self::Record(two)) => one.values == two.values,
            (Self::Integer(_) | Self::Number(_), Self::Integer(_) | Self::Number(_)) => {
                self.as_number() == other.as_number()
            }
            _ => false,
        }
    }
}

impl Record {
    /// The value of the field `name`; `None` if there is no such field.
    pub fn lookup(&self, name: &str) -> Option<&Value> {
        let place = self.shape.fields.iter().position(|field| field.name == name)?;
        self.values.get(place)
    }

    /// Fields and values, in Kong's order.
    pub fn iter(&self) -> impl Iterator<Item = (&'static Field, &Value)> {
        self.shape.fields.iter().zip(&self.values)
    }
}

/// A UUID in Kong's one form: 36 characters with dashes, any case, any version.
pub fn parse_uuid(text: &str) -> Option<Uuid> {
    if text.len() != 36 {
        return None;
    }
    Uuid::try_parse(text).ok()
}

/// The most fields that an entity may have: a row has a bit for each.
pub const ROW_FIELDS_MAX: usize = 64;

/// One configuration object. Never changes; a write makes a new one.
#[derive(Clone, Debug)]
pub struct Row {
    entity: &'static Entity,
    version: u64,
    expires_at_s: i64,
    /// A bit for each field that is not null, by its place.
    present: u64,
    /// The values that are not null, in the order of the fields.
    values: Box<[Value]>,
}

impl Row {
    /// A row of one value for each field, in their order.
    fn of(entity: &'static Entity, version: u64, expires_at_s: i64, values: Vec<Value>) -> Self {
        debug_assert!(values.len() <= ROW_FIELDS_MAX, "{} has too many fields", entity.name);
        let mut present = 0;
        for (place, _) in values.iter().enumerate().filter(|(_, value)| !value.is_null()) {
            present |= bit(place);
        }
        // Exactly as long as it must be: an allocator keeps what is cut off a longer one.
        let mut kept = Vec::with_capacity(values.iter().filter(|value| !value.is_null()).count());
        kept.extend(values.into_iter().filter(|value| !value.is_null()));
        Self { entity, version, expires_at_s, present, values: kept.into_boxed_slice() }
    }

    /// The kind of object.
    pub fn entity(&self) -> &'static Entity {
        self.entity
    }

    /// Its primary key.
    pub fn id(&self) -> Uuid {
        match self.at(0) {
            Value::Id(id) => *id,
            _ => Uuid::nil(),
        }
    }

    /// Number of the change that wrote it: a row with the same id and version is the same.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Unix time, in seconds, at which it stops to exist; `None` for ever.
    pub fn expires_at_s(&self) -> Option<i64> {
        (self.expires_at_s != 0).then_some(self.expires_at_s)
    }

    /// Whether it still exists at `now_s`.
    pub fn is_alive(&self, now_s: i64) -> bool {
        self.expires_at_s == 0 || self.expires_at_s > now_s
    }

    /// The value of a field; null if it is absent or there is no such field.
    pub fn get(&self, name: &str) -> &Value {
        self.entity.position(name).map_or(&NULL, |place| self.at(place))
    }

    /// The value at a place of the entity's fields.
    pub fn at(&self, place: usize) -> &Value {
        let bit = bit(place);
        if self.present & bit == 0 {
            return &NULL;
        }
        let before = (self.present & (bit - 1)).count_ones();
        self.values.get(before as usize).unwrap_or(&NULL)
    }

    /// The string of a field.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.get(name).as_text()
    }

    /// The whole number of a field.
    pub fn integer(&self, name: &str) -> Option<i64> {
        self.get(name).as_integer()
    }

    /// The number of a field, whole or not.
    pub fn number(&self, name: &str) -> Option<f64> {
        self.get(name).as_number()
    }

    /// The boolean of a field.
    pub fn flag(&self, name: &str) -> Option<bool> {
        self.get(name).as_flag()
    }

    /// The items of a list field, none if it is null.
    pub fn list(&self, name: &str) -> &[Value] {
        self.get(name).items()
    }

    /// The id that a foreign field points to.
    pub fn foreign(&self, name: &str) -> Option<Uuid> {
        match self.get(name) {
            Value::Id(id) => Some(*id),
            _ => None,
        }
    }

    /// Fields and values, in Kong's order.
    pub fn iter(&self) -> impl Iterator<Item = (&'static Field, &Value)> {
        self.entity.fields.iter().enumerate().map(|(place, field)| (field, self.at(place)))
    }

    /// Whether another row has the same values and the same end, whoever wrote it.
    pub fn says_the_same(&self, other: &Self) -> bool {
        self.expires_at_s == other.expires_at_s
            && self.present == other.present
            && self.values == other.values
    }

    /// The same row as the change with that number wrote it.
    pub(crate) fn numbered(mut self, version: u64) -> Self {
        self.version = version;
        self
    }
}

/// The bit of a field's place; none beyond [`ROW_FIELDS_MAX`], which no entity has.
fn bit(place: usize) -> u64 {
    u32::try_from(place).ok().and_then(|place| 1_u64.checked_shl(place)).unwrap_or(0)
}
