//! Every configuration that is shipped, any that may be written, and any bytes.

use std::fs;

use proptest::prelude::*;
use serde_json::{Value, json};

use crate::{
    cases,
    days::day,
    dice::Dice,
    envoy::Envoy,
    machine::{Machine, Sort},
    module::Build,
    places::repository,
    seen,
    weather::Weather,
    world::World,
};

/// The plugin configurations in the files to copy and on the pages, as JSON text.
fn shipped() -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut folders = vec![repository("envoy"), repository("docs")];
    let mut files = vec![repository("README.md")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            let known = ["yaml", "md"].map(Some);
            match path.extension().and_then(|found| found.to_str()) {
                _ if path.is_dir() => folders.push(path),
                extension if known.contains(&extension) => files.push(path),
                _ => {}
            }
        }
    }
    for file in files {
        let text = fs::read_to_string(&file).expect("text");
        // The blocks of a page, or the file as a whole, which may be several documents.
        let parts: Vec<&str> = if file.extension().is_some_and(|found| found == "md") {
            let blocks = text.split("```").skip(1).step_by(2);
            blocks
                .filter_map(|block| block.split_once('\n'))
                .map(|(_, body)| body)
                .collect()
        } else {
            text.split("\n---\n").collect()
        };
        for part in parts {
            let Ok(value) = serde_saphyr::from_str::<Value>(part) else {
                continue;
            };
            let mut texts = Vec::new();
            configurations(&value, &mut texts);
            let name = file.display().to_string();
            found.extend(texts.into_iter().map(|text| (name.clone(), text)));
        }
    }
    found
}

/// Finds what has rules that have names, or is for the live page, as a value or as a text.
fn configurations(value: &Value, found: &mut Vec<String>) {
    let names = |value: &Value| {
        if value.get("status").and_then(Value::as_bool) == Some(true) {
            return Some(());
        }
        let rules = value.get("rules").and_then(Value::as_array)?;
        let named = rules.iter().all(|rule| rule.get("name").is_some());
        (!rules.is_empty() && named && rules.iter().any(|rule| rule.get("limits").is_some()))
            .then_some(())
    };
    match value {
        _ if names(value).is_some() => found.push(value.to_string()),
        Value::String(text) => {
            let parsed = serde_json::from_str::<Value>(text).ok();
            if parsed.is_some_and(|parsed| names(&parsed).is_some()) {
                found.push(text.clone());
            }
        }
        Value::Array(values) => values.iter().for_each(|value| configurations(value, found)),
        Value::Object(fields) => fields
            .values()
            .for_each(|value| configurations(value, found)),
        _ => {}
    }
}

/// A day under a configuration, all for requests and connections, in some weather.
fn live(build: Build, text: &str, weather: &Weather) -> bool {
    let mut world = World::new(build, 1);
    let worker = &mut world.workers[0];
    if !(worker.configure(Sort::Http, text) && worker.configure(Sort::Tcp, text)) {
        return false;
    }
    world.weather(weather);
    day(&mut world, 0);
    true
}

#[test]
fn each_that_is_shipped_is_taken_and_lived_with() {
    let shipped = shipped();
    assert!(shipped.len() >= 20, "{} were found", shipped.len());
    for (place, text) in shipped {
        let taken = Build::ALL.map(|build| live(build, &text, &Weather::Fine));
        assert!(taken[1], "{place}: {text}");
        let failing = Weather::Some {
            dice: Dice::new(3),
            odds: 4,
        };
        live(Build::Inspect, &text, &failing);
    }
    seen::tell("configurations that are shipped");
}

/// One of these.
fn one(all: &[Value]) -> impl Strategy<Value = Value> + use<> {
    prop::sample::select(all.to_vec())
}

/// A rule that may be right.
fn rule() -> impl Strategy<Value = Value> {
    let fields = [
        (
            "match",
            one(&[
                json!({"listener_port": 5432}),
                json!({"path_prefix": "/moved"}),
                json!({"source": ["10.0.0.0/8"]}),
                json!({"cluster": "api"}),
                json!({"authority": "api.example"}),
                json!({"method": ["GET"]}),
            ]),
        ),
        (
            "protocol",
            one(&[json!("tcp"), json!("postgres"), json!("mysql")]),
        ),
        (
            "limits",
            one(&[
                json!({"inflight": 1}),
                json!({"inflight": 3, "arrivals_per_s": 5}),
                json!({"arrivals_per_s": 1}),
                json!({"connecting": 1}),
                json!({"inflight": 1_000_000, "connecting": 2}),
            ]),
        ),
        (
            "key",
            one(&[
                json!("none"),
                json!("source_ip"),
                json!("peer"),
                json!("sni"),
                json!("authority"),
                json!("header:x-caller"),
                json!("postgres.user"),
                json!("postgres.application_name"),
            ]),
        ),
        (
            "sticky",
            one(&[
                json!("source_ip"),
                json!("header:x-caller"),
                json!("cookie:user"),
                json!("key"),
            ]),
        ),
        (
            "classes",
            one(&[json!([
                {"name": "a", "match": {"source": ["10.0.0.0/16"]}, "priority": 0, "reserved": 1},
                {"name": "b", "match": {"header": {"name": "x-caller", "value": "c1"}}, "priority": 255},
            ])]),
        ),
        (
            "surge",
            one(&[
                json!({"warm_up": "1s", "min_excess": 0, "baseline_per_s": 0.1}),
                json!({"sensitivity": 1.05, "min_excess": 1}),
                json!({"sensitivity": 1000.0}),
            ]),
        ),
        (
            "hold",
            one(&[
                json!("off"),
                json!({"max_wait": "1ms"}),
                json!({"max_wait": "60s", "max_waiting": 65536}),
                json!({"max_waiting": 1, "order": "oldest_first"}),
            ]),
        ),
        (
            "redirect",
            one(&[
                json!({"cluster": "replica"}),
                json!({"header": {"name": "x-route", "value": "overflow"}}),
            ]),
        ),
        (
            "reject",
            one(&[
                json!({"slow": "off"}),
                json!({"slow": "100ms", "max_slow": 1}),
                json!({"http_status": 599}),
                json!({"tcp": "protocol", "cluster": "tidegate-refuse"}),
                json!({"body": "b", "retry_after": "0s"}),
            ]),
        ),
        ("adaptive", one(&[json!(true), json!(false)])),
        (
            "mode",
            one(&[json!("off"), json!("shadow"), json!("enforce")]),
        ),
    ];
    let fields: Vec<_> = fields
        .into_iter()
        .map(|(name, values)| prop::option::weighted(0.35, values.prop_map(move |v| (name, v))))
        .collect();
    fields.prop_map(|fields| {
        let named = fields.into_iter().flatten();
        Value::Object(
            named
                .map(|(name, value)| (name.to_owned(), value))
                .collect(),
        )
    })
}

proptest! {
    #![proptest_config(cases(60))]

    #[test]
    fn any_that_may_be_written_is_lived_with(
        rules in prop::collection::vec(rule(), 1..4),
        seed in any::<u64>(),
        odds in 2..30_u64,
    ) {
        let rules: Vec<Value> = rules
            .into_iter()
            .enumerate()
            .map(|(number, mut rule)| {
                rule["name"] = json!(format!("rule-{number}"));
                rule
            })
            .collect();
        let text = json!({"mode": "enforce", "rules": rules}).to_string();
        for build in Build::ALL {
            live(build, &text, &Weather::Fine);
            live(build, &text, &Weather::Some { dice: Dice::new(seed), odds });
        }
    }

    #[test]
    fn any_bytes_are_answered(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let envoy = Envoy::start();
        let mut machine = Machine::start(Build::Plain, &envoy);
        machine.create(1, 0);
        machine.configure(1, &bytes, bytes.len() as u32);
    }
}

#[test]
fn the_largest_configurations_are_answered_within_the_bound() {
    let envoy = Envoy::start();
    let mut machine = Machine::start(Build::Plain, &envoy);
    machine.create(1, 0);
    let rules: Vec<Value> = (0..64)
        .map(|number| {
            let sources: Vec<_> = (0..64)
                .map(|net| format!("10.{number}.{net}.0/24"))
                .collect();
            json!({"name": format!("rule-{number}"), "match": {"source": sources},
                "limits": {"inflight": 10}})
        })
        .collect();
    let largest = json!({"mode": "enforce", "rules": rules}).to_string();
    let many = |text: &str| text.repeat((1 << 20) / text.len()).into_bytes();
    for (bytes, taken) in [
        (largest.into_bytes(), true),
        (many("["), false),
        (many(r#"{"a":"#), false),
        (many("[1,"), false),
        // A Struct of a field within a field, of many fields, and of none.
        (many("\n\x7f"), false),
        (many("\n\x04\n\x01a\x12"), false),
        (vec![0; 1 << 20], false),
        (vec![b'x'; 4 << 20], false),
        (vec![b'x'; 5 << 20], false),
    ] {
        let told = format!("{:?}", &bytes[..bytes.len().min(20)]);
        assert_eq!(
            machine.configure(1, &bytes, bytes.len() as u32),
            taken,
            "{told}"
        );
    }
    drop(machine);
    seen::tell("the largest configurations");
}
