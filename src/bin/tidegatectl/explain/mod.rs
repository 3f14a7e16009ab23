//! `tidegatectl explain`: what happened, from the event lines of a log.

mod chart;
mod event;
pub(crate) mod html;
pub(crate) mod markdown;
pub(crate) mod read;
pub(crate) mod story;
pub(crate) mod words;

use std::{
    fs::File,
    io::{self, BufRead, BufReader},
    path::Path,
    process::ExitCode,
};

use clap::ValueEnum;

use crate::report;
use story::Story;

/// How the post-mortem is written.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub enum Format {
    /// Markdown, for a wiki or an issue.
    #[default]
    Markdown,
    /// One HTML page that needs nothing else.
    Html,
    /// JSON, for programs.
    Json,
}

/// Explains a log. 0: done; 1: it holds no event; 2: it could not be read.
pub fn run(log: &Path, format: Format) -> ExitCode {
    let (name, opened): (_, io::Result<Box<dyn BufRead>>) = if log.as_os_str() == "-" {
        ("<stdin>".into(), Ok(Box::new(io::stdin().lock())))
    } else {
        let file = File::open(log).map(|file| Box::new(BufReader::new(file)) as Box<dyn BufRead>);
        (log.to_string_lossy(), file)
    };
    let lines = match opened.and_then(read::lines) {
        Ok(lines) => lines,
        Err(error) => {
            report::tell(&format!("cannot read {name}: {error}"));
            return ExitCode::from(2);
        }
    };
    for (count, what) in [
        (
            lines.malformed,
            "not understood: no JSON object with a time behind the mark",
        ),
        (lines.unknown, "of an unknown kind, left out"),
    ] {
        if count > 0 {
            let lines = words::count(count, "event line");
            report::tell(&format!("{name}: {lines} {what}"));
        }
    }
    if lines.events.is_empty() {
        report::tell(&format!(
            "{name}: no event; events are the lines with `tidegate_event`, which Envoy logs at \
             level info and above (--component-log-level wasm:info)"
        ));
        return ExitCode::FAILURE;
    }
    let story = Story::of(lines);
    report::print(written(&story, format).as_bytes())
}

/// The post-mortem.
pub(crate) fn written(story: &Story, format: Format) -> String {
    match format {
        Format::Markdown => markdown::write(story),
        Format::Html => html::write(story),
        Format::Json => story.to_json(),
    }
}
