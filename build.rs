//! Stamps the commit into the build: from the environment, else from git, else `unknown`.
//! Never fails, writes nothing under `src/`, needs no network.

use std::{env, path::Path, process::Command};

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=TIDEGATE_COMMIT");
    // A commit moves one of these; watching a file that is missing would rebuild every time.
    for file in ["HEAD", "logs/HEAD"] {
        let file = git(&["rev-parse", "--git-path", file]);
        if let Some(file) = file.filter(|file| Path::new(file).exists()) {
            println!("cargo:rerun-if-changed={file}");
        }
    }
    let commit = env::var("TIDEGATE_COMMIT")
        .ok()
        .and_then(|text| well_formed(&text))
        .or_else(from_git)
        .unwrap_or_else(|| "unknown".to_owned());
    println!("cargo:rustc-env=TIDEGATE_COMMIT={commit}");
}

/// The commit of this checkout.
fn from_git() -> Option<String> {
    git(&["rev-parse", "--short=12", "HEAD"]).and_then(|text| well_formed(&text))
}

/// What git says about this checkout; none in an unpacked archive inside another repository.
fn git(args: &[&str]) -> Option<String> {
    if !Path::new(".git").exists() {
        return None;
    }
    let output = Command::new("git").args(args).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}

/// A commit becomes part of a metric's name, so only what a commit can look like is taken.
fn well_formed(text: &str) -> Option<String> {
    let text = text.trim();
    let fits = (1..=64).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    fits.then(|| text.to_owned())
}
