//! What a field may hold: kinds, defaults, limits.

use super::{Field, Shorthand};
use crate::value::Value;

/// A check of a whole value that data cannot express; its error is the fault.
pub type Judge = fn(&Value) -> Result<(), String>;

/// A default value, as data.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Preset {
    /// An explicit null: the same value as no default, but printed in `/schemas`.
    Null,
    /// A boolean.
    Flag(bool),
    /// A whole number.
    Integer(i64),
    /// Any number.
    Number(f64),
    /// A string.
    Text(&'static str),
    /// An array or a set.
    List(&'static [Preset]),
    /// A record or a map.
    Record(&'static [(&'static str, Preset)]),
}

/// The allowed (or forbidden) values of a field.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Choices {
    /// Strings.
    Texts(&'static [&'static str]),
    /// Whole numbers.
    Integers(&'static [i64]),
}

/// What happens to a row when the row that it points to is deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnDelete {
    /// The parent cannot be deleted (Kong's code 4). Kong's default.
    Restrict,
    /// The row is deleted with its parent.
    Cascade,
    /// The pointer becomes null.
    Null,
}

/// What a field holds.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// A string; empty ones are refused unless `len_min(0)`.
    Text,
    /// A whole number.
    Integer,
    /// A number.
    Number,
    /// A boolean.
    Flag,
    /// Values of one kind, in order, doubles allowed.
    List(&'static Field),
    /// Values of one kind, in order, doubles dropped.
    Set(&'static Field),
    /// Names of the caller's choice: the kind of the keys, the kind of the values.
    Map(&'static Field, &'static Field),
    /// Named fields.
    Record(Shape),
    /// A pointer to a row of another entity, by its name; JSON `{"id": …}`.
    Foreign(&'static str, OnDelete),
    /// Any JSON; the text is the JSON schema that `/schemas` prints beside it.
    Json(&'static str),
    /// Nothing of its own: takes the kind of the field it is laid over (see [`matching`]).
    Any,
}

/// The inside of a record.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// The named fields, in Kong's order.
    pub fields: &'static [Field],
    /// Rules across these fields.
    pub rules: &'static [super::Rule],
    /// Names that stand for other fields.
    pub shorthands: &'static [Shorthand],
}

impl Shape {
    /// A record without fields.
    pub const EMPTY: Self = Self { fields: &[], rules: &[], shorthands: &[] };

    /// A record of `fields` alone.
    pub const fn of(fields: &'static [Field]) -> Self {
        Self { fields, ..Self::EMPTY }
    }

    /// The field called `name`.
    pub fn field(&self, name: &str) -> Option<&'static Field> {
        self.fields.iter().find(|field| field.name == name)
    }
}

/// One condition on a value. The first that fails, in Kong's order, is the answer.
#[derive(Clone, Copy, Debug)]
pub enum Limit {
    /// No condition: an unused place.
    None,
    /// Exactly this value; `Preset::Null` forbids any.
    Eq(Preset),
    /// Not this value.
    Ne(Preset),
    /// None of these.
    NotOneOf(Choices),
    /// One of these.
    OneOf(Choices),
    /// Greater than.
    Gt(f64),
    /// A time after 1970.
    Timestamp,
    /// A UUID of any version, any case.
    Uuid,
    /// A regular expression that compiles.
    IsRegex,
    /// Bounds, both included.
    Between(f64, f64),
    /// Exactly this long (bytes, or items).
    LenEq(i64),
    /// At least this long.
    LenMin(i64),
    /// At most this long.
    LenMax(i64),
    /// Begins with.
    StartsWith(&'static str),
    /// Does not match this Lua pattern.
    NotMatch(&'static str),
    /// Matches none of these `(Lua pattern, fault)`.
    MatchNone(&'static [(&'static str, &'static str)]),
    /// Matches this Lua pattern.
    Match(&'static str),
    /// Matches all of these `(Lua pattern, fault)`.
    MatchAll(&'static [(&'static str, &'static str)]),
    /// Matches one of these Lua patterns, else the fault.
    MatchAny(&'static [&'static str], &'static str),
    /// Has this item.
    Contains(&'static str),
    /// A function of the whole value; its error is the fault.
    Custom(Judge),
    /// At most one of these sets has items in the value.
    ExclusiveSubsets(&'static [&'static [&'static str]]),
}

impl Limit {
    /// Place in Kong's order of checks (`Schema.validators_order`).
    pub const fn rank(&self) -> u8 {
        match self {
            Self::Eq(_) => 0,
            Self::Ne(_) => 1,
            Self::NotOneOf(_) => 2,
            Self::OneOf(_) => 3,
            Self::Gt(_) => 4,
            Self::Timestamp => 5,
            Self::Uuid => 6,
            Self::IsRegex => 7,
            Self::Between(..) => 8,
            Self::LenEq(_) => 9,
            Self::LenMin(_) => 10,
            Self::LenMax(_) => 11,
            Self::StartsWith(_) => 12,
            Self::NotMatch(_) => 13,
            Self::MatchNone(_) => 14,
            Self::Match(_) => 15,
            Self::MatchAll(_) => 16,
            Self::MatchAny(..) => 17,
            Self::Contains(_) => 18,
            Self::Custom(_) => 19,
            Self::ExclusiveSubsets(_) => 20,
            Self::None => u8::MAX,
        }
    }
}
