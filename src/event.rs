//! The log lines that programs read: `tidegate_event` and one JSON object.

use alloc::{format, string::String, vec::Vec};
use core::fmt;

use serde::Serialize;

use crate::{build_info, engine::Timestamp};

/// What happened.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event<'a> {
    /// A configuration was taken.
    Started {
        /// When, by Envoy's clock.
        at: Rfc3339,
        /// Of this build.
        version: &'static str,
        /// Of this build.
        commit: &'static str,
        /// In the order in which they are matched.
        rules: Vec<StartedRule<'a>>,
    },
}

/// A rule in [`Event::Started`].
#[derive(Debug, Serialize)]
pub struct StartedRule<'a> {
    /// Its name.
    pub name: &'a str,
    /// `off`, `shadow` or `enforce`.
    pub mode: &'static str,
}

impl<'a> Event<'a> {
    /// This build began to serve these rules.
    pub fn started(at: Timestamp, rules: Vec<StartedRule<'a>>) -> Self {
        Self::Started {
            at: Rfc3339(at),
            version: build_info::VERSION,
            commit: build_info::COMMIT,
            rules,
        }
    }

    /// The line.
    pub fn line(&self) -> String {
        // Strings and numbers under constant keys: there is nothing that JSON could not say.
        let json = serde_json::to_string(self).unwrap_or_default();
        format!("tidegate_event {json}")
    }
}

/// A point in time as RFC 3339 writes it, in UTC, to the millisecond.
#[derive(Clone, Copy, Debug)]
pub struct Rfc3339(pub Timestamp);

impl fmt::Display for Rfc3339 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.0.as_millis();
        let seconds = millis / 1000;
        let (year, month, day) = civil(seconds / 86_400);
        write!(
            f,
            "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:03}Z",
            seconds / 3600 % 24,
            seconds / 60 % 60,
            seconds % 60,
            millis % 1000,
        )
    }
}

impl Serialize for Rfc3339 {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Year, month and day of a day since the Unix epoch, in the Gregorian calendar.
///
/// Counts in eras of 400 years that begin on a 1 March, so that the leap day is a year's last.
/// Source: Howard Hinnant, "chrono-compatible low-level date algorithms".
const fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day_of_month = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year + era * 400 + (month <= 2) as u64;
    (year, month, day_of_month)
}

#[cfg(test)]
mod tests {
    // On wasm32 they run under Node.
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    #[test]
    fn a_time_is_written_as_rfc_3339() {
        for (millis, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_736_438_402_100, "2025-01-09T16:00:02.100Z"),
            (4_107_542_399_999, "2100-02-28T23:59:59.999Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(Rfc3339(Timestamp::from_millis(millis)).to_string(), text);
        }
    }

    #[test]
    fn the_started_line_is_one_json_object() {
        let rules = alloc::vec![StartedRule {
            name: "orders-db",
            mode: "shadow"
        }];
        let line = Event::started(Timestamp::from_millis(0), rules).line();
        let json = line.strip_prefix("tidegate_event ").expect("its mark");
        let value: serde_json::Value = serde_json::from_str(json).expect("JSON");
        assert_eq!(value["event"], "started");
        assert_eq!(value["at"], "1970-01-01T00:00:00.000Z");
        assert_eq!(value["version"], build_info::VERSION);
        assert_eq!(value["rules"][0]["name"], "orders-db");
        assert!(!line.contains('\n'));
    }
}
