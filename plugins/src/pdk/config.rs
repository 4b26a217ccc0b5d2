//! A checked configuration, read by field name in `prepare`.

use store::value::{Row, Value};

/// The `config` of one row, after `check`: every field has its kind, and its default if it has one.
#[derive(Clone, Copy)]
pub struct Config<'a> {
    row: &'a Row,
}

impl<'a> Config<'a> {
    /// The configuration of a row of `plugins`.
    pub fn of(row: &'a Row) -> Self {
        Self { row }
    }

    /// The row itself, for plugins that report under its id.
    pub fn row(&self) -> &'a Row {
        self.row
    }

    /// The whole record.
    pub fn record(&self) -> &'a Value {
        self.row.get("config")
    }

    /// A field's value; null if there is no such field.
    pub fn get(&self, field: &str) -> &'a Value {
        static NULL: Value = Value::Null;
        self.record().lookup(field).unwrap_or(&NULL)
    }

    /// A text, if it is set.
    pub fn text(&self, field: &str) -> Option<&'a str> {
        self.get(field).as_text()
    }

    /// A boolean; false if it is not set.
    pub fn flag(&self, field: &str) -> bool {
        self.get(field).as_flag().unwrap_or(false)
    }

    /// A whole number, if it is set.
    pub fn integer(&self, field: &str) -> Option<i64> {
        self.get(field).as_integer()
    }

    /// A number, if it is set.
    pub fn number(&self, field: &str) -> Option<f64> {
        self.get(field).as_number()
    }

    /// The texts of a list; none if it is not set.
    pub fn texts(&self, field: &str) -> Vec<String> {
        self.get(field).texts().map(str::to_owned).collect()
    }
}
