//! The rows, for people and for programs.

use serde_json::{Value, json};

/// A part of the table: rows with the same columns.
pub struct Section {
    /// Its name for programs, and in `--only`.
    pub slug: &'static str,
    /// What was done.
    pub title: String,
    /// What a row is, in one word.
    pub of: &'static str,
    pub columns: &'static [Column],
}

/// A column.
pub struct Column {
    /// Its name for programs.
    pub key: &'static str,
    /// Its name for people.
    pub head: &'static str,
    pub digits: usize,
}

impl Column {
    pub const fn new(key: &'static str, head: &'static str, digits: usize) -> Self {
        Self { key, head, digits }
    }
}

/// A line of a section.
pub struct Row {
    pub slug: &'static str,
    pub name: String,
    pub result: Result<Measured, Unmeasured>,
}

/// Why there are no numbers.
pub enum Unmeasured {
    /// It can't run here or with this module.
    Impossible(String),
    /// It should have run.
    Failed(String),
}

/// The numbers of a row.
#[derive(Default)]
pub struct Measured {
    /// One for each column; none, or not a number, is "never" or "not measured".
    pub values: Vec<Option<f64>>,
    pub wanted: Vec<Wanted>,
    /// Normal clients served in each second, from shortly before the surge on.
    pub served_by_second: Vec<u32>,
    /// What the guard says of itself, or what else there is to know.
    pub told: Value,
}

/// A number that should be so.
pub struct Wanted {
    pub what: &'static str,
    pub value: Option<f64>,
    pub bar: Bar,
}

/// How a number should be.
#[derive(Clone, Copy, Debug)]
pub enum Bar {
    AtMost(f64),
    AtLeast(f64),
}

impl Wanted {
    /// Whether it is.
    pub fn passes(&self) -> bool {
        self.value.is_some_and(|value| match self.bar {
            Bar::AtMost(most) => value <= most,
            Bar::AtLeast(least) => value >= least,
        })
    }

    fn bar(&self) -> String {
        match self.bar {
            Bar::AtMost(most) => format!("<= {most}"),
            Bar::AtLeast(least) => format!(">= {least}"),
        }
    }
}

const NAME_WIDTH: usize = 37;
const WIDTH: usize = 12;

impl Section {
    /// Prints its head.
    pub fn print(&self) {
        println!("\n{}", self.title);
        let heads: String = self
            .columns
            .iter()
            .map(|column| format!("{:>WIDTH$}", column.head))
            .collect();
        println!("{:<NAME_WIDTH$}{heads}", self.of);
    }

    /// Prints a row, and what is wanted of it.
    pub fn print_row(&self, row: &Row) {
        let measured = match &row.result {
            Ok(measured) => measured,
            Err(Unmeasured::Impossible(why)) => {
                return println!("{:<NAME_WIDTH$}  not measured: {why}", row.name);
            }
            Err(Unmeasured::Failed(why)) => {
                return println!("{:<NAME_WIDTH$}  FAILED: {why}", row.name);
            }
        };
        let values: String = measured
            .values
            .iter()
            .zip(self.columns)
            .map(|(value, column)| format!("{:>WIDTH$}", shown(*value, column.digits)))
            .collect();
        println!("{:<NAME_WIDTH$}{values}", row.name);
        for wanted in &measured.wanted {
            println!(
                "  {:<35}{:>WIDTH$}  wanted {:<9} {}",
                wanted.what,
                shown(wanted.value, 2),
                wanted.bar(),
                if wanted.passes() { "ok" } else { "MISSED" }
            );
        }
    }

    /// The section with its rows.
    pub fn json(&self, rows: &[Row]) -> Value {
        json!({
            "section": self.slug,
            "title": self.title,
            "rows": rows.iter().map(|row| self.row_json(row)).collect::<Vec<_>>(),
        })
    }

    fn row_json(&self, row: &Row) -> Value {
        let head = json!({"row": row.slug, "name": row.name});
        let rest = match &row.result {
            Err(Unmeasured::Impossible(why)) => json!({"not_measured": why}),
            Err(Unmeasured::Failed(why)) => json!({"failed": why}),
            Ok(measured) => {
                let columns = self.columns.iter().map(|column| column.key.to_owned());
                let values = measured.values.iter().map(|value| json!(value));
                let values: serde_json::Map<String, Value> = columns.zip(values).collect();
                let wanted: Vec<Value> = measured.wanted.iter().map(Wanted::json).collect();
                json!({
                    "values": values,
                    "wanted": wanted,
                    "served_by_second": measured.served_by_second,
                    "told": measured.told,
                })
            }
        };
        joined(head, rest)
    }
}

impl Wanted {
    fn json(&self) -> Value {
        json!({
            "what": self.what,
            "value": self.value,
            "wanted": self.bar(),
            "pass": self.passes(),
        })
    }
}

/// One object of two.
fn joined(mut first: Value, second: Value) -> Value {
    if let (Value::Object(first), Value::Object(second)) = (&mut first, second) {
        first.extend(second);
    }
    first
}

fn shown(value: Option<f64>, digits: usize) -> String {
    match value {
        Some(value) if value.is_finite() => format!("{value:.digits$}"),
        _ => "-".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_measured_is_never_as_wanted() {
        let passes = |value, bar| {
            Wanted {
                what: "it",
                value,
                bar,
            }
            .passes()
        };
        assert!(passes(Some(100.0), Bar::AtMost(100.0)));
        assert!(!passes(Some(101.0), Bar::AtMost(100.0)));
        assert!(passes(Some(19.5), Bar::AtLeast(19.5)));
        assert!(!passes(Some(f64::NAN), Bar::AtLeast(0.0)));
        assert!(!passes(Some(f64::NAN), Bar::AtMost(0.0)));
        assert!(!passes(None, Bar::AtMost(1.0)));
    }

    #[test]
    fn a_row_names_its_values_by_their_columns() {
        const COLUMNS: &[Column] = &[Column::new("peak", "peak", 0), Column::new("ok", "ok %", 1)];
        let section = Section {
            slug: "tcp",
            title: "A surge".to_owned(),
            of: "guard",
            columns: COLUMNS,
        };
        let measured = Measured {
            values: vec![Some(100.0), None],
            ..Measured::default()
        };
        let rows = [Row {
            slug: "none",
            name: "nothing".to_owned(),
            result: Ok(measured),
        }];
        let json = section.json(&rows);
        let row = &json["rows"][0];
        assert_eq!(row["row"], "none");
        assert_eq!(row["values"], json!({"peak": 100.0, "ok": null}));
    }
}
