//! A listener with many rules.

use std::{net::IpAddr, time::Duration};

use tidegate::{
    config::{self, Build, Facts, RuleIndex},
    store::MemoryStore,
};

use crate::{
    A_LAP, Lapped, RATE_PER_S,
    common::{
        processor::timed,
        worker::{Callers, Clock, Kind, LAP, Limited, Worker},
    },
};

/// What tells the rules apart.
#[derive(Clone, Copy, Debug)]
pub enum By {
    Port,
    Source,
    Authority,
    Path,
}

impl By {
    pub const ALL: [Self; 4] = [Self::Port, Self::Source, Self::Authority, Self::Path];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Port => "listener_port",
            Self::Source => "source",
            Self::Authority => "authority",
            Self::Path => "path_prefix",
        }
    }

    /// The match of a rule.
    fn matcher(self, rule: u32) -> String {
        match self {
            Self::Port => format!(r#"{{"listener_port": {}}}"#, 5_000 + rule),
            Self::Source => format!(r#"{{"source": ["10.{rule}.0.0/16"]}}"#),
            Self::Authority => format!(r#"{{"authority": "team-{rule}.api.example"}}"#),
            Self::Path => format!(r#"{{"path_prefix": "/v1/team-{rule}/"}}"#),
        }
    }

    /// An arrival that falls under it.
    fn arrival(self, rule: u32) -> Arrival {
        let mut arrival = Arrival::default();
        match self {
            Self::Port => arrival.port = u16::try_from(5_000 + rule).ok(),
            Self::Source => arrival.source = format!("10.{rule}.3.4").parse().ok(),
            Self::Authority => arrival.authority = Some(format!("team-{rule}.api.example")),
            Self::Path => arrival.path = Some(format!("/v1/team-{rule}/orders/17")),
        }
        arrival
    }
}

#[derive(Clone, Debug, Default)]
struct Arrival {
    port: Option<u16>,
    source: Option<IpAddr>,
    authority: Option<String>,
    path: Option<String>,
}

impl Facts for Arrival {
    fn is_http(&self) -> bool {
        true
    }

    fn listener_port(&self) -> Option<u16> {
        self.port
    }

    fn source(&self) -> Option<IpAddr> {
        self.source
    }

    fn cluster(&self) -> Option<&str> {
        None
    }

    fn authority(&self) -> Option<&str> {
        self.authority.as_deref()
    }

    fn method(&self) -> Option<&str> {
        None
    }

    fn path(&self) -> Option<&str> {
        self.path.as_deref()
    }
}

/// Rules, each with its gate, to which arrivals come in turn.
pub struct Rules {
    index: RuleIndex,
    gates: Vec<Worker>,
    arrivals: Vec<Arrival>,
    callers: Callers,
    clock: Clock,
    next: usize,
}

impl Rules {
    pub fn new(by: By, count: u32) -> Self {
        let rules: Vec<String> = (0..count)
            .map(|rule| format!(r#"{{"name": "r{rule}", "match": {}}}"#, by.matcher(rule)))
            .collect();
        let text = format!(r#"{{"rules": [{}]}}"#, rules.join(","));
        let policy = config::parse(text.as_bytes(), Build::THIS).expect("a configuration");
        let store = MemoryStore::default();
        let rate = RATE_PER_S / f64::from(count);
        Self {
            index: RuleIndex::new(policy.rules()),
            gates: policy
                .rules()
                .iter()
                .map(|rule| {
                    let name = rule.name.as_str();
                    Worker::new(0, &store, name, Kind::Request, Limited::Nothing, rate)
                })
                .collect(),
            arrivals: (0..count).map(|rule| by.arrival(rule)).collect(),
            callers: Callers::new(100),
            clock: Clock::new(),
            next: 0,
        }
    }
}

impl Lapped for Rules {
    fn lap(&mut self) -> [Duration; 2] {
        let now = self.clock.pass(LAP);
        let ticks = timed(|| self.gates.iter_mut().for_each(|gate| gate.tick(now)));
        let arrivals = timed(|| {
            for _ in 0..A_LAP {
                self.next = (self.next + 1) % self.arrivals.len();
                let rule = self.index.first(&self.arrivals[self.next]);
                let gate = rule.and_then(|rule| self.gates.get_mut(rule));
                let gate = gate.expect("every arrival falls under a rule");
                gate.arrive(&self.callers.next(), now);
            }
        });
        self.gates.iter().for_each(Worker::assert_calm);
        [arrivals, ticks / self.gates.len() as u32]
    }
}
