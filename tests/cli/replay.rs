//! `replay`: what the rules would have done with a trace.

use std::fmt::Write as _;

use serde_json::Value;
use tidegate::scenario::{Scenario, Shape};

use super::{Ran, command, ran, run, run_with};

/// 2026-01-09 15:00:00 UTC.
const START: f64 = 1_767_970_800.0;

/// Counts a second of a scenario.
fn counts(mut scenario: Scenario, seconds: u32) -> String {
    let mut trace = "t,count\n".to_owned();
    for second in 1..=seconds {
        let count: u32 = scenario.by_ref().take(10).sum();
        let _ = writeln!(trace, "{},{count}", START + f64::from(second));
    }
    trace
}

/// Connections of 20 callers, each open for `lasts`.
fn connections(mut scenario: Scenario, seconds: u32, lasts: f64) -> String {
    let mut trace = "t,key,duration_s\n".to_owned();
    for lap in 0..seconds * 10 {
        let mut laps = [0; 20];
        scenario.next_by_caller(&mut laps);
        let all: u32 = laps.iter().sum();
        let mut index = 0;
        for (caller, count) in laps.iter().enumerate() {
            for _ in 0..*count {
                let part = f64::from(index) / f64::from(all);
                let t = START + (f64::from(lap) + part) / 10.0;
                let _ = writeln!(trace, "{t:.4},10.0.0.{caller},{lasts}");
                index += 1;
            }
        }
    }
    trace
}

fn json(told: &Ran) -> Value {
    assert_eq!(told.code, 0, "{}", told.err);
    serde_json::from_str(&told.out).expect("JSON")
}

fn replayed(trace: &str) -> Value {
    json(&run_with(&["replay", "--format", "json", "-"], trace))["rules"][0].clone()
}

/// The path of a configuration in a file of its own.
fn config(name: &str, text: &str) -> String {
    let folder = env!("CARGO_TARGET_TMPDIR");
    let path = format!("{folder}/replay-{name}");
    std::fs::write(&path, text).expect("a temporary file");
    path
}

fn step(factor: f64, lasts: f64) -> Shape {
    Shape::Step {
        at: 300.0,
        factor,
        lasts,
    }
}

#[test]
fn steady_arrivals_are_no_surge() {
    let rule = replayed(&counts(Scenario::new(50.0, 1), 3600));
    assert_eq!(rule["surges"], serde_json::json!([]));
    assert_eq!(rule["arrivals"], rule["admitted"]);
    let names: Vec<_> = rule.as_object().expect("an object").keys().collect();
    assert_eq!(
        names,
        [
            "name",
            "arrivals",
            "admitted",
            "held",
            "redirected",
            "rejected",
            "rejected_by_reason",
            "surges",
            "watches",
            "drift_warnings"
        ]
    );
}

#[test]
fn ten_times_as_many_are_one_surge_within_a_second_and_its_caller_is_named() {
    let shape = Shape::OneCaller {
        at: 300.0,
        factor: 10.0,
        lasts: 60.0,
    };
    let trace = connections(Scenario::new(40.0, 2).shape(shape), 500, 0.01);
    let rule = replayed(&trace);
    let surges = rule["surges"].as_array().expect("surges");
    assert_eq!(surges.len(), 1, "{surges:?}");
    let surge = &surges[0];
    let start = surge["start"].as_f64().expect("a start") - START;
    assert!((300.0..=301.0).contains(&start), "{start}");
    let end = surge["end"].as_f64().expect("an end") - START;
    assert!((360.0..=375.0).contains(&end), "{end}");
    assert_eq!(surge["spread"], "one_caller");
    assert_eq!(surge["callers"][0]["key"], "10.0.0.0");
    let ratio = surge["ratio"].as_f64().expect("a ratio");
    assert!((9.0..13.0).contains(&ratio), "{ratio}");
}

#[test]
fn a_lasting_tripling_is_normal_within_half_an_hour() {
    let trace = counts(Scenario::new(50.0, 3).shape(step(3.0, f64::INFINITY)), 3600);
    let rule = replayed(&trace);
    assert_eq!(rule["surges"].as_array().map(Vec::len), Some(1));
    let end = rule["surges"][0]["end"].as_f64().expect("an end") - START;
    assert!(end < 300.0 + 1800.0, "{end}");
}

#[test]
fn a_surge_that_lasts_has_no_end() {
    let rule = replayed(&counts(Scenario::new(50.0, 4).shape(step(10.0, 1e9)), 330));
    assert!(rule["surges"][0]["end"].is_null(), "{rule}");
    assert!(rule["surges"][0]["spread"].is_null(), "nobody is named");
}

#[test]
fn connections_over_the_limit_are_held_and_refused() {
    // 40/s of 0.5 s are 20 open; ×10 are 200.
    let trace = connections(Scenario::new(40.0, 5).shape(step(10.0, 20.0)), 340, 0.5);
    let limited = config(
        "limit.yaml",
        "rules:\n- name: db\n  limits: {inflight: 50}\n",
    );
    let told = run_with(
        &["replay", "--format", "json", "--config", &limited, "-"],
        &trace,
    );
    let rule = &json(&told)["rules"][0];
    let number = |name: &str| rule[name].as_u64().expect(name);
    assert_eq!(number("admitted") + number("rejected"), number("arrivals"));
    // 300/s too many for 20 s.
    assert!((5_000..7_000).contains(&number("rejected")), "{rule}");
    assert!(number("held") > 2_000, "{rule}");
    let free = config(
        "off.yaml",
        "rules:\n- {name: db, mode: off, limits: {inflight: 50}}\n",
    );
    let off = run_with(
        &["replay", "--format", "json", "--config", &free, "-"],
        &trace,
    );
    assert_eq!(json(&off)["rules"][0]["arrivals"], 0);
}

#[test]
fn the_live_page_s_configuration_has_nothing_to_replay_with() {
    let page = config("page.yaml", "status: true\n");
    let told = run_with(&["replay", "--config", &page, "-"], "t,count\n1,5\n");
    assert_eq!((told.code, told.out.as_str()), (1, ""));
    assert!(told.err.contains("guards nothing"), "{}", told.err);
}

/// What a rule does, and what it refuses by reason.
fn refused(name: &str, rule: &str, trace: &str) -> (Value, impl Fn(&str) -> u64) {
    let path = config(name, &format!("rules:\n- {rule}\n"));
    let told = run_with(
        &["replay", "--format", "json", "--config", &path, "-"],
        trace,
    );
    let rule = json(&told)["rules"][0].clone();
    let reasons = rule["rejected_by_reason"].clone();
    let sum = reasons.as_object().expect("an object").values();
    let sum: u64 = sum.map(|count| count.as_u64().expect("a number")).sum();
    assert_eq!(rule["rejected"], sum);
    (rule, move |reason| reasons[reason].as_u64().unwrap_or(0))
}

#[test]
fn a_hot_caller_is_refused_as_one_and_the_others_are_spared() {
    // 20 open; in the surge one caller alone wants 180 more.
    let shape = Shape::OneCaller {
        at: 300.0,
        factor: 10.0,
        lasts: 20.0,
    };
    let trace = connections(Scenario::new(40.0, 9).shape(shape), 340, 0.5);
    let (rule, reason) = refused("hot.yaml", "{name: db, limits: {inflight: 50}}", &trace);
    let rejected = rule["rejected"].as_u64().expect("a number");
    // 360/s for 20 s, of which some fit.
    assert!((4_000..7_300).contains(&rejected), "{rule}");
    assert!(reason("hot_caller") * 100 > rejected * 97, "{rule}");
}

#[test]
fn a_surge_of_everybody_is_refused_for_its_pressure() {
    let trace = connections(Scenario::new(40.0, 10).shape(step(10.0, 20.0)), 340, 0.5);
    let limited = "{name: db, limits: {inflight: 50}}";
    let (rule, reason) = refused("everybody.yaml", limited, &trace);
    assert!(reason("surge_pressure") > 1_000, "{rule}");
    let path = config("everybody.yaml", &format!("rules: [{limited}]\n"));
    for format in ["text", "html"] {
        let arguments = ["replay", "--format", format, "--config", &path, "-"];
        let told = run_with(&arguments, &trace);
        assert!(told.out.contains(" surge_pressure, "), "{}", told.out);
    }
    // Whoever is of the first class is never shed for a surge.
    let first = "{name: db, limits: {inflight: 50}, classes: [\
        {name: first, match: {source: [10.0.0.0/8]}, priority: 0}]}";
    let (rule, reason) = refused("first.yaml", first, &trace);
    assert_eq!(reason("surge_pressure"), 0, "{rule}");
}

#[test]
fn what_is_led_elsewhere_is_not_refused() {
    let trace = connections(Scenario::new(40.0, 11).shape(step(10.0, 20.0)), 340, 0.5);
    let (rule, _) = refused(
        "redirect.yaml",
        "{name: db, limits: {inflight: 50}, redirect: {cluster: replica}}",
        &trace,
    );
    let number = |name: &str| rule[name].as_u64().expect(name);
    assert_eq!(number("rejected"), 0);
    assert!(number("redirected") > 4_000, "{rule}");
    assert_eq!(
        number("admitted") + number("redirected"),
        number("arrivals")
    );
}

#[test]
fn counts_show_the_limit_of_arrivals_and_not_that_of_what_is_open() {
    let trace = counts(Scenario::new(50.0, 6).shape(step(10.0, 10.0)), 400);
    let limited = config(
        "counts.json",
        r#"{"rules": [{"name": "db", "hold": "off", "limits": {"inflight": 5, "arrivals_per_s": 200}}]}"#,
    );
    let told = run_with(
        &["replay", "--format", "json", "--config", &limited, "-"],
        &trace,
    );
    let rule = &json(&told)["rules"][0];
    let rejected = rule["rejected"].as_u64().expect("a number");
    // 500/s for 10 s, of which 200/s fit.
    assert!((2_500..3_300).contains(&rejected), "{rejected}");
    assert_eq!(told.err.matches("limits.inflight is left out").count(), 1);
}

#[test]
fn an_access_log_is_matched_by_what_it_says() {
    let rules = config(
        "access.yaml",
        "rules:\n- {name: write, match: {method: [POST], authority: api}}\n\
         - {name: inside, match: {source: [10.0.0.0/8]}}\n- {name: rest}\n",
    );
    let mut text = String::new();
    let mut lines = String::new();
    for second in 0..30 {
        for (method, authority, source) in [
            ("POST", "api", "10.0.0.1"),
            ("GET", "api", "10.0.0.1"),
            ("GET", "web", "192.0.2.1"),
        ] {
            // Written when they end, so that starts are out of order.
            let start = format!("2026-01-09T15:00:{:02}.500Z", 29 - second);
            let ms = second * 2000;
            let _ = writeln!(
                text,
                "[{start}] \"{method} /v1/x HTTP/1.1\" 200 - 0 5 {ms} 4 \"{source}\" \"curl\" \"id\" \"{authority}\" \"10.9.9.9:80\""
            );
            let _ = writeln!(
                lines,
                r#"{{"start_time":"{start}","duration":{ms},"downstream_remote_address":"{source}:99","authority":"{authority}","method":"{method}","path":"/v1/x","response_code":200}}"#
            );
        }
    }
    for trace in [text, lines] {
        let told = run_with(
            &["replay", "--format", "json", "--config", &rules, "-"],
            &trace,
        );
        let all = json(&told);
        for rule in 0..3 {
            assert_eq!(all["rules"][rule]["arrivals"], 30, "{}", all["rules"][rule]);
        }
        assert_eq!(told.err, "");
    }
}

#[test]
fn lines_that_are_wrong_are_counted_and_the_first_are_named() {
    let mut trace = "t,count\n1,5\nx,1\n2,5\n1,5\n2,-1\n".to_owned();
    trace.extend(std::iter::repeat_n("?\n", 10));
    trace.push_str(&"9".repeat(100_000));
    trace.push_str("\n3,5\n");
    let told = run_with(&["replay", "--format", "json", "-"], &trace);
    assert_eq!(json(&told)["rules"][0]["arrivals"], 15);
    for line in [
        "tidegatectl: <stdin>:3: left out: its `t` is no number of Unix seconds\n",
        "tidegatectl: <stdin>:5: left out: out of order",
        "tidegatectl: <stdin>:6: left out: its `count` is no whole number",
        "tidegatectl: <stdin>: 9 more lines left out\n",
    ] {
        assert!(told.err.contains(line), "{line}\n---\n{}", told.err);
    }
}

#[test]
fn a_fact_that_the_trace_lacks_is_told_once() {
    let trace = counts(Scenario::new(50.0, 7), 20);
    let one = config("one.yaml", "rules: [{name: a, match: {cluster: db}}]\n");
    let told = run_with(
        &["replay", "--format", "json", "--config", &one, "-"],
        &trace,
    );
    assert_ne!(json(&told)["rules"][0]["arrivals"], 0);
    assert!(
        told.err.contains("rule a asks for `cluster`"),
        "{}",
        told.err
    );
    assert!(told.err.contains("only rule"), "{}", told.err);
    assert_eq!(told.err.lines().count(), 1);

    let two = config(
        "two.yaml",
        "rules: [{name: a, match: {cluster: db}}, {name: b, match: {path_prefix: /x}}]\n",
    );
    let told = run_with(
        &["replay", "--format", "json", "--config", &two, "-"],
        &trace,
    );
    assert_eq!(json(&told)["rules"][0]["arrivals"], 0);
    assert!(told.err.contains("arrivals under no rule"), "{}", told.err);
}

#[test]
fn the_summary_has_a_chart_and_its_colours_are_for_who_wants_them() {
    let trace = counts(Scenario::new(50.0, 8).shape(step(10.0, 30.0)), 600);
    let run = |name: &str, value: &str| {
        let mut command = command(&["replay", "-"]);
        command.env(name, value);
        ran(command, trace.as_bytes())
    };
    let plain = run("COLUMNS", "60");
    assert_eq!((plain.code, plain.err.as_str()), (0, ""));
    assert!(
        plain
            .out
            .starts_with("default (mode: shadow, shown as if enforced)\n"),
        "{}",
        plain.out
    );
    assert!(plain.out.contains('█') && plain.out.contains('▲'));
    assert!(
        plain.out.contains("surge 2026-01-09 15:05:00"),
        "{}",
        plain.out
    );
    let chart = plain
        .out
        .lines()
        .filter(|line| line.contains(['█', '▁', '▂']));
    assert!(
        chart
            .map(|line| line.chars().count())
            .all(|width| width <= 60)
    );
    assert!(run("CLICOLOR_FORCE", "1").out.contains('\u{1b}'));
    assert!(!run("NO_COLOR", "1").out.contains('\u{1b}'));
    assert_eq!(run("COLUMNS", "60").out, plain.out, "the same again");
}

#[test]
fn the_page_needs_nothing_else_and_holds_no_markup_from_the_trace() {
    let mut trace = "t,key,duration_s\n".to_owned();
    for tenth in 0..3000 {
        let _ = writeln!(trace, "{},calm,0", START + f64::from(tenth) / 10.0);
    }
    for tenth in 0..3000 {
        let t = START + 300.0 + f64::from(tenth) / 100.0;
        let _ = writeln!(trace, "{t},\"<b onload=\"\"x\"\">'&\",0");
    }
    let page = run_with(&["replay", "--format", "html", "-"], &trace);
    assert_eq!(page.code, 0, "{}", page.err);
    assert!(page.out.starts_with("<!doctype html>"));
    for part in [
        "<polyline class=\"rate\"",
        "<polyline class=\"base\"",
        "class=\"surge\"",
        "prefers-color-scheme:dark",
        "<code>&lt;b onload=&quot;x&quot;&gt;&#39;&amp;</code>",
    ] {
        assert!(page.out.contains(part), "{part}\n---\n{}", page.out);
    }
    for outside in [
        "<b ", "<script", "http://", "https://", "src=", "href=", "url(", "@import",
    ] {
        assert!(!page.out.contains(outside), "{outside}");
    }
}

#[test]
fn what_cannot_be_replayed_ends_with_1_and_what_cannot_be_read_with_2() {
    for nothing in ["", "hello\n", "t,count\n", "t,count\nx,y\n", "1,a,2\n"] {
        let told = run_with(&["replay", "-"], nothing);
        assert_eq!((told.code, told.out.as_str()), (1, ""), "{nothing}");
        assert!(!told.err.is_empty());
    }
    let wrong = config(
        "wrong.yaml",
        "rules:\n- name: db\n  limits: {inflight: 0}\n",
    );
    let told = run_with(&["replay", "--config", &wrong, "-"], "1,2\n");
    assert_eq!((told.code, told.out.as_str()), (1, ""));
    assert!(
        told.err.contains("rules[0].limits.inflight"),
        "{}",
        told.err
    );
    for arguments in [
        &["replay", "no/such.csv"][..],
        &["replay", "--config", "no/such.yaml", "-"],
        &["replay", "--config", "-", "-"],
        &["replay"],
    ] {
        let told = run(arguments);
        assert_eq!((told.code, told.out.as_str()), (2, ""), "{arguments:?}");
    }
}
