//! The whole of it for real: up, a surge, what Prometheus saw of it, and down.

use std::{io::Write, net::Ipv4Addr, panic::resume_unwind, thread};

use serde_json::Value;

use crate::{
    engine::{API, Engine, PROMETHEUS, STATUS},
    harness::{connect, http, places::skip, until},
};

/// All but Grafana and the surge; what they depend on comes with them.
const STARTED: [&str; 2] = ["load", "prometheus"];
const RULES: [&str; 2] = ["orders-db", "api"];

/// What is up, until it goes down.
struct Up(Engine);

impl Up {
    fn new(engine: Engine) -> Self {
        let up = Self(engine);
        up.0.compose(&[&["up", "--detach", "--wait"][..], &STARTED].concat());
        up
    }

    fn down(&self) {
        self.0
            .compose(&["--profile", "surge", "down", "--volumes", "--timeout", "5"]);
    }

    /// What a browser would get.
    fn get(&self, service: (&str, u16), path: &str) -> http::Response {
        self.get_as("127.0.0.1", service, path)
    }

    fn get_as(&self, host: &str, service: (&str, u16), path: &str) -> http::Response {
        let mut stream = connect((Ipv4Addr::LOCALHOST, self.0.port(service)).into());
        let request = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).expect("sent");
        http::answer(stream)
    }

    /// The value of an expression in Prometheus now; none when it gives no series.
    fn value(&self, expression: &str) -> Option<f64> {
        let escaped = |byte| format!("%{byte:02X}");
        let escaped: String = expression.bytes().map(escaped).collect();
        let answer = self.get(PROMETHEUS, &format!("/api/v1/query?query={escaped}"));
        assert_eq!(answer.status, 200, "{expression}: {}", answer.body);
        let json: Value = serde_json::from_str(&answer.body).expect("JSON");
        let value = json["data"]["result"][0]["value"][1].as_str()?;
        Some(value.parse().expect("a number"))
    }

    /// Waits until an expression is above a value.
    fn until_above(&self, least: f64, expression: &str) {
        until(|| match self.value(expression) {
            Some(value) if value > least => Ok(()),
            value => Err(format!("{expression} is {value:?}")),
        });
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("{}", self.0.compose(&["ps"]));
            eprintln!(
                "{}",
                self.0.compose(&["logs", "--no-color", "--tail", "40"])
            );
        }
        self.down();
    }
}

/// So many of a kind, in what the surge says at its end: `12 database: served`.
fn counted(said: &str, what: &str) -> u32 {
    let found = said.lines().find_map(|line| line.trim().strip_suffix(what));
    let number = found.and_then(|count| count.trim().parse().ok());
    number.unwrap_or_else(|| panic!("no {what:?} in:\n{said}"))
}

#[test]
fn a_surge_in_compose_is_shed_and_seen_by_prometheus() {
    let test = "a_surge_in_compose_is_shed_and_seen_by_prometheus";
    match Engine::find() {
        // In a thread of its own: it enters the network of the engine for good.
        Ok(engine) => match thread::spawn(|| surge(engine)).join() {
            Ok(()) => {}
            Err(panic) => resume_unwind(panic),
        },
        Err(why) => skip(test, &why),
    }
}

fn surge(engine: Engine) {
    engine.enter();
    let up = Up::new(engine);

    let page = up.get(STATUS, "/");
    assert_eq!(page.status, 200);
    assert!(page.body.contains("<title>tidegate"), "{}", page.body);
    let stats = up.get(STATUS, "/stats");
    assert!(stats.body.contains("tidegate_phase"), "{}", stats.body);
    for closed in [
        "/config_dump",
        "/quitquitquit",
        "/stats?filter=x",
        "/stats/prometheus",
    ] {
        assert_eq!(up.get(STATUS, closed).status, 404, "{closed}");
    }
    assert_eq!(up.get_as("foreign.example", STATUS, "/stats").status, 404);
    assert_eq!(up.get(API, "/").body, "done\n");

    for rule in RULES {
        up.until_above(
            2.0,
            &format!("tidegate_arrival_rate_per_s{{rule='{rule}'}}"),
        );
        let calm = format!("max(tidegate_phase{{rule='{rule}'}})");
        assert!(up.value(&calm).is_some_and(|phase| phase < 3.0), "{rule}");
    }
    let alerts = up.get(PROMETHEUS, "/api/v1/rules").body;
    assert!(alerts.contains("TidegateSurge"), "{alerts}");

    let said = up.0.compose(&["run", "--rm", "-T", "surge", "20"]);
    for kind in ["database", "API"] {
        assert!(counted(&said, &format!("{kind}: served")) > 0, "{said}");
        assert!(counted(&said, &format!("{kind}: refused")) > 0, "{said}");
    }
    for rule in RULES {
        up.until_above(
            2.9,
            &format!("max_over_time(tidegate_phase{{rule='{rule}'}}[5m])"),
        );
        up.until_above(0.0, &format!("tidegate_surges_total{{rule='{rule}'}}"));
        up.until_above(
            0.0,
            &format!("sum(tidegate_rejected_total{{rule='{rule}'}})"),
        );
        let alert = format!("ALERTS{{alertname='TidegateSurge',rule='{rule}'}}");
        up.until_above(0.0, &format!("max_over_time({alert}[5m])"));
        let most = format!("max_over_time(tidegate_inflight{{rule='{rule}'}}[5m])");
        assert!(up.value(&most).is_some_and(|most| most <= 40.0), "{rule}");
    }
    for rule in RULES {
        until(|| {
            let phase = up.value(&format!("tidegate_phase{{rule='{rule}'}}"));
            let over = phase.filter(|phase| *phase != 3.0);
            over.ok_or_else(|| format!("the surge of {rule} should end"))
        });
    }

    let events = up.0.compose(&["logs", "--no-color", "envoy"]);
    for rule in RULES {
        let started = format!(r#""event":"surge_started","rule":"{rule}""#);
        assert!(events.contains(&started), "{events}");
        let who = up.get(STATUS, &format!("/surges/{rule}")).body;
        assert!(who.contains(&started) && events.contains(&who), "{who}");
    }
    // Whoever was there before was served all the while.
    let load = up.0.compose(&["logs", "--no-color", "load"]);
    assert!(!load.contains("FATAL"), "{load}");

    up.down();
    assert_eq!(up.0.left(), "");
}
