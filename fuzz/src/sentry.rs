//! One rule in several workers with all that they share: who comes, surges, an upstream that fails,
//! a clock that jumps, workers that die, any of the shared records broken.

use std::{num::NonZeroU32, time::Duration};

use arbitrary::{Result, Unstructured};
use tidegate::{
    engine::{
        Answers, Class, Decision, DetectorConfig, Hold, Limits, MAX_HOT, Order, Outcome, Phase,
        Place, Report, Sentry, StreamId, Terms, Timestamp, Who, WorkerId,
    },
    store::{MemoryStore, PREFIX, RuleKeys, RuleRecords, SharedStore},
};

use crate::story::{Story, jump, tell};

const RULE: &str = "db";
const WORKERS: usize = 5;
const MAX_WAITING: u32 = 8;

/// The bytes choose a rule and what happens.
pub fn run(data: &[u8]) {
    tell::<Workers>(data);
}

/// One worker, and the streams that its host would know.
struct Post {
    sentry: Sentry,
    streams: Vec<(StreamId, Place)>,
    dead: bool,
}

struct Workers {
    store: MemoryStore,
    keys: RuleKeys,
    setting: DetectorConfig,
    terms: Terms,
    adaptive: bool,
    posts: Vec<Post>,
    now: Timestamp,
    next: u32,
    /// Nothing has hidden what is open: the limit is exact.
    exact: bool,
}

impl Story for Workers {
    const EVENTS: usize = 100;

    fn begin(u: &mut Unstructured<'_>) -> Result<Self> {
        let inflight = NonZeroU32::new(*u.choose(&[0, 1, 4, 20, 100, 400])?);
        let mut reserved = [0; 8];
        if inflight.is_some_and(|limit| limit.get() > 4) && u.arbitrary()? {
            reserved[0] = 2;
        }
        let hold = Hold {
            max_wait: Duration::from_millis(u.int_in_range(1..=100)?),
            max_waiting: NonZeroU32::MIN.saturating_add(MAX_WAITING - 1),
            order: *u.choose(&[Order::NewestFirst, Order::OldestFirst])?,
        };
        let setting = DetectorConfig {
            baseline_per_s: *u.choose(&[None, Some(1.0), Some(100.0)])?,
            ..DetectorConfig::default()
        };
        let terms = Terms {
            limits: Limits {
                inflight,
                arrivals_per_s: NonZeroU32::new(*u.choose(&[0, 0, 0, 20])?),
                connecting: NonZeroU32::new(*u.choose(&[0, 0, 0, 3])?),
            },
            hold: u.arbitrary::<bool>()?.then_some(hold),
            shadow: u.ratio(1, 4)?,
            redirects: u.arbitrary()?,
            reserved,
        };
        let mut story = Self {
            store: MemoryStore::default(),
            keys: RuleKeys::new(RULE),
            setting,
            terms,
            adaptive: inflight.is_some() && u.arbitrary()?,
            posts: Vec::new(),
            now: Timestamp::from_millis(1_700_000_000_000),
            next: 1,
            exact: true,
        };
        RuleRecords::new(&mut story.store, &story.keys, setting)
            .begin()
            .expect("in memory");
        for _ in 0..u.int_in_range(1..=3)? {
            story.spawn();
        }
        Ok(story)
    }

    fn event(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        let worker = usize::from(u.arbitrary::<u8>()?) % self.posts.len();
        match u.int_in_range(0..=13)? {
            0..=1 => self.arrive(worker, 1, u)?,
            2..=3 => self.arrive(worker, u.int_in_range(1..=100)?, u)?,
            4 => self.close(worker, u.int_in_range(1..=100)?, Answers::default()),
            5 => {
                let answers = answers(u)?;
                self.close(worker, u.int_in_range(1..=100)?, answers);
            }
            6 => self.answered(worker, u.arbitrary()?),
            7 => self.introduced(worker, u)?,
            8..=9 => self.beats(u.int_in_range(1..=5)?, *u.choose(&[4, 20, 100, 100])?),
            10 => self.beats(u.int_in_range(1..=12)?, 100),
            11 => {
                self.now = jump(u, self.now)?;
            }
            12 if u.arbitrary()? => {
                let post = &mut self.posts[worker];
                post.dead = true;
                post.streams.clear();
            }
            12 if self.posts.len() < WORKERS => self.spawn(),
            12 => {}
            _ => self.spoil(u)?,
        }
        Ok(())
    }

    fn check(&mut self) {
        let open = self.open();
        if let Some(limit) = self.terms.limits.inflight.filter(|_| self.exact) {
            assert!(open <= limit.get() as usize, "{open} open, {limit} may be");
        }
        for post in &self.posts {
            let held = post
                .streams
                .iter()
                .filter(|(_, place)| *place == Place::Waiting);
            assert!(held.count() <= 2 * MAX_WAITING as usize);
        }
    }

    /// Everything ends well: nobody waits for ever, and who is never shed has a place.
    fn recover(mut self) {
        if self.posts.iter().all(|post| post.dead) {
            self.spawn();
        }
        self.beats(2, 300);
        let waits = |post: &Post| {
            post.streams
                .iter()
                .any(|(_, place)| *place == Place::Waiting)
        };
        assert!(!self.posts.iter().any(waits), "somebody is held for ever");
        for worker in 0..self.posts.len() {
            self.close(worker, usize::MAX, Answers::default());
        }
        self.beats(10, 300);
        let living = self
            .posts
            .iter()
            .position(|post| !post.dead)
            .expect("one lives");
        let first = Class {
            index: 0,
            priority: 0,
        };
        // By a clock that stepped back, what came before is remembered for two spans of 1.25 s
        // at most.
        self.arrive_as(living, b"somebody", first, false);
        self.beats(7, 400);
        self.close(living, usize::MAX, Answers::default());
        self.beats(2, 100);
        let decision = self.arrive_as(living, b"somebody", first, false);
        assert_eq!(
            decision,
            Some(Decision::Admit),
            "nobody is there, and one is refused"
        );
    }
}

impl Workers {
    fn spawn(&mut self) {
        let id = WorkerId(NonZeroU32::MIN.saturating_add(self.posts.len() as u32));
        let mut sentry = Sentry::new(id, [1, 2], self.now);
        let limit = self.terms.limits.inflight.map_or(0, NonZeroU32::get);
        sentry.configure(limit, self.adaptive);
        self.posts.push(Post {
            sentry,
            streams: Vec::new(),
            dead: false,
        });
    }

    /// Some of the same caller and class arrive.
    fn arrive(&mut self, worker: usize, many: u32, u: &mut Unstructured<'_>) -> Result<()> {
        let names: u8 = u.arbitrary()?;
        let class = match names % 4 {
            0 => Class {
                index: 0,
                priority: 0,
            },
            1 => Class {
                index: 1,
                priority: 2,
            },
            _ => Class::default(),
        };
        let known_later = names & 64 != 0;
        for nth in 0..many {
            // One caller, or each another one.
            let name = if names & 128 != 0 {
                nth
            } else {
                u32::from(names / 4 % 8)
            };
            self.arrive_as(worker, &name.to_le_bytes(), class, known_later);
        }
        Ok(())
    }

    fn arrive_as(
        &mut self,
        worker: usize,
        key: &[u8],
        class: Class,
        later: bool,
    ) -> Option<Decision> {
        let post = self.posts.get_mut(worker).filter(|post| !post.dead)?;
        let id = StreamId(self.next);
        self.next += 1;
        let wanted = post.sentry.wants();
        let caller = (wanted.caller > 0).then_some((key, wanted.caller));
        let who = Who {
            caller: caller.filter(|_| !later),
            instead: caller.filter(|_| later),
            user: wanted.user.then_some(key),
            class,
        };
        let mut records = RuleRecords::new(&mut self.store, &self.keys, self.setting);
        let (decision, place, news) =
            post.sentry
                .on_arrival(id, &self.terms, who, self.now, &mut records);
        if let Some(Ok(report)) = &news {
            assert_report(report);
        }
        if place != Place::Nowhere {
            post.streams.push((id, place));
        }
        assert!(self.terms.shadow || place != Place::Ghost);
        assert!(self.terms.hold.is_some() || decision != Decision::Hold);
        Some(decision)
    }

    fn close(&mut self, worker: usize, many: usize, answers: Answers) {
        let post = &mut self.posts[worker];
        for _ in 0..many.min(post.streams.len()) {
            let (id, place) = post.streams.swap_remove(0);
            post.sentry.on_answers(answers);
            post.sentry.on_close(id, place);
        }
        if !post.dead {
            let mut records = RuleRecords::new(&mut self.store, &self.keys, self.setting);
            post.sentry.give_back(self.now, &mut records);
        }
    }

    fn answered(&mut self, worker: usize, nth: usize) {
        let post = &mut self.posts[worker];
        let nth = nth % post.streams.len().max(1);
        if let Some((_, place)) = post.streams.get_mut(nth) {
            post.sentry.on_answered(place);
        }
    }

    /// A stream that was let through says who it is, and may be turned out for it.
    fn introduced(&mut self, worker: usize, u: &mut Unstructured<'_>) -> Result<()> {
        let name: [u8; 4] = u.arbitrary()?;
        let post = &mut self.posts[worker];
        if post.dead {
            return Ok(());
        }
        let class = Class::default();
        let user = || Some(name.to_vec());
        if post.sentry.on_introduced(&name, user, class, &self.terms)
            && let Some((id, place)) = post.streams.pop()
        {
            post.sentry.on_close(id, place);
        }
        post.sentry.on_known_late(&name);
        Ok(())
    }

    fn beats(&mut self, many: u32, millis: u64) {
        for _ in 0..many {
            self.now = self.now.after(Duration::from_millis(millis));
            (0..self.posts.len()).for_each(|worker| self.tick(worker));
        }
    }

    fn tick(&mut self, worker: usize) {
        let Some(post) = self.posts.get_mut(worker).filter(|post| !post.dead) else {
            return;
        };
        let mut records = RuleRecords::new(&mut self.store, &self.keys, self.setting);
        let mut outcomes: Vec<Outcome> = Vec::new();
        post.sentry.serve(self.now, &mut records, &mut outcomes);
        for outcome in outcomes {
            let known = post.streams.iter_mut().find(|(id, _)| *id == outcome.id);
            known.expect("an outcome is of a stream that lives").1 = outcome.place;
        }
        post.streams.retain(|(_, place)| *place != Place::Nowhere);
        let (_, report) = post.sentry.tell(self.now, &mut records);
        if let Some(report) = report.expect("a store in memory") {
            assert_report(&report);
        }
    }

    /// One of the shared records is not what anybody wrote.
    fn spoil(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        self.exact = false;
        let what = *u.choose(&["pool", "tide", "callers/1", "callers/2"])?;
        let key = format!("{PREFIX}/{RULE}/{what}");
        let old = self.store.load(&key).expect("in memory");
        let mut new = old.map_or_else(Vec::new, |(value, _)| value);
        match u.int_in_range(0..=3)? {
            0 => new = u.bytes(u.len().min(64))?.to_vec(),
            1 => new.truncate(u.int_in_range(0..=new.len())?),
            _ => {
                for _ in 0..u.int_in_range(1..=8)? {
                    let at = u.choose_index(new.len().max(1))?;
                    if let Some(byte) = new.get_mut(at) {
                        *byte = u.arbitrary()?;
                    }
                }
            }
        }
        self.store
            .compare_and_set(&key, &new, None)
            .expect("in memory");
        Ok(())
    }

    fn open(&self) -> usize {
        let streams = self.posts.iter().flat_map(|post| &post.streams);
        streams
            .filter(|(_, place)| matches!(place, Place::Open { .. }))
            .count()
    }
}

fn assert_report(report: &Report) {
    assert!((0.02..=1.0).contains(&report.share), "{}", report.share);
    assert!(
        (0.1..=1.0).contains(&report.limit_part),
        "{}",
        report.limit_part
    );
    assert!(report.rate_per_s.is_finite() && report.rate_per_s >= 0.0);
    assert!(report.baseline_per_s.is_finite() && report.baseline_per_s >= 0.0);
    assert!(report.cuts.len() <= MAX_HOT);
    assert!(!report.may_shed || report.phase == Phase::Surge);
}

fn answers(u: &mut Unstructured<'_>) -> Result<Answers> {
    let mut answers = Answers::default();
    match u.int_in_range(0..=4)? {
        0 => answers.good = 1,
        1 => answers.refused = 1,
        2 => answers.failed = 1,
        3 => answers.slow = 1,
        _ => answers.silent = 1,
    }
    Ok(answers)
}
