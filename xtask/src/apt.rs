//! Debian packages, where this process may install them.

use std::process::Command;

use anyhow::Result;

use crate::{
    checkout::Context,
    process::{is_root, logged, tool, which},
};

/// Whether packages can be installed: by root, where there is apt.
pub fn usable() -> bool {
    is_root() && which("apt-get").is_some()
}

/// What to type to install the packages.
pub fn advice(packages: &[&str]) -> String {
    format!("type: sudo apt-get install {}", packages.join(" "))
}

/// Installs the packages, after an update of the lists when that is what was missing.
///
/// Never removes a package to make room for another.
pub fn install(ctx: &Context, packages: &[&str]) -> Result<()> {
    let name = format!("install {}", packages.join(" "));
    let first = logged(ctx, &name, install_command(packages));
    if first.is_ok() {
        return first;
    }
    let mut update = apt_get();
    update.arg("update");
    logged(ctx, "update the package lists", update)?;
    logged(ctx, &name, install_command(packages))
}

/// The command that installs the packages and asks nothing.
fn install_command(packages: &[&str]) -> Command {
    let mut command = apt_get();
    command.args(["install", "-y", "--no-install-recommends", "--no-remove"]);
    command.args(packages);
    command
}

/// apt without questions.
fn apt_get() -> Command {
    let mut command = tool("apt-get");
    command.env("DEBIAN_FRONTEND", "noninteractive");
    command
}
