//! Our guard: several workers with the real engine, driven as the plugin drives it.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    num::NonZeroU32,
    time::Duration,
};

use tidegate::{
    engine::{
        Answers, Class, Decision, DetectorConfig, Hold, Limits, Order, Outcome, Place, Reason,
        Sentry, StreamId, Terms, Timestamp, Who, WorkerId,
    },
    scenario::Random,
    store::{MemoryStore, RuleKeys, RuleRecords},
};

use super::{
    clients::jittered,
    guard::{Answer, Ending, Guard, Outcomes},
    shapes::Rule,
};

/// The tick periods of the plugin.
const FAST: Duration = Duration::from_millis(4);
const STEADY: Duration = Duration::from_millis(100);
const IDLE: Duration = Duration::from_millis(1000);
/// How often a worker tells.
const TELL: Duration = Duration::from_millis(100);
/// The refusal of a hot caller's connection is kept for so long, give or take a half.
const SLOW: Duration = Duration::from_secs(2);
const MAX_SLOW: usize = 4096;
/// Of requests that end, one in so many is looked at.
const LOOKS_AT: u32 = 8;
/// How long it takes to be accepted.
const CONNECT: Duration = Duration::from_millis(1);

/// A connection that a worker knows.
struct Stream {
    worker: usize,
    place: Place,
    since: Duration,
    answered: bool,
}

/// A worker.
struct Post {
    sentry: Sentry,
    streams: usize,
    period: Duration,
    ticks_at: Duration,
    told: Duration,
    /// The refusals that are kept, and until when.
    slow: BinaryHeap<Reverse<(Duration, StreamId)>>,
    ended: u32,
}

/// Several workers with one rule.
pub struct House {
    store: MemoryStore,
    keys: RuleKeys,
    setting: DetectorConfig,
    terms: Terms,
    http: bool,
    posts: Vec<Post>,
    streams: BTreeMap<StreamId, Stream>,
    random: Random,
}

/// As the host's clock shows it.
fn clock(now: Duration) -> Timestamp {
    Timestamp::from_millis(1_700_000_000_000).after(now)
}

impl House {
    /// Workers that have seen nothing.
    pub fn new(workers: u32, rule: &Rule) -> Self {
        let terms = Terms {
            limits: Limits {
                inflight: NonZeroU32::new(rule.limit),
                connecting: rule.connecting.and_then(NonZeroU32::new),
                ..Limits::default()
            },
            hold: Some(Hold {
                max_wait: Duration::from_millis(100),
                max_waiting: NonZeroU32::new(1024).expect("not zero"),
                order: Order::NewestFirst,
            }),
            ..Terms::default()
        };
        let posts = (0..workers).map(|index| {
            let id = NonZeroU32::MIN.saturating_add(index);
            let mut sentry = Sentry::new(WorkerId(id), [1, 2], clock(Duration::ZERO));
            sentry.configure(rule.limit, rule.adaptive);
            Post {
                sentry,
                streams: 0,
                period: STEADY,
                // Nobody's clock ticks with another's.
                ticks_at: Duration::from_millis(37) * index,
                told: Duration::ZERO,
                slow: BinaryHeap::new(),
                ended: 0,
            }
        });
        let mut house = Self {
            store: MemoryStore::default(),
            keys: RuleKeys::new("db"),
            setting: DetectorConfig::default(),
            terms,
            http: rule.http,
            posts: posts.collect(),
            streams: BTreeMap::new(),
            random: Random::new(7),
        };
        RuleRecords::new(&mut house.store, &house.keys, house.setting)
            .begin()
            .expect("a store in memory");
        house
    }

    /// What is done about a decision. The refusal of a hot caller's connection is kept.
    fn carry_out(&mut self, stream: StreamId, decision: Decision, now: Duration) -> Answer {
        let Some(known) = self.streams.get(&stream) else {
            return Answer::Refuse;
        };
        let post = &mut self.posts[known.worker];
        match decision {
            Decision::Admit => return Answer::Go,
            Decision::Hold => return Answer::Wait,
            Decision::Reject(Reason::HotCaller) if !self.http && post.slow.len() < MAX_SLOW => {
                let until = now + jittered(SLOW, &mut self.random);
                post.slow.push(Reverse((until, stream)));
                return Answer::Wait;
            }
            Decision::Reject(_) | Decision::Redirect(_) => {}
        }
        post.streams -= 1;
        self.streams.remove(&stream);
        Answer::Refuse
    }

    /// Ticks faster if somebody waits for it.
    fn hurry(&mut self, worker: usize, now: Duration) {
        let post = &mut self.posts[worker];
        let fast = post.sentry.gate().needs_fast_tick();
        let wanted = if fast { FAST } else { STEADY };
        if wanted < post.period {
            post.period = wanted;
            post.ticks_at = now + wanted;
        }
    }

    fn tick(&mut self, worker: usize, now: Duration, out: &mut Outcomes) {
        let (store, keys) = (&mut self.store, &self.keys);
        let mut records = RuleRecords::new(store, keys, self.setting);
        let post = &mut self.posts[worker];
        let mut outcomes: Vec<Outcome> = Vec::new();
        post.sentry.serve(clock(now), &mut records, &mut outcomes);
        if now.saturating_sub(post.told) >= TELL {
            post.told = now;
            let (_, report) = post.sentry.tell(clock(now), &mut records);
            report.expect("a store in memory");
        }
        for outcome in outcomes {
            if let Some(stream) = self.streams.get_mut(&outcome.id) {
                stream.place = outcome.place;
            }
            match self.carry_out(outcome.id, outcome.decision, now) {
                Answer::Wait => {}
                answer => out.push((outcome.id, answer)),
            }
        }
        let post = &mut self.posts[worker];
        while let Some(&Reverse((until, stream))) = post.slow.peek()
            && until <= now
        {
            post.slow.pop();
            post.streams -= 1;
            self.streams.remove(&stream);
            out.push((stream, Answer::Refuse));
        }
        post.period = if post.sentry.gate().needs_fast_tick() {
            FAST
        } else if post.streams == 0 && post.sentry.is_idle() {
            IDLE
        } else {
            STEADY
        };
        post.ticks_at = now + post.period;
    }

    fn next(&self) -> Option<(Duration, usize)> {
        let ticks = self.posts.iter().enumerate();
        ticks.map(|(worker, post)| (post.ticks_at, worker)).min()
    }

    /// How the upstream took one that ends, as far as the plugin sees it.
    fn judge(&self, stream: &Stream, ending: Ending, now: Duration) -> Answers {
        if ending == Ending::Failed {
            return Answers {
                failed: 1,
                ..Answers::default()
            };
        }
        let silence = if stream.answered {
            Duration::ZERO
        } else {
            now.saturating_sub(stream.since)
        };
        let patience = self.posts[stream.worker].sentry.patience();
        let connect = (!self.http).then_some(CONNECT);
        Answers::of_connection(silence, || connect, patience)
    }
}

impl Guard for House {
    fn arrive(&mut self, stream: StreamId, address: &str, chance: u64, now: Duration) -> Answer {
        let worker = (chance % self.posts.len() as u64) as usize;
        let post = &mut self.posts[worker];
        let wanted = post.sentry.wants();
        let who = Who {
            caller: (wanted.caller > 0).then_some((address.as_bytes(), wanted.caller)),
            instead: None,
            user: wanted.user.then_some(address.as_bytes()),
            class: Class::default(),
        };
        let mut records = RuleRecords::new(&mut self.store, &self.keys, self.setting);
        let (decision, place, news) =
            post.sentry
                .on_arrival(stream, &self.terms, who, clock(now), &mut records);
        assert!(!matches!(news, Some(Err(_))), "a store in memory");
        post.streams += 1;
        self.streams.insert(
            stream,
            Stream {
                worker,
                place,
                since: now,
                answered: false,
            },
        );
        let answer = self.carry_out(stream, decision, now);
        self.hurry(worker, now);
        answer
    }

    fn answered(&mut self, stream: StreamId) {
        if let Some(known) = self.streams.get_mut(&stream) {
            known.answered = true;
            self.posts[known.worker]
                .sentry
                .on_answered(&mut known.place);
        }
    }

    fn close(&mut self, stream: StreamId, ending: Ending, now: Duration, _: &mut Outcomes) {
        let Some(known) = self.streams.remove(&stream) else {
            return;
        };
        let answers = self.judge(&known, ending, now);
        let post = &mut self.posts[known.worker];
        post.streams -= 1;
        post.ended = post.ended.wrapping_add(1);
        let looks = !self.http || answers.bad() > 0 || post.ended.is_multiple_of(LOOKS_AT);
        if looks && matches!(known.place, Place::Open { .. }) {
            post.sentry.on_answers(answers);
        }
        post.sentry.on_close(stream, known.place);
        if self.http {
            let mut records = RuleRecords::new(&mut self.store, &self.keys, self.setting);
            post.sentry.give_back(clock(now), &mut records);
        }
        self.hurry(known.worker, now);
    }

    fn wakes_at(&self) -> Option<Duration> {
        self.next().map(|(at, _)| at)
    }

    fn wake(&mut self, now: Duration, out: &mut Outcomes) {
        if let Some((_, worker)) = self.next() {
            self.tick(worker, now, out);
        }
    }

    /// Nothing is read from a connection that waits, so its end is not seen.
    fn sees_leaving(&self) -> bool {
        self.http
    }

    fn open(&self) -> usize {
        let seen = |post: &Post| post.sentry.gate().seen().open as usize;
        self.posts.iter().map(seen).max().unwrap_or(0)
    }
}
