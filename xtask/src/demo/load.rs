//! The clients: groups of them, each with its own way to the database and its own habits.

use std::{
    fmt,
    io::ErrorKind,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use tokio::{
    net::{TcpSocket, TcpStream},
    task::JoinSet,
    time::{Instant, sleep, sleep_until, timeout},
};
use tokio_postgres::{Client, Config, Connection, NoTls, error::SqlState, tls::NoTlsStream};

use super::{cast::ROWS, view::Phase};

/// So long does a client wait for its transaction.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// Clients of one kind. Each connects, does a transaction, keeps the connection for a while, leaves,
/// and comes again.
#[derive(Clone)]
pub struct Group {
    /// When they are there.
    pub when: When,
    /// Where they connect.
    pub way: Way,
    /// Where they come from.
    pub from: Ipv4Addr,
    /// Who they are for PostgreSQL.
    pub account: Account,
    /// How many there are.
    pub clients: u32,
    /// The first comes of each are spread evenly over this time.
    pub within: Duration,
    /// From one transaction to the next, ±10 % so that they never march in step; zero: at once.
    pub every: Duration,
    /// How long a connection is kept after its transaction.
    pub keep: Duration,
    /// After a failure, they try again this much later until they succeed; none: when the next
    /// transaction is due.
    pub retry: Option<Duration>,
}

/// When clients are there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// All the time.
    Always,
    /// While the surge lasts.
    InSurge,
    /// Before the surge and after it.
    ButInSurge,
}

impl When {
    /// Whether they are there in a part of the run.
    pub fn includes(self, phase: Phase) -> bool {
        match self {
            Self::Always => true,
            Self::InSurge => phase == Phase::Surge,
            Self::ButInSurge => phase != Phase::Surge,
        }
    }
}

/// A way to the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// By a listener of Envoy's.
    Envoy(SocketAddr),
    /// Around Envoy.
    Direct(SocketAddr),
}

impl Way {
    /// Where it begins.
    const fn address(self) -> SocketAddr {
        let (Self::Envoy(address) | Self::Direct(address)) = self;
        address
    }
}

/// Who somebody is for PostgreSQL.
#[derive(Clone)]
pub struct Account(Config);

impl Account {
    /// By name and password.
    pub fn new(user: &str, password: &str) -> Self {
        let mut config = Config::new();
        config.user(user).password(password).dbname("postgres");
        Self(config)
    }
}

/// Why an attempt came to nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// There were too many connections; what the client was told.
    Refused(String),
    /// Anything else.
    Other(String),
}

impl From<tokio_postgres::Error> for Failure {
    fn from(error: tokio_postgres::Error) -> Self {
        match error.as_db_error() {
            Some(db) if *db.code() == SqlState::TOO_MANY_CONNECTIONS => {
                // As psql prints it.
                Self::Refused(format!("{}:  {}", db.severity(), db.message()))
            }
            _ => Self::Other(error.to_string()),
        }
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::Other(error.to_string())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Refused(text) | Self::Other(text)) = self;
        f.write_str(text)
    }
}

impl std::error::Error for Failure {}

/// One attempt to connect and to do a transaction.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// Which of the run's groups made it.
    pub group: usize,
    /// When it began, from the begin of the run.
    pub began: Duration,
    /// Until the transaction was done or had failed.
    pub took: Duration,
    /// What came of it.
    pub result: Result<(), Failure>,
}

/// What the clients know together.
#[derive(Default)]
pub struct Notes {
    /// Attempts through Envoy that began.
    pub offered: u64,
    /// Those that PostgreSQL let in.
    pub admitted: u64,
    /// Those that failed.
    pub failed: u64,
    /// Every attempt that has ended.
    pub attempts: Vec<Attempt>,
}

/// The notes of one run.
#[derive(Clone)]
pub struct Book {
    begin: Instant,
    notes: Arc<Mutex<Notes>>,
}

impl Book {
    /// Empty; the run begins now.
    pub fn new() -> Self {
        Self {
            begin: Instant::now(),
            notes: Arc::default(),
        }
    }

    /// The notes, for a moment.
    pub fn notes(&self) -> MutexGuard<'_, Notes> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One client.
#[derive(Clone)]
struct Visitor {
    /// The group's number.
    number: usize,
    group: Group,
    book: Book,
    dice: Dice,
}

impl Visitor {
    /// Comes again and again.
    async fn live(mut self) {
        let mut next = Instant::now();
        loop {
            while !self.visit().await {
                let Some(pause) = self.group.retry else { break };
                sleep(pause).await;
            }
            next += self.group.every * (90 + self.dice.below(21)) / 100;
            next = next.max(Instant::now());
            sleep_until(next).await;
        }
    }

    /// Connects, does a transaction, keeps the connection for a while, and disconnects.
    async fn visit(&mut self) -> bool {
        let began = self.book.begin.elapsed();
        if self.is_through_envoy() {
            self.book.notes().offered += 1;
        }
        let Group {
            way, from, account, ..
        } = &self.group;
        let connected = timeout(PATIENCE, connected(way.address(), *from, account)).await;
        match connected {
            Ok(Ok((client, connection))) => {
                if self.is_through_envoy() {
                    self.book.notes().admitted += 1;
                }
                let left = PATIENCE.saturating_sub(self.book.begin.elapsed() - began);
                let sql = transaction(self.dice.below(ROWS) + 1);
                let work = async {
                    let result = timeout(left, client.batch_execute(&sql)).await;
                    let good = self.note(began, result.map(|done| done.map_err(Failure::from)));
                    if good {
                        sleep(self.group.keep).await;
                    }
                    // Without a client the connection says goodbye and ends.
                    drop(client);
                    good
                };
                // What ends a connection early is seen by the work too.
                tokio::join!(work, connection).0
            }
            Ok(Err(failure)) => self.note(began, Ok(Err(failure))),
            Err(late) => self.note(began, Err(late)),
        }
    }

    /// Notes an attempt; whether it was a success.
    fn note(
        &self,
        began: Duration,
        result: Result<Result<(), Failure>, tokio::time::error::Elapsed>,
    ) -> bool {
        let result = result.unwrap_or_else(|_| {
            let text = format!("no answer within {} s", PATIENCE.as_secs());
            Err(Failure::Other(text))
        });
        let good = result.is_ok();
        let mut notes = self.book.notes();
        notes.failed += u64::from(!good && self.is_through_envoy());
        notes.attempts.push(Attempt {
            group: self.number,
            began,
            took: self.book.begin.elapsed() - began,
            result,
        });
        good
    }

    fn is_through_envoy(&self) -> bool {
        matches!(self.group.way, Way::Envoy(_))
    }
}

/// A small read and a small write, as pgbench does them.
fn transaction(row: u32) -> String {
    format!(
        "BEGIN; SELECT balance FROM account WHERE id = {row}; \
         UPDATE account SET balance = balance + 1 WHERE id = {row}; COMMIT"
    )
}

/// A new connection from an address of this machine.
async fn connected(
    to: SocketAddr,
    from: Ipv4Addr,
    account: &Account,
) -> Result<(Client, Connection<TcpStream, NoTlsStream>), Failure> {
    let socket = TcpSocket::new_v4()?;
    if from != Ipv4Addr::LOCALHOST {
        bind(&socket, from)?;
    }
    let stream = socket.connect(to).await?;
    stream.set_nodelay(true)?;
    Ok(account.0.connect_raw(stream, NoTls).await?)
}

/// Gives a socket an address of its own, and the next port of all.
///
/// The system would look for a port that nobody used in the last minute. After some thousand
/// attempts it looks for long, and what is measured is the search.
fn bind(socket: &TcpSocket, from: Ipv4Addr) -> std::io::Result<()> {
    const PORTS: u32 = 45_000;
    static NEXT: AtomicU32 = AtomicU32::new(0);
    socket.set_reuseaddr(true)?;
    for _ in 0..PORTS {
        let port = 20_000 + NEXT.fetch_add(1, Ordering::Relaxed) % PORTS;
        match socket.bind((from, port as u16).into()) {
            Err(error) if error.kind() == ErrorKind::AddrInUse => {}
            result => return result,
        }
    }
    Err(ErrorKind::AddrInUse.into())
}

/// A connection that stays open.
pub async fn session(to: SocketAddr, account: &Account) -> Result<Client, Failure> {
    let (client, connection) = connected(to, Ipv4Addr::LOCALHOST, account).await?;
    tokio::spawn(connection);
    Ok(client)
}

/// Starts the clients of a group, evenly within its time. They end when the result is dropped.
pub fn start(number: usize, group: &Group, book: &Book) -> JoinSet<()> {
    let mut all = JoinSet::new();
    for index in 0..group.clients {
        let visitor = Visitor {
            number,
            group: group.clone(),
            book: book.clone(),
            // The same in every run; groups differ.
            dice: Dice((number as u64) << 32 | u64::from(index)),
        };
        // In the middle of its part of the time.
        let after = group.within * (2 * index + 1) / (2 * group.clients);
        all.spawn(async move {
            sleep(after).await;
            visitor.live().await;
        });
    }
    all
}

/// Numbers that look random and are the same in every run (SplitMix64).
#[derive(Clone)]
struct Dice(u64);

impl Dice {
    /// A number below `end`.
    fn below(&mut self, end: u32) -> u32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % u64::from(end.max(1))) as u32
    }
}

/// Whether this machine has an address.
pub fn has_address(address: Ipv4Addr) -> bool {
    std::net::TcpListener::bind((address, 0)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_software_change_takes_the_place_of_what_was_there() {
        let there =
            |when: When| [Phase::Calm, Phase::Surge, Phase::After].map(|p| when.includes(p));
        assert_eq!(there(When::Always), [true; 3]);
        assert_eq!(there(When::InSurge), [false, true, false]);
        assert_eq!(there(When::ButInSurge), [true, false, true]);
    }
}
