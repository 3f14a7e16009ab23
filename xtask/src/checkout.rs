//! Where things are.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use crate::ui::Ui;

/// What every command needs: where things are, and how to talk to the user.
pub struct Context {
    /// Where things are.
    pub checkout: Checkout,
    /// How to talk to the user.
    pub ui: Ui,
}

impl Context {
    /// From the environment that cargo gave to this process.
    pub fn from_env() -> Result<Self> {
        Ok(Self {
            checkout: Checkout::from_env()?,
            ui: Ui::from_env(),
        })
    }
}

/// The folders of a checkout, all absolute.
pub struct Checkout {
    /// The root of the workspace.
    pub root: PathBuf,
    /// Cargo's target folder: `CARGO_TARGET_DIR`, else `target`.
    pub target: PathBuf,
    /// The tools: `target/tools` of the checkout, wherever cargo's target folder is.
    pub tools: PathBuf,
    /// The finished plugin modules: `target/tidegate` of the checkout.
    pub artifacts: PathBuf,
}

impl Checkout {
    /// From the environment that cargo gave to this process.
    fn from_env() -> Result<Self> {
        // A checkout that was moved is found by the variable, not by what was compiled in.
        let manifest =
            env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
        let root = Path::new(&manifest)
            .parent()
            .context("xtask must lie inside the checkout")?;
        let target = match env::var_os("CARGO_TARGET_DIR") {
            Some(dir) => absolute(Path::new(&dir))?,
            None => root.join("target"),
        };
        Ok(Self::at(root, target))
    }

    /// The checkout at `root`.
    pub fn at(root: &Path, target: PathBuf) -> Self {
        Self {
            target,
            tools: root.join("target/tools"),
            artifacts: root.join("target/tidegate"),
            root: root.to_owned(),
        }
    }

    /// Cargo's target folder for wasm: its own, so that it never waits for the native one.
    pub fn wasm_target(&self) -> PathBuf {
        self.target.join("wasm")
    }

    /// A file that says which version of `part` is set up.
    pub fn stamp(&self, part: &str) -> PathBuf {
        self.tools.join("stamps").join(part)
    }

    /// The log of the step of that name.
    pub fn log(&self, step: &str) -> PathBuf {
        let name: String = step
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
            .collect();
        self.tools.join("logs").join(format!("{name}.log"))
    }

    /// The version of a package in `Cargo.lock`.
    pub fn locked_version(&self, package: &str) -> Result<String> {
        let path = self.root.join("Cargo.lock");
        let lock =
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        version_in(&lock, package)
            .map(str::to_owned)
            .with_context(|| format!("{} does not name {package}", path.display()))
    }
}

/// The version of the first package of that name in the text of a lock file.
fn version_in<'a>(lock: &'a str, package: &str) -> Option<&'a str> {
    let name = format!("name = \"{package}\"");
    let mut lines = lock.lines().skip_while(|line| line.trim() != name);
    let version = lines.nth(1)?;
    version
        .trim()
        .strip_prefix("version = \"")?
        .strip_suffix('"')
}

/// The path from the root of the file system; it need not exist.
pub fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).with_context(|| format!("not a path: {}", path.display()))
}

/// Writes a file so that nobody ever sees half of it; makes its folder.
pub fn write_whole(path: &Path, content: &[u8]) -> Result<()> {
    let write = || -> std::io::Result<()> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let mut beside = path.as_os_str().to_owned();
        beside.push(format!(".{}", std::process::id()));
        fs::write(&beside, content)?;
        fs::rename(&beside, path)
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_locked_version_is_that_of_the_exact_name() {
        let lock = "[[package]]\nname = \"wasm-bindgen-test\"\nversion = \"0.3.80\"\n\n\
                    [[package]]\nname = \"wasm-bindgen\"\nversion = \"0.2.130\"\n";
        assert_eq!(version_in(lock, "wasm-bindgen"), Some("0.2.130"));
        assert_eq!(version_in(lock, "wasm"), None);
    }

    #[test]
    fn tools_stay_in_the_checkout_wherever_cargo_builds() {
        let checkout = Checkout::at(Path::new("/src/tidegate"), "/elsewhere".into());
        assert_eq!(checkout.tools, Path::new("/src/tidegate/target/tools"));
        assert_eq!(checkout.wasm_target(), Path::new("/elsewhere/wasm"));
    }

    #[test]
    fn a_log_is_named_after_its_step() {
        let checkout = Checkout::at(Path::new("/t"), "/t/target".into());
        let log = checkout.log("clippy for wasm, inspect");
        assert_eq!(
            log,
            Path::new("/t/target/tools/logs/clippy-for-wasm--inspect.log")
        );
    }
}
