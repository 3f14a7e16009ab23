//! Time that does not go on as it should: a clock that steps, and an Envoy that is stopped.

use std::{
    fs::{self, File},
    os::unix::fs::FileExt,
    path::PathBuf,
    process::Command,
    thread,
    time::Duration,
};

use rustix::process::Signal;

use super::{LIMIT, RULE, all_live, is_whole, limited_to, served};
use crate::harness::{
    Conduct, Envoy, Fate, Storm, TCP, Upstream, block_on, fate, knock,
    places::{Folder, repository},
    process::run,
};

const STORM: Storm = Storm {
    clients: 60,
    stays: Duration::from_millis(100),
    away: Duration::from_millis(20),
    lasts: Duration::from_secs(6),
};

/// A wall clock that can be stepped.
struct Clock {
    folder: Folder,
}

impl Clock {
    fn new() -> Self {
        let clock = Self {
            folder: Folder::new(),
        };
        fs::write(clock.file(), [0; 8]).expect("written");
        let mut compile = Command::new("cc");
        compile.args([
            "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o",
        ]);
        compile.arg(clock.library());
        compile.arg(repository("tests/envoy/faults/clock.c"));
        run(compile);
        clock
    }

    fn library(&self) -> PathBuf {
        self.folder.path().join("clock.so")
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("step")
    }

    /// So far from the true time from now on.
    fn step(&self, seconds: i64) {
        let nanos = seconds * 1_000_000_000;
        // The file is mapped, so it is not emptied first.
        let file = File::options().write(true).open(self.file());
        let written = file.and_then(|file| file.write_all_at(&nanos.to_le_bytes(), 0));
        written.expect("written");
    }

    fn tell(&self, command: &mut Command) {
        command.env("LD_PRELOAD", self.library());
        command.env("TIDEGATE_TEST_CLOCK", self.file());
    }
}

#[test]
fn a_clock_that_steps_by_an_hour_or_a_second_neither_loses_a_slot_nor_finds_one() {
    let clock = Clock::new();
    let upstream = Upstream::start(Conduct::Echo);
    let envoy = Envoy::start_by(&limited_to(upstream.address, LIMIT), 2, |command| {
        command.arg("--disable-hot-restart");
        clock.tell(command);
    });
    let to = envoy.listener(TCP.listener);
    let half = LIMIT / 2;
    let mut stay = served(to, half);
    let storm = thread::scope(|scope| {
        let storm = scope.spawn(|| block_on(STORM.rage(to, &upstream, LIMIT)));
        // Some steps come soon after another, and some when all is steady again.
        for (step, pause) in [
            (3600, 300),
            (-3600, 300),
            (3, 300),
            (-3, 300),
            (1, 300),
            (86_400, 2500),
            (0, 1000),
        ] {
            clock.step(step);
            thread::sleep(Duration::from_millis(pause));
        }
        storm.join().expect("no panic")
    });
    assert!(storm.served > LIMIT, "{storm:?}");
    assert_eq!(upstream.seen().peak, LIMIT);
    upstream.until_open(half);
    let metrics = envoy.until_rule(RULE, "tidegate_inflight", half as f64);
    assert_eq!(metrics.rule(RULE, "tidegate_faults_total"), 0.0);
    all_live(&mut stay);
    drop(stay);
    is_whole(&envoy, to, &upstream);
    assert_eq!(upstream.seen().peak, LIMIT);
}

#[test]
fn who_is_held_when_the_clock_steps_is_served_or_refused() {
    for step in [3600, -3600] {
        let clock = Clock::new();
        let upstream = Upstream::start(Conduct::Echo);
        let bootstrap = limited_to(upstream.address, 1).set(
            "\"hold\": \"off\"",
            r#""hold": {"max_wait": "20s", "max_waiting": 8}"#,
        );
        let envoy = Envoy::start_by(&bootstrap, 1, |command| {
            command.arg("--disable-hot-restart");
            clock.tell(command);
        });
        let to = envoy.listener(TCP.listener);
        let first = served(to, 1);
        let mut held = knock(to, "held");
        envoy.until_rule(RULE, "tidegate_waiting", 1.0);
        clock.step(step);
        // By a clock that is an hour further its time is up; by one that stepped back it waits on.
        if step > 0 {
            assert_eq!(fate(&mut held), Fate::Refused);
            drop(first);
        } else {
            drop(first);
            assert_eq!(fate(&mut held), Fate::Served);
        }
        drop(held);
        envoy.until_balanced(RULE, 2);
    }
}

#[test]
fn an_envoy_that_is_stopped_for_longer_than_the_dead_are_kept_goes_on_where_it_was() {
    let upstream = Upstream::start(Conduct::Echo);
    let envoy = Envoy::start(&limited_to(upstream.address, LIMIT), 4);
    let to = envoy.listener(TCP.listener);
    let mut stay = served(to, LIMIT / 2);
    let storm = Storm {
        lasts: Duration::from_secs(7),
        ..STORM
    };
    let storm = thread::scope(|scope| {
        let storm = scope.spawn(|| block_on(storm.rage(to, &upstream, LIMIT)));
        thread::sleep(Duration::from_secs(1));
        envoy.signal(Signal::STOP);
        thread::sleep(Duration::from_secs(3));
        envoy.signal(Signal::CONT);
        storm.join().expect("no panic")
    });
    assert!(storm.served > LIMIT, "{storm:?}");
    all_live(&mut stay);
    assert_eq!(upstream.seen().peak, LIMIT);
    let metrics = envoy.until_rule(RULE, "tidegate_inflight", (LIMIT / 2) as f64);
    assert_eq!(metrics.rule(RULE, "tidegate_faults_total"), 0.0);
    drop(stay);
    is_whole(&envoy, to, &upstream);
    assert_eq!(upstream.seen().peak, LIMIT);
}
