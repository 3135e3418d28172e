//! Tables as Markdown has them.

use std::fmt;

/// Rows under a head.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    columns: usize,
    text: String,
}

impl Table {
    /// With this head.
    pub(crate) fn new(head: &[&str]) -> Self {
        let text = format!("| {} |\n|{}\n", head.join(" | "), "---|".repeat(head.len()));
        Self {
            columns: head.len(),
            text,
        }
    }

    /// Add a row; cells that are missing are empty.
    pub(crate) fn row(&mut self, cells: &[String]) {
        let cells: Vec<&str> = (0..self.columns)
            .map(|column| cells.get(column).map_or("", String::as_str))
            .collect();
        self.text.push_str(&format!("| {} |\n", cells.join(" | ")));
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_have_as_many_cells_as_the_head() {
        let mut table = Table::new(&["a", "b"]);
        table.row(&["1".into()]);
        assert_eq!(table.to_string(), "| a | b |\n|---|---|\n| 1 |  |\n");
    }
}
