//! Which toolchain builds for wasm: the current one, with rustup's help or without, or Debian's.

use std::{
    collections::BTreeSet,
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::Result;

use crate::{
    apt,
    checkout::{Checkout, Context, write_whole},
    process::{self, NotReady, another_cargo_may_see, asked, logged_within, tool, which},
};

/// The target of the plugin.
pub const TARGET: &str = "wasm32-unknown-unknown";

/// How long rustup may take to add the target.
const RUSTUP_LIMIT: Duration = Duration::from_secs(60);

/// The variable that forces a toolchain.
const FORCE: &str = "TIDEGATE_WASM_TOOLCHAIN";

/// Debian's linker for wasm.
const LINKER: &str = "wasm-ld-22";

/// Debian's packages for the build.
const BUILD_PACKAGES: [&str; 4] = ["rustc-web", "cargo-web", "rust-web-src", "lld-22"];

/// Debian's package with the lints.
const LINTS_PACKAGE: &str = "rust-web-clippy";

/// The oldest minor version of Rust 1 that compiles this workspace, for Debian's packages.
const OLDEST_MINOR: u32 = 95;

/// What the toolchain must be able to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Compile.
    Build,
    /// Compile and lint.
    Lints,
}

impl Need {
    /// Debian's packages for it.
    fn packages(self) -> Vec<&'static str> {
        let mut packages = BUILD_PACKAGES.to_vec();
        if self == Self::Lints {
            packages.push(LINTS_PACKAGE);
        }
        packages
    }
}

/// A toolchain that builds for wasm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Toolchain {
    /// The one that runs this process.
    Current,
    /// Debian's, which compiles the standard library too.
    Debian,
}

/// What the user said about the toolchain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Forced {
    Rustup,
    Debian,
}

/// How far a way to a toolchain has been gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Closed,
    Open,
    Failed,
}

/// What there is on this machine.
#[derive(Clone, Copy, Debug)]
struct Facts {
    current_has_target: bool,
    debian_is_complete: bool,
    debian_was_chosen: bool,
    rustup: Way,
    apt: Way,
}

/// What to do next about the toolchain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Use(Toolchain),
    AskRustup,
    InstallDebian,
    GiveUp,
}

/// The order of the ways: what is there, rustup, Debian.
fn choose(facts: Facts, forced: Option<Forced>) -> Next {
    let rustup = forced != Some(Forced::Debian);
    let debian = forced != Some(Forced::Rustup);
    if rustup && facts.current_has_target {
        return Next::Use(Toolchain::Current);
    }
    // What rustup could not do once it is not asked again, or every run would wait for it.
    let settled = debian && facts.debian_was_chosen && facts.debian_is_complete;
    if rustup && !settled && facts.rustup == Way::Open {
        return Next::AskRustup;
    }
    if debian && facts.debian_is_complete {
        return Next::Use(Toolchain::Debian);
    }
    if debian && facts.apt == Way::Open {
        return Next::InstallDebian;
    }
    Next::GiveUp
}

/// Whether a toolchain is there, so that [`ensure`] has nothing to do.
pub fn is_there(ctx: &Context, need: Need) -> Result<bool> {
    let next = choose(facts(&ctx.checkout, need), forced()?);
    Ok(matches!(next, Next::Use(_)))
}

/// The toolchain to use; sets it up when it is not there yet.
pub fn ensure(ctx: &Context, need: Need) -> Result<Toolchain> {
    let forced = forced()?;
    let mut facts = facts(&ctx.checkout, need);
    let mut reasons = Vec::new();
    loop {
        match choose(facts, forced) {
            Next::Use(toolchain) => {
                if toolchain == Toolchain::Debian && !facts.debian_was_chosen {
                    write_whole(&ctx.checkout.stamp("wasm-toolchain"), b"debian")?;
                }
                return Ok(toolchain);
            }
            Next::AskRustup => {
                facts.rustup = Way::Failed;
                let mut command = tool("rustup");
                command.args(["target", "add", TARGET]);
                let name = "add the wasm target with rustup";
                match logged_within(ctx, name, command, Some(RUSTUP_LIMIT)) {
                    Ok(()) => facts.current_has_target = current_has_target(),
                    Err(error) => reasons.push(format!("{error:#}")),
                }
            }
            Next::InstallDebian => {
                facts.apt = Way::Failed;
                match apt::install(ctx, &need.packages()) {
                    Ok(()) => facts.debian_is_complete = debian_is_complete(need),
                    Err(error) => reasons.push(format!("{error:#}")),
                }
            }
            Next::GiveUp => return Err(given_up(&reasons, need, forced)),
        }
    }
}

/// What was tried, and what to type.
fn given_up(reasons: &[String], need: Need, forced: Option<Forced>) -> anyhow::Error {
    let rustup = format!("  rustup target add {TARGET}");
    let debian = format!(
        "  sudo apt-get install {}    (Debian)",
        need.packages().join(" ")
    );
    let ways = match forced {
        Some(Forced::Rustup) => rustup,
        Some(Forced::Debian) => debian,
        None => format!("{rustup}\nor\n{debian}"),
    };
    let tried: String = reasons.iter().map(|why| format!("{why}\n")).collect();
    NotReady::new(format!(
        "{tried}no toolchain here builds for {TARGET}; type:\n{ways}"
    ))
}

/// What the user said about the toolchain.
fn forced() -> Result<Option<Forced>> {
    match env::var_os(FORCE) {
        None => Ok(None),
        Some(value) => forced_by(&value.to_string_lossy()),
    }
}

/// The meaning of the variable's value.
fn forced_by(value: &str) -> Result<Option<Forced>> {
    match value {
        "" => Ok(None),
        "rustup" => Ok(Some(Forced::Rustup)),
        "debian" => Ok(Some(Forced::Debian)),
        other => Err(NotReady::new(format!(
            "{FORCE} is `{other}`; write debian or rustup, or unset it"
        ))),
    }
}

/// Looks around.
fn facts(checkout: &Checkout, need: Need) -> Facts {
    let open = |usable| if usable { Way::Open } else { Way::Closed };
    let stamp = fs::read_to_string(checkout.stamp("wasm-toolchain"));
    Facts {
        current_has_target: current_has_target(),
        debian_is_complete: debian_is_complete(need),
        debian_was_chosen: stamp.is_ok_and(|text| text == "debian"),
        rustup: open(which("rustup").is_some()),
        apt: open(apt::usable()),
    }
}

/// The compiler that cargo runs.
pub fn current_rustc() -> Command {
    tool(env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()))
}

/// Where a compiler keeps its libraries.
fn sysroot(mut rustc: Command) -> Option<PathBuf> {
    rustc.args(["--print", "sysroot"]);
    asked(rustc).map(PathBuf::from)
}

/// Whether the compiler that cargo runs has a standard library for wasm.
pub fn current_has_target() -> bool {
    sysroot(current_rustc()).is_some_and(|root| {
        let target = root.join("lib/rustlib").join(TARGET);
        target.join("lib").is_dir()
    })
}

/// Whether Debian's packages are installed, and new enough.
fn debian_is_complete(need: Need) -> bool {
    let library = "/usr/lib/rustlib/src/rust/library/std/Cargo.toml";
    let linker = format!("/usr/bin/{LINKER}");
    let mut files = vec!["/usr/bin/rustc", "/usr/bin/cargo", library, &linker];
    if need == Need::Lints {
        files.extend(["/usr/bin/cargo-clippy", "/usr/bin/clippy-driver"]);
    }
    files.iter().all(|file| Path::new(file).is_file())
        && asked(debian_rustc()).is_some_and(|text| new_enough(&text))
}

/// Debian's compiler, asked for its version.
fn debian_rustc() -> Command {
    let mut rustc = tool("/usr/bin/rustc");
    rustc.arg("--version");
    rustc
}

/// Whether `rustc 1.96.0 (…)` compiles this workspace.
fn new_enough(version: &str) -> bool {
    let number = version.strip_prefix("rustc 1.");
    let minor = number.and_then(|rest| rest.split('.').next()?.parse::<u32>().ok());
    minor.is_some_and(|minor| minor >= OLDEST_MINOR)
}

impl Toolchain {
    /// `cargo SUBCOMMAND ARGS` for wasm, in the checkout, in the target folder of wasm.
    pub fn cargo(self, ctx: &Context, subcommand: &str, args: &[&str]) -> Command {
        let mut command = match self {
            Self::Current => process::cargo(ctx),
            Self::Debian => debian(&ctx.checkout, subcommand),
        };
        command.env("CARGO_TARGET_DIR", ctx.checkout.wasm_target());
        command.arg(subcommand);
        if self == Self::Debian {
            command.arg("-Zbuild-std=std,panic_abort");
            // A tenth of a module is sorting, else, which is done in no hurry there.
            command.arg("-Zbuild-std-features=optimize_for_size");
        }
        command.args(["--target", TARGET]).args(args);
        command
    }

    /// Flags for the modules, as cargo encodes them.
    ///
    /// Where the standard library is compiled with them, a panic has no words: there is nobody to
    /// hear them in a virtual machine, and they are a sixteenth of a module.
    pub fn module_flags(self, checkout: &Checkout) -> String {
        let mut flags = self.remaps(checkout);
        if self == Self::Debian {
            flags += "\u{1f}-Zunstable-options\u{1f}-Cpanic=immediate-abort";
        }
        flags
    }

    /// Flags that keep this machine's folders out of what is built, as cargo encodes them.
    ///
    /// They depend on which registries have been used, so the crates must have been fetched.
    pub fn remaps(self, checkout: &Checkout) -> String {
        let sysroot = match self {
            Self::Current => sysroot(current_rustc()),
            Self::Debian => Some(PathBuf::from("/usr")),
        };
        let mut pairs = vec![(checkout.root.clone(), "/tidegate")];
        if let Some(home) = cargo_home() {
            // The folder of a registry is named after its host, which may be a mirror inside a
            // company. Of two prefixes that fit, the later one counts.
            let sources = fs::read_dir(home.join("registry/src")).into_iter();
            let sources = sources.flatten().flatten().map(|entry| entry.path());
            let sources: BTreeSet<PathBuf> = sources.collect();
            pairs.push((home, "/cargo"));
            pairs.extend(sources.into_iter().map(|source| (source, "/cargo")));
        }
        if let Some(source) = sysroot.map(|root| root.join("lib/rustlib/src/rust")) {
            if let Ok(real) = source.canonicalize() {
                pairs.push((real, "/rust"));
            }
            pairs.push((source, "/rust"));
        }
        let flags: Vec<String> = pairs
            .iter()
            .map(|(from, to)| format!("--remap-path-prefix={}={to}", from.display()))
            .collect();
        flags.join("\u{1f}")
    }
}

/// Where cargo keeps the sources of crates.
pub fn cargo_home() -> Option<PathBuf> {
    let default = env::var_os("HOME").map(|home| Path::new(&home).join(".cargo"));
    env::var_os("CARGO_HOME").map(PathBuf::from).or(default)
}

/// Debian's cargo, with nothing of the toolchain that runs this process.
fn debian(checkout: &Checkout, subcommand: &str) -> Command {
    // Found by the name of a subcommand, it could be the lints of another toolchain.
    let program = match subcommand {
        "clippy" => "/usr/bin/cargo-clippy",
        _ => "/usr/bin/cargo",
    };
    let mut command = Command::new(program);
    for (name, _) in env::vars_os() {
        if !another_cargo_may_see(&name) {
            command.env_remove(name);
        }
    }
    command
        .current_dir(&checkout.root)
        .env("CARGO", "/usr/bin/cargo")
        .env("RUSTC", "/usr/bin/rustc")
        .env("RUSTDOC", "/usr/bin/rustdoc")
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", LINKER);
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTHING: Facts = Facts {
        current_has_target: false,
        debian_is_complete: false,
        debian_was_chosen: false,
        rustup: Way::Closed,
        apt: Way::Closed,
    };

    #[test]
    fn a_toolchain_with_the_target_is_used_before_anything_is_asked() {
        let facts = Facts {
            current_has_target: true,
            debian_is_complete: true,
            rustup: Way::Open,
            ..NOTHING
        };
        assert_eq!(choose(facts, None), Next::Use(Toolchain::Current));
    }

    #[test]
    fn rustup_is_asked_before_debian_and_only_once() {
        let mut facts = Facts {
            debian_is_complete: true,
            rustup: Way::Open,
            ..NOTHING
        };
        assert_eq!(choose(facts, None), Next::AskRustup);
        facts.rustup = Way::Failed;
        assert_eq!(choose(facts, None), Next::Use(Toolchain::Debian));
        facts.rustup = Way::Open;
        facts.debian_was_chosen = true;
        assert_eq!(choose(facts, None), Next::Use(Toolchain::Debian));
        facts.debian_is_complete = false;
        assert_eq!(choose(facts, None), Next::AskRustup);
    }

    #[test]
    fn debian_is_installed_by_those_who_may_when_rustup_failed() {
        let mut facts = Facts {
            rustup: Way::Failed,
            apt: Way::Open,
            ..NOTHING
        };
        assert_eq!(choose(facts, None), Next::InstallDebian);
        facts.apt = Way::Failed;
        assert_eq!(choose(facts, None), Next::GiveUp);
        assert_eq!(choose(NOTHING, None), Next::GiveUp);
    }

    #[test]
    fn a_forced_toolchain_leaves_the_other_alone() {
        let facts = Facts {
            current_has_target: true,
            rustup: Way::Open,
            apt: Way::Open,
            ..NOTHING
        };
        assert_eq!(choose(facts, Some(Forced::Debian)), Next::InstallDebian);
        let facts = Facts {
            debian_is_complete: true,
            debian_was_chosen: true,
            rustup: Way::Open,
            apt: Way::Open,
            ..NOTHING
        };
        assert_eq!(choose(facts, Some(Forced::Rustup)), Next::AskRustup);
        let facts = Facts {
            rustup: Way::Failed,
            ..facts
        };
        assert_eq!(choose(facts, Some(Forced::Rustup)), Next::GiveUp);
    }

    #[test]
    fn an_unknown_toolchain_is_refused_with_what_to_write() {
        let error = forced_by("nightly").unwrap_err();
        assert!(error.is::<NotReady>());
        assert!(error.to_string().contains("write debian or rustup"));
        assert_eq!(forced_by("debian").unwrap(), Some(Forced::Debian));
    }

    #[test]
    fn giving_up_says_what_to_type() {
        let text = given_up(&[], Need::Lints, None).to_string();
        assert!(text.contains("rustup target add wasm32-unknown-unknown"));
        assert!(text.contains("rustc-web cargo-web rust-web-src lld-22 rust-web-clippy"));
        let text = given_up(&[], Need::Build, Some(Forced::Debian)).to_string();
        assert!(!text.contains("rustup"));
    }

    #[test]
    fn an_old_debian_compiler_does_not_count() {
        assert!(new_enough("rustc 1.96.0 (ac68faa20 2026-05-25)"));
        assert!(!new_enough("rustc 1.63.0"));
        assert!(!new_enough("something else"));
    }
}
