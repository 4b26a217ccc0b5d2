//! Kong's tables as facts, as statements, and as a database has them.
//!
//! `kong_3_10.txt` says what a database that Kong 3.10 migrated looks like. The bootstrap is made
//! of it, and [`of`] reads the same lines out of any database, so that the two can be compared.

use super::columns::quoted;
use super::link::Trouble;
use std::collections::{BTreeMap, BTreeSet};
use tokio_postgres::Client;
use tokio_postgres::types::{ToSql, Type};

/// The facts.
const FACTS: &str = include_str!("kong_3_10.txt");

/// One table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Shape {
    /// Names and definitions, in order.
    pub(super) columns: Vec<(String, String)>,
    /// Name and definition, as Postgres prints it.
    pub(super) constraints: BTreeMap<String, String>,
    /// The same, from the index's method on.
    pub(super) indexes: BTreeMap<String, String>,
    /// The same, with an arrow before the function.
    pub(super) triggers: BTreeMap<String, String>,
}

/// Tables by name.
pub(super) type Shapes = BTreeMap<String, Shape>;

/// The functions behind the triggers. Kong's triggers call them by these names.
pub(super) const FUNCTIONS: &str = r#"
CREATE OR REPLACE FUNCTION sync_tags() RETURNS trigger LANGUAGE plpgsql AS $body$
DECLARE
  wanted text[];
BEGIN
  IF TG_OP = 'DELETE' THEN
    DELETE FROM tags WHERE tags.entity_id = OLD.id;
    RETURN OLD;
  END IF;
  wanted := NEW.tags;
  IF TG_OP = 'UPDATE' AND wanted IS NOT DISTINCT FROM OLD.tags THEN
    RETURN NEW;
  END IF;
  IF COALESCE(array_length(wanted, 1), 0) = 0 THEN
    DELETE FROM tags WHERE tags.entity_id = NEW.id;
  ELSE
    INSERT INTO tags (entity_id, entity_name, tags)
      VALUES (NEW.id, TG_TABLE_NAME, wanted)
      ON CONFLICT (entity_id) DO UPDATE
      SET tags = EXCLUDED.tags, entity_name = EXCLUDED.entity_name;
  END IF;
  RETURN NEW;
END
$body$;
CREATE OR REPLACE FUNCTION batch_delete_expired_rows() RETURNS trigger LANGUAGE plpgsql AS $body$
BEGIN
  EXECUTE format(
    'DELETE FROM %1$I WHERE ctid IN (SELECT ctid FROM %1$I WHERE %2$I < $1 '
    'ORDER BY %2$I LIMIT 2 FOR UPDATE SKIP LOCKED)',
    TG_TABLE_NAME, TG_ARGV[0]) USING CURRENT_TIMESTAMP;
  RETURN NULL;
END
$body$;
"#;

/// Kong's tables.
pub(super) fn kongs() -> Shapes {
    let mut shapes = Shapes::new();
    let mut current = String::new();
    for line in FACTS.lines() {
        let mut words = line.splitn(3, ' ');
        let (Some(kind), Some(name)) = (words.next(), words.next()) else { continue };
        let rest = words.next().unwrap_or_default().to_owned();
        if kind == "table" {
            current = name.to_owned();
            shapes.insert(current.clone(), Shape::default());
        }
        let Some(shape) = shapes.get_mut(&current) else { continue };
        let name = name.to_owned();
        match kind {
            "column" => shape.columns.push((name, rest)),
            "constraint" => drop(shape.constraints.insert(name, rest)),
            "index" => drop(shape.indexes.insert(name, rest)),
            "trigger" => drop(shape.triggers.insert(name, rest)),
            _ => {}
        }
    }
    shapes
}

/// The migrations that Kong 3.10 has, by subsystem: core first, in order.
pub(super) fn migrations() -> Vec<(&'static str, Vec<&'static str>)> {
    let lines = FACTS.lines().filter_map(|line| line.strip_prefix("migrations "));
    lines
        .filter_map(|line| {
            let mut words = line.split(' ');
            words.next().map(|subsystem| (subsystem, words.collect()))
        })
        .collect()
}

/// The statements that make those tables that `wanted` names.
pub(super) fn statements(wanted: &BTreeSet<String>) -> Vec<String> {
    let shapes = kongs();
    let shapes: Vec<(&String, &Shape)> =
        shapes.iter().filter(|(name, _)| wanted.contains(*name)).collect();
    let (mut tables, mut keys, mut pointers, mut rest) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for (name, shape) in &shapes {
        let table = quoted(name);
        for (column, definition) in &shape.columns {
            if let Some(sequence) = sequence(definition) {
                tables.push(format!("CREATE SEQUENCE {sequence}"));
                rest.push(format!("ALTER SEQUENCE {sequence} OWNED BY {table}.{}", quoted(column)));
            }
        }
        let columns: Vec<String> =
            shape.columns.iter().map(|(name, kind)| format!("{} {kind}", quoted(name))).collect();
        tables.push(format!("CREATE TABLE {table} ({})", columns.join(", ")));
        for (name, definition) in &shape.constraints {
            let sql = format!("ALTER TABLE {table} ADD CONSTRAINT {} {definition}", quoted(name));
            if definition.starts_with("FOREIGN") { pointers.push(sql) } else { keys.push(sql) }
        }
        for (name, definition) in &shape.indexes {
            let (unique, definition) = match definition.strip_prefix("UNIQUE ") {
                Some(definition) => ("UNIQUE ", definition),
                None => ("", definition.as_str()),
            };
            let name = quoted(name);
            rest.push(format!("CREATE {unique}INDEX {name} ON {table} USING {definition}"));
        }
        for (name, definition) in &shape.triggers {
            let sql = definition
                .replace(" FOR EACH", &format!(" ON {table} FOR EACH"))
                .replace('→', "EXECUTE PROCEDURE");
            rest.push(format!("CREATE TRIGGER {} {sql}", quoted(name)));
        }
    }
    [tables, keys, pointers, rest].concat()
}

/// The sequence behind a column's default.
fn sequence(definition: &str) -> Option<&str> {
    definition.split_once("nextval('")?.1.split_once('\'').map(|(name, _)| name)
}

const COLUMNS_SQL: &str = "SELECT c.relname::text, a.attname::text, \
     replace(format_type(a.atttypid, a.atttypmod), 'timestamp with time zone', 'timestamptz') \
     || CASE WHEN a.attnotnull THEN ' not null' ELSE '' END \
     || COALESCE(' default ' || pg_get_expr(d.adbin, d.adrelid), '') \
     FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
     JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped \
     LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum \
     WHERE n.nspname = $1 AND c.relkind IN ('r', 'p') ORDER BY c.relname, a.attnum";
const CONSTRAINTS_SQL: &str = "SELECT c.relname::text, o.conname::text, \
     pg_get_constraintdef(o.oid) \
     FROM pg_constraint o JOIN pg_class c ON c.oid = o.conrelid \
     JOIN pg_namespace n ON n.oid = c.relnamespace \
     WHERE n.nspname = $1 AND o.contype IN ('p', 'u', 'f', 'c')";
const INDEXES_SQL: &str = "SELECT c.relname::text, i.relname::text, \
     CASE WHEN x.indisunique THEN 'UNIQUE ' ELSE '' END \
     || split_part(pg_get_indexdef(x.indexrelid), ' USING ', 2) \
     FROM pg_index x JOIN pg_class c ON c.oid = x.indrelid JOIN pg_class i ON i.oid = x.indexrelid \
     JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 \
     AND NOT EXISTS (SELECT 1 FROM pg_constraint o WHERE o.conindid = x.indexrelid \
     AND o.contype IN ('p', 'u'))";
const TRIGGERS_SQL: &str = "SELECT c.relname::text, t.tgname::text, pg_get_triggerdef(t.oid, true) \
     FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid \
     JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND NOT t.tgisinternal";

/// The tables of a schema. The search path must be that schema.
///
/// # Errors
/// The database's.
pub(super) async fn of(client: &Client, schema: &str) -> Result<Shapes, Trouble> {
    let mut shapes = Shapes::new();
    let given: [(&(dyn ToSql + Sync), Type); 1] = [(&schema, Type::TEXT)];
    for (kind, sql) in [COLUMNS_SQL, CONSTRAINTS_SQL, INDEXES_SQL, TRIGGERS_SQL].iter().enumerate()
    {
        for row in client.query_typed(sql, &given).await? {
            let (table, name): (String, String) = (row.try_get(0)?, row.try_get(1)?);
            let definition: String = row.try_get(2)?;
            let shape = shapes.entry(table.clone()).or_default();
            match kind {
                0 => shape.columns.push((name, definition)),
                1 => drop(shape.constraints.insert(name, definition)),
                2 => drop(shape.indexes.insert(name, definition)),
                _ => {
                    let words = trigger(&definition, &name, &table);
                    drop(shape.triggers.insert(name, words));
                }
            }
        }
    }
    Ok(shapes)
}

/// What a trigger does, without its name and table.
fn trigger(definition: &str, name: &str, table: &str) -> String {
    let name = if definition.contains(&quoted(name)) { quoted(name) } else { name.to_owned() };
    let start = format!("CREATE TRIGGER {name} ");
    let table_name = definition.split(" ON ").nth(1).and_then(|rest| rest.split(' ').next());
    definition
        .replacen(&start, "", 1)
        .replacen(&format!(" ON {}", table_name.unwrap_or(table)), "", 1)
        .replacen("EXECUTE FUNCTION ", "→ ", 1)
        .replacen("EXECUTE PROCEDURE ", "→ ", 1)
}

/// What `found` has otherwise than Kong, one sentence each; tables that Kong does not know are
/// left out.
pub(super) fn differences(found: &Shapes) -> Vec<String> {
    let mut words = Vec::new();
    for (name, kong) in kongs() {
        let Some(found) = found.get(&name) else {
            words.push(format!("table {name} is missing"));
            continue;
        };
        let columns = |shape: &Shape| shape.columns.iter().cloned().collect::<BTreeMap<_, _>>();
        compare(&name, "column", &columns(&kong), &columns(found), &mut words);
        compare(&name, "constraint", &kong.constraints, &found.constraints, &mut words);
        compare(&name, "index", &kong.indexes, &found.indexes, &mut words);
        compare(&name, "trigger", &kong.triggers, &found.triggers, &mut words);
    }
    words
}

fn compare(
    table: &str,
    kind: &str,
    kong: &BTreeMap<String, String>,
    found: &BTreeMap<String, String>,
    words: &mut Vec<String>,
) {
    for (name, definition) in kong {
        match found.get(name) {
            None => words.push(format!("{table}: {kind} {name} is missing")),
            Some(other) if other != definition => {
                words.push(format!("{table}: {kind} {name} is {other}, not {definition}"));
            }
            Some(_) => {}
        }
    }
    for name in found.keys().filter(|name| !kong.contains_key(*name)) {
        words.push(format!("{table}: {kind} {name} is not Kong's"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_facts_are_read() {
        let shapes = kongs();
        assert_eq!(shapes.len(), 35);
        let routes = &shapes["routes"];
        assert_eq!(routes.columns[0], ("id".to_owned(), "uuid not null".to_owned()));
        assert_eq!(routes.constraints.len(), 5);
        assert_eq!(migrations().len(), 18);
        assert_eq!(migrations()[0].1.last(), Some(&"025_390_to_3100"));
        let sql = statements(&BTreeSet::from(["clustering_sync_version".to_owned()]));
        assert_eq!(sql[0], "CREATE SEQUENCE clustering_sync_version_version_seq");
    }
}
