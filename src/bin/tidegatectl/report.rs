//! How findings are shown: to stderr, each with the place in its file.

use std::{
    fmt::Write as _,
    io::{self, Write as _},
    ops::Range,
    process::ExitCode,
};

use anstream::ColorChoice;
use miette::{
    GraphicalReportHandler, GraphicalTheme, LabeledSpan, MietteDiagnostic, NamedSource, Report,
    Severity,
};

/// Something about a file that should be otherwise.
#[derive(Debug)]
pub struct Finding {
    /// Whether it works all the same.
    pub severity: Severity,
    /// What is there, and what to write.
    pub what: String,
    /// The bytes it is about.
    pub place: Range<usize>,
}

impl Finding {
    /// What does not work.
    pub fn error(what: impl Into<String>, place: Range<usize>) -> Self {
        Self {
            severity: Severity::Error,
            what: what.into(),
            place,
        }
    }

    /// What works, and maybe not as it was meant.
    pub fn warning(what: impl Into<String>, place: Range<usize>) -> Self {
        Self {
            severity: Severity::Warning,
            ..Self::error(what, place)
        }
    }

    /// Whether it is an error.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

/// Shows the findings of a file on stderr, in the order of the file.
pub fn show(name: &str, text: &str, findings: &mut [Finding]) {
    let colour = anstream::AutoStream::choice(&io::stderr()) != ColorChoice::Never;
    let lines = render(name, text, findings, colour);
    // Nobody is left to be told when this fails.
    let _ = io::stderr().write_all(lines.as_bytes());
}

/// The findings of a file as they are shown, in the order of the file.
pub fn render(name: &str, text: &str, findings: &mut [Finding], colour: bool) -> String {
    findings.sort_by_key(|finding| finding.place.start);
    let theme = if colour {
        GraphicalTheme::unicode()
    } else {
        GraphicalTheme::unicode_nocolor()
    };
    let handler = GraphicalReportHandler::new_themed(theme)
        .with_width(width())
        .with_links(false)
        .without_syntax_highlighting();
    let mut lines = String::new();
    for finding in findings {
        let place = clip(text, finding.place.clone());
        let diagnostic = MietteDiagnostic::new(&finding.what)
            .with_severity(finding.severity)
            .with_label(LabeledSpan::new_primary_with_span(None, place));
        let source = NamedSource::new(name, text.to_owned());
        let report = Report::new(diagnostic).with_source_code(source);
        if handler.render_report(&mut lines, report.as_ref()).is_err() {
            let _ = writeln!(lines, "{name}: {}", finding.what);
        }
        lines.push('\n');
    }
    lines
}

/// Tells something on stderr, in one line.
pub fn tell(line: &str) {
    let _ = writeln!(io::stderr(), "tidegatectl: {line}");
}

/// Prints a result on stdout. 0: done; 2: it could not be written.
pub fn print(bytes: &[u8]) -> ExitCode {
    match io::stdout().lock().write_all(bytes) {
        Ok(()) => ExitCode::SUCCESS,
        // Who reads has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            tell(&format!("cannot write: {error}"));
            ExitCode::from(2)
        }
    }
}

/// How wide the lines may be: as the terminal is, and unbroken where a program reads them.
fn width() -> usize {
    terminal_size::terminal_size_of(io::stderr())
        .map_or(usize::from(u16::MAX), |(width, _)| width.0.into())
}

/// Of several lines the first; at least nothing, never outside the text.
fn clip(text: &str, place: Range<usize>) -> Range<usize> {
    let floor = |at: usize| {
        let at = at.min(text.len());
        (0..=at).rev().find(|at| text.is_char_boundary(*at))
    };
    let start = floor(place.start).unwrap_or(0);
    let end = floor(place.end).unwrap_or(start).max(start);
    let line = text.get(start..end).unwrap_or_default();
    let line = line.split(['\n', '\r']).next().unwrap_or_default();
    start..start + line.trim_ascii_end().len()
}
