//! An upstream that counts what reaches it.

use std::{
    collections::{HashMap, VecDeque},
    io::{ErrorKind, Read, Write},
    net::SocketAddr,
    os::fd::AsFd,
    sync::{Arc, Mutex, MutexGuard},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use mio::{
    Events, Interest, Poll, Token, Waker,
    net::{TcpListener, TcpStream},
};
use socket2::SockRef;

use super::until;

/// What the upstream does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conduct {
    /// Sends back what comes; counts connections.
    Echo,
    /// Says nothing until it is [released](Upstream::release), then greets; counts connections.
    Mute,
    /// Answers HTTP requests, when it is [released](Upstream::release); counts requests.
    Http,
}

/// What was seen at the upstream.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Open now: connections, or requests for [`Conduct::Http`].
    pub open: usize,
    /// The most that were open at once.
    pub peak: usize,
    /// All there were.
    pub total: usize,
    /// What each said first, in the order in which they spoke: the first bytes, or the path.
    pub said: Vec<String>,
}

/// The upstream. It measures honestly: an end that has arrived is read before a beginning counts.
pub struct Upstream {
    pub address: SocketAddr,
    shared: Arc<Mutex<Shared>>,
    waker: Waker,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    seen: Seen,
    released: bool,
    busy: bool,
    takes: Duration,
    bears: Option<usize>,
    stop: bool,
    dies: bool,
}

const LISTENER: Token = Token(0);
const WAKER: Token = Token(1);

impl Upstream {
    /// Starts it at a free port. [`Conduct::Echo`] needs no release.
    pub fn start(conduct: Conduct) -> Self {
        Self::start_at(conduct, SocketAddr::from(([127, 0, 0, 1], 0)))
    }

    /// Starts it where another one was.
    pub fn start_at(conduct: Conduct, address: SocketAddr) -> Self {
        let mut listener = TcpListener::bind(address).expect("a listener");
        queue_many(&listener);
        let address = listener.local_addr().expect("its address");
        let poll = Poll::new().expect("a poll");
        let interest = Interest::READABLE;
        let registry = poll.registry();
        registry
            .register(&mut listener, LISTENER, interest)
            .expect("registered");
        let waker = Waker::new(registry, WAKER).expect("a waker");
        let shared = Arc::<Mutex<Shared>>::default();
        let server = Server {
            conduct,
            listener,
            poll,
            peers: HashMap::new(),
            next: WAKER.0,
            shared: Arc::clone(&shared),
        };
        let thread = Some(thread::spawn(|| server.run()));
        Self {
            address,
            shared,
            waker,
            thread,
        }
    }

    /// Lets it answer whatever waits for an answer, and all that comes.
    pub fn release(&self) {
        self.lock().released = true;
        self.waker.wake().expect("woken");
    }

    /// Lets it answer no more.
    pub fn seize(&self) {
        self.lock().released = false;
    }

    /// Lets it answer every request with 503.
    pub fn be_busy(&self) {
        self.lock().busy = true;
    }

    /// Lets every answer take so long.
    pub fn take(&self, time: Duration) {
        self.lock().takes = time;
    }

    /// Lets it answer 503 at once to whoever comes while so many are open; none: to nobody.
    pub fn bear(&self, most: Option<usize>) {
        self.lock().bears = most;
    }

    /// Ends it, and all connections with a reset, as the kernel does for a program that dies.
    pub fn die(self) {
        self.lock().dies = true;
    }

    /// What it has seen so far.
    pub fn seen(&self) -> Seen {
        self.lock().seen.clone()
    }

    /// The most that were open at once, since this was asked last.
    pub fn peak_since(&self) -> usize {
        let mut shared = self.lock();
        let open = shared.seen.open;
        core::mem::replace(&mut shared.seen.peak, open)
    }

    /// Waits until so many are open.
    pub fn until_open(&self, count: usize) {
        until(|| {
            let open = self.seen().open;
            (open == count)
                .then_some(())
                .ok_or_else(|| format!("{open} are open at the upstream instead of {count}"))
        });
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().expect("not poisoned")
    }
}

/// Lets the kernel keep more than the usual 128 connections that are not accepted yet: one that
/// finds the queue full comes again only after a second.
pub fn queue_many(listener: &impl AsFd) {
    let listener = SockRef::from(listener);
    listener.listen(4096).expect("a longer queue");
}

impl Drop for Upstream {
    fn drop(&mut self) {
        if let Ok(mut shared) = self.shared.lock() {
            shared.stop = true;
        }
        self.waker.wake().ok();
        let ended = self.thread.take().map(JoinHandle::join);
        assert!(thread::panicking() || ended.is_some_and(|end| end.is_ok()));
    }
}

struct Peer {
    stream: TcpStream,
    input: Vec<u8>,
    spoke: bool,
    /// Requests without an answer; a mute upstream owes its greeting.
    owed: VecDeque<Owed>,
}

/// An answer, when it is due, and whether it is 503.
struct Owed {
    due: Instant,
    busy: bool,
}

impl Peer {
    /// Whether its end is all there is to read.
    fn is_gone(&self) -> bool {
        match self.stream.peek(&mut [0]) {
            Ok(size) => size == 0,
            Err(error) => error.kind() != ErrorKind::WouldBlock,
        }
    }
}

struct Server {
    conduct: Conduct,
    listener: TcpListener,
    poll: Poll,
    peers: HashMap<Token, Peer>,
    next: usize,
    shared: Arc<Mutex<Shared>>,
}

impl Server {
    fn run(mut self) {
        let mut events = Events::with_capacity(1024);
        loop {
            match self.poll.poll(&mut events, self.next_due()) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                other => other.expect("events"),
            }
            // Ends before beginnings.
            for event in &events {
                self.read(event.token());
            }
            if events.iter().any(|event| event.token() == LISTENER) {
                self.accept();
            }
            if self.lock(|shared| shared.stop) {
                return self.leave();
            }
            self.answer_all();
        }
    }

    fn leave(self) {
        if self.lock(|shared| shared.dies) {
            for peer in self.peers.values() {
                let socket = SockRef::from(&peer.stream);
                socket.set_linger(Some(Duration::ZERO)).expect("set");
            }
        }
    }

    fn lock<R>(&self, work: impl FnOnce(&mut Shared) -> R) -> R {
        work(&mut self.shared.lock().expect("not poisoned"))
    }

    fn accept(&mut self) {
        loop {
            let mut stream = match self.listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                // It was gone before it was accepted.
                Err(_) => continue,
            };
            if self.conduct != Conduct::Http {
                self.begin(None);
            }
            self.next += 1;
            let token = Token(self.next);
            self.poll
                .registry()
                .register(&mut stream, token, Interest::READABLE)
                .expect("registered");
            let peer = Peer {
                stream,
                input: Vec::new(),
                spoke: false,
                owed: VecDeque::new(),
            };
            self.peers.insert(token, peer);
            if self.conduct == Conduct::Mute {
                self.owe(token, false);
            }
        }
    }

    /// Counts one more; if it were a new peak, whoever is gone already is taken off first.
    fn begin(&mut self, peer: Option<Token>) {
        if self.lock(|shared| shared.seen.open >= shared.seen.peak) {
            let others = self.peers.keys().filter(|&&token| Some(token) != peer);
            for token in others.copied().collect::<Vec<Token>>() {
                if self.conduct != Conduct::Http {
                    self.read(token);
                } else if self.peers.get(&token).is_some_and(Peer::is_gone) {
                    self.end(token);
                }
            }
        }
        self.lock(|shared| {
            shared.seen.total += 1;
            shared.seen.open += 1;
            shared.seen.peak = shared.seen.peak.max(shared.seen.open);
        });
    }

    fn end(&mut self, token: Token) {
        if let Some(peer) = self.peers.remove(&token) {
            let less = if self.conduct == Conduct::Http {
                peer.owed.len()
            } else {
                1
            };
            self.lock(|shared| shared.seen.open -= less);
        }
    }

    /// Reads all there is.
    fn read(&mut self, token: Token) {
        // Small: it is cleared for every look at everybody.
        let mut bytes = [0; 4096];
        while let Some(peer) = self.peers.get_mut(&token) {
            match peer.stream.read(&mut bytes) {
                Ok(0) => return self.end(token),
                Ok(size) => self.take(token, &bytes[..size]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return self.end(token),
            }
        }
    }

    fn take(&mut self, token: Token, bytes: &[u8]) {
        let Some(peer) = self.peers.get_mut(&token) else {
            return;
        };
        if self.conduct == Conduct::Http {
            peer.input.extend_from_slice(bytes);
            return self.take_requests(token);
        }
        if self.conduct == Conduct::Echo {
            let _ = peer.stream.write_all(bytes);
        }
        if !core::mem::replace(&mut peer.spoke, true) {
            let words = String::from_utf8_lossy(bytes).into_owned();
            self.lock(|shared| shared.seen.said.push(words));
        }
    }

    fn take_requests(&mut self, token: Token) {
        while let Some(peer) = self.peers.get_mut(&token) {
            let end = peer.input.windows(4).position(|part| part == b"\r\n\r\n");
            let Some(end) = end else { return };
            let head: Vec<u8> = peer.input.drain(..end + 4).collect();
            let head = String::from_utf8_lossy(&head);
            let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
            let full = |shared: &mut Shared| {
                let open = shared.seen.open;
                shared.bears.is_some_and(|most| open >= most)
            };
            let busy = self.lock(full);
            self.owe(token, busy);
            self.begin(Some(token));
            self.lock(|shared| shared.seen.said.push(path));
        }
    }

    /// An answer is owed from now on.
    fn owe(&mut self, token: Token, busy: bool) {
        let takes = self.lock(|shared| shared.takes);
        let due = Instant::now() + if busy { Duration::ZERO } else { takes };
        if let Some(peer) = self.peers.get_mut(&token) {
            peer.owed.push_back(Owed { due, busy });
        }
    }

    /// The time until the next answer is due; none when it must be released before.
    fn next_due(&self) -> Option<Duration> {
        let released = self.lock(|shared| shared.released);
        let owed = self.peers.values().filter_map(|peer| peer.owed.front());
        let next = owed.map(|owed| owed.due).min().filter(|_| released);
        next.map(|due| due.saturating_duration_since(Instant::now()))
    }

    /// Gives every answer that is due.
    fn answer_all(&mut self) {
        let (released, all_busy) = self.lock(|shared| (shared.released, shared.busy));
        if !released {
            return;
        }
        let http = self.conduct == Conduct::Http;
        let now = Instant::now();
        for peer in self.peers.values_mut() {
            while let Some(owed) = peer.owed.pop_front_if(|owed| owed.due <= now) {
                let answer: &[u8] = if all_busy || owed.busy {
                    b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n"
                } else if http {
                    b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello"
                } else {
                    b"hello"
                };
                if http {
                    // Before the answer, after which the slot may be free at once.
                    self.shared.lock().expect("not poisoned").seen.open -= 1;
                }
                let _ = peer.stream.write_all(answer);
            }
        }
    }
}
