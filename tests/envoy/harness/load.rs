//! Clients that come at a rate, from an address.

use std::{
    collections::VecDeque,
    io::Write,
    net::{Ipv4Addr, SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU16, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use socket2::{Domain, Socket, Type};

/// How regular they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// Gaps from half to one and a half of the mean.
    Even,
    /// Independent of each other: a Poisson process.
    Random,
}

/// Who comes.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    pub to: SocketAddr,
    pub from: Ipv4Addr,
    pub per_s: f64,
    pub pace: Pace,
    /// What each says first.
    pub words: &'static [u8],
    /// How long each stays; it does not read.
    pub stay: Duration,
}

impl Load {
    /// One that stays for 50 ms.
    pub fn new(to: SocketAddr, per_s: f64) -> Self {
        Self {
            to,
            from: Ipv4Addr::LOCALHOST,
            per_s,
            pace: Pace::Even,
            words: b"knock",
            stay: Duration::from_millis(50),
        }
    }

    /// Begins.
    pub fn start(self) -> Running {
        let (stop, keep) = (Arc::<AtomicBool>::default(), Arc::<AtomicBool>::default());
        let (stopped, keeps) = (Arc::clone(&stop), Arc::clone(&keep));
        let thread = thread::spawn(move || self.run(&stopped, &keeps));
        Running {
            stop,
            keep,
            thread: Some(thread),
        }
    }

    fn run(self, stop: &AtomicBool, keep: &AtomicBool) -> Sent {
        let mut sent = Sent {
            first_ms: now_ms(),
            count: 0,
        };
        let mut open = VecDeque::new();
        let mut due = Instant::now();
        let mut random = u64::from(self.to.port()) << 32 | 0x9e37_79b9;
        while !stop.load(Ordering::Relaxed) {
            let mut stream = connect_from(self.from, self.to);
            let _ = stream.write_all(self.words);
            open.push_back((Instant::now(), stream));
            sent.count += 1;
            while !keep.load(Ordering::Relaxed)
                && open
                    .front()
                    .is_some_and(|(at, _)| at.elapsed() >= self.stay)
            {
                open.pop_front();
            }
            // What a busy machine has missed is not made up for.
            due = (due + self.gap(&mut random)).max(Instant::now());
            thread::sleep(due - Instant::now());
        }
        sent
    }

    fn gap(&self, random: &mut u64) -> Duration {
        // xorshift64.
        *random ^= *random << 13;
        *random ^= *random >> 7;
        *random ^= *random << 17;
        let part = (*random >> 11) as f64 / (1_u64 << 53) as f64;
        let gaps = match self.pace {
            Pace::Even => 0.5 + part,
            Pace::Random => -(1.0 - part).ln(),
        };
        Duration::from_secs_f64(gaps / self.per_s)
    }
}

/// What came of it.
#[derive(Clone, Copy, Debug)]
pub struct Sent {
    /// Just before the first came, by the clock of this machine.
    pub first_ms: i64,
    pub count: usize,
}

/// Clients that come until this is dropped.
pub struct Running {
    stop: Arc<AtomicBool>,
    keep: Arc<AtomicBool>,
    thread: Option<JoinHandle<Sent>>,
}

impl Running {
    /// From now on nobody leaves, or all do when their time is up.
    pub fn keep(&self, keep: bool) {
        self.keep.store(keep, Ordering::Relaxed);
    }

    /// Ends it.
    pub fn end(mut self) -> Sent {
        self.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take().expect("it runs");
        thread.join().expect("no panic")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(thread::panicking() || ended.is_ok());
        }
    }
}

/// Connects from an address.
pub fn connect_from(from: Ipv4Addr, to: SocketAddr) -> TcpStream {
    if from == Ipv4Addr::LOCALHOST {
        return super::connect(to);
    }
    loop {
        let socket = socket_at(from);
        // The port may have been used for the same way just now.
        if socket.connect(&to.into()).is_ok() {
            return socket.into();
        }
    }
}

/// A socket with an address. Ports are taken in turn: the kernel's own search becomes slow.
pub fn socket_at(from: Ipv4Addr) -> Socket {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    loop {
        let port = 10_000 + NEXT.fetch_add(1, Ordering::Relaxed) % 20_000;
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        socket.set_reuse_address(true).expect("set");
        // Another test may have the port.
        if socket.bind(&SocketAddr::from((from, port)).into()).is_ok() {
            return socket;
        }
    }
}

/// The clock of this machine, which is Envoy's, too.
fn now_ms() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let millis = now.expect("it is after 1970").as_millis();
    i64::try_from(millis).expect("it is before the end of the range")
}
