//! Tables in Markdown. Knows nothing of their content.

/// Rows under a head; cells are separated by ` | `.
pub(crate) fn markdown(head: &str, rows: impl IntoIterator<Item = String>) -> String {
    let rule = "---|".repeat(head.split(" | ").count());
    let rows: String = rows.into_iter().map(|row| format!("| {row} |\n")).collect();
    format!("| {head} |\n|{rule}\n{rows}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rule_has_as_many_cells_as_the_head() {
        assert_eq!(
            markdown("a | b", ["1 | ".into()]),
            "| a | b |\n|---|---|\n| 1 |  |\n"
        );
    }
}
