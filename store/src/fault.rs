//! What can be wrong with a request to change or read the configuration, in Kong's words.
//!
//! Clients match on code, name and message, so they are Kong's to the letter.
//! Source: Kong `kong/db/errors.lua`; Penlight `pl/pretty.lua`.

mod pretty;

pub use pretty::{compact, spread};
use serde_json::{Map, Value, json};

/// The class of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Code 1: something stands where an id must be.
    InvalidPrimaryKey,
    /// Code 2: values that the schema does not allow.
    SchemaViolation,
    /// Code 3: the id is taken.
    PrimaryKeyViolation,
    /// Code 4: a reference to nothing, or to what must not go yet.
    ForeignKeyViolation,
    /// Code 5: the value of a unique field is taken.
    UniqueViolation,
    /// Code 6: the entity to change is not there.
    NotFound,
    /// Code 7: a page that does not exist.
    InvalidOffset,
    /// Code 8: the store failed; clients see only that something did.
    DatabaseError,
    /// Code 9: a page size out of bounds.
    InvalidSize,
    /// Code 10: a name in the path that no entity can have.
    InvalidUnique,
    /// Code 11: a filter that cannot be read.
    InvalidOptions,
    /// Code 12: this store cannot do that.
    OperationUnsupported,
    /// Code 13: a reference by name to nothing.
    ForeignKeysUnresolved,
    /// Code 14: a declarative configuration with faults.
    DeclarativeConfig,
    /// Code 19: a CA certificate that is still in use.
    ReferencedByOthers,
}

impl Kind {
    /// Code, name (where it is fixed) and HTTP status.
    const fn row(self) -> (u16, &'static str, u16) {
        match self {
            Self::InvalidPrimaryKey => (1, "invalid primary key", 400),
            Self::SchemaViolation => (2, "schema violation", 400),
            Self::PrimaryKeyViolation => (3, "primary key violation", 400),
            Self::ForeignKeyViolation => (4, "foreign key violation", 400),
            Self::UniqueViolation => (5, "unique constraint violation", 409),
            Self::NotFound => (6, "not found", 404),
            Self::InvalidOffset => (7, "invalid offset", 400),
            Self::DatabaseError => (8, "database error", 500),
            Self::InvalidSize => (9, "invalid size", 400),
            Self::InvalidUnique => (10, "invalid unique", 400),
            Self::InvalidOptions => (11, "invalid options", 400),
            Self::OperationUnsupported => (12, "operation unsupported", 405),
            Self::ForeignKeysUnresolved => (13, "foreign keys unresolved", 400),
            Self::DeclarativeConfig => (14, "invalid declarative configuration", 400),
            Self::ReferencedByOthers => (19, "referenced by others", 400),
        }
    }

    /// The number that clients know the class by.
    #[must_use]
    pub const fn code(self) -> u16 {
        self.row().0
    }

    /// The HTTP status of the answer.
    #[must_use]
    pub const fn status(self) -> u16 {
        self.row().2
    }
}

/// One refusal: all that is wrong with one request.
#[derive(Clone, Debug, PartialEq)]
pub struct Fault {
    /// The class.
    pub kind: Kind,
    /// One sentence with all faults.
    pub message: String,
    /// The faults by field; `@entity` holds those of the whole. Null where there are none to name.
    pub fields: Box<Value>,
    /// The unique field, of [`Kind::InvalidUnique`] only.
    pub unique: Option<&'static str>,
}

impl Fault {
    /// A fault that names no fields.
    #[must_use]
    pub fn plain(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), fields: Box::new(Value::Null), unique: None }
    }

    /// A fault of these fields.
    #[must_use]
    pub fn of(kind: Kind, message: impl Into<String>, fields: Value) -> Self {
        Self { fields: Box::new(fields), ..Self::plain(kind, message) }
    }

    /// Code 1; `fields` are the faults of the key's fields.
    #[must_use]
    pub fn invalid_primary_key(fields: Value) -> Self {
        let message = format!("invalid primary key: '{}'", compact(&fields));
        Self::of(Kind::InvalidPrimaryKey, message, fields)
    }

    /// Code 2 with every fault of `fields` told in the message: those of the entity first, then
    /// field by field in the order of their names.
    #[must_use]
    pub fn schema_violation(fields: Map<String, Value>) -> Self {
        let told = told(&fields);
        let message = match told.len() {
            1 => format!("schema violation ({})", told.join("; ")),
            number => format!("{number} schema violations ({})", told.join("; ")),
        };
        Self::of(Kind::SchemaViolation, message, Value::Object(fields))
    }

    /// Code 3; `key` is the primary key that is taken.
    #[must_use]
    pub fn primary_key_violation(key: Value) -> Self {
        let message = format!("primary key violation on key '{}'", compact(&key));
        Self::of(Kind::PrimaryKeyViolation, message, key)
    }

    /// Code 4: the field `name` refers to `key` of `entity`, which is not there.
    #[must_use]
    pub fn dangling(name: &str, key: &Value, entity: &str) -> Self {
        let key_text = compact(key);
        let message = format!(
            "the foreign key '{key_text}' does not reference an existing '{entity}' entity."
        );
        Self::of(Kind::ForeignKeyViolation, message, json!({ name: key }))
    }

    /// Code 4: `entity` cannot go while some `by` refers to it.
    #[must_use]
    pub fn referenced(by: &str, entity: &str) -> Self {
        let message = format!("an existing '{by}' entity references this '{entity}' entity");
        Self::of(Kind::ForeignKeyViolation, message, json!({ "@referenced_by": by }))
    }

    /// Code 5; `values` are the unique values that are taken.
    #[must_use]
    pub fn unique_violation(values: Value) -> Self {
        let message = format!("UNIQUE violation detected on '{}'", compact(&values));
        Self::of(Kind::UniqueViolation, message, values)
    }

    /// Code 6 of an entity looked up by its id.
    #[must_use]
    pub fn not_found(key: Value) -> Self {
        let message = format!("could not find the entity with primary key '{}'", compact(&key));
        Self::of(Kind::NotFound, message, key)
    }

    /// Code 6 of an entity looked up by a unique field.
    #[must_use]
    pub fn not_found_by(name: &str, value: &str) -> Self {
        let key = json!({ name: value });
        let message = format!("could not find the entity with '{}'", compact(&key));
        Self::of(Kind::NotFound, message, key)
    }

    /// Code 10: `value` in a path cannot be the unique field `name`; `why` is the field's fault.
    #[must_use]
    pub fn invalid_unique(name: &'static str, why: &str) -> Self {
        Self { unique: Some(name), ..Self::plain(Kind::InvalidUnique, why) }
    }

    /// Code 11 of one option.
    #[must_use]
    pub fn invalid_option(name: &str, why: &str) -> Self {
        let message = format!("invalid option ({name}: {why})");
        Self::of(Kind::InvalidOptions, message, json!({ name: why }))
    }

    /// Code 13: the field `name` refers to the `entity` whose `unique` is `value`, and there is
    /// none.
    #[must_use]
    pub fn unresolved(name: &str, unique: &str, value: &Value, entity: &str) -> Self {
        let key = compact(&json!({ unique: value }));
        let why = format!(
            "the foreign key cannot be resolved with '{key}' for an existing '{entity}' entity"
        );
        let message = format!("foreign key unresolved ({name}.{unique}: {why})");
        Self::of(Kind::ForeignKeysUnresolved, message, json!({ name: { unique: why } }))
    }

    /// Code 8. The cause goes to the log.
    #[must_use]
    pub fn database() -> Self {
        Self::plain(Kind::DatabaseError, "An unexpected error occurred")
    }

    /// The object that clients get.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let (code, name, _) = self.kind.row();
        if self.kind == Kind::DatabaseError {
            return json!({ "message": self.message });
        }
        let name = match &self.unique {
            Some(field) => format!("{name} {field}"),
            None => name.to_owned(),
        };
        let mut body = Map::new();
        if !self.fields.is_null() {
            let what = if self.kind == Kind::InvalidOptions { "options" } else { "fields" };
            body.insert(what.to_owned(), (*self.fields).clone());
        }
        body.insert("name".to_owned(), name.into());
        body.insert("message".to_owned(), self.message.clone().into());
        body.insert("code".to_owned(), code.into());
        Value::Object(body)
    }
}

/// Every fault as its own words; two levels have a name, deeper ones are printed as a table.
fn told(fields: &Map<String, Value>) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    if let Some(Value::Array(whole)) = fields.get("@entity") {
        all.extend(whole.iter().map(plain));
    }
    let mut names: Vec<_> = fields.keys().filter(|name| *name != "@entity").collect();
    names.sort_unstable();
    for name in names {
        match fields.get(name) {
            Some(Value::Object(inner)) => {
                let mut keys: Vec<_> = inner.iter().collect();
                keys.sort_unstable_by_key(|(key, _)| *key);
                all.extend(
                    keys.iter().map(|(key, fault)| format!("{name}.{key}: {}", plain(fault))),
                );
            }
            Some(Value::Array(items)) => {
                let faults = items.iter().enumerate().filter(|(_, fault)| !fault.is_null());
                all.extend(
                    faults.map(|(at, fault)| format!("{name}.{}: {}", at + 1, plain(fault))),
                );
            }
            Some(fault) => all.push(format!("{name}: {}", plain(fault))),
            None => {}
        }
    }
    all
}

/// A text as it is, anything else as a table over several lines.
fn plain(fault: &Value) -> String {
    fault.as_str().map_or_else(|| spread(fault), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    #[allow(clippy::needless_pass_by_value, reason = "so that calls read as a table")]
    fn check(fault: Fault, status: u16, expected: Value) {
        assert_eq!(fault.to_json(), expected);
        assert_eq!(fault.kind.status(), status);
    }

    fn violation(fields: Value) -> Fault {
        match fields {
            Value::Object(fields) => Fault::schema_violation(fields),
            _ => panic!("faults have names"),
        }
    }

    /// Source: `recorded/admin.jsonl` and the golden answers.
    #[test]
    fn faults_speak_as_recorded() {
        let fields = json!({"host": "required field missing"});
        check(
            violation(fields.clone()),
            400,
            json!({"code": 2, "name": "schema violation", "fields": fields,
                "message": "schema violation (host: required field missing)"}),
        );
        check(
            Fault::unique_violation(json!({"name": "dup"})),
            409,
            json!({"code": 5, "name": "unique constraint violation", "fields": {"name": "dup"},
                "message": "UNIQUE violation detected on '{name=\"dup\"}'"}),
        );
        check(
            Fault::dangling("service", &json!({"id": "2b"}), "services"),
            400,
            json!({"code": 4, "name": "foreign key violation", "fields": {"service": {"id": "2b"}},
                "message": "the foreign key '{id=\"2b\"}' does not reference an existing 'services' entity."}),
        );
        check(
            Fault::referenced("routes", "services"),
            400,
            json!({"code": 4, "name": "foreign key violation", "fields": {"@referenced_by": "routes"},
                "message": "an existing 'routes' entity references this 'services' entity"}),
        );
        check(
            Fault::not_found_by("name", "none"),
            404,
            json!({"code": 6, "name": "not found", "fields": {"name": "none"},
                "message": "could not find the entity with '{name=\"none\"}'"}),
        );
        let why = "the foreign key cannot be resolved with '{name=\"ghost\"}' for an existing 'services' entity";
        check(
            Fault::unresolved("service", "name", &json!("ghost"), "services"),
            400,
            json!({"code": 13, "name": "foreign keys unresolved", "fields": {"service": {"name": why}},
                "message": format!("foreign key unresolved (service.name: {why})")}),
        );
        check(
            Fault::invalid_option("tags", "invalid filter syntax"),
            400,
            json!({"code": 11, "name": "invalid options", "options": {"tags": "invalid filter syntax"},
                "message": "invalid option (tags: invalid filter syntax)"}),
        );
        check(
            Fault::invalid_unique("name", "invalid value ' '"),
            400,
            json!({"code": 10, "name": "invalid unique name", "message": "invalid value ' '"}),
        );
        check(Fault::database(), 500, json!({"message": "An unexpected error occurred"}));
    }

    #[track_caller]
    #[allow(clippy::needless_pass_by_value, reason = "so that calls read as a table")]
    fn says(fields: Value, expected: &str) {
        assert_eq!(violation(fields).message, expected);
    }

    #[test]
    fn violations_are_told_in_kongs_order() {
        says(
            json!({"tls": "b", "@entity": ["x", "y"], "host": "a"}),
            "4 schema violations (x; y; host: a; tls: b)",
        );
        says(json!({"paths": [null, "bad"]}), "schema violation (paths.2: bad)");
        says(
            json!({"config": {"b": "2", "a": {"x": "1"}}}),
            "2 schema violations (config.a: {\n  x = \"1\"\n}; config.b: 2)",
        );
        says(
            json!({"config": {"key_names": ["bad header name 'a b'"]}}),
            "schema violation (config.key_names: {\n  \"bad header name 'a b'\"\n})",
        );
        says(
            json!({"destinations": [{"ip": "invalid ip or cidr range: 'x'"}]}),
            "schema violation (destinations.1: {\n  ip = \"invalid ip or cidr range: 'x'\"\n})",
        );
    }
}
