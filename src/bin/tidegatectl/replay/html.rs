//! The result as one page of HTML: no script, nothing from elsewhere, all text escaped.

use std::fmt::{self, Write as _};

use tidegate::config::Policy;

use super::{
    found::{Findings, Found},
    text::{is_named, lasted, mode, numbers, sentence, time},
};
use crate::explain::{
    html::{STYLE, Safe},
    words,
};

/// What the charts add to the look of all pages.
const CHART: &str = "\
.rate{fill:none;stroke:var(--ink);stroke-width:1.2}.base{fill:none;stroke:var(--calm);stroke-dasharray:4 3}\
rect.surge{fill-opacity:.35}.watch{fill:var(--calm);fill-opacity:.18}.drift{stroke:var(--calm);stroke-width:2}";
/// The chart's size, and where its plot begins.
const WIDTH: f64 = 800.0;
const HEIGHT: f64 = 220.0;
const LEFT: f64 = 70.0;
const BOTTOM: f64 = 195.0;
/// The plot's columns at most.
const COLUMNS: usize = 720;
/// So many surges and watches of a rule are shown.
const MOST: usize = 1000;

/// Writes it.
pub fn write(findings: &Findings, policy: &Policy) -> String {
    let mut text = String::new();
    // Writing to a String can't fail.
    let _ = fill(&mut text, findings, policy);
    text
}

fn fill(out: &mut String, findings: &Findings, policy: &Policy) -> fmt::Result {
    write!(
        out,
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\
         <meta name=\"viewport\" content=\"width=device-width\">\
         <title>What tidegate would have done</title><style>{STYLE}{CHART}</style></head><body>\n\
         <h1>What tidegate would have done</h1>\n"
    )?;
    for (index, rule) in findings.rules.iter().enumerate() {
        let mode = mode(policy, index);
        write!(
            out,
            "<h2><code>{}</code> (mode: {mode})</h2>\n<p>{}.</p>\n",
            Safe(&rule.name),
            Safe(&numbers(rule))
        )?;
        if rule.arrivals > 0 {
            chart(out, rule)?;
            surges(out, rule)?;
        }
    }
    out.write_str("</body></html>\n")
}

/// The rate, the baseline, and behind them surges and watches.
fn chart(out: &mut String, rule: &Found) -> fmt::Result {
    let (from, to) = rule.series.range();
    let columns = rule.series.columns(COLUMNS);
    let rates = columns
        .iter()
        .map(|(rate, base)| rate.max(base.unwrap_or(0.0)));
    let most = rates.fold(0.0, f64::max);
    if most <= 0.0 || to <= from {
        return Ok(());
    }
    let x = |at: f64| LEFT + ((at - from) / (to - from)).clamp(0.0, 1.0) * (WIDTH - LEFT - 10.0);
    let y = |rate: f64| BOTTOM - rate / most * (BOTTOM - 15.0);
    writeln!(
        out,
        "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"arrival rate and baseline over time\">"
    )?;
    let stretch = |out: &mut String, class: &str, start: f64, end: Option<f64>| {
        let (left, right) = (x(start), x(end.unwrap_or(to)));
        let width = (right - left).max(1.0);
        writeln!(
            out,
            "<rect class=\"{class}\" x=\"{left:.1}\" y=\"15\" width=\"{width:.1}\" height=\"{:.1}\"><title>{}</title></rect>",
            BOTTOM - 15.0,
            Safe(&format!("{class} {}", time(start)))
        )
    };
    for watch in rule.watches.iter().take(MOST) {
        stretch(out, "watch", watch.start.0, watch.end.map(|end| end.0))?;
    }
    for surge in rule.surges.iter().take(MOST) {
        stretch(out, "surge", surge.start.0, surge.end.map(|end| end.0))?;
    }
    for at in rule.drift_warnings.iter().take(MOST) {
        writeln!(
            out,
            "<line class=\"drift\" x1=\"{0:.1}\" x2=\"{0:.1}\" y1=\"15\" y2=\"{BOTTOM}\"><title>drift warning</title></line>",
            x(at.0)
        )?;
    }
    let step = (to - from) / columns.len() as f64;
    let middle = |column: usize| x(from + step * (column as f64 + 0.5));
    line(
        out,
        "base",
        columns
            .iter()
            .enumerate()
            .filter_map(|(column, (_, base))| Some((middle(column), y((*base)?)))),
    )?;
    line(
        out,
        "rate",
        columns
            .iter()
            .enumerate()
            .map(|(column, (rate, _))| (middle(column), y(*rate))),
    )?;
    writeln!(
        out,
        "<line class=\"line\" x1=\"{LEFT}\" x2=\"{0}\" y1=\"{BOTTOM}\" y2=\"{BOTTOM}\"/>\
         <text x=\"{1}\" y=\"25\" text-anchor=\"end\">{2}/s</text>\
         <text x=\"{1}\" y=\"{BOTTOM}\" text-anchor=\"end\">0</text>\
         <text x=\"{LEFT}\" y=\"{3}\">{4}</text><text x=\"{0}\" y=\"{3}\" text-anchor=\"end\">{5} UTC</text></svg>\n\
         <p>Line: arrivals a second. Dashes: the baseline. Red: surge. Grey: watch.</p>",
        WIDTH - 10.0,
        LEFT - 6.0,
        words::rate(most),
        BOTTOM + 18.0,
        time(from),
        time(to)
    )
}

fn line(out: &mut String, class: &str, points: impl Iterator<Item = (f64, f64)>) -> fmt::Result {
    write!(out, "<polyline class=\"{class}\" points=\"")?;
    for (x, y) in points {
        write!(out, "{x:.1},{y:.1} ")?;
    }
    out.write_str("\"/>\n")
}

fn surges(out: &mut String, rule: &Found) -> fmt::Result {
    if rule.surges.is_empty() {
        return Ok(());
    }
    out.write_str("<ol>\n")?;
    for surge in rule.surges.iter().take(MOST) {
        write!(
            out,
            "<li><time>{}</time> {}: {}",
            time(surge.start.0),
            Safe(&lasted(surge)),
            Safe(&sentence(surge))
        )?;
        for caller in surge.callers.iter().filter(|_| is_named(surge)) {
            write!(
                out,
                "<br><code>{}</code>: {}/s, usually {}/s, {:.0} % of all",
                Safe(&caller.key),
                words::rate(caller.rate_per_s.0),
                words::rate(caller.baseline_per_s.0),
                caller.share.0 * 100.0
            )?;
        }
        out.write_str("</li>\n")?;
    }
    out.write_str("</ol>\n")?;
    let more = rule.surges.len().saturating_sub(MOST);
    if more > 0 {
        writeln!(
            out,
            "<p>… and {more} more; <code>--format json</code> has them all.</p>"
        )?;
    }
    Ok(())
}
