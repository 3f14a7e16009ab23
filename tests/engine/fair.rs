//! Who gets the slots, while there are not enough for all.

use std::{cell::RefCell, num::NonZeroU32, time::Duration};

use proptest::prelude::*;
use tidegate::{
    engine::{
        Class, Decision, DetectorConfig, Hold, Limits, MAX_CLASSES, Order, Place, PoolRecord,
        Reason, Sentry, StreamId, Tally, Terms, Timestamp, Who, WorkerId,
    },
    store::{MemoryStore, PREFIX, RuleKeys, RuleRecords, SharedStore},
};

use crate::world::{inflight, some};

/// What is asked for a connection.
struct Open {
    id: StreamId,
    place: Place,
    caller: &'static str,
}

struct Post {
    sentry: Sentry,
    open: Vec<Open>,
    tally: Tally,
}

/// Several workers with one rule, and a clock.
struct House {
    store: MemoryStore,
    keys: RuleKeys,
    setting: DetectorConfig,
    terms: Terms,
    posts: Vec<RefCell<Post>>,
    now: Timestamp,
    last: u32,
}

impl House {
    fn new(workers: u32, terms: Terms) -> Self {
        let now = Timestamp::from_millis(1_000_000_000);
        let setting = DetectorConfig {
            baseline_per_s: Some(20.0),
            ..DetectorConfig::default()
        };
        let limit = terms.limits.inflight.map_or(0, NonZeroU32::get);
        let post = |id| {
            let mut sentry = Sentry::new(WorkerId(some(id).expect("not zero")), [1, 2], now);
            sentry.configure(limit, false);
            RefCell::new(Post {
                sentry,
                open: Vec::new(),
                tally: Tally::default(),
            })
        };
        let mut house = Self {
            store: MemoryStore::default(),
            keys: RuleKeys::new("db"),
            setting,
            terms,
            posts: (1..=workers).map(post).collect(),
            now,
            last: 0,
        };
        RuleRecords::new(&mut house.store, &house.keys, setting)
            .begin()
            .expect("a store in memory");
        house
    }

    fn arrive(&mut self, worker: usize, caller: &'static str) -> Decision {
        self.arrive_as(worker, caller, caller, Class::default())
    }

    /// Lets one of an address come, that says afterwards who it is; whether it stays.
    fn introduce(&mut self, worker: usize, address: &'static str, caller: &str) -> bool {
        let id = StreamId(self.last + 1);
        let decision = self.come_from(worker, address);
        let class = Class::default();
        let mut post = self.posts[worker].borrow_mut();
        let out = decision == Decision::Admit
            && post
                .sentry
                .on_introduced(caller.as_bytes(), || None, class, &self.terms);
        if out && let Some(index) = post.open.iter().position(|open| open.id == id) {
            let open = post.open.remove(index);
            post.sentry.on_close(id, open.place);
        }
        decision == Decision::Admit && !out
    }

    /// Lets one of an address come that says nothing yet.
    fn come_from(&mut self, worker: usize, address: &'static str) -> Decision {
        let who = Who {
            instead: Some((address.as_bytes(), 1)),
            ..Who::default()
        };
        self.decide(worker, address, who)
    }

    fn arrive_as(
        &mut self,
        worker: usize,
        caller: &'static str,
        user: &str,
        class: Class,
    ) -> Decision {
        let wanted = self.posts[worker].borrow_mut().sentry.wants();
        let who = Who {
            caller: (wanted.caller > 0).then_some((caller.as_bytes(), wanted.caller)),
            instead: None,
            user: wanted.user.then_some(user.as_bytes()),
            class,
        };
        self.decide(worker, caller, who)
    }

    fn decide(&mut self, worker: usize, caller: &'static str, who: Who<'_>) -> Decision {
        self.last += 1;
        let id = StreamId(self.last);
        let mut post = self.posts[worker].borrow_mut();
        let mut records = RuleRecords::new(&mut self.store, &self.keys, self.setting);
        let (decision, place, _) =
            post.sentry
                .on_arrival(id, &self.terms, who, self.now, &mut records);
        if place != Place::Nowhere {
            post.open.push(Open { id, place, caller });
        }
        decision
    }

    /// Lets a lap of 100 ms pass.
    fn lap(&mut self) {
        self.now = self.now.after(Duration::from_millis(100));
        for worker in 0..self.posts.len() {
            self.tick(worker, true);
        }
    }

    /// Lets a worker serve and, if it is time, tell; what became of those that waited.
    fn tick(&mut self, worker: usize, tell: bool) -> Vec<(StreamId, Decision)> {
        let mut post = self.posts[worker].borrow_mut();
        let mut records = RuleRecords::new(&mut self.store, &self.keys, self.setting);
        let mut out = Vec::new();
        post.sentry.serve(self.now, &mut records, &mut out);
        for outcome in &out {
            if let Some(open) = post.open.iter_mut().find(|open| open.id == outcome.id) {
                open.place = outcome.place;
            }
        }
        post.open.retain(|open| open.place != Place::Nowhere);
        if tell {
            let (tally, report) = post.sentry.tell(self.now, &mut records);
            report.expect("a store in memory");
            post.tally.redirected += tally.redirected;
            let sums = post.tally.rejected.iter_mut();
            sums.zip(tally.rejected)
                .for_each(|(sum, more)| *sum += more);
        }
        out.iter()
            .map(|outcome| (outcome.id, outcome.decision))
            .collect()
    }

    /// Closes the oldest connection of a caller, wherever it is.
    fn close(&mut self, caller: &str) -> bool {
        for post in &self.posts {
            let mut post = post.borrow_mut();
            if let Some(index) = post.open.iter().position(|open| open.caller == caller) {
                let gone = post.open.remove(index);
                post.sentry.on_close(gone.id, gone.place);
                return true;
            }
        }
        false
    }

    fn has(&self, caller: &str) -> usize {
        let open = |post: &RefCell<Post>| {
            let post = post.borrow();
            let open = post.open.iter();
            open.filter(|o| o.caller == caller && matches!(o.place, Place::Open { .. }))
                .count()
        };
        self.posts.iter().map(open).sum()
    }

    fn rejected(&self, reason: Reason) -> u32 {
        let of = |post: &RefCell<Post>| post.borrow().tally.rejected[reason.index()];
        self.posts.iter().map(of).sum()
    }

    /// A caller has so many open, of which some are exchanged in each lap.
    fn steady(&mut self, caller: &'static str, open: usize, laps: usize) {
        for lap in 0..laps {
            if self.has(caller) >= open {
                self.close(caller);
            }
            self.lap();
            while self.has(caller) < open {
                let worker = (lap + self.has(caller)) % self.posts.len();
                assert_eq!(self.arrive(worker, caller), Decision::Admit);
            }
        }
    }
}

fn no_hold(limit: u32) -> Terms {
    Terms {
        limits: inflight(limit),
        ..Terms::default()
    }
}

#[test]
fn a_newcomer_never_takes_the_slots_that_a_steady_caller_needs() {
    for workers in [1, 2, 4] {
        let mut house = House::new(workers, no_hold(100));
        house.steady("steady", 20, 100);
        for round in 0..50 {
            for n in 0..300 {
                let _ = house.arrive((n + round) % workers as usize, "flood");
            }
            // The steady one gives one back and needs it again.
            house.close("steady");
            house.lap();
            let worker = round % workers as usize;
            assert_eq!(house.arrive(worker, "steady"), Decision::Admit, "{round}");
        }
        assert_eq!(house.has("steady"), 20);
        let flood = house.has("flood");
        assert!((50..=80).contains(&flood), "{flood} with {workers} workers");
        assert!(house.rejected(Reason::HotCaller) > 0);
        assert_eq!(house.rejected(Reason::InflightLimit), 0);
    }
}

#[test]
fn while_nobody_has_said_who_it_is_slots_are_shared_by_address() {
    let mut house = House::new(2, no_hold(100));
    for lap in 0..100 {
        if house.has("steady") >= 20 {
            house.close("steady");
        }
        house.lap();
        while house.has("steady") < 20 {
            assert_eq!(house.come_from(lap % 2, "steady"), Decision::Admit);
        }
    }
    for round in 0..50 {
        for n in 0..300 {
            let _ = house.come_from((n + round) % 2, "flood");
        }
        house.close("steady");
        house.lap();
        assert_eq!(house.come_from(round % 2, "steady"), Decision::Admit);
    }
    let flood = house.has("flood");
    assert!((50..=80).contains(&flood), "{flood}");
}

#[test]
fn who_says_late_that_it_is_hot_is_turned_out_and_gives_its_slot_back() {
    let mut house = House::new(2, no_hold(20));
    // Everybody comes from one address.
    let mut run = |laps: usize, flood: usize| {
        let (mut app, mut batch, mut left) = (0, 0, 0);
        for lap in 0..laps {
            for n in 0..3 {
                app += usize::from(house.introduce((lap + n) % 2, "shared", "app"));
            }
            for n in 0..flood {
                batch += usize::from(house.introduce((lap + n) % 2, "shared", "batch"));
            }
            house.lap();
            if lap % 2 == 1 {
                while house.close("shared") {}
            }
            left = house.rejected(Reason::HotCaller) as usize;
        }
        (app, batch, left)
    };
    let (app, _, left) = run(1200, 0);
    assert_eq!((app, left), (3600, 0));
    run(30, 100);
    let (app, batch, left) = run(100, 100);
    assert!(batch < 300, "{batch} of the flood stay");
    assert!(left > 500, "{left} were turned out");
    assert!(app > 270, "{app} of 300");
}

#[test]
fn a_flood_does_not_become_normal_by_flooding() {
    let mut house = House::new(2, no_hold(100));
    house.steady("steady", 20, 100);
    let mut most = 0;
    for lap in 0..1200 {
        for n in 0..3 {
            let _ = house.arrive((n + lap) % 2, "flood");
        }
        // Its connections last for two seconds.
        if lap % 20 == 19 {
            while house.close("flood") {}
        }
        house.lap();
        most = most.max(house.has("flood"));
    }
    assert!(most <= 80, "{most}");
}

#[test]
fn slots_of_callers_that_are_gone_are_there_for_new_ones() {
    let mut house = House::new(2, no_hold(100));
    house.steady("old", 80, 300);
    while house.close("old") {}
    for _ in 0..300 {
        house.lap();
    }
    for n in 0..80 {
        assert_eq!(house.arrive(n % 2, "new"), Decision::Admit, "{n}");
    }
}

#[test]
fn where_everybody_wants_more_no_slot_is_left_unused() {
    let callers = ["a", "b", "c", "d", "e", "f", "g", "h"];
    let mut house = House::new(2, no_hold(100));
    for lap in 0..300 {
        for (n, caller) in callers.into_iter().enumerate() {
            if house.has(caller) >= 5 {
                house.close(caller);
            }
            while house.has(caller) < 5 {
                assert_eq!(house.arrive((lap + n) % 2, caller), Decision::Admit);
            }
        }
        house.lap();
    }
    for n in 0..400 {
        let _ = house.arrive(n % 2, callers[n % 8]);
    }
    let used: usize = callers.iter().map(|caller| house.has(caller)).sum();
    assert_eq!(used, 100);
    for caller in callers {
        assert!(house.has(caller) >= 10, "{caller}: {}", house.has(caller));
    }
}

#[test]
fn reserved_slots_are_for_their_class_alone() {
    let mut terms = no_hold(10);
    terms.reserved[0] = 3;
    let admin = Class {
        index: 0,
        priority: 0,
    };
    let mut house = House::new(2, terms);
    for n in 0..40 {
        let _ = house.arrive(n % 2, "many");
    }
    assert_eq!(house.has("many"), 7);
    for n in 0..3 {
        let decision = house.arrive_as(n % 2, "operator", "operator", admin);
        assert_eq!(decision, Decision::Admit);
    }
    let fourth = house.arrive_as(0, "operator", "operator", admin);
    assert_eq!(fourth, Decision::Reject(Reason::InflightLimit));
}

#[test]
fn a_free_slot_goes_to_the_first_priority_of_any_worker() {
    let hold = Hold {
        max_wait: Duration::from_secs(10),
        max_waiting: NonZeroU32::MIN.saturating_add(7),
        order: Order::NewestFirst,
    };
    let mut house = House::new(
        2,
        Terms {
            limits: inflight(1),
            hold: Some(hold),
            ..Terms::default()
        },
    );
    let class = |priority| Class {
        index: u8::MAX,
        priority,
    };
    assert_eq!(house.arrive(0, "first"), Decision::Admit);
    assert_eq!(
        house.arrive_as(1, "urgent", "urgent", class(0)),
        Decision::Hold
    );
    assert_eq!(
        house.arrive_as(0, "batch", "batch", class(2)),
        Decision::Hold
    );
    house.lap();
    house.close("first");
    house.lap();
    house.lap();
    assert_eq!((house.has("urgent"), house.has("batch")), (1, 0));
    house.close("urgent");
    house.lap();
    house.lap();
    assert_eq!(house.has("batch"), 1);
}

#[test]
fn what_would_be_refused_is_redirected_where_that_is_asked_for() {
    let mut house = House::new(
        1,
        Terms {
            redirects: true,
            ..no_hold(1)
        },
    );
    assert_eq!(house.arrive(0, "a"), Decision::Admit);
    assert_eq!(
        house.arrive(0, "a"),
        Decision::Redirect(Reason::InflightLimit)
    );
    house.lap();
    assert_eq!(house.posts[0].borrow().tally.redirected, 1);
    assert_eq!(house.rejected(Reason::InflightLimit), 0);
}

#[test]
fn in_a_surge_a_hot_caller_is_cut_and_the_others_are_not() {
    let mut house = House::new(2, no_hold(60));
    house.steady("steady", 20, 900);
    let mut refused = 0;
    for lap in 0..60 {
        house.close("steady");
        for n in 0..60 {
            let _ = house.arrive(n % 2, "flood");
        }
        house.lap();
        while house.close("flood") {}
        if house.arrive(lap % 2, "steady") != Decision::Admit {
            refused += 1;
        }
    }
    assert_eq!(refused, 0);
    // 1 a second is left to who was never seen before, once the workers have agreed.
    let mut passed = 0;
    for _ in 0..10 {
        for n in 0..60 {
            passed += u32::from(house.arrive(n % 2, "flood") == Decision::Admit);
        }
        house.lap();
        while house.close("flood") {}
    }
    assert!(passed <= 30, "{passed} of 600");
}

#[test]
fn a_user_that_makes_most_of_a_hot_caller_is_cut_before_those_beside_it() {
    let mut house = House::new(2, no_hold(40));
    house.steady("steady", 10, 30);
    let mut turn = 0;
    // Two a lap are normal, each of another of ten users; each is open for a lap.
    let mut lap = |house: &mut House, more: usize| {
        let mut served = (0, 0);
        for n in 0..2 + more {
            let user = if n < 2 {
                turn += 1;
                format!("user-{}", turn % 10)
            } else {
                "culprit".to_owned()
            };
            let decision = house.arrive_as(n % 2, "address", &user, Class::default());
            let passed = u32::from(decision == Decision::Admit);
            if user == "culprit" {
                served.1 += passed;
            } else {
                served.0 += passed;
            }
        }
        house.close("steady");
        house.lap();
        while house.close("address") {}
        let _ = house.arrive(turn % 2, "steady");
        served
    };
    for _ in 0..2_000 {
        lap(&mut house, 0);
    }
    for _ in 0..100 {
        lap(&mut house, 62);
    }
    let (mut innocent, mut culprit) = (0, 0);
    for _ in 0..100 {
        let served = lap(&mut house, 62);
        innocent += served.0;
        culprit += served.1;
    }
    assert!(
        innocent >= 180 && culprit <= 400,
        "{innocent} of 200 and {culprit} of 6,200"
    );
}

#[test]
fn when_it_is_everybody_the_same_users_are_served_all_along() {
    let names: Vec<&'static str> = (0..200)
        .map(|n| &*Box::leak(format!("user-{n}").into_boxed_str()))
        .collect();
    let mut house = House::new(2, no_hold(20));
    // Two a lap are normal, each from another user; each is open for a lap.
    let mut turn = 0;
    let mut lap = |house: &mut House, many: usize, served: &mut Vec<(usize, bool)>| {
        for _ in 0..many {
            turn = (turn + 7) % names.len();
            let name = names[turn];
            let decision = house.arrive(turn % 2, name);
            served.push((turn, decision == Decision::Admit));
        }
        house.lap();
        for name in &names {
            while house.close(name) {}
        }
    };
    let mut ignored = Vec::new();
    for _ in 0..700 {
        lap(&mut house, 2, &mut ignored);
    }
    assert!(ignored.iter().all(|(_, served)| *served));
    for _ in 0..50 {
        lap(&mut house, 60, &mut ignored);
    }
    let mut served = Vec::new();
    for _ in 0..100 {
        lap(&mut house, 60, &mut served);
    }
    let mut fates = vec![(0, 0); names.len()];
    for (user, ok) in served {
        let fate = &mut fates[user];
        if ok { fate.0 += 1 } else { fate.1 += 1 }
    }
    let mixed = |(good, bad): &&(u32, u32)| *good * 10 > *bad && *bad * 10 > *good;
    let mixed = fates.iter().filter(mixed).count();
    assert!(
        mixed <= names.len() / 4,
        "{mixed} users see both: {fates:?}"
    );
    assert!(house.rejected(Reason::SurgePressure) > 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn no_mix_of_callers_and_classes_opens_more_than_the_limit(
        limit in 4_u32..30,
        reserved in 0_u32..4,
        shadow in any::<bool>(),
        steps in prop::collection::vec((0_usize..3, 0_usize..6, 0_u8..4, any::<bool>()), 1..400),
    ) {
        let callers = ["a", "b", "c", "d", "e", "f"];
        let mut terms = Terms {
            shadow,
            limits: Limits { inflight: some(limit), ..Limits::default() },
            ..Terms::default()
        };
        terms.reserved = [0; MAX_CLASSES];
        terms.reserved[0] = reserved;
        let mut house = House::new(3, terms);
        for (n, (worker, caller, kind, close)) in steps.into_iter().enumerate() {
            let class = if kind == 0 { Class { index: 0, priority: 0 } } else { Class::default() };
            if close {
                house.close(callers[caller]);
            } else {
                house.arrive_as(worker, callers[caller], "user", class);
            }
            if n % 10 == 9 {
                house.lap();
            }
            let open: usize = callers.iter().map(|caller| house.has(caller)).sum();
            prop_assert!(open <= limit as usize, "{open} of {limit}");
        }
        for caller in callers {
            while house.close(caller) {}
        }
        // Two minutes, after which nobody is there any more.
        for _ in 0..1200 {
            house.lap();
        }
        let free = (0..limit).filter(|_| house.arrive_as(0, "z", "z", Class { index: 0, priority: 0 })
            == Decision::Admit).count();
        prop_assert!(shadow || free as u32 >= limit.min(reserved + 1), "{free}");
    }
}

impl House {
    /// What the workers know, apart from them.
    fn record(&self) -> Vec<u8> {
        let key = format!("{PREFIX}/db/pool");
        let found = self.store.clone().load(&key).expect("works");
        found.expect("is there").0
    }

    /// What would be decided by a worker that has nothing, and so has to ask.
    fn asked(&self, caller: &str, class: Class) -> Decision {
        let mut store = MemoryStore::default();
        let key = format!("{PREFIX}/db/pool");
        let set = store.compare_and_set(&key, &self.record(), None);
        set.expect("a store in memory");
        let mut sentry = Sentry::new(WorkerId(some(99).expect("not zero")), [1, 2], self.now);
        let mut records = RuleRecords::new(&mut store, &self.keys, self.setting);
        let who = Who {
            caller: Some((caller.as_bytes(), 1)),
            class,
            ..Who::default()
        };
        let id = StreamId(0);
        sentry
            .on_arrival(id, &self.terms, who, self.now, &mut records)
            .0
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn where_a_slot_is_idle_nobody_would_be_refused_by_the_record(
        limit in 4_u32..300,
        reserved in 0_u32..10,
        steps in prop::collection::vec((0_usize..3, 0_usize..6, 1_u32..12, any::<bool>()), 1..120),
    ) {
        let callers = ["a", "b", "c", "d", "e", "f"];
        let mut terms = no_hold(limit);
        terms.reserved[0] = reserved.min(limit / 2);
        let mut house = House::new(3, terms);
        for (worker, caller, times, close) in steps {
            for _ in 0..times {
                if close {
                    house.close(callers[caller]);
                } else {
                    let _ = house.arrive(worker, callers[caller]);
                }
            }
            // In the second, everybody knows what all have.
            house.lap();
            house.lap();
            let totals = PoolRecord::decode(&house.record()).expect("a record").totals();
            prop_assert!(totals.held <= u64::from(limit));
            if totals.held > totals.open {
                for caller in callers.into_iter().chain(["new"]) {
                    for class in [Class::default(), Class { index: 0, priority: 0 }] {
                        let decision = house.asked(caller, class);
                        prop_assert_eq!(decision, Decision::Admit, "{} {:?}", caller, totals);
                    }
                }
            }
        }
    }
}

/// Away until then, waiting, or open until then.
#[derive(Clone, Copy, PartialEq)]
enum State {
    Away(u64),
    Waits(StreamId),
    Open(StreamId, u64),
}

struct Client {
    flood: bool,
    worker: usize,
    state: State,
}

/// Clients that want a slot for a while, wait for it, and come again when they are refused; a flood
/// of 300 from the fifth second on. Returns how many of the others were served and refused then.
fn flood(seed: u64, limit: u32, stay: u64) -> (u32, u32) {
    let hold = Hold {
        max_wait: Duration::from_millis(100),
        max_waiting: NonZeroU32::MIN.saturating_add(1023),
        order: Order::NewestFirst,
    };
    let terms = Terms {
        hold: Some(hold),
        ..no_hold(limit)
    };
    let mut house = House::new(2, terms);
    house.setting.baseline_per_s = None;
    let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut below = move |most: u64| {
        random ^= random >> 12;
        random ^= random << 25;
        random ^= random >> 27;
        (random.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % most
    };
    let mut clients: Vec<Client> = (0..340)
        .map(|n| Client {
            flood: n >= 40,
            worker: 0,
            state: State::Away(if n < 40 {
                below(2000)
            } else {
                5000 + below(500)
            }),
        })
        .collect();
    let (mut served, mut refused) = (0, 0);
    let start = house.now;
    for ms in (0..17_000).step_by(4) {
        house.now = start.after(Duration::from_millis(ms));
        let mut fate = |client: &mut Client, id, decision| {
            let counts = !client.flood && ms >= 5000;
            let stay = if client.flood { 250 } else { stay };
            client.state = match decision {
                Decision::Hold => State::Waits(id),
                Decision::Admit => {
                    served += u32::from(counts);
                    State::Open(id, ms + stay)
                }
                Decision::Reject(reason) => {
                    refused += u32::from(counts);
                    let slow = reason == Reason::HotCaller;
                    State::Away(ms + 100 + if slow { 1000 + below(2000) } else { 0 })
                }
                Decision::Redirect(_) => unreachable!("nobody asked for it"),
            };
        };
        for (n, client) in clients.iter_mut().enumerate() {
            match client.state {
                State::Open(id, until) if until <= ms => {
                    let mut post = house.posts[client.worker].borrow_mut();
                    let index = post.open.iter().position(|open| open.id == id);
                    let gone = post.open.swap_remove(index.expect("it is open"));
                    post.sentry.on_close(gone.id, gone.place);
                    let think = if client.flood { 0 } else { 2000 - stay };
                    client.state = State::Away(ms + think);
                }
                State::Away(at) if at <= ms => {
                    client.worker = (n + ms as usize / 4) % 2;
                    let name = if client.flood { "flood" } else { "steady" };
                    let decision = house.arrive(client.worker, name);
                    fate(client, StreamId(house.last), decision);
                }
                _ => {}
            }
        }
        for worker in 0..2 {
            for (id, decision) in house.tick(worker, ms % 100 < 4) {
                let waits = |client: &&mut Client| client.state == State::Waits(id);
                let client = clients.iter_mut().find(waits).expect("it waits");
                fate(client, id, decision);
            }
        }
    }
    (served, refused)
}

#[test]
fn a_flood_leaves_room_also_for_those_who_normally_have_next_to_nothing_open() {
    for (limit, stay) in [(40, 12), (40, 250), (100, 1000)] {
        for seed in 1..4 {
            let (served, refused) = flood(seed, limit, stay);
            assert!(
                served >= 220 && refused * 50 <= served,
                "{limit}, {stay} ms, {seed}: {served} served, {refused} refused"
            );
        }
    }
}

#[test]
fn a_flood_whose_first_moment_was_learned_still_leaves_a_slot_for_the_others() {
    let mut house = House::new(2, no_hold(40));
    // A quarter of a slot is normal.
    for lap in 0..48 {
        if lap % 4 == 0 {
            assert_eq!(house.arrive(lap / 4 % 2, "steady"), Decision::Admit);
        }
        house.lap();
        house.close("steady");
    }
    // All of these fit, so that lap is learned.
    for n in 0..25 {
        assert_eq!(house.arrive(n % 2, "flood"), Decision::Admit);
    }
    house.lap();
    for lap in 0..120 {
        for n in 0..60 {
            let _ = house.arrive(n % 2, "flood");
        }
        assert_eq!(house.arrive(lap % 2, "steady"), Decision::Admit, "{lap}");
        house.lap();
        house.close("steady");
        house.close("flood");
    }
}
