//! Rules across the fields of an entity or a record (Kong: `entity_checks`).

use super::{Field, Judge};

/// A rule across fields. Names may be paths (`config.redis.host`).
#[derive(Clone, Copy, Debug)]
pub enum Rule {
    /// One of these must be non-empty.
    AtLeastOneOf(&'static [&'static str]),
    /// Exactly one of these must be non-empty.
    OnlyOneOf(&'static [&'static str]),
    /// Non-empty values must differ.
    Distinct(&'static [&'static str]),
    /// All or none.
    MutuallyRequired(&'static [&'static str]),
    /// One or none.
    MutuallyExclusive(&'static [&'static str]),
    /// Of the two sets, only one may have non-empty fields.
    MutuallyExclusiveSets(&'static [&'static str], &'static [&'static str]),
    /// If one field satisfies `if_match`, the other must satisfy `then_match`.
    ///
    /// Both are laid over the field's own schema: its kind and limits count too.
    Conditional {
        /// Field that decides.
        if_field: &'static str,
        /// What it is compared with.
        if_match: Field,
        /// Field that is then checked.
        then_field: &'static str,
        /// What it must satisfy.
        then_match: Field,
        /// The words in place of `failed conditional validation …`.
        then_err: Option<&'static str>,
    },
    /// If one field satisfies `if_match`, one of the others must be non-empty.
    ConditionalAtLeastOneOf {
        /// Field that decides.
        if_field: &'static str,
        /// What it is compared with.
        if_match: Field,
        /// One of these must then be non-empty.
        then_at_least_one_of: &'static [&'static str],
        /// Words with `%s` for the quoted list.
        then_err: Option<&'static str>,
        /// A second condition, tried when the first fails: match, fields, words.
        otherwise: Option<Otherwise>,
    },
    /// A function of the whole record.
    Custom {
        /// Fields it looks at: it does not run while one of them is faulty.
        fields: &'static [&'static str],
        /// Runs although some of the fields are absent (updates).
        run_with_missing_fields: bool,
        /// Runs although some of the fields are faulty.
        run_with_invalid_fields: bool,
        /// The function; its error goes to `@entity`.
        check: Judge,
    },
}

/// The second condition of [`Rule::ConditionalAtLeastOneOf`].
#[derive(Clone, Copy, Debug)]
pub struct Otherwise {
    /// What the deciding field is compared with.
    pub matching: Field,
    /// One of these must then be non-empty.
    pub at_least_one_of: &'static [&'static str],
    /// Words with `%s` for the quoted list.
    pub err: Option<&'static str>,
}
