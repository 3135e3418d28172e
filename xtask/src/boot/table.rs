//! Predicted and observed addresses side by side. Judges only whether the two are the same.

/// The name of an address, what `palmfarm plan` predicted and what was observed; the last two may be empty.
pub(crate) type Row = [String; 3];

/// The rows in columns, with a heading.
pub(crate) fn table(rows: &[Row]) -> String {
    let mut lines = vec![["address", "predicted by plan", "observed", ""]];
    lines.extend(rows.iter().map(|[what, predicted, observed]| {
        let verdict = match predicted.as_str() {
            "" => "",
            predicted if predicted == observed => "same",
            _ => "DIFFERENT",
        };
        let [predicted, observed] =
            [predicted, observed].map(|text| if text.is_empty() { "-" } else { text });
        [what, predicted, observed, verdict]
    }));
    let width = |column: usize| {
        let cells = lines.iter().filter_map(|line| line.get(column));
        cells.map(|cell| cell.len()).max().unwrap_or(0)
    };
    let (first, second, third) = (width(0), width(1), width(2));
    let lines = lines.iter().map(|[what, predicted, observed, verdict]| {
        let line = format!("{what:<first$}  {predicted:<second$}  {observed:<third$}  {verdict}");
        line.trim_end().to_owned()
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_stands_out() {
        let rows: [[&str; 3]; 4] = [
            ["br0, from its MAC", "2001:db8::1", "2001:db8::1"],
            ["web", "2001:db8::2", "2001:db8::3"],
            ["db", "2001:db8::4", ""],
            ["br0, by DHCP", "", "192.0.2.163"],
        ];
        assert_eq!(
            table(&rows.map(|row| row.map(str::to_owned))),
            "address            predicted by plan  observed\n\
             br0, from its MAC  2001:db8::1        2001:db8::1  same\n\
             web                2001:db8::2        2001:db8::3  DIFFERENT\n\
             db                 2001:db8::4        -            DIFFERENT\n\
             br0, by DHCP       -                  192.0.2.163"
        );
    }
}
