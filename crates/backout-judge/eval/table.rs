//! Tables of figures, as Markdown.

use std::fmt::Write;

/// One line of a table.
#[derive(Debug, Clone, Default)]
pub struct Row {
    /// One cell per column.
    pub cells: Vec<String>,
    /// Whether the goal is met; `None` where there is none.
    pub met: Option<bool>,
}

/// One figure with its rows.
#[derive(Debug, Clone)]
pub struct Table {
    /// Its name, B1 for example.
    pub name: &'static str,
    /// What was done, in a sentence or two.
    pub about: String,
    /// The heads of the columns; the last, "met", comes by itself.
    pub columns: Vec<&'static str>,
    /// The rows.
    pub rows: Vec<Row>,
}

impl Table {
    /// A table without rows.
    pub fn new(name: &'static str, about: String, columns: &[&'static str]) -> Self {
        Table { name, about, columns: columns.to_vec(), rows: Vec::new() }
    }

    /// Adds a row.
    pub fn add(&mut self, met: Option<bool>, cells: Vec<String>) {
        assert_eq!(cells.len(), self.columns.len(), "{}", self.name);
        self.rows.push(Row { cells, met });
    }

    /// As Markdown, without its name.
    pub fn markdown(&self) -> String {
        let mut out = format!("{}\n\n|", self.about);
        // Writing to a string can't fail.
        for column in &self.columns {
            let _ = write!(out, " {column} |");
        }
        let _ = write!(out, " met |\n|{}\n", "---|".repeat(self.columns.len() + 1));
        for row in &self.rows {
            let met = row.met.map_or("–", |met| if met { "yes" } else { "**no**" });
            let _ = writeln!(out, "| {} | {met} |", row.cells.join(" | "));
        }
        out
    }

    /// Rows whose goal is missed.
    pub fn missed(&self) -> impl Iterator<Item = String> + '_ {
        let missed = self.rows.iter().filter(|row| row.met == Some(false));
        missed.map(|row| format!("{}: {}", self.name, row.cells.join(", ")))
    }
}

/// A count or a length of time, or that there is none.
pub fn number(value: Option<f64>) -> String {
    match value {
        None => "never".to_owned(),
        Some(value) if value >= 100.0 || value.fract() == 0.0 => format!("{value:.0}"),
        Some(value) => format!("{value:.1}"),
    }
}

/// A quotient.
pub fn ratio(value: Option<f64>) -> String {
    value.map_or("–".to_owned(), |value| format!("{value:.2}"))
}
