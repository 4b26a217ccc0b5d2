//! One field: its kind, its default, its limits.

use super::{Choices, Judge, Kind, Limit, OnDelete, Preset, Shape};
use crate::value::Value;

/// Most limits on one field. Kong's widest fields have four.
pub const LIMITS_MAX: usize = 5;

/// A field that is on its way out.
#[derive(Clone, Copy, Debug)]
pub struct Deprecation {
    /// What the log says when the field is used.
    pub message: &'static str,
    /// Kong's version in which it goes.
    pub removal_in_version: &'static str,
    /// A value that needs no warning.
    pub old_default: Option<Preset>,
    /// Paths of the fields that replace it, from the record that holds it. The first is what the
    /// old name still shows in answers.
    pub replaced_with: &'static [&'static [&'static str]],
}

/// How a shorthand becomes fields.
#[derive(Clone, Copy, Debug)]
pub enum Expand {
    /// The value moves to this path.
    Into(&'static [&'static str]),
    /// A function makes the fields (names and values of the record that holds the shorthand).
    With(fn(&Value) -> Vec<(&'static str, Value)>),
}

/// A name that is accepted in input and stands for other fields.
///
/// Without a deprecation it overwrites them; a deprecated one yields to them.
#[derive(Clone, Copy, Debug)]
pub struct Shorthand {
    /// Name, kind and limits of what is given.
    pub field: Field,
    /// What it becomes.
    pub expand: Expand,
}

/// One field.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// Its name in JSON; empty for elements of lists.
    pub name: &'static str,
    /// Kong's description, empty if there is none.
    pub about: &'static str,
    /// What it holds.
    pub kind: Kind,
    /// Its default.
    pub preset: Option<Preset>,
    /// `Some(false)` differs from `None` in two places: `/schemas` prints it, and a record is
    /// required unless it says `Some(false)`.
    pub required: Option<bool>,
    /// Unique in its workspace; `Some(false)` is only printed.
    pub unique: Option<bool>,
    /// Unique across workspaces.
    pub unique_across_workspaces: bool,
    /// Filled in when absent: UUIDs, times, random secrets.
    pub auto: bool,
    /// May hold `{vault://…}`, which skips the limits.
    pub referenceable: bool,
    /// Marked for encryption at rest in Kong Enterprise; has no effect.
    pub encrypted: bool,
    /// Never stored.
    pub transient: bool,
    /// Its kind is given by the variant (`plugins.config`).
    pub is_abstract: bool,
    /// Cannot change after the row is made.
    pub immutable: bool,
    /// The fault in place of the limits' own words.
    pub fault: Option<&'static str>,
    /// Set while it is on its way out.
    pub deprecation: Option<&'static Deprecation>,
    /// Elements that `/schemas` prints for a field that holds none: a slip of a plugin's schema.
    pub stray_elements: Option<&'static Field>,
    /// Conditions, in Kong's order.
    pub limits: [Limit; LIMITS_MAX],
}

const fn field(name: &'static str, about: &'static str, kind: Kind) -> Field {
    Field {
        name,
        about,
        kind,
        preset: None,
        required: None,
        unique: None,
        unique_across_workspaces: false,
        auto: false,
        referenceable: false,
        encrypted: false,
        transient: false,
        is_abstract: false,
        immutable: false,
        fault: None,
        deprecation: None,
        stray_elements: None,
        limits: [Limit::None; LIMITS_MAX],
    }
}

/// A string.
pub const fn text(name: &'static str, about: &'static str) -> Field {
    field(name, about, Kind::Text)
}

/// A whole number.
pub const fn integer(name: &'static str, about: &'static str) -> Field {
    field(name, about, Kind::Integer)
}

/// A number.
pub const fn number(name: &'static str, about: &'static str) -> Field {
    field(name, about, Kind::Number)
}

/// A boolean.
pub const fn boolean(name: &'static str, about: &'static str) -> Field {
    field(name, about, Kind::Flag)
}

/// A list that keeps doubles.
pub const fn array(name: &'static str, about: &'static str, elements: &'static Field) -> Field {
    field(name, about, Kind::List(elements))
}

/// A list that drops doubles.
pub const fn set(name: &'static str, about: &'static str, elements: &'static Field) -> Field {
    field(name, about, Kind::Set(elements))
}

/// Names of the caller's choice to values.
pub const fn map(
    name: &'static str,
    about: &'static str,
    keys: &'static Field,
    values: &'static Field,
) -> Field {
    field(name, about, Kind::Map(keys, values))
}

/// Named fields. Required, and so expanded with its defaults, unless `.optional()`.
pub const fn record(name: &'static str, about: &'static str, fields: &'static [Field]) -> Field {
    field(name, about, Kind::Record(Shape::of(fields)))
}

/// A pointer to a row of `entity`; deleting that row is refused unless `.cascade()`.
pub const fn foreign(name: &'static str, entity: &'static str, about: &'static str) -> Field {
    field(name, about, Kind::Foreign(entity, OnDelete::Restrict))
}

/// Any JSON. `schema` is the JSON schema that `/schemas` shows.
pub const fn json(name: &'static str, about: &'static str, schema: &'static str) -> Field {
    field(name, about, Kind::Json(schema))
}

/// Any value: for custom limits alone.
pub const fn any(name: &'static str, about: &'static str) -> Field {
    field(name, about, Kind::Any)
}

/// Conditions to be laid over another field, in [`super::Rule::Conditional`].
pub const fn matching() -> Field {
    field("", "", Kind::Any)
}

/// Const builders. Each takes the field and gives it back with one thing more.
impl Field {
    /// The default.
    pub const fn or(mut self, preset: Preset) -> Self {
        self.preset = Some(preset);
        self
    }

    /// Absent or null is a fault.
    pub const fn required(mut self) -> Self {
        self.required = Some(true);
        self
    }

    /// Says `required: false` in so many words.
    pub const fn optional(mut self) -> Self {
        self.required = Some(false);
        self
    }

    /// No two rows may have the same value.
    pub const fn unique(mut self) -> Self {
        self.unique = Some(true);
        self
    }

    /// Says `unique: false` in so many words.
    pub const fn not_unique(mut self) -> Self {
        self.unique = Some(false);
        self
    }

    /// Unique across workspaces too.
    pub const fn unique_across_workspaces(mut self) -> Self {
        self.unique = Some(true);
        self.unique_across_workspaces = true;
        self
    }

    /// Filled in by the store when absent.
    pub const fn auto(mut self) -> Self {
        self.auto = true;
        self
    }

    /// May be a reference into a vault.
    pub const fn referenceable(mut self) -> Self {
        self.referenceable = true;
        self
    }

    /// Marked as a secret.
    pub const fn encrypted(mut self) -> Self {
        self.encrypted = true;
        self
    }

    /// Never stored.
    pub const fn transient(mut self) -> Self {
        self.transient = true;
        self
    }

    /// Replaced by the variant's field.
    pub const fn is_abstract(mut self) -> Self {
        self.is_abstract = true;
        self
    }

    /// Cannot be changed.
    pub const fn immutable(mut self) -> Self {
        self.immutable = true;
        self
    }

    /// The fault in place of the limits' own words.
    pub const fn fault(mut self, text: &'static str) -> Self {
        self.fault = Some(text);
        self
    }

    /// On its way out.
    pub const fn deprecated(mut self, deprecation: &'static Deprecation) -> Self {
        self.deprecation = Some(deprecation);
        self
    }

    /// Deleted with its parent (foreign fields).
    pub const fn cascade(mut self) -> Self {
        if let Kind::Foreign(entity, _) = self.kind {
            self.kind = Kind::Foreign(entity, OnDelete::Cascade);
        }
        self
    }

    /// Other words for people.
    pub const fn about(mut self, about: &'static str) -> Self {
        self.about = about;
        self
    }

    /// Another name, for a field made by a function of [`super::typical`].
    pub const fn named(mut self, name: &'static str) -> Self {
        self.name = name;
        self
    }

    /// Rules across the fields of a record.
    pub const fn rules(mut self, rules: &'static [super::Rule]) -> Self {
        if let Kind::Record(shape) = self.kind {
            self.kind = Kind::Record(Shape { rules, ..shape });
        }
        self
    }

    /// Shorthands of a record.
    pub const fn shorthands(mut self, shorthands: &'static [Shorthand]) -> Self {
        if let Kind::Record(shape) = self.kind {
            self.kind = Kind::Record(Shape { shorthands, ..shape });
        }
        self
    }

    /// Prints elements that mean nothing.
    pub const fn stray_elements(mut self, elements: &'static Field) -> Self {
        self.stray_elements = Some(elements);
        self
    }

    /// Adds a limit at its place in Kong's order; one of the same kind is replaced.
    pub const fn limit(mut self, limit: Limit) -> Self {
        let mut place = 0;
        while place < LIMITS_MAX && self.limits[place].rank() < limit.rank() {
            place += 1;
        }
        assert!(place < LIMITS_MAX, "more limits than LIMITS_MAX");
        if self.limits[place].rank() != limit.rank() {
            let mut last = LIMITS_MAX - 1;
            assert!(matches!(self.limits[last], Limit::None), "more limits than LIMITS_MAX");
            while last > place {
                self.limits[last] = self.limits[last - 1];
                last -= 1;
            }
        }
        self.limits[place] = limit;
        self
    }

    /// Exactly this value.
    pub const fn eq(self, preset: Preset) -> Self {
        self.limit(Limit::Eq(preset))
    }

    /// Must be null.
    pub const fn null(self) -> Self {
        self.limit(Limit::Eq(Preset::Null))
    }

    /// Not this value.
    pub const fn ne(self, preset: Preset) -> Self {
        self.limit(Limit::Ne(preset))
    }

    /// One of these strings.
    pub const fn one_of(self, choices: &'static [&'static str]) -> Self {
        self.limit(Limit::OneOf(Choices::Texts(choices)))
    }

    /// One of these whole numbers.
    pub const fn one_of_integers(self, choices: &'static [i64]) -> Self {
        self.limit(Limit::OneOf(Choices::Integers(choices)))
    }

    /// None of these strings.
    pub const fn not_one_of(self, choices: &'static [&'static str]) -> Self {
        self.limit(Limit::NotOneOf(Choices::Texts(choices)))
    }

    /// Greater than.
    pub const fn gt(self, bound: i64) -> Self {
        self.limit(Limit::Gt(bound as f64))
    }

    /// Bounds, both included.
    pub const fn between(self, low: i64, high: i64) -> Self {
        self.limit(Limit::Between(low as f64, high as f64))
    }

    /// Bounds with fractions.
    pub const fn between_numbers(self, low: f64, high: f64) -> Self {
        self.limit(Limit::Between(low, high))
    }

    /// A time after 1970.
    pub const fn timestamp(self) -> Self {
        self.limit(Limit::Timestamp)
    }

    /// A UUID.
    pub const fn uuid(self) -> Self {
        self.limit(Limit::Uuid)
    }

    /// A regular expression.
    pub const fn is_regex(self) -> Self {
        self.limit(Limit::IsRegex)
    }

    /// Exactly this long.
    pub const fn len_eq(self, length: i64) -> Self {
        self.limit(Limit::LenEq(length))
    }

    /// At least this long; 0 allows empty strings.
    pub const fn len_min(self, length: i64) -> Self {
        self.limit(Limit::LenMin(length))
    }

    /// At most this long.
    pub const fn len_max(self, length: i64) -> Self {
        self.limit(Limit::LenMax(length))
    }

    /// Begins with.
    pub const fn starts_with(self, prefix: &'static str) -> Self {
        self.limit(Limit::StartsWith(prefix))
    }

    /// Matches this Lua pattern.
    pub const fn matches(self, pattern: &'static str) -> Self {
        self.limit(Limit::Match(pattern))
    }

    /// Does not match this Lua pattern.
    pub const fn not_match(self, pattern: &'static str) -> Self {
        self.limit(Limit::NotMatch(pattern))
    }

    /// Matches none of these `(Lua pattern, fault)`.
    pub const fn match_none(self, pairs: &'static [(&'static str, &'static str)]) -> Self {
        self.limit(Limit::MatchNone(pairs))
    }

    /// Matches all of these `(Lua pattern, fault)`.
    pub const fn match_all(self, pairs: &'static [(&'static str, &'static str)]) -> Self {
        self.limit(Limit::MatchAll(pairs))
    }

    /// Matches one of these Lua patterns; `fault` is empty where Kong gives none.
    pub const fn match_any(self, patterns: &'static [&'static str], fault: &'static str) -> Self {
        self.limit(Limit::MatchAny(patterns, fault))
    }

    /// Has this item.
    pub const fn contains(self, item: &'static str) -> Self {
        self.limit(Limit::Contains(item))
    }

    /// A function of the whole value.
    pub const fn custom(self, check: Judge) -> Self {
        self.limit(Limit::Custom(check))
    }

    /// At most one of these sets has items in the value.
    pub const fn exclusive_subsets(self, sets: &'static [&'static [&'static str]]) -> Self {
        self.limit(Limit::ExclusiveSubsets(sets))
    }

    /// Elements to look at, for [`matching`] conditions on lists.
    pub const fn elements(mut self, elements: &'static Field) -> Self {
        self.kind = Kind::List(elements);
        self
    }

    /// Whether absent or null is a fault: asked for, or a record that does not say otherwise.
    pub const fn is_required(&self) -> bool {
        match self.required {
            Some(required) => required,
            None => matches!(self.kind, Kind::Record(_)) && !self.is_abstract,
        }
    }

    /// Whether two rows may not share its value.
    pub const fn is_unique(&self) -> bool {
        matches!(self.unique, Some(true))
    }
}
