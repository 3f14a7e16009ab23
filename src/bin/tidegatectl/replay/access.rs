//! Lines of an access log of Envoy.

use std::{borrow::Cow, time::Duration};

use jiff::Timestamp as Instant;
use serde_json::{Map, Value};
use tidegate::engine::{Answers, Timestamp};

use super::{
    facts::{Facts, address},
    trace::Row,
};

/// The longest duration, in ms; far above any.
const MOST_MS: f64 = 1e13;

/// A line of Envoy's default format, or of Istio's, which has more fields.
///
/// # Errors
/// What is wrong with it.
pub fn text(line: &str) -> Result<Row<'_>, Cow<'static, str>> {
    let (start, rest) = line
        .trim_start()
        .strip_prefix('[')
        .and_then(|line| line.split_once(']'))
        .ok_or("it does not begin with [%START_TIME%]")?;
    let at = instant(start).ok_or("its start is no time such as 2026-01-09T15:00:02.100Z")?;
    let words = words(rest);
    let word = |index: usize| {
        let (word, _) = words.get(index)?;
        given(word)
    };
    // Istio writes why the upstream failed, in quotes, where the default has the duration.
    let istio = words.get(5).is_some_and(|(_, quoted)| *quoted);
    let (duration, forwarded, authority) = if istio { (8, 10, 13) } else { (5, 7, 10) };
    let duration = word(duration)
        .and_then(|ms| ms.parse::<f64>().ok())
        .ok_or("it has no duration")?;
    let mut request = words.first().map_or("", |(word, _)| word).split(' ');
    let method = request.next().and_then(given);
    let path = request.next().and_then(given);
    let remote = istio.then(|| word(18)).flatten();
    // The last one is the one that Envoy saw itself.
    let source = remote.or_else(|| word(forwarded)?.rsplit(',').next().map(str::trim));
    let local = istio.then(|| word(17)).flatten();
    let facts = Facts {
        source: source.and_then(address),
        cluster: istio.then(|| word(15)).flatten().map(Cow::Borrowed),
        authority: word(authority).map(Cow::Borrowed),
        path: path.map(Cow::Borrowed),
        method: method.map(Cow::Borrowed),
        listener_port: local.and_then(port),
    };
    let flags = word(2).unwrap_or_default();
    let code = word(1).and_then(|code| code.parse().ok());
    Ok(row(at, duration, facts, code, flags))
}

/// A line of JSON with the fields of the default format.
///
/// # Errors
/// What is wrong with it.
pub fn json(line: &str) -> Result<Row<'_>, Cow<'static, str>> {
    let fields: Map<String, Value> =
        serde_json::from_str(line).map_err(|_| "it is no JSON object")?;
    let field = |names: &[&str]| -> Option<String> {
        names.iter().find_map(|name| match fields.get(*name)? {
            Value::String(text) => given(text).map(str::to_owned),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        })
    };
    let at = field(&["start_time"]).as_deref().and_then(instant);
    let at = at.ok_or("its start_time is no time such as 2026-01-09T15:00:02.100Z")?;
    let duration = field(&["duration"]).and_then(|ms| ms.parse::<f64>().ok());
    let duration = duration.ok_or("it has no duration")?;
    let source = field(&[
        "downstream_remote_address",
        "downstream_direct_remote_address",
    ])
    .or_else(|| {
        Some(
            field(&["x_forwarded_for"])?
                .rsplit(',')
                .next()?
                .trim()
                .to_owned(),
        )
    });
    let facts = Facts {
        source: source.as_deref().and_then(address),
        cluster: field(&["upstream_cluster", "upstream_cluster_raw"]).map(Cow::Owned),
        authority: field(&["authority", ":authority"]).map(Cow::Owned),
        path: field(&["path", ":path"]).map(Cow::Owned),
        method: field(&["method", ":method"]).map(Cow::Owned),
        listener_port: field(&["downstream_local_address"])
            .as_deref()
            .and_then(port),
    };
    let code = field(&["response_code"]).and_then(|code| code.parse().ok());
    let flags = field(&["response_flags"]).unwrap_or_default();
    Ok(row(at, duration, facts, code, &flags))
}

fn row<'a>(at: Timestamp, ms: f64, facts: Facts<'a>, code: Option<u16>, flags: &str) -> Row<'a> {
    let http = facts.method.is_some();
    let has = |wanted: &[&str]| flags.split(',').any(|flag| wanted.contains(&flag));
    let mut answers = Answers::default();
    // As the plugin asks: no healthy upstream, a failed connect. Whom Envoy's own circuit breaker
    // refused, the upstream has not seen.
    if has(&["UH", "UF"]) {
        answers.failed = 1;
    } else if has(&["UO"]) {
    } else if http && matches!(code, Some(503 | 429)) {
        answers.refused = 1;
    } else if has(&["UT"]) {
        answers.silent = 1;
    } else {
        answers.good = 1;
    }
    Row::Stream {
        at,
        lasts: Duration::from_secs_f64(ms.clamp(0.0, MOST_MS) / 1000.0),
        key: None,
        facts,
        http,
        answers,
    }
}

/// What Envoy writes for nothing is nothing.
fn given(word: &str) -> Option<&str> {
    (!word.is_empty() && word != "-").then_some(word)
}

fn instant(text: &str) -> Option<Timestamp> {
    let at: Instant = text.trim().parse().ok()?;
    let nanos = u64::try_from(at.as_nanosecond()).ok()?;
    Some(Timestamp::from_nanos(nanos))
}

fn port(address: &str) -> Option<u16> {
    address.rsplit_once(':')?.1.parse().ok()
}

/// The words of a line and whether they were quoted; at most 32.
fn words(line: &str) -> Vec<(&str, bool)> {
    let mut words = Vec::with_capacity(20);
    let mut rest = line.trim_start();
    while !rest.is_empty() && words.len() < 32 {
        let (word, next, quoted) = match rest.strip_prefix('"') {
            Some(quoted) => {
                let (word, next) = quoted.split_once('"').unwrap_or((quoted, ""));
                (word, next, true)
            }
            None => {
                let (word, next) = rest.split_once(' ').unwrap_or((rest, ""));
                (word, next, false)
            }
        };
        words.push((word, quoted));
        rest = next.trim_start();
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts<'a>(row: &'a Row<'_>) -> (&'a Facts<'a>, Duration, Answers, bool) {
        match row {
            Row::Stream {
                facts,
                lasts,
                answers,
                http,
                ..
            } => (facts, *lasts, *answers, *http),
            Row::Count { .. } => unreachable!(),
        }
    }

    #[test]
    fn envoys_default_format_is_understood() {
        let line = "[2016-04-15T20:17:00.310Z] \"POST /api/v1/locations HTTP/2\" 503 UF,URX 154 0 226 100 \"10.0.35.28, 192.0.2.7\" \"nsq2http\" \"cc21d9b0\" \"locations\" \"tcp://10.0.2.1:80\"";
        let row = text(line).unwrap();
        let (facts, lasts, answers, http) = facts(&row);
        assert_eq!(facts.source, address("192.0.2.7"));
        assert_eq!(facts.authority.as_deref(), Some("locations"));
        assert_eq!(facts.path.as_deref(), Some("/api/v1/locations"));
        assert_eq!(facts.method.as_deref(), Some("POST"));
        assert_eq!(
            (lasts, answers.failed, http),
            (Duration::from_millis(226), 1, true)
        );
    }

    #[test]
    fn what_envoys_circuit_breaker_refused_is_no_answer_of_the_upstream() {
        let line = "[2016-04-15T20:17:00.310Z] \"GET / HTTP/1.1\" 503 UO 0 81 0 - \"-\" \"-\" \"cc21d9b0\" \"locations\" \"-\"";
        let row = text(line).unwrap();
        let (_, _, answers, http) = facts(&row);
        assert!(http);
        assert_eq!(answers, Answers::default());
    }

    #[test]
    fn istios_format_is_understood() {
        let line = "[2020-11-25T21:26:18.409Z] \"GET /status/418 HTTP/1.1\" 418 - via_upstream - \"-\" 0 135 4 4 \"-\" \"curl/7.73.0-DEV\" \"84961386\" \"httpbin:8000\" \"127.0.0.1:80\" inbound|8000|| 127.0.0.1:41854 10.44.1.27:80 10.44.1.23:37652 outbound_.8000 default";
        let row = text(line).unwrap();
        let (facts, lasts, answers, _) = facts(&row);
        assert_eq!(facts.source, address("10.44.1.23"));
        assert_eq!(facts.cluster.as_deref(), Some("inbound|8000||"));
        assert_eq!(facts.authority.as_deref(), Some("httpbin:8000"));
        assert_eq!(facts.listener_port, Some(80));
        assert_eq!((lasts, answers.good), (Duration::from_millis(4), 1));
    }

    #[test]
    fn json_lines_are_understood() {
        let line = r#"{"start_time":"2026-01-09T15:00:02.100Z","duration":12,"downstream_remote_address":"10.0.0.7:5","authority":"a","method":null,"path":"-","upstream_cluster":"db","response_code":0}"#;
        let row = json(line).unwrap();
        let (facts, lasts, _, http) = facts(&row);
        assert_eq!(facts.source, address("10.0.0.7"));
        assert_eq!(
            (facts.cluster.as_deref(), facts.path.as_deref()),
            (Some("db"), None)
        );
        assert_eq!((lasts, http), (Duration::from_millis(12), false));
        assert!(json("{\"start_time\":\"x\"}").is_err() && json("[]").is_err());
    }
}
