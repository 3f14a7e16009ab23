//! Sets up what a command needs, once: nothing happens, and no network is touched, when it is there.

use std::fs::{self, File, TryLockError};

use anyhow::{Context as _, Result};

use crate::{
    apt,
    checkout::{Context, write_whole},
    engine,
    process::which,
    toolchain::{self, Need},
    tools,
};

/// Something that a command needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Real Envoy.
    Envoy,
    /// Real PostgreSQL with its clients.
    Postgres,
    /// A toolchain that builds for wasm.
    Wasm,
    /// The lints of that toolchain.
    WasmLints,
    /// What makes the modules faster; the build does without.
    WasmOpt,
    /// What runs wasm tests under Node.
    TestRunner,
    /// Real MariaDB with its client; its tests are skipped without.
    MariaDb,
    /// What makes certificates and TLS clients for the tests.
    OpenSsl,
    /// Real Prometheus with promtool; its tests are skipped without.
    Prometheus,
    /// Real Chromium, which opens the live page; its tests are skipped without.
    Chromium,
    /// A Docker engine for envoy/compose.yaml; its test is skipped without.
    Engine,
    /// What reads OCI images and publishes releases; its tests are skipped without.
    Publishing,
    /// What compiles libFuzzer; the fuzz targets are not run without.
    Compiler,
    /// What checks licences, sources and known holes of the crates.
    CargoDeny,
    /// Real HAProxy, to compare with.
    HaProxy,
    /// Real PgBouncer, to compare with.
    PgBouncer,
}

impl Part {
    /// Every part that the tests need.
    pub const ALL: [Self; 14] = [
        Self::Envoy,
        Self::Postgres,
        Self::Wasm,
        Self::WasmLints,
        Self::WasmOpt,
        Self::TestRunner,
        Self::MariaDb,
        Self::OpenSsl,
        Self::Prometheus,
        Self::Chromium,
        Self::Engine,
        Self::Publishing,
        Self::Compiler,
        Self::CargoDeny,
    ];

    /// Whether there is nothing to do.
    fn is_there(self, ctx: &Context) -> Result<bool> {
        match self {
            Self::Envoy => tools::envoy_is_there(&ctx.checkout),
            Self::Postgres => Ok(tools::postgres_is_there(&ctx.checkout)),
            Self::Wasm => toolchain::is_there(ctx, Need::Build),
            Self::WasmLints => toolchain::is_there(ctx, Need::Lints),
            Self::TestRunner => tools::test_runner_is_there(&ctx.checkout),
            Self::WasmOpt => Ok(WASM_OPT.is_there() || WASM_OPT.was_skipped(ctx)),
            Self::MariaDb => Ok(MARIADB.is_there() || MARIADB.was_skipped(ctx)),
            Self::OpenSsl => Ok(OPENSSL.is_there() || OPENSSL.was_skipped(ctx)),
            Self::Prometheus => {
                Ok(tools::prometheus_bin(&ctx.checkout).is_some() || PROMETHEUS.was_skipped(ctx))
            }
            Self::Chromium => Ok(CHROMIUM.is_there() || CHROMIUM.was_skipped(ctx)),
            Self::Engine => Ok(engine::is_there(&ctx.checkout) || ENGINE.was_skipped(ctx)),
            Self::Publishing => Ok(PUBLISHING.is_there() || PUBLISHING.was_skipped(ctx)),
            Self::Compiler => Ok(COMPILER.is_there() || COMPILER.was_skipped(ctx)),
            Self::CargoDeny => Ok(tools::cargo_deny(&ctx.checkout).is_ok()),
            Self::HaProxy => Ok(HAPROXY.is_there() || HAPROXY.was_skipped(ctx)),
            Self::PgBouncer => Ok(PGBOUNCER.is_there() || PGBOUNCER.was_skipped(ctx)),
        }
    }

    /// Sets it up.
    fn install(self, ctx: &Context) -> Result<()> {
        match self {
            Self::Envoy => tools::install_envoy(ctx),
            Self::Postgres => tools::install_postgres(ctx),
            Self::Wasm => toolchain::ensure(ctx, Need::Build).map(drop),
            Self::WasmLints => toolchain::ensure(ctx, Need::Lints).map(drop),
            Self::TestRunner => tools::install_test_runner(ctx),
            Self::WasmOpt => WASM_OPT.install(ctx),
            Self::MariaDb => MARIADB.install(ctx),
            Self::OpenSsl => OPENSSL.install(ctx),
            Self::Prometheus => match tools::install_prometheus(ctx) {
                Ok(()) => Ok(()),
                Err(error) => PROMETHEUS.skip(ctx, &format!("{error:#}")),
            },
            Self::Chromium => CHROMIUM.install(ctx),
            Self::Engine => match engine::install(ctx) {
                Ok(()) => Ok(()),
                Err(error) => ENGINE.skip(ctx, &format!("{error:#}")),
            },
            Self::Publishing => PUBLISHING.install(ctx),
            Self::Compiler => COMPILER.install(ctx),
            Self::CargoDeny => tools::install_cargo_deny(ctx),
            Self::HaProxy => HAPROXY.install(ctx),
            Self::PgBouncer => PGBOUNCER.install(ctx),
        }
    }
}

/// Programs of Debian's that one can do without.
pub struct Optional {
    name: &'static str,
    programs: &'static [&'static str],
    packages: &'static [&'static str],
    without: &'static str,
}

/// The optimizer of wasm modules.
pub const WASM_OPT: Optional = Optional {
    name: "wasm-opt",
    programs: &["wasm-opt"],
    packages: &["binaryen"],
    without: "the modules stay larger and slower",
};

/// The packages without the service: nothing listens after the installation.
pub const MARIADB: Optional = Optional {
    name: "mariadb",
    programs: &["mariadbd", "mariadb-install-db", "mariadb"],
    packages: &["mariadb-server-core", "mariadb-client-core"],
    without: "the tests with a real MariaDB are skipped",
};

/// The command line of OpenSSL.
pub const OPENSSL: Optional = Optional {
    name: "openssl",
    programs: &["openssl"],
    packages: &["openssl"],
    without: "the tests with TLS fail",
};

/// What the rules and the dashboard are for.
pub const PROMETHEUS: Optional = Optional {
    name: "prometheus",
    programs: &["prometheus", "promtool"],
    packages: &["prometheus"],
    without: "the tests with a real Prometheus are skipped",
};

/// A browser without a window.
pub const CHROMIUM: Optional = Optional {
    name: "chromium",
    programs: &["chromium"],
    packages: &["chromium"],
    without: "the tests with a real browser are skipped",
};

/// What runs the compose file. Nothing is installed for it, see [`engine`].
pub const ENGINE: Optional = Optional {
    name: "docker",
    programs: &[],
    packages: &[],
    without: "the test that runs envoy/compose.yaml is skipped",
};

/// What the release workflow runs, and a second opinion on the images.
pub const PUBLISHING: Optional = Optional {
    name: "skopeo",
    programs: &["skopeo", "umoci", "gh"],
    packages: &["skopeo", "umoci", "gh"],
    without: "the tests of the images and of the release workflow are skipped",
};

/// libFuzzer is C++.
pub const COMPILER: Optional = Optional {
    name: "c++",
    programs: &["c++"],
    packages: &["g++"],
    without: "the fuzz targets are not run",
};

/// What has a queue with priorities.
const HAPROXY: Optional = Optional {
    name: "haproxy",
    programs: &["haproxy"],
    packages: &["haproxy"],
    without: "the benchmark leaves its rows out",
};

/// What shares out sessions of PostgreSQL.
const PGBOUNCER: Optional = Optional {
    name: "pgbouncer",
    programs: &["pgbouncer"],
    packages: &["pgbouncer"],
    without: "the benchmark leaves its row out",
};

impl Optional {
    /// Whether every program is there.
    pub fn is_there(&self) -> bool {
        self.programs.iter().all(|program| which(program).is_some())
    }

    /// What it is called.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// What is lost without it, and what to type.
    pub fn loss(&self) -> String {
        let advice = match self.packages {
            [] => "as root, type: cargo xtask setup".to_owned(),
            packages => apt::advice(packages),
        };
        format!("{} is missing, so {}; {advice}", self.name, self.without)
    }

    /// Whether an earlier attempt failed; `cargo xtask setup` tries again.
    fn was_skipped(&self, ctx: &Context) -> bool {
        ctx.checkout.stamp(&self.skipped()).is_file()
    }

    /// The name of the stamp of a failed attempt.
    fn skipped(&self) -> String {
        format!("{}.skipped", self.name)
    }

    /// Installs it, or says what is lost.
    fn install(&self, ctx: &Context) -> Result<()> {
        let why = match apt::usable().then(|| apt::install(ctx, self.packages)) {
            Some(Ok(())) if self.is_there() => return Ok(()),
            Some(Err(error)) => format!("{error:#}"),
            _ => String::new(),
        };
        self.skip(ctx, &why)
    }

    /// Says what is lost, and does not try again.
    fn skip(&self, ctx: &Context, why: &str) -> Result<()> {
        ctx.ui.warn(format!("{why}\n{}", self.loss()).trim_start());
        write_whole(&ctx.checkout.stamp(&self.skipped()), b"")
    }
}

/// Sets up the parts that are not there yet.
pub fn ensure(ctx: &Context, parts: &[Part]) -> Result<()> {
    let mut guard = None;
    for part in parts {
        if part.is_there(ctx)? {
            continue;
        }
        if guard.is_none() {
            guard = Some(lock(ctx)?);
            // Another xtask may have set it up in the meantime.
            if part.is_there(ctx)? {
                continue;
            }
        }
        part.install(ctx)?;
    }
    Ok(())
}

/// Makes the next [`ensure`] try again what could not be installed.
pub fn forget_what_was_skipped(ctx: &Context) -> Result<()> {
    for optional in [
        WASM_OPT, MARIADB, OPENSSL, PROMETHEUS, CHROMIUM, PUBLISHING, ENGINE, COMPILER, HAPROXY,
        PGBOUNCER,
    ] {
        let stamp = ctx.checkout.stamp(&optional.skipped());
        if stamp.exists() {
            fs::remove_file(&stamp)
                .with_context(|| format!("cannot remove {}", stamp.display()))?;
        }
    }
    Ok(())
}

/// Keeps other xtasks of this checkout out until the result is dropped.
pub fn lock(ctx: &Context) -> Result<File> {
    let path = ctx.checkout.tools.join(".lock");
    let open = || -> std::io::Result<File> {
        fs::create_dir_all(&ctx.checkout.tools)?;
        let file = File::create(&path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                ctx.ui.note("another xtask is at work; waiting for it");
                file.lock()?;
            }
            Err(TryLockError::Error(error)) => return Err(error),
        }
        Ok(file)
    };
    open().with_context(|| format!("cannot lock {}", path.display()))
}
