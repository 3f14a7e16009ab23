//! Runs other programs: a clean environment, a log, and an error that shows what happened.

use std::{
    env,
    error::Error,
    ffi::{OsStr, OsString},
    fmt, fs,
    fs::File,
    io::{Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use crate::{checkout::Context, ui::Step};

/// How much of a failed program's output is shown.
const TAIL_LINES: usize = 60;

/// What keeps colours out of a log, even of programs that do not look where they write.
const NO_COLORS: [(&str, &str); 3] = [
    ("CARGO_TERM_COLOR", "never"),
    ("NO_COLOR", "1"),
    ("TERM", "dumb"),
];

/// Something is missing that could not be set up; the text says what to type. Exit code 2.
#[derive(Debug)]
pub struct NotReady(String);

impl NotReady {
    /// As an error of the usual kind.
    #[expect(clippy::new_ret_no_self, reason = "it is only ever used as an error")]
    pub fn new(text: impl Into<String>) -> anyhow::Error {
        Self(text.into()).into()
    }

    /// What went wrong, and what to type.
    pub fn because(error: &anyhow::Error, advice: &str) -> anyhow::Error {
        Self::new(format!("{error:#}\n{advice}"))
    }
}

impl fmt::Display for NotReady {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for NotReady {}

/// A command that does not see what cargo told this process about the package `xtask`.
pub fn tool(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    for (name, value) in env::vars_os() {
        if about_this_package(&name) {
            command.env_remove(&name);
        } else if name == "LD_LIBRARY_PATH" {
            match without_cargos_entries(&value) {
                Some(rest) => command.env(&name, rest),
                None => command.env_remove(&name),
            };
        }
    }
    command
}

/// The cargo that runs this process, with its toolchain.
pub fn cargo(ctx: &Context) -> Command {
    let mut command = tool(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(&ctx.checkout.root);
    if env::var_os("CARGO_TARGET_DIR").is_some() {
        command.env("CARGO_TARGET_DIR", &ctx.checkout.target);
    }
    command
}

/// Whether cargo sets the variable for the package that it runs.
fn about_this_package(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    name.starts_with("CARGO_PKG_")
        || name.starts_with("CARGO_MANIFEST_")
        || name == "RUST_RECURSION_COUNT"
}

/// Whether an inner cargo of another toolchain may see the variable of the outer one.
///
/// What names a compiler or its flags would mix the two; where crates come from is the same.
pub fn another_cargo_may_see(name: &OsStr) -> bool {
    const SAME: [&str; 9] = [
        "CARGO_HOME",
        "CARGO_HTTP_",
        "CARGO_NET_",
        "CARGO_REGISTRIES_",
        "CARGO_REGISTRY_",
        "CARGO_SOURCE_",
        "CARGO_TERM_",
        "CARGO_BUILD_JOBS",
        "RUST_BACKTRACE",
    ];
    let name = name.to_string_lossy();
    let a_toolchains = ["CARGO", "RUST", "CLIPPY_"]
        .iter()
        .any(|prefix| name.starts_with(prefix));
    name != "LD_LIBRARY_PATH" && (!a_toolchains || SAME.iter().any(|same| name.starts_with(same)))
}

/// A library path without the toolchain's and the target folder's entries.
fn without_cargos_entries(value: &OsStr) -> Option<OsString> {
    let own = env::current_exe().ok();
    let target = own.as_deref().and_then(Path::parent);
    let rest: Vec<PathBuf> = env::split_paths(value)
        .filter(|dir| {
            let text = dir.to_string_lossy();
            !(text.contains("/toolchains/")
                || text.contains("/rustlib/")
                || target.is_some_and(|target| dir.starts_with(target)))
        })
        .collect();
    if rest.is_empty() {
        return None;
    }
    env::join_paths(rest).ok()
}

/// The command as one could type it, with the variables that were set for it.
pub fn shown(command: &Command) -> String {
    let mut words: Vec<String> = command
        .get_envs()
        .filter_map(|(name, value)| {
            let value = quoted(&value?.to_string_lossy());
            Some(format!("{}={value}", name.to_string_lossy()))
        })
        .collect();
    words.push(quoted(&command.get_program().to_string_lossy()));
    words.extend(command.get_args().map(|arg| quoted(&arg.to_string_lossy())));
    words.join(" ")
}

/// A word for a shell.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,+@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        // Cargo separates its encoded flags by a character that nobody can type.
        let word = word.replace('\u{1f}', "\\x1f").replace('\'', r"'\''");
        format!("'{word}'")
    }
}

/// Runs a step with its output in a log; fails with the end of it.
pub fn logged(ctx: &Context, name: &str, command: Command) -> Result<()> {
    logged_within(ctx, name, command, None)
}

/// Like [`logged`]; ends the program when it takes longer than `limit`.
pub fn logged_within(
    ctx: &Context,
    name: &str,
    mut command: Command,
    limit: Option<Duration>,
) -> Result<()> {
    let path = ctx.checkout.log(name);
    let what = shown(&command);
    let step = ctx.ui.step(name);
    let (log, copy) = open_log(&path, &what)
        .with_context(|| format!("cannot write the log {}", path.display()))?;
    let child = command
        .envs(NO_COLORS)
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(copy)
        .spawn()
        .with_context(|| format!("cannot run {what}"))?;
    let status = wait(child, &step, &path, limit)?;
    match status {
        Some(status) if status.success() => {
            step.done();
            Ok(())
        }
        status => {
            drop(step);
            let why = status.map_or("took too long".to_owned(), |status| status.to_string());
            bail!(
                "{name}: {why}\n  {what}\n{}\n  the whole output is in {}",
                tail(&path, &what),
                path.display()
            )
        }
    }
}

/// Runs a step whose output the user reads as it comes.
pub fn streamed(name: &str, mut command: Command) -> Result<()> {
    let what = shown(&command);
    let since = Instant::now();
    eprintln!("> {name}");
    let status = command
        .stdin(Stdio::null())
        .status()
        .with_context(|| format!("cannot run {what}"))?;
    if !status.success() {
        bail!("{name}: {status}\n  {what}");
    }
    eprintln!("ok: {name} ({:.1} s)", since.elapsed().as_secs_f64());
    Ok(())
}

/// What a command prints to stdout, trimmed; none when it fails or cannot run.
pub fn asked(mut command: Command) -> Option<String> {
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}

/// Where a program of that name is: `PATH`, then the folders of administrators.
pub fn which(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin", "/usr/local/sbin", "/sbin"].map(PathBuf::from))
        .map(|dir| dir.join(name))
        .find(|file| file.is_file())
}

/// Whether this process may install system packages.
pub fn is_root() -> bool {
    let mut id = Command::new("id");
    id.arg("-u");
    asked(id).as_deref() == Some("0")
}

/// A fresh log that begins with the command.
fn open_log(path: &Path, what: &str) -> std::io::Result<(File, File)> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let mut log = File::create(path)?;
    writeln!(log, "$ {what}")?;
    let copy = log.try_clone()?;
    Ok((log, copy))
}

/// Waits for the program and shows the last line of its log; none when it ran out of time.
fn wait(
    mut child: Child,
    step: &Step,
    log: &Path,
    limit: Option<Duration>,
) -> Result<Option<ExitStatus>> {
    let since = Instant::now();
    for round in 0_u32.. {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if limit.is_some_and(|limit| since.elapsed() >= limit) {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        if round % 8 == 7
            && let Some(line) = last_lines(log, 1).pop()
        {
            step.progress(&line);
        }
        thread::sleep(Duration::from_millis(25));
    }
    Ok(None)
}

/// The end of a log, indented, without the command at its beginning.
fn tail(path: &Path, what: &str) -> String {
    let lines = last_lines(path, TAIL_LINES);
    let indented: Vec<String> = lines
        .iter()
        .filter(|line| line.strip_prefix("$ ") != Some(what))
        .map(|line| format!("  | {line}"))
        .collect();
    indented.join("\n")
}

/// The last lines of a file that may be long.
pub fn last_lines(path: &Path, count: usize) -> Vec<String> {
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = File::open(path)?;
        let len = file.metadata()?.len();
        file.seek(SeekFrom::Start(len.saturating_sub(32 * 1024)))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = read().unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let mut lines: Vec<String> = text
        .lines()
        .rev()
        .filter(|line| !line.trim().is_empty())
        .take(count)
        .map(str::to_owned)
        .collect();
    lines.reverse();
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_shown_as_one_would_type_it() {
        let mut command = Command::new("/usr/bin/cargo");
        command.args(["build", "--features", "a b", "it's"]);
        command.env("RUSTC", "/usr/bin/rustc").env_remove("CARGO");
        assert_eq!(
            shown(&command),
            r"RUSTC=/usr/bin/rustc /usr/bin/cargo build --features 'a b' 'it'\''s'"
        );
    }

    #[test]
    fn another_cargo_sees_the_registry_but_no_compiler() {
        for name in ["PATH", "CARGO_HOME", "CARGO_NET_OFFLINE", "RUST_BACKTRACE"] {
            assert!(another_cargo_may_see(OsStr::new(name)), "{name}");
        }
        for name in [
            "CARGO",
            "CARGO_MANIFEST_DIR",
            "CARGO_ENCODED_RUSTFLAGS",
            "CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER",
            "RUSTC",
            "RUSTC_WRAPPER",
            "RUSTFLAGS",
            "RUSTUP_TOOLCHAIN",
            "LD_LIBRARY_PATH",
        ] {
            assert!(!another_cargo_may_see(OsStr::new(name)), "{name}");
        }
    }

    #[test]
    fn a_users_own_library_path_survives() {
        let value = "/opt/lib:/home/me/.rustup/toolchains/stable/lib";
        assert_eq!(
            without_cargos_entries(OsStr::new(value)),
            Some("/opt/lib".into())
        );
        assert_eq!(
            without_cargos_entries(OsStr::new("/x/toolchains/y/lib")),
            None
        );
    }

    #[test]
    fn an_end_of_a_log_leaves_blank_lines_out() {
        let path = env::temp_dir().join(format!("xtask-log-{}", std::process::id()));
        fs::write(&path, "one\n\ntwo\nthree\n\n").unwrap();
        let lines = last_lines(&path, 2);
        fs::remove_file(&path).unwrap();
        assert_eq!(lines, ["two", "three"]);
    }
}
