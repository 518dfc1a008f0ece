//! Charts of the evidence over time, on a logarithmic scale with the line it must cross.

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

/// A chart as SVG, with a title for screen readers. `title` is escaped.
pub fn svg(points: &[(i64, f64)], line: f64, title: &str) -> String {
    const WIDTH: f64 = 640.0;
    const HEIGHT: f64 = 240.0;
    let y = |value: f64| (1.0 - height(value, line)) * HEIGHT;
    let began_ms = points.first().map_or(0, |point| point.0);
    let span = points.last().map_or(1, |point| (point.0.saturating_sub(began_ms)).max(1)) as f64;
    let mut path = String::new();
    for &(at_ms, value) in points {
        let x = at_ms.saturating_sub(began_ms) as f64 / span * WIDTH;
        // Writing to a string can't fail.
        let _ = write!(path, "{x:.1},{:.1} ", y(value));
    }
    let escaped = title.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let (at_line, at_one) = (y(line), y(1.0));
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\">\
         <title>{escaped}</title>\
         <line x1=\"0\" x2=\"{WIDTH}\" y1=\"{at_line:.1}\" y2=\"{at_line:.1}\" stroke=\"#c00\"/>\
         <line x1=\"0\" x2=\"{WIDTH}\" y1=\"{at_one:.1}\" y2=\"{at_one:.1}\" stroke=\"#999\" \
         stroke-dasharray=\"4\"/>\
         <polyline fill=\"none\" stroke=\"#05a\" stroke-width=\"2\" points=\"{}\"/></svg>",
        path.trim_end()
    )
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
        assert!(svg.contains("points=\"0.0,240.0 640.0,0.0\""), "{svg}");
        assert!(svg.contains("y1=\"48.0\""), "{svg}");
    }
}
