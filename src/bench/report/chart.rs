//! Charts as SVG: bars on a logarithmic scale, lines over percentiles, bars that are stacked from parts.
//!
//! Colours are classes, which the page (or the style inside a file that stands alone) gives for light and dark.

use std::fmt::Write as _;
use std::time::Duration;

use super::html::escape;
use super::{rate, time};

/// Width of every chart, in pixels at its natural size; it scales with the page.
const WIDTH: f64 = 760.0;
/// Of the labels on the left.
const LABELS: f64 = 210.0;
/// Of the figures on the right.
const FIGURES: f64 = 90.0;
const ROW: f64 = 30.0;
const BAR: f64 = 18.0;
const TOP: f64 = 34.0;
const LEGEND_ROW: f64 = 22.0;

/// How many colours there are: `s0` to `s7`.
const SERIES: usize = 8;
/// How many kinds of dashes there are: `d0`, a line without gaps, to `d3`.
const DASHES: usize = 4;

/// One bar: its label, what is measured, the number of its colour.
pub(super) struct Bar {
    pub(super) label: String,
    pub(super) value: f64,
    pub(super) series: usize,
}

/// One line: its label, the numbers of its colour and of its dashes, and a time for each percentile.
pub(super) struct Line {
    pub(super) label: String,
    pub(super) series: usize,
    pub(super) dash: usize,
    pub(super) points: Vec<(&'static str, Duration)>,
}

/// One stacked bar.
pub(super) struct Stack {
    pub(super) label: String,
    pub(super) parts: Vec<(&'static str, Duration)>,
}

/// Requests a second; each line of the grid is ten times the one before.
pub(super) fn bars(title: &str, bars: &[Bar]) -> String {
    let values = bars.iter().map(|bar| bar.value).filter(|value| *value > 0.0);
    let (low, high) = decades(values);
    let (left, right) = (LABELS, WIDTH - FIGURES);
    let x =
        |value: f64| left + (right - left) * (value.max(low).log10() - low.log10()) / (high / low).log10();
    let height = TOP + ROW * bars.len() as f64 + 8.0;
    let mut out = open(title, height);
    let mut line = low;
    while line <= high * 1.001 {
        let at = x(line);
        let _ = write!(
            out,
            r#"<line class="grid" x1="{at:.1}" x2="{at:.1}" y1="{:.1}" y2="{height:.1}"/><text class="tick" x="{at:.1}" y="{:.1}" text-anchor="middle">{}</text>"#,
            TOP - 6.0,
            TOP - 12.0,
            rate(line).trim_end_matches(".0")
        );
        line *= 10.0;
    }
    for (index, bar) in bars.iter().enumerate() {
        let y = TOP + ROW * index as f64;
        label(&mut out, &bar.label, y);
        let width = if bar.value > 0.0 { (x(bar.value) - left).max(1.0) } else { 0.0 };
        let _ = write!(
            out,
            r#"<rect class="s{}" x="{left:.1}" y="{y:.1}" width="{width:.1}" height="{BAR}" rx="2"/><text class="figure" x="{:.1}" y="{:.1}">{}</text>"#,
            bar.series % SERIES,
            left + width + 6.0,
            y + 13.5,
            rate(bar.value)
        );
    }
    close(out)
}

/// Latency over percentiles, the times on a logarithmic scale.
pub(super) fn lines(title: &str, lines: &[Line]) -> String {
    let times = lines.iter().flat_map(|line| &line.points).map(|(_, time)| time.as_secs_f64());
    let (low, high) = decades(times.filter(|time| *time > 0.0));
    let (left, right, top, bottom) = (70.0, WIDTH - 20.0, 24.0, 284.0);
    let y =
        |time: f64| bottom - (bottom - top) * (time.max(low).log10() - low.log10()) / (high / low).log10();
    let names: Vec<&str> =
        lines.first().map(|line| line.points.iter().map(|(name, _)| *name).collect()).unwrap_or_default();
    let x =
        |index: usize| left + 30.0 + (right - left - 60.0) * index as f64 / (names.len().max(2) - 1) as f64;
    let mut out = open(title, bottom + 46.0 + LEGEND_ROW * lines.len() as f64);
    let mut grid = low;
    while grid <= high * 1.001 {
        let at = y(grid);
        let _ = write!(
            out,
            r#"<line class="grid" x1="{left:.1}" x2="{right:.1}" y1="{at:.1}" y2="{at:.1}"/><text class="tick" x="{:.1}" y="{:.1}" text-anchor="end">{}</text>"#,
            left - 8.0,
            at + 4.0,
            time(Duration::from_secs_f64(grid)).replace(".0 ", " ").replace(".00 ", " ")
        );
        grid *= 10.0;
    }
    for (index, name) in names.iter().enumerate() {
        let _ = write!(
            out,
            r#"<text class="tick" x="{:.1}" y="{:.1}" text-anchor="middle">{name}</text>"#,
            x(index),
            bottom + 18.0
        );
    }
    for (number, line) in lines.iter().enumerate() {
        let points: Vec<(f64, f64)> = line
            .points
            .iter()
            .enumerate()
            .map(|(index, (_, time))| (x(index), y(time.as_secs_f64())))
            .collect();
        let path: Vec<String> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        let (series, dash) = (line.series % SERIES, line.dash % DASHES);
        let class = format!("line l{series} d{dash}");
        let _ = write!(out, r#"<polyline class="{class}" points="{}"/>"#, path.join(" "));
        for (x, y) in points {
            let _ = write!(out, r#"<circle class="s{series}" cx="{x:.1}" cy="{y:.1}" r="3.5"/>"#);
        }
        let row = bottom + 46.0 + LEGEND_ROW * number as f64;
        let (end, middle) = (left + 34.0, row - 4.0);
        let _ = write!(
            out,
            r#"<polyline class="{class}" points="{left:.1},{middle:.1} {end:.1},{middle:.1}"/><text class="label" x="{:.1}" y="{row:.1}">{}</text>"#,
            end + 8.0,
            escape(&line.label)
        );
    }
    close(out)
}

/// Parts of a whole, the wholes on one linear scale.
pub(super) fn stacks(title: &str, stacks: &[Stack]) -> String {
    let total = |stack: &Stack| stack.parts.iter().map(|(_, time)| time.as_secs_f64()).sum::<f64>();
    let longest = stacks.iter().map(total).fold(f64::EPSILON, f64::max);
    let (left, right) = (LABELS, WIDTH - FIGURES);
    let mut names: Vec<&str> = Vec::new();
    for (name, _) in stacks.iter().flat_map(|stack| &stack.parts) {
        if !names.contains(name) {
            names.push(name);
        }
    }
    let rows = ROW * stacks.len() as f64;
    let mut out = open(title, rows + 30.0 + LEGEND_ROW);
    for (index, stack) in stacks.iter().enumerate() {
        let y = 10.0 + ROW * index as f64;
        label(&mut out, &stack.label, y);
        let mut at = left;
        for (name, part) in &stack.parts {
            let width = (right - left) * part.as_secs_f64() / longest;
            let series = names.iter().position(|other| other == name).unwrap_or(0) % SERIES;
            let _ = write!(
                out,
                r#"<rect class="s{series}" x="{at:.1}" y="{y:.1}" width="{width:.1}" height="{BAR}"><title>{name}: {}</title></rect>"#,
                time(*part)
            );
            at += width;
        }
        let whole = time(Duration::from_secs_f64(total(stack)));
        let _ = write!(out, r#"<text class="figure" x="{:.1}" y="{:.1}">{whole}</text>"#, at + 6.0, y + 13.5);
    }
    let step = (WIDTH - 20.0) / names.len().max(1) as f64;
    for (index, name) in names.iter().enumerate() {
        legend(&mut out, index % SERIES, name, 10.0 + step * index as f64, rows + 26.0);
    }
    close(out)
}

fn open(title: &str, height: f64) -> String {
    format!(
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH:.0} {height:.0}" width="{WIDTH:.0}" height="{height:.0}" role="img" aria-label="{}">"#,
        escape(title)
    )
}

fn close(mut svg: String) -> String {
    svg.push_str("</svg>");
    svg
}

fn label(out: &mut String, text: &str, y: f64) {
    let _ = write!(
        out,
        r#"<text class="label" x="{:.1}" y="{:.1}" text-anchor="end">{}</text>"#,
        LABELS - 10.0,
        y + 13.5,
        escape(text)
    );
}

fn legend(out: &mut String, series: usize, text: &str, x: f64, y: f64) {
    let _ = write!(
        out,
        r#"<rect class="s{series}" x="{x:.1}" y="{:.1}" width="12" height="12" rx="2"/><text class="label" x="{:.1}" y="{:.1}">{}</text>"#,
        y - 10.0,
        x + 18.0,
        y,
        escape(text)
    );
}

/// The powers of ten below the least and above the greatest value.
fn decades(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let (least, most) = values
        .fold((f64::INFINITY, 0.0), |(least, most): (f64, f64), value| (least.min(value), most.max(value)));
    if most <= 0.0 {
        return (1.0, 10.0);
    }
    let low = 10_f64.powf((least * 0.999).log10().floor());
    let high = 10_f64.powf((most * 0.999).log10().ceil());
    (low, if high > low { high } else { low * 10.0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scale_holds_every_value_between_powers_of_ten() {
        for (values, expected) in [
            (&[86.0, 12_000.0][..], (10.0, 100_000.0)),
            (&[10.0, 100.0], (1.0, 100.0)),
            (&[5.0], (1.0, 10.0)),
            (&[], (1.0, 10.0)),
        ] {
            let (low, high) = decades(values.iter().copied());
            assert!((low / expected.0 - 1.0).abs() < 1e-9, "{values:?}: {low}");
            assert!((high / expected.1 - 1.0).abs() < 1e-9, "{values:?}: {high}");
        }
    }

    #[test]
    fn a_line_and_its_legend_have_one_colour_and_one_kind_of_dashes() {
        let points = vec![("p50", Duration::from_millis(1)), ("max", Duration::from_millis(9))];
        let line = |series, dash| Line { label: "way".to_owned(), series, dash, points: points.clone() };
        let svg = lines("times", &[line(1, 0), line(1, 2), line(9, 5)]);
        for (class, count) in [("line l1 d0", 2), ("line l1 d2", 2), ("line l1 d1", 2), ("s1", 6)] {
            assert_eq!(svg.matches(&format!("class=\"{class}\"")).count(), count, "{class}: {svg}");
        }
    }

    #[test]
    fn labels_cannot_break_out_of_a_chart() {
        let bar = Bar { label: "<script>\"&".to_owned(), value: 1.0, series: 0 };
        let svg = bars("a \"title\"", &[bar]);
        assert!(svg.contains("&lt;script&gt;&quot;&amp;") && svg.contains("a &quot;title&quot;"), "{svg}");
    }
}
