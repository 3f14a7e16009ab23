//! Copies of tools for users who cannot reach the checkout.

use std::{
    env, fs, io,
    os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};

/// Whether any user can reach and run the file, by its path and through every link in it.
pub fn open_to_all(program: &Path) -> bool {
    program
        .canonicalize()
        .is_ok_and(|real| path_is_open(program) && path_is_open(&real))
}

/// Whether every folder above the file, and the file, is open to any user.
fn path_is_open(program: &Path) -> bool {
    let mode = |path: &Path| fs::metadata(path).map(|data| data.permissions().mode());
    mode(program).is_ok_and(|mode| mode & 0o005 == 0o005)
        && program
            .ancestors()
            .skip(1)
            .all(|dir| mode(dir).is_ok_and(|mode| mode & 0o001 == 0o001))
}

/// A folder for temporary files that every user can reach.
pub fn open_folder() -> Result<PathBuf> {
    [env::temp_dir(), PathBuf::from("/tmp"), "/var/tmp".into()]
        .into_iter()
        .find(|dir| dir.is_absolute() && open_to_all(&dir.join(".")))
        .context("no folder for temporary files is open to every user")
}

/// Copies the folders `names` of `from` to a folder that any user can read; once.
///
/// What is already there counts only when it belongs to the user `uid` and nobody else can write to it.
pub fn to_the_open(from: &Path, names: &[&str], folder: &str, uid: u32) -> Result<PathBuf> {
    let parent = open_folder()?;
    let copy = parent.join(folder);
    if let Ok(data) = copy.symlink_metadata() {
        if data.is_dir() && data.uid() == uid && data.permissions().mode() & 0o022 == 0 {
            return Ok(copy);
        }
        bail!(
            "{} is in the way: it is not a folder that only you can write to; remove it",
            copy.display()
        );
    }
    // Complete under another name first, so that nobody takes half a copy for the whole.
    let unfinished = parent.join(format!("{folder}.{}", std::process::id()));
    let fill = || -> io::Result<()> {
        fs::DirBuilder::new().mode(0o700).create(&unfinished)?;
        for name in names {
            copy_folder(&from.join(name), &unfinished.join(name))?;
        }
        fs::set_permissions(&unfinished, fs::Permissions::from_mode(0o755))?;
        match fs::rename(&unfinished, &copy) {
            // Another process was faster, with the same content.
            Err(_) if copy.is_dir() => fs::remove_dir_all(&unfinished),
            result => result,
        }
    };
    fill().with_context(|| format!("cannot copy the tools to {}", copy.display()))?;
    Ok(copy)
}

/// Copies a folder; every user may read, nobody but the owner may write.
fn copy_folder(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        let kind = entry.file_type()?;
        if kind.is_dir() {
            copy_folder(&entry.path(), &target)?;
        } else if kind.is_symlink() {
            std::os::unix::fs::symlink(fs::read_link(entry.path())?, target)?;
        } else {
            fs::copy(entry.path(), &target)?;
            let mode = fs::metadata(&target)?.permissions().mode();
            let mode = if mode & 0o100 == 0 { 0o644 } else { 0o755 };
            fs::set_permissions(&target, fs::Permissions::from_mode(mode))?;
        }
    }
    fs::set_permissions(to, fs::Permissions::from_mode(0o755))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_folder_above_closes_the_program() {
        let root = env::temp_dir().join(format!("xtask-open-{}", std::process::id()));
        let program = root.join("inner/program");
        fs::create_dir_all(root.join("inner")).unwrap();
        fs::write(&program, "").unwrap();
        let set = |path: &Path, mode| {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        };
        set(&root, 0o755);
        set(&root.join("inner"), 0o755);
        set(&program, 0o755);
        let open = open_to_all(&program);
        set(&root, 0o700);
        let closed = open_to_all(&program);
        fs::remove_dir_all(&root).unwrap();
        assert_eq!(open, open_to_all(&env::temp_dir().join(".")));
        assert!(!closed);
    }

    #[test]
    fn a_copy_keeps_links_and_opens_what_was_closed() {
        let root = env::temp_dir().join(format!("xtask-copy-{}", std::process::id()));
        fs::create_dir_all(root.join("from/inner")).unwrap();
        let program = root.join("from/inner/program");
        fs::write(&program, "x").unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o700)).unwrap();
        std::os::unix::fs::symlink("inner/program", root.join("from/link")).unwrap();
        copy_folder(&root.join("from"), &root.join("to")).unwrap();
        let link = fs::read_link(root.join("to/link")).unwrap();
        let mode = fs::metadata(root.join("to/link")).unwrap().mode();
        fs::remove_dir_all(&root).unwrap();
        assert_eq!(link, Path::new("inner/program"));
        assert_eq!(mode & 0o777, 0o755);
    }
}
