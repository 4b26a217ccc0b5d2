//! One kind of configuration object.

use super::{Field, Rule, Shape, Shorthand};
use crate::fault::Fault;
use crate::snapshot::Tables;
use crate::value::{Row, Value};

/// Looks at what a client sent beside the other rows, before it is checked, and may adjust it.
///
/// Gets the row that the input changes; `None` for a new one and for PUT.
pub type Guard = fn(&Tables, &mut Value, Option<&Row>) -> Result<(), Fault>;

/// Looks at a row that is about to be deleted beside the others; its fault keeps the row.
pub type Farewell = fn(&Tables, &Row) -> Result<(), Fault>;

/// One kind of configuration object, as data.
///
/// Write it as `Entity { name: "services", …, ..Entity::EMPTY }`. The first field must be `id`.
#[derive(Clone, Copy, Debug)]
pub struct Entity {
    /// Its name, which is also its table's (`services`).
    pub name: &'static str,
    /// Its SQL table, where that differs (`sm_vaults`).
    pub table: Option<&'static str>,
    /// Its first path segment in the Admin API, where that differs (`key-auths`).
    pub admin_name: Option<&'static str>,
    /// Its path segment under a parent, where that differs (`key-auth`).
    pub admin_nested_name: Option<&'static str>,
    /// The unique field that stands for the id in Admin paths.
    pub endpoint_key: Option<&'static str>,
    /// The field that stands for the id in paths under a parent, where it is unique among that
    /// parent's rows alone; `cache_key` must be the pointer and this field.
    pub nested_key: Option<&'static str>,
    /// Fields that are unique together.
    pub cache_key: &'static [&'static str],
    /// Whether rows belong to a workspace.
    pub workspaced: bool,
    /// Whether rows may expire (`ttl` in input and output).
    pub ttl: bool,
    /// Whether Admin endpoints are made for it.
    pub admin: bool,
    /// Whether an export of the configuration has it.
    pub exported: bool,
    /// Its fields, in Kong's order.
    pub fields: &'static [Field],
    /// Rules across its fields.
    pub rules: &'static [Rule],
    /// Fields that may be null as far as the schema goes, and that the table does not take so: Kong
    /// answers as if the id were taken.
    pub not_null: &'static [&'static str],
    /// Names that stand for other fields.
    pub shorthands: &'static [Shorthand],
    /// Fields and rules that depend on the row (plugins by `name`, routes by `protocols`).
    pub variants: Variants,
    /// A look at the input beside other rows, before it is checked.
    pub guard: Option<Guard>,
    /// What is done to a valid row before it is stored.
    pub transforms: &'static [Transform],
    /// Children whose names stand in a list of the row itself (a certificate's `snis`).
    pub named_children: Option<NamedChildren>,
    /// A look at the other rows before one is deleted.
    pub farewell: Option<Farewell>,
}

impl Entity {
    /// The usual entity, without a name and fields.
    pub const EMPTY: Self = Self {
        name: "",
        table: None,
        admin_name: None,
        admin_nested_name: None,
        endpoint_key: None,
        nested_key: None,
        cache_key: &[],
        workspaced: true,
        ttl: false,
        admin: true,
        exported: true,
        fields: &[],
        rules: &[],
        not_null: &[],
        shorthands: &[],
        variants: Variants::None,
        guard: None,
        transforms: &[],
        named_children: None,
        farewell: None,
    };

    /// Its place among the entity's fields.
    pub fn position(&self, name: &str) -> Option<usize> {
        self.fields.iter().position(|field| field.name == name)
    }

    /// The field called `name`.
    pub fn field(&self, name: &str) -> Option<&'static Field> {
        self.fields.iter().find(|field| field.name == name)
    }

    /// First path segment of the Admin API.
    pub fn admin_name(&self) -> &'static str {
        self.admin_name.unwrap_or(self.name)
    }

    /// Path segment under a parent.
    pub fn admin_nested_name(&self) -> &'static str {
        self.admin_nested_name.or(self.admin_name).unwrap_or(self.name)
    }

    /// Its SQL table.
    pub fn table(&self) -> &'static str {
        self.table.unwrap_or(self.name)
    }

    /// Whether rows carry tags.
    pub fn has_tags(&self) -> bool {
        self.field("tags").is_some()
    }

    /// Whether `cache_key` says more than a unique field already does.
    pub fn has_composite_key(&self) -> bool {
        self.cache_key.len() > 1
    }

    /// Its fields, rules and shorthands as those of a record.
    pub const fn shape(&self) -> Shape {
        Shape { fields: self.fields, rules: self.rules, shorthands: self.shorthands }
    }
}

/// Children that a row lists by name: given with it, they are made and taken away with it; their
/// names stand for its id in Admin paths, and they go when it is deleted.
#[derive(Clone, Copy, Debug)]
pub struct NamedChildren {
    /// The transient list of names.
    pub list: &'static str,
    /// The children's entity.
    pub entity: &'static str,
    /// Their unique name.
    pub name: &'static str,
    /// Their pointer to the row.
    pub pointer: &'static str,
    /// The answer (404) to a path with a name that no child has.
    pub unknown: &'static str,
}

/// Entities are compared by name: there is one `static` of each.
impl PartialEq for Entity {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Entity {}

/// How fields depend on the row.
#[derive(Clone, Copy, Debug)]
pub enum Variants {
    /// They do not.
    None,
    /// By the first known value of a field.
    Of {
        /// The field (a string, or a set of strings).
        key: &'static str,
        /// The fault when no variant is known, with `%s` for the value.
        unknown: &'static str,
        /// The variants.
        list: &'static [Variant],
    },
    /// By the plugin's name: its [`super::PluginSchema`], if that is enabled.
    Plugins,
}

/// Fields that replace the entity's own, and rules beside its own.
#[derive(Clone, Copy, Debug)]
pub struct Variant {
    /// Values of the key that choose it.
    pub keys: &'static [&'static str],
    /// Fields that replace those of the same name.
    pub fields: &'static [Field],
    /// Rules that run after the entity's own.
    pub rules: &'static [Rule],
}

/// What is done to a valid row before it is stored (a password hashed, a digest made).
#[derive(Clone, Copy, Debug)]
pub struct Transform {
    /// Runs when these are given; all or none of them must be.
    pub input: &'static [&'static str],
    /// Fields of the row that it needs as well.
    pub needs: &'static [&'static str],
    /// Changes the row (a record in input form); its error is the answer (Kong's code 15).
    pub apply: fn(&mut Value, &mut Random<'_>) -> Result<(), String>,
}

/// Fills a buffer with bytes that nobody can guess.
pub type Random<'a> = dyn FnMut(&mut [u8]) + 'a;
