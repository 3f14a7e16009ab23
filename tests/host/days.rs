//! Configurations and traffic that make a module use all that a host has.

use crate::{
    machine::Sort,
    module::Build,
    world::{World, connection, request},
};

/// So many may be open for the rule that [`busy`] names.
pub const LIMIT: usize = 2;

/// A configuration for requests or connections, of a rule with that name and some others.
pub fn busy(build: Build, sort: Sort, name: &str) -> String {
    let hold = r#""hold": {"max_wait": "100ms", "max_waiting": 2}"#;
    // What can't be refused in its own words is closed.
    let plain = r#"{"name": "plain", "match": {"listener_port": 7000}, "limits": {"inflight": 1},
                "hold": "off"}"#;
    let rules = match (sort, build) {
        (Sort::Tcp, Build::Plain) => format!(
            r#"{{"name": "led", "match": {{"listener_port": 6000}}, "limits": {{"inflight": 1}},
                "hold": "off", "redirect": {{"cluster": "replica"}}}}, {plain},
            {{"name": "{name}", "limits": {{"inflight": {LIMIT}, "connecting": 2}}, {hold}}}"#
        ),
        (Sort::Tcp, Build::Inspect) => format!(
            r#"{{"name": "led", "match": {{"listener_port": 6000}}, "limits": {{"inflight": 1}},
                "hold": "off", "redirect": {{"cluster": "replica"}}}}, {plain},
            {{"name": "shop", "match": {{"listener_port": 3306}}, "protocol": "mysql",
                "limits": {{"inflight": 1}}, "hold": "off",
                "reject": {{"tcp": "protocol", "cluster": "tidegate-refuse"}}}},
            {{"name": "{name}", "protocol": "postgres", "key": "postgres.user",
                "limits": {{"inflight": {LIMIT}}}, {hold},
                "reject": {{"tcp": "protocol", "cluster": "tidegate-refuse"}}}}"#
        ),
        _ => format!(
            r#"{{"name": "moved", "match": {{"path_prefix": "/moved"}}, "limits": {{"inflight": 1}},
                "hold": "off",
                "redirect": {{"header": {{"name": "x-tidegate-route", "value": "overflow"}}}}}},
            {{"name": "{name}", "limits": {{"inflight": {LIMIT}}}, "key": "header:x-caller", {hold}}}"#
        ),
    };
    format!(r#"{{"mode": "enforce", "rules": [{rules}]}}"#)
}

/// What clients of PostgreSQL say first.
pub const ASKS_FOR_TLS: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];

pub fn startup(user: &str) -> Vec<u8> {
    let text = format!("user\0{user}\0database\0db\0\0");
    let length = text.len() as u32 + 8;
    [&length.to_be_bytes()[..], &[0, 3, 0, 0], text.as_bytes()].concat()
}

/// What servers say when they have too many connections.
pub const POSTGRES_FULL: &[u8] = b"E\0\0\0\x33SFATAL\0VFATAL\0C53300\0Msorry, too many\0\0";
pub const MYSQL_FULL: &[u8] = b"\x17\0\0\0\xff\x10\x04Too many connections";

/// Half a second of everything, with worker `index`; ends with no stream.
pub fn day(world: &mut World, index: usize) {
    let mut open = Vec::new();
    for number in 0..6 {
        let worker = &mut world.workers[index];
        let caller = format!("c{}", number % 4);
        open.push(worker.begin(request(&caller, "/")));
        open.push(worker.begin(request(&caller, "/moved/here")));
        for port in [5432, 6000, 3306, 7000] {
            let source = format!("10.0.{number}.1");
            let id = worker.begin(connection(&source, port));
            // The one that can, says who it is; the other asks for TLS first.
            if number % 2 == 0 {
                worker.data(0, id, &ASKS_FOR_TLS, false);
            }
            worker.data(0, id, &startup(&caller), false);
            let answer: &[u8] = match (port, number) {
                (5432, 0) => POSTGRES_FULL,
                (3306, 0) => MYSQL_FULL,
                _ => b"R\0\0\0\x08\0\0\0\0",
            };
            worker.data(1, id, answer, false);
            open.push(id);
        }
        if number == 4 {
            // Two of those that wait are served.
            world.workers[index].end(open[0]);
            world.workers[index].end(open[2]);
        }
        world.advance(7);
    }
    // Longer than anybody waits.
    world.advance(150);
    for (number, id) in open.into_iter().enumerate() {
        world.workers[index].end(id);
        if number % 5 == 0 {
            world.advance(20);
        }
    }
    world.advance(150);
}
