//! `tidegatectl check`: any file is read to its end, and each finding can be shown.

use crate::{check::check_text, report};

/// The bytes are a file.
pub fn run(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let mut checked = check_text(&text);
    assert!(
        checked
            .findings
            .iter()
            .all(|finding| !finding.what.is_empty())
    );
    report::render("file", &text, &mut checked.findings, false);
}
