//! Predicted and observed addresses side by side, as a person wants to compare them.

/// One address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Row {
    /// Whose it is, and where it comes from.
    pub(crate) what: String,
    /// What `palmfarm plan` had said before the card was written; empty where it says nothing.
    pub(crate) predicted: String,
    /// What was seen; empty: nothing.
    pub(crate) observed: String,
}

impl Row {
    /// An address that `plan` knew.
    pub(crate) fn predicted(what: &str, predicted: &str, observed: Option<&str>) -> Self {
        Self {
            what: what.into(),
            predicted: predicted.into(),
            observed: observed.unwrap_or_default().into(),
        }
    }

    /// An address that only the LAN could know.
    pub(crate) fn given(what: &str, observed: &str) -> Self {
        Self {
            what: what.into(),
            observed: observed.into(),
            ..Self::default()
        }
    }

    fn verdict(&self) -> &'static str {
        if self.predicted.is_empty() {
            ""
        } else if self.predicted == self.observed {
            "same"
        } else {
            "DIFFERENT"
        }
    }
}

/// The rows in columns, with a heading.
pub(crate) fn table(rows: &[Row]) -> String {
    let heading = Row {
        what: "address".into(),
        predicted: "predicted by plan".into(),
        observed: "observed".into(),
    };
    let lines: Vec<[&str; 4]> = std::iter::once([
        heading.what.as_str(),
        heading.predicted.as_str(),
        heading.observed.as_str(),
        "",
    ])
    .chain(rows.iter().map(|row| {
        let or_dash = |text| Some(text).filter(|text: &&str| !text.is_empty()).unwrap_or("-");
        [
            row.what.as_str(),
            or_dash(&row.predicted),
            or_dash(&row.observed),
            row.verdict(),
        ]
    }))
    .collect();
    let width = |column: usize| {
        let cells = lines.iter().filter_map(|line| line.get(column));
        cells.map(|cell| cell.len()).max().unwrap_or(0)
    };
    let (what, predicted, observed) = (width(0), width(1), width(2));
    let text: Vec<String> = lines
        .iter()
        .map(|[a, b, c, d]| {
            format!("{a:<what$}  {b:<predicted$}  {c:<observed$}  {d}")
                .trim_end()
                .to_owned()
        })
        .collect();
    text.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_stands_out() {
        let rows = [
            Row::predicted("br0, from its MAC", "2001:db8::1", Some("2001:db8::1")),
            Row::predicted("web", "2001:db8::2", Some("2001:db8::3")),
            Row::predicted("db", "2001:db8::4", None),
            Row::given("br0, by DHCP", "192.0.2.163"),
        ];
        assert_eq!(
            table(&rows),
            "address            predicted by plan  observed\n\
             br0, from its MAC  2001:db8::1        2001:db8::1  same\n\
             web                2001:db8::2        2001:db8::3  DIFFERENT\n\
             db                 2001:db8::4        -            DIFFERENT\n\
             br0, by DHCP       -                  192.0.2.163"
        );
    }
}
