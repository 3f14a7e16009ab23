//! What is seen while it happens: one line a second.

use std::{env, io::IsTerminal, iter::Sum};

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

/// Clients that are shown together.
#[derive(Clone, Debug)]
pub struct Column {
    /// What they are called.
    pub name: &'static str,
    /// The numbers of their groups.
    pub groups: Vec<usize>,
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
    /// What became of whom, in the order of the columns.
    pub served: Vec<Served>,
}

/// How many of those that ended were served.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Served {
    /// Transactions that were done.
    pub done: usize,
    /// Those that were done or had failed.
    pub ended: usize,
}

impl Served {
    /// In whole per cent, rounded down; none of nothing.
    pub fn percent(self) -> Option<usize> {
        (self.done * 100).checked_div(self.ended)
    }

    /// Counts one more.
    pub fn count(&mut self, done: bool) {
        self.done += usize::from(done);
        self.ended += 1;
    }

    /// The colour that says how good it is.
    fn colour(self) -> Colour {
        match self.percent() {
            None | Some(NORMAL_PERCENT..) => Colour::Green,
            Some(50..) => Colour::Yellow,
            Some(_) => Colour::Red,
        }
    }
}

impl Sum for Served {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |sum, one| Self {
            done: sum.done + one.done,
            ended: sum.ended + one.ended,
        })
    }
}

/// The part of the clients that must be served for that to count as normal.
pub const NORMAL_PERCENT: usize = 95;

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

/// The columns of [`line()`]. One of clients is shown in full, of several there is room for the
/// shares.
pub fn header(columns: &[Column]) -> String {
    let mut header = " time  phase  attempts/s  admitted  held  refused  database".to_owned();
    for column in columns {
        header += "  ";
        header += &format!("{:>SHARE$}", column.name);
    }
    header
}

/// So wide is a share at least.
const SHARE: usize = "100%".len();

/// A second as a line.
pub fn line(paint: Paint, columns: &[Column], number: usize, second: &Second) -> String {
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
    let mut line = format!(
        "{number:>3} s  {}  {:>10}  {:>8}  {held:>4}  {refused}  {:>8}",
        paint.paint(colour, phase),
        second.offered,
        second.admitted,
        second.database,
    );
    for (column, served) in columns.iter().zip(&second.served) {
        let text = match (columns.len(), served.percent()) {
            (1, _) => format!("{}/{} ok", served.done, served.ended),
            (_, percent) => {
                let share = percent.map_or("-".to_owned(), |percent| format!("{percent}%"));
                format!("{share:>width$}", width = column.name.len().max(SHARE))
            }
        };
        line += "  ";
        line += &paint.paint(served.colour(), &text);
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(name: &'static str) -> Column {
        Column {
            name,
            groups: Vec::new(),
        }
    }

    fn second(served: &[(usize, usize)]) -> Second {
        let served = served.iter().map(|(done, ended)| Served {
            done: *done,
            ended: *ended,
        });
        Second {
            phase: Phase::Surge,
            offered: 1234,
            admitted: 171,
            held: Some(402),
            refused: 98,
            database: 40,
            served: served.collect(),
        }
    }

    fn assert_under(header: &str, line: &str, columns: &[(&str, &str)]) {
        for (name, value) in columns {
            let end = header.find(name).unwrap() + name.len();
            assert!(line[..end].ends_with(value), "{name} in {line}");
        }
    }

    #[test]
    fn the_columns_stand_under_their_names() {
        let clients = [column("normal clients")];
        let text = line(Paint(false), &clients, 12, &second(&[(18, 20)]));
        let columns = [
            ("attempts/s", "1234"),
            ("admitted", "171"),
            ("held", "402"),
            ("refused", "98"),
            ("database", "40"),
        ];
        assert_under(&header(&clients), &text, &columns);
        assert!(text.ends_with("  18/20 ok"), "{text}");
    }

    #[test]
    fn several_kinds_of_clients_are_shown_by_their_shares() {
        let kinds = [column("api"), column("calendar"), column("batch")];
        let served = second(&[(8, 8), (1, 9), (0, 0)]);
        let text = line(Paint(false), &kinds, 12, &served);
        let columns = [(" api", "  100%"), ("calendar", " 11%"), ("batch", " -")];
        assert_under(&header(&kinds), &text, &columns);
    }

    #[test]
    fn colours_are_for_terminals() {
        let clients = [column("normal clients")];
        let text = |paint| line(paint, &clients, 1, &second(&[(18, 20)]));
        assert!(!text(Paint(false)).contains('\x1b'));
        assert!(text(Paint(true)).contains("\x1b[33m18/20 ok\x1b[0m"));
    }

    #[test]
    fn a_share_of_nothing_is_none() {
        let served = |done, ended| Served { done, ended };
        assert_eq!(served(19, 20).percent(), Some(95));
        assert_eq!(served(0, 0).percent(), None);
    }
}
