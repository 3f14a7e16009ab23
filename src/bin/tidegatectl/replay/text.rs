//! The result for a terminal: numbers, a chart and the surges of each rule.

use std::{
    fmt::{self, Write as _},
    io,
};

use anstyle::{AnsiColor, Style};
use tidegate::{config::Policy, engine::Mode};

use super::{
    found::{Findings, Found, Surge},
    shown,
};
use crate::explain::words;

/// The rows of a chart.
const ROWS: usize = 5;
/// Columns of a chart where the width is not known, and at most.
const COLUMNS: usize = 80;
const MOST_COLUMNS: usize = 160;
/// So many surges are listed.
const MOST_SURGES: usize = 40;

/// Writes it.
pub fn write(findings: &Findings, policy: &Policy) -> String {
    let colour = anstream::AutoStream::choice(&io::stdout()) != anstream::ColorChoice::Never;
    let mut text = String::new();
    // Writing to a String can't fail.
    let _ = fill(&mut text, findings, policy, width(), colour);
    text
}

/// How wide a line may be: the terminal's width, or what `COLUMNS` says.
fn width() -> usize {
    let terminal = terminal_size::terminal_size_of(io::stdout());
    let asked = || std::env::var("COLUMNS").ok()?.parse().ok();
    terminal
        .map(|(width, _)| usize::from(width.0))
        .or_else(asked)
        .unwrap_or(COLUMNS)
        .clamp(30, MOST_COLUMNS)
}

fn fill(
    out: &mut String,
    findings: &Findings,
    policy: &Policy,
    width: usize,
    colour: bool,
) -> fmt::Result {
    for (index, rule) in findings.rules.iter().enumerate() {
        if index > 0 {
            out.write_char('\n')?;
        }
        let mode = mode(policy, index);
        let bold = style(colour, Style::new().bold());
        writeln!(out, "{bold}{}{bold:#} (mode: {mode})", rule.name)?;
        writeln!(out, "  {}", numbers(rule))?;
        if rule.arrivals == 0 {
            continue;
        }
        chart(out, rule, width, colour)?;
        surges(out, rule, colour)?;
    }
    Ok(())
}

fn style(colour: bool, style: Style) -> Style {
    if colour { style } else { Style::new() }
}

/// What must be known of the mode to understand the numbers.
pub fn mode(policy: &Policy, index: usize) -> &'static str {
    match policy.rules().get(index).map(|rule| rule.mode) {
        Some(Mode::Shadow) => "shadow, shown as if enforced",
        Some(mode) => mode.label(),
        None => "",
    }
}

/// `600 arrivals: 590 admitted, 10 rejected; …`.
pub fn numbers(rule: &Found) -> String {
    let count = |number: u64| words::whole(number as f64);
    let mut text = format!(
        "{} arrivals: {} admitted",
        count(rule.arrivals),
        count(rule.admitted)
    );
    for (number, what) in [
        (rule.held, "held"),
        (rule.redirected, "redirected"),
        (rule.rejected, "rejected"),
    ] {
        if number > 0 {
            let _ = write!(text, ", {} {what}", count(number));
        }
    }
    let reasons = rule.rejected_by_reason.most().into_iter();
    let reasons: Vec<String> = reasons
        .map(|(reason, number)| format!("{} {}", count(number), reason.label()))
        .collect();
    if !reasons.is_empty() {
        let _ = write!(text, " ({})", reasons.join(", "));
    }
    let _ = write!(text, "; {}", words::count(rule.surges.len(), "surge"));
    if !rule.watches.is_empty() {
        let _ = write!(
            text,
            ", {} on watch",
            words::count(rule.watches.len(), "time")
        );
    }
    if !rule.drift_warnings.is_empty() {
        let _ = write!(
            text,
            ", {}",
            words::count(rule.drift_warnings.len(), "drift warning")
        );
    }
    text
}

/// The mean rate in columns of blocks; those of surges are red, with a mark below.
fn chart(out: &mut String, rule: &Found, width: usize, colour: bool) -> fmt::Result {
    const EIGHTHS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let columns = rule.series.columns(width.saturating_sub(14).max(10));
    let most = columns.iter().map(|(rate, _)| *rate).fold(0.0, f64::max);
    if most <= 0.0 {
        return Ok(());
    }
    let (from, to) = rule.series.range();
    let part = (to - from) / columns.len() as f64;
    let in_surge: Vec<bool> = (0..columns.len())
        .map(|column| {
            let start = from + part * column as f64;
            rule.surges.iter().any(|surge| {
                surge.start.0 < start + part && surge.end.is_none_or(|end| end.0 > start)
            })
        })
        .collect();
    let red = style(colour, AnsiColor::Red.on_default());
    for row in (0..ROWS).rev() {
        let label = match row {
            0 => "0/s".to_owned(),
            _ if row == ROWS - 1 => format!("{}/s", words::rate(most)),
            _ => String::new(),
        };
        let mut line = format!("  {label:>10} ");
        let mut marked = false;
        for ((rate, _), surge) in columns.iter().zip(&in_surge) {
            if *surge != marked {
                marked = *surge;
                let _ = if marked {
                    write!(line, "{red}")
                } else {
                    write!(line, "{red:#}")
                };
            }
            let height = rate / most * (ROWS * 8) as f64 - (row * 8) as f64;
            // The cast saturates.
            let eighths = height.round().clamp(0.0, 8.0) as usize;
            line.push(EIGHTHS.get(eighths).copied().unwrap_or(' '));
        }
        if marked {
            let _ = write!(line, "{red:#}");
        }
        writeln!(out, "{}", line.trim_end())?;
    }
    if in_surge.contains(&true) {
        let marks: String = in_surge
            .iter()
            .map(|surge| if *surge { '▲' } else { ' ' })
            .collect();
        writeln!(out, "{:13}{red}{}{red:#}", "", marks.trim_end())?;
    }
    writeln!(out, "{:13}{} to {} UTC", "", time(from), time(to))
}

fn surges(out: &mut String, rule: &Found, colour: bool) -> fmt::Result {
    let red = style(colour, AnsiColor::Red.on_default());
    for surge in rule.surges.iter().take(MOST_SURGES) {
        writeln!(
            out,
            "  {red}surge{red:#} {} {}: {}",
            time(surge.start.0),
            lasted(surge),
            sentence(surge)
        )?;
        if let Some(caller) = surge.callers.first().filter(|_| is_named(surge)) {
            writeln!(
                out,
                "        {}: {}/s, usually {}/s, {:.0} % of all",
                shown(&caller.key),
                words::rate(caller.rate_per_s.0),
                words::rate(caller.baseline_per_s.0),
                caller.share.0 * 100.0
            )?;
        }
    }
    let more = rule.surges.len().saturating_sub(MOST_SURGES);
    if more > 0 {
        writeln!(out, "  … and {more} more; --format json has them all")?;
    }
    for at in rule.drift_warnings.iter().take(MOST_SURGES) {
        writeln!(
            out,
            "  drift {}: the rate climbs slowly and far",
            time(at.0)
        )?;
    }
    Ok(())
}

/// Whether somebody in particular is behind a surge.
pub fn is_named(surge: &Surge) -> bool {
    matches!(surge.spread, Some("one_caller" | "few_callers"))
}

/// How long it lasted, if it is over.
pub fn lasted(surge: &Surge) -> String {
    match &surge.end {
        Some(end) => format!("for {}", words::span(end.0 - surge.start.0)),
        None => "and not over".to_owned(),
    }
}

/// How much it was and who was behind it.
pub fn sentence(surge: &Surge) -> String {
    let mut text = format!(
        "{}/s at most instead of {}/s ({:.1}×)",
        words::rate(surge.peak_per_s.0),
        words::rate(surge.baseline_per_s.0),
        surge.ratio.0
    );
    if surge.by_inflight {
        text.push_str(", with more open than usual");
    }
    if surge.spread.is_some() {
        let _ = write!(text, "; {}", words::spread(surge.spread));
    }
    text
}

/// A moment, in UTC.
pub fn time(seconds: f64) -> String {
    let millis = (seconds * 1000.0).round() as i64;
    jiff::Timestamp::from_millisecond(millis).map_or_else(|_| format!("{seconds:.1}"), words::time)
}
