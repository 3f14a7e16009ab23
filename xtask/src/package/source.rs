//! What is known about the source that is packaged.

use std::{env, path::Path, process::Command};

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

use crate::{
    checkout::Context,
    process::{asked, cargo, tool},
};

/// The package that is published; its `Cargo.toml` describes it.
const PACKAGE: &str = "tidegate";

/// What is known about the source that is packaged.
#[derive(Clone, Debug)]
pub struct Source {
    /// The version.
    pub version: String,
    /// What it is, in one line.
    pub description: String,
    /// The licence, as SPDX writes it.
    pub license: String,
    /// Where the source is.
    pub url: Option<String>,
    /// The commit.
    pub revision: Option<String>,
    /// What the modules call the commit.
    pub stamp: String,
    /// Whether files differ from the commit's.
    pub changed: bool,
    /// The time of everything that is packaged, in seconds since 1970.
    pub time: u64,
}

/// What cargo says about the workspace.
#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

/// What `Cargo.toml` says about a package.
#[derive(Deserialize)]
struct Package {
    name: String,
    version: String,
    description: Option<String>,
    license: Option<String>,
    repository: Option<String>,
}

impl Source {
    /// From `Cargo.toml`, the environment and git.
    pub fn read(ctx: &Context) -> Result<Self> {
        let package = package(ctx)?;
        let git = |args: &[&str]| asked(git(&ctx.checkout.root, args));
        let commit = git(&["rev-parse", "HEAD"]);
        let time = git(&["log", "-1", "--format=%ct"]);
        let status = git(&["status", "--porcelain"]);
        // As build.rs looks for it.
        let told = set("TIDEGATE_COMMIT");
        let short = git(&["rev-parse", "--short=12", "HEAD"]);
        Ok(Self {
            version: package.version,
            description: package.description.context("Cargo.toml: no description")?,
            license: package.license.context("Cargo.toml: no license")?,
            url: package.repository,
            stamp: told.clone().or(short).unwrap_or("unknown".into()),
            revision: told.or(commit),
            changed: status.is_some_and(|files| !files.is_empty()),
            time: time_of(set("SOURCE_DATE_EPOCH"), time)?,
        })
    }

    /// Fails unless `tag` is that of this version, and all of it is in a commit.
    pub fn must_be_released_as(&self, tag: &str) -> Result<()> {
        let expected = format!("v{}", self.version);
        if tag != expected {
            bail!("the tag is {tag}, but Cargo.toml's version makes it {expected}");
        }
        if self.revision.is_none() {
            bail!("git does not tell the commit; a release needs it");
        }
        if self.changed {
            bail!("files differ from the commit's; `git status` names them");
        }
        Ok(())
    }

    /// Fails when what was built is of another commit.
    pub fn must_be_in(&self, built: &[u8]) -> Result<()> {
        if !holds(built, &self.stamp) {
            bail!("it is not of the commit {}; build it anew", self.stamp);
        }
        Ok(())
    }
}

/// Whether the text is somewhere in the bytes.
pub fn holds(bytes: &[u8], text: &str) -> bool {
    let text = text.as_bytes();
    bytes
        .windows(text.len().max(1))
        .any(|window| window == text)
}

/// The time to give to everything: as the user says, else the commit's, else the beginning.
fn time_of(said: Option<String>, commit: Option<String>) -> Result<u64> {
    match said {
        Some(text) => text.parse().with_context(|| {
            format!("SOURCE_DATE_EPOCH is `{text}`; write seconds since 1970, or unset it")
        }),
        None => Ok(commit.and_then(|text| text.parse().ok()).unwrap_or(0)),
    }
}

/// The value of a variable that is not empty.
fn set(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

/// A command of git's about the checkout; none of its answers is about a repository around it.
fn git(root: &Path, args: &[&str]) -> Command {
    let mut command = tool("git");
    command.current_dir(root).args(args);
    if let Some(parent) = root.parent() {
        command.env("GIT_CEILING_DIRECTORIES", parent);
    }
    command
}

/// What `Cargo.toml` says about the package.
fn package(ctx: &Context) -> Result<Package> {
    let mut command = cargo(ctx);
    command.args(["metadata", "--no-deps", "--format-version", "1"]);
    let text = asked(command).context("cargo does not tell about the workspace")?;
    let metadata: Metadata = serde_json::from_str(&text)?;
    let mut packages = metadata.packages.into_iter();
    packages
        .find(|package| package.name == PACKAGE)
        .with_context(|| format!("no package is called {PACKAGE}"))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::package) fn source() -> Source {
        Source {
            version: "1.2.3".into(),
            description: "what it is".into(),
            license: "Apache-2.0".into(),
            url: None,
            revision: Some("0123456789abcdef0123456789abcdef01234567".into()),
            stamp: "0123456789ab".into(),
            changed: false,
            time: 0,
        }
    }

    #[test]
    fn a_release_is_of_one_version_and_one_commit() {
        let good = source();
        good.must_be_released_as("v1.2.3").unwrap();
        let error = good.must_be_released_as("v1.2.4").unwrap_err();
        assert!(error.to_string().contains("v1.2.3"), "{error}");
        let changed = Source {
            changed: true,
            ..source()
        };
        assert!(changed.must_be_released_as("v1.2.3").is_err());
        let unknown = Source {
            revision: None,
            ..source()
        };
        assert!(unknown.must_be_released_as("v1.2.3").is_err());
    }

    #[test]
    fn a_module_of_another_commit_is_not_packaged() {
        let good = source();
        good.must_be_in(b"..0123456789ab..").unwrap();
        let error = good.must_be_in(b"..ba9876543210..").unwrap_err();
        assert!(error.to_string().contains("0123456789ab"), "{error}");
        assert!(good.must_be_in(b"").is_err());
    }

    #[test]
    fn the_time_is_the_users_or_the_commits_or_the_beginning() {
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(time_of(text("5"), text("7")).unwrap(), 5);
        assert_eq!(time_of(None, text("7")).unwrap(), 7);
        assert_eq!(time_of(None, None).unwrap(), 0);
        let error = time_of(text("today"), None).unwrap_err();
        assert!(error.to_string().contains("seconds since 1970"), "{error}");
    }
}
