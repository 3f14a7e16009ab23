//! Where the real programs and the built modules are.

use std::{
    env, fs,
    io::Write,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    os::unix::fs::{MetadataExt, PermissionsExt, chown},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

/// A path that `cargo xtask test` gives to the tests.
pub fn given(variable: &str) -> PathBuf {
    let path = env::var_os(variable).filter(|path| !path.is_empty());
    let Some(path) = path.map(PathBuf::from) else {
        panic!("{variable} is not set, so there is nothing to test with; run: cargo xtask test");
    };
    assert!(
        path.exists(),
        "{variable} is {}, which is not there; run: cargo xtask test",
        path.display()
    );
    path
}

/// A program of PostgreSQL's.
pub fn postgres(name: &str) -> PathBuf {
    given("TIDEGATE_PG_BIN").join(name)
}

/// A program in `PATH`, or in the folders of administrators.
pub fn which(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin", "/usr/local/sbin", "/sbin"].map(PathBuf::from))
        .map(|dir| dir.join(name))
        .find(|file| file.is_file())
}

/// Says what is not tested, and why, past the capture of the tests' output.
pub fn skip(test: &str, why: &str) {
    notice(&format!("SKIPPED: {test}: {why}"));
}

/// Says something past the capture of the tests' output.
pub fn notice(what: &str) {
    let notice = format!("\n{what}\n");
    std::io::stderr().write_all(notice.as_bytes()).ok();
}

/// A file of the repository.
pub fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// A port that nobody listens at. Somebody may take it before it is used, so try again then.
pub fn free_port() -> u16 {
    let socket = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).expect("a socket");
    socket.local_addr().expect("its address").port()
}

/// A port that nobody listens at, and that no client is given, so that it can be listened at again.
pub fn lasting_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let first = std::process::id();
    loop {
        let next = first.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        // Between those that tests give to their clients and those that the kernel does.
        let port = 30_001 + (next % 2_700) as u16;
        if TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).is_ok() {
            return port;
        }
    }
}

/// A folder that is removed with everything in it.
#[derive(Debug)]
pub struct Folder(PathBuf);

impl Folder {
    /// A new one, which every user can enter.
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("tidegate-test-{}-{number}", std::process::id());
        let path = env::temp_dir().join(name);
        fs::create_dir(&path).expect("a new folder");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("its permissions");
        Self(path)
    }

    /// A new one that belongs to the user whom servers run as; see [`Self::owner`].
    pub fn of_the_servers_user() -> Self {
        let folder = Self::new();
        if let Some((user, group)) = servers_user() {
            chown(&folder.0, Some(user), Some(group)).expect("its owner");
        }
        folder
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).ok();
    }
}

/// `nobody`, when this is root: database servers refuse to run as root. None: as who we are.
pub fn servers_user() -> Option<(u32, u32)> {
    // What this process owns it owns by its effective user.
    let me = fs::metadata("/proc/self").expect("this process").uid();
    (me == 0).then(|| {
        let users = fs::read_to_string("/etc/passwd").expect("the users");
        let fields = users
            .lines()
            .map(|line| line.split(':').collect::<Vec<_>>())
            .find(|fields| fields.first() == Some(&"nobody"))
            .expect("a user `nobody`");
        let number = |index: usize| fields[index].parse().expect("a number");
        (number(2), number(3))
    })
}
