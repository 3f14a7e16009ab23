//! Stamps the commit into the build: from the environment, else from git, else `unknown`.
//! Never fails, writes nothing under `src/`, needs no network.

use std::{env, path::Path, process::Command};

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=TIDEGATE_COMMIT");
    // A commit moves one of these; watching a file that is missing would rebuild every time.
    for file in [".git/HEAD", ".git/logs/HEAD"] {
        if Path::new(file).exists() {
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

/// The commit of this checkout; none in an unpacked archive that lies inside another repository.
fn from_git() -> Option<String> {
    if !Path::new(".git").exists() {
        return None;
    }
    let output = Command::new("git")
        .args(["rev-parse", "--short=12", "HEAD"])
        .output()
        .ok()?;
    output
        .status
        .success()
        .then(|| String::from_utf8(output.stdout).ok())
        .flatten()
        .and_then(|text| well_formed(&text))
}

/// A commit becomes part of a metric's name, so only what a commit can look like is taken.
fn well_formed(text: &str) -> Option<String> {
    let text = text.trim();
    let fits = (1..=64).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    fits.then(|| text.to_owned())
}
