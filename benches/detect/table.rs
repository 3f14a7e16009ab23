//! The rows, for people and for programs.

use serde_json::{Value, json};

use crate::rivals::NAMES;

/// One line of the table.
pub struct Row {
    /// What was measured.
    pub case: String,
    /// The unit of the numbers.
    pub unit: &'static str,
    /// What the first column is wanted to be.
    pub wanted: Wanted,
    /// The number of each rule; none is "never".
    pub values: [Option<f64>; NAMES.len()],
}

/// What a number should be.
pub enum Wanted {
    /// No more than that.
    AtMost(f64),
    /// Exactly that.
    Exactly(f64),
    /// Told for information.
    Told,
}

impl Row {
    /// Whether the first column is what is wanted; none where nothing is.
    pub fn passes(&self) -> Option<bool> {
        let value = self.values[0].unwrap_or(f64::INFINITY);
        match self.wanted {
            Wanted::AtMost(most) => Some(value <= most),
            Wanted::Exactly(wanted) => Some(value == wanted),
            Wanted::Told => None,
        }
    }

    fn wanted(&self) -> String {
        match self.wanted {
            Wanted::AtMost(most) => format!("<= {most}"),
            Wanted::Exactly(wanted) => format!("= {wanted}"),
            Wanted::Told => String::new(),
        }
    }

    /// Prints it.
    pub fn print(&self) {
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

    fn json(&self) -> Value {
        let values: serde_json::Map<String, Value> = NAMES
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

/// Prints the head of the table.
pub fn head() {
    let names: String = NAMES.iter().map(|name| format!("{name:>9}")).collect();
    println!("{:<50} {:<9} {:>8}{names}", "case", "unit", "wanted");
}

/// All rows as JSON.
pub fn document(rows: &[Row], quick: bool) -> String {
    let document = json!({
        "bench": "detect",
        "version": tidegate::build_info::VERSION,
        "commit": tidegate::build_info::COMMIT,
        "quick": quick,
        "rows": rows.iter().map(Row::json).collect::<Vec<_>>(),
    });
    format!("{document:#}\n")
}
