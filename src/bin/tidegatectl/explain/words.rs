//! Events and numbers in words; names apart, because each format escapes them its own way.

use jiff::Timestamp;

use super::event::{Event, LimitChanged, What};

/// A piece of a sentence.
#[derive(Clone, Debug, PartialEq)]
pub enum Piece {
    /// Words of ours.
    Plain(String),
    /// A name that came from outside.
    Name(String),
}

/// What an event says, in a sentence without a full stop.
pub fn sentence(event: &Event) -> Vec<Piece> {
    let plain = |text: String| vec![Piece::Plain(text)];
    match &event.what {
        What::Started(started) => {
            let version = started
                .version
                .as_deref()
                .unwrap_or("of an unknown version");
            let mut pieces = plain("tidegate ".to_owned());
            pieces.push(Piece::Name(version.to_owned()));
            pieces.push(Piece::Plain(" took a configuration".to_owned()));
            for (index, rule) in started.rules.iter().enumerate() {
                let before = if index == 0 { ": " } else { ", " };
                pieces.push(Piece::Plain(before.to_owned()));
                pieces.push(Piece::Name(rule.name.clone().unwrap_or_default()));
                if let Some(mode) = &rule.mode {
                    pieces.push(Piece::Plain(" in ".to_owned()));
                    pieces.push(Piece::Name(mode.clone()));
                }
            }
            pieces
        }
        What::SurgeStarted(surge) => {
            let mut text = "a surge began".to_owned();
            if surge.signal.as_deref() == Some("inflight") {
                text = "a surge of what is inflight began".to_owned();
            }
            if let Some(now) = surge.rate_per_s {
                text += &format!(": {}/s", rate(now));
            }
            if let Some(usual) = surge.baseline_per_s {
                text += &format!(" instead of {}/s", rate(usual));
            }
            plain(text)
        }
        What::SurgeEnded(ended) => {
            let mut text = "the surge ended".to_owned();
            if let Some(seconds) = ended.duration_s {
                text += &format!(" after {}", span(seconds));
            }
            plain(text)
        }
        What::DriftWarning(drift) => {
            let mut text = "the normal rate drifts away from the baseline".to_owned();
            if let (Some(now), Some(usual)) = (drift.rate_per_s, drift.baseline_per_s) {
                text += &format!(": {}/s, learned {}/s", rate(now), rate(usual));
            }
            plain(text)
        }
        What::LimitLowered(limit) => plain(changed("lowered", limit)),
        What::LimitRaised(limit) => plain(changed("raised", limit)),
        What::UpstreamRefusing(refusing) => {
            let mut text = match refusing.refused {
                Some(refused) if refused >= 1.0 => {
                    format!("the upstream refused {} times", whole(refused))
                }
                _ => "the upstream refuses, is slow or says nothing".to_owned(),
            };
            if let Some(inflight) = refusing.inflight {
                text += &format!(", with {} inflight", whole(inflight));
            }
            plain(text)
        }
        What::Fault(fault) => {
            let mut pieces = plain("a fault of the plugin".to_owned());
            if let Some(kind) = &fault.kind {
                pieces.push(Piece::Plain(": ".to_owned()));
                pieces.push(Piece::Name(kind.clone()));
            }
            if let Some(count) = fault.count.filter(|count| *count > 1.0) {
                pieces.push(Piece::Plain(format!(", {} times", whole(count))));
            }
            pieces
        }
    }
}

fn changed(how: &str, limit: &LimitChanged) -> String {
    let mut text = format!("the inflight limit was {how}");
    if let Some(limit) = limit.inflight_limit {
        text += &format!(" to {}", whole(limit));
    }
    if let Some(inflight) = limit.inflight {
        text += &format!(", with {} inflight", whole(inflight));
    }
    text
}

/// Who took part, from the event's word for it.
pub fn spread(word: Option<&str>) -> &'static str {
    match word {
        Some("one_caller") => "one caller",
        Some("few_callers") => "a few callers",
        Some("everybody") => "everybody",
        _ => "not known",
    }
}

/// A rate: three digits are enough.
pub fn rate(number: f64) -> String {
    if number.abs() < 100.0 {
        format!("{number:.1}")
    } else {
        whole(number)
    }
}

/// A count, in groups of three digits.
pub fn whole(number: f64) -> String {
    let digits = format!("{:.0}", number.abs());
    let mut grouped = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    if number < 0.0 {
        grouped.insert(0, '-');
    }
    grouped
}

/// How many times the usual, where there is a usual.
pub fn times(now: Option<f64>, usual: Option<f64>) -> String {
    match (now, usual) {
        (Some(now), Some(usual)) if usual >= 0.05 => format!("{}×", rate(now / usual)),
        (Some(_), Some(_)) => "new".to_owned(),
        _ => "?".to_owned(),
    }
}

/// A duration in seconds.
pub fn span(seconds: f64) -> String {
    if seconds < 60.0 {
        return format!("{seconds:.1} s");
    }
    // The cast saturates.
    let seconds = seconds.round() as u64;
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match hours {
        0 => format!("{minutes} min {seconds} s"),
        _ => format!("{hours} h {minutes} min"),
    }
}

/// A point in time, in UTC, to the second.
pub fn time(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%S").to_string()
}

/// `2 surges`.
pub fn count(number: usize, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {what}{plural}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        assert_eq!((rate(21.34), rate(412.0)), ("21.3".into(), "412".into()));
        assert_eq!(whole(15210.0), "15,210");
        assert_eq!(whole(-1234567.0), "-1,234,567");
        assert_eq!(times(Some(390.1), Some(1.9)), "205×");
        assert_eq!(times(Some(390.1), Some(0.0)), "new");
        assert_eq!(times(None, Some(1.0)), "?");
        assert_eq!(
            (span(42.04), span(185.0)),
            ("42.0 s".into(), "3 min 5 s".into())
        );
        assert_eq!(span(3720.0), "1 h 2 min");
    }
}
