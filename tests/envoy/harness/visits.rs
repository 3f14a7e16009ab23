//! Requests that come at a rate, each in somebody's name.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
};

use super::{
    PATIENCE,
    http::{Response, try_answer},
};

/// Who comes. Each has a connection of its own, and none waits for another.
#[derive(Clone, Debug)]
pub struct Visits {
    pub to: SocketAddr,
    /// In which header they say who they are.
    pub header: &'static str,
    /// They come in turn.
    pub names: Vec<String>,
    /// All of them together.
    pub per_s: f64,
}

/// A request that has been answered.
#[derive(Clone, Debug)]
pub struct Visit {
    pub name: String,
    pub began: Instant,
    pub took: Duration,
    pub response: Response,
}

impl Visit {
    /// Whether the upstream served it.
    pub fn served(&self) -> bool {
        self.response.status == 200
    }

    /// Why it was refused, if it was.
    pub fn reason(&self) -> Option<&str> {
        self.response.header("x-tidegate-reason")
    }
}

impl Visits {
    /// Begins.
    pub fn start(self) -> Visiting {
        let (stop, seen) = (
            Arc::<AtomicBool>::default(),
            Arc::<Mutex<Vec<Visit>>>::default(),
        );
        let (stopped, theirs) = (Arc::clone(&stop), Arc::clone(&seen));
        let run = move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            runtime
                .expect("a runtime")
                .block_on(self.run(&stopped, &theirs))
        };
        Visiting {
            stop,
            seen,
            thread: Some(thread::spawn(run)),
        }
    }

    async fn run(self, stop: &AtomicBool, seen: &Arc<Mutex<Vec<Visit>>>) {
        let mut open = JoinSet::new();
        let gap = Duration::from_secs_f64(1.0 / self.per_s);
        let mut due = tokio::time::Instant::now();
        let mut names = self.names.iter().cycle();
        while !stop.load(Ordering::Relaxed) {
            let name = names.next().expect("a name").clone();
            let (to, header, seen) = (self.to, self.header, Arc::clone(seen));
            open.spawn(async move {
                let visit = visit(to, header, name).await;
                seen.lock().expect("not poisoned").push(visit);
            });
            while let Some(done) = open.try_join_next() {
                done.expect("no panic");
            }
            // What a busy machine has missed is not made up for.
            due = (due + gap).max(tokio::time::Instant::now());
            tokio::time::sleep_until(due).await;
        }
        while let Some(done) = open.join_next().await {
            done.expect("no panic");
        }
    }
}

async fn visit(to: SocketAddr, header: &str, name: String) -> Visit {
    let began = Instant::now();
    let ask = async {
        let mut stream = TcpStream::connect(to).await?;
        let request = format!(
            "GET / HTTP/1.1\r\nhost: api.example\r\n{header}: {name}\r\nconnection: close\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await?;
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).await?;
        try_answer(bytes.as_slice())
    };
    let response = tokio::time::timeout(PATIENCE, ask).await;
    Visit {
        name,
        began,
        took: began.elapsed(),
        response: response.expect("an answer in time").expect("an answer"),
    }
}

/// Requests that come until this is dropped.
pub struct Visiting {
    stop: Arc<AtomicBool>,
    seen: Arc<Mutex<Vec<Visit>>>,
    thread: Option<JoinHandle<()>>,
}

impl Visiting {
    /// Nobody comes any more.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Ends it, and waits for the answers that are due. The first who came is the first.
    pub fn end(mut self) -> Vec<Visit> {
        self.stop();
        let thread = self.thread.take().expect("it runs");
        thread.join().expect("no panic");
        let mut seen = self.seen.lock().expect("not poisoned");
        let mut seen = std::mem::take(&mut *seen);
        seen.sort_by_key(|visit| visit.began);
        seen
    }
}

impl Drop for Visiting {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(thread::panicking() || ended.is_ok());
        }
    }
}
