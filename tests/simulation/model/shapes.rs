//! What happened to others, in small.

use std::{ops::Range, time::Duration};

use super::{
    clients::{Comes, Group, Retry, Role},
    upstream::{Bears, Health},
};

/// What is asked of a guard.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// Open at once.
    pub limit: u32,
    /// Not answered yet.
    pub connecting: Option<u32>,
    /// The limit is lowered while the upstream is in distress.
    pub adaptive: bool,
    /// Requests, not connections.
    pub http: bool,
}

/// Something happens to the upstream.
#[derive(Clone, Copy, Debug)]
pub enum Turn {
    Health(Health),
    /// It loses this share of its connections.
    Loses(f64),
}

/// A shape of a surge. Times in s since the beginning.
#[derive(Clone, Debug)]
pub struct Shape {
    pub slug: &'static str,
    /// What happens, in a few words.
    pub name: &'static str,
    pub rule: Rule,
    pub bears: Bears,
    pub groups: Vec<Group>,
    pub turns: Vec<(f64, Turn)>,
    pub trouble: Range<f64>,
    pub ends: f64,
    pub seed: u64,
}

/// Until then all is calm: as long as a guard needs to learn what is normal, and a little more.
const CALM: f64 = 65.0;
/// So long less comes than there should.
const QUIET: f64 = 40.0;
/// So long after the trouble it has recovered, or never does.
const AFTER: f64 = 40.0;

impl Shape {
    /// From when to when there is trouble.
    pub fn trouble(&self) -> Range<Duration> {
        Duration::from_secs_f64(self.trouble.start)..Duration::from_secs_f64(self.trouble.end)
    }

    /// When it ends.
    pub fn ends(&self) -> Duration {
        Duration::from_secs_f64(self.ends)
    }

    /// Whether somebody makes the trouble who is not one of the normal ones.
    pub fn has_culprit(&self) -> bool {
        self.groups.iter().any(|group| group.role == Role::Culprit)
    }

    /// Whether nothing happens at all.
    pub fn is_calm(&self) -> bool {
        self.slug == "calm"
    }

    /// How many of the normal clients the upstream can serve a second then.
    pub fn capacity_per_s(&self, now: Duration) -> f64 {
        let turns = self.turns.iter().rev();
        let health =
            turns
                .filter(|(at, _)| *at < now.as_secs_f64())
                .find_map(|(_, turn)| match turn {
                    Turn::Health(health) => Some(*health),
                    Turn::Loses(_) => None,
                });
        let speed = health.map_or(1.0, Health::speed);
        let normal = self.groups.iter().find(|group| group.role == Role::Normal);
        let work = normal.map_or(1.0, |group| group.work.as_secs_f64());
        speed * f64::from(self.bears.slots) / work
    }

    /// The same with other draws.
    pub fn seed(self, seed: u64) -> Self {
        Self { seed, ..self }
    }
}

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

const HAMMERS: Retry = Retry {
    attempts: u32::MAX,
    wait: ms(100),
    grows: 1.0,
    obeys: false,
};

/// Users who come now and then, from an address each: to an upstream of 100 a second, which is
/// slower with more than 20 at once and refuses more than 60.
fn requests(pace: Vec<(f64, f64)>, retry: Retry) -> Group {
    Group {
        role: Role::Normal,
        users: 60,
        users_an_address: 1,
        comes: Comes::Often { per_s: 56.0, pace },
        work: ms(200),
        stay: ms(0),
        patience: ms(1000),
        retry,
    }
}

const TRIES_THRICE: Retry = Retry {
    attempts: 3,
    wait: ms(100),
    grows: 1.0,
    obeys: false,
};

const BACKS_OFF: Retry = Retry {
    attempts: 6,
    wait: ms(200),
    grows: 2.0,
    obeys: false,
};

fn busy() -> Shape {
    Shape {
        slug: "",
        name: "",
        rule: Rule {
            limit: 20,
            connecting: None,
            adaptive: false,
            http: false,
        },
        bears: Bears {
            slots: 20,
            most: 60,
        },
        groups: Vec::new(),
        turns: Vec::new(),
        trouble: 0.0..0.0,
        ends: 0.0,
        seed: 2,
    }
}

/// Users who keep their connections for 0.4 s: eight of 100 are normally open.
fn visits() -> Group {
    Group {
        role: Role::Normal,
        users: 20,
        users_an_address: 1,
        comes: Comes::Often {
            per_s: 20.0,
            pace: Vec::new(),
        },
        work: ms(20),
        stay: ms(380),
        patience: ms(1000),
        retry: TRIES_THRICE,
    }
}

fn roomy() -> Shape {
    Shape {
        rule: Rule {
            limit: 100,
            ..busy().rule
        },
        bears: Bears {
            slots: 40,
            most: 100,
        },
        ..busy()
    }
}

/// Nothing happens, and a little over half of the slots are in use.
pub fn calm(http: bool) -> Shape {
    let calm = CALM..CALM + 20.0;
    Shape {
        slug: "calm",
        name: "nothing happens",
        groups: vec![requests(Vec::new(), TRIES_THRICE)],
        ends: calm.end + 5.0,
        trouble: calm,
        rule: Rule {
            http,
            ..busy().rule
        },
        ..busy()
    }
}

/// ProxySQL #4079: 350 times as many connections in seconds, while no more is asked for.
pub fn storm() -> Shape {
    let surge = CALM..CALM + 15.0;
    let culprit = Group {
        role: Role::Culprit,
        users: 2800,
        users_an_address: u32::MAX,
        comes: Comes::Always {
            during: surge.clone(),
            over: 1.0,
        },
        stay: ms(0),
        retry: HAMMERS,
        ..visits()
    };
    Shape {
        slug: "storm",
        name: "storm x350, requests flat",
        groups: vec![visits(), culprit],
        ends: surge.end + AFTER,
        trouble: surge,
        ..roomy()
    }
}

/// Canva 2024: what is not asked for gathers silently, and comes three times as often then.
pub fn build_up() -> Shape {
    let surge = CALM + QUIET..CALM + QUIET + 20.0;
    let pace = vec![(CALM, 0.6), (surge.start, 3.0), (surge.end, 1.0)];
    Shape {
        slug: "build_up",
        name: "silent build-up, then x3",
        groups: vec![requests(pace, TRIES_THRICE)],
        ends: surge.end + AFTER,
        trouble: surge,
        ..busy()
    }
}

/// Everybody comes three times as often, and nobody is to blame: the upstream does 200 a second.
pub fn everybody() -> Shape {
    let surge = CALM..CALM + 15.0;
    let group = requests(vec![(surge.start, 3.0), (surge.end, 1.0)], TRIES_THRICE);
    let comes = match group.comes {
        Comes::Often { per_s, pace } => Comes::Often {
            per_s: 2.0 * per_s,
            pace,
        },
        always @ Comes::Always { .. } => always,
    };
    Shape {
        slug: "everybody",
        name: "everybody x3",
        groups: vec![Group { comes, ..group }],
        ends: surge.end + AFTER,
        trouble: surge,
        rule: Rule {
            limit: 40,
            ..busy().rule
        },
        bears: Bears {
            slots: 40,
            most: 100,
        },
        ..busy()
    }
}

/// Slack 2022, Coinbase 2021: a throttle is lifted at once, and all that it kept back comes.
///
/// Half of the users heed what a refusal tells them, and half come with back-off.
pub fn throttle_lifted() -> Shape {
    let surge = CALM + QUIET..CALM + QUIET + 3.0;
    let half = |obeys| {
        let pace = vec![(CALM, 0.5), (surge.start, 8.0), (surge.end, 1.0)];
        let group = requests(pace, Retry { obeys, ..BACKS_OFF });
        Group {
            users: 30,
            comes: match group.comes {
                Comes::Often { per_s, pace } => Comes::Often {
                    per_s: per_s / 2.0,
                    pace,
                },
                always @ Comes::Always { .. } => always,
            },
            ..group
        }
    };
    Shape {
        slug: "throttle",
        name: "throttle lifted at once",
        groups: vec![half(false), half(true)],
        ends: surge.end + AFTER,
        trouble: surge,
        rule: Rule {
            http: true,
            ..busy().rule
        },
        ..busy()
    }
}

/// Sessions that are to be connected all the time, and cost something only at their beginning.
fn sessions(users: u32, users_an_address: u32, ends: f64) -> Group {
    Group {
        role: Role::Normal,
        users,
        users_an_address,
        comes: Comes::Always {
            during: 0.0..ends,
            over: 30.0,
        },
        work: ms(50),
        stay: ms(0),
        patience: ms(1000),
        retry: HAMMERS,
    }
}

/// Freenet 2026: a restart, and everybody connects until the last one has.
pub fn restart() -> Shape {
    let ends = CALM + 5.0 + 15.0 + AFTER;
    Shape {
        slug: "restart",
        name: "restart herd, cold for 10 s",
        groups: vec![sessions(300, 3, ends)],
        turns: vec![
            (CALM, Turn::Health(Health::Down)),
            (CALM + 5.0, Turn::Health(Health::Works(0.5))),
            (CALM + 15.0, Turn::Health(Health::Works(1.0))),
        ],
        trouble: CALM..CALM + 15.0,
        ends,
        rule: Rule {
            limit: 400,
            connecting: Some(2),
            ..busy().rule
        },
        bears: Bears {
            slots: 2,
            most: 400,
        },
        ..busy()
    }
}

/// Discord 2026, Supabase 2025: four of five sessions are lost at once, and all come back.
pub fn come_back() -> Shape {
    let ends = CALM + 5.0 + AFTER;
    Shape {
        slug: "come_back",
        name: "80 % lost, all come back",
        groups: vec![sessions(500, 1, ends)],
        turns: vec![(CALM, Turn::Loses(0.8))],
        trouble: CALM..CALM + 5.0,
        ends,
        rule: Rule {
            limit: 600,
            connecting: Some(8),
            ..busy().rule
        },
        bears: Bears {
            slots: 8,
            most: 600,
        },
        ..busy()
    }
}

/// Proton 2018: it accepts, and never answers.
pub fn silence() -> Shape {
    let hangs = CALM..CALM + 30.0;
    Shape {
        slug: "silence",
        name: "accepts, never answers",
        groups: vec![requests(Vec::new(), TRIES_THRICE)],
        turns: vec![
            (hangs.start, Turn::Health(Health::Works(0.0))),
            (hangs.end, Turn::Health(Health::Works(1.0))),
        ],
        ends: hangs.end + AFTER,
        trouble: hangs,
        ..busy()
    }
}

/// Proton 2025: it comes and goes.
pub fn flapping(adaptive: bool) -> Shape {
    let turns = (0..6).flat_map(|round| {
        let down = CALM + 5.0 * f64::from(round);
        [
            (down, Turn::Health(Health::Down)),
            (down + 2.0, Turn::Health(Health::Works(1.0))),
        ]
    });
    Shape {
        slug: if adaptive {
            "flapping_adaptive"
        } else {
            "flapping"
        },
        name: if adaptive {
            "it comes and goes, adaptive limit"
        } else {
            "down for 2 of 5 s, six times"
        },
        groups: vec![requests(Vec::new(), BACKS_OFF)],
        turns: turns.collect(),
        trouble: CALM..CALM + 27.0,
        ends: CALM + 27.0 + AFTER,
        rule: Rule {
            adaptive,
            ..busy().rule
        },
        ..busy()
    }
}

/// Cloudflare 2025: a bad client was shipped long before, grew from 1 a second to 64, and
/// hammers in the end.
pub fn shipped_earlier(growth: f64) -> Shape {
    let surge = CALM + growth..CALM + growth + 20.0;
    let doublings = (0..=6).map(|n| {
        let at = CALM + growth * f64::from(n) / 7.0;
        (at, f64::from(1 << n))
    });
    let mut pace: Vec<(f64, f64)> = doublings.collect();
    pace.push((surge.start, 400.0));
    pace.push((surge.end, 0.0));
    let culprit = Group {
        role: Role::Culprit,
        users: 1,
        users_an_address: u32::MAX,
        comes: Comes::Often { per_s: 1.0, pace },
        stay: ms(980),
        ..visits()
    };
    Shape {
        slug: "shipped",
        name: "culprit that grew long before",
        groups: vec![visits(), culprit],
        ends: surge.end + AFTER,
        trouble: surge,
        ..roomy()
    }
}
