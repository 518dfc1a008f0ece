//! Tables in a page, each between marks that name it.

/// The page with each table of `text` (`## NAME`, then its lines) put between `<!-- NAME -->` and
/// `<!-- end NAME -->`; and the names of those that had a place.
pub(super) fn with_tables(page: &str, text: &str) -> (String, Vec<String>) {
    let mut page = page.to_owned();
    let mut placed = Vec::new();
    for section in format!("\n{text}").split("\n## ").skip(1) {
        let (name, body) = section.split_once('\n').unwrap_or((section, ""));
        let (from, to) = (format!("<!-- {name} -->\n"), format!("<!-- end {name} -->"));
        let Some(start) = page.find(&from).map(|at| at + from.len()) else { continue };
        let Some(length) = page[start..].find(&to) else { continue };
        page.replace_range(start..start + length, &format!("\n{}\n\n", body.trim()));
        placed.push(name.to_owned());
    }
    (page, placed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_go_to_their_places_and_others_stay() {
        let page = "a\n<!-- B1 -->\nold\n<!-- end B1 -->\nb\n<!-- B2 -->\n<!-- end B2 -->\n";
        let (new, placed) = with_tables(page, "## B1\n\nsentence\n\n| 1 |\n\n## B9\n\nlost\n");
        assert_eq!(placed, ["B1"]);
        assert_eq!(
            new,
            "a\n<!-- B1 -->\n\nsentence\n\n| 1 |\n\n<!-- end B1 -->\nb\n<!-- B2 -->\n<!-- end B2 -->\n"
        );
        assert_eq!(with_tables(&new, "## B1\n\nsentence\n\n| 1 |\n").0, new);
    }
}
