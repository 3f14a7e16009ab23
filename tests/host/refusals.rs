//! A client that is refused reads why, in the words of its database.

use std::collections::{BTreeSet, VecDeque};

use crate::{
    days::startup,
    machine::Sort,
    module::Build,
    seen,
    world::{World, connection},
};

const LIMIT: usize = 20;
const CALLERS: u32 = 20;
/// Between two arrivals while it is calm, in ms; each stays for twice as long.
const CALM: u64 = 50;

const AT_THE_LIMIT: &str = "too many connections: tidegate is at the limit of this database";
const HOT: &str = "too many connections: this client opens more than is normal for it, and tidegate \
                   keeps room for the others";
const PART: &str =
    "too many connections: in this surge tidegate lets in a part of the users of this database";

/// A database, and who is there.
struct Scene {
    world: World,
    open: VecDeque<u32>,
    port: u16,
    read: BTreeSet<String>,
}

impl Scene {
    /// A database of that protocol, after a minute in which twenty callers came in turn.
    fn calm(protocol: &str, port: u16) -> Self {
        let rule = format!(
            r#"{{"name": "db", "protocol": "{protocol}", "limits": {{"inflight": {LIMIT}}},
                "hold": "off", "surge": {{"warm_up": "1s", "baseline_per_s": 20, "min_excess": 5}},
                "reject": {{"tcp": "protocol", "cluster": "tidegate-refuse", "slow": "off"}}}}"#
        );
        let mut world = World::new(Build::Inspect, 1);
        world.configure(
            Sort::Tcp,
            &format!(r#"{{"mode": "enforce", "rules": [{rule}]}}"#),
        );
        let mut scene = Self {
            world,
            open: VecDeque::new(),
            port,
            read: BTreeSet::new(),
        };
        for number in 0..1200 {
            scene.comes(&format!("10.0.{}.1", number % CALLERS), 2);
            scene.world.advance(CALM);
        }
        assert!(scene.read.is_empty(), "{:?}", scene.read);
        scene
    }

    /// One comes, and those before the last `stay` leave; what is read is noted.
    fn comes(&mut self, source: &str, stay: usize) {
        let worker = &mut self.world.workers[0];
        let id = worker.begin(connection(source, self.port));
        let said = startup("app");
        // A server of MySQL speaks first: what comes back of the echoed line is replaced.
        let read = match self.port {
            3306 => worker.data(1, id, b"PROXY TCP4\r\n", false),
            _ => worker
                .data(0, id, &said, false)
                .filter(|read| *read != said),
        };
        let texts = read.iter().flat_map(|read| read.split(|byte| *byte == 0));
        let told = texts.filter_map(|text| {
            let text = String::from_utf8_lossy(text);
            let (_, told) = text.split_once("too many")?;
            Some(format!("too many{told}"))
        });
        self.read.extend(told);
        self.open.push_back(id);
        while self.open.len() > stay {
            let id = self.open.pop_front().expect("one");
            self.world.workers[0].end(id);
        }
    }
}

fn reads(protocol: &str, port: u16) {
    let of = |texts: &[&str]| BTreeSet::from_iter(texts.iter().map(|text| (*text).to_owned()));

    // All at once are not a surge that is known yet.
    let mut storm = Scene::calm(protocol, port);
    for number in 0..40 {
        storm.comes(&format!("10.0.{}.1", number % CALLERS), usize::MAX);
    }
    assert_eq!(storm.read, of(&[AT_THE_LIMIT]));

    let mut culprit = Scene::calm(protocol, port);
    for number in 0..1000 {
        if number % 10 == 0 {
            culprit.comes(&format!("10.0.{}.1", number / 10 % CALLERS), LIMIT);
        }
        culprit.comes("10.9.0.1", LIMIT);
        culprit.world.advance(CALM / 10);
    }
    assert_eq!(culprit.read, of(&[HOT]));

    let mut everybody = Scene::calm(protocol, port);
    for number in 0..1000 {
        everybody.comes(&format!("10.0.{}.1", number % CALLERS), 2 * LIMIT);
        everybody.world.advance(CALM / 10);
    }
    assert!(
        everybody.read.contains(PART) && !everybody.read.contains(HOT),
        "{:?}",
        everybody.read
    );
}

#[test]
fn what_a_refused_client_reads_is_documented() {
    let page = include_str!("../../docs/metrics-and-events.md");
    for text in [AT_THE_LIMIT, HOT, PART] {
        let (beginning, rest) = text.split_once(": ").expect("two parts");
        assert!(
            page.contains(beginning) && page.contains(&format!("`{rest}`")),
            "{text}"
        );
    }
}

#[test]
fn a_refused_client_of_postgresql_reads_why() {
    reads("postgres", 5432);
    seen::tell("refusals of PostgreSQL are read");
}

#[test]
fn a_refused_client_of_mysql_reads_why() {
    reads("mysql", 3306);
    seen::tell("refusals of MySQL are read");
}
