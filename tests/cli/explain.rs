//! `explain`: a post-mortem from a log.

use super::{run, run_with};

const LOG: &str = "tests/cli/data/surge.log";

#[test]
fn a_log_becomes_a_post_mortem_in_markdown() {
    let told = run(&["explain", LOG]);
    assert_eq!(told.code, 0);
    for part in [
        "# What tidegate saw\n\n2 surges in 7 events, from 2026-01-09 14:59:30 to 2026-01-09 15:01:10 UTC.\n",
        "## Surge 1: `orders-db`\n\n- When: 2026-01-09 15:00:02 to 2026-01-09 15:00:44 (42.1 s)\n",
        "- How much: 412/s instead of 21.3/s, 19.3×; 530/s at the peak\n",
        "- Who: one caller; `10.0.0.7` made 390/s, 205× its usual rate, 95 % of all\n",
        "- Shed: 15,210 rejected (110 of them of normal callers), 320 held\n",
        "| `<b>\\|ˋxˋ` | 4.0 | 0.0 | new | 1 % |\n",
        "| `hot_caller` | 15,100 |\n",
        "- When: 2026-01-09 15:00:20 to after the log: it was not over\n",
        "- 2026-01-09 15:00:05.100 `orders-db`: the inflight limit was lowered to 80, with 100 inflight\n",
    ] {
        assert!(told.out.contains(part), "{part}\n---\n{}", told.out);
    }
    let started = told.out.matches("took a configuration").count();
    assert_eq!(started, 1, "what each worker says is told once");
}

#[test]
fn lines_that_are_no_events_are_counted_on_stderr() {
    let told = run(&["explain", LOG]);
    assert_eq!(
        told.err,
        format!(
            "tidegatectl: {LOG}: 1 event line not understood: no JSON object with a time behind the mark\n\
             tidegatectl: {LOG}: 1 event line of an unknown kind, left out\n"
        )
    );
}

#[test]
fn the_page_needs_nothing_else_and_holds_no_markup_from_the_log() {
    let page = run(&["explain", "--format", "html", LOG]);
    assert_eq!(page.code, 0);
    assert!(page.out.starts_with("<!doctype html>"));
    assert!(page.out.contains("<svg"));
    assert!(
        page.out.contains("<code>&lt;b&gt;|`x`</code>"),
        "{}",
        page.out
    );
    for outside in [
        "<b>", "<script", "http://", "https://", "src=", "href=", "url(", "@import",
    ] {
        assert!(!page.out.contains(outside), "{outside}");
    }
}

#[test]
fn json_is_for_programs() {
    let json = run(&["explain", "--format", "json", LOG]);
    let story: serde_json::Value = serde_json::from_str(&json.out).expect("JSON");
    let surge = &story["surges"][0];
    assert_eq!(surge["rule"], "orders-db");
    assert_eq!(surge["duration_s"], 42.1);
    assert_eq!(surge["rejected_by_reason"]["hot_caller"], 15100.0);
    assert_eq!(surge["callers"][0]["key"], "10.0.0.7");
    assert!(story["surges"][1]["end"].is_null());
    assert_eq!(story["ignored"]["malformed"], 1);
    assert_eq!(story["timeline"].as_array().map(Vec::len), Some(7));
}

#[test]
fn what_the_plugin_writes_today_is_understood() {
    use tidegate::{
        engine::Timestamp,
        event::{Event, StartedRule},
    };
    let rules = vec![StartedRule {
        name: "orders-db",
        mode: "shadow",
    }];
    let line = Event::started(Timestamp::from_millis(1_767_970_802_100), rules).line();
    let told = run_with(&["explain", "-"], &format!("[x] wasm log: {line}\n"));
    assert_eq!((told.code, told.err.as_str()), (0, ""));
    assert!(told.out.contains("0 surges in 1 event,"), "{}", told.out);
    assert!(told.out.contains("`orders-db` in `shadow`"), "{}", told.out);
}

#[test]
fn a_log_without_events_ends_with_1_and_one_that_is_not_there_with_2() {
    let empty = run_with(&["explain", "-"], "nothing\n");
    assert_eq!((empty.code, empty.out.as_str()), (1, ""));
    assert!(empty.err.contains("no event"), "{}", empty.err);
    let missing = run(&["explain", "no/such.log"]);
    assert_eq!((missing.code, missing.out.as_str()), (2, ""));
    assert!(missing.err.contains("cannot read no/such.log"));
}
