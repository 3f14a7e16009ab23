//! An upstream that takes time, and more of it when too many come.

use std::{
    cell::RefCell,
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    io::ErrorKind,
    mem::MaybeUninit,
    net::SocketAddr,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use socket2::SockRef;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::oneshot,
    task::{LocalSet, spawn_local},
    time::{MissedTickBehavior, interval, sleep},
};

use crate::harness::upstream::queue_many;

/// What is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speaks {
    /// `work/MS` and a newline; a connection counts while it is open.
    Tcp,
    /// `GET /work/MS` or `/hold/MS`; a request counts until the end of its answer.
    Http,
}

/// What it can bear.
#[derive(Clone, Copy, Debug)]
pub struct Bears {
    /// As many as can be worked for at once without anybody being slower for it.
    ///
    /// With more open, everybody's work goes on at `(slots / open) ^ 1.5` of the speed: shared,
    /// and some of it lost to contention. Work goes on until the client is seen to leave.
    pub slots: usize,
    /// As many as may be open; the others are refused at once.
    pub most: usize,
}

impl Bears {
    /// Anything.
    pub const ALL: Self = Self {
        slots: usize::MAX,
        most: usize::MAX,
    };
}

/// How the speed falls.
fn speed(slots: usize, open: usize) -> f64 {
    const CONTENTION: f64 = 1.5;
    (slots as f64 / open.max(slots) as f64).powf(CONTENTION)
}

/// How finely work is cut.
const STEP: Duration = Duration::from_millis(2);

/// The upstream, in a thread of its own. It counts honestly: whoever has left already is taken
/// off before there is a new peak.
pub struct Service {
    pub address: SocketAddr,
    seen: Arc<Seen>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Seen {
    open: AtomicUsize,
    peak: AtomicUsize,
}

impl Service {
    /// Starts it at a free port.
    pub fn start(speaks: Speaks, bears: Bears) -> Self {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let listener = std::net::TcpListener::bind(any).expect("a listener");
        listener.set_nonblocking(true).expect("set");
        queue_many(&listener);
        let address = listener.local_addr().expect("its address");
        let seen = Arc::<Seen>::default();
        let (stop, stopped) = oneshot::channel();
        let sees = Arc::clone(&seen);
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            LocalSet::new().block_on(&runtime, async {
                tokio::select! {
                    _ = stopped => {}
                    () = work(listener, speaks, House::new(bears, sees)) => {}
                }
            });
        });
        Self {
            address,
            seen,
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    /// How many are open now.
    pub fn open(&self) -> usize {
        self.seen.open.load(Ordering::Relaxed)
    }

    /// The most that were open at once.
    pub fn peak(&self) -> usize {
        self.seen.peak.load(Ordering::Relaxed)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        drop(self.stop.take());
        let ended = self.thread.take().map(JoinHandle::join);
        assert!(thread::panicking() || ended.is_some_and(|end| end.is_ok()));
    }
}

/// Who is in, and how far the work is.
struct House {
    bears: Bears,
    seen: Arc<Seen>,
    next: u64,
    open: BTreeMap<u64, Rc<TcpStream>>,
    /// Seconds of work that anybody got who was here from the beginning.
    done_s: f64,
    since: Instant,
    /// When each is done, in microseconds of work, and whom to tell.
    jobs: BinaryHeap<Reverse<(u64, u64)>>,
    tell: BTreeMap<u64, oneshot::Sender<()>>,
}

impl House {
    fn new(bears: Bears, seen: Arc<Seen>) -> Self {
        Self {
            bears,
            seen,
            next: 0,
            open: BTreeMap::new(),
            done_s: 0.0,
            since: Instant::now(),
            jobs: BinaryHeap::new(),
            tell: BTreeMap::new(),
        }
    }

    /// Lets it in, unless too many are.
    fn enter(&mut self, stream: &Rc<TcpStream>) -> Option<u64> {
        let peak = self.seen.peak.load(Ordering::Relaxed);
        if self.open.len() >= peak.min(self.bears.most) {
            self.open.retain(|_, other| !has_left(other));
        }
        if self.open.len() >= self.bears.most {
            return None;
        }
        self.next += 1;
        self.open.insert(self.next, Rc::clone(stream));
        self.count();
        Some(self.next)
    }

    fn leave(&mut self, who: u64) {
        self.open.remove(&who);
        self.tell.remove(&who);
        self.count();
    }

    fn count(&self) {
        let open = self.open.len();
        self.seen.open.store(open, Ordering::Relaxed);
        self.seen.peak.fetch_max(open, Ordering::Relaxed);
    }

    fn order(&mut self, who: u64, work: Duration) -> oneshot::Receiver<()> {
        let (tell, told) = oneshot::channel();
        let due_s = self.done_s + work.as_secs_f64();
        self.jobs.push(Reverse(((due_s * 1e6) as u64, who)));
        self.tell.insert(who, tell);
        told
    }

    fn go_on(&mut self) {
        let now = Instant::now();
        let passed = now.duration_since(self.since);
        self.since = now;
        self.done_s += passed.as_secs_f64() * speed(self.bears.slots, self.open.len());
        while let Some(Reverse((due, who))) = self.jobs.peek().copied()
            && due as f64 <= self.done_s * 1e6
        {
            self.jobs.pop();
            if let Some(tell) = self.tell.remove(&who) {
                tell.send(()).ok();
            }
        }
    }
}

/// Whether the end of a stream has arrived, as far as the kernel knows.
fn has_left(stream: &TcpStream) -> bool {
    match SockRef::from(stream).peek(&mut [MaybeUninit::uninit()]) {
        Ok(size) => size == 0,
        Err(error) => error.kind() != ErrorKind::WouldBlock,
    }
}

async fn work(listener: std::net::TcpListener, speaks: Speaks, house: House) {
    let listener = TcpListener::from_std(listener).expect("a listener");
    let house = Rc::new(RefCell::new(house));
    let worker = Rc::clone(&house);
    spawn_local(async move {
        let mut ticks = interval(STEP);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            worker.borrow_mut().go_on();
        }
    });
    loop {
        // It was gone before it was accepted.
        let Ok((stream, _)) = listener.accept().await else {
            continue;
        };
        stream.set_nodelay(true).ok();
        let (stream, house) = (Rc::new(stream), Rc::clone(&house));
        spawn_local(async move {
            match speaks {
                Speaks::Tcp => tcp(&stream, &house).await,
                Speaks::Http => while http(&stream, &house).await.is_some() {},
            }
        });
    }
}

async fn tcp(stream: &Rc<TcpStream>, house: &RefCell<House>) {
    // One that is not let in is closed.
    let Some(who) = house.borrow_mut().enter(stream) else {
        return;
    };
    let served = async {
        let request = read_until(stream, b"\n").await?;
        let told = house.borrow_mut().order(who, duration(&request)?);
        told.await.ok()?;
        write(stream, b"done\n").await
    };
    tokio::select! {
        _ = served => end(stream).await,
        () = gone_meanwhile(stream, house, who) => {}
    }
    house.borrow_mut().leave(who);
}

/// Ends when a client that waits for its work has left.
///
/// Nothing is read here: that is for the one who reads the request.
async fn gone_meanwhile(stream: &TcpStream, house: &RefCell<House>, who: u64) {
    loop {
        sleep(STEP * 2).await;
        if has_left(stream) || !house.borrow().open.contains_key(&who) {
            return;
        }
    }
}

/// One request; none when there are no more.
async fn http(stream: &Rc<TcpStream>, house: &RefCell<House>) -> Option<()> {
    let head = read_until(stream, b"\r\n\r\n").await?;
    let time = duration(&head)?;
    let hold = head.starts_with("GET /hold/");
    let Some(who) = house.borrow_mut().enter(stream) else {
        const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n";
        return write(stream, FULL).await;
    };
    let served = async {
        if hold {
            write(
                stream,
                b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n",
            )
            .await?;
            sleep(time).await;
        } else {
            let told = house.borrow_mut().order(who, time);
            told.await.ok()?;
        }
        Some(())
    };
    let served = tokio::select! {
        served = served => served,
        () = gone_meanwhile(stream, house, who) => None,
    };
    // Before the answer, after which the slot may be free at once.
    house.borrow_mut().leave(who);
    served?;
    let end: &[u8] = if hold {
        b"0\r\n\r\n"
    } else {
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\ndone\n"
    };
    write(stream, end).await
}

/// The milliseconds after the last slash of the first line.
fn duration(request: &str) -> Option<Duration> {
    let first = request.lines().next()?;
    let first = first.strip_suffix(" HTTP/1.1").unwrap_or(first);
    let (_, ms) = first.rsplit_once('/')?;
    ms.parse().ok().map(Duration::from_millis)
}

async fn read_until(stream: &TcpStream, mark: &[u8]) -> Option<String> {
    let mut request = Vec::new();
    while !request.ends_with(mark) {
        stream.readable().await.ok()?;
        match stream.try_read_buf(&mut request) {
            Ok(0) => return None,
            Err(error) if error.kind() != ErrorKind::WouldBlock => return None,
            _ => {}
        }
    }
    String::from_utf8(request).ok()
}

async fn write(stream: &TcpStream, mut bytes: &[u8]) -> Option<()> {
    while !bytes.is_empty() {
        stream.writable().await.ok()?;
        match stream.try_write(bytes) {
            Ok(size) => bytes = bytes.get(size..)?,
            Err(error) if error.kind() != ErrorKind::WouldBlock => return None,
            Err(_) => {}
        }
    }
    Some(())
}

/// Reads to the end.
async fn end(stream: &TcpStream) {
    read_until(stream, b"\0").await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_says_how_long_it_takes() {
        let ms = Duration::from_millis;
        assert_eq!(duration("work/200\n"), Some(ms(200)));
        assert_eq!(
            duration("GET /hold/1500 HTTP/1.1\r\nhost: a/1\r\n\r\n"),
            Some(ms(1500))
        );
        assert_eq!(duration("GET / HTTP/1.1\r\n"), None);
    }

    #[test]
    fn work_is_done_at_full_speed_up_to_the_slots_and_loses_beyond() {
        assert_eq!(speed(40, 1), 1.0);
        assert_eq!(speed(40, 40), 1.0);
        assert_eq!(speed(40, 160), 0.125);
        let all_together = |open: usize| open as f64 * speed(40, open);
        assert!(all_together(160) < all_together(80));
        assert!(all_together(80) < all_together(40));
    }
}
