//! The post-mortem as one page of HTML: no script, nothing from elsewhere, all text escaped.

use std::fmt::{self, Display, Write as _};

use super::{
    chart,
    event::What,
    markdown::{MOST_LINES, printable, shed},
    story::{Story, Surge},
    words::{self, Piece},
};

/// How a page looks, by day and by night.
pub const STYLE: &str = "\
:root{color-scheme:light dark;--ink:#1b1f24;--paper:#fff;--faint:#d0d7de;--surge:#cf222e;--calm:#57606a}\
@media(prefers-color-scheme:dark){:root{--ink:#e6edf3;--paper:#0d1117;--faint:#30363d;--surge:#ff7b72;--calm:#8b949e}}\
body{font:16px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--paper);max-width:60rem;margin:2rem auto;padding:0 1rem}\
table{border-collapse:collapse;margin:1rem 0}th,td{padding:.2rem .8rem;border-bottom:1px solid var(--faint);text-align:right}\
th:first-child,td:first-child{text-align:left}code{overflow-wrap:anywhere}svg{width:100%;height:auto}\
svg text{fill:var(--ink);font:12px system-ui,sans-serif}.line{stroke:var(--faint)}.surge{fill:var(--surge)}.calm{fill:var(--calm)}\
time{font-variant-numeric:tabular-nums;color:var(--calm)}ol{list-style:none;padding:0}";

/// Writes it.
pub fn write(story: &Story) -> String {
    let mut text = String::new();
    // Writing to a String can't fail.
    let _ = fill(&mut text, story);
    text
}

/// Text in which nothing is markup.
pub struct Safe<'a>(pub &'a str);

impl Display for Safe<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for char in printable(self.0).chars() {
            match char {
                '&' => f.write_str("&amp;"),
                '<' => f.write_str("&lt;"),
                '>' => f.write_str("&gt;"),
                '"' => f.write_str("&quot;"),
                '\'' => f.write_str("&#39;"),
                other => f.write_char(other),
            }?;
        }
        Ok(())
    }
}

fn fill(out: &mut String, story: &Story) -> fmt::Result {
    let (from, to) = story.range();
    write!(
        out,
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\
         <meta name=\"viewport\" content=\"width=device-width\">\
         <title>What tidegate saw</title><style>{STYLE}</style></head><body>\n\
         <h1>What tidegate saw</h1>\n<p>{} in {}, from {} to {} UTC.</p>\n",
        words::count(story.surges.len(), "surge"),
        words::count(story.events.len(), "event"),
        words::time(from),
        words::time(to)
    )?;
    lanes(out, story)?;
    for (index, one) in story.surges.iter().enumerate() {
        surge(out, index + 1, one)?;
    }
    timeline(out, story)?;
    out.write_str("</body></html>\n")
}

/// A line for each rule over the time of the log; surges are filled, marks are other events.
fn lanes(out: &mut String, story: &Story) -> fmt::Result {
    let rules = story.rules();
    if rules.is_empty() {
        return Ok(());
    }
    let (from, to) = story.range();
    let height = rules.len() * 28 + 24;
    writeln!(
        out,
        "<svg viewBox=\"0 0 800 {height}\" role=\"img\" aria-label=\"surges by rule over time\">"
    )?;
    let x = |part: f64| 160.0 + part * 630.0;
    for (index, rule) in rules.iter().enumerate() {
        let y = index * 28 + 4;
        writeln!(
            out,
            "<text x=\"0\" y=\"{}\">{}</text><line class=\"line\" x1=\"160\" x2=\"790\" y1=\"{2}\" y2=\"{2}\"/>",
            y + 14,
            Safe(&shortened(rule)),
            y + 10
        )?;
        for surge in story
            .surges
            .iter()
            .filter(|surge| surge.rule.as_deref() == Some(*rule))
        {
            let (start, end) = chart::stretch(story, surge);
            let width = (x(end) - x(start)).max(3.0);
            writeln!(
                out,
                "<rect class=\"surge\" x=\"{:.1}\" y=\"{y}\" width=\"{width:.1}\" height=\"20\"><title>{}</title></rect>",
                x(start),
                surge.duration.map_or("not over".to_owned(), words::span)
            )?;
        }
        for event in story
            .events
            .iter()
            .filter(|event| event.rule.as_deref() == Some(*rule))
        {
            if matches!(event.what, What::SurgeStarted(_) | What::SurgeEnded(_)) {
                continue;
            }
            writeln!(
                out,
                "<circle class=\"calm\" cx=\"{:.1}\" cy=\"{}\" r=\"4\"><title>{}</title></circle>",
                x(chart::place(story, event.at)),
                y + 10,
                event.what.name()
            )?;
        }
    }
    writeln!(
        out,
        "<text x=\"160\" y=\"{0}\">{1}</text><text x=\"790\" y=\"{0}\" text-anchor=\"end\">{2}</text></svg>",
        height - 6,
        from.strftime("%H:%M:%S"),
        to.strftime("%H:%M:%S")
    )
}

/// A name that fits beside its line.
fn shortened(name: &str) -> String {
    if name.chars().count() <= 22 {
        return name.to_owned();
    }
    name.chars().take(21).chain(['…']).collect()
}

fn surge(out: &mut String, number: usize, surge: &Surge) -> fmt::Result {
    let rule = surge.rule.as_deref().unwrap_or("no rule");
    let start = surge.start.map(words::time);
    let end = surge.end.map(words::time);
    let began = &surge.began;
    write!(
        out,
        "<h2>Surge {number}: <code>{}</code></h2>\n<p>{} to {}{}. Who: {}. Shed: {}.",
        Safe(rule),
        start.as_deref().unwrap_or("Before the log"),
        end.as_deref().unwrap_or("after the log: it was not over"),
        surge
            .duration
            .map(|span| format!(" ({})", words::span(span)))
            .unwrap_or_default(),
        words::spread(began.spread.as_deref()),
        shed(surge)
    )?;
    if let Some(inflight) = began.inflight {
        write!(out, " Inflight when it began: {}", words::whole(inflight))?;
        if let Some(limit) = surge.limit() {
            write!(out, " of {}", words::whole(limit))?;
        }
        out.write_char('.')?;
    }
    out.write_str("</p>\n")?;
    bars(out, surge)?;
    if !began.callers.is_empty() {
        out.write_str(
            "<table><tr><th>caller</th><th>now /s</th><th>usual /s</th><th>times</th><th>share</th></tr>\n",
        )?;
        for caller in &began.callers {
            let rate = |rate: Option<f64>| rate.map_or("?".to_owned(), words::rate);
            let share = caller.share.map(|share| format!("{:.0} %", share * 100.0));
            writeln!(
                out,
                "<tr><td><code>{}</code></td><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
                Safe(caller.key.as_deref().unwrap_or("?")),
                rate(caller.rate_per_s),
                rate(caller.baseline_per_s),
                words::times(caller.rate_per_s, caller.baseline_per_s),
                share.as_deref().unwrap_or("?")
            )?;
        }
        out.write_str("</table>\n")?;
    }
    if !surge.reasons.is_empty() {
        out.write_str("<table><tr><th>rejected because of</th><th></th></tr>\n")?;
        for (reason, count) in &surge.reasons {
            let count = words::whole(*count);
            writeln!(
                out,
                "<tr><td><code>{}</code></td><td>{count}</td></tr>",
                Safe(reason)
            )?;
        }
        out.write_str("</table>\n")?;
    }
    Ok(())
}

/// The rates of a surge side by side.
fn bars(out: &mut String, surge: &Surge) -> fmt::Result {
    let rates = chart::rates(surge);
    let most = rates.iter().map(|(_, rate)| *rate).fold(0.0, f64::max);
    if most <= 0.0 {
        return Ok(());
    }
    let height = rates.len() * 24;
    writeln!(
        out,
        "<svg viewBox=\"0 0 800 {height}\" role=\"img\" aria-label=\"rates\">"
    )?;
    for (index, (name, rate)) in rates.into_iter().enumerate() {
        let y = index * 24;
        let width = (rate / most * 500.0).max(1.0);
        let class = if name == "usual" { "calm" } else { "surge" };
        writeln!(
            out,
            "<text x=\"0\" y=\"{}\">{name}</text><rect class=\"{class}\" x=\"160\" y=\"{}\" width=\"{width:.1}\" height=\"18\"/>\
             <text x=\"{:.1}\" y=\"{0}\">{}/s</text>",
            y + 15,
            y + 1,
            170.0 + width,
            words::rate(rate)
        )?;
    }
    out.write_str("</svg>\n")
}

fn timeline(out: &mut String, story: &Story) -> fmt::Result {
    out.write_str("<h2>Timeline</h2>\n<ol>\n")?;
    for event in story.events.iter().take(MOST_LINES) {
        write!(
            out,
            "<li><time>{}</time> ",
            event.at.strftime("%Y-%m-%d %H:%M:%S%.3f")
        )?;
        if let Some(rule) = &event.rule {
            write!(out, "<code>{}</code>: ", Safe(rule))?;
        }
        for piece in words::sentence(event) {
            match piece {
                Piece::Plain(text) => write!(out, "{}", Safe(&text)),
                Piece::Name(name) => write!(out, "<code>{}</code>", Safe(&name)),
            }?;
        }
        out.write_str("</li>\n")?;
    }
    let more = story.events.len().saturating_sub(MOST_LINES);
    if more > 0 {
        writeln!(
            out,
            "<li>… and {more} more; <code>--format json</code> has them all</li>"
        )?;
    }
    out.write_str("</ol>\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_from_outside_is_markup() {
        let text = Safe("<script>alert('a&b\")</script>\n").to_string();
        assert_eq!(
            text,
            "&lt;script&gt;alert(&#39;a&amp;b&quot;)&lt;/script&gt;\\n"
        );
    }
}
