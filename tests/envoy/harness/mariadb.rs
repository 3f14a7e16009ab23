//! The real MariaDB, where it is installed.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use super::{
    places::{self, Folder},
    process::{Program, clean, run, servers},
    until,
};

/// The programs of MariaDB.
pub struct Programs {
    client: PathBuf,
    server: PathBuf,
    install: PathBuf,
}

/// The programs, or a loud word about what is not tested.
pub fn programs(test: &str) -> Option<Programs> {
    let find = || {
        Some(Programs {
            client: places::which("mariadb")?,
            server: places::which("mariadbd")?,
            install: places::which("mariadb-install-db")?,
        })
    };
    let found = find();
    if found.is_none() {
        places::skip(
            test,
            "MariaDB is missing; type: sudo apt-get install mariadb-server-core mariadb-client-core",
        );
    }
    found
}

impl Programs {
    /// The client with one statement.
    pub fn client(&self, to: SocketAddr, statement: &str) -> Command {
        let mut command = clean(&self.client);
        command.args(["--no-defaults", "--protocol=tcp", "--skip-ssl", "-N", "-B"]);
        command.args(["--user=app", "--connect-timeout=30"]);
        command.arg(format!("--host={}", to.ip()));
        command.arg(format!("--port={}", to.port()));
        command.args(["-e", statement]).stdin(Stdio::null());
        command
    }
}

/// A running server. Everybody is let in.
pub struct MariaDb {
    pub address: SocketAddr,
    _program: Program,
    _folder: Folder,
}

impl MariaDb {
    /// Starts one.
    pub fn start(programs: &Programs) -> Self {
        Self::for_sessions(programs, 100)
    }

    /// Starts one for so many sessions, ten at least; as everybody is an administrator here, one
    /// more is let in. One that never logs in is waited for.
    pub fn for_sessions(programs: &Programs, most: u32) -> Self {
        let folder = Folder::of_the_servers_user();
        let data = folder.path().join("data");
        let with_data = |program: &Path| {
            let mut command = servers(program);
            command.args(["--no-defaults"]);
            command.arg(format!("--datadir={}", data.display()));
            command
        };
        let mut install = with_data(&programs.install);
        install.args(["--skip-test-db", "--skip-name-resolve"]);
        install.arg("--auth-root-authentication-method=normal");
        install.env("TMPDIR", folder.path());
        run(install);
        let log = folder.path().join("log");
        let (program, address) = until(|| {
            let address = SocketAddr::from(([127, 0, 0, 1], places::free_port()));
            let mut command = with_data(&programs.server);
            command.args(["--skip-grant-tables", "--skip-name-resolve"]);
            command.args(["--bind-address=127.0.0.1", "--skip-log-bin"]);
            command.args(["--skip-networking=0", "--innodb-flush-log-at-trx-commit=0"]);
            command.arg(format!("--port={}", address.port()));
            command.arg(format!("--max-connections={most}"));
            command.arg("--connect-timeout=300");
            command.arg(format!("--tmpdir={}", folder.path().display()));
            let socket = folder.path().join("socket");
            command.arg(format!("--socket={}", socket.display()));
            command.arg(format!(
                "--pid-file={}",
                folder.path().join("pid").display()
            ));
            let mut program = Program::start(command, &log);
            until(|| {
                let answer = programs.client(address, "SELECT 1").output();
                let answer = answer.expect("the client runs");
                match (program.ended(), answer.status.success()) {
                    (Some(_), _) => Ok(false),
                    (None, true) => Ok(true),
                    (None, false) => Err(String::from_utf8_lossy(&answer.stderr).into_owned()),
                }
            })
            .then_some((program, address))
            .ok_or_else(|| "it ended; did somebody else take its port?".to_owned())
        });
        Self {
            address,
            _program: program,
            _folder: folder,
        }
    }
}
