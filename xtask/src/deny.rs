//! What the project depends on: licences, duplicates, sources, and known holes.

use std::{env, path::Path, process::Command, time::Duration};

use anyhow::Result;

use crate::{
    checkout::Context,
    process::{NotReady, logged, logged_within, tool},
    setup::{self, Part},
    tools,
};

/// Every manifest with a lock file of its own.
const MANIFESTS: [&str; 3] = [
    "Cargo.toml",
    "fuzz/Cargo.toml",
    "benches/overhead/noop/Cargo.toml",
];
/// What needs nothing but the crates.
const ALWAYS: [&str; 3] = ["bans", "licenses", "sources"];

/// Whether known holes must be looked for: `required` fails where their database can't be had.
const ADVISORIES: &str = "TIDEGATE_ADVISORIES";
/// So long may it take to have it.
const PATIENCE: Duration = Duration::from_secs(120);

/// Checks every lock file. Known holes are skipped with a warning where their database can't be
/// reached, unless they are required.
pub fn run(ctx: &Context) -> Result<()> {
    setup::ensure(ctx, &[Part::CargoDeny])?;
    let program = tools::cargo_deny(&ctx.checkout)?;
    let required = match env::var(ADVISORIES).as_deref() {
        Err(_) | Ok("") => false,
        Ok("required") => true,
        Ok(other) => {
            return Err(NotReady::new(format!(
                "{ADVISORIES} is {other}; set it to `required`, or to nothing"
            )));
        }
    };
    let mut checks = ALWAYS.to_vec();
    let mut fetch = deny(ctx, &program, MANIFESTS[0]);
    fetch.args(["fetch", "db"]);
    match logged_within(ctx, "fetch the known holes", fetch, Some(PATIENCE)) {
        Ok(()) => checks.push("advisories"),
        Err(error) if required => return Err(error),
        Err(error) => ctx.ui.warn(&format!(
            "{error:#}\nSKIPPED: nobody looked whether the crates have known holes, for their \
             database can't be reached; {ADVISORIES}=required makes that an error"
        )),
    }
    for manifest in MANIFESTS {
        let mut check = deny(ctx, &program, manifest);
        check.args(["check", "--hide-inclusion-graph"]);
        check.args(&checks);
        logged(ctx, &format!("dependencies of {manifest}"), check)?;
    }
    Ok(())
}

/// cargo-deny, about that manifest.
fn deny(ctx: &Context, program: &Path, manifest: &str) -> Command {
    let mut command = tool(program);
    command.current_dir(&ctx.checkout.root);
    command.args(["--config", "deny.toml", "--locked", "--workspace"]);
    command.args(["--manifest-path", manifest]);
    command
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs};

    use super::*;
    use crate::testing::repository;

    /// Where things are allowed to be unsafe: calls of the host, and the names that it calls.
    const UNSAFE: [&str; 2] = ["src/plugin/exports.rs", "src/plugin/host.rs"];

    /// What is forbidden to be unsafe as a whole, the library on all machines but the module's. The
    /// tests and benchmarks are denied it, and none allows it to itself.
    const CRATES: [&str; 3] = [
        "src/lib.rs",
        "src/bin/tidegatectl/main.rs",
        "xtask/src/main.rs",
    ];

    /// What a command prints, run in the root of the repository.
    fn said(mut command: Command) -> String {
        let output = command
            .current_dir(repository(""))
            .output()
            .expect("it runs");
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{command:?}: {error}");
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    /// The crates that are linked into a module, without their versions.
    fn linked(features: &[&str]) -> BTreeSet<String> {
        let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.args([
            "tree",
            "--locked",
            "--package",
            "tidegate",
            "--prefix",
            "none",
        ]);
        cargo.args(["--edges", "normal,no-proc-macro", "--format", "{p}"]);
        cargo
            .args(["--target", "wasm32-unknown-unknown"])
            .args(features);
        let names = said(cargo);
        let names = names.lines().filter_map(|line| line.split(' ').next());
        names
            .filter(|name| *name != "tidegate")
            .map(str::to_owned)
            .collect()
    }

    #[test]
    fn the_modules_hold_the_crates_that_the_documentation_gives_reasons_for_and_no_others() {
        let page = fs::read_to_string(repository("docs/reliability.md")).expect("a page");
        let (_, section) = page
            .split_once("\n## What the module depends on\n")
            .expect("a section");
        let rows = section.lines().filter_map(|line| line.strip_prefix("| `"));
        let documented: BTreeSet<String> = rows
            .map(|row| {
                let (name, reason) = row.split_once("` | ").expect("a name and a reason");
                assert!(
                    reason.trim_end_matches([' ', '|']).len() > 10,
                    "{name}: {reason}"
                );
                name.to_owned()
            })
            .collect();
        for kind in crate::module::Kind::ALL {
            assert_eq!(linked(kind.features()), documented, "{}", kind.file_name());
        }
    }

    #[test]
    fn nothing_is_unsafe_but_calls_of_the_host_and_the_names_that_it_calls() {
        let mut git = Command::new("git");
        git.args(["ls-files", "*.rs"]);
        let files = said(git);
        let mut allowed = BTreeSet::new();
        for file in files.lines() {
            let Ok(text) = fs::read_to_string(repository(file)) else {
                continue;
            };
            let names = |what: &str| text.lines().any(|line| line.trim_start().starts_with(what));
            if ["#![allow(", "#[allow(", "#![expect(", "#[expect("]
                .iter()
                .any(|attribute| names(&format!("{attribute}unsafe_code")))
            {
                allowed.insert(file);
            }
        }
        assert_eq!(allowed, BTreeSet::from(UNSAFE));
        // The other modules of the plugin are forbidden it, as those outside of it are.
        let text = fs::read_to_string(repository("src/plugin/mod.rs")).expect("a module");
        let modules = text.lines().filter(|line| line.starts_with("mod ")).count();
        let forbidden = text.matches("#[forbid(unsafe_code)]\nmod ").count();
        assert_eq!(forbidden, modules - UNSAFE.len());
        for file in CRATES {
            let text = fs::read_to_string(repository(file)).expect(file);
            assert!(text.contains("forbid(unsafe_code)"), "{file}");
        }
        let fuzz = fs::read_to_string(repository("fuzz/Cargo.toml")).expect("a manifest");
        assert!(fuzz.contains("unsafe_code = \"forbid\""));
    }

    #[test]
    fn every_lock_file_is_checked() {
        let mut git = Command::new("git");
        git.args(["ls-files", "*Cargo.lock"]);
        let locks: BTreeSet<String> = said(git).lines().map(str::to_owned).collect();
        let checked = MANIFESTS.map(|manifest| manifest.replace(".toml", ".lock"));
        assert_eq!(locks, BTreeSet::from(checked));
    }
}
