//! A run: what happens, one thing after another.

use std::{collections::BTreeMap, time::Duration};

use tidegate::{engine::StreamId, scenario::Random};

use super::{
    agenda::Agenda,
    clients::{Comes, Group, Role, jittered},
    guard::{Answer, Ending, Guard, Outcomes, Policy},
    record::{Numbers, Record, Wish},
    shapes::{Shape, Turn},
    upstream::Upstream,
};

/// So long after the end everything is closed.
const LAST_END: Duration = Duration::from_secs(5);
/// HTTP: when a refused client is told to come again, give or take a half.
const RETRY_AFTER: Duration = Duration::from_secs(2);
/// A connection that was lost is missed within this time.
const MISSED: Duration = Duration::from_millis(50);

/// What came of a run.
#[derive(Debug)]
pub struct Run {
    pub numbers: Numbers,
    /// How many the guard still believes to be open when all is closed.
    pub lost: usize,
}

#[derive(Clone, Copy, Debug)]
enum Event {
    /// Somebody of a group comes, by chance.
    Comes(usize),
    /// A user wants a connection again.
    Wants(usize, u32),
    /// A wish is tried.
    Tries(usize),
    /// The patience of a wish's attempt is over.
    GivesUp(usize, StreamId),
    /// An answered connection is over.
    Leaves(StreamId),
    /// The upstream changes.
    Turns(usize),
    /// A group leaves.
    Ends(usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Between two attempts, or over.
    Away,
    Waits,
    Works,
    Stays,
}

/// A wish that is pursued.
#[derive(Clone, Copy, Debug)]
struct Pursuit {
    state: State,
    stream: StreamId,
    attempts: u32,
}

struct World<'a> {
    shape: &'a Shape,
    now: Duration,
    agenda: Agenda<Event>,
    random: Random,
    upstream: Upstream,
    guard: Box<dyn Guard>,
    record: Record,
    pursuits: Vec<Pursuit>,
    /// Whose each connection is, as long as its client is there.
    owners: BTreeMap<StreamId, usize>,
    next: u32,
}

/// Plays a shape before a guard.
pub fn play(shape: &Shape, policy: Policy) -> Run {
    let mut world = World {
        shape,
        now: Duration::ZERO,
        agenda: Agenda::default(),
        random: Random::new(shape.seed),
        upstream: Upstream::new(shape.bears),
        guard: policy.guard(&shape.rule),
        record: Record::default(),
        pursuits: Vec::new(),
        owners: BTreeMap::new(),
        next: 0,
    };
    world.begin();
    world.run();
    world.record.peak = world.upstream.peak();
    Run {
        numbers: world.record.numbers(shape),
        lost: world.guard.open(),
    }
}

impl World<'_> {
    fn begin(&mut self) {
        for (index, (at, _)) in self.shape.turns.iter().enumerate() {
            self.agenda
                .put(Duration::from_secs_f64(*at), Event::Turns(index));
        }
        for (index, group) in self.shape.groups.iter().enumerate() {
            match &group.comes {
                Comes::Often { .. } => self.next_comes(index),
                Comes::Always { during, over } => {
                    for user in 0..group.users {
                        let at = during.start + self.random.unit() * over;
                        let at = Duration::from_secs_f64(at);
                        self.agenda.put(at, Event::Wants(index, user));
                    }
                    let end = Duration::from_secs_f64(during.end);
                    self.agenda.put(end, Event::Ends(index));
                }
            }
        }
    }

    fn run(&mut self) {
        let end = self.shape.ends() + LAST_END;
        loop {
            let agenda = self.agenda.next_at();
            let (upstream, guard) = (self.upstream.next_answer_at(), self.guard.wakes_at());
            let Some(next) = [agenda, upstream, guard].into_iter().flatten().min() else {
                return;
            };
            if next > end {
                return;
            }
            self.now = self.now.max(next);
            if upstream == Some(next) {
                if let Some(stream) = self.upstream.answer(self.now) {
                    self.answered(stream);
                }
            } else if agenda == Some(next) {
                if let Some(event) = self.agenda.pop() {
                    self.happens(event);
                }
            } else {
                let mut outcomes = Outcomes::new();
                self.guard.wake(self.now, &mut outcomes);
                self.carry_out(outcomes);
            }
        }
    }

    fn happens(&mut self, event: Event) {
        match event {
            Event::Comes(group) => {
                if self.is_there(group) {
                    let users = u64::from(self.shape.groups[group].users);
                    let user = self.random.below(users) as u32;
                    self.wants(group, user);
                    self.next_comes(group);
                }
            }
            Event::Wants(group, user) => {
                if self.is_there(group) {
                    self.wants(group, user);
                }
            }
            Event::Tries(wish) => self.tries(wish),
            Event::GivesUp(wish, stream) => self.gives_up(wish, stream),
            Event::Leaves(stream) => {
                if self.owners.remove(&stream).is_some() {
                    self.upstream.leave(stream, self.now);
                    self.close(stream, Ending::Closed);
                }
            }
            Event::Turns(index) => self.turns(index),
            Event::Ends(group) => self.ends(group),
        }
    }

    fn group(&self, wish: usize) -> &Group {
        &self.shape.groups[self.record.wishes[wish].group]
    }

    /// Whether anybody of a group wants anything now.
    fn is_there(&self, group: usize) -> bool {
        let end = match &self.shape.groups[group].comes {
            Comes::Often { .. } => self.shape.ends(),
            Comes::Always { during, .. } => Duration::from_secs_f64(during.end),
        };
        self.now < end.min(self.shape.ends())
    }

    fn next_comes(&mut self, group: usize) {
        let next = self.shape.groups[group].next_after(self.now, &mut self.random);
        if let Some(at) = next {
            self.agenda.put(at, Event::Comes(group));
        }
    }

    fn wants(&mut self, group: usize, user: u32) {
        self.record.wishes.push(Wish {
            group,
            user,
            began: self.now,
            ended: None,
            served: false,
        });
        self.pursuits.push(Pursuit {
            state: State::Away,
            stream: StreamId(0),
            attempts: 0,
        });
        self.tries(self.pursuits.len() - 1);
    }

    fn tries(&mut self, wish: usize) {
        let Wish { group, user, .. } = self.record.wishes[wish];
        if !self.is_there(group) {
            return;
        }
        if self.shape.trouble().contains(&self.now) {
            self.record.attempts_in_trouble += 1;
            let normal = self.shape.groups[group].role == Role::Normal;
            self.record.normal_attempts += u32::from(normal);
        }
        self.next += 1;
        let stream = StreamId(self.next);
        self.owners.insert(stream, wish);
        self.pursuits[wish] = Pursuit {
            state: State::Waits,
            stream,
            attempts: self.pursuits[wish].attempts + 1,
        };
        let patience = self.shape.groups[group].patience;
        self.agenda
            .put(self.now + patience, Event::GivesUp(wish, stream));
        let address = format!(
            "{}.{group}.{}",
            self.shape.seed,
            user / self.shape.groups[group].users_an_address
        );
        let chance = self.random.bits();
        let answer = self.guard.arrive(stream, &address, chance, self.now);
        self.is_told(stream, answer);
    }

    fn is_told(&mut self, stream: StreamId, answer: Answer) {
        let Some(&wish) = self.owners.get(&stream) else {
            if answer == Answer::Go {
                // Its client is gone, which is noticed now.
                self.close(stream, Ending::Closed);
            }
            return;
        };
        match answer {
            Answer::Wait => {}
            Answer::Refuse => {
                self.owners.remove(&stream);
                self.failed(wish, true);
            }
            Answer::Go => {
                let work = self.group(wish).work;
                let work = work.mul_f64(0.9 + 0.2 * self.random.unit());
                if self.upstream.enter(stream, work, self.now) {
                    self.pursuits[wish].state = State::Works;
                } else {
                    self.owners.remove(&stream);
                    self.close(stream, Ending::Failed);
                    self.failed(wish, false);
                }
            }
        }
    }

    /// The guard sees the end of a connection.
    fn close(&mut self, stream: StreamId, ending: Ending) {
        let mut outcomes = Outcomes::new();
        self.guard.close(stream, ending, self.now, &mut outcomes);
        self.carry_out(outcomes);
    }

    fn carry_out(&mut self, outcomes: Outcomes) {
        for (stream, answer) in outcomes {
            self.is_told(stream, answer);
        }
    }

    fn answered(&mut self, stream: StreamId) {
        self.guard.answered(stream);
        let Some(&wish) = self.owners.get(&stream) else {
            return;
        };
        self.record.wishes[wish].served = true;
        self.record.wishes[wish].ended = Some(self.now);
        self.pursuits[wish].state = State::Stays;
        let group = self.group(wish);
        let stay = group.stay;
        if matches!(group.comes, Comes::Often { .. }) {
            let stay = stay.mul_f64(-(1.0 - self.random.unit()).ln());
            self.agenda.put(self.now + stay, Event::Leaves(stream));
        }
    }

    fn gives_up(&mut self, wish: usize, stream: StreamId) {
        let pursuit = self.pursuits[wish];
        if pursuit.stream != stream || !self.owners.contains_key(&stream) {
            return;
        }
        match pursuit.state {
            State::Away | State::Stays => return,
            State::Works => {
                self.owners.remove(&stream);
                self.upstream.leave(stream, self.now);
                self.close(stream, Ending::Closed);
            }
            State::Waits => {
                self.owners.remove(&stream);
                if self.guard.sees_leaving() {
                    self.close(stream, Ending::Closed);
                }
            }
        }
        self.failed(wish, false);
    }

    /// An attempt failed; `told`: it was refused, and told when to come again.
    fn failed(&mut self, wish: usize, told: bool) {
        self.pursuits[wish].state = State::Away;
        let normal = self.group(wish).role == Role::Normal;
        let counts = normal && self.shape.trouble().contains(&self.now);
        self.record.failed_attempts += u32::from(counts);
        let attempts = self.pursuits[wish].attempts;
        let retry = self.group(wish).retry;
        if attempts >= retry.attempts {
            self.record.wishes[wish].ended = Some(self.now);
            return;
        }
        let wait = if told && retry.obeys {
            jittered(RETRY_AFTER, &mut self.random)
        } else {
            retry.wait(attempts, &mut self.random)
        };
        self.agenda.put(self.now + wait, Event::Tries(wish));
    }

    fn turns(&mut self, index: usize) {
        let gone = match self.shape.turns[index].1 {
            Turn::Health(health) => self.upstream.turn(health, self.now),
            Turn::Loses(share) => {
                let open = self.upstream.open();
                let random = &mut self.random;
                let chosen: Vec<bool> = (0..open).map(|_| random.unit() < share).collect();
                let mut chosen = chosen.into_iter();
                self.upstream.throw_out(|| chosen.next() == Some(true))
            }
        };
        for stream in gone {
            self.close(stream, Ending::Closed);
            let Some(wish) = self.owners.remove(&stream) else {
                continue;
            };
            if self.pursuits[wish].state == State::Works {
                self.failed(wish, false);
                continue;
            }
            let Wish { group, user, .. } = self.record.wishes[wish];
            if matches!(self.shape.groups[group].comes, Comes::Always { .. }) {
                let missed = MISSED.mul_f64(self.random.unit());
                self.agenda
                    .put(self.now + missed, Event::Wants(group, user));
            }
        }
    }

    /// All of a group leave.
    fn ends(&mut self, group: usize) {
        let leaving: Vec<(StreamId, usize)> = self
            .owners
            .iter()
            .map(|(stream, wish)| (*stream, *wish))
            .filter(|(_, wish)| self.record.wishes[*wish].group == group)
            .collect();
        for (stream, wish) in leaving {
            let state = self.pursuits[wish].state;
            self.owners.remove(&stream);
            if matches!(state, State::Works | State::Stays) {
                self.upstream.leave(stream, self.now);
            }
            if state != State::Waits || self.guard.sees_leaving() {
                self.close(stream, Ending::Closed);
            }
        }
    }
}
