//! What stands between the clients and the upstream.

use std::{collections::VecDeque, time::Duration};

use tidegate::engine::StreamId;

use super::{shapes::Rule, tidegate::House};

/// A kind of guard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// Everybody passes.
    None,
    /// As many as the limit, the others wait for up to 2 s, the oldest is served first.
    Fifo,
    /// Ours, with so many workers.
    Tidegate(u32),
}

/// What becomes of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It goes to the upstream.
    Go,
    /// It is told later.
    Wait,
    /// It is refused.
    Refuse,
}

/// How a connection ended that had gone to the upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The upstream did not accept it.
    Failed,
    /// It was accepted; whether it was answered, the guard knows.
    Closed,
}

/// What became of those that waited.
pub type Outcomes = Vec<(StreamId, Answer)>;

/// A guard.
pub trait Guard {
    /// Somebody comes from an address; `chance` is any number.
    fn arrive(&mut self, stream: StreamId, address: &str, chance: u64, now: Duration) -> Answer;
    /// The upstream answered.
    fn answered(&mut self, _stream: StreamId) {}
    /// A connection ended, or one that waited left and was seen to.
    fn close(&mut self, stream: StreamId, ending: Ending, now: Duration, out: &mut Outcomes);
    /// Whether it sees that one leaves that waits.
    fn sees_leaving(&self) -> bool {
        true
    }
    /// When it has something to do by itself.
    fn wakes_at(&self) -> Option<Duration> {
        None
    }
    /// Does it.
    fn wake(&mut self, _now: Duration, _out: &mut Outcomes) {}
    /// How many it believes to be open, if it counts.
    fn open(&self) -> usize {
        0
    }
}

impl Policy {
    /// One of this kind.
    pub fn guard(self, rule: &Rule) -> Box<dyn Guard> {
        match self {
            Self::None => Box::new(Open),
            Self::Fifo => Box::new(Fifo {
                limit: rule.limit as usize,
                open: 0,
                queue: VecDeque::new(),
            }),
            Self::Tidegate(workers) => Box::new(House::new(workers, rule)),
        }
    }
}

struct Open;

impl Guard for Open {
    fn arrive(&mut self, _: StreamId, _: &str, _: u64, _: Duration) -> Answer {
        Answer::Go
    }

    fn close(&mut self, _: StreamId, _: Ending, _: Duration, _: &mut Outcomes) {}
}

/// A cap and a queue, as proxies have them.
struct Fifo {
    limit: usize,
    open: usize,
    queue: VecDeque<(Duration, StreamId)>,
}

impl Fifo {
    const MAX_WAIT: Duration = Duration::from_secs(2);
}

impl Guard for Fifo {
    fn arrive(&mut self, stream: StreamId, _: &str, _: u64, now: Duration) -> Answer {
        if self.open < self.limit {
            self.open += 1;
            return Answer::Go;
        }
        self.queue.push_back((now + Self::MAX_WAIT, stream));
        Answer::Wait
    }

    fn close(&mut self, stream: StreamId, _: Ending, _: Duration, out: &mut Outcomes) {
        if let Some(place) = self.queue.iter().position(|(_, other)| *other == stream) {
            self.queue.remove(place);
        } else if let Some((_, next)) = self.queue.pop_front() {
            out.push((next, Answer::Go));
        } else {
            self.open -= 1;
        }
    }

    fn wakes_at(&self) -> Option<Duration> {
        self.queue.front().map(|(until, _)| *until)
    }

    fn wake(&mut self, now: Duration, out: &mut Outcomes) {
        while let Some((_, stream)) = self.queue.pop_front_if(|(until, _)| *until <= now) {
            out.push((stream, Answer::Refuse));
        }
    }

    fn open(&self) -> usize {
        self.open
    }
}
