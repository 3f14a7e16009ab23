//! The picture of a section: normal clients served in each second, a line for each guard.

use std::fmt::Write as _;

use crate::{clients::Script, table::Row};

const WIDTH: f64 = 830.0;
const HEIGHT: f64 = 380.0;
const LEFT: f64 = 52.0;
const RIGHT: f64 = 530.0;
const TOP: f64 = 58.0;
const BOTTOM: f64 = 330.0;

/// The most that the vertical axis shows; 20 a second is normal.
const MOST: f64 = 24.0;

/// Colours for the others, which read on white and on black.
const COLOURS: [&str; 8] = [
    "#8a8f98", "#d9822b", "#c23b6b", "#7c5cd6", "#2e9e7b", "#b59a14", "#4f8fd8", "#a0623a",
];
const OURS: &str = "#1f7ae0";

/// The chart of these rows.
pub fn svg(rows: &[Row], script: &Script) -> String {
    let (lead_s, surge_s) = (script.lead_s(), script.surge.as_secs());
    let lines: Vec<Line> = rows
        .iter()
        .filter_map(|row| {
            let served = &row.result.as_ref().ok()?.served_by_second;
            (served.len() > 1).then(|| Line::new(row, served, lead_s, surge_s))
        })
        .collect();
    let seconds = lines.iter().map(|line| line.served.len()).max();
    let seconds = seconds.unwrap_or(1) as f64;
    let x = |second: f64| LEFT + (RIGHT - LEFT) * second / seconds;
    let y = |served: f64| BOTTOM - (BOTTOM - TOP) * served.min(MOST) / MOST;
    let mut svg = String::new();
    let mut put = |text: String| {
        svg.push_str(&text);
        svg.push('\n');
    };
    put(format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
         font-family=\"system-ui, sans-serif\" font-size=\"12\" role=\"img\">"
    ));
    put("<title>Normal clients served a second, through a surge</title>".to_owned());
    put(
        "<style>text{fill:#24292f}.soft{fill:#57606a}.grid{stroke:#d0d7de}.back{fill:#fff}\
         .surge{fill:#d1242f;fill-opacity:.09}\
         @media(prefers-color-scheme:dark){text{fill:#e6edf3}.soft{fill:#9aa4ae}\
         .grid{stroke:#30363d}.back{fill:#0d1117}.surge{fill:#ff7b72;fill-opacity:.14}}</style>"
            .to_owned(),
    );
    put(format!(
        "<rect class=\"back\" width=\"{WIDTH}\" height=\"{HEIGHT}\" rx=\"6\"/>"
    ));
    put(format!(
        "<text x=\"{LEFT}\" y=\"24\" font-size=\"15\" font-weight=\"600\">Normal clients through \
         a surge from one other address</text>"
    ));
    put(format!(
        "<text class=\"soft\" x=\"{LEFT}\" y=\"42\">served a second, of 20; 300 other clients \
         want the upstream's 100 connections for {surge_s} s</text>"
    ));
    let (from, to) = (x(lead_s as f64), x((lead_s + surge_s) as f64));
    put(format!(
        "<rect class=\"surge\" x=\"{from:.1}\" y=\"{TOP}\" width=\"{:.1}\" height=\"{:.1}\"/>",
        to - from,
        BOTTOM - TOP
    ));
    put(format!(
        "<text class=\"soft\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">surge</text>",
        f64::midpoint(from, to),
        TOP + 13.0
    ));
    for served in [0.0, 5.0, 10.0, 15.0, 20.0] {
        let at = y(served);
        put(format!(
            "<path class=\"grid\" d=\"M{LEFT} {at:.1}H{RIGHT}\"/>\
             <text class=\"soft\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{served}</text>",
            LEFT - 7.0,
            at + 4.0
        ));
    }
    // Marks at the multiples of five since the surge began.
    let mut second = lead_s % 5;
    while second as f64 <= seconds {
        put(format!(
            "<text class=\"soft\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            x(second as f64),
            BOTTOM + 17.0,
            second as i64 - lead_s as i64
        ));
        second += 5;
    }
    put(format!(
        "<text class=\"soft\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">seconds since the \
         surge began</text>",
        f64::midpoint(LEFT, RIGHT),
        BOTTOM + 36.0
    ));
    put(format!(
        "<text class=\"soft\" x=\"14\" y=\"{0:.1}\" text-anchor=\"middle\" \
         transform=\"rotate(-90 14 {0:.1})\">served a second</text>",
        f64::midpoint(TOP, BOTTOM)
    ));
    // Ours last: above the others.
    let mut others = COLOURS.iter().cycle();
    let coloured: Vec<(&Line, &str)> = lines
        .iter()
        .map(|line| {
            let colour = if line.ours {
                OURS
            } else {
                others.next().unwrap_or(&OURS)
            };
            (line, colour)
        })
        .collect();
    for ours in [false, true] {
        for (line, colour) in coloured.iter().filter(|(line, _)| line.ours == ours) {
            put(line.drawn(colour, &x, &y));
        }
    }
    put(format!(
        "<text class=\"soft\" x=\"{:.1}\" y=\"{TOP}\">guard; served a second in the \
         surge</text>",
        RIGHT + 14.0
    ));
    for (place, (line, colour)) in coloured.iter().enumerate() {
        put(line.legend(colour, RIGHT + 14.0, TOP + 22.0 + 21.0 * place as f64));
    }
    put("</svg>".to_owned());
    svg
}

/// A line of the chart.
struct Line<'a> {
    name: &'a str,
    served: &'a [u32],
    in_surge_per_s: f64,
    ours: bool,
    dashed: bool,
}

impl<'a> Line<'a> {
    fn new(row: &'a Row, served: &'a [u32], lead_s: u64, surge_s: u64) -> Self {
        let surge = served.iter().skip(lead_s as usize).take(surge_s as usize);
        Self {
            name: &row.name,
            served,
            in_surge_per_s: f64::from(surge.sum::<u32>()) / surge_s.max(1) as f64,
            ours: row.slug.starts_with("tidegate"),
            dashed: row.slug.contains("spread"),
        }
    }

    /// The line itself: a second is drawn in its middle.
    fn drawn(&self, colour: &str, x: &dyn Fn(f64) -> f64, y: &dyn Fn(f64) -> f64) -> String {
        let mut path = String::new();
        for (second, served) in self.served.iter().enumerate() {
            let (command, x) = (if second == 0 { 'M' } else { 'L' }, x(second as f64 + 0.5));
            write!(path, "{command}{x:.1} {:.1}", y(f64::from(*served))).ok();
        }
        format!("<path d=\"{path}\" fill=\"none\" {}/>", self.stroke(colour))
    }

    fn stroke(&self, colour: &str) -> String {
        let width = if self.ours { 3.0 } else { 1.6 };
        let dashes = if self.dashed {
            " stroke-dasharray=\"6 4\""
        } else {
            ""
        };
        format!("stroke=\"{colour}\" stroke-width=\"{width}\" stroke-linejoin=\"round\"{dashes}")
    }

    fn legend(&self, colour: &str, x: f64, y: f64) -> String {
        let weight = if self.ours {
            " font-weight=\"600\""
        } else {
            ""
        };
        format!(
            "<path d=\"M{x} {y}h18\" {}/><text x=\"{}\" y=\"{}\"{weight}>{} \
             <tspan class=\"soft\">{:.1}</tspan></text>",
            self.stroke(colour),
            x + 24.0,
            y + 4.0,
            escaped(self.name),
            self.in_surge_per_s
        )
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::table::{Measured, Unmeasured};

    #[test]
    fn every_measured_row_has_a_line_and_a_name() {
        let row = |slug, name: &str, served: &[u32]| Row {
            slug,
            name: name.to_owned(),
            result: Ok(Measured {
                served_by_second: served.to_vec(),
                ..Measured::default()
            }),
        };
        let skipped = Row {
            slug: "haproxy",
            name: "HAProxy".to_owned(),
            result: Err(Unmeasured::Impossible("it is missing".to_owned())),
        };
        let served = [20, 20, 20, 20, 20, 4, 2, 20];
        let rows = [
            row("none", "a < b", &served),
            skipped,
            row("tidegate", "tidegate", &served),
        ];
        let [calm, surge, after] = [9, 2, 1].map(Duration::from_secs);
        let script = Script { calm, surge, after };
        let svg = svg(&rows, &script);
        assert_eq!(svg.matches("fill=\"none\"").count(), 2);
        assert!(svg.contains("a &lt; b <tspan class=\"soft\">3.0</tspan>"));
        assert!(!svg.contains("HAProxy"));
    }
}
