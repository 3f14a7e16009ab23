//! An upstream that counts honestly, and fails when it is told to.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    future::pending,
    io::{self, ErrorKind},
    mem::MaybeUninit,
    net::{Shutdown, SocketAddr},
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use socket2::{Domain, SockRef, Socket, Type};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{mpsc, oneshot, watch},
    task::{LocalSet, spawn_local},
    time::sleep,
};

use super::crowd::Stage;

/// What is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speaks {
    /// Sends back what comes; counts connections.
    Echo,
    /// Answers requests; counts them.
    Http,
    /// Passes on to a real server; counts connections.
    PassesTo(SocketAddr),
}

/// How it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    Well,
    /// Each answer takes so long.
    Slow(Duration),
    /// Accepts, and answers nobody.
    Hangs,
    /// Accepts nobody.
    Refuses,
}

/// The upstream, in a thread of its own.
pub struct Fickle {
    pub address: SocketAddr,
    seen: Arc<Seen>,
    mood: watch::Sender<Mood>,
    killed: watch::Sender<()>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Seen {
    open: AtomicUsize,
    peak: AtomicUsize,
    /// All there were.
    total: AtomicUsize,
}

impl Fickle {
    /// Starts it at a free port, in good health. It ends nothing while everybody stands still.
    pub fn start(speaks: Speaks, stage: Stage) -> Self {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let listener = listen(any).expect("a listener");
        let address = listener.local_addr().expect("its address");
        let seen = Arc::<Seen>::default();
        let (mood, feels) = watch::channel(Mood::Well);
        let (killed, dies) = watch::channel(());
        let (stop, stopped) = oneshot::channel();
        let sees = Arc::clone(&seen);
        let thread = thread::spawn(move || {
            let house = House {
                speaks,
                stage,
                seen: sees,
                feels,
                dies,
                open: RefCell::default(),
            };
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            LocalSet::new().block_on(&runtime, async {
                tokio::select! {
                    _ = stopped => {}
                    () = Rc::new(house).work(listener, address) => {}
                }
            });
        });
        Self {
            address,
            seen,
            mood,
            killed,
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    /// How it is from now on.
    pub fn be(&self, mood: Mood) {
        self.mood.send_replace(mood);
    }

    /// Whatever is open is reset.
    pub fn kill(&self) {
        self.killed.send_replace(());
    }

    /// How many are open now: connections, or requests.
    pub fn open(&self) -> usize {
        self.seen.open.load(Ordering::SeqCst)
    }

    /// The most that were open at once.
    pub fn peak(&self) -> usize {
        self.seen.peak.load(Ordering::SeqCst)
    }
}

impl Drop for Fickle {
    fn drop(&mut self) {
        drop(self.stop.take());
        let ended = self.thread.take().map(JoinHandle::join);
        assert!(thread::panicking() || ended.is_some_and(|end| end.is_ok()));
    }
}

/// At a port that may have been used just before.
fn listen(at: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&at.into())?;
    socket.listen(4096)?;
    Ok(socket.into())
}

struct House {
    speaks: Speaks,
    stage: Stage,
    seen: Arc<Seen>,
    feels: watch::Receiver<Mood>,
    dies: watch::Receiver<()>,
    open: RefCell<BTreeMap<usize, Rc<TcpStream>>>,
}

impl House {
    async fn work(self: Rc<Self>, listener: std::net::TcpListener, address: SocketAddr) {
        let mut listener = Some(listener);
        loop {
            let at = listener.take().map_or_else(|| listen(address), Ok);
            let Ok(at) = at.and_then(TcpListener::from_std) else {
                // Its port is taken for a moment.
                sleep(Duration::from_millis(20)).await;
                continue;
            };
            tokio::select! {
                () = Rc::clone(&self).accept(&at) => {}
                () = self.until(|mood| mood == Mood::Refuses) => {}
            }
            drop(at);
            self.until(|mood| mood != Mood::Refuses).await;
        }
    }

    async fn accept(self: Rc<Self>, listener: &TcpListener) {
        loop {
            // It may be gone before it is accepted.
            if let Ok((stream, _)) = listener.accept().await {
                stream.set_nodelay(true).ok();
                spawn_local(Rc::clone(&self).receive(Rc::new(stream)));
            }
        }
    }

    async fn until(&self, wanted: impl Fn(Mood) -> bool) {
        // It is over when nobody can change it.
        self.feels.clone().wait_for(|mood| wanted(*mood)).await.ok();
    }

    /// Before an answer.
    async fn ponder(&self) {
        let mood = *self.feels.borrow();
        match mood {
            Mood::Slow(time) => sleep(time).await,
            Mood::Hangs => self.until(|mood| mood != Mood::Hangs).await,
            Mood::Well | Mood::Refuses => {}
        }
    }

    /// One more is open.
    fn enter(self: &Rc<Self>, stream: &Rc<TcpStream>) -> Visit {
        let mut open = self.open.borrow_mut();
        if open.len() >= self.seen.peak.load(Ordering::SeqCst) {
            // Before there is a new peak, who has left already is taken off.
            open.retain(|_, other| Rc::ptr_eq(other, stream) || !has_left(other));
        }
        let number = self.seen.total.fetch_add(1, Ordering::SeqCst);
        open.insert(number, Rc::clone(stream));
        self.count(open.len());
        Visit {
            house: Rc::clone(self),
            number,
        }
    }

    fn count(&self, open: usize) {
        self.seen.open.store(open, Ordering::SeqCst);
        self.seen.peak.fetch_max(open, Ordering::SeqCst);
    }

    async fn receive(self: Rc<Self>, stream: Rc<TcpStream>) {
        let mut dies = self.dies.clone();
        // Who was killed before is another.
        dies.mark_unchanged();
        let visit = (self.speaks != Speaks::Http).then(|| self.enter(&stream));
        let (tell, told) = mpsc::unbounded_channel();
        let answer = async {
            self.answer(&stream, told).await.ok();
            // It is over when the other side has ended it, too.
            SockRef::from(&*stream).shutdown(Shutdown::Write).ok();
            pending::<()>().await;
        };
        tokio::select! {
            () = hear(&stream, &tell) => {}
            () = answer => {}
            Ok(()) = dies.changed() => {
                SockRef::from(&*stream).set_linger(Some(Duration::ZERO)).ok();
            }
        }
        drop(visit);
    }

    async fn answer(
        self: &Rc<Self>,
        stream: &Rc<TcpStream>,
        mut told: mpsc::UnboundedReceiver<Vec<u8>>,
    ) -> io::Result<()> {
        match self.speaks {
            Speaks::Echo => {
                while let Some(words) = told.recv().await {
                    self.ponder().await;
                    say(stream, &words).await?;
                }
            }
            Speaks::Http => {
                let mut input = Vec::new();
                while let Some(words) = told.recv().await {
                    input.extend(words);
                    while let Some(head) = take_head(&mut input) {
                        if is_request(&head) {
                            self.respond(stream).await?;
                        }
                    }
                }
            }
            Speaks::PassesTo(server) => {
                let server = TcpStream::connect(server).await?;
                let there = async {
                    while let Some(words) = told.recv().await {
                        self.ponder().await;
                        say(&server, &words).await?;
                    }
                    io::Result::Ok(())
                };
                let back = async {
                    let mut bytes = [0; 16_384];
                    loop {
                        let size = read(&server, &mut bytes).await?;
                        if size == 0 {
                            self.stage.go().await;
                            return io::Result::Ok(());
                        }
                        say(stream, &bytes[..size]).await?;
                    }
                };
                tokio::select! {
                    done = there => done?,
                    done = back => done?,
                }
            }
        }
        Ok(())
    }

    async fn respond(self: &Rc<Self>, stream: &Rc<TcpStream>) -> io::Result<()> {
        /// Some work.
        const WORK: Duration = Duration::from_millis(5);
        let visit = self.enter(stream);
        sleep(WORK).await;
        self.ponder().await;
        self.stage.go().await;
        // Before the answer, after which the slot may be free at once.
        drop(visit);
        say(stream, b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello").await
    }
}

/// One that is open, until this is dropped.
struct Visit {
    house: Rc<House>,
    number: usize,
}

impl Drop for Visit {
    fn drop(&mut self) {
        let mut open = self.house.open.borrow_mut();
        open.remove(&self.number);
        self.house.count(open.len());
    }
}

/// Whether the end of a stream has arrived, as far as the kernel knows.
fn has_left(stream: &TcpStream) -> bool {
    match SockRef::from(stream).peek(&mut [MaybeUninit::uninit()]) {
        Ok(size) => size == 0,
        Err(error) => error.kind() != ErrorKind::WouldBlock,
    }
}

/// Hands over what comes, until the end: so an end is seen whatever is answered.
async fn hear(stream: &TcpStream, tell: &mpsc::UnboundedSender<Vec<u8>>) {
    let mut bytes = [0; 16_384];
    while let Ok(size @ 1..) = read(stream, &mut bytes).await {
        // Nobody is to know when it is answered no more.
        tell.send(bytes[..size].to_vec()).ok();
    }
}

async fn read(stream: &TcpStream, bytes: &mut [u8]) -> io::Result<usize> {
    loop {
        stream.readable().await?;
        match stream.try_read(bytes) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            other => return other,
        }
    }
}

async fn say(stream: &TcpStream, mut words: &[u8]) -> io::Result<()> {
    while !words.is_empty() {
        stream.writable().await?;
        match stream.try_write(words) {
            Ok(size) => words = &words[size..],
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn take_head(input: &mut Vec<u8>) -> Option<Vec<u8>> {
    let end = input.windows(4).position(|part| part == b"\r\n\r\n")?;
    Some(input.drain(..end + 4).collect())
}

/// And not the rest of a body.
fn is_request(head: &[u8]) -> bool {
    let line = head.split(|&byte| byte == b'\r').next();
    line.is_some_and(|line| line.ends_with(b" HTTP/1.1"))
}
