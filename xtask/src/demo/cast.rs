//! Who plays: a real PostgreSQL and a real Envoy, which end with the demo.

use std::{
    fs::{self, DirBuilder, File},
    io::Read,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    os::unix::{
        fs::{DirBuilderExt, chown},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use tokio::time::sleep;
use tokio_postgres::{Client, Statement};

use super::{
    load::{self, Account},
    stats::{self, Stats},
};
use crate::{
    checkout::Context,
    copied,
    process::{asked, is_root, last_lines, logged, tool},
    tools,
};

/// `max_connections`.
pub const MAX_CONNECTIONS: u32 = 60;
/// `superuser_reserved_connections`.
pub const RESERVED: u32 = 3;
/// The rows of the table that everybody works on.
pub const ROWS: u32 = 1000;

/// What Envoy writes, with the plugin's events.
pub const ENVOY_LOG: &str = "envoy.log";
/// So long may a server take to start.
const START: Duration = Duration::from_secs(30);
/// So long may a process take to end before it is killed.
const END: Duration = Duration::from_secs(5);

/// A temporary folder, removed at the end.
pub struct Folder(PathBuf);

impl Folder {
    /// A fresh one, which every user may enter and only its owner may read.
    pub fn new() -> Result<Self> {
        let path = copied::open_folder()?.join(format!("tidegate-demo-{}", std::process::id()));
        make_folder(&path, 0o711)?;
        Ok(Self(path))
    }

    /// A file in it.
    pub fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            eprintln!("warning: cannot remove {}: {error}", self.0.display());
        }
    }
}

/// Makes a folder that must not be there yet.
fn make_folder(path: &Path, mode: u32) -> Result<()> {
    DirBuilder::new()
        .mode(mode)
        .create(path)
        .with_context(|| format!("cannot make the folder {}", path.display()))
}

/// A process that ends with the demo, however that ends.
struct Running {
    name: &'static str,
    child: Child,
    log: PathBuf,
}

impl Running {
    /// Starts it, with its output in a log.
    fn start(name: &'static str, command: &mut Command, log: PathBuf) -> Result<Self> {
        let file = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        // In a group of its own: Ctrl-C reaches the demo alone, which ends everything in order.
        let child = command
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .with_context(|| format!("cannot run {name}"))?;
        Ok(Self { name, child, log })
    }

    /// Fails with the end of the log if the process has ended.
    fn check(&mut self) -> Result<()> {
        let Some(status) = self.child.try_wait()? else {
            return Ok(());
        };
        bail!(
            "{} ended early: {status}\n{}",
            self.name,
            last_lines(&self.log, 20).join("\n")
        )
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // For both, SIGINT means: close the connections and end at once.
        let mut kill = Command::new("kill");
        kill.arg("-INT").arg(self.child.id().to_string());
        asked(kill);
        let since = Instant::now();
        while since.elapsed() < END {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            thread::sleep(Duration::from_millis(20));
        }
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Ports of this machine that nobody listens on.
pub fn free_ports<const N: usize>() -> Result<[u16; N]> {
    let mut ports = [0; N];
    // All at once, so that they differ.
    let mut taken = Vec::new();
    for port in &mut ports {
        let listener =
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no port of 127.0.0.1 is free")?;
        *port = listener.local_addr()?.port();
        taken.push(listener);
    }
    Ok(ports)
}

/// The address of a port of this machine.
pub fn local(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// A real PostgreSQL with an empty cluster of its own.
pub struct Postgres {
    // Before the process: its connection ends first.
    observer: Observer,
    server: Running,
    /// Where it listens.
    pub address: SocketAddr,
    /// The password of every account.
    password: String,
}

/// The connection of the superuser, directly to PostgreSQL.
struct Observer {
    client: Client,
    count: Statement,
}

/// The connections that clients have to PostgreSQL, but for the one that asks.
const COUNT: &str = "SELECT count(*) FROM pg_stat_activity \
                     WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()";

impl Postgres {
    /// Makes a cluster and starts it.
    pub async fn start(ctx: &Context, folder: &Folder, port: u16) -> Result<Self> {
        let home = tools::postgres_home(ctx)?;
        let user = is_root().then(Nobody::find).transpose()?;
        let root = folder.join("postgres");
        make_folder(&root, 0o700)?;
        let password = random_word()?;
        let secret = root.join("password");
        fs::write(&secret, &password)?;
        if let Some(user) = &user {
            chown(&root, Some(user.id), Some(user.group))?;
            chown(&secret, Some(user.id), Some(user.group))?;
        }
        let data = root.join("data");
        let mut init = program(&home, "initdb", user.as_ref());
        init.arg("--pgdata").arg(&data).arg("--pwfile").arg(&secret);
        init.args(["--username=postgres", "--auth=scram-sha-256", "--no-sync"]);
        init.args(["--no-locale", "--encoding=UTF8"]);
        // The password is random, so it needs no slow hash, and the clients need their time.
        init.args(["--set", "scram_iterations=1"]);
        init.current_dir(&root);
        logged(ctx, "make a database for the demo", init)?;

        let mut command = program(&home, "postgres", user.as_ref());
        command.arg("-D").arg(&data).args(["-p", &port.to_string()]);
        for setting in [
            "listen_addresses=127.0.0.1",
            "unix_socket_directories=",
            &format!("max_connections={MAX_CONNECTIONS}"),
            &format!("superuser_reserved_connections={RESERVED}"),
            // The demo is about connections and not about the disk, and nothing is kept.
            "fsync=off",
            // The log is for counting refusals: a line begins with the SQLSTATE.
            "log_min_messages=fatal",
            "log_line_prefix=%e ",
        ] {
            command.args(["-c", setting]);
        }
        command.current_dir(&root);
        let step = ctx.ui.step("start PostgreSQL");
        let mut server = Running::start("PostgreSQL", &mut command, folder.join("postgres.log"))?;
        let address = local(port);
        let admin = Account::new("postgres", &password);
        let since = Instant::now();
        let client = loop {
            server.check()?;
            match load::session(address, &admin).await {
                Ok(client) => break client,
                Err(error) if since.elapsed() > START => {
                    return Err(error).context("PostgreSQL does not start");
                }
                Err(_) => sleep(Duration::from_millis(50)).await,
            }
        };
        client
            .batch_execute(&format!(
                "CREATE ROLE app LOGIN PASSWORD '{password}';
                 CREATE ROLE operator LOGIN PASSWORD '{password}';
                 CREATE TABLE account (id int PRIMARY KEY, balance bigint NOT NULL);
                 INSERT INTO account SELECT id, 0 FROM generate_series(1, {ROWS}) AS id;
                 GRANT SELECT, UPDATE ON account TO app, operator;
                 ANALYZE account"
            ))
            .await
            .context("cannot fill the database")?;
        let count = client.prepare(COUNT).await?;
        step.done();
        Ok(Self {
            observer: Observer { client, count },
            server,
            address,
            password,
        })
    }

    /// The account of the application, or of an operator: neither is a superuser.
    pub fn account(&self, name: &'static str) -> Account {
        Account::new(name, &self.password)
    }

    /// The connections of clients, as PostgreSQL counts them.
    pub async fn connections(&self) -> Result<u32> {
        let Observer { client, count } = &self.observer;
        let row = client
            .query_one(count, &[])
            .await
            .context("PostgreSQL does not answer the superuser")?;
        Ok(u32::try_from(row.get::<_, i64>(0))?)
    }

    /// How many connections it has refused for being too many, by its own log.
    pub fn refusals(&self) -> Result<u64> {
        let log = fs::read_to_string(&self.server.log)
            .with_context(|| format!("cannot read {}", self.server.log.display()))?;
        Ok(count_refusals(&log))
    }

    /// Fails if it has ended.
    pub fn check(&mut self) -> Result<()> {
        self.server.check()
    }
}

/// The lines of a log that begin with the SQLSTATE `too_many_connections`.
fn count_refusals(log: &str) -> u64 {
    log.lines()
        .filter(|line| line.starts_with("53300 FATAL:"))
        .count() as u64
}

/// The user that runs PostgreSQL for root.
struct Nobody {
    id: u32,
    group: u32,
}

impl Nobody {
    /// By the machine's list of users.
    fn find() -> Result<Self> {
        let number = |flag: &str| -> Result<u32> {
            let mut id = Command::new("id");
            id.args([flag, "nobody"]);
            asked(id)
                .and_then(|text| text.parse().ok())
                .context("PostgreSQL refuses to run as root, and there is no user `nobody`; run the demo as another user")
        };
        Ok(Self {
            id: number("-u")?,
            group: number("-g")?,
        })
    }
}

/// A program of PostgreSQL's, run by that user.
fn program(home: &Path, name: &str, user: Option<&Nobody>) -> Command {
    let mut command = tool(home.join("bin").join(name));
    if let Some(user) = user {
        command.uid(user.id).gid(user.group);
    }
    command
}

/// 128 random bits as a word.
fn random_word() -> Result<String> {
    let mut bytes = [0; 16];
    File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut bytes))
        .context("cannot read /dev/urandom")?;
    Ok(format!("{:032x}", u128::from_le_bytes(bytes)))
}

/// A real Envoy in front of PostgreSQL.
pub struct Envoy {
    process: Running,
    /// Where its administration listens.
    pub admin: SocketAddr,
    /// Where clients connect.
    pub listener: SocketAddr,
}

impl Envoy {
    /// Starts it with a bootstrap that has these ports, and what is merged into it.
    pub async fn start(
        ctx: &Context,
        folder: &Folder,
        [bootstrap, more]: [&str; 2],
        admin: u16,
        listener: u16,
    ) -> Result<Self> {
        let config = folder.join("envoy.yaml");
        fs::write(&config, bootstrap)?;
        let mut command = tool(tools::envoy_bin(&ctx.checkout)?);
        command.arg("-c").arg(&config);
        command.args(["--config-yaml", more]);
        // Two workers on every machine, so that the limit has to hold over more than one.
        command.args(["--concurrency", "2", "--disable-hot-restart"]);
        command.args(["--log-level", "warning"]);
        command.args(["--component-log-level", "wasm:info"]);
        let process = Running::start("Envoy", &mut command, folder.join(ENVOY_LOG))?;
        let mut envoy = Self {
            process,
            admin: local(admin),
            listener: local(listener),
        };
        let since = Instant::now();
        loop {
            envoy.check()?;
            match stats::get(envoy.admin, "/ready").await {
                Ok(_) => return Ok(envoy),
                Err(error) if since.elapsed() > START => {
                    return Err(error).context("Envoy does not start");
                }
                Err(_) => sleep(Duration::from_millis(50)).await,
            }
        }
    }

    /// Fails if the plugin does not enforce that limit in it.
    pub async fn check_guard(&self, limit: u32) -> Result<()> {
        let shown = Stats::read(self.admin)
            .await?
            .sum("tidegate_inflight_limit");
        if shown == Some(u64::from(limit)) {
            return Ok(());
        }
        bail!(
            "the plugin is not at work in Envoy\n{}",
            last_lines(&self.process.log, 20).join("\n")
        )
    }

    /// Fails if it has ended.
    pub fn check(&mut self) -> Result<()> {
        self.process.check()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_counted_by_their_sqlstate() {
        let log = "53300 FATAL:  sorry, too many clients already\n\
                   28P01 FATAL:  password authentication failed\n\
                   00000 LOG:  text with 53300 FATAL:\n\
                   53300 FATAL:  remaining connection slots are reserved for roles\n";
        assert_eq!(count_refusals(log), 2);
    }

    #[test]
    fn free_ports_differ() {
        let [one, two] = free_ports().unwrap();
        assert!(one != two && one != 0);
    }

    #[test]
    fn a_folder_is_gone_after_its_use() {
        let folder = Folder::new().unwrap();
        let path = folder.join("");
        assert!(path.is_dir());
        drop(folder);
        assert!(!path.exists());
    }
}
