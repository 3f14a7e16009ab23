//! `tidegatectl schema`: the JSON Schema of the plugin configuration.

use std::process::ExitCode;

use crate::report;

/// Prints it, as it is in `docs/tidegate.schema.json`.
pub fn run() -> ExitCode {
    let schema = tidegate::config::json_schema();
    report::print(format!("{schema:#}\n").as_bytes())
}
