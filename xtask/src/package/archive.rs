//! Archives with the same bytes for the same content, whoever packs it and wherever.

use std::io::Write as _;

use anyhow::Result;
use flate2::{Compression, GzBuilder};
use tar::{Builder, EntryType, Header};

/// A file in an archive.
pub struct Entry<'a> {
    /// Its path.
    pub path: &'a str,
    /// Its permissions.
    pub mode: u32,
    /// What is in it.
    pub content: &'a [u8],
}

/// The files as a tar archive: owned by root, all of one time.
pub fn tar(entries: &[Entry<'_>], time: u64) -> Result<Vec<u8>> {
    let mut archive = Builder::new(Vec::new());
    for entry in entries {
        let mut header = Header::new_ustar();
        header.set_entry_type(EntryType::Regular);
        header.set_mode(entry.mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(time);
        header.set_size(u64::try_from(entry.content.len())?);
        archive.append_data(&mut header, entry.path, entry.content)?;
    }
    Ok(archive.into_inner()?)
}

/// The content, compressed; the header names no file, no time and no system.
pub fn gzip(content: &[u8]) -> Result<Vec<u8>> {
    const UNKNOWN_SYSTEM: u8 = 255;
    let mut encoder = GzBuilder::new()
        .mtime(0)
        .operating_system(UNKNOWN_SYSTEM)
        .write(Vec::new(), Compression::best());
    encoder.write_all(content)?;
    Ok(encoder.finish()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gzip_header_says_nothing_about_where_it_was_made() {
        let packed = gzip(b"content").unwrap();
        // Magic, deflate, no flags, no time, best compression, no system.
        assert_eq!(packed[..10], [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 2, 255]);
    }

    #[test]
    fn an_archive_keeps_its_order_and_fixes_the_rest() {
        let entries = ["second", "first"].map(|path| Entry {
            path,
            mode: 0o755,
            content: path.as_bytes(),
        });
        let bytes = tar(&entries, 86_400).unwrap();
        assert_eq!(bytes, tar(&entries, 86_400).unwrap());
        let mut archive = tar::Archive::new(bytes.as_slice());
        let seen: Vec<_> = archive
            .entries()
            .unwrap()
            .map(|entry| {
                let entry = entry.unwrap();
                let header = entry.header();
                let owner = (header.uid().unwrap(), header.gid().unwrap());
                let (mode, time) = (header.mode().unwrap(), header.mtime().unwrap());
                (
                    entry.path().unwrap().display().to_string(),
                    owner,
                    mode,
                    time,
                )
            })
            .collect();
        let expected = ["second", "first"].map(|path| (path.to_owned(), (0, 0), 0o755, 86_400));
        assert_eq!(seen, expected);
    }
}
