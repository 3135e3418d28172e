//! Tables as Markdown has them. Knows nothing of what is in them.

/// Rows under a head; cells are separated by ` | `.
pub(crate) fn markdown(head: &str, rows: &[String]) -> String {
    let rule = "---|".repeat(head.split(" | ").count());
    let rows: String = rows.iter().map(|row| format!("| {row} |\n")).collect();
    format!("| {head} |\n|{rule}\n{rows}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rule_has_as_many_cells_as_the_head() {
        assert_eq!(
            markdown("a | b", &["1 | ".into()]),
            "| a | b |\n|---|---|\n| 1 |  |\n"
        );
    }
}
