//! A table, for people and for programs.

use std::{fs, path::Path};

use serde_json::{Value, json};

/// One line.
pub struct Row<const N: usize> {
    /// What was measured.
    pub case: String,
    /// The unit of the numbers.
    pub unit: &'static str,
    /// What the first column is wanted to be.
    pub wanted: Wanted,
    /// The number of each column; none is "never", or not measured.
    pub values: [Option<f64>; N],
}

/// What a number should be.
#[derive(Clone, Copy)]
pub enum Wanted {
    /// No more than that.
    AtMost(f64),
    /// No less than that.
    AtLeast(f64),
    /// Exactly that.
    Exactly(f64),
    /// Told for information.
    Told,
}

impl<const N: usize> Row<N> {
    /// Whether the first column is what is wanted; none where nothing is.
    fn passes(&self) -> Option<bool> {
        let value = self.values.first().copied().flatten();
        // What was not measured is not as wanted.
        let value = value.unwrap_or(f64::NAN);
        match self.wanted {
            Wanted::AtMost(most) => Some(value <= most),
            Wanted::AtLeast(least) => Some(value >= least),
            Wanted::Exactly(wanted) => Some(value == wanted),
            Wanted::Told => None,
        }
    }

    fn wanted(&self) -> String {
        match self.wanted {
            Wanted::AtMost(most) => format!("<= {most}"),
            Wanted::AtLeast(least) => format!(">= {least}"),
            Wanted::Exactly(wanted) => format!("= {wanted}"),
            Wanted::Told => String::new(),
        }
    }

    fn print(&self) {
        let values: String = self
            .values
            .iter()
            .map(|value| match value {
                None => format!("{:>9}", "-"),
                Some(value) if *value >= 100.0 => format!("{value:>9.0}"),
                Some(value) => format!("{value:>9.2}"),
            })
            .collect();
        let mark = match self.passes() {
            Some(true) => "ok",
            Some(false) => "MISSED",
            None => "",
        };
        println!(
            "{:<50} {:<9} {:>8}{values}  {mark}",
            self.case,
            self.unit,
            self.wanted()
        );
    }

    fn json(&self, columns: &[&str; N]) -> Value {
        let values: serde_json::Map<String, Value> = columns
            .iter()
            .zip(self.values)
            .map(|(name, value)| ((*name).to_owned(), json!(value)))
            .collect();
        json!({
            "case": self.case,
            "unit": self.unit,
            "wanted": self.wanted(),
            "pass": self.passes(),
            "values": values,
        })
    }
}

/// The rows of a benchmark, printed as they come.
pub struct Table<const N: usize> {
    bench: &'static str,
    columns: [&'static str; N],
    rows: Vec<Row<N>>,
}

impl<const N: usize> Table<N> {
    /// Prints the head.
    pub fn begin(bench: &'static str, columns: [&'static str; N]) -> Self {
        let names: String = columns.iter().map(|name| format!("{name:>9}")).collect();
        println!("{:<50} {:<9} {:>8}{names}", "case", "unit", "wanted");
        Self {
            bench,
            columns,
            rows: Vec::new(),
        }
    }

    /// Prints a row and keeps it.
    pub fn add(&mut self, row: Row<N>) {
        row.print();
        self.rows.push(row);
    }

    /// Whether a row is not as wanted.
    pub fn missed(&self) -> bool {
        self.rows.iter().any(|row| row.passes() == Some(false))
    }

    /// How many of the rows are as wanted.
    pub fn verdict(&self) -> String {
        let judged = self.rows.iter().filter_map(Row::passes);
        let passed = judged.clone().filter(|passes| *passes).count();
        format!(
            "{passed} of {} rows as wanted. \"-\": never, or not measured.",
            judged.count()
        )
    }

    /// Writes all rows as JSON.
    pub fn write(&self, file: &Path, quick: bool) -> Result<(), String> {
        fs::write(file, self.document(quick))
            .map_err(|error| format!("{}: {error}", file.display()))
    }

    fn document(&self, quick: bool) -> String {
        let rows = self.rows.iter().map(|row| row.json(&self.columns));
        let document = json!({
            "bench": self.bench,
            "version": tidegate::build_info::VERSION,
            "commit": tidegate::build_info::COMMIT,
            "quick": quick,
            "rows": rows.collect::<Vec<_>>(),
        });
        format!("{document:#}\n")
    }
}
