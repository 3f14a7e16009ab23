//! Programs that run beside the tests.

use std::{
    fs::File,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

use super::{PATIENCE, places, until};

/// How much of a log is shown when a test fails.
const TAIL_LINES: usize = 40;

/// A program with its output in a log. It is ended with this value.
#[derive(Debug)]
pub struct Program {
    child: Child,
    name: String,
    log: PathBuf,
    goodbye: Signal,
}

impl Program {
    /// Starts it.
    pub fn start(mut command: Command, log: &Path) -> Self {
        let out = File::create(log).expect("a log");
        let copy = out.try_clone().expect("its copy");
        command.stdin(Stdio::null()).stdout(out).stderr(copy);
        Self::spawn(command, log)
    }

    /// Starts it to talk with it; what it writes to stderr is in the log.
    pub fn start_talking(mut command: Command, log: &Path) -> (Self, ChildStdin, ChildStdout) {
        let errors = File::create(log).expect("a log");
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        command.stderr(errors);
        let mut program = Self::spawn(command, log);
        let to = program.child.stdin.take().expect("a pipe");
        let from = program.child.stdout.take().expect("a pipe");
        (program, to, from)
    }

    fn spawn(mut command: Command, log: &Path) -> Self {
        let name = command.get_program().to_string_lossy().into_owned();
        let child = command
            .spawn()
            .unwrap_or_else(|error| panic!("cannot run {name}: {error}"));
        Self {
            child,
            name,
            log: log.to_owned(),
            goodbye: Signal::TERM,
        }
    }

    /// Is asked to end by this signal.
    pub fn ended_by(mut self, goodbye: Signal) -> Self {
        self.goodbye = goodbye;
        self
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("its status")
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("it runs");
    }

    /// Waits until it ends by itself.
    pub fn wait(&mut self) -> ExitStatus {
        until(|| self.ended().ok_or_else(|| "it still runs".to_owned()))
    }

    /// What it wrote.
    pub fn log(&self) -> String {
        let bytes = std::fs::read(&self.log).expect("the log");
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The memory that it has now, in KiB.
    pub fn resident_kib(&self) -> u64 {
        let path = format!("/proc/{}/status", self.child.id());
        let status = std::fs::read_to_string(path).expect("it runs");
        let line = status.lines().find(|line| line.starts_with("VmRSS:"));
        let number = line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok());
        number.expect("a number")
    }

    /// The CPU time of its threads whose name begins like this.
    #[allow(dead_code, reason = "a benchmark asks")]
    pub fn threads_cpu(&self, name: &str) -> Duration {
        let tasks = format!("/proc/{}/task", self.child.id());
        let nanos = |task: &Path| {
            let known = std::fs::read_to_string(task.join("comm")).ok()?;
            let times = std::fs::read_to_string(task.join("schedstat")).ok()?;
            let first = times.split_whitespace().next()?;
            known.starts_with(name).then(|| first.parse::<u64>().ok())?
        };
        let tasks = std::fs::read_dir(tasks).expect("it runs");
        let nanos = tasks.flatten().filter_map(|task| nanos(&task.path()));
        Duration::from_nanos(nanos.sum())
    }

    /// The mappings of its memory: where each begins and ends, and whether it may be written.
    pub fn mappings(&self) -> Vec<(u64, u64, bool)> {
        let path = format!("/proc/{}/maps", self.child.id());
        let maps = std::fs::read_to_string(path).expect("it runs");
        let mapping = |line: &str| {
            let (range, rest) = line.split_once(' ')?;
            let (first, end) = range.split_once('-')?;
            let number = |text| u64::from_str_radix(text, 16).ok();
            Some((number(first)?, number(end)?, rest.starts_with("rw")))
        };
        maps.lines()
            .map(|line| mapping(line).expect("a mapping"))
            .collect()
    }

    fn end(&mut self) {
        let pid = Pid::from_child(&self.child);
        if self.child.try_wait().is_ok_and(|status| status.is_none()) {
            kill_process(pid, self.goodbye).ok();
        }
        let since = Instant::now();
        while self.child.try_wait().is_ok_and(|status| status.is_none()) {
            if since.elapsed() > PATIENCE {
                self.child.kill().ok();
            }
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.end();
        if thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            let tail = lines.split_at(lines.len().saturating_sub(TAIL_LINES)).1;
            eprintln!("the end of the log of {}:", self.name);
            tail.iter().for_each(|line| eprintln!("  | {line}"));
        }
    }
}

/// A command that runs as the user whom servers run as, and sees nothing of our environment.
pub fn servers(program: &Path) -> Command {
    let mut command = clean(program);
    if let Some((user, group)) = places::servers_user() {
        command.uid(user).gid(group);
    }
    command
}

/// A command that sees nothing of our environment and speaks English.
pub fn clean(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("LC_ALL", "C").env("TZ", "UTC");
    command.env("PATH", "/usr/bin:/bin").current_dir("/");
    command
}

/// Runs a command to its end, which must be good.
pub fn run(mut command: Command) {
    let output = command.stdin(Stdio::null()).output().expect("it runs");
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}
