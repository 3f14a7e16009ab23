//! The post-mortem in Markdown.

use std::fmt::Write as _;

use super::{
    chart,
    story::{Story, Surge},
    words::{self, Piece},
};

/// More lines of the timeline than this are left to the JSON.
pub const MOST_LINES: usize = 200;

/// The reason that is no normal caller's.
const HOT: &str = "hot_caller";

/// Writes it.
pub fn write(story: &Story) -> String {
    let mut text = String::new();
    // Writing to a String can't fail.
    let _ = fill(&mut text, story);
    text
}

fn fill(out: &mut String, story: &Story) -> std::fmt::Result {
    let (from, to) = story.range();
    writeln!(out, "# What tidegate saw\n")?;
    writeln!(
        out,
        "{} in {}, from {} to {} UTC.\n",
        words::count(story.surges.len(), "surge"),
        words::count(story.events.len(), "event"),
        words::time(from),
        words::time(to)
    )?;
    let lanes = chart::lanes(story);
    if !story.surges.is_empty() {
        writeln!(out, "```text")?;
        let width = lanes
            .iter()
            .map(|(rule, _)| printable(rule).chars().count())
            .max();
        let width = width.unwrap_or(0);
        for (rule, lane) in &lanes {
            writeln!(out, "{:width$}  {lane}", printable(rule))?;
        }
        let from = from.strftime("%H:%M:%S").to_string();
        let to = to.strftime("%H:%M:%S").to_string();
        writeln!(out, "{:width$}  {from}{to:>52}\n```\n", "")?;
    }
    for (index, one) in story.surges.iter().enumerate() {
        surge(out, index + 1, one)?;
    }
    timeline(out, story)
}

fn surge(out: &mut String, number: usize, surge: &Surge) -> std::fmt::Result {
    let rule = surge.rule.as_deref().map(code);
    writeln!(
        out,
        "## Surge {number}: {}\n",
        rule.as_deref().unwrap_or("no rule")
    )?;
    let start = surge.start.map(words::time);
    let end = surge.end.map(words::time);
    writeln!(
        out,
        "- When: {} to {}{}",
        start.as_deref().unwrap_or("before the log"),
        end.as_deref().unwrap_or("after the log: it was not over"),
        surge
            .duration
            .map(|span| format!(" ({})", words::span(span)))
            .unwrap_or_default()
    )?;
    let began = &surge.began;
    if let Some(rate) = began.rate_per_s {
        write!(out, "- How much: {}/s", words::rate(rate))?;
        if let Some(usual) = began.baseline_per_s {
            write!(out, " instead of {}/s", words::rate(usual))?;
        }
        if let Some(ratio) = surge.ratio() {
            write!(out, ", {}×", words::rate(ratio))?;
        }
        if let Some(peak) = surge.peak {
            write!(out, "; {}/s at the peak", words::rate(peak))?;
        }
        writeln!(out)?;
    }
    if let Some(inflight) = began.inflight {
        let limit = surge
            .limit()
            .map(|limit| format!(" of {}", words::whole(limit)));
        let limit = limit.unwrap_or_default();
        writeln!(
            out,
            "- Inflight when it began: {}{limit}",
            words::whole(inflight)
        )?;
    }
    writeln!(out, "- Who: {}", culprit(surge))?;
    writeln!(out, "- Shed: {}", shed(surge))?;
    writeln!(out)?;

    let rates = chart::rates(surge);
    let most = rates.iter().map(|(_, rate)| *rate).fold(0.0, f64::max);
    if most > 0.0 {
        writeln!(out, "```text")?;
        for (name, rate) in rates {
            let bar = chart::bar(rate / most);
            writeln!(out, "{name:12}  {bar} {}/s", words::rate(rate))?;
        }
        writeln!(out, "```\n")?;
    }
    if !began.callers.is_empty() {
        writeln!(out, "| caller | now /s | usual /s | times | share |")?;
        writeln!(out, "|---|---:|---:|---:|---:|")?;
        for caller in &began.callers {
            let rate = |rate: Option<f64>| rate.map_or("?".to_owned(), words::rate);
            let share = caller.share.map(|share| format!("{:.0} %", share * 100.0));
            writeln!(
                out,
                "| {} | {} | {} | {} | {} |",
                code(caller.key.as_deref().unwrap_or("?")),
                rate(caller.rate_per_s),
                rate(caller.baseline_per_s),
                words::times(caller.rate_per_s, caller.baseline_per_s),
                share.as_deref().unwrap_or("?")
            )?;
        }
        writeln!(out)?;
    }
    if !surge.reasons.is_empty() {
        writeln!(out, "| rejected because of | |\n|---|---:|")?;
        for (reason, count) in &surge.reasons {
            writeln!(out, "| {} | {} |", code(reason), words::whole(*count))?;
        }
        writeln!(out)?;
    }
    Ok(())
}

/// Who caused it, in words.
fn culprit(surge: &Surge) -> String {
    let spread = words::spread(surge.began.spread.as_deref());
    let Some(first) = surge.began.callers.first() else {
        return spread.to_owned();
    };
    let mut text = format!("{spread}; {}", code(first.key.as_deref().unwrap_or("?")));
    if let Some(rate) = first.rate_per_s {
        text += &format!(" made {}/s", words::rate(rate));
    }
    match words::times(first.rate_per_s, first.baseline_per_s).as_str() {
        "?" => {}
        "new" => text += ", and none before",
        times => text += &format!(", {times} its usual rate"),
    }
    if let Some(share) = first.share {
        text += &format!(", {:.0} % of all", share * 100.0);
    }
    text
}

/// What was shed, in words.
pub fn shed(surge: &Surge) -> String {
    let rejected = surge.rejected.map(|count| {
        let mut text = format!("{} rejected", words::whole(count));
        // What it is for, and what it cost.
        if !surge.reasons.is_empty() {
            let others = surge.reasons.iter().filter(|(reason, _)| *reason != HOT);
            let normal: f64 = others.map(|(_, count)| count).sum();
            text += &format!(" ({} of them of normal callers)", words::whole(normal));
        }
        text
    });
    let held = surge
        .held
        .map(|count| format!("{} held", words::whole(count)));
    let known: Vec<_> = rejected.into_iter().chain(held).collect();
    if known.is_empty() {
        "not known".to_owned()
    } else {
        known.join(", ")
    }
}

fn timeline(out: &mut String, story: &Story) -> std::fmt::Result {
    writeln!(out, "## Timeline\n")?;
    for event in story.events.iter().take(MOST_LINES) {
        let time = event.at.strftime("%Y-%m-%d %H:%M:%S%.3f");
        write!(out, "- {time} ")?;
        if let Some(rule) = &event.rule {
            write!(out, "{}: ", code(rule))?;
        }
        for piece in words::sentence(event) {
            match piece {
                Piece::Plain(text) => out.push_str(&text),
                Piece::Name(name) => out.push_str(&code(&name)),
            }
        }
        writeln!(out)?;
    }
    let more = story.events.len().saturating_sub(MOST_LINES);
    if more > 0 {
        writeln!(out, "- … and {more} more; `--format json` has them all")?;
    }
    Ok(())
}

/// A name as code: nothing in it can end the code, the cell of a table or the line.
fn code(name: &str) -> String {
    let name = printable(name).replace('`', "ˋ").replace('|', "\\|");
    if name.is_empty() {
        return "(empty)".to_owned();
    }
    format!("`{name}`")
}

/// At most 100 characters, without any that change what is around them.
pub fn printable(name: &str) -> String {
    let mut line = String::new();
    for (index, char) in name.chars().enumerate() {
        if index == 100 {
            line.push('…');
            break;
        }
        let bidi = matches!(char, '\u{200E}' | '\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}');
        if char.is_control() || bidi || matches!(char, '\u{2028}' | '\u{2029}') {
            line.extend(char.escape_default());
        } else {
            line.push(char);
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_can_not_leave_its_code() {
        assert_eq!(code("a`b|c\n# d\u{202E}"), "`aˋb\\|c\\n# d\\u{202e}`");
        assert_eq!(code(""), "(empty)");
        assert!(code(&"x".repeat(1000)).chars().count() <= 103);
    }
}
