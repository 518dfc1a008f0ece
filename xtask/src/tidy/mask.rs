//! Rust source with everything that is not code blanked out.

/// Replaces comments and the insides of string and character literals by spaces, line by line, so
/// that a rule about code does not trip over words. Offsets and lines stay as they were.
pub fn code_only(text: &str) -> String {
    let mut masker = Masker { rest: text, out: String::with_capacity(text.len()), word: false };
    while let Some(next) = masker.rest.chars().next() {
        masker.step(next);
    }
    masker.out
}

struct Masker<'a> {
    rest: &'a str,
    out: String,
    /// Whether the last character kept belongs to a word: `br"` opens a raw string, `number"` not.
    word: bool,
}

impl Masker<'_> {
    fn step(&mut self, next: char) {
        if self.rest.starts_with("//") {
            let end = self.rest.find('\n').unwrap_or(self.rest.len());
            self.blank(end);
        } else if self.rest.starts_with("/*") {
            self.blank(block_comment_len(self.rest));
        } else if let Some(len) = raw_string_len(self.rest).filter(|_| !self.word) {
            self.blank(len);
        } else if next == '"' {
            self.blank(string_len(self.rest, '"'));
        } else if next == '\'' && is_char_literal(self.rest) {
            self.blank(string_len(self.rest, '\''));
        } else {
            self.out.push(next);
            self.word = next.is_alphanumeric() || next == '_';
            self.rest = &self.rest[next.len_utf8()..];
        }
    }

    fn blank(&mut self, len: usize) {
        let (gone, rest) = self.rest.split_at(len);
        self.out.extend(gone.bytes().map(|byte| if byte == b'\n' { '\n' } else { ' ' }));
        self.word = false;
        self.rest = rest;
    }
}

fn block_comment_len(text: &str) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while at < text.len() {
        let rest = &text.as_bytes()[at..];
        if rest.starts_with(b"/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if rest.starts_with(b"*/") {
            (depth, at) = (depth - 1, at + 2);
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    text.len()
}

fn raw_string_len(text: &str) -> Option<usize> {
    let after = ["br", "cr", "r"].iter().find_map(|prefix| text.strip_prefix(prefix))?;
    let body = after.trim_start_matches('#');
    let hashes = &after[..after.len() - body.len()];
    let body = body.strip_prefix('"')?;
    let opened = text.len() - body.len();
    let close = format!("\"{hashes}");
    Some(body.find(&close).map_or(text.len(), |end| opened + end + close.len()))
}

fn string_len(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, next) in text.char_indices().skip(1) {
        match next {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if next == quote => return at + next.len_utf8(),
            _ => {}
        }
    }
    text.len()
}

/// `'a'` and `'\n'` are characters, `'a` in `&'a str` is a lifetime.
fn is_char_literal(text: &str) -> bool {
    let mut chars = text.chars().skip(1);
    match chars.next() {
        Some('\\') => true,
        Some(_) => chars.next() == Some('\''),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::code_only;

    fn kept(text: &str) -> String {
        let masked = code_only(text);
        assert_eq!(masked.len(), text.len());
        assert_eq!(masked.matches('\n').count(), text.matches('\n').count());
        masked.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn comments_go_and_code_after_them_stays() {
        assert_eq!(kept("a // gone\nb /* gone /* nested */ gone */ c"), "a b c");
    }

    #[test]
    fn strings_go_whatever_their_form() {
        assert_eq!(kept(r#"f("gone \" gone", b"gone") g"#), "f( , b ) g");
        assert_eq!(kept("f(r#\"gone \" gone\"#) g(r\"gone\\\") h"), "f( ) g( ) h");
        assert_eq!(kept("f(br##\"gone \"# gone\"##) g"), "f( ) g");
        assert_eq!(kept("f(\"über\n gone\") g"), "f( ) g");
    }

    #[test]
    fn characters_go_and_lifetimes_stay() {
        assert_eq!(kept("f('\"', 'x', '\\'') g::<'a>(&'a b)"), "f( , , ) g::<'a>(&'a b)");
    }

    #[test]
    fn an_unclosed_literal_ends_with_the_file() {
        assert_eq!(kept("a \"gone"), "a");
        assert_eq!(kept("a /* gone"), "a");
        assert_eq!(kept("a r#\"gone\""), "a");
    }
}
