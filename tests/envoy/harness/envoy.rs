//! The real Envoy.

use std::{
    fs,
    net::SocketAddr,
    process::{Command, ExitStatus},
    sync::{Condvar, Mutex, PoisonError},
    thread,
    time::Duration,
};

use rustix::process::Signal;

use super::{
    Bootstrap,
    events::{self, Event},
    http,
    metrics::Metrics,
    places::{self, Folder},
    process::Program,
    until,
};

/// So many Envoys run at once at most.
const ENVOYS: usize = 2;

/// What Envoy or the plugin writes when a virtual machine fails, or when the plugin complains.
const BAD_SIGNS: [&str; 6] = [
    "Uncaught ",
    "RuntimeError",
    "wasm trap",
    "in-VM",
    "[critical]",
    "[error][wasm]",
];

/// A running Envoy. When it ends well, its log has no sign of a failed virtual machine, and no two
/// events about one rule within a second.
pub struct Envoy {
    program: Program,
    admin: SocketAddr,
    workers: u32,
    _folder: Folder,
    complaints: bool,
    _turn: Option<Turn>,
}

impl Envoy {
    /// Starts it and waits until it takes connections.
    pub fn start(bootstrap: &Bootstrap, workers: u32) -> Self {
        Self::start_with(bootstrap, workers, &[])
    }

    /// Like [`Self::start`], with further arguments.
    pub fn start_with(bootstrap: &Bootstrap, workers: u32, more: &[&str]) -> Self {
        Self::start_by(bootstrap, workers, |command| {
            cold(command);
            command.args(more);
        })
    }

    /// Like [`Self::start`], with whatever else is to be said to the command.
    pub fn start_by(bootstrap: &Bootstrap, workers: u32, more: impl FnOnce(&mut Command)) -> Self {
        Self::begin(Some(Turn::take()), bootstrap, workers, more)
    }

    /// Starts one that takes over from this one, as it is told by these arguments. It has no turn of
    /// its own to wait for.
    pub fn successor(&self, bootstrap: &Bootstrap, more: &[&str]) -> Self {
        Self::begin(None, bootstrap, self.workers, |command| {
            command.args(more);
        })
    }

    fn begin(
        turn: Option<Turn>,
        bootstrap: &Bootstrap,
        workers: u32,
        more: impl FnOnce(&mut Command),
    ) -> Self {
        let folder = Folder::new();
        let mut program = launch(bootstrap, workers, more, &folder);
        let file = folder.path().join("admin");
        let admin = until(|| {
            if let Some(status) = program.ended() {
                panic!("Envoy did not start: {status}");
            }
            let text = fs::read_to_string(&file).map_err(|error| error.to_string())?;
            text.parse::<SocketAddr>()
                .map_err(|error| error.to_string())
        });
        let envoy = Self {
            program,
            admin,
            workers,
            _folder: folder,
            complaints: false,
            _turn: turn,
        };
        until(|| {
            let ready = envoy.admin("/ready");
            (ready == "LIVE\n").then_some(()).ok_or(ready)
        });
        envoy
    }

    /// What Envoy writes before it ends by itself for a bad configuration.
    pub fn fails_to_start(bootstrap: &Bootstrap) -> String {
        let _turn = Turn::take();
        let folder = Folder::new();
        let mut program = launch(bootstrap, 1, cold, &folder);
        let status = program.wait();
        assert!(!status.success(), "it ended with {status}");
        program.log()
    }

    /// The address of a listener.
    pub fn listener(&self, name: &str) -> SocketAddr {
        until(|| {
            let listeners = self.admin("/listeners");
            let found = listeners.lines().find_map(|line| {
                let (known, address) = line.split_once("::")?;
                (known == name).then(|| address.parse().ok()).flatten()
            });
            found.ok_or(listeners)
        })
    }

    /// Where the administration interface is.
    pub fn admin_address(&self) -> SocketAddr {
        self.admin
    }

    /// What the administration interface answers.
    pub fn admin(&self, path: &str) -> String {
        http::get(self.admin, path).body
    }

    /// Tells the administration interface to do something.
    pub fn order(&self, path: &str) {
        let answer = http::post(self.admin, path);
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        self.program.signal(signal);
    }

    /// Waits until it has ended.
    pub fn wait(&mut self) -> ExitStatus {
        self.program.wait()
    }

    /// All metrics.
    pub fn metrics(&self) -> Metrics {
        Metrics::parse(&self.admin("/stats/prometheus"))
    }

    /// Waits until the metrics are as they should be.
    pub fn until(&self, what: &str, mut good: impl FnMut(&Metrics) -> bool) -> Metrics {
        until(|| {
            let metrics = self.metrics();
            if good(&metrics) {
                return Ok(metrics);
            }
            Err(format!("{what}; now{}", metrics.told()))
        })
    }

    /// Waits until a metric of a rule has a value.
    pub fn until_rule(&self, rule: &str, metric: &str, value: f64) -> Metrics {
        let what = format!("{metric} of {rule} should be {value}");
        self.until(&what, |metrics| metrics.rule(rule, metric) == value)
    }

    /// Waits until so many arrivals are counted and nothing is open or held, by the plugin's books
    /// and by Envoy's own, and makes sure that no machine failed on the way.
    pub fn until_quiet(&self, rule: &str, arrivals: usize) -> Metrics {
        let quiet = |metrics: &Metrics| {
            metrics.rule(rule, "tidegate_arrivals_total") >= arrivals as f64
                && metrics.rule(rule, "tidegate_inflight") == 0.0
                && metrics.rule(rule, "tidegate_waiting") == 0.0
                && metrics.sum("envoy_listener_downstream_cx_active", &[]) == 0.0
                && metrics.sum("envoy_cluster_upstream_rq_active", &[]) == 0.0
        };
        let metrics = self.until("nothing should be left open", quiet);
        let faults = metrics.rule(rule, "tidegate_faults_total");
        assert_eq!(faults, 0.0, "{}", metrics.told());
        for counter in [
            "vm_reload_success",
            "vm_reload_failure",
            "vm_reload_backoff",
        ] {
            let name = format!("envoy_wasm_tidegate_{counter}");
            assert_eq!(metrics.sum(&name, &[]), 0.0, "{counter}");
        }
        metrics
    }

    /// Like [`Self::until_quiet`]; besides, no connection to an upstream is open, and every
    /// arrival was admitted or rejected.
    pub fn until_balanced(&self, rule: &str, arrivals: usize) -> Metrics {
        self.until_quiet(rule, arrivals);
        let balanced = |metrics: &Metrics| {
            let admitted = metrics.rule(rule, "tidegate_admitted_total");
            let rejected = metrics.rule(rule, "tidegate_rejected_total");
            metrics.sum("envoy_cluster_upstream_cx_active", &[]) == 0.0
                && admitted + rejected == arrivals as f64
                && metrics.rule(rule, "tidegate_arrivals_total") == arrivals as f64
        };
        self.until("the books should balance, and all be closed", balanced)
    }

    /// What it wrote so far.
    pub fn log(&self) -> String {
        self.program.log()
    }

    /// The events so far.
    pub fn events(&self) -> Vec<Event> {
        events::events(&self.log())
    }

    /// The events of a name about a rule.
    pub fn events_of(&self, rule: &str, name: &str) -> Vec<Event> {
        let mut events = self.events();
        events.retain(|event| event.name == name && event.json["rule"] == rule);
        events
    }

    /// Waits for the first event of a name about a rule.
    pub fn until_event(&self, rule: &str, name: &str) -> Event {
        until(|| {
            let first = self.events_of(rule, name).into_iter().next();
            first.ok_or_else(|| {
                format!("there is no {name} of {rule} yet;{}", self.metrics().told())
            })
        })
    }

    /// The CPU time that its workers have had; of a worker that sleeps, to the nanosecond.
    #[allow(dead_code, reason = "a benchmark asks")]
    pub fn workers_cpu(&self) -> Duration {
        self.program.threads_cpu("wrk:worker_")
    }

    /// The memory that it has now, in KiB.
    pub fn resident_kib(&self) -> u64 {
        self.program.resident_kib()
    }

    /// The linear memory of each of its virtual machines, in pages of 64 KiB.
    ///
    /// V8 reserves 8 GiB for each, and opens what is in use: so that is a mapping that may be written
    /// and one behind it that may not, which make 8 GiB together.
    pub fn linear_pages(&self) -> Vec<u64> {
        const RESERVED: u64 = 8 << 30;
        const PAGE: u64 = 64 << 10;
        let mappings = self.program.mappings();
        let pairs = mappings.iter().zip(mappings.iter().skip(1));
        let machines = pairs.filter_map(|((first, end, used), (guard, last, open))| {
            let whole = *used && !open && end == guard && last - first == RESERVED;
            whole.then_some((end - first) / PAGE)
        });
        let mut pages: Vec<u64> = machines.collect();
        pages.sort_unstable();
        pages
    }

    /// The plugin is expected to write errors.
    pub fn complains(mut self) -> Self {
        self.complaints = true;
        self
    }

    /// How many workers it has.
    pub fn workers(&self) -> u32 {
        self.workers
    }
}

impl Drop for Envoy {
    fn drop(&mut self) {
        if thread::panicking() || self.complaints {
            return;
        }
        let log = self.log();
        let bad = |line: &&str| BAD_SIGNS.iter().any(|sign| line.contains(sign));
        let signs: Vec<&str> = log.lines().filter(bad).collect();
        assert!(signs.is_empty(), "{}", signs.join("\n"));
        let events = events::events(&log);
        let close = events::too_close(&events);
        assert!(close.is_none(), "two lines within a second: {close:?}");
    }
}

/// Runs Envoy with the bootstrap in the folder.
fn launch(
    bootstrap: &Bootstrap,
    workers: u32,
    more: impl FnOnce(&mut Command),
    folder: &Folder,
) -> Program {
    let mut command = command(bootstrap, folder);
    command.args(["--concurrency", &workers.to_string()]);
    more(&mut command);
    command.arg("--admin-address-path");
    command.arg(folder.path().join("admin"));
    Program::start(command, &folder.path().join("log"))
}

/// Envoy, with the bootstrap in the folder.
fn command(bootstrap: &Bootstrap, folder: &Folder) -> Command {
    let file = folder.path().join("envoy.yaml");
    fs::write(&file, &bootstrap.text).expect("the bootstrap");
    let mut command = Command::new(places::given("TIDEGATE_ENVOY"));
    command.arg("--config-path").arg(file);
    command.args(["--log-level", "warning"]);
    command.args(["--component-log-level", "wasm:info"]);
    command
}

/// No other Envoy takes over.
fn cold(command: &mut Command) {
    command.arg("--disable-hot-restart");
}

/// What `envoy --mode validate` says to a bootstrap, and whether it is content.
pub fn validate(bootstrap: &Bootstrap) -> (bool, String) {
    let _turn = Turn::take();
    let folder = Folder::new();
    let mut command = command(bootstrap, &folder);
    cold(&mut command);
    let output = command
        .args(["--mode", "validate"])
        .output()
        .expect("it runs");
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    (output.status.success(), text)
}

/// The right to run an Envoy.
struct Turn;

static RUNNING: Mutex<usize> = Mutex::new(0);
static ONE_ENDED: Condvar = Condvar::new();

impl Turn {
    fn take() -> Self {
        let running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
        let mut running = ONE_ENDED
            .wait_while(running, |running| *running >= ENVOYS)
            .unwrap_or_else(PoisonError::into_inner);
        *running += 1;
        Self
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        *RUNNING.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        ONE_ENDED.notify_one();
    }
}
