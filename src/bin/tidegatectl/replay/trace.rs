//! Rows of a trace: which format it has, and what a line says.

use std::{borrow::Cow, time::Duration};

use tidegate::engine::{Answers, Timestamp};

use super::{
    access,
    facts::{Facts, address},
};

/// Seconds since the Unix epoch that are taken for a time: until the year 2286.
const MOST_SECONDS: f64 = 1e10;
/// Arrivals of one row.
const MOST_COUNT: f64 = 1e9;

/// What a line says.
#[derive(Debug, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "there is one at a time")]
pub enum Row<'a> {
    /// So many arrived since the row before.
    Count {
        /// Unix seconds.
        t: f64,
        /// Whose they are.
        key: Option<Cow<'a, str>>,
        count: u64,
    },
    /// A connection or a request.
    Stream {
        at: Timestamp,
        lasts: Duration,
        /// Whose it is, where a column says so.
        key: Option<Cow<'a, str>>,
        facts: Facts<'a>,
        /// A request and no connection.
        http: bool,
        /// How the upstream took it.
        answers: Answers,
    },
}

/// How the lines of a trace are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// CSV with these columns.
    Csv(Columns),
    /// An access log of Envoy, as text.
    Text,
    /// An access log of Envoy, one JSON object a line.
    Json,
}

/// The places of the columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Columns {
    t: usize,
    key: Option<usize>,
    /// Of the counts, or of the durations.
    number: usize,
    durations: bool,
}

impl Format {
    /// From the first line; and whether that is a header.
    ///
    /// # Errors
    /// What to write instead.
    pub fn of(line: &str) -> Result<(Self, bool), String> {
        let line = line.trim_start_matches('\u{FEFF}').trim_start();
        if line.starts_with('{') {
            return Ok((Self::Json, false));
        }
        if line.starts_with('[') {
            return Ok((Self::Text, false));
        }
        let fields = fields(line);
        if fields.first().is_some_and(|first| seconds(first).is_some()) {
            return match fields.len() {
                2 => Ok((Self::Csv(Columns::COUNTS), false)),
                _ => Err("three columns without a header; write `t,key,count` or \
                          `t,key,duration_s` above them"
                    .to_owned()),
            };
        }
        let place = |name: &str| {
            fields
                .iter()
                .position(|field| field.eq_ignore_ascii_case(name))
        };
        let (counts, durations) = (place("count"), place("duration_s"));
        match (place("t"), counts, durations) {
            (Some(t), Some(number), None) | (Some(t), None, Some(number)) => {
                let columns = Columns {
                    t,
                    key: place("key"),
                    number,
                    durations: durations.is_some(),
                };
                Ok((Self::Csv(columns), true))
            }
            _ => Err(
                "no trace; write CSV with a header `t,count`, `t,key,count` or \
                 `t,key,duration_s`, or give an access log of Envoy"
                    .to_owned(),
            ),
        }
    }

    /// Whether rows count arrivals, and so know nothing of what is open.
    pub fn is_counts(self) -> bool {
        matches!(
            self,
            Self::Csv(Columns {
                durations: false,
                ..
            })
        )
    }

    /// Whether rows can say whose their arrivals are.
    pub fn names_callers(self) -> bool {
        !matches!(self, Self::Csv(Columns { key: None, .. }))
    }

    /// Whether a row is written when its stream ends.
    pub fn is_by_end(self) -> bool {
        !matches!(self, Self::Csv(_))
    }

    /// What a line says.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn row(self, line: &str) -> Result<Row<'_>, Cow<'static, str>> {
        match self {
            Self::Csv(columns) => columns.row(line),
            Self::Text => access::text(line),
            Self::Json => access::json(line),
        }
    }
}

impl Columns {
    const COUNTS: Self = Self {
        t: 0,
        key: None,
        number: 1,
        durations: false,
    };

    fn row(self, line: &str) -> Result<Row<'_>, Cow<'static, str>> {
        let mut fields = fields(line);
        let t = fields.get(self.t).and_then(|t| seconds(t));
        let t = t.ok_or("its `t` is no number of Unix seconds")?;
        let number = fields.get(self.number);
        let number = number.and_then(|number| number.parse::<f64>().ok());
        let number = number.filter(|number| *number >= 0.0);
        let key = self.key.and_then(|key| fields.get_mut(key));
        let key = key.map(std::mem::take);
        if self.durations {
            let lasts = number.ok_or("its `duration_s` is no number of seconds")?;
            let facts = Facts {
                source: key.as_deref().and_then(address),
                ..Facts::default()
            };
            return Ok(Row::Stream {
                at: timestamp(t),
                lasts: Duration::from_secs_f64(lasts.min(MOST_SECONDS)),
                key,
                facts,
                http: false,
                answers: Answers {
                    good: 1,
                    ..Answers::default()
                },
            });
        }
        let count = number.filter(|count| *count <= MOST_COUNT && count.fract() == 0.0);
        let count = count.ok_or("its `count` is no whole number up to 1,000,000,000")?;
        Ok(Row::Count {
            t,
            key,
            // Whole and not negative.
            count: count as u64,
        })
    }
}

/// A number of Unix seconds.
fn seconds(text: &str) -> Option<f64> {
    let t: f64 = text.parse().ok()?;
    (0.0..=MOST_SECONDS).contains(&t).then_some(t)
}

/// A point in time, from Unix seconds in their range.
pub fn timestamp(t: f64) -> Timestamp {
    // To the microsecond, which is what a float of today can tell.
    Timestamp::from_nanos((t * 1e6).round() as u64 * 1000)
}

/// The fields of a line of CSV; quotes are taken away.
fn fields(line: &str) -> Vec<Cow<'_, str>> {
    let mut fields = Vec::with_capacity(3);
    let mut rest = line;
    loop {
        if let Some(quoted) = rest.trim_start().strip_prefix('"') {
            let mut field = String::new();
            let mut chars = quoted.char_indices().peekable();
            let mut behind = "";
            while let Some((at, char)) = chars.next() {
                if char != '"' {
                    field.push(char);
                } else if chars.next_if(|(_, next)| *next == '"').is_some() {
                    field.push('"');
                } else {
                    behind = quoted.get(at + 1..).unwrap_or_default();
                    break;
                }
            }
            fields.push(Cow::Owned(field));
            match behind.split_once(',') {
                Some((_, next)) => rest = next,
                None => return fields,
            }
            continue;
        }
        match rest.split_once(',') {
            Some((field, next)) => {
                fields.push(Cow::Borrowed(field.trim()));
                rest = next;
            }
            None => {
                fields.push(Cow::Borrowed(rest.trim()));
                return fields;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_first_line_tells_the_format() {
        let of = |line: &str| Format::of(line);
        assert_eq!(of("1,2"), Ok((Format::Csv(Columns::COUNTS), false)));
        assert_eq!(of("t,count"), Ok((Format::Csv(Columns::COUNTS), true)));
        assert_eq!(of("{\"start_time\":"), Ok((Format::Json, false)));
        assert_eq!(of("[2026-01-09T"), Ok((Format::Text, false)));
        let (durations, header) = of("key, T, duration_s").unwrap();
        assert!(!durations.is_counts() && header);
        for wrong in ["", "1,a,2", "hello", "t,key", "t,count,duration_s"] {
            assert!(of(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_row_says_who_and_how_many() {
        let (format, _) = Format::of("t,key,count").unwrap();
        let row = format.row("1.5,\"a, \"\"b\"\"\",7").unwrap();
        let key = Some("a, \"b\"".into());
        assert_eq!(
            row,
            Row::Count {
                t: 1.5,
                key,
                count: 7
            }
        );
        for wrong in [
            "", "1", "x,a,1", "-1,a,1", "1,a,-1", "1,a,1.5", "1,a,nan", "1e99,a,1",
        ] {
            assert!(format.row(wrong).is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn any_line_is_read_without_panic(line in ".*|[-0-9.,\"te:{}\\[\\] ]{0,60}") {
            for first in ["t,count", "t,key,count", "t,key,duration_s", "{", "["] {
                let (format, _) = Format::of(first).unwrap();
                let _ = format.row(&line);
            }
            let _ = Format::of(&line);
        }
    }
}
