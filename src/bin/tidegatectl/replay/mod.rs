//! `tidegatectl replay`: what the rules would have done with a trace.

mod access;
mod clock;
mod draw;
mod facts;
mod found;
mod guarded;
mod html;
mod lane;
pub(crate) mod lines;
mod own;
mod plain;
mod player;
mod series;
mod text;
pub(crate) mod trace;
mod whom;

use std::{
    borrow::Cow,
    fs::File,
    io::{self, BufRead, BufReader, IsTerminal as _},
    path::Path,
    process::ExitCode,
};

use clap::ValueEnum;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tidegate::config::{self, Build, Policy};

use crate::{
    check,
    explain::{markdown::printable, words},
    report,
};
use found::Findings;
use lines::Lines;
use player::{Player, Remarks};

/// So many lines that can't be used are shown.
const SHOWN: usize = 5;
/// The progress is shown anew after so many bytes.
const STEP: u64 = 1 << 18;

/// How the result is written.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub enum Format {
    /// A summary with charts, for a terminal.
    #[default]
    Text,
    /// JSON, for programs.
    Json,
    /// One HTML page that needs nothing else.
    Html,
}

/// Replays a trace. 0: done; 1: nothing can be used, or the configuration is wrong; 2: a file
/// could not be read.
pub fn run(config: Option<&Path>, trace: &Path, format: Format) -> ExitCode {
    if trace.as_os_str() == "-" && config.is_some_and(|config| config.as_os_str() == "-") {
        report::tell(
            "both the configuration and the trace are standard input; write one to a file",
        );
        return ExitCode::from(2);
    }
    let policy = match policy(config) {
        Ok(Some(policy)) if policy.tells_status() => {
            report::tell(
                "the configuration is for the live page and guards nothing; give one with rules",
            );
            return ExitCode::FAILURE;
        }
        Ok(Some(policy)) => policy,
        Ok(None) => return ExitCode::FAILURE,
        Err(error) => {
            let name = config.unwrap_or(Path::new("")).to_string_lossy();
            report::tell(&format!("cannot read {name}: {error}"));
            return ExitCode::from(2);
        }
    };
    let name = match trace.to_string_lossy() {
        name if name == "-" => "<stdin>".into(),
        name => name,
    };
    let replayed = match open(trace) {
        Ok((reader, size)) => replay(&policy, reader, &name, &progress(size), &mut report::tell),
        Err(error) => Err(error),
    };
    let replayed = match replayed {
        Ok(replayed) => replayed,
        Err(error) => {
            report::tell(&format!("cannot read {name}: {error}"));
            return ExitCode::from(2);
        }
    };
    let Some(findings) = replayed else {
        return ExitCode::FAILURE;
    };
    report::print(written(&findings, &policy, format).as_bytes())
}

/// The result.
pub(crate) fn written(findings: &Findings, policy: &Policy, format: Format) -> String {
    match format {
        Format::Text => text::write(findings, policy),
        Format::Html => html::write(findings, policy),
        Format::Json => json(findings),
    }
}

fn policy(config: Option<&Path>) -> io::Result<Option<Policy>> {
    match config {
        Some(file) => check::configuration(file),
        // Nothing is the default, which is right.
        None => Ok(config::parse(b"", Build::THIS).ok()),
    }
}

fn open(trace: &Path) -> io::Result<(Box<dyn BufRead>, Option<u64>)> {
    if trace.as_os_str() == "-" {
        return Ok((Box::new(io::stdin().lock()), None));
    }
    let file = File::open(trace)?;
    let data = file.metadata()?;
    let size = data.is_file().then_some(data.len());
    Ok((Box::new(BufReader::with_capacity(1 << 16, file)), size))
}

/// A bar on a terminal, and nothing elsewhere.
fn progress(size: Option<u64>) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let target = ProgressDrawTarget::stderr_with_hz(5);
    let bar = ProgressBar::with_draw_target(size, target);
    let style = ProgressStyle::with_template("replaying {bar:30} {percent}% {eta} left");
    match style {
        Ok(style) if size.is_some() => bar.with_style(style),
        _ => bar,
    }
}

/// Lines that can't be used: how many, and the first.
#[derive(Default)]
struct Refused {
    count: u64,
    first: Vec<(u64, Cow<'static, str>)>,
}

impl Refused {
    fn add(&mut self, line: u64, why: Cow<'static, str>) {
        self.count += 1;
        if self.first.len() < SHOWN {
            self.first.push((line, why));
        }
    }

    fn tell(&self, name: &str, tell: &mut dyn FnMut(&str)) {
        for (line, why) in &self.first {
            tell(&format!("{name}:{line}: left out: {why}"));
        }
        let more = self.count.saturating_sub(self.first.len() as u64);
        if more > 0 {
            let more = words::count(usize::try_from(more).unwrap_or(usize::MAX), "more line");
            tell(&format!("{name}: {more} left out"));
        }
    }
}

/// Replays the lines of a trace; none when nothing in it can be used, which is told.
pub(crate) fn replay(
    policy: &Policy,
    reader: impl BufRead,
    name: &str,
    bar: &ProgressBar,
    tell: &mut dyn FnMut(&str),
) -> io::Result<Option<Findings>> {
    let mut lines = Lines::new(reader);
    let mut refused = Refused::default();
    let mut player: Option<(trace::Format, Player<'_>)> = None;
    let mut shown = 0;
    loop {
        let read = lines.read();
        if read >= shown + STEP {
            shown = read;
            bar.set_position(read);
        }
        let Some(line) = lines.next()? else { break };
        let number = line.number;
        let Some(text) = line.text else {
            refused.add(number, "it is longer than 64 KiB".into());
            continue;
        };
        if text.is_empty() || text.starts_with('#') {
            continue;
        }
        let (format, player) = match &mut player {
            Some((format, player)) => (*format, player),
            None => {
                let (format, header) = match trace::Format::of(&text) {
                    Ok(found) => found,
                    Err(what) => {
                        bar.finish_and_clear();
                        tell(&format!("{name}:{number}: {what}"));
                        return Ok(None);
                    }
                };
                remark_limits(policy, format, tell);
                let (_, player) = player.insert((format, Player::new(policy, format)));
                if header {
                    continue;
                }
                (format, player)
            }
        };
        let taken = match format.row(text.trim_start_matches('\u{FEFF}')) {
            Ok(row) => player.take(row),
            Err(why) => Err(why),
        };
        if let Err(why) = taken {
            refused.add(number, why);
        }
    }
    bar.finish_and_clear();
    refused.tell(name, tell);
    let Some((_, player)) = player.filter(|(_, player)| player.remarks.used > 0) else {
        tell(&format!("{name}: nothing in it can be replayed"));
        return Ok(None);
    };
    let (findings, remarks) = player.finish();
    remark(policy, &remarks, name, tell);
    Ok(Some(findings))
}

/// Says once which limits the trace can't show.
fn remark_limits(policy: &Policy, format: trace::Format, tell: &mut dyn FnMut(&str)) {
    let any = |asked: &dyn Fn(&config::Rule) -> bool| policy.rules().iter().any(asked);
    if format.is_counts() && any(&|rule| rule.limits.inflight.is_some()) {
        tell(
            "limits.inflight is left out: counts don't say what is open; a trace with \
             `t,key,duration_s` or an access log does",
        );
    }
    if any(&|rule| rule.limits.connecting.is_some()) {
        tell("limits.connecting is left out: no trace says when the upstream answered");
    }
}

/// Says how the trace was taken.
fn remark(policy: &Policy, remarks: &Remarks, name: &str, tell: &mut dyn FnMut(&str)) {
    let rule = |index: usize| {
        policy
            .rules()
            .get(index)
            .map_or("", |rule| rule.name.as_str())
    };
    for (index, fact) in &remarks.lacking {
        let what = if remarks.assumed > 0 {
            "some rows don't say that, and count for it as the only rule"
        } else {
            "rows that don't say that don't match it"
        };
        tell(&format!(
            "{name}: rule {} asks for `{fact}`: {what}",
            rule(*index)
        ));
    }
    for index in &remarks.bundled {
        tell(&format!(
            "{name}: rule {}: where more than 1,000 a second exceed its limit, arrivals are decided \
             together, those of 4 ms at once",
            rule(*index)
        ));
    }
    let count =
        |number: u64, what: &str| words::count(usize::try_from(number).unwrap_or(usize::MAX), what);
    for (number, what, became) in [
        (remarks.unmatched, "arrival", "under no rule"),
        (remarks.holes, "hole", "without rows, left out"),
        (remarks.sorted, "row", "out of order, put in their place"),
    ] {
        if number > 0 {
            tell(&format!("{name}: {} {became}", count(number, what)));
        }
    }
}

fn json(findings: &Findings) -> String {
    // Numbers and strings under constant keys: there is nothing that JSON could not say.
    let mut text = serde_json::to_string(findings).unwrap_or_default();
    text.push('\n');
    text
}

/// A name for a terminal or a page.
fn shown(name: &str) -> String {
    printable(name)
}

#[cfg(test)]
mod tests;
