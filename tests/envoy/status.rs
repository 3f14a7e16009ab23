//! The live page: the real Envoy serves it, the real Chromium shows it.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    process::Command,
};

use serde_json::Value;

use crate::harness::{
    Bootstrap, Conduct, Envoy, Load, TCP, Upstream,
    chromium::{Browser, View},
    connect, fates,
    http::answer,
    knocks,
    metrics::{Metrics, Series},
    places::{self, Folder, free_port},
    until,
};

const RULE: &str = "service";
const CULPRIT: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
const LISTENER: &str = "tidegate-status";

/// What the page says of its only rule.
const SAYS: &str = "(() => {
    const number = (text) => Number(text.replaceAll(',', ''));
    const each = (selector, pair) => Object.fromEntries([...document.querySelectorAll(selector)].map(pair));
    return {
        name: document.querySelector('[data-name]')?.textContent,
        phase: document.querySelector('[data-phase]')?.textContent,
        numbers: each('[data-number]', (one) => [one.dataset.number, number(one.textContent)]),
        totals: each('[data-row]', (row) => [row.dataset.row, number(row.cells[2].textContent)]),
        rates: each('[data-row]', (row) => [row.dataset.row, number(row.cells[1].textContent)]),
        callers: [...document.querySelectorAll('[data-who]:not([hidden]) tbody tr')].map((row) => row.cells[0].textContent),
        moments: document.querySelector('[data-line]')?.getAttribute('d').split(/[ML]/).length - 1,
    };
})()";

/// Starts Envoy with the shipped listener beside a bootstrap.
fn serve(bootstrap: Bootstrap, port: u16) -> Envoy {
    let listener = places::repository("envoy/status/listener.yaml");
    serve_by(
        bootstrap,
        port,
        &fs::read_to_string(listener).expect("it is there"),
    )
}

/// The same, with a listener like that.
fn serve_by(bootstrap: Bootstrap, port: u16, listener: &str) -> Envoy {
    let admin = free_port();
    let address = |port| {
        format!("admin:\n  address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}")
    };
    let bootstrap = bootstrap.set(&address(0), &address(admin));
    let page = places::repository("envoy/status/index.html");
    let module = places::given("TIDEGATE_WASM_DIR").join("tidegate.wasm");
    let beside = Bootstrap {
        text: listener.to_owned(),
    };
    let mut beside = beside
        .set("port_value: 9902}", &format!("port_value: {port}}}"))
        .set("port_value: 9901}", &format!("port_value: {admin}}}"))
        .set(
            "filename: envoy/status/index.html",
            &format!("filename: {}", page.display()),
        );
    let shipped = "filename: target/tidegate/tidegate.wasm";
    if beside.text.contains(shipped) {
        beside = beside.set(shipped, &format!("filename: {}", module.display()));
    }
    Envoy::start_with(&bootstrap, 2, &["--config-yaml", &beside.text])
}

/// Sends one request.
fn ask(to: SocketAddr, method: &str, path: &str, host: &str) -> TcpStream {
    let mut stream = connect(to);
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).expect("sent");
    stream
}

/// The status that one request is answered with.
fn status(to: SocketAddr, method: &str, path: &str, host: &str) -> u16 {
    let mut answer = String::new();
    let mut stream = BufReader::new(ask(to, method, path, host));
    stream.read_line(&mut answer).expect("an answer");
    let status = answer.split(' ').nth(1).and_then(|code| code.parse().ok());
    status.unwrap_or_else(|| panic!("{method} {path}: {answer}"))
}

#[test]
fn the_page_and_its_numbers_are_served_and_nothing_else_of_the_administration() {
    let upstream = Upstream::start(Conduct::Echo);
    let envoy = serve(TCP.before(upstream.address), 0);
    let address = envoy.listener(LISTENER);
    let host = address.to_string();

    let page = answer(ask(address, "GET", "/", &host));
    assert_eq!(page.status, 200);
    assert_eq!(
        page.header("content-type"),
        Some("text/html; charset=utf-8")
    );
    for (name, value) in [
        ("cache-control", "no-store"),
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "DENY"),
    ] {
        assert_eq!(page.header(name), Some(value));
    }
    let file = fs::read_to_string(places::repository("envoy/status/index.html"));
    assert_eq!(page.body, file.expect("it is there"));

    let numbers = answer(ask(address, "GET", "/stats", &host));
    assert_eq!(numbers.status, 200);
    let numbers: Value = serde_json::from_str(&numbers.body).expect("JSON");
    let stats = numbers["stats"].as_array().expect("a list");
    let names: Vec<&str> = stats
        .iter()
        .filter_map(|one| one["name"].as_str())
        .collect();
    assert!(names.len() > 20, "{names:?}");
    assert!(
        names.iter().all(|name| name.contains(".;tidegate_")),
        "{names:?}"
    );

    // Nothing was told of a surge of it, or there is no such rule.
    for path in [
        "service",
        "other",
        "",
        "a/b",
        "x?y",
        "%00",
        "../config_dump",
        &"x".repeat(4096),
    ] {
        let surge = answer(ask(address, "GET", &format!("/surges/{path}"), &host));
        assert_eq!((surge.status, surge.body.as_str()), (200, "null"), "{path}");
        assert_eq!(surge.header("content-type"), Some("application/json"));
        assert_eq!(surge.header("x-content-type-options"), Some("nosniff"));
        assert_eq!(surge.header("cache-control"), Some("no-store"));
    }

    for path in [
        "/stats?filter=.",
        "/stats?",
        "/stats&filter=.",
        "/stats#x",
        "/stats/",
        "/stats/prometheus",
        "/stats/recentlookups",
        "/statsx",
        "//stats",
        "/%73tats",
        "/stats/../config_dump",
        "/stats%2f..%2fconfig_dump",
        "/../config_dump",
        "/config_dump",
        "/clusters",
        "/index.html",
        "/favicon.ico",
        "/STATS",
        "/surgesx",
    ] {
        let refused = status(address, "GET", path, &host);
        // With a fragment it is no request at all.
        let expected = if path.contains('#') { 400 } else { 404 };
        assert_eq!(refused, expected, "{path}");
    }
    for method in ["POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH"] {
        for path in [
            "/",
            "/stats",
            "/surges/service",
            "/quitquitquit",
            "/logging?level=trace",
        ] {
            let refused = status(address, method, path, &host);
            assert_eq!(refused, 404, "{method} {path}");
        }
    }
    for host in ["rebound.example", "127.0.0.1.rebound.example", "10.0.0.1"] {
        for path in ["/", "/stats", "/surges/service"] {
            assert_eq!(status(address, "GET", path, host), 404, "{host}");
        }
    }
    for host in ["localhost", "localhost:80", "127.0.0.1", "[::1]:9902"] {
        assert_eq!(status(address, "GET", "/stats", host), 200, "{host}");
    }
}

#[test]
fn envoy_takes_the_command_that_the_listener_s_comment_names() {
    let listener = fs::read_to_string(places::repository("envoy/status/listener.yaml"));
    let listener = listener.expect("it is there");
    let command = listener
        .lines()
        .find_map(|line| line.strip_prefix("#   envoy -c YOURS.yaml "))
        .expect("the command");
    let folder = Folder::new();
    let yours = TCP.before(([127, 0, 0, 1], 9).into());
    fs::write(folder.path().join("yours.yaml"), yours.text).expect("the bootstrap");
    let mut shell = Command::new("/bin/sh");
    shell.args([
        "-c",
        &format!("exec \"$0\" -c \"$1\" --mode validate {command}"),
    ]);
    shell.arg(places::given("TIDEGATE_ENVOY"));
    shell.arg(folder.path().join("yours.yaml"));
    let ran = shell.current_dir(places::repository("")).output();
    let ran = ran.expect("it runs");
    assert!(
        ran.status.success(),
        "{}",
        String::from_utf8_lossy(&ran.stderr)
    );
    let readme = fs::read_to_string(places::repository("README.md")).expect("it is there");
    for text in [&listener, &readme] {
        assert!(text.contains("http://127.0.0.1:9902/"));
        assert!(text.contains(&format!("cargo xtask envoy envoy/http.yaml -- {command}")));
    }
}

/// Whether the page says what Envoy counts; what differs, otherwise.
fn compare(says: &Value, metrics: &Metrics) -> Result<(), String> {
    let differs = |what: &str, page: &Value, envoy: f64| {
        (page.as_f64() != Some(envoy))
            .then(|| format!("{what}: the page says {page} and Envoy {envoy}"))
    };
    let gauges = [
        ("inflight", "tidegate_inflight"),
        ("limit", "tidegate_inflight_limit"),
        ("waiting", "tidegate_waiting"),
        ("share", "tidegate_admitted_share_percent"),
        ("arrivals", "tidegate_arrival_rate_per_s"),
        ("baseline", "tidegate_baseline_per_s"),
    ];
    let mut wrong: Vec<String> = gauges
        .iter()
        .filter_map(|(name, metric)| {
            differs(name, &says["numbers"][name], metrics.rule(RULE, metric))
        })
        .collect();
    let key = |series: &Series| {
        let metric = series.name.strip_prefix("tidegate_")?.to_owned();
        let labels = &series.labels;
        let part = labels.get("reason").or_else(|| labels.get("kind"));
        metric.ends_with("_total").then(|| match part {
            Some(part) => format!("{metric} {part}"),
            None => metric,
        })
    };
    let counters: BTreeMap<String, f64> = metrics
        .all
        .iter()
        .filter_map(|series| Some((key(series)?, series.value)))
        .collect();
    let of_parts = |whole: &str| {
        let parts = counters
            .iter()
            .filter(|(key, _)| key.starts_with(&format!("{whole} ")));
        parts.map(|(_, value)| value).sum()
    };
    let wholes = ["rejected_total", "shadow_rejected_total", "faults_total"];
    let wholes = wholes.map(|whole| (whole.to_owned(), of_parts(whole)));
    for (key, value) in counters.iter().chain(wholes.iter().map(|(k, v)| (k, v))) {
        let shown = &says["totals"][key];
        // A part of which there is nothing is not shown.
        if *value > 0.0 || !key.contains(' ') {
            wrong.extend(differs(key, shown, *value));
        } else if !shown.is_null() {
            wrong.push(format!("{key} is shown"));
        }
    }
    wrong.is_empty().then_some(()).ok_or(wrong.join("; "))
}

/// Nothing was asked for elsewhere, and the console is empty.
fn assert_tidy(browser: &mut Browser, address: SocketAddr) {
    browser.evaluate("0");
    let complaints = &browser.complaints;
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
    let known = ["/", "/stats"].map(|path| format!("http://{address}{path}"));
    let surges = format!("http://{address}/surges/{RULE}");
    let other: Vec<&String> = browser
        .asked
        .iter()
        .filter(|url| !known.contains(url) && **url != surges && !url.starts_with("data:"))
        .collect();
    assert!(other.is_empty(), "{other:?}");
    assert!(known.iter().all(|url| browser.asked.contains(url)));
}

#[test]
fn the_page_shows_every_number_of_a_rule_as_envoy_has_it() {
    let name = "the_page_shows_every_number_of_a_rule_as_envoy_has_it";
    let Some(mut browser) = Browser::start(name) else {
        return;
    };
    let upstream = Upstream::start(Conduct::Echo);
    let bootstrap = TCP
        .before(upstream.address)
        .with(r#""surge": {"baseline_per_s": 500}"#);
    let envoy = serve(bootstrap, 0);
    let address = envoy.listener(LISTENER);
    browser.open(&format!("http://{address}/"));
    let (served, refused) = fates(knocks(envoy.listener(TCP.listener), 110));
    assert_eq!((served.len(), refused), (100, 10));
    let says = until(|| {
        let says = browser.evaluate(SAYS);
        compare(&says, &envoy.metrics())?;
        (says["numbers"]["inflight"] == 100.0 && says["totals"]["rejected_total"] == 10.0)
            .then_some(says)
            .ok_or("the page is not up to date".to_owned())
    });
    assert_eq!(says["name"], RULE);
    assert_eq!(says["phase"], "calm");
    assert_eq!(says["totals"]["rejected_total hold_timeout"], 10.0);
    assert_eq!(browser.text("#state").as_deref(), Some("calm: service"));
    let build = browser.text("#build").expect("it is there");
    let version = format!("tidegate {} (", env!("CARGO_PKG_VERSION"));
    assert!(build.starts_with(&version), "{build}");
    assert_tidy(&mut browser, address);
    drop(served);
}

#[test]
fn a_surge_is_seen_on_the_page_while_it_lasts_on_a_phone_and_on_a_desk_by_day_and_by_night() {
    let name = "a_surge_is_seen_on_the_page";
    let Some(mut browser) = Browser::start(name) else {
        return;
    };
    let upstream = Upstream::start(Conduct::Echo);
    let bootstrap = TCP
        .before(upstream.address)
        .limits(r#"{"inflight": 6}"#)
        .hold(r#"{"max_wait": "20ms", "max_waiting": 2}"#)
        .with(r#""surge": {"baseline_per_s": 20}"#);
    let envoy = serve(bootstrap, 0);
    let address = envoy.listener(LISTENER);
    browser.open(&format!("http://{address}/"));
    let service = envoy.listener(TCP.listener);
    let steady = Load::new(service, 20.0).start();
    let mut until_it_says = |what: &str, good: &dyn Fn(&Value) -> bool| {
        until(|| {
            let says = browser.evaluate(SAYS);
            let good = good(&says);
            good.then_some(())
                .ok_or_else(|| format!("{what}; the page says {says}"))
        });
    };
    until_it_says("a calm time should be drawn", &|says| {
        says["phase"] == "calm" && says["moments"].as_f64() >= Some(10.0)
    });
    let surge = Load {
        from: CULPRIT,
        ..Load::new(service, 200.0)
    };
    let surge = surge.start();
    let number = |value: &Value| value.as_f64().unwrap_or_default();
    until_it_says("a surge should be drawn", &|says| {
        says["phase"] == "surge"
            && says["callers"][0] == CULPRIT.to_string()
            && number(&says["numbers"]["arrivals"]) > 2.0 * number(&says["numbers"]["baseline"])
            && number(&says["rates"]["rejected_total"]) > 0.0
            && number(&says["moments"]) >= 18.0
    });
    assert_eq!(
        envoy.metrics().rule(RULE, "tidegate_phase"),
        3.0,
        "the surge goes on"
    );
    assert_eq!(browser.text("#state").as_deref(), Some("surge: service"));
    assert_eq!(
        browser.evaluate("document.title"),
        "surge: service – tidegate"
    );
    for (file, width, height) in [("phone", 320, 640), ("desk", 1280, 800)] {
        for (light, dark) in [("day", false), ("night", true)] {
            browser.view(View {
                width,
                height,
                dark,
            });
            let fits =
                "document.documentElement.scrollWidth <= document.documentElement.clientWidth";
            assert_eq!(
                browser.evaluate(fits),
                true,
                "nothing is wider than the window"
            );
            let file = format!("target/status/{file}-{light}.png");
            browser.paint(&places::repository(&file));
        }
    }
    surge.end();
    until(|| {
        let state = browser.text("#state").unwrap_or_default();
        (state == "recovering: service").then_some(()).ok_or(state)
    });
    steady.end();
    assert_tidy(&mut browser, address);

    // What it says of the callers is what the log does, whose command it names.
    let who = answer(ask(
        address,
        "GET",
        &format!("/surges/{RULE}"),
        &address.to_string(),
    ));
    assert!(envoy.log().contains(&who.body), "{}", who.body);
    let command = browser.text("#callers").expect("a command");
    let folder = Folder::new();
    fs::write(folder.path().join("envoy.log"), envoy.log()).expect("the log");
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", &command]).current_dir(folder.path());
    let printed = shell.output().expect("it runs").stdout;
    let printed = String::from_utf8(printed).expect("text");
    assert!(
        printed.contains("surge_started") && printed.contains("127.0.0.2"),
        "{printed}"
    );
}

#[test]
fn where_the_plugin_is_taken_out_of_the_listener_callers_are_asked_for_once() {
    let name = "where_the_plugin_is_taken_out_of_the_listener";
    let Some(mut browser) = Browser::start(name) else {
        return;
    };
    let listener = places::repository("envoy/status/listener.yaml");
    let mut listener = fs::read_to_string(listener).expect("it is there");
    for (first, behind) in [
        ("              # Who was behind", "          http_filters:"),
        (
            "          # It guards nothing",
            "          - name: envoy.filters.http.router",
        ),
    ] {
        let (before, rest) = listener.split_once(first).expect("its part");
        let (_, after) = rest.split_once(behind).expect("its end");
        listener = format!("{before}{behind}{after}");
    }
    assert!(!listener.contains("wasm"), "{listener}");
    let upstream = Upstream::start(Conduct::Echo);
    let bootstrap = TCP
        .before(upstream.address)
        .with(r#""surge": {"baseline_per_s": 20}"#);
    let envoy = serve_by(bootstrap, 0, &listener);
    let address = envoy.listener(LISTENER);
    browser.open(&format!("http://{address}/"));
    let surge = Load::new(envoy.listener(TCP.listener), 200.0).start();
    let surges = format!("http://{address}/surges/{RULE}");
    let asked = |browser: &mut Browser| {
        browser.evaluate("0");
        browser.asked.iter().filter(|url| **url == surges).count()
    };
    until(|| match asked(&mut browser) {
        1 => Ok(()),
        times => Err(format!("it was asked for {times} times")),
    });
    let moments = |says: &Value| says["moments"].as_f64().unwrap_or_default();
    let then = moments(&browser.evaluate(SAYS));
    let says = until(|| {
        let says = browser.evaluate(SAYS);
        (moments(&says) >= then + 8.0)
            .then_some(says)
            .ok_or("the page goes on".to_owned())
    });
    surge.end();
    assert_eq!(asked(&mut browser), 1);
    assert_eq!(says["callers"], serde_json::json!([]));
}

#[test]
fn the_page_says_when_envoy_is_gone_and_goes_on_by_itself() {
    let name = "the_page_says_when_envoy_is_gone_and_goes_on_by_itself";
    let Some(mut browser) = Browser::start(name) else {
        return;
    };
    let upstream = Upstream::start(Conduct::Echo);
    let port = free_port();
    let bootstrap = TCP
        .before(upstream.address)
        .with(r#""surge": {"baseline_per_s": 20}"#);
    let envoy = serve(bootstrap.clone(), port);
    browser.open(&format!("http://127.0.0.1:{port}/"));
    let (served, _) = fates(knocks(envoy.listener(TCP.listener), 20));
    let arrivals =
        |browser: &mut Browser| browser.evaluate(SAYS)["totals"]["arrivals_total"].clone();
    until(|| match arrivals(&mut browser) {
        shown if shown == 20.0 => Ok(()),
        shown => Err(format!("{shown} arrivals are shown instead of 20")),
    });
    drop((served, envoy));
    until(|| {
        let state = browser.text("#state").unwrap_or_default();
        let known = state.starts_with("Envoy does not answer: ") && state.contains("What is shown");
        known.then_some(()).ok_or(state)
    });
    assert_eq!(arrivals(&mut browser), 20.0, "the last numbers stay");
    assert_eq!(browser.evaluate("document.title"), "no answer – tidegate");

    let envoy = serve(bootstrap, port);
    let (served, _) = fates(knocks(envoy.listener(TCP.listener), 5));
    until(|| {
        let state = browser.text("#state").unwrap_or_default();
        let known = state.ends_with(": service");
        known.then_some(()).ok_or(state)
    });
    let says = until(|| {
        let says = browser.evaluate(SAYS);
        compare(&says, &envoy.metrics()).map(|()| says)
    });
    assert_eq!(says["totals"]["arrivals_total"], 5.0);
    let mut rates = says["rates"].as_object().expect("the rates").values();
    let negative = rates.find(|rate| rate.as_f64().is_some_and(|rate| rate < 0.0));
    assert_eq!(negative, None, "another Envoy counts");
    let stale = browser.evaluate("document.body.classList.contains('stale')");
    assert_eq!(stale, false);
    drop(served);
}

#[test]
fn text_of_the_stats_is_shown_as_text_and_more_rules_than_there_can_be_are_not_shown() {
    let name = "text_of_the_stats_is_shown_as_text";
    let Some(mut browser) = Browser::start(name) else {
        return;
    };
    let upstream = Upstream::start(Conduct::Echo);
    let envoy = serve(TCP.before(upstream.address), 0);
    browser.view(View {
        width: 320,
        height: 640,
        dark: false,
    });
    browser.open(&format!("http://{}/", envoy.listener(LISTENER)));
    until(|| browser.text("[data-name]").ok_or("no rule yet".to_owned()));
    let shown = browser.evaluate(
        "(() => {
            const evil = '<img src=x onerror=alert(1)>\"&amp;';
            const numbers = [['phase', 9], ['rejected_total', 3], [`rejected_total ${evil}`, 3], [`rejected_total ${'y'.repeat(99)}`, 99999999]];
            const rules = new Map([[evil, new Map(numbers)], ['x'.repeat(63), new Map(numbers)]]);
            new Page().show(performance.now(), { rules, builds: new Set([evil]) });
            const { scrollWidth } = document.documentElement;
            const elements = document.querySelectorAll('img, [onerror]').length;
            const texts = ['[data-name]', '.part th', '#state a', '#build'];
            const kept = texts.map((one) => document.querySelector(one).textContent.includes(evil));
            return { scrollWidth, elements, kept, target: document.querySelector('#state a').hash };
        })()",
    );
    assert_eq!(shown["kept"], serde_json::json!([true, true, true, true]));
    assert_eq!(shown["elements"], 0);
    assert_eq!(shown["scrollWidth"], 320, "long names are broken");
    assert_eq!(
        shown["target"],
        "#rule-%3Cimg%20src%3Dx%20onerror%3Dalert(1)%3E%22%26amp%3B"
    );
    let many = browser.evaluate(
        "(() => {
            const names = Array.from({ length: 100 }, (_, index) => `rule-${index}`);
            const rules = new Map(names.map((name) => [name, new Map([['phase', 1]])]));
            new Page().show(performance.now(), { rules, builds: new Set() });
            const sections = document.querySelectorAll('main > section').length;
            return [sections, document.getElementById('state').textContent.endsWith('; 36 more rules are not shown')];
        })()",
    );
    assert_eq!(many, serde_json::json!([64, true]));
}

#[test]
fn the_script_of_the_page_passes_its_own_tests() {
    let Some(node) = places::which("node") else {
        let advice = "Node is missing; type: sudo apt-get install nodejs";
        return places::skip("the_script_of_the_page_passes_its_own_tests", advice);
    };
    let mut command = Command::new(node);
    command.arg("--test");
    command.arg(places::repository("tests/envoy/status/page.mjs"));
    let output = command.output().expect("it runs");
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}
