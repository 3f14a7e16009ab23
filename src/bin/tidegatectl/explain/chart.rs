//! Places and lengths for charts, in text and in drawings.

use jiff::Timestamp;

use super::story::{Story, Surge};

/// The columns of a chart in text.
const COLUMNS: usize = 60;

/// Where on a line from 0 to 1 a moment is.
pub fn place(story: &Story, at: Timestamp) -> f64 {
    let (from, to) = story.range();
    let whole = to.duration_since(from).as_secs_f64();
    if whole <= 0.0 {
        return 0.0;
    }
    (at.duration_since(from).as_secs_f64() / whole).clamp(0.0, 1.0)
}

/// Where a surge begins and ends on that line; what is not known is the edge.
pub fn stretch(story: &Story, surge: &Surge) -> (f64, f64) {
    let start = surge.start.map_or(0.0, |at| place(story, at));
    let end = surge.end.map_or(1.0, |at| place(story, at));
    (start, end.max(start))
}

/// A line for each rule, with the surges filled; an arrow is a surge that was not over.
pub fn lanes(story: &Story) -> Vec<(String, String)> {
    let rules = story.rules();
    let lanes = rules.into_iter().map(|rule| {
        let mut lane = vec!['·'; COLUMNS];
        for surge in &story.surges {
            if surge.rule.as_deref() != Some(rule) {
                continue;
            }
            let (start, end) = stretch(story, surge);
            // The casts saturate.
            let first = (start * (COLUMNS - 1) as f64).round() as usize;
            let last = (end * (COLUMNS - 1) as f64).round() as usize;
            for cell in lane.iter_mut().take(last + 1).skip(first) {
                *cell = '█';
            }
            if surge.end.is_none()
                && let Some(cell) = lane.last_mut()
            {
                *cell = '▶';
            }
        }
        (rule.to_owned(), lane.into_iter().collect())
    });
    lanes.collect()
}

/// The rates of a surge that are known, with their names.
pub fn rates(surge: &Surge) -> Vec<(&'static str, f64)> {
    let began = &surge.began;
    let all = [
        ("usual", began.baseline_per_s),
        ("at the start", began.rate_per_s),
        ("peak", surge.peak),
    ];
    let known = all
        .into_iter()
        .filter_map(|(name, rate)| Some((name, rate?)));
    known
        .filter(|(_, rate)| rate.is_finite() && *rate >= 0.0)
        .collect()
}

/// A bar of up to 40 columns, to an eighth of a column.
pub fn bar(part: f64) -> String {
    const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    let eighths = (part.clamp(0.0, 1.0) * 40.0 * 8.0).round() as usize;
    let rest = EIGHTHS.get(eighths % 8).copied().unwrap_or_default();
    match eighths {
        0 => "▏".to_owned(),
        _ => format!("{}{rest}", "█".repeat(eighths / 8)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_as_long_as_its_part() {
        assert_eq!(bar(1.0).chars().count(), 40);
        assert_eq!(bar(0.5), "█".repeat(20));
        assert_eq!(bar(0.0), "▏");
        assert_eq!(bar(f64::NAN).chars().count(), 1);
    }
}
