//! What several tests of the repository's own commands need.

use std::{
    env, fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
};

use crate::{
    process::{tool, which},
    setup::PUBLISHING,
};

/// Says what is not tested, and why, past the capture of the tests' output.
pub fn skip(test: &str, why: &str) {
    let notice = format!("\nSKIPPED: {test}: {why}\n");
    std::io::stderr().write_all(notice.as_bytes()).ok();
}

/// Whether what publishes a release is there, or a loud word about what is not tested.
pub fn can_publish(test: &str) -> bool {
    let there = PUBLISHING.is_there();
    if !there {
        skip(test, &PUBLISHING.loss());
    }
    there
}

/// What a program of `PATH` prints; it must succeed.
pub fn said(program: &str, args: &[&str], folder: &Path) -> String {
    let mut command: Command = tool(which(program).expect(program));
    command.args(args).current_dir(folder).stdin(Stdio::null());
    let output = command.output().expect(program);
    let (out, err) = [output.stdout, output.stderr]
        .map(|bytes| String::from_utf8(bytes).expect("UTF-8"))
        .into();
    assert!(output.status.success(), "{program} {args:?}: {out}{err}");
    out
}

/// A file of the repository.
pub fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

/// A folder that is removed with everything in it.
pub struct Folder(PathBuf);

impl Folder {
    /// A new one.
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("tidegate-xtask-{}-{number}", std::process::id());
        let path = env::temp_dir().join(name);
        fs::create_dir_all(&path).expect("a folder");
        Self(path)
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).ok();
    }
}
