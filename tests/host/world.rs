//! Workers of one host that call back in order, as Envoy does.

use crate::{
    envoy::{Envoy, Shared},
    machine::{CONTINUE, Context, Machine, Sort},
    module::Build,
    weather::Weather,
};

const MS: u64 = 1_000_000;

/// A worker: a machine, and what lives in it.
pub struct Worker {
    pub machine: Machine,
    /// Root contexts, the newest last; what arrives is for the last one of its sort.
    roots: Vec<(u32, Sort)>,
    pub streams: Vec<u32>,
    last: u32,
}

pub struct World {
    pub envoy: Shared,
    pub build: Build,
    pub workers: Vec<Worker>,
}

impl World {
    pub fn new(build: Build, workers: usize) -> Self {
        let envoy = Envoy::start();
        let workers = (0..workers).map(|_| Worker::new(build, &envoy)).collect();
        Self {
            envoy,
            build,
            workers,
        }
    }

    /// Gives all workers a configuration for requests or connections; all must take it.
    pub fn configure(&mut self, sort: Sort, configuration: &str) {
        for worker in &mut self.workers {
            assert!(worker.configure(sort, configuration), "{configuration}");
        }
    }

    /// Begins a worker anew, as after a trap: nobody says good-bye.
    pub fn lose(&mut self, index: usize, configurations: &[(Sort, &str)]) {
        let mut worker = Worker::new(self.build, &self.envoy);
        for (sort, configuration) in configurations {
            assert!(worker.configure(*sort, configuration));
        }
        self.workers[index] = worker;
    }

    pub fn weather(&mut self, weather: &Weather) {
        for worker in &mut self.workers {
            worker.machine.state().weather = weather.clone();
        }
    }

    /// Lets time pass, and each root context tick when it is due.
    pub fn advance(&mut self, ms: u64) {
        let until = self.envoy.borrow().now + ms * MS;
        loop {
            let ticks = self.workers.iter().enumerate().flat_map(|(index, worker)| {
                let ticks = worker.machine.see().ticks.iter();
                ticks.map(move |(root, (period, due))| (*due, index, *root, *period))
            });
            let Some((due, index, root, period)) = ticks.min().filter(|next| next.0 <= until)
            else {
                break;
            };
            let now = self.envoy.borrow().now;
            self.envoy.borrow_mut().set_clock(now.max(due));
            let worker = &mut self.workers[index];
            let next = now.max(due) + u64::from(period) * MS;
            worker.machine.state().ticks.insert(root, (period, next));
            worker.machine.tick(root);
            worker.bury();
        }
        self.envoy.borrow_mut().set_clock(until);
    }

    /// Steps the clock, which timers do not follow.
    pub fn step(&mut self, ms: i64) {
        let by = ms * MS as i64;
        let now = self.envoy.borrow().now.saturating_add_signed(by);
        self.envoy.borrow_mut().set_clock(now);
        for worker in &mut self.workers {
            for (_, due) in worker.machine.state().ticks.values_mut() {
                *due = due.saturating_add_signed(by);
            }
        }
    }

    /// How many streams are at their upstream, over all workers.
    pub fn open(&self) -> usize {
        let streams = self.workers.iter().map(Worker::open);
        streams.sum()
    }

    /// Ends every stream.
    pub fn close_all(&mut self) {
        for worker in &mut self.workers {
            for id in core::mem::take(&mut worker.streams) {
                worker.machine.delete(id);
                worker.machine.state().contexts.remove(&id);
            }
        }
    }
}

impl Worker {
    fn new(build: Build, envoy: &Shared) -> Self {
        Self {
            machine: Machine::start(build, envoy),
            roots: Vec::new(),
            streams: Vec::new(),
            last: 0,
        }
    }

    fn next(&mut self, context: Context) -> u32 {
        self.last += 1;
        self.machine.state().contexts.insert(self.last, context);
        self.last
    }

    /// Creates a root context with a configuration; whether that is taken.
    pub fn configure(&mut self, sort: Sort, configuration: &str) -> bool {
        let root = self.next(Context::default());
        self.machine.create(root, 0);
        let bytes = configuration.as_bytes();
        let taken = self.machine.configure(root, bytes, bytes.len() as u32);
        if taken {
            self.roots.push((root, sort));
        }
        taken
    }

    /// Ends the root contexts of that sort that have drained: older ones without streams.
    pub fn drain(&mut self, sort: Sort) {
        let newest = self.root(sort);
        let contexts = &self.machine.see().contexts;
        let over = |root: u32| {
            let mut streams = contexts.values();
            Some(root) != newest && streams.all(|context| context.root != root)
        };
        let roots = self.roots.iter().filter(|root| root.1 == sort);
        let over: Vec<u32> = roots
            .map(|root| root.0)
            .filter(|root| over(*root))
            .collect();
        for root in over {
            self.machine.delete(root);
            self.machine.state().contexts.remove(&root);
            self.machine.state().ticks.remove(&root);
            self.roots.retain(|known| known.0 != root);
        }
    }

    fn root(&self, sort: Sort) -> Option<u32> {
        let newest = self.roots.iter().rev().find(|root| root.1 == sort);
        newest.map(|(root, _)| *root)
    }

    /// A stream begins.
    pub fn begin(&mut self, stream: Context) -> u32 {
        let (sort, root) = (
            stream.sort,
            self.root(stream.sort).expect("a configuration"),
        );
        let id = self.next(Context { root, ..stream });
        self.streams.push(id);
        self.machine.create(id, root);
        let answer = match sort {
            Sort::Http => self.machine.request(id),
            Sort::Tcp => self.machine.connection(id),
            Sort::Root => unreachable!("no stream"),
        };
        if let Some(context) = self.machine.state().contexts.get_mut(&id) {
            context.began = true;
            context.paused = answer != CONTINUE;
            context.chosen = answer == CONTINUE;
        }
        self.bury();
        id
    }

    /// A stream ends.
    pub fn end(&mut self, id: u32) {
        if !self.streams.contains(&id) {
            return;
        }
        self.streams.retain(|known| *known != id);
        self.machine.delete(id);
        self.machine.state().contexts.remove(&id);
    }

    /// Bytes come, of the client's (0) or the upstream's (1); what becomes of them.
    pub fn data(&mut self, side: usize, id: u32, bytes: &[u8], end: bool) -> Option<Vec<u8>> {
        let context = self.machine.state().contexts.get_mut(&id)?;
        context.buffers[side] = Some(bytes.to_vec());
        self.machine.data(side, id, bytes.len() as u32, end);
        let context = self.machine.state().contexts.get_mut(&id)?;
        let left = context.buffers[side].take();
        self.bury();
        left
    }

    /// How many streams are at their upstream.
    pub fn open(&self) -> usize {
        let contexts = self.machine.see().contexts.values();
        contexts.filter(|context| context.is_open()).count()
    }

    /// Deletes what the plugin closed or answered.
    fn bury(&mut self) {
        let contexts = &self.machine.see().contexts;
        let over = |id: &u32| {
            let context = contexts.get(id);
            context.is_some_and(|context| context.closed || context.answered.is_some())
        };
        let over: Vec<u32> = self.streams.iter().copied().filter(over).collect();
        for id in over {
            self.end(id);
        }
    }
}

/// A request of a caller.
pub fn request(caller: &str, path: &str) -> Context {
    let headers = [
        (":authority", "api.example"),
        (":method", "GET"),
        (":path", path),
        ("x-caller", caller),
        ("cookie", "a=b; user=me"),
    ];
    let mut context = facts("10.0.0.7");
    context.sort = Sort::Http;
    context.headers = headers
        .map(|(name, value)| (name.to_owned(), value.as_bytes().to_vec()))
        .into();
    context.set_property("request\0protocol", "HTTP/1.1");
    context.set_property("xds\0cluster_name", "api");
    context
}

/// A connection from an address.
pub fn connection(source: &str, port: u16) -> Context {
    let mut context = facts(source);
    context.sort = Sort::Tcp;
    context.set_property("destination\0port", i64::from(port).to_le_bytes());
    context.set_property(
        "upstream\0cx_pool_ready_duration",
        300_000_u64.to_le_bytes(),
    );
    context
}

fn facts(source: &str) -> Context {
    let mut context = Context::default();
    context.set_property("source\0address", format!("{source}:40000"));
    context.set_property("response\0flags", 0_u64.to_le_bytes());
    context.set_property("response\0code", 200_u64.to_le_bytes());
    context.set_property("response\0total_size", 100_u64.to_le_bytes());
    context.set_property("connection\0requested_server_name", "db.example");
    context.set_property(
        "connection\0uri_san_peer_certificate",
        "spiffe://a/ns/b/sa/c",
    );
    context
}
