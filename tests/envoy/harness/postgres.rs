//! The real PostgreSQL.

use std::{
    future::{Ready, ready},
    net::SocketAddr,
    path::PathBuf,
    process::{Output, Stdio},
    sync::{Arc, Mutex, PoisonError, Weak},
};

use rustix::process::Signal;
use tokio_postgres::{
    Client, Config, Socket,
    config::SslMode,
    tls::{MakeTlsConnect, NoTlsStream, TlsConnect},
};

use super::{
    block_on,
    places::{self, Folder},
    process::{Program, clean, run, servers},
    until,
};

/// A running server. Everybody is let in as the user `app`.
pub struct Postgres {
    pub address: SocketAddr,
    program: Program,
    _folder: Folder,
}

/// More than any test opens at once.
const MAX_CONNECTIONS: u32 = 100;

impl Postgres {
    /// One of its own, for so many sessions.
    pub fn for_sessions(most: u32) -> Self {
        Self::start(most)
    }

    /// The one that all tests use which run now.
    pub fn shared() -> Arc<Self> {
        static SHARED: Mutex<Weak<Postgres>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        shared.upgrade().unwrap_or_else(|| {
            let server = Arc::new(Self::start(MAX_CONNECTIONS));
            *shared = Arc::downgrade(&server);
            server
        })
    }

    /// Sends its first process a signal.
    pub fn signal(&self, signal: Signal) {
        self.program.signal(signal);
    }

    fn start(most: u32) -> Self {
        let folder = Folder::of_the_servers_user();
        let data = folder.path().join("data");
        let mut init = servers(&places::postgres("initdb"));
        init.args(["--username=app", "--auth=trust", "--encoding=UTF8"]);
        init.args(["--no-sync", "--no-instructions", "--locale=C", "-D"]);
        init.arg(&data);
        run(init);
        let log = folder.path().join("log");
        let (program, address) = until(|| {
            let address = SocketAddr::from(([127, 0, 0, 1], places::free_port()));
            let mut command = servers(&places::postgres("postgres"));
            command.arg("-D").arg(&data);
            for setting in [
                format!("port={}", address.port()),
                format!("max_connections={most}"),
                "listen_addresses=127.0.0.1".to_owned(),
                "unix_socket_directories=".to_owned(),
                "fsync=off".to_owned(),
            ] {
                command.arg("-c").arg(setting);
            }
            // The signal ends the sessions, too.
            let mut program = Program::start(command, &log).ended_by(Signal::INT);
            until(
                || match (program.ended(), block_on(login(address, SslMode::Disable))) {
                    (Some(_), _) => Ok(false),
                    (None, Ok(_)) => Ok(true),
                    (None, Err(error)) => Err(error.to_string()),
                },
            )
            .then_some((program, address))
            .ok_or_else(|| "somebody else took its port".to_owned())
        });
        Self {
            address,
            program,
            _folder: folder,
        }
    }
}

/// A session of the Rust client. It asks for TLS as the mode says, and can't speak it.
pub async fn login(to: SocketAddr, mode: SslMode) -> Result<Client, tokio_postgres::Error> {
    login_as("app", to, mode).await
}

/// The same, as another user.
pub async fn login_as(
    user: &str,
    to: SocketAddr,
    mode: SslMode,
) -> Result<Client, tokio_postgres::Error> {
    let mut config = Config::new();
    config.host(to.ip().to_string()).port(to.port());
    config.user(user).dbname("postgres").ssl_mode(mode);
    let (client, connection) = config.connect(NoTlsToSpeak).await?;
    tokio::spawn(connection);
    Ok(client)
}

/// Unlike `NoTls` it lets the client ask for TLS.
#[derive(Clone, Copy)]
struct NoTlsToSpeak;

impl MakeTlsConnect<Socket> for NoTlsToSpeak {
    type Stream = NoTlsStream;
    type TlsConnect = Self;
    type Error = std::io::Error;

    fn make_tls_connect(&mut self, _: &str) -> Result<Self, Self::Error> {
        Ok(*self)
    }
}

impl TlsConnect<Socket> for NoTlsToSpeak {
    type Stream = NoTlsStream;
    type Error = std::io::Error;
    type Future = Ready<Result<NoTlsStream, Self::Error>>;

    fn connect(self, _: Socket) -> Self::Future {
        ready(Err(std::io::Error::other("the server wants to speak TLS")))
    }
}

/// A `psql`.
pub struct Psql(PathBuf);

impl Psql {
    /// The one of the real PostgreSQL, which was built without TLS.
    pub fn ours() -> Self {
        Self(places::postgres("psql"))
    }

    /// One that can ask for TLS, or a loud word about what is not tested.
    pub fn with_tls(test: &str) -> Option<Self> {
        let speaks_tls = |psql: &Self| {
            let nowhere = SocketAddr::from(([127, 0, 0, 1], places::free_port()));
            let (_, said) = written(&psql.output(nowhere, "require", ""));
            !said.contains("SSL support is not compiled in")
        };
        let candidates = [Some(Self::ours()), places::which("psql").map(Self)];
        let found = candidates.into_iter().flatten().find(speaks_tls);
        if found.is_none() {
            places::skip(
                test,
                "no psql here speaks TLS; type: sudo apt-get install postgresql-client",
            );
        }
        found
    }

    /// What it says to one statement; without headers and padding.
    pub fn output(&self, to: SocketAddr, ssl: &str, statement: &str) -> Output {
        let mut command = clean(&self.0);
        command.args(["--no-psqlrc", "--no-password", "-AtX", "-c", statement]);
        command.arg(format!(
            "host={} port={} user=app dbname=postgres sslmode={ssl} connect_timeout=30",
            to.ip(),
            to.port()
        ));
        command.stdin(Stdio::null()).output().expect("psql runs")
    }
}

/// What a program wrote to stdout and to stderr.
pub fn written(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}
