//! Another plugin in the same Envoy: it writes into what the workers share, or keeps one busy.

use std::{fs, io::Write, net::SocketAddr};

use tidegate::store::{PREFIX, RuleKeys};

use super::{LIMIT, RULE, all_live, faults, heard, is_whole, limited_to, served};
use crate::harness::{
    Bootstrap, Conduct, Envoy, Fate, TCP, Upstream, connect, fate, fates, knocks,
    places::{Folder, notice},
    until,
};

/// What it writes: nothing, what is no record, the beginning of one that would be endless, and much.
pub const GARBAGE: [&str; 4] = [
    "",
    r"\ff\ff\ff\ff\ff\ff\ff\ff",
    r"TGP\03\ff\ff\ff\ff\ff\ff",
    "large",
];

/// So many bytes keep the worker busy to which they come, for three seconds.
pub const BUSY: usize = 9;

/// A plugin that has the same `vm_id`. A client that sends it so many bytes makes it write the
/// garbage of that number to all keys.
fn saboteur() -> Vec<u8> {
    let names = [
        "workers",
        "started",
        "service/pool",
        "service/tide",
        "service/callers/0",
    ];
    let mut data = String::new();
    let mut writes = String::new();
    let mut end = 0;
    let mut put = |text: &str| {
        let at = end;
        end += 64;
        data += &format!("(data (i32.const {at}) \"{text}\")");
        at
    };
    for (number, garbage) in (1..).zip(GARBAGE) {
        let (at, length) = match garbage {
            "large" => (1 << 16, 1 << 20),
            garbage => {
                let bytes = garbage.len() - 2 * garbage.matches('\\').count();
                (put(garbage), bytes)
            }
        };
        for name in names {
            let key = format!("{PREFIX}/{name}");
            writes += &format!(
                "(if (i32.eq (local.get 1) (i32.const {number})) (then (drop (call $set \
                 (i32.const {}) (i32.const {}) (i32.const {at}) (i32.const {length}) (i32.const 0)))))",
                put(&key),
                key.len(),
            );
        }
    }
    let text = format!(
        "(module
           (import \"env\" \"proxy_set_shared_data\"
             (func $set (param i32 i32 i32 i32 i32) (result i32)))
           (import \"env\" \"proxy_get_current_time_nanoseconds\"
             (func $time (param i32) (result i32)))
           (memory (export \"memory\") 32)
           (func (export \"proxy_abi_version_0_2_1\"))
           (func (export \"malloc\") (param i32) (result i32) (i32.const 0))
           (func (export \"proxy_on_context_create\") (param i32 i32))
           (func $now (result i64) (drop (call $time (i32.const 4096))) (i64.load (i32.const 4096)))
           (func $work (local $until i64)
             (local.set $until (i64.add (call $now) (i64.const 3000000000)))
             (loop $on (br_if $on (i64.lt_u (call $now) (local.get $until)))))
           (func (export \"proxy_on_downstream_data\") (param i32 i32 i32) (result i32)
             {writes}
             (if (i32.eq (local.get 1) (i32.const {BUSY})) (then (call $work)))
             (i32.const 0))
           {data})"
    );
    wat::parse_str(text).expect("a module")
}

/// With a second listener that has the saboteur before an echo.
pub fn sabotaged(bootstrap: Bootstrap, folder: &Folder) -> Bootstrap {
    let module = folder.path().join("saboteur.wasm");
    fs::write(&module, saboteur()).expect("written");
    let listener = format!(
        r#"
  - name: saboteur
    address: {{socket_address: {{address: 127.0.0.1, port_value: 0}}}}
    filter_chains:
    - filters:
      - name: saboteur
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.wasm.v3.Wasm
          config:
            name: saboteur
            vm_config:
              vm_id: tidegate
              runtime: envoy.wasm.runtime.v8
              code: {{local: {{filename: {}}}}}
      - name: echo
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.echo.v3.Echo
"#,
        module.display()
    );
    bootstrap.set("\n  clusters:\n", &format!("{listener}\n  clusters:\n"))
}

pub fn sabotage(to: SocketAddr, garbage: usize) {
    let mut stream = connect(to);
    stream.write_all(&vec![b'x'; garbage]).expect("sent");
    // What comes back says that it was written.
    assert_eq!(fate(&mut stream), Fate::Served);
}

#[test]
fn garbage_where_the_workers_share_is_replaced_and_all_slots_are_counted_again() {
    // The keys in the saboteur are the plugin's.
    assert!(format!("{:?}", RuleKeys::new(RULE)).contains(&format!("{PREFIX}/service/pool")));
    let folder = Folder::new();
    let upstream = Upstream::start(Conduct::Echo);
    let bootstrap = sabotaged(limited_to(upstream.address, LIMIT), &folder);
    // When a worker has told something is a part of what is overwritten, so two tell of one fault.
    let envoy = Envoy::start(&bootstrap, 2).complains();
    let (to, saboteur) = (envoy.listener(TCP.listener), envoy.listener("saboteur"));
    let mut open = served(to, LIMIT);
    envoy.until_rule(RULE, "tidegate_inflight", LIMIT as f64);
    for number in 1..=GARBAGE.len() {
        let before = faults(&envoy.metrics(), "record_replaced");
        sabotage(saboteur, number);
        envoy.until("it should be noticed", |metrics| {
            faults(metrics, "record_replaced") > before
        });
        // Until each worker has told again what it has, the others don't know of it.
        until(|| {
            let (more, refused) = fates(knocks(to, 5));
            (refused == 5)
                .then_some(())
                .ok_or_else(|| format!("{} are let in", more.len()))
        });
        upstream.until_open(LIMIT);
        envoy.until_rule(RULE, "tidegate_inflight", LIMIT as f64);
    }
    let peak = upstream.peak_since();
    notice(&format!(
        "between garbage and the next beats, {peak} of {LIMIT} were open at most"
    ));
    all_live(&mut open);
    assert_eq!(
        envoy.until_event(RULE, "fault").text("kind"),
        "record_replaced"
    );
    drop(open);
    is_whole(&envoy, to, &upstream);
    assert_eq!(upstream.seen().peak, LIMIT);
    assert!(!envoy.log().contains("Uncaught"), "{}", envoy.log());
}

#[test]
fn a_worker_that_stands_still_is_buried_and_counts_again_when_it_goes_on() {
    let folder = Folder::new();
    let upstream = Upstream::start(Conduct::Echo);
    let bootstrap = sabotaged(limited_to(upstream.address, LIMIT), &folder);
    let envoy = Envoy::start(&bootstrap, 2);
    let (to, saboteur) = (envoy.listener(TCP.listener), envoy.listener("saboteur"));
    let mut open = served(to, LIMIT);
    envoy.until_rule(RULE, "tidegate_inflight", LIMIT as f64);
    let mut busy = connect(saboteur);
    busy.write_all(&[b'x'; BUSY]).expect("sent");
    envoy.until("the one that stands still should be buried", |metrics| {
        faults(metrics, "worker_reaped") == 1.0
    });
    let told = envoy.until_event(RULE, "fault");
    assert_eq!(told.text("kind"), "worker_reaped");
    // What it had is free for the other one, though it is open. Some of these wait until it goes on.
    let (more, _) = heard(knocks(to, LIMIT));
    assert_eq!(fate(&mut busy), Fate::Served);
    open.extend(more);
    upstream.until_open(open.len());
    envoy.until_rule(RULE, "tidegate_inflight", open.len() as f64);
    let peak = upstream.seen().peak;
    notice(&format!(
        "while a worker stood still, {peak} of {LIMIT} were open at most"
    ));
    assert!(peak <= 2 * LIMIT, "{peak}");
    all_live(&mut open);
    // Nobody comes in before there are less than may be.
    upstream.peak_since();
    let (none, all) = fates(knocks(to, 5));
    assert_eq!((none.len(), all), (0, 5));
    drop((open, busy));
    upstream.until_open(0);
    upstream.peak_since();
    is_whole(&envoy, to, &upstream);
    assert_eq!(upstream.seen().peak, LIMIT);
    assert_eq!(faults(&envoy.metrics(), "worker_reaped"), 1.0);
}
