//! The log lines that programs read: `tidegate_event` and one JSON object.

#![forbid(unsafe_code)]

use alloc::{format, string::String, vec::Vec};
use core::fmt;

use serde::Serialize;

use crate::{
    build_info,
    engine::{Reason, Rejected, Timestamp},
};

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
    /// Arrivals or open connections became abnormal.
    SurgeStarted {
        /// Whose.
        rule: &'a str,
        /// When, by Envoy's clock.
        at: Rfc3339,
        /// Arrivals a second, over the last 2 s.
        rate_per_s: Tenths,
        /// The learned normal rate.
        baseline_per_s: Tenths,
        /// The highest multiple of the baseline in any window, 0.5 s to 32 s.
        ratio: Tenths,
        /// Open now.
        inflight: u64,
        /// The most that may be; 0 when there is no limit.
        inflight_limit: u32,
        /// What is abnormal: `arrivals` or `inflight`.
        signal: &'static str,
        /// `one_caller`, `few_callers` or `everybody`.
        spread: &'static str,
        /// Who is behind it, the largest share first.
        callers: Vec<Caller>,
    },
    /// It is over.
    SurgeEnded {
        /// Whose.
        rule: &'a str,
        /// When, by Envoy's clock.
        at: Rfc3339,
        /// How long it lasted.
        duration_s: Tenths,
        /// The highest rate over 2 s.
        peak_per_s: Tenths,
        /// The learned normal rate.
        baseline_per_s: Tenths,
        /// Refused while it lasted.
        rejected: u64,
        /// The same by reason.
        rejected_by_reason: ByReason,
        /// Held while it lasted.
        held: u64,
    },
    /// The rate has climbed slowly, far above what it has been in the last days.
    DriftWarning {
        /// Whose.
        rule: &'a str,
        /// When, by Envoy's clock.
        at: Rfc3339,
        /// Arrivals a second, over the last 2 s.
        rate_per_s: Tenths,
        /// The learned normal rate.
        baseline_per_s: Tenths,
    },
    /// The upstream refuses, is slow to connect, or says nothing.
    UpstreamRefusing {
        /// Whose.
        rule: &'a str,
        /// When, by Envoy's clock.
        at: Rfc3339,
        /// Since the last line of this kind: connections and requests that it refused.
        refused: u64,
        /// Open now.
        inflight: u64,
    },
    /// The inflight limit was lowered, because the upstream is in distress.
    LimitLowered {
        /// Whose.
        rule: &'a str,
        /// When, by Envoy's clock.
        at: Rfc3339,
        /// The limit now.
        inflight_limit: u32,
        /// Open now.
        inflight: u64,
    },
    /// The inflight limit climbed back a step, or all the way.
    LimitRaised {
        /// Whose.
        rule: &'a str,
        /// When, by Envoy's clock.
        at: Rfc3339,
        /// The limit now.
        inflight_limit: u32,
        /// Open now.
        inflight: u64,
    },
    /// Something went wrong in the plugin itself.
    Fault {
        /// Whose.
        rule: &'a str,
        /// When, by Envoy's clock.
        at: Rfc3339,
        /// The `kind` of `tidegate_faults_total`.
        kind: &'static str,
        /// How often, since the last line about it by the same worker.
        count: u32,
    },
}

/// A caller in [`Event::SurgeStarted`].
#[derive(Debug, Serialize)]
pub struct Caller {
    /// What the rule's `key` says of it; what is not text is escaped.
    pub key: String,
    /// Its arrivals a second.
    pub rate_per_s: Tenths,
    /// Its own learned normal rate.
    pub baseline_per_s: Tenths,
    /// Its part of all arrivals, 0 to 1.
    pub share: Hundredths,
}

/// What was refused, by reason; a reason with none is left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ByReason(pub Rejected);

impl Serialize for ByReason {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let counts = Reason::ALL.iter().zip(self.0);
        let counts = counts.filter(|(_, count)| *count > 0);
        to.collect_map(counts.map(|(reason, count)| (reason.label(), count)))
    }
}

/// A number with one decimal; what is none is 0.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tenths(pub f64);

/// A number with two decimals; what is none is 0.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Hundredths(pub f64);

impl Serialize for Tenths {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(rounded(self.0, 10.0))
    }
}

impl Serialize for Hundredths {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(rounded(self.0, 100.0))
    }
}

/// Rounded to a part; JSON has no word for what is not finite.
fn rounded(number: f64, parts: f64) -> f64 {
    let rounded = (number * parts).round() / parts;
    if rounded.is_finite() { rounded } else { 0.0 }
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

    /// As one JSON object.
    pub fn json(&self) -> String {
        // Strings and numbers under constant keys: there is nothing that JSON could not say.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// The line.
    pub fn line(&self) -> String {
        line(&self.json())
    }
}

/// The line of an event, from its JSON.
pub fn line(json: &str) -> String {
    format!("tidegate_event {json}")
}

/// The configurations that were announced last, with this one, as the workers share them; `None` when
/// it was announced within the last ten seconds.
///
/// `mark` tells it from others. 32 are remembered, for an Envoy may have one in each of its listeners.
pub fn announced(old: &[u8], mark: u64, now: Timestamp) -> Option<Vec<u8>> {
    const AGAIN_AFTER_MS: u64 = 10_000;
    const LATEST: usize = 32;
    let mark = mark.to_le_bytes();
    // Each as its mark and its time, the latest first.
    let (known, _) = old.as_chunks::<16>();
    let lately = known.iter().any(|one| {
        let at = one.last_chunk().copied().map_or(0, u64::from_le_bytes);
        one.starts_with(&mark) && now.as_millis().abs_diff(at) < AGAIN_AFTER_MS
    });
    if lately {
        return None;
    }
    let others = known.iter().filter(|one| !one.starts_with(&mark));
    let mut new = [mark, now.as_millis().to_le_bytes()].concat();
    new.extend(others.take(LATEST - 1).flatten());
    Some(new)
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
    fn each_of_several_configurations_is_announced_once() {
        let at = |ms: u64| Timestamp::from_millis(1_700_000_000_000 + ms);
        let mut known = alloc::vec![0; 16];
        let mut announces = |mark, ms| match announced(&known, mark, at(ms)) {
            Some(new) => {
                known = new;
                true
            }
            None => false,
        };
        assert!(announces(1, 0) && announces(2, 0));
        assert!(!announces(1, 900) && !announces(2, 9_999));
        assert!(announces(1, 10_000) && !announces(1, 10_001));
        // They are bounded, and any bytes will do.
        for mark in 3..100 {
            assert!(announces(mark, 20_000));
        }
        assert!(known.len() <= 32 * 16);
        assert!(announced(&[7; 23], 1, at(0)).is_some());
        assert!(announced(&[], 1, at(0)).is_some());
    }

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
    fn a_surge_line_says_who_and_how_much_and_escapes_what_a_client_sent() {
        let line = Event::SurgeStarted {
            rule: "orders-db",
            at: Rfc3339(Timestamp::from_millis(0)),
            rate_per_s: Tenths(412.04),
            baseline_per_s: Tenths(21.26),
            ratio: Tenths(f64::INFINITY),
            inflight: 100,
            inflight_limit: 100,
            signal: "arrivals",
            spread: "one_caller",
            callers: alloc::vec![Caller {
                key: "10.0.0.7\n\"}\u{1b}[31m".into(),
                rate_per_s: Tenths(390.1),
                baseline_per_s: Tenths(1.9),
                share: Hundredths(0.9467),
            }],
        }
        .line();
        assert_eq!(line.lines().count(), 1);
        assert!(!line.contains('\u{1b}'));
        let json = line.strip_prefix("tidegate_event ").expect("its mark");
        let value: serde_json::Value = serde_json::from_str(json).expect("JSON");
        assert_eq!(value["event"], "surge_started");
        assert_eq!(value["rate_per_s"], 412.0);
        assert_eq!(value["baseline_per_s"], 21.3);
        assert_eq!(value["ratio"], 0.0);
        assert_eq!(value["callers"][0]["share"], 0.95);
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
