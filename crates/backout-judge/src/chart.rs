//! Charts of the evidence over time, on a logarithmic scale with the line it must cross.

use crate::words;
use std::fmt::Write;

/// How far below 1 and above the line a chart reaches, as powers of ten.
const BELOW: f64 = -2.0;
const ABOVE: f64 = 1.0;

/// The height of an e-value between 0 and 1.
fn height(e_value: f64, line: f64) -> f64 {
    let top = line.max(1.0).log10() + ABOVE;
    let power = if e_value > 0.0 { e_value.log10() } else { BELOW };
    ((power - BELOW) / (top - BELOW)).clamp(0.0, 1.0)
}

/// The points' largest e-value per column.
fn columns(points: &[(i64, f64)], width: usize) -> Vec<Option<f64>> {
    let mut columns = vec![None; width];
    let (Some(first), Some(last)) = (points.first(), points.last()) else { return columns };
    let span = (last.0.saturating_sub(first.0)).max(1) as f64;
    for &(at_ms, value) in points {
        let part = at_ms.saturating_sub(first.0) as f64 / span;
        let column = (part * (width.saturating_sub(1)) as f64).round() as usize;
        let slot: &mut Option<f64> = &mut columns[column.min(width - 1)];
        *slot = Some(slot.map_or(value, |old| old.max(value)));
    }
    columns
}

/// A chart for the terminal: `height_rows` lines of `width` characters, top first. `-` is the line.
pub fn terminal(points: &[(i64, f64)], line: f64, width: usize, height_rows: usize) -> Vec<String> {
    let (width, rows) = (width.clamp(1, 1_000), height_rows.clamp(2, 200));
    let row_of = |value: f64| ((1.0 - height(value, line)) * (rows - 1) as f64).round() as usize;
    let mut cells = vec![vec![' '; width]; rows];
    cells[row_of(line)] = vec!['-'; width];
    for (column, value) in columns(points, width).into_iter().enumerate() {
        if let Some(value) = value {
            cells[row_of(value)][column] = '*';
        }
    }
    cells.into_iter().map(|row| row.into_iter().collect::<String>().trim_end().to_owned()).collect()
}

/// More characters of a title do not fit.
const TITLE_MOST: usize = 80;

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// As much of a title as fits.
fn cut(title: &str) -> String {
    match title.char_indices().nth(TITLE_MOST - 1) {
        Some((at, _)) if title.chars().count() > TITLE_MOST => format!("{}…", &title[..at]),
        _ => title.to_owned(),
    }
}

/// A chart as SVG, with a title for screen readers too. `title` is escaped. Times are told from the
/// first point on.
pub fn svg(points: &[(i64, f64)], line: f64, title: &str) -> String {
    const LEFT: f64 = 70.0;
    const TOP: f64 = 40.0;
    const WIDTH: f64 = 600.0;
    const HEIGHT: f64 = 240.0;
    let y = |value: f64| TOP + (1.0 - height(value, line)) * HEIGHT;
    let began_ms = points.first().map_or(0, |point| point.0);
    let span = points.last().map_or(1, |point| (point.0.saturating_sub(began_ms)).max(1));
    let x = |at_ms: i64| LEFT + at_ms.saturating_sub(began_ms) as f64 / span as f64 * WIDTH;
    let (right, bottom) = (LEFT + WIDTH, TOP + HEIGHT);
    let (whole, shown) = (escaped(title), escaped(&cut(title)));
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 700 330\" role=\"img\" \
         font-family=\"sans-serif\" font-size=\"12\" fill=\"#333\"><title>{whole}</title>\
         <rect width=\"700\" height=\"330\" fill=\"#fff\"/>\
         <text x=\"{LEFT}\" y=\"24\" font-size=\"15\">{shown}</text>"
    );
    // Writing to a string can't fail.
    let top_power = (line.max(1.0).log10() + ABOVE).floor() as i32;
    for power in BELOW as i32..=top_power {
        let (value, at) = (10f64.powi(power), y(10f64.powi(power)));
        // What lies below is drawn there too.
        let least = if power == BELOW as i32 { "≤ " } else { "" };
        let _ = write!(
            out,
            "<line x1=\"{LEFT}\" x2=\"{right}\" y1=\"{at:.1}\" y2=\"{at:.1}\" stroke=\"#ddd\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{least}{value}</text>",
            LEFT - 8.0,
            at + 4.0
        );
    }
    // So short a time has no quarters to be told.
    let quarters = if span < 4 { 0 } else { 4 };
    for part in 0..=quarters {
        let at_ms = began_ms.saturating_add(span / 4 * part);
        let _ = write!(
            out,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            x(at_ms),
            bottom + 20.0,
            words::duration(span / 4 * part)
        );
    }
    let at_line = y(line);
    let _ = write!(
        out,
        "<text x=\"{LEFT}\" y=\"{:.1}\">since the first reading; evidence against the new side (e-value)</text>\
         <line x1=\"{LEFT}\" x2=\"{right}\" y1=\"{at_line:.1}\" y2=\"{at_line:.1}\" stroke=\"#c00\" \
         stroke-width=\"2\"/><text x=\"{:.1}\" y=\"{:.1}\" fill=\"#c00\">fails from {line:.0} on</text>\
         <polyline fill=\"none\" stroke=\"#05a\" stroke-width=\"2.5\" stroke-linejoin=\"round\" points=\"",
        bottom + 40.0,
        // On the left, where evidence begins at 1: it crosses the line at the right end.
        LEFT + 4.0,
        at_line - 6.0
    );
    for (index, &(at_ms, value)) in points.iter().enumerate() {
        let gap = if index == 0 { "" } else { " " };
        let _ = write!(out, "{gap}{:.1},{:.1}", x(at_ms), y(value));
    }
    out.push_str("\"/>");
    if let Some(&(at_ms, value)) = points.last() {
        // Where it stands now; a single point would not be seen otherwise.
        let (x, y) = (x(at_ms), y(value));
        let _ = write!(out, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\" fill=\"#05a\"/>");
    }
    out + "</svg>"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_terminal_shows_line_and_points() {
        // Heights from 0.01 to 1000 in six rows: one row per power of ten.
        let points = [(0, 1.0), (1_000, 0.1), (2_000, 10.0), (3_000, 100.0)];
        assert_eq!(terminal(&points, 100.0, 4, 6), ["", "---*", "  *", "*", " *", ""]);
        assert_eq!(terminal(&[], 100.0, 3, 6)[1], "---");
    }

    #[test]
    fn the_svg_is_escaped_and_bounded() {
        let svg = svg(&[(0, 0.0), (10, 1e300)], 100.0, "a < b & c");
        assert!(svg.contains("<title>a &lt; b &amp; c</title>"));
        assert!(svg.contains("points=\"70.0,280.0 670.0,40.0\""), "{svg}");
        assert!(svg.contains("y1=\"88.0\" y2=\"88.0\" stroke=\"#c00\""), "{svg}");
        assert!(svg.contains("fails from 100 on") && svg.contains(">≤ 0.01</text>"), "{svg}");
    }

    #[test]
    fn the_svg_shows_a_single_point_and_says_each_time_once() {
        let one = svg(&[(5, 1.0)], 100.0, "v2");
        assert!(one.contains("<circle cx=\"70.0\" cy=\"184.0\""), "{one}");
        for points in [&[][..], &[(5, 1.0)], &[(5, 1.0), (6, 1.0)]] {
            assert_eq!(svg(points, 100.0, "v2").matches("0 ms</text>").count(), 1, "{points:?}");
        }
        assert!(!svg(&[], 100.0, "v2").contains("<circle"));
    }

    #[test]
    fn a_title_that_does_not_fit_is_cut_where_it_is_drawn() {
        let title = "é".repeat(TITLE_MOST + 1);
        let svg = svg(&[], 100.0, &title);
        assert!(svg.contains(&format!("<title>{title}</title>")));
        assert!(svg.contains(&format!(">{}…</text>", "é".repeat(TITLE_MOST - 1))), "{svg}");
    }
}
