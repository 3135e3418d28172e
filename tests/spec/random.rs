//! Whatever the input, there is an answer: no panic, no endless loop, and what is shown is harmless.

use proptest::prelude::*;

use std::path::Path;

use super::{read_in, said};

/// Read `text` and show what there is to say.
fn survives(text: &str) -> Result<(), TestCaseError> {
    let result = read_in(text, Path::new("/nonexistent"));
    let (farm, problems) = said(&result);
    let shown = farm.render(problems);
    prop_assert!(result.is_ok() || problems.errors() > 0);
    prop_assert!(
        !shown.contains(|c: char| c.is_control() && c != '\n'),
        "{shown:?}"
    );
    Ok(())
}

/// The example with some bytes of it replaced, doubled or left out.
fn mutated() -> impl Strategy<Value = String> {
    let edit = (
        any::<prop::sample::Index>(),
        0_usize..12,
        "[ -~\t\n]{0,4}|[{}\\[\\],:&*!|>'\"%@`#?-]|\\PC",
    );
    prop::collection::vec(edit, 1..6).prop_map(|edits| {
        let mut text: Vec<char> = include_str!("example.yaml").chars().collect();
        for (at, length, put) in edits {
            let start = at.index(text.len());
            let end = (start + length).min(text.len());
            text.splice(start..end, put.chars());
        }
        text.into_iter().collect()
    })
}

proptest! {
    // A failure is reproduced by the input that it prints.
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_is_answered(text in "\\PC*|(?s).{0,200}") {
        survives(&text)?;
    }

    #[test]
    fn any_yaml_is_answered(text in "([a-z]{1,3}|[ \n]{1,3}|[-:?,\\[\\]{}#&*!|>'\"%@`]|\t){0,60}") {
        survives(&text)?;
    }

    #[test]
    fn a_damaged_farm_is_answered(text in mutated()) {
        survives(&text)?;
    }
}
