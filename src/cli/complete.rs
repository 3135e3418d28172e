//! Completions: the command line as shells should know it, with what arguments can be. It reads the tables of bases and
//! boards, and looks at no file.

use clap::builder::PossibleValue;
use clap::{Arg, Command, CommandFactory, ValueHint};
use clap_complete::Shell;

use super::args::Palmfarm;
use crate::base::download::boards::{self, Suggestion};
use crate::base::download::catalogue::{Known, KNOWN};

/// The words for boards that `palmfarm base suggest` takes, the shortest for each.
const BOARDS: [&str; 5] = ["2", "3", "4", "5", "zero2w"];

/// The script for `shell`.
pub(super) fn script(shell: Shell) -> Vec<u8> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut aware(Palmfarm::command()), "palmfarm", &mut script);
    script
}

/// `command` with what its arguments can be. Arguments of one name are completed alike in every command.
fn aware(command: Command) -> Command {
    command.mut_args(argument).mut_subcommands(aware)
}

fn argument(arg: Arg) -> Arg {
    match arg.get_id().as_str() {
        "farm" | "source" | "device" | "image" | "file" | "output" => arg.value_hint(ValueHint::FilePath),
        "dir" => arg.value_hint(ValueHint::DirPath),
        "base" => arg.value_parser(KNOWN.iter().map(base).collect::<Vec<_>>()),
        "board" => arg.value_parser(BOARDS.iter().map(|name| board(name)).collect::<Vec<_>>()),
        _ => arg,
    }
}

fn base(known: &Known) -> PossibleValue {
    PossibleValue::new(known.name).help(known.note)
}

fn board(name: &'static str) -> PossibleValue {
    let value = PossibleValue::new(name);
    match boards::suggest(name) {
        Suggestion::Boards(boards) => boards
            .first()
            .map_or(value.clone(), |board| value.help(board.name)),
        Suggestion::Unsupported | Suggestion::Unknown => value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_is_a_board() {
        for name in BOARDS {
            assert!(matches!(boards::suggest(name), Suggestion::Boards(_)), "{name}");
        }
    }
}
