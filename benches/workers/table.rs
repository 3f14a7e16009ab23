//! The rows, for people and for programs.

use serde_json::{Map, Value, json};

/// What is measured, and its head in the table.
const COLUMNS: [(&str, &str); 6] = [
    ("excess_percent", "excess %"),
    ("shared_per_arrival", "shared"),
    ("lost_percent", "lost %"),
    ("refused", "refused"),
    ("peak", "peak"),
    ("open", "open"),
];

/// What a number should be.
#[derive(Clone, Copy)]
enum Bar {
    AtMost(f64),
    AtLeast(f64),
}

/// One line of the table.
pub struct Row {
    case: String,
    numbers: Vec<(&'static str, f64)>,
    wanted: Vec<(&'static str, Bar)>,
}

impl Row {
    /// One without numbers.
    pub fn new(case: String) -> Self {
        Self {
            case,
            numbers: Vec::new(),
            wanted: Vec::new(),
        }
    }

    /// With one number more.
    pub fn number(mut self, column: &'static str, number: f64) -> Self {
        self.numbers.push((column, number));
        self
    }

    /// It should be no more than that.
    pub fn at_most(mut self, column: &'static str, most: f64) -> Self {
        self.wanted.push((column, Bar::AtMost(most)));
        self
    }

    /// It should be no less than that.
    pub fn at_least(mut self, column: &'static str, least: f64) -> Self {
        self.wanted.push((column, Bar::AtLeast(least)));
        self
    }

    fn of(&self, column: &str) -> Option<f64> {
        let mut numbers = self.numbers.iter();
        let number = numbers.find(|(known, _)| *known == column);
        number.map(|(_, number)| *number)
    }

    fn passes(&self, column: &str, bar: Bar) -> bool {
        self.of(column).is_some_and(|number| match bar {
            Bar::AtMost(most) => number <= most,
            Bar::AtLeast(least) => number >= least,
        })
    }

    /// Of each number that is wanted, whether it is so.
    pub fn verdicts(&self) -> Vec<bool> {
        let wanted = self.wanted.iter();
        wanted
            .map(|(column, bar)| self.passes(column, *bar))
            .collect()
    }

    /// Prints it.
    pub fn print(&self) {
        let columns = COLUMNS.map(|(column, _)| {
            let mut wanted = self.wanted.iter();
            let missed = wanted.any(|(of, bar)| *of == column && !self.passes(column, *bar));
            let mark = if missed { "*" } else { " " };
            match self.of(column) {
                None => format!("{:>10} ", "-"),
                Some(number) if number >= 100.0 => format!("{number:>10.0}{mark}"),
                Some(number) => format!("{number:>10.3}{mark}"),
            }
        });
        println!("{:<70}{}", self.case, columns.concat());
    }

    fn json(&self) -> Value {
        let numbers: Map<String, Value> = self
            .numbers
            .iter()
            .map(|(column, number)| ((*column).to_owned(), json!(number)))
            .collect();
        let wanted = self.wanted.iter().map(|(column, bar)| {
            let text = match bar {
                Bar::AtMost(most) => format!("<= {most}"),
                Bar::AtLeast(least) => format!(">= {least}"),
            };
            json!({"of": column, "wanted": text, "pass": self.passes(column, *bar)})
        });
        json!({
            "case": self.case,
            "numbers": numbers,
            "wanted": wanted.collect::<Vec<_>>(),
        })
    }
}

/// Prints the head of the table.
pub fn head() {
    let heads = COLUMNS.map(|(_, head)| format!("{head:>10} "));
    println!("{:<70}{}", "case", heads.concat());
}

/// All rows as JSON.
pub fn document(rows: &[Row], quick: bool) -> String {
    let document = json!({
        "bench": "workers",
        "version": tidegate::build_info::VERSION,
        "commit": tidegate::build_info::COMMIT,
        "quick": quick,
        "rows": rows.iter().map(Row::json).collect::<Vec<_>>(),
    });
    format!("{document:#}\n")
}
