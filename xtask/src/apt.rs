//! Debian packages, where this process may install them.

use std::{fs, path::Path, process::Command};

use anyhow::{Context as _, Result};

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

/// Unpacks a package into a folder: nothing is installed, nothing starts, and nobody need be root.
///
/// What it depends on is not unpacked.
pub fn unpack(ctx: &Context, package: &str, folder: &Path) -> Result<()> {
    let unfinished = folder.with_extension("unfinished");
    let download = |name: &str| {
        // Whatever an earlier attempt left there.
        fs::remove_dir_all(&unfinished).ok();
        fs::create_dir_all(&unfinished)?;
        let mut command = apt_get();
        command.args(["download", package]);
        command.current_dir(&unfinished);
        logged(ctx, name, command)
    };
    let name = format!("download {package}");
    let first = download(&name);
    if first.is_err() {
        if !usable() {
            return first;
        }
        let mut update = apt_get();
        update.arg("update");
        logged(ctx, "update the package lists", update)?;
        download(&name)?;
    }
    let archive = fs::read_dir(&unfinished)?.next();
    let archive = archive.context("apt-get download left nothing")??.path();
    let mut command = tool("dpkg-deb");
    command.arg("--extract").args([&archive, &unfinished]);
    logged(ctx, &format!("unpack {package}"), command)?;
    fs::remove_file(archive)?;
    fs::remove_dir_all(folder).ok();
    fs::rename(&unfinished, folder)?;
    Ok(())
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
