//! Blocks of labelled lines, and tables whose last column gives way to the terminal's width.

use super::text::{DIM, Text};

/// Between two columns.
const GAP: usize = 2;

/// The last column stays at least this wide, whatever the others need.
const LAST_MIN: usize = 12;

/// `label  text`, the text wrapped beside its label.
#[derive(Debug, Default)]
pub struct Fields {
    lines: Vec<(String, Text)>,
}

impl Fields {
    /// Adds a line; an empty label continues the one above.
    pub fn add(&mut self, label: &str, text: impl Into<Text>) {
        self.lines.push((label.to_owned(), text.into()));
    }

    /// Adds a line if there is something to say.
    pub fn add_some(&mut self, label: &str, text: Option<impl Into<Text>>) {
        if let Some(text) = text {
            self.add(label, text);
        }
    }

    /// Lines with colour codes, for a terminal of this width.
    #[must_use]
    pub fn render(&self, indent: usize, width: usize) -> Vec<String> {
        let label_width = self.lines.iter().map(|(label, _)| label.len()).max().unwrap_or(0);
        let left = indent + label_width + GAP;
        let mut out = Vec::new();
        for (label, text) in &self.lines {
            let mut label = Text::new(DIM, format!("{label:label_width$}")).styled();
            for line in text.wrapped(width.saturating_sub(left).max(LAST_MIN)) {
                out.push(format!("{:indent$}{label}{:GAP$}{}", "", "", line.styled()));
                label = " ".repeat(label_width);
            }
        }
        out
    }
}

/// Which side of its column a cell stands at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Align {
    /// Words.
    Left,
    /// Numbers.
    Right,
}

/// Rows and columns.
#[derive(Debug)]
pub struct Table {
    head: Vec<(String, Align)>,
    rows: Vec<Vec<Text>>,
}

impl Table {
    /// A table with these column heads; empty heads print no head line.
    #[must_use]
    pub fn new(head: &[(&str, Align)]) -> Self {
        let head = head.iter().map(|(name, align)| ((*name).to_owned(), *align)).collect();
        Self { head, rows: Vec::new() }
    }

    /// Adds a row with as many cells as there are columns.
    pub fn row(&mut self, cells: impl IntoIterator<Item = Text>) {
        let mut cells: Vec<Text> = cells.into_iter().collect();
        cells.resize(self.head.len(), Text::default());
        self.rows.push(cells);
    }

    /// Lines with colour codes, none wider than `width`. A column without any content takes no room. The last
    /// column is cut, or wrapped if `wrap_last`.
    #[must_use]
    pub fn render(&self, indent: usize, width: usize, wrap_last: bool) -> Vec<String> {
        let filled = |column: usize| self.rows.iter().any(|row| !row[column].is_empty());
        let columns: Vec<usize> = (0..self.head.len()).filter(|c| filled(*c)).collect();
        let Some((last, others)) = columns.split_last() else { return Vec::new() };
        let widths: Vec<usize> = others.iter().map(|column| self.width_of(*column)).collect();
        let left = indent + widths.iter().map(|width| width + GAP).sum::<usize>();
        let room = width.saturating_sub(left).max(LAST_MIN);
        let mut out = Vec::new();
        if self.head.iter().any(|(name, _)| !name.is_empty()) {
            let cell = |column: &usize| Text::new(DIM, self.head[*column].0.clone());
            let line = self.line(indent, others, &widths, &cell);
            out.push(format!("{line}{}", cell(last).styled()).trim_end().to_owned());
        }
        for row in &self.rows {
            let start = self.line(indent, others, &widths, &|column| row[*column].clone());
            let cell = &row[*last];
            let parts = if wrap_last { cell.wrapped(room) } else { vec![cell.cut(room)] };
            for (index, part) in parts.iter().enumerate() {
                let start = if index == 0 { start.clone() } else { " ".repeat(left) };
                out.push(format!("{start}{}", part.styled()).trim_end().to_owned());
            }
        }
        out
    }

    fn width_of(&self, column: usize) -> usize {
        let cells = self.rows.iter().map(|row| row[column].width());
        cells.chain([self.head[column].0.len()]).max().unwrap_or(0)
    }

    fn line(
        &self,
        indent: usize,
        columns: &[usize],
        widths: &[usize],
        cell: &dyn Fn(&usize) -> Text,
    ) -> String {
        let mut line = " ".repeat(indent);
        for (column, width) in columns.iter().zip(widths) {
            let text = cell(column);
            let pad = " ".repeat(width.saturating_sub(text.width()));
            let text = text.styled();
            line.push_str(&match self.head[*column].1 {
                Align::Left => format!("{text}{pad}{:GAP$}", ""),
                Align::Right => format!("{pad}{text}{:GAP$}", ""),
            });
        }
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::report::text::BOLD;

    fn plain(lines: &[String]) -> Vec<String> {
        lines.iter().map(|line| anstream::adapter::strip_str(line).to_string()).collect()
    }

    fn sample() -> Table {
        let mut table = Table::new(&[
            ("#", Align::Right),
            ("NAME", Align::Left),
            ("", Align::Left),
            ("WHY", Align::Left),
        ]);
        table.row([Text::from("9"), Text::new(BOLD, "a"), Text::default(), Text::from("short")]);
        table.row([
            Text::from("10"),
            Text::from("bcd"),
            Text::default(),
            Text::from("words that are too long for it"),
        ]);
        table
    }

    #[test]
    fn the_last_column_gives_way() {
        let lines = plain(&sample().render(1, 32, false));
        assert_eq!(
            lines,
            ["  #  NAME  WHY", "  9  a     short", " 10  bcd   words that are too l…"]
        );
        let lines = plain(&sample().render(1, 32, true));
        assert_eq!(lines[2..], [" 10  bcd   words that are too", "           long for it"]);
    }

    #[test]
    fn a_label_stands_once_beside_wrapped_text() {
        let mut fields = Fields::default();
        fields.add("a", "one two three four five");
        fields.add("long", Text::from("x"));
        let lines = plain(&fields.render(2, 24));
        assert_eq!(lines, ["  a     one two three", "        four five", "  long  x"]);
    }
}
