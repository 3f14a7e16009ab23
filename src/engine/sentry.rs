//! One rule in one worker: the gate, what the detector says, and who comes.

use alloc::vec::Vec;
use core::{num::NonZeroU32, time::Duration};

use super::{
    callers::{CallerId, Callers, keyed_hash},
    decision::{Arrival, Class, Counted, Decision, Fault, Outcome, Place, Reason, Terms},
    distress::{Answers, Patience},
    gate::Gate,
    hot::Cut,
    majority::Majority,
    record::{Change, Records, Shared, WorkerId},
    sampler::Sampler,
    share::serves,
    surge::Phase,
    tally::Tally,
    tide::{Lookout, Report, Standing, TideRecord},
    time::Timestamp,
    waiting::StreamId,
};

/// So many workers have a place for their table of callers.
const PLACES: u32 = 64;
/// A table that was put there longer ago than this is of a worker that died, or that sees no surge.
const FRESH: Duration = Duration::from_secs(1);

/// What must be known of the next arrival.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Its caller, and for how many arrivals it then stands; 0: nobody asks.
    pub caller: u8,
    /// Its user.
    pub user: bool,
}

/// Who comes, as far as it was [wanted](Sentry::wants).
#[derive(Clone, Copy, Debug, Default)]
pub struct Who<'a> {
    /// Its caller's key, and for how many arrivals it stands.
    pub caller: Option<(&'a [u8], u8)>,
    /// Where its caller is [known later](Sentry::on_introduced): whose slot it takes meanwhile, and
    /// for how many arrivals that stands.
    pub instead: Option<(&'a [u8], u8)>,
    /// Its user's key.
    pub user: Option<&'a [u8]>,
    /// Its class.
    pub class: Class,
}

/// What is let through of a hot caller here.
#[derive(Clone, Copy, Debug)]
struct CutHere {
    cut: Cut,
    /// Collects the parts of arrivals until one is whole.
    credit: f32,
    /// The user that makes most of it.
    most: Majority,
}

/// Whether one of a hot caller is let through, and counts as one of its share.
struct Served {
    passes: bool,
    counts: bool,
}

/// The user that makes most of a hot caller keeps this part of its arrivals, and this one when all
/// the others are served.
const OF_MOST: f32 = 0.01;
const OF_MOST_ALONE: f32 = 0.05;

/// One rule in one worker.
///
/// An arrival is counted, then shed if there is a surge that this worker has been told to shed for,
/// and then brought before the [gate](Gate). Every 100 ms the worker [tells](Self::tell) what it
/// saw and learns how things stand.
///
/// In a surge hot callers come first: of each, only a part goes on that makes up its normal rate
/// and half as much again. Where its users can be told apart, one that makes more than half of it keeps
/// a hundredth, and of the others it is always the same ones that are served; otherwise it is every
/// so-manieth arrival. When it is everybody, a stable share of the users is served.
/// Arrivals of a class that has reserved slots, or priority 0, are never shed for a surge. One whose
/// caller is known only after it was let through is cut then.
///
/// Cost of a calm arrival: the gate's, an increment and a comparison, and the look-up of a caller
/// that was looked at.
#[derive(Debug)]
pub struct Sentry {
    me: WorkerId,
    seed: [u64; 2],
    gate: Gate,
    lookout: Lookout,
    callers: Callers,
    cuts: Vec<CutHere>,
    share: f32,
    share_credit: f32,
    limit: u32,
    adaptive: bool,
    /// Which arrivals are looked at while all is calm.
    sampler: Sampler,
}

impl Sentry {
    /// Of worker `me`. `seed` is what all workers hash callers and users with.
    pub fn new(me: WorkerId, seed: [u64; 2], now: Timestamp) -> Self {
        Self {
            me,
            seed,
            gate: Gate::new(me, now),
            lookout: Lookout::default(),
            callers: Callers::new(seed),
            cuts: Vec::new(),
            share: 1.0,
            share_credit: 0.0,
            limit: 0,
            adaptive: false,
            sampler: Sampler::default(),
        }
    }

    /// As [`Gate::set_alone`].
    pub fn set_alone(&mut self) {
        self.gate.set_alone();
    }

    /// The gate.
    pub fn gate(&self) -> &Gate {
        &self.gate
    }

    /// What the arrivals were like when this worker looked last.
    pub fn phase(&self) -> Phase {
        self.lookout.phase()
    }

    /// From when on the upstream is slow or silent, as of when this worker looked last.
    pub fn patience(&self) -> Patience {
        self.lookout.patience()
    }

    /// What must be known of the next arrival.
    ///
    /// While all is calm, not of each the caller is looked at, for that costs something where many
    /// come: one that is stands for others. Once it matters who comes, each is looked at.
    #[inline]
    pub fn wants(&mut self) -> Wanted {
        let user = !self.cuts.is_empty() || self.share < 1.0;
        let busy = matches!(self.phase(), Phase::Watch | Phase::Surge);
        let caller = if user || busy || self.gate.is_tight() {
            1
        } else {
            self.sampler.weight()
        };
        Wanted { caller, user }
    }

    /// Decides about an arrival. What a surge that it makes by itself is to be told is in `news`.
    pub fn on_arrival(
        &mut self,
        id: StreamId,
        terms: &Terms,
        who: Who<'_>,
        now: Timestamp,
        records: &mut impl Records,
    ) -> (Decision, Place, Option<Result<Report, Fault>>) {
        let seen = who.caller.map(|(key, weight)| {
            let counted = self.counted(key, weight);
            let id = self
                .callers
                .arrive_as(counted.caller, key, u32::from(weight));
            (id, counted)
        });
        let news = self
            .lookout
            .on_arrival()
            .then(|| self.lookout.hurry(now, records));
        if let Some(Ok(report)) = &news {
            self.take(report);
        }
        let arrival = Arrival {
            id,
            terms,
            class: who.class,
            counted: seen
                .map(|(_, counted)| counted)
                .or_else(|| who.instead.map(|(key, weight)| self.counted(key, weight))),
        };
        let (decision, place) = match self.sheds(&arrival, seen, who.user) {
            Some(reason) => self.gate.refuse(&arrival, reason, now),
            None => self.gate.on_arrival(&arrival, now, records),
        };
        (decision, place, news)
    }

    /// So many more arrivals are a surge by themselves.
    pub fn left(&self) -> u32 {
        self.lookout.left()
    }

    /// Counts arrivals of one caller that go on whatever is asked: there is room for them, and nobody
    /// is shed. Unlike [those that are decided](Self::on_arrival) they are in no tally. For a replay,
    /// where most are like that.
    pub fn pass(
        &mut self,
        caller: Option<&[u8]>,
        many: u32,
        now: Timestamp,
        records: &mut impl Records,
    ) -> Option<Result<Report, Fault>> {
        if let Some(key) = caller {
            self.callers.arrive_for(key, many);
        }
        let news = self
            .lookout
            .on_arrivals(many)
            .then(|| self.lookout.hurry(now, records));
        if let Some(Ok(report)) = &news {
            self.take(report);
        }
        news
    }

    /// Why an arrival is shed for a surge, if it is.
    #[inline]
    fn sheds(
        &mut self,
        arrival: &Arrival<'_>,
        seen: Option<(CallerId, Counted)>,
        user: Option<&[u8]>,
    ) -> Option<Reason> {
        if self.cuts.is_empty() && self.share >= 1.0 {
            return None;
        }
        self.sheds_in_surge(arrival, seen, user)
    }

    fn sheds_in_surge(
        &mut self,
        arrival: &Arrival<'_>,
        seen: Option<(CallerId, Counted)>,
        user: Option<&[u8]>,
    ) -> Option<Reason> {
        let caller = seen.map(|(_, counted)| counted.caller);
        let user = user.map(|user| keyed_hash(self.seed, user)).or(caller);
        let class = arrival.class;
        let spared = is_spared(class, arrival.terms);
        let cut = caller
            .filter(|_| !spared)
            .and_then(|caller| self.is_cut(caller, user));
        let (reason, counts) = match cut {
            _ if spared => (None, true),
            Some(Served { passes, counts }) => ((!passes).then_some(Reason::HotCaller), counts),
            None => {
                let served = match user {
                    Some(user) => serves(self.share, class.priority, user),
                    None => one_in(&mut self.share_credit, self.share),
                };
                ((!served).then_some(Reason::SurgePressure), true)
            }
        };
        if let (None, Some((id, counted)), true) = (reason, seen, counts) {
            self.callers.passed(id, u32::from(counted.weight));
        }
        reason
    }

    /// What is let through of a caller that is cut, if it is; by its user, where that is known.
    fn is_cut(&mut self, caller: u64, user: Option<u64>) -> Option<Served> {
        let here = self
            .cuts
            .iter_mut()
            .find(|here| here.cut.caller == caller)?;
        let mut counts = true;
        let passes = match user {
            Some(user) if user != caller => {
                if here.most.arrive(user) {
                    // The share is for the others alone.
                    counts = false;
                    let alone = here.cut.share >= 1.0;
                    let part = if alone { OF_MOST_ALONE } else { OF_MOST };
                    one_in(&mut here.credit, part)
                } else {
                    serves(here.cut.share, 1, user)
                }
            }
            _ => one_in(&mut here.credit, here.cut.share),
        };
        Some(Served { passes, counts })
    }

    #[inline]
    fn counted(&self, key: &[u8], weight: u8) -> Counted {
        Counted {
            caller: keyed_hash(self.seed, key),
            weight,
        }
    }

    /// The caller of a stream is known when it has ended already.
    pub fn on_known_late(&mut self, caller: &[u8]) {
        self.callers.arrive(caller);
    }

    /// The caller of a stream that was let through became known from what it sent or showed: whether
    /// it is turned out after all, since that caller is hot. Its slot is free when it
    /// [ends](Self::on_close). `user` is asked only if it matters.
    pub fn on_introduced(
        &mut self,
        caller: &[u8],
        user: impl FnOnce() -> Option<Vec<u8>>,
        class: Class,
        terms: &Terms,
    ) -> bool {
        let id = self.callers.arrive(caller);
        if self.cuts.is_empty() {
            return false;
        }
        let spared = is_spared(class, terms);
        let user = user().map(|user| keyed_hash(self.seed, &user));
        let caller = keyed_hash(self.seed, caller);
        let cut = (!spared).then(|| self.is_cut(caller, user)).flatten();
        let Served { passes, counts } = cut.unwrap_or(Served {
            passes: true,
            counts: true,
        });
        if passes && counts {
            self.callers.passed(id, 1);
        }
        if !passes {
            self.gate.turn_out(terms.shadow, Reason::HotCaller);
        }
        !passes
    }

    /// The upstream answered a stream that was connecting.
    pub fn on_answered(&mut self, place: &mut Place) {
        self.gate.on_answered(place);
    }

    /// Counts how the upstream took something.
    pub fn on_answers(&mut self, answers: Answers) {
        self.lookout.on_answers(answers);
    }

    /// A stream ended, wherever it stood.
    #[inline]
    pub fn on_close(&mut self, id: StreamId, place: Place) {
        self.gate.on_close(id, place);
    }

    /// As [`Gate::give_back`].
    pub fn give_back(&mut self, now: Timestamp, records: &mut impl Records) {
        self.gate.give_back(now, records);
    }

    /// Serves those that wait, and refuses those that waited too long; as often as is needed.
    pub fn serve(&mut self, now: Timestamp, records: &mut impl Records, out: &mut Vec<Outcome>) {
        self.gate.on_tick(now, records, out);
    }

    /// Takes what the newest configuration says.
    pub fn configure(&mut self, limit: u32, adaptive: bool) {
        self.limit = limit;
        self.adaptive = adaptive;
        self.gate.set_limit(NonZeroU32::new(limit));
    }

    /// Tells the others what was seen, and learns how things stand; every 100 ms. What happened here
    /// is returned, and what the operator is to be told.
    pub fn tell(
        &mut self,
        now: Timestamp,
        records: &mut impl Records,
    ) -> (Tally, Result<Option<Report>, Fault>) {
        self.sampler.lap();
        let tally = self.gate.take_tally();
        self.lookout.on_tally(&tally);
        let seen = self.gate.seen();
        let standing = Standing {
            open: seen.open + seen.ghosts,
            waiting: seen.waiting + seen.short,
            limit: self.limit,
            adaptive: self.adaptive,
        };
        let report = self.lookout.on_tick(now, standing, records);
        self.callers.tick(now, self.phase() != Phase::Surge);
        if matches!(self.phase(), Phase::Watch | Phase::Surge) || !self.cuts.is_empty() {
            let mut bytes = now.as_nanos().to_le_bytes().to_vec();
            self.callers.encode(&mut bytes);
            records.put_callers(place(self.me), &bytes);
        }
        if let Ok(Some(report)) = &report {
            self.take(report);
            if report.look_for_hot {
                // Who is cut and still hot stays so, also while there is room because of it.
                let cuts = self.phase() == Phase::Surge && !self.cuts.is_empty();
                self.look_for_hot(report.may_shed || cuts, now, records);
            }
        }
        (tally, report)
    }

    /// Finds out who is hot, for all workers. What it finds is in force when each has ticked.
    fn look_for_hot(&mut self, sheds: bool, now: Timestamp, records: &mut impl Records) {
        let hot = if sheds {
            self.everyone(now, records).hot()
        } else {
            Vec::new()
        };
        // When it fails, the next one is asked in a moment.
        let _ = Shared::<TideRecord>::update(records, |tide| {
            tide.cut(&hot);
            Change::Write(())
        });
    }

    /// Does as a report says.
    fn take(&mut self, report: &Report) {
        self.share = report.share;
        self.gate
            .set_regime(report.phase == Phase::Surge, report.limit_part);
        if report.cuts.is_empty() {
            self.cuts.clear();
            return;
        }
        let known = |caller: u64| {
            let known = self.cuts.iter().find(|here| here.cut.caller == caller);
            known.map_or_else(Default::default, |here| (here.credit, here.most))
        };
        self.cuts = report
            .cuts
            .iter()
            .map(|cut| {
                let (credit, mut most) = known(cut.caller);
                most.lap();
                CutHere {
                    cut: *cut,
                    credit,
                    most,
                }
            })
            .collect();
    }

    /// The callers that all workers saw, as far as they have told.
    pub fn everyone(&self, now: Timestamp, records: &mut impl Records) -> Callers {
        let mut all = self.callers.clone();
        for other in (0..PLACES).filter(|other| *other != place(self.me)) {
            let Some(bytes) = records.callers(other) else {
                continue;
            };
            let Some((at, table)) = bytes.split_first_chunk() else {
                continue;
            };
            let at = Timestamp::from_nanos(u64::from_le_bytes(*at));
            let fresh = now.since(at) <= FRESH && at.since(now) <= FRESH;
            if let Ok(table) = Callers::decode(table)
                && fresh
            {
                // One of another seed is of another time.
                let _ = all.merge(&table);
            }
        }
        all
    }

    /// Whether nothing is going on here, nor anywhere as far as is known.
    pub fn is_idle(&self) -> bool {
        self.gate.is_idle()
            && self.gate.seen().is_idle()
            && matches!(self.phase(), Phase::Calm | Phase::WarmUp)
            && self.cuts.is_empty()
            && self.share >= 1.0
    }
}

/// Whether one is never shed for a surge.
fn is_spared(class: Class, terms: &Terms) -> bool {
    let reserved = terms.reserved.get(usize::from(class.index));
    class.priority == 0 || reserved.is_some_and(|&slots| slots > 0)
}

/// Where a worker puts its table.
fn place(worker: WorkerId) -> u32 {
    worker.0.get() % PLACES
}

/// Whether this is the one of so many, when `share` of them are let through, evenly.
fn one_in(credit: &mut f32, share: f32) -> bool {
    *credit += share;
    let whole = *credit >= 1.0;
    if whole {
        *credit -= 1.0;
    }
    whole
}
