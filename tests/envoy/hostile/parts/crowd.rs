//! Many clients at once, hostile or decent.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    sync::watch,
    task::JoinSet,
    time::{Instant, interval, sleep, timeout},
};

use super::{
    stand::{CALLER, Door},
    vices::{Client, Step, Vice, startup},
};

/// Whether everybody stands still, so that what is open can be counted.
#[derive(Clone, Debug)]
pub struct Stage(watch::Receiver<bool>);

impl Stage {
    /// One on which nobody ever stands still.
    pub fn free() -> Self {
        Self(watch::channel(false).1)
    }

    /// One that somebody directs: nobody begins or ends anything while it is `true`.
    pub fn directed() -> (watch::Sender<bool>, Self) {
        let (director, stage) = watch::channel(false);
        (director, Self(stage))
    }

    /// Waits while everybody stands still.
    pub async fn go(&self) {
        // Without a director it goes on.
        self.0.clone().wait_for(|still| !still).await.ok();
    }
}

/// So many of a vice, some at a time; how many there were who connected.
pub async fn come(
    vice: &Vice,
    numbers: std::ops::Range<u32>,
    at_once: usize,
    to: SocketAddr,
    stage: &Stage,
) -> usize {
    let (mut open, mut came) = (JoinSet::new(), 0);
    for number in numbers {
        if open.len() >= at_once {
            came += usize::from(open.join_next().await.is_some_and(connected));
        }
        open.spawn(one(*vice, number, to, stage.clone()));
    }
    while let Some(ended) = open.join_next().await {
        came += usize::from(connected(ended));
    }
    came
}

fn connected(ended: Result<bool, tokio::task::JoinError>) -> bool {
    ended.expect("no client panics")
}

/// One hostile client; whether it could connect.
pub async fn one(vice: Vice, number: u32, to: SocketAddr, stage: Stage) -> bool {
    let mut client = Client::new(number);
    let steps = client.steps(&vice);
    stage.go().await;
    let Ok(mut stream) = connect(client.address(), to).await else {
        return false;
    };
    for step in steps {
        stage.go().await;
        // Who is refused meanwhile may find the connection closed already.
        if take(step, &mut stream).await.is_err() {
            break;
        }
    }
    stage.go().await;
    true
}

async fn take(step: Step, stream: &mut TcpStream) -> io::Result<()> {
    /// Nobody waits for longer until it can say something.
    const PATIENCE: Duration = Duration::from_secs(2);
    match step {
        Step::Say(words) => timeout(PATIENCE, stream.write_all(&words)).await??,
        Step::Dribble(words, pause) => {
            for byte in words {
                stream.write_all(&[byte]).await?;
                sleep(pause).await;
            }
        }
        Step::Stay(span) => sleep(span).await,
        Step::Read(span) => {
            let forget = async {
                let mut bytes = [0; 4096];
                while stream.read(&mut bytes).await? > 0 {}
                io::Result::Ok(())
            };
            timeout(span, forget).await.unwrap_or(Ok(()))?;
        }
        Step::HalfClose => stream.shutdown().await?,
        Step::Reset => socket2::SockRef::from(&*stream).set_linger(Some(Duration::ZERO))?,
    }
    Ok(())
}

/// Connects from an address.
pub async fn connect(from: Ipv4Addr, to: SocketAddr) -> io::Result<TcpStream> {
    /// Another port is tried when one was used for the same way just now.
    const PORTS: u32 = 20;
    for _ in 0..PORTS {
        let socket = TcpSocket::new_v4()?;
        socket.set_reuseaddr(true)?;
        socket.set_nodelay(true)?;
        socket.bind((from, 0).into())?;
        match socket.connect(to).await {
            Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => {}
            other => return other,
        }
    }
    Err(io::ErrorKind::AddrNotAvailable.into())
}

/// Clients that ask for a little, from time to time, and expect to be served.
pub struct Decent {
    stop: Arc<AtomicBool>,
    served: watch::Receiver<Served>,
    thread: Option<JoinHandle<()>>,
}

/// How often they came to each door, and were served.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Served {
    pub came: [usize; 4],
    pub served: [usize; 4],
}

impl Served {
    /// What came of those since then.
    pub fn since(self, before: Self) -> Self {
        let less = |now: [usize; 4], before: [usize; 4]| {
            let mut less = now;
            less.iter_mut()
                .zip(before)
                .for_each(|(now, old)| *now -= old);
            less
        };
        Self {
            came: less(self.came, before.came),
            served: less(self.served, before.served),
        }
    }

    /// The part that was served, in percent; none when nobody came.
    pub fn percent(&self) -> Option<f64> {
        let [came, served] = [self.came, self.served].map(|all| all.iter().sum::<usize>());
        (came > 0).then(|| 100.0 * served as f64 / came as f64)
    }
}

/// Where the decent come from.
pub const DECENT: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

impl Decent {
    /// At each of these doors one comes every `gap`.
    pub fn come(doors: [SocketAddr; 4], gap: Duration) -> Self {
        let stop = Arc::<AtomicBool>::default();
        let stopped = Arc::clone(&stop);
        let (tell, served) = watch::channel(Served::default());
        let run = move || {
            tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime")
                .block_on(visit(doors, gap, &stopped, &tell));
        };
        Self {
            stop,
            served,
            thread: Some(thread::spawn(run)),
        }
    }

    /// What came of those who have been answered, or have given up.
    pub fn so_far(&self) -> Served {
        *self.served.borrow()
    }
}

impl Drop for Decent {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let ended = self.thread.take().map(JoinHandle::join);
        assert!(thread::panicking() || ended.is_some_and(|end| end.is_ok()));
    }
}

async fn visit(
    doors: [SocketAddr; 4],
    gap: Duration,
    stop: &AtomicBool,
    tell: &watch::Sender<Served>,
) {
    let mut open = JoinSet::new();
    let mut ticks = interval(gap);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while !stop.load(Ordering::Relaxed) {
        ticks.tick().await;
        for (index, (door, to)) in Door::ALL.into_iter().zip(doors).enumerate() {
            open.spawn(async move { (index, is_served(door, to).await) });
        }
        while let Some(ended) = open.try_join_next() {
            let (index, served) = ended.expect("no client panics");
            tell.send_modify(|all| {
                all.came[index] += 1;
                all.served[index] += usize::from(served);
            });
        }
    }
    open.shutdown().await;
}

/// Whether a client is served that asks for something as one should.
pub async fn is_served(door: Door, to: SocketAddr) -> bool {
    /// Slower is not served.
    const PATIENCE: Duration = Duration::from_secs(3);
    let began = Instant::now();
    let asked = ask(door, to);
    let answer = tokio::time::timeout_at(began + PATIENCE, asked).await;
    let Ok(Ok(answer)) = answer else { return false };
    match door {
        Door::Api => answer.starts_with(b"HTTP/1.1 200"),
        Door::Service | Door::Mysql => answer == b"decent",
        // The session begins.
        Door::Postgres => answer.starts_with(b"R"),
    }
}

/// What a client is answered; it stays a little.
async fn ask(door: Door, to: SocketAddr) -> io::Result<Vec<u8>> {
    let mut stream = connect(DECENT, to).await?;
    stream.write_all(&words(door, "decent")).await?;
    let mut answer = vec![0; 1024];
    let size = stream.read(&mut answer).await?;
    answer.truncate(size);
    if door != Door::Api {
        sleep(Duration::from_millis(50)).await;
    }
    if door == Door::Postgres {
        // Farewell.
        stream.write_all(b"X\0\0\0\x04").await.ok();
    }
    Ok(answer)
}

/// What a client of that name says first.
pub fn words(door: Door, name: &str) -> Vec<u8> {
    match door {
        Door::Api => format!(
            "GET / HTTP/1.1\r\nhost: api.example\r\n{CALLER}: {name}\r\nconnection: close\r\n\r\n"
        )
        .into_bytes(),
        Door::Service | Door::Mysql => name.into(),
        Door::Postgres => startup(name.as_bytes()),
    }
}
