//! The clients: the normal ones, the surge, and an operator who goes around Envoy.

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
    time::{Instant, sleep, timeout},
};
use tokio_postgres::{Client, Config, Connection, NoTls, error::SqlState, tls::NoTlsStream};

use super::cast::ROWS;

/// How many normal clients there are.
pub const NORMAL_CLIENTS: u32 = 40;
/// What a normal client does between two connections; 40 of them begin 20 a second together.
const THINK: Duration = Duration::from_secs(2);
/// How long a client of the surge keeps a connection after its transaction.
pub const KEEP: Duration = Duration::from_millis(250);
/// How long a client of the surge waits after a refusal.
pub const RETRY: Duration = Duration::from_millis(100);
/// All clients of the surge begin within this time.
const RAMP: Duration = Duration::from_millis(500);
/// So long does a client wait for its transaction.
pub const PATIENCE: Duration = Duration::from_secs(5);
/// Where the surge comes from; everybody else comes from 127.0.0.1.
const SURGE_SOURCE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

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

/// Who made an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// A normal client.
    Normal,
    /// A client of the surge.
    Surge,
    /// The operator, directly at PostgreSQL.
    Operator,
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
    /// Who made it.
    pub who: Who,
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

/// A way to the database, and what to do there.
#[derive(Clone)]
struct Visitor {
    who: Who,
    to: SocketAddr,
    from: Ipv4Addr,
    account: Account,
    book: Book,
    keep: Duration,
    dice: Dice,
}

impl Visitor {
    /// Connects, does a transaction, keeps the connection for a while, and disconnects.
    async fn visit(&mut self) -> bool {
        let began = self.book.begin.elapsed();
        if self.who != Who::Operator {
            self.book.notes().offered += 1;
        }
        let connected = timeout(PATIENCE, connected(self.to, self.from, &self.account)).await;
        match connected {
            Ok(Ok((client, connection))) => {
                if self.who != Who::Operator {
                    self.book.notes().admitted += 1;
                }
                let left = PATIENCE.saturating_sub(self.book.begin.elapsed() - began);
                let sql = transaction(self.dice.below(ROWS) + 1);
                let work = async {
                    let result = timeout(left, client.batch_execute(&sql)).await;
                    let good = self.note(began, result.map(|done| done.map_err(Failure::from)));
                    if good {
                        sleep(self.keep).await;
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
        self.book.notes().attempts.push(Attempt {
            who: self.who,
            began,
            took: self.book.begin.elapsed() - began,
            result,
        });
        good
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

/// Starts the normal clients: each comes, does its transaction, goes, and thinks.
pub fn normal(to: SocketAddr, account: &Account, book: &Book) -> JoinSet<()> {
    let visitor = Visitor {
        who: Who::Normal,
        to,
        from: Ipv4Addr::LOCALHOST,
        account: account.clone(),
        book: book.clone(),
        keep: Duration::ZERO,
        dice: Dice(0),
    };
    spread(&visitor, NORMAL_CLIENTS, THINK, |mut visitor| async move {
        let mut next = Instant::now();
        loop {
            visitor.visit().await;
            // A fixed pace, with ±10 % so that they never march in step.
            next += THINK * (90 + visitor.dice.below(21)) / 100;
            next = next.max(Instant::now());
            tokio::time::sleep_until(next).await;
        }
    })
}

/// Starts the surge: each client keeps its connection for a while, and always wants another.
pub fn surge(
    to: SocketAddr,
    from: Ipv4Addr,
    account: &Account,
    clients: u32,
    book: &Book,
) -> JoinSet<()> {
    let visitor = Visitor {
        who: Who::Surge,
        to,
        from,
        account: account.clone(),
        book: book.clone(),
        keep: KEEP,
        dice: Dice(0),
    };
    spread(&visitor, clients, RAMP, |mut visitor| async move {
        loop {
            if !visitor.visit().await {
                sleep(RETRY).await;
            }
        }
    })
}

/// Starts the operator, who is no superuser, and connects directly to PostgreSQL once a second.
pub fn operator(to: SocketAddr, account: &Account, book: &Book) -> JoinSet<()> {
    let visitor = Visitor {
        who: Who::Operator,
        to,
        from: Ipv4Addr::LOCALHOST,
        account: account.clone(),
        book: book.clone(),
        keep: Duration::ZERO,
        dice: Dice(0),
    };
    let second = Duration::from_secs(1);
    spread(&visitor, 1, Duration::ZERO, move |mut visitor| async move {
        sleep(second / 2).await;
        loop {
            visitor.visit().await;
            sleep(second).await;
        }
    })
}

/// Starts so many clients, evenly within the time. They end when the result is dropped.
fn spread<F, L>(visitor: &Visitor, count: u32, within: Duration, live: F) -> JoinSet<()>
where
    F: Fn(Visitor) -> L + Clone + Send + 'static,
    L: Future<Output = ()> + Send,
{
    let mut all = JoinSet::new();
    for index in 0..count {
        let visitor = Visitor {
            dice: Dice(u64::from(index)),
            ..visitor.clone()
        };
        let live = live.clone();
        all.spawn(async move {
            sleep(within * index / count).await;
            live(visitor).await;
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

/// Where the surge comes from: an address of its own, where this machine has it.
pub fn surge_source() -> Option<Ipv4Addr> {
    std::net::TcpListener::bind((SURGE_SOURCE, 0))
        .is_ok()
        .then_some(SURGE_SOURCE)
}
