//! A Docker engine for the tests: an archive of a small Debian that has one.
//!
//! Installed, the packages would start a service and change the firewall of the machine. So nothing is
//! installed: the tests unpack the archive, and run the engine in namespaces of its own.

use std::{env, fs, path::PathBuf};

use anyhow::{Context as _, Result, bail};

use crate::{
    apt,
    checkout::{Checkout, Context, write_whole},
    process::{is_root, logged, tool, which},
};

/// The release of Debian, whichever the machine has: the first with Compose v2.
const SUITE: &str = "trixie";

/// What is in it besides what every Debian has.
const PACKAGES: [&str; 6] = [
    "docker.io",
    "docker-cli",
    "docker-compose",
    "iptables",
    "iproute2",
    "wget",
];

/// The archive.
pub fn archive(checkout: &Checkout) -> PathBuf {
    checkout.tools.join("engine.tar")
}

/// Whether the archive is there, with these packages.
pub fn is_there(checkout: &Checkout) -> bool {
    archive(checkout).is_file()
        && fs::read_to_string(checkout.stamp("engine")).is_ok_and(|text| text == content())
}

/// Makes the archive; takes a minute, once. Only root can, and only root could run the engine.
pub fn install(ctx: &Context) -> Result<()> {
    if !is_root() || which("apt-get").is_none() {
        bail!("a Docker engine of the tests' own needs root, and apt");
    }
    let folder = ctx.checkout.tools.join("mmdebstrap");
    apt::unpack(ctx, "mmdebstrap", &folder)?;
    let unfinished = ctx.checkout.tools.join("engine.unfinished.tar");
    // It has a helper beside it.
    let programs = folder.join("usr/bin");
    let path = env::var_os("PATH").unwrap_or_default();
    let path = env::join_paths(
        [programs.clone()]
            .into_iter()
            .chain(env::split_paths(&path)),
    )?;
    let mut command = tool(programs.join("mmdebstrap"));
    command.env("PATH", path);
    command.args(["--mode=root", "--variant=essential", "--format=tar"]);
    command.arg(format!("--include={}", PACKAGES.join(",")));
    for left_out in ["doc", "info", "locale", "man"] {
        command.arg(format!("--dpkgopt=path-exclude=/usr/share/{left_out}/*"));
    }
    // Who loses the power makes it anew.
    command.arg("--dpkgopt=force-unsafe-io");
    command.arg(SUITE).arg(&unfinished);
    logged(
        ctx,
        "make a small Debian with a Docker engine (a minute, once)",
        command,
    )?;
    let archive = archive(&ctx.checkout);
    fs::rename(&unfinished, &archive)
        .with_context(|| format!("cannot write {}", archive.display()))?;
    write_whole(&ctx.checkout.stamp("engine"), content().as_bytes())
}

/// What the stamp says.
fn content() -> String {
    format!("{SUITE} {}", PACKAGES.join(" "))
}
