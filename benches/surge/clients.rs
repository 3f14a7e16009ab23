//! Those who come: steadily, greedily, or as many small users.

use std::{
    cell::{Cell, RefCell},
    io,
    net::{Ipv4Addr, SocketAddr},
    ops::Range,
    rc::Rc,
    time::{Duration, Instant},
};

use tokio::{
    net::{TcpSocket, TcpStream},
    task::{JoinSet, spawn_local},
    time::{sleep, timeout},
};

use crate::{
    harness::load::socket_at,
    record::{Group, Outcome, Record},
    talk::{Refusal, Talk},
};

/// The run: its clock and its record.
pub struct Stage {
    since: Instant,
    pub record: RefCell<Record>,
}

impl Stage {
    /// The run begins now.
    pub fn begin() -> Rc<Self> {
        Rc::new(Self {
            since: Instant::now(),
            record: RefCell::default(),
        })
    }

    /// Since the beginning.
    pub fn now(&self) -> Duration {
        self.since.elapsed()
    }
}

/// The acts of a run.
#[derive(Clone, Copy, Debug)]
pub struct Script {
    pub calm: Duration,
    pub surge: Duration,
    pub after: Duration,
}

/// So long after the last act the last attempts may still end.
const LAST_ENDS: Duration = Duration::from_secs(2);

impl Script {
    /// The calm, without the moment in which everything begins.
    pub fn calm(&self) -> Range<Duration> {
        Duration::from_secs(1)..self.calm
    }

    pub fn surge(&self) -> Range<Duration> {
        self.calm..self.calm + self.surge
    }

    pub fn after(&self) -> Range<Duration> {
        let end = self.surge().end;
        end..end + self.after
    }

    /// What a chart shows: some seconds before the surge, and all from there on.
    pub fn shown(&self) -> Range<Duration> {
        self.calm - Duration::from_secs(self.lead_s())..self.after().end
    }

    /// So many seconds before the surge are shown.
    pub fn lead_s(&self) -> u64 {
        self.calm.as_secs().min(5)
    }

    /// Lets the normal ones come, then the others besides, and then them no more.
    pub async fn play(
        &self,
        normal: impl FnOnce(&mut JoinSet<()>),
        surge: impl FnOnce(&mut JoinSet<()>),
        surge_ends: impl FnOnce(),
    ) {
        let mut steady = JoinSet::new();
        normal(&mut steady);
        sleep(self.calm).await;
        let mut more = JoinSet::new();
        surge(&mut more);
        sleep(self.surge).await;
        surge_ends();
        more.shutdown().await;
        sleep(self.after + LAST_ENDS).await;
        steady.shutdown().await;
    }
}

/// Numbers that look random and are the same in every run: xorshift64.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u32) -> Self {
        Self((u64::from(seed) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    /// From 0 to less than 1.
    pub fn part(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Somewhere in the range.
    pub fn within(&mut self, range: &Range<Duration>) -> Duration {
        range.start + (range.end - range.start).mul_f64(self.part())
    }
}

/// Somebody who wants to be served.
#[derive(Clone, Debug)]
pub struct Client {
    pub group: Group,
    pub who: u32,
    pub from: Ipv4Addr,
    pub to: SocketAddr,
    pub talk: Talk,
    /// How long it waits for the first byte of an answer.
    pub patience: Duration,
    /// How long it stays, or how much work it asks for.
    pub stay: Range<Duration>,
}

/// A stream that was answered, and how long it is to stay.
type Answered = (TcpStream, Duration);

impl Client {
    async fn reach(&self, stay: Duration) -> Result<TcpStream, Refusal> {
        let mut stream = connect(self.from, self.to).await?;
        self.talk.ask(&mut stream, stay).await?;
        Ok(stream)
    }

    /// Connects and waits for the answer, with patience.
    async fn once(
        &self,
        stage: &Stage,
        random: &mut Random,
    ) -> (Outcome, Result<Answered, Refusal>) {
        stage.record.borrow_mut().connects(stage.now());
        let stay = random.within(&self.stay);
        match timeout(self.patience, self.reach(stay)).await {
            Ok(Ok(stream)) => (Outcome::Served, Ok((stream, stay))),
            Ok(Err(refusal)) => (Outcome::Refused, Err(refusal)),
            Err(_) => (Outcome::TimedOut, Err(Refusal::default())),
        }
    }

    /// An attempt that is one connection.
    async fn attempt(&self, stage: &Stage, random: &mut Random) -> Result<Answered, Refusal> {
        let (group, who) = (self.group, self.who);
        let attempt = stage.record.borrow_mut().begin(group, who, stage.now());
        let (outcome, result) = self.once(stage, random).await;
        stage.record.borrow_mut().end(attempt, outcome, stage.now());
        result
    }

    /// Comes once in every period, a little early or late, whatever became of it before.
    pub async fn come_steadily(self, stage: Rc<Stage>, every: Duration, first: Duration) {
        let mut random = Random::new(self.who);
        let mut due = first;
        loop {
            let jitter = every.mul_f64(0.05 * random.part());
            sleep((due + jitter).saturating_sub(stage.now())).await;
            due = (due + every).max(stage.now());
            if let Ok((stream, stay)) = self.attempt(&stage, &mut random).await {
                self.talk.stay_and_leave(stream, stay).await;
            }
        }
    }

    /// Always wants a connection, and soon tries again when it is refused.
    pub async fn come_greedily(self, stage: Rc<Stage>, retry: Duration, honours: bool) {
        let mut random = Random::new(self.who);
        loop {
            match self.attempt(&stage, &mut random).await {
                Ok((stream, stay)) => self.talk.stay_and_leave(stream, stay).await,
                Err(refusal) => {
                    let asked = refusal.retry_after.filter(|_| honours);
                    sleep(asked.unwrap_or(retry)).await;
                }
            }
        }
    }

    /// Wants something at a rate that others set, whether or not the last was had by then.
    pub async fn come_often(self, stage: Rc<Stage>, per_s: Rc<Cell<f64>>) {
        let mut random = Random::new(self.who);
        loop {
            // Gaps from half to one and a half of the mean.
            sleep(Duration::from_secs_f64((0.5 + random.part()) / per_s.get())).await;
            let seed = (random.part() * f64::from(u32::MAX)) as u32;
            spawn_local(self.clone().insist(Rc::clone(&stage), Random::new(seed)));
        }
    }

    /// An attempt that is up to three connections.
    async fn insist(self, stage: Rc<Stage>, mut random: Random) {
        const TRIES: u32 = 3;
        const PAUSE: Range<Duration> = Duration::from_millis(50)..Duration::from_millis(150);
        let (group, who) = (self.group, self.who);
        let attempt = stage.record.borrow_mut().begin(group, who, stage.now());
        let mut outcome = Outcome::Refused;
        for again in (0..TRIES).rev() {
            let result;
            (outcome, result) = self.once(&stage, &mut random).await;
            if let Ok((stream, stay)) = result {
                // It has what it wanted.
                stage.record.borrow_mut().end(attempt, outcome, stage.now());
                return self.talk.stay_and_leave(stream, stay).await;
            }
            if again > 0 {
                sleep(random.within(&PAUSE)).await;
            }
        }
        stage.record.borrow_mut().end(attempt, outcome, stage.now());
    }
}

/// Connects from an address.
async fn connect(from: Ipv4Addr, to: SocketAddr) -> io::Result<TcpStream> {
    /// The next port is tried when one was used for the same way just now.
    const PORTS: u32 = 20;
    for _ in 0..PORTS {
        let socket = socket_at(from);
        socket.set_nonblocking(true)?;
        socket.set_tcp_nodelay(true)?;
        match TcpSocket::from_std_stream(socket.into()).connect(to).await {
            Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => {}
            other => return other,
        }
    }
    Err(io::ErrorKind::AddrNotAvailable.into())
}
