//! What is seen while it happens: one line a second.

use std::{env, io::IsTerminal};

/// A part of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The normal clients alone.
    Calm,
    /// The normal clients and the surge.
    Surge,
    /// The normal clients alone again.
    After,
}

/// One second of a run.
#[derive(Clone, Debug)]
pub struct Second {
    /// In which part of the run.
    pub phase: Phase,
    /// Attempts through Envoy that began.
    pub offered: u64,
    /// Those that went on to the database.
    pub admitted: u64,
    /// Those that had to wait; none without the plugin.
    pub held: Option<u64>,
    /// Those that were refused, by whomever.
    pub refused: u64,
    /// The connections at PostgreSQL at the end of this second.
    pub database: u32,
    /// The normal clients' transactions that were done.
    pub normal_done: usize,
    /// The normal clients' transactions that were done or had failed.
    pub normal_ended: usize,
}

/// The colours of a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colour {
    /// A heading.
    Bold,
    /// As it should be.
    Green,
    /// Worth a look.
    Yellow,
    /// Bad.
    Red,
}

/// Writes with colours, or without.
#[derive(Clone, Copy)]
pub struct Paint(bool);

impl Paint {
    /// With colours when stdout is a terminal and `NO_COLOR` is not set.
    pub fn from_env() -> Self {
        let plain = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self(!plain && std::io::stdout().is_terminal())
    }

    /// Without colours.
    #[cfg(test)]
    pub fn plain() -> Self {
        Self(false)
    }

    /// The text in that colour.
    pub fn paint(self, colour: Colour, text: &str) -> String {
        if !self.0 {
            return text.to_owned();
        }
        let code = match colour {
            Colour::Bold => 1,
            Colour::Red => 31,
            Colour::Green => 32,
            Colour::Yellow => 33,
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}

/// The columns of [`line()`].
pub const HEADER: &str =
    " time  phase  attempts/s  admitted  held  refused  database  normal clients";

/// A second as a line.
pub fn line(paint: Paint, number: usize, second: &Second) -> String {
    let (phase, colour) = match second.phase {
        Phase::Calm => ("calm ", Colour::Green),
        Phase::Surge => ("surge", Colour::Red),
        Phase::After => ("after", Colour::Green),
    };
    let held = second.held.map_or("-".to_owned(), |held| held.to_string());
    let refused = format!("{:>7}", second.refused);
    let refused = match second.refused {
        0 => refused,
        _ => paint.paint(Colour::Yellow, &refused),
    };
    let normal = format!("{}/{} ok", second.normal_done, second.normal_ended);
    let normal_colour = match share(second.normal_done, second.normal_ended) {
        Some(95..) => Colour::Green,
        Some(50..) => Colour::Yellow,
        _ => Colour::Red,
    };
    format!(
        "{number:>3} s  {}  {:>10}  {:>8}  {held:>4}  {refused}  {:>8}  {}",
        paint.paint(colour, phase),
        second.offered,
        second.admitted,
        second.database,
        paint.paint(normal_colour, &normal),
    )
}

/// `part` of `whole` in whole per cent, rounded down; none of nothing.
pub fn share(part: usize, whole: usize) -> Option<usize> {
    (part * 100).checked_div(whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn second() -> Second {
        Second {
            phase: Phase::Surge,
            offered: 1234,
            admitted: 171,
            held: Some(402),
            refused: 98,
            database: 40,
            normal_done: 18,
            normal_ended: 20,
        }
    }

    #[test]
    fn the_columns_stand_under_their_names() {
        let text = line(Paint(false), 12, &second());
        for (name, value) in [
            ("attempts/s", "1234"),
            ("admitted", "171"),
            ("held", "402"),
            ("refused", "98"),
            ("database", "40"),
        ] {
            let end = HEADER.find(name).unwrap() + name.len();
            assert!(text[..end].ends_with(value), "{name} in {text}");
        }
        assert!(text.ends_with("18/20 ok"));
    }

    #[test]
    fn colours_are_for_terminals() {
        assert!(!line(Paint(false), 1, &second()).contains('\x1b'));
        assert!(line(Paint(true), 1, &second()).contains("\x1b[33m18/20 ok\x1b[0m"));
    }

    #[test]
    fn a_share_of_nothing_is_none() {
        assert_eq!(share(19, 20), Some(95));
        assert_eq!(share(0, 0), None);
    }
}
