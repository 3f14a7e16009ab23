//! The same in the real Envoy: what tidegate adds to a request and to a connection.

use std::{
    net::{Ipv4Addr, SocketAddr},
    thread,
    time::Duration,
};

use serde_json::{Value, json};

use crate::{
    FLAT,
    common::table::{Row, Table, Wanted},
    contenders::{Contender, Layer, bootstrap},
    drive::{Requests, connections},
    harness::{Conduct, Envoy, Upstream},
    rounds::Costs,
};

/// Who calls.
const CALLERS: [usize; 3] = [10, 1_000, 1_000_000];
const RULES: [usize; 3] = [1, 8, 64];

/// Measures more rules and more callers. More workers than cores would measure how those take turns.
pub fn slopes(table: &mut Table<3>, quick: bool) {
    let rounds = if quick { 20 } else { 120 };
    let by = [
        ("path_prefix", json!({"path_prefix": "/v1/"})),
        ("authority", json!({"authority": "api.example"})),
        ("source", json!({"source": ["127.0.0.0/8"]})),
    ];
    for (by, own) in by {
        rules(table, rounds, by, &own);
    }
    users(table, rounds);
    addresses(table, rounds.min(60));
}

/// Requests that fall under the last of so many rules.
fn rules(table: &mut Table<3>, rounds: usize, by: &'static str, own: &Value) {
    let cases = RULES.map(|count| {
        let others: Vec<Value> = (1..count)
            .map(|rule| json!({"name": format!("other-{rule}"), "match": other(by, rule)}))
            .collect();
        let name = format!("{count} rules by {by}: a request in Envoy");
        let fields = json!({"match": own});
        (
            name,
            tidegate(Layer::Http, &format!("r{count}"), fields, &others),
            16,
        )
    });
    requests(table, rounds, cases);
}

/// What a rule asks for that no request has.
fn other(by: &str, rule: usize) -> Value {
    match by {
        "path_prefix" => json!({"path_prefix": format!("/v1/team-{rule}/")}),
        "authority" => json!({"authority": format!("team-{rule}.api.example")}),
        _ => json!({"source": [format!("10.{rule}.0.0/16")]}),
    }
}

/// Requests of so many users.
fn users(table: &mut Table<3>, rounds: usize) {
    let cases = CALLERS.map(|users| {
        let name = format!("{users} callers by header: a request in Envoy");
        let fields = json!({"key": "header:x-user"});
        (
            name,
            tidegate(Layer::Http, &format!("u{users}"), fields, &[]),
            users,
        )
    });
    requests(table, rounds, cases);
}

/// Requests to one Envoy, each case to a listener of its own, by so many users.
fn requests(table: &mut Table<3>, rounds: usize, cases: [(String, Contender, usize); 3]) {
    const EACH: usize = 800;
    let nowhere = SocketAddr::from(([127, 0, 0, 1], 9));
    let (names, (mut contenders, mut by)) = split(cases);
    contenders.insert(0, Contender::none());
    by.insert(0, 16);
    let envoy = Envoy::start(&bootstrap(Layer::Http, &contenders, nowhere, 0), 1);
    let mut clients: Vec<Requests> = contenders
        .iter()
        .zip(by)
        .map(|(contender, users)| Requests::to(envoy.listener(contender.slug), users))
        .collect();
    let costs = Costs::measure(contenders.len(), rounds, |who| {
        worked(&envoy, || clients[who].make(EACH))
    });
    add(table, &names, |who| costs.added(who + 1, 0)[1]);
}

/// Connections from so many addresses.
fn addresses(table: &mut Table<3>, rounds: usize) {
    const EACH: usize = 320;
    let cases = CALLERS.map(|addresses| {
        let name = format!("{addresses} callers by address: a connection in Envoy");
        let slug = format!("a{addresses}");
        (name, tidegate(Layer::Tcp, &slug, json!({}), &[]), addresses)
    });
    let (names, (mut contenders, mut by)) = split(cases);
    contenders.insert(0, Contender::none());
    by.insert(0, 10);
    let upstream = Upstream::start(Conduct::Echo);
    let envoy = Envoy::start(&bootstrap(Layer::Tcp, &contenders, upstream.address, 0), 1);
    let mut next = vec![0; by.len()];
    let costs = Costs::measure(contenders.len(), rounds, |who| {
        let address = envoy.listener(contenders[who].slug);
        let from = || {
            next[who] = (next[who] + 1) % by[who];
            // From 127.1.0.0 on.
            let number = u32::try_from(next[who]).expect("a small number");
            Ipv4Addr::from(0x7f01_0000 + number)
        };
        worked(&envoy, || connections(address, EACH, from))
    });
    add(table, &names, |who| costs.added(who + 1, 0)[1]);
}

fn tidegate(layer: Layer, slug: &str, fields: Value, before: &[Value]) -> Contender {
    // A few names, for as long as the benchmark runs.
    let slug = slug.to_owned().leak();
    Contender::tidegate(layer, slug, slug, "enforce", fields, before)
}

fn split(cases: [(String, Contender, usize); 3]) -> (Vec<String>, (Vec<Contender>, Vec<usize>)) {
    cases
        .into_iter()
        .map(|(name, contender, count)| (name, (contender, count)))
        .unzip()
}

/// The CPU time of Envoy's workers for one of so many, in ns.
fn worked(envoy: &Envoy, work: impl FnOnce() -> usize) -> f64 {
    const REST: Duration = Duration::from_millis(5);
    let before = envoy.workers_cpu();
    let count = work();
    thread::sleep(REST);
    (envoy.workers_cpu() - before).as_secs_f64() * 1e9 / count as f64
}

/// A row for each, beside the first.
fn add(table: &mut Table<3>, names: &[String], added: impl Fn(usize) -> f64) {
    for (who, name) in names.iter().enumerate() {
        table.add(Row {
            case: name.clone(),
            unit: "ns",
            wanted: if who == 0 { Wanted::Told } else { FLAT },
            values: [added(who) / added(0), added(who), added(0)].map(Some),
        });
    }
}
