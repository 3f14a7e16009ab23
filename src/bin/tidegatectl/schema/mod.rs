//! `tidegatectl schema`: every field of the plugin configuration, for programs and for people.

mod markdown;

use std::process::ExitCode;

use clap::ValueEnum;

use crate::report;

/// How the fields are written.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub enum Format {
    /// JSON Schema, for editors and programs.
    #[default]
    Json,
    /// Markdown, to read.
    Markdown,
}

/// Prints it, as it is in `docs/tidegate.schema.json` or `docs/configuration.md`.
pub fn run(format: Format) -> ExitCode {
    let schema = tidegate::config::json_schema();
    let text = match format {
        Format::Json => format!("{schema:#}\n"),
        Format::Markdown => markdown::write(&schema),
    };
    report::print(text.as_bytes())
}
