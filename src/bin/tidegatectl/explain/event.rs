//! The events as they are read: all that a log may hold, and nothing that it must.
//!
//! A field that is missing or of another type is `None` or empty: a log outlives the version that
//! wrote it. Rates are per second. Every event has `event` and `at` (RFC 3339).

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, de::DeserializeOwned};
use serde_json::Value;

/// An event, when it happened, and to which rule.
#[derive(Clone, Debug)]
pub struct Event {
    pub at: Timestamp,
    /// Events of the whole plugin have none.
    pub rule: Option<String>,
    pub what: What,
}

/// What happened.
#[derive(Clone, Debug, PartialEq)]
pub enum What {
    /// A configuration was taken.
    Started(Started),
    SurgeStarted(SurgeStarted),
    SurgeEnded(SurgeEnded),
    /// The normal rate moves away from the baseline slowly.
    DriftWarning(DriftWarning),
    /// The adaptive limit went down.
    LimitLowered(LimitChanged),
    /// The adaptive limit went up.
    LimitRaised(LimitChanged),
    /// The upstream refuses what was admitted.
    UpstreamRefusing(UpstreamRefusing),
    /// The plugin could not do its work.
    Fault(Fault),
}

#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default)]
pub struct Started {
    #[serde(deserialize_with = "lenient")]
    pub version: Option<String>,
    #[serde(deserialize_with = "lenient")]
    pub commit: Option<String>,
    #[serde(deserialize_with = "each")]
    pub rules: Vec<StartedRule>,
}

#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default)]
pub struct StartedRule {
    #[serde(deserialize_with = "lenient")]
    pub name: Option<String>,
    /// `off`, `shadow` or `enforce`.
    #[serde(deserialize_with = "lenient")]
    pub mode: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default)]
pub struct SurgeStarted {
    #[serde(deserialize_with = "lenient")]
    pub rate_per_s: Option<f64>,
    #[serde(deserialize_with = "lenient")]
    pub baseline_per_s: Option<f64>,
    /// The rate as a multiple of the baseline.
    #[serde(deserialize_with = "lenient")]
    pub ratio: Option<f64>,
    #[serde(deserialize_with = "lenient")]
    pub inflight: Option<f64>,
    /// 0: none.
    #[serde(deserialize_with = "lenient")]
    pub inflight_limit: Option<f64>,
    /// What is abnormal: `arrivals` or `inflight`.
    #[serde(deserialize_with = "lenient")]
    pub signal: Option<String>,
    /// `one_caller`, `few_callers` or `everybody`.
    #[serde(deserialize_with = "lenient")]
    pub spread: Option<String>,
    /// The hottest first.
    #[serde(deserialize_with = "each")]
    pub callers: Vec<Caller>,
}

/// A caller in [`SurgeStarted`].
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct Caller {
    #[serde(deserialize_with = "lenient")]
    pub key: Option<String>,
    #[serde(deserialize_with = "lenient")]
    pub rate_per_s: Option<f64>,
    #[serde(deserialize_with = "lenient")]
    pub baseline_per_s: Option<f64>,
    /// Of the rule's arrivals, from 0 to 1.
    #[serde(deserialize_with = "lenient")]
    pub share: Option<f64>,
}

/// `{"event":"surge_ended","rule":…,"at":…,"duration_s":42.0,"peak_per_s":530.0,"baseline_per_s":21.3,`
/// `"rejected":15210,"rejected_by_reason":{"hot_caller":15100,"hold_timeout":110},"held":320}`; the counts are those
/// of the surge.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default)]
pub struct SurgeEnded {
    #[serde(deserialize_with = "lenient")]
    pub duration_s: Option<f64>,
    #[serde(deserialize_with = "lenient")]
    pub peak_per_s: Option<f64>,
    #[serde(deserialize_with = "lenient")]
    pub baseline_per_s: Option<f64>,
    #[serde(deserialize_with = "lenient")]
    pub rejected: Option<f64>,
    #[serde(deserialize_with = "lenient")]
    pub held: Option<f64>,
    /// With the reasons of the metric `tidegate_rejected_total`; not in older logs.
    #[serde(deserialize_with = "reasons")]
    pub rejected_by_reason: BTreeMap<String, f64>,
}

#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default)]
pub struct DriftWarning {
    #[serde(deserialize_with = "lenient")]
    pub rate_per_s: Option<f64>,
    #[serde(deserialize_with = "lenient")]
    pub baseline_per_s: Option<f64>,
}

#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default)]
pub struct LimitChanged {
    /// The limit from then on.
    #[serde(deserialize_with = "lenient")]
    pub inflight_limit: Option<f64>,
    /// Open then.
    #[serde(deserialize_with = "lenient")]
    pub inflight: Option<f64>,
}

#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default)]
pub struct UpstreamRefusing {
    /// Connections and requests since the last event of this kind.
    #[serde(deserialize_with = "lenient")]
    pub refused: Option<f64>,
    /// Open then.
    #[serde(deserialize_with = "lenient")]
    pub inflight: Option<f64>,
}

#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default)]
pub struct Fault {
    /// As in the metric `tidegate_faults_total`.
    #[serde(deserialize_with = "lenient")]
    pub kind: Option<String>,
    #[serde(deserialize_with = "lenient")]
    pub count: Option<f64>,
}

/// Why JSON is no event.
#[derive(Debug, PartialEq, Eq)]
pub enum NoEvent {
    /// It lacks a name or a time.
    Malformed,
    /// Nothing that this version knows.
    Unknown,
}

impl Event {
    /// Reads the JSON behind the mark.
    pub fn from_json(value: Value) -> Result<Self, NoEvent> {
        let text = |name| value.get(name).and_then(Value::as_str);
        let name = text("event").ok_or(NoEvent::Malformed)?.to_owned();
        let at = text("at").and_then(|at| at.parse().ok());
        let at = at.ok_or(NoEvent::Malformed)?;
        let rule = text("rule").map(str::to_owned);
        let what = match name.as_str() {
            "started" => What::Started(fields(value)?),
            "surge_started" => What::SurgeStarted(fields(value)?),
            "surge_ended" => What::SurgeEnded(fields(value)?),
            "drift_warning" => What::DriftWarning(fields(value)?),
            "limit_lowered" => What::LimitLowered(fields(value)?),
            "limit_raised" => What::LimitRaised(fields(value)?),
            "upstream_refusing" => What::UpstreamRefusing(fields(value)?),
            "fault" => What::Fault(fields(value)?),
            _ => return Err(NoEvent::Unknown),
        };
        Ok(Self { at, rule, what })
    }
}

impl What {
    /// The name in the log.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Started(_) => "started",
            Self::SurgeStarted(_) => "surge_started",
            Self::SurgeEnded(_) => "surge_ended",
            Self::DriftWarning(_) => "drift_warning",
            Self::LimitLowered(_) => "limit_lowered",
            Self::LimitRaised(_) => "limit_raised",
            Self::UpstreamRefusing(_) => "upstream_refusing",
            Self::Fault(_) => "fault",
        }
    }
}

fn fields<T: DeserializeOwned>(value: Value) -> Result<T, NoEvent> {
    serde_json::from_value(value).map_err(|_| NoEvent::Malformed)
}

/// What is of another type is as good as missing.
fn lenient<'de, T: DeserializeOwned, D: Deserializer<'de>>(from: D) -> Result<Option<T>, D::Error> {
    Value::deserialize(from).map(|value| serde_json::from_value(value).ok())
}

/// The elements that are objects.
fn each<'de, T: DeserializeOwned, D: Deserializer<'de>>(from: D) -> Result<Vec<T>, D::Error> {
    let list = match Value::deserialize(from)? {
        Value::Array(list) => list,
        _ => Vec::new(),
    };
    let objects = list.into_iter().filter(Value::is_object);
    Ok(objects
        .filter_map(|value| serde_json::from_value(value).ok())
        .collect())
}

/// The counts that are numbers.
fn reasons<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeMap<String, f64>, D::Error> {
    let map = match Value::deserialize(from)? {
        Value::Object(map) => map,
        _ => serde_json::Map::new(),
    };
    let counts = map
        .into_iter()
        .filter_map(|(name, count)| Some((name, count.as_f64()?)));
    Ok(counts.collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_event_of_the_contract_is_read() {
        let event = Event::from_json(json!({
            "event": "surge_started", "rule": "orders-db", "at": "2026-01-09T15:00:02.1Z",
            "rate_per_s": 412.0, "baseline_per_s": 21.3, "ratio": 19.3, "inflight": 100,
            "inflight_limit": 100, "spread": "one_caller", "callers": [
                {"key": "10.0.0.7", "rate_per_s": 390.1, "baseline_per_s": 1.9, "share": 0.95}]
        }));
        let event = event.unwrap();
        assert_eq!(event.rule.as_deref(), Some("orders-db"));
        let What::SurgeStarted(surge) = event.what else {
            panic!("{event:?}");
        };
        assert_eq!(surge.inflight, Some(100.0));
        assert_eq!(surge.callers[0].key.as_deref(), Some("10.0.0.7"));
    }

    #[test]
    fn a_field_of_another_type_is_missing_and_the_rest_is_read() {
        let event = Event::from_json(json!({
            "event": "surge_ended", "at": "2026-01-09T15:00:02Z", "rejected": "many", "held": 5,
            "rejected_by_reason": {"hot_caller": 1, "x": null}, "new_field": []
        }));
        let What::SurgeEnded(ended) = event.unwrap().what else {
            panic!("another");
        };
        assert_eq!((ended.rejected, ended.held), (None, Some(5.0)));
        assert_eq!(ended.rejected_by_reason.len(), 1);
    }

    #[test]
    fn what_has_no_name_or_no_time_is_malformed() {
        for value in [
            json!([]),
            json!({"event": "fault"}),
            json!({"at": "2026-01-09T15:00:02Z"}),
            json!({"event": "fault", "at": "yesterday"}),
        ] {
            assert_eq!(Event::from_json(value).unwrap_err(), NoEvent::Malformed);
        }
        let value = json!({"event": "tide", "at": "2026-01-09T15:00:02Z"});
        assert_eq!(Event::from_json(value).unwrap_err(), NoEvent::Unknown);
    }
}
