//! Styled text that knows its width on a terminal: wrapped, cut and padded by what is seen, not by bytes.

use std::fmt::Write as _;
use std::io::IsTerminal;
use std::os::fd::AsFd;

use backout_core::model::{DeploymentStatus, Health, Severity};
use clap::builder::styling::{AnsiColor, Style};
use unicode_width::UnicodeWidthStr as _;

/// Width where there is no terminal: nothing is wrapped for a file or a pipe.
const ENDLESS: usize = 100_000;

/// Nothing readable fits into less.
const NARROWEST: usize = 40;

/// Columns of the terminal behind standard output; practically endless without one.
#[must_use]
pub fn terminal_width() -> usize {
    terminal_size().map_or(ENDLESS, |(columns, _)| columns.max(NARROWEST))
}

/// The same for standard error, where plans and questions are shown.
#[must_use]
pub fn error_width() -> usize {
    size_of(&std::io::stderr()).map_or(ENDLESS, |(columns, _)| columns.max(NARROWEST))
}

/// Columns and rows of the terminal behind standard output.
#[must_use]
pub fn terminal_size() -> Option<(usize, usize)> {
    size_of(&std::io::stdout())
}

fn size_of(out: &(impl IsTerminal + AsFd)) -> Option<(usize, usize)> {
    if !out.is_terminal() {
        return None;
    }
    // A terminal that does not tell its size is taken for the usual one.
    let told = rustix::termios::tcgetwinsize(out).ok().filter(|size| size.ws_col > 0);
    let size = told.map_or((80, 24), |size| (size.ws_col, size.ws_row));
    Some((usize::from(size.0), usize::from(size.1.max(10))))
}

/// Plain.
pub const PLAIN: Style = Style::new();
/// What stands out.
pub const BOLD: Style = Style::new().bold();
/// What may be overlooked.
pub const DIM: Style = Style::new().dimmed();

/// Good.
#[must_use]
pub fn good() -> Style {
    AnsiColor::Green.on_default()
}

/// Near its limit.
#[must_use]
pub fn warn() -> Style {
    AnsiColor::Yellow.on_default()
}

/// Bad.
#[must_use]
pub fn bad() -> Style {
    AnsiColor::Red.on_default().bold()
}

/// What to type.
#[must_use]
pub fn command() -> Style {
    AnsiColor::Cyan.on_default()
}

/// The colour of a health.
#[must_use]
pub fn of_health(health: Health) -> Style {
    match health {
        Health::Healthy => good(),
        Health::Warning => warn(),
        Health::Failing => bad(),
        Health::Unknown => DIM,
    }
}

/// The colour of a deployment's status.
#[must_use]
pub fn of_status(status: DeploymentStatus) -> Style {
    match status {
        DeploymentStatus::Stable => good(),
        DeploymentStatus::Pending | DeploymentStatus::InProgress | DeploymentStatus::Baking => {
            warn()
        }
        DeploymentStatus::Failed | DeploymentStatus::Stuck => bad(),
        DeploymentStatus::RolledBack => AnsiColor::Red.on_default(),
        DeploymentStatus::Superseded => DIM,
    }
}

/// The colour of a check's result.
#[must_use]
pub fn of_severity(severity: Severity) -> Style {
    match severity {
        Severity::Pass => good(),
        Severity::Warning => warn(),
        Severity::Error => bad(),
    }
}

/// Words with their styles.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Text {
    spans: Vec<(Style, String)>,
    unbroken: bool,
}

impl<T: Into<String>> From<T> for Text {
    fn from(words: T) -> Self {
        Text::new(PLAIN, words)
    }
}

impl Text {
    /// Words in one style. What could move the cursor or end a line is taken out.
    pub fn new(style: Style, words: impl Into<String>) -> Self {
        Self::default().and(style, words)
    }

    /// With more words behind them.
    #[must_use]
    pub fn and(mut self, style: Style, words: impl Into<String>) -> Self {
        let words: String = words.into();
        let words = if words.contains(char::is_control) {
            words.split(char::is_control).filter(|w| !w.is_empty()).collect::<Vec<_>>().join(" ")
        } else {
            words
        };
        if !words.is_empty() {
            self.spans.push((style, words));
        }
        self
    }

    /// Never broken by us: a command that the terminal itself breaks can still be copied as one.
    #[must_use]
    pub fn unbroken(self) -> Self {
        Self { unbroken: true, ..self }
    }

    /// With more plain words behind them.
    #[must_use]
    pub fn then(self, words: impl Into<String>) -> Self {
        self.and(PLAIN, words)
    }

    /// There are no words.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// Columns it takes.
    #[must_use]
    pub fn width(&self) -> usize {
        self.spans.iter().map(|(_, words)| words.width()).sum()
    }

    /// With colour codes.
    #[must_use]
    pub fn styled(&self) -> String {
        let mut out = String::new();
        for (style, words) in &self.spans {
            let _ = write!(out, "{style}{words}{style:#}");
        }
        out
    }

    /// Broken into lines between words; a word that is too long for a line is broken inside.
    #[must_use]
    pub fn wrapped(&self, width: usize) -> Vec<Text> {
        if self.unbroken {
            return vec![self.clone()];
        }
        let width = width.max(1);
        let mut lines = vec![Text::default()];
        let mut used = 0;
        for (style, words) in &self.spans {
            for word in words.split_inclusive(' ') {
                if used > 0 && used + word.trim_end().width() > width {
                    lines.push(Text::default());
                    used = 0;
                }
                for piece in pieces(word, width) {
                    if used > 0 && used + piece.trim_end().width() > width {
                        lines.push(Text::default());
                        used = 0;
                    }
                    // A blank at the begin of a line belongs to the break before it.
                    let piece =
                        if used == 0 && lines.len() > 1 { piece.trim_start() } else { piece };
                    used += piece.width();
                    if let Some(line) = lines.last_mut() {
                        line.push(*style, piece);
                    }
                }
            }
        }
        for line in &mut lines {
            line.trim_end();
        }
        lines
    }

    fn trim_end(&mut self) {
        if let Some((_, words)) = self.spans.last_mut() {
            words.truncate(words.trim_end().len());
        }
    }

    /// At most this wide; what is cut off is told by `…`.
    #[must_use]
    pub fn cut(&self, width: usize) -> Text {
        if self.width() <= width {
            return self.clone();
        }
        let mut out = Text::default();
        let mut left = width.saturating_sub(1);
        for (style, words) in &self.spans {
            let fits = prefix(words, left);
            left -= fits.width();
            out.push(*style, fits);
            if fits.len() < words.len() {
                out.push(*style, "…");
                break;
            }
        }
        out
    }

    fn push(&mut self, style: Style, words: &str) {
        match self.spans.last_mut() {
            _ if words.is_empty() => {}
            Some((last, text)) if *last == style => text.push_str(words),
            _ => self.spans.push((style, words.to_owned())),
        }
    }
}

/// The longest beginning that fits.
fn prefix(words: &str, width: usize) -> &str {
    let mut used = 0;
    let end = words.char_indices().find_map(|(at, c)| {
        used += c.to_string().width();
        (used > width).then_some(at)
    });
    &words[..end.unwrap_or(words.len())]
}

/// A word in parts that each fit a line.
fn pieces(word: &str, width: usize) -> Vec<&str> {
    let mut rest = word;
    let mut parts = Vec::new();
    while rest.trim_end().width() > width {
        let part = prefix(rest, width);
        if part.is_empty() {
            break;
        }
        parts.push(part);
        rest = &rest[part.len()..];
    }
    parts.push(rest);
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(text: &Text) -> String {
        anstream::adapter::strip_str(&text.styled()).to_string()
    }

    #[test]
    fn wraps_between_words_and_inside_of_long_ones() {
        let text = Text::from("one two ").and(BOLD, "three abcdefghij").then(" end");
        let lines: Vec<String> = text.wrapped(8).iter().map(plain).collect();
        assert_eq!(lines, ["one two", "three", "abcdefgh", "ij end"]);
        assert!(text.wrapped(8).iter().all(|line| plain(line).width() <= 8));
        assert_eq!(text.wrapped(100).len(), 1);
        assert_eq!(text.unbroken().wrapped(8).len(), 1);
    }

    #[test]
    fn cuts_with_a_sign_and_counts_wide_characters() {
        let text = Text::from("日本").and(DIM, "語 text");
        assert_eq!(text.width(), 11);
        assert_eq!(plain(&text.cut(6)), "日本…");
        assert_eq!(plain(&text.cut(11)), "日本語 text");
        assert_eq!(text.cut(6).width(), 5);
    }

    #[test]
    fn control_characters_can_not_move_the_cursor() {
        assert_eq!(plain(&Text::from("a\x1b[2Jb\r\nc")), "a [2Jb c");
    }
}
