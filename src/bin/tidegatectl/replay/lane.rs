//! One rule in virtual time.

use tidegate::{
    config::{Key, Rule},
    engine::Timestamp,
};

use super::{
    found::Found,
    guarded::{Guarded, Stream},
    plain::Plain,
    trace::Format,
    whom::Known,
};

/// One rule, replayed in the way that its trace needs.
#[expect(clippy::large_enum_variant, reason = "there is one for each rule")]
pub enum Lane {
    /// Nothing can be shed, and nobody is named.
    Plain(Plain),
    /// Everything else.
    Guarded(Guarded),
}

impl Lane {
    /// Of a rule, for a trace of that format.
    pub fn new(rule: &Rule, format: Format) -> Self {
        let counts = format.is_counts();
        let named = format.names_callers() && rule.key != Key::None;
        if counts && !named && rule.limits.arrivals_per_s.is_none() {
            Self::Plain(Plain::new(rule.name.as_str(), rule.surge))
        } else {
            Self::Guarded(Guarded::new(rule, counts, named))
        }
    }

    /// Goes on at `to`; of what was between nothing is known.
    pub fn jump(&mut self, to: Timestamp) {
        match self {
            Self::Plain(lane) => lane.jump(to),
            Self::Guarded(lane) => lane.jump(to),
        }
    }

    /// Lets `many` arrive in the lap that begins at `start`, evenly; `next` says whose the next ones are,
    /// and how many, as many as it is told at most.
    pub fn arrive<'k>(
        &mut self,
        start: Timestamp,
        many: u32,
        next: impl FnMut(u32) -> (&'k Known, u32),
    ) {
        match self {
            Self::Plain(lane) => lane.arrive(start, many),
            Self::Guarded(lane) => lane.arrive(start, many, next),
        }
    }

    /// A connection or request begins.
    pub fn begin(&mut self, at: Timestamp, stream: &Stream, known: &Known) {
        match self {
            // Its trace has counts only.
            Self::Plain(_) => {}
            Self::Guarded(lane) => lane.begin(at, stream, known),
        }
    }

    /// Ends the trace at `end`: who waits then is still served or refused.
    pub fn finish(self, end: Timestamp) -> Found {
        match self {
            Self::Plain(lane) => lane.finish(end),
            Self::Guarded(lane) => lane.finish(end),
        }
    }
}
