//! The companion as it is run: arguments and files in; exit code, stdout and stderr out.

mod backstop;
mod check;
mod crds;
mod explain;
mod mesh;
#[path = "../pages.rs"]
mod pages;
mod readme;
mod replay;
mod shell;

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// What a run gave.
struct Ran {
    code: i32,
    out: String,
    err: String,
}

/// The command, in the root of the checkout, without colours from outside.
fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegatectl"));
    command.args(arguments).current_dir(root());
    for name in [
        "NO_COLOR",
        "CLICOLOR",
        "CLICOLOR_FORCE",
        "FORCE_COLOR",
        "COLUMNS",
    ] {
        command.env_remove(name);
    }
    command
}

fn ran(mut command: Command, input: &[u8]) -> Ran {
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().expect("tidegatectl starts");
    let mut stdin = child.stdin.take().expect("a pipe");
    // One that fails before it reads closes the pipe.
    let _ = stdin.write_all(input);
    drop(stdin);
    let output = child.wait_with_output().expect("tidegatectl ends");
    Ran {
        code: output.status.code().expect("an exit code"),
        out: String::from_utf8(output.stdout).expect("UTF-8"),
        err: String::from_utf8(output.stderr).expect("UTF-8"),
    }
}

fn run(arguments: &[&str]) -> Ran {
    ran(command(arguments), b"")
}

fn run_with(arguments: &[&str], input: &str) -> Ran {
    ran(command(arguments), input.as_bytes())
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The files of a folder with an extension, by name.
fn files(folder: &str, extension: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(root().join(folder)).expect(folder);
    let mut files: Vec<_> = entries
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|found| found == extension))
        .collect();
    files.sort();
    files
}
