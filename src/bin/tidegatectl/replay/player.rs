//! From rows to the rules that they fall under, in the order of time.

use std::{
    borrow::Cow,
    cmp::Reverse,
    collections::{BTreeSet, BinaryHeap},
    time::Duration,
};

use tidegate::{
    config::{Policy, Rule},
    engine::{Mode, Timestamp},
    scenario::{Random, spread},
};

use super::{
    draw::{Counted, Draw},
    facts::{Facts, address},
    found::{Findings, Found},
    guarded::Stream,
    lane::Lane,
    trace::{Format, Row},
    whom::Known,
};

/// The arrivals of coarse rows are spread with this seed.
const SEED: u64 = 0x7469_6465;
/// Rows of one time with a key of their own; what is beyond is counted for nobody.
const MOST_KEYS: usize = 100_000;
/// Streams that wait to be put in order, and for how long.
const MOST_SORTED: usize = 1 << 17;
const SORTED: Duration = Duration::from_secs(300);
/// A row that comes this long after the one before tells of a hole, when others come far closer.
const HOLE_S: f64 = 3600.0;
const DAY_S: f64 = 86_400.0;

/// Why a row can't be used.
pub const LATE: &str = "out of order: it is earlier than what was replayed already";

/// A stream whose turn has not come.
struct Queued {
    at: Timestamp,
    number: u64,
    lane: usize,
    known: Known,
    stream: Stream,
}

impl PartialEq for Queued {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Queued {}

impl PartialOrd for Queued {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Queued {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

/// Arrivals of nobody, and of callers.
type Crowd = (u64, Vec<Counted>);

/// The counts of one time.
#[derive(Default)]
struct Group {
    t: f64,
    /// By rule.
    rules: Vec<Crowd>,
    keys: usize,
}

/// What a user should know of how the trace was taken.
#[derive(Debug, Default)]
pub struct Remarks {
    /// Conditions of rules that the trace can't answer.
    pub lacking: BTreeSet<(usize, &'static str)>,
    /// Arrivals that no rule matched.
    pub unmatched: u64,
    /// Rows of the only rule, which it could not answer for.
    pub assumed: u64,
    /// Stretches without rows that were left out.
    pub holes: u64,
    /// Rows that were put in order.
    pub sorted: u64,
    /// Rules that decided arrivals in bundles.
    pub bundled: Vec<usize>,
    /// Rows that could be used.
    pub used: u64,
}

/// Replays rows.
pub struct Player<'p> {
    rules: &'p [Rule],
    lanes: Vec<Lane>,
    format: Format,
    random: Random,
    group: Option<Group>,
    /// The time of the group before, and what it spans.
    before: Option<f64>,
    span: Option<f64>,
    queue: BinaryHeap<Reverse<Queued>>,
    released: Timestamp,
    newest: Timestamp,
    end: Timestamp,
    number: u64,
    laps: Vec<u32>,
    pub remarks: Remarks,
}

impl<'p> Player<'p> {
    /// Of a trace.
    pub fn new(policy: &'p Policy, format: Format) -> Self {
        let rules = policy.rules();
        Self {
            rules,
            lanes: rules.iter().map(|rule| Lane::new(rule, format)).collect(),
            format,
            random: Random::new(SEED),
            group: None,
            before: None,
            span: None,
            queue: BinaryHeap::new(),
            released: Timestamp::ZERO,
            newest: Timestamp::ZERO,
            end: Timestamp::ZERO,
            number: 0,
            laps: Vec::new(),
            remarks: Remarks::default(),
        }
    }

    /// The rule of a row; none when there is none.
    fn rule(&mut self, facts: &Facts<'_>, many: u64) -> Option<usize> {
        let remarks = &mut self.remarks;
        let mut lacks = false;
        let chosen = facts.choose(self.rules, |rule, fact| {
            lacks = true;
            remarks.lacking.insert((rule, fact));
        });
        match chosen {
            Some(_) if lacks && self.rules.len() == 1 => remarks.assumed += many,
            None => remarks.unmatched += many,
            _ => {}
        }
        chosen
    }

    /// Takes a row.
    ///
    /// # Errors
    /// Why it can't be used.
    pub fn take(&mut self, row: Row<'_>) -> Result<(), Cow<'static, str>> {
        match row {
            Row::Count { t, key, count } => self.count(t, key.as_deref(), count)?,
            Row::Stream {
                at,
                lasts,
                key,
                facts,
                http,
                answers,
            } => {
                if at < self.released {
                    return Err(LATE.into());
                }
                if self.queue.peek().is_some() && at < self.newest && !self.format.is_by_end() {
                    self.remarks.sorted += 1;
                }
                let stream = Stream {
                    lasts,
                    http,
                    answers,
                };
                self.end = self.end.max(at);
                let seen = if self.format.is_by_end() {
                    at.after(lasts)
                } else {
                    at
                };
                self.newest = self.newest.max(seen);
                if let Some(lane) = self.rule(&facts, 1) {
                    let known = known(self.rules.get(lane), key.as_deref(), &facts);
                    self.number += 1;
                    self.queue.push(Reverse(Queued {
                        at,
                        number: self.number,
                        lane,
                        known,
                        stream,
                    }));
                }
                self.release(false);
            }
        }
        self.remarks.used += 1;
        Ok(())
    }

    /// Lets those begin whose turn has come.
    fn release(&mut self, all: bool) {
        while let Some(Reverse(next)) = self.queue.peek() {
            let due = self.newest.since(next.at) >= SORTED;
            if !(all || due || self.queue.len() > MOST_SORTED) {
                return;
            }
            let Some(Reverse(next)) = self.queue.pop() else {
                return;
            };
            self.released = next.at;
            if self.is_off(next.lane) {
                continue;
            }
            if let Some(lane) = self.lanes.get_mut(next.lane) {
                lane.begin(next.at, &next.stream, &next.known);
            }
        }
    }

    fn is_off(&self, rule: usize) -> bool {
        self.rules
            .get(rule)
            .is_none_or(|rule| rule.mode == Mode::Off)
    }

    fn count(&mut self, t: f64, key: Option<&str>, count: u64) -> Result<(), Cow<'static, str>> {
        let last = self.group.as_ref().map(|group| group.t).or(self.before);
        if last.is_some_and(|last| t < last) {
            return Err("out of order: its `t` is earlier than that of the row before".into());
        }
        if key.is_none() && last == Some(t) {
            return Err("its `t` is that of the row before".into());
        }
        let facts = Facts {
            source: key.and_then(address),
            ..Facts::default()
        };
        let rule = self.rule(&facts, count);
        if self.group.as_ref().is_some_and(|group| group.t < t) {
            self.flush(Some(t));
        }
        let group = self.group.get_or_insert_with(|| Group {
            t,
            rules: vec![Default::default(); self.rules.len()],
            keys: 0,
        });
        if let Some((nobodys, callers)) = rule.and_then(|rule| group.rules.get_mut(rule)) {
            if key.is_some() && group.keys < MOST_KEYS {
                let rule = rule.and_then(|rule| self.rules.get(rule));
                group.keys += 1;
                callers.push((known(rule, key, &facts), count));
            } else {
                *nobodys += count;
            }
        }
        Ok(())
    }

    /// Replays the group of counts whose rows are all here; `next`: when the next one is.
    fn flush(&mut self, next: Option<f64>) {
        let Some(group) = self.group.take() else {
            return;
        };
        let usual = self.span;
        let passed = match self.before {
            Some(before) => group.t - before,
            // What the first row spans is not known; as much as the second.
            None => next.map_or(1.0, |next| (next - group.t).min(DAY_S)),
        };
        let hole = passed > DAY_S || usual.is_some_and(|usual| passed > HOLE_S.max(10.0 * usual));
        let span = if hole { usual.unwrap_or(DAY_S) } else { passed };
        if !hole {
            self.span = Some(span);
        }
        self.remarks.holes += u64::from(hole);
        self.before = Some(group.t);
        // Laps are counted from the epoch; what is finer than a lap is all of one lap's.
        let to = (group.t * 10.0).round() as u64;
        let from = (((group.t - span).max(0.0) * 10.0).round() as u64).min(to.saturating_sub(1));
        let lap = |lap: u64| Timestamp::from_millis(lap.saturating_mul(100));
        self.end = self.end.max(lap(to));
        let mut laps = std::mem::take(&mut self.laps);
        laps.resize(usize::try_from(to - from).unwrap_or(0), 0);
        for (rule, (nobodys, callers)) in group.rules.iter().enumerate() {
            let all = nobodys + callers.iter().map(|(_, count)| count).sum::<u64>();
            let off = self.is_off(rule);
            let Some(lane) = self.lanes.get_mut(rule).filter(|_| !off) else {
                continue;
            };
            if hole {
                lane.jump(lap(from));
            }
            if all == 0 {
                continue;
            }
            spread(&mut self.random, all, &mut laps);
            let nobody = known(self.rules.get(rule), None, &Facts::default());
            let mut draw = Draw::new(*nobodys, callers);
            for (at, &many) in (from..to).zip(&laps) {
                if many > 0 {
                    let random = &mut self.random;
                    lane.arrive(lap(at), many, |most| {
                        let (known, taken) = draw.next(random, most);
                        (known.unwrap_or(&nobody), taken)
                    });
                }
            }
        }
        self.laps = laps;
    }

    /// Ends the trace.
    pub fn finish(mut self) -> (Findings, Remarks) {
        self.flush(None);
        self.release(true);
        let end = self.end;
        let rules: Vec<Found> = self
            .lanes
            .into_iter()
            .map(|lane| lane.finish(end))
            .collect();
        let bundled = rules.iter().zip(0..).filter(|(rule, _)| rule.bundled);
        self.remarks.bundled = bundled.map(|(_, index)| index).collect();
        (Findings { rules }, self.remarks)
    }
}

/// What is known of an arrival by its rule.
fn known(rule: Option<&Rule>, key: Option<&str>, facts: &Facts<'_>) -> Known {
    rule.map_or_else(Known::default, |rule| Known::of(rule, key, facts))
}
