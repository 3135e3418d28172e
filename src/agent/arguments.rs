//! The words of the agent's command line: which commands there are, what each takes, and what is wrong with a command
//! line that is none of them. It runs nothing.

/// One command.
pub struct Spec {
    pub name: &'static str,
    /// What it takes, as its line of help shows it.
    pub takes: &'static str,
    pub about: &'static str,
    /// Its options; one that ends in `=` is followed by a value.
    options: &'static [&'static str],
    /// The names of its operands. All of them are needed.
    operands: &'static [&'static str],
}

const fn spec(
    name: &'static str,
    takes: &'static str,
    about: &'static str,
    options: &'static [&'static str],
    operands: &'static [&'static str],
) -> Spec {
    Spec {
        name,
        takes,
        about,
        options,
        operands,
    }
}

/// Every command, in the order in which people and the boot need them.
pub const COMMANDS: [Spec; 13] = [
    spec(
        "status",
        "[--json] [--follow]",
        "how far the card is; --follow until the current run has ended",
        &["--json", "--follow"],
        &[],
    ),
    spec(
        "log",
        "",
        "what was logged of all runs, and the last report",
        &[],
        &[],
    ),
    spec(
        "doctor",
        "",
        "look for what is wrong with this Pi, and say what to do",
        &[],
        &[],
    ),
    spec(
        "run",
        "[--document FILE]",
        "make true what the card declares",
        &["--document="],
        &[],
    ),
    spec(
        "apply",
        "FILE [--dry-run [--json]]",
        "replace the card's first-boot document with another one, and make that true; --dry-run only says what would change",
        &["--dry-run", "--json"],
        &["FILE"],
    ),
    spec(
        "rebuild",
        "NAME [--yes]",
        "make a container again; the old one stays under another name",
        &["--yes"],
        &["NAME"],
    ),
    spec(
        "cluster forget",
        "NAME [--yes]",
        "let the cluster forget a member that is lost, with what it knows of the containers on it",
        &["--yes"],
        &["NAME"],
    ),
    spec(
        "cluster care",
        "",
        "look after the cluster, and note in the report how its members stand (every minute)",
        &[],
        &[],
    ),
    spec(
        "bridge",
        "",
        "give the bridge the hardware address of the uplink (before systemd-networkd)",
        &[],
        &[],
    ),
    spec(
        "seed",
        "",
        "let cloud-init start again after a first boot that was cut short (before cloud-init)",
        &[],
        &[],
    ),
    spec(
        "network",
        "",
        "confirm the declared network, or go back to DHCP",
        &[],
        &[],
    ),
    spec("version", "", "the agent's version", &[], &[]),
    spec("help", "[COMMAND]", "this text, or that of one command", &[], &[]),
];

const EXIT_CODES: &str = "exit codes: 0 all is as declared, 1 refused, 2 the command line is wrong, 3 something is not as it should be\n";

/// A command line that can be run.
#[derive(Debug, PartialEq, Eq)]
pub struct Parsed<'a> {
    pub command: &'static str,
    options: Vec<(&'static str, &'a str)>,
    operands: Vec<&'a str>,
}

impl<'a> Parsed<'a> {
    pub fn has(&self, option: &str) -> bool {
        self.value(option).is_some()
    }

    /// What was given with an option that takes a value.
    pub fn value(&self, option: &str) -> Option<&'a str> {
        self.options
            .iter()
            .find(|(name, _)| name.trim_end_matches('=') == option)
            .map(|(_, value)| *value)
    }

    /// The only operand; empty if the command has none.
    pub fn operand(&self) -> &'a str {
        self.operands.first().copied().unwrap_or_default()
    }
}

/// What a command line asks for.
#[derive(Debug, PartialEq, Eq)]
pub enum Request<'a> {
    Run(Parsed<'a>),
    /// Print this text.
    Help(String),
}

/// Read the words after the program's name. The error says what is wrong and what is known.
pub fn parse<'a>(words: &[&'a str]) -> Result<Request<'a>, String> {
    let is_help = |word: &&str| ["-h", "--help"].contains(word);
    let (name, rest) = match words.split_first() {
        None => return Err(format!("no command was given\n{}", all())),
        Some((first, _)) if is_help(first) => return Ok(Request::Help(all())),
        Some((&"-V" | &"--version", [])) => ("version", [].as_slice()),
        Some((&"cluster", ["forget", rest @ ..])) => ("cluster forget", rest),
        Some((&"cluster", ["care", rest @ ..])) => ("cluster care", rest),
        Some((&first, rest)) => (first, rest),
    };
    let spec = find(name)?;
    if rest.iter().any(is_help) {
        return Ok(Request::Help(one(spec)));
    }
    if spec.name == "help" {
        return match rest {
            [] => Ok(Request::Help(all())),
            [name] => find(name).map(one).map(Request::Help),
            [group, name] => find(&format!("{group} {name}")).map(one).map(Request::Help),
            _ => Err(format!("`help` takes one command\n{}", one(spec))),
        };
    }
    words_of(spec, rest)
        .and_then(
            |parsed| match (parsed.has("--dry-run"), parsed.command, parsed.has("--json")) {
                (false, "apply", true) => {
                    Err("`apply` takes --json with --dry-run only; `status --json` has the report".into())
                }
                _ => Ok(parsed),
            },
        )
        .map(Request::Run)
        .map_err(|why| format!("{why}\n{}", one(spec)))
}

fn find(name: &str) -> Result<&'static Spec, String> {
    COMMANDS
        .iter()
        .find(|spec| spec.name == name)
        .ok_or_else(|| format!("{name:?} is not a command\n{}", all()))
}

fn words_of<'a>(spec: &'static Spec, words: &[&'a str]) -> Result<Parsed<'a>, String> {
    let mut parsed = Parsed {
        command: spec.name,
        options: Vec::new(),
        operands: Vec::new(),
    };
    let mut words = words.iter();
    while let Some(word) = words.next() {
        if !word.starts_with('-') {
            parsed.operands.push(word);
            continue;
        }
        let (name, given) = match word.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (*word, None),
        };
        let known = spec
            .options
            .iter()
            .find(|option| option.trim_end_matches('=') == name);
        let option = known.ok_or_else(|| format!("`{}` does not know the option {name}", spec.name))?;
        let value = match (option.ends_with('='), given) {
            (true, None) => *words.next().ok_or_else(|| format!("{name} needs a value"))?,
            (true, Some(value)) => value,
            (false, None) => "",
            (false, Some(_)) => return Err(format!("{name} takes no value")),
        };
        parsed.options.push((option, value));
    }
    match (
        parsed.operands.get(spec.operands.len()),
        spec.operands.get(parsed.operands.len()),
    ) {
        (Some(extra), _) => Err(format!("`{}` does not take {extra:?}", spec.name)),
        (None, Some(missing)) => Err(format!("`{}` needs {missing}", spec.name)),
        (None, None) => Ok(parsed),
    }
}

/// The help of all commands.
fn all() -> String {
    let mut text = "usage: palmfarm-agent [--root DIR] COMMAND\n".to_owned();
    for spec in &COMMANDS {
        let both = format!("{} {}", spec.name, spec.takes);
        text.push_str(&format!("    {:<28} {}\n", both.trim_end(), spec.about));
    }
    text.push_str(EXIT_CODES);
    text
}

fn one(spec: &Spec) -> String {
    let both = format!("{} {}", spec.name, spec.takes);
    format!(
        "usage: palmfarm-agent {}\n    {}\n{EXIT_CODES}",
        both.trim_end(),
        spec.about
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run<'a>(words: &[&'a str]) -> Parsed<'a> {
        match parse(words) {
            Ok(Request::Run(parsed)) => parsed,
            other => panic!("{words:?}: {other:?}"),
        }
    }

    #[test]
    fn options_stand_where_people_put_them() {
        let parsed = run(&["status", "--follow", "--json"]);
        assert!(parsed.has("--json") && parsed.has("--follow"));
        assert!(!run(&["status"]).has("--json"));
        for words in [&["rebuild", "--yes", "web"], &["rebuild", "web", "--yes"]] {
            let parsed = run(words);
            assert_eq!((parsed.operand(), parsed.has("--yes")), ("web", true));
        }
        for words in [
            &["run", "--document", "a.json"][..],
            &["run", "--document=a.json"],
        ] {
            assert_eq!(run(words).value("--document"), Some("a.json"));
        }
        assert_eq!(run(&["run"]).value("--document"), None);
        for word in ["-V", "--version", "version"] {
            assert_eq!(run(&[word]).command, "version");
        }
    }

    #[test]
    fn what_is_wrong_is_said_with_what_is_known() {
        let check = |words: &[&str], why: &str, known: &str| {
            let error = parse(words).unwrap_err();
            assert!(
                error.starts_with(why) && error.contains(known),
                "{words:?}: {error}"
            );
        };
        check(&[], "no command was given", "doctor");
        check(
            &["statsu"],
            "\"statsu\" is not a command",
            "status [--json] [--follow]",
        );
        check(
            &["status", "--jsn"],
            "`status` does not know the option --jsn",
            "[--json] [--follow]",
        );
        check(&["status", "now"], "`status` does not take \"now\"", "usage");
        check(&["status", "--json=1"], "--json takes no value", "usage");
        check(
            &["run", "--document"],
            "--document needs a value",
            "[--document FILE]",
        );
        check(&["rebuild"], "`rebuild` needs NAME", "NAME [--yes]");
        let both = run(&["apply", "--json", "x.tar", "--dry-run"]);
        assert!(both.has("--json") && both.has("--dry-run"));
        check(
            &["apply", "x.tar", "--json"],
            "`apply` takes --json with --dry-run only",
            "FILE [--dry-run [--json]]",
        );
        check(&["help", "statsu"], "\"statsu\" is not a command", "usage");
    }

    #[test]
    fn there_is_help_for_all_and_for_each() {
        for words in [&["--help"][..], &["-h"], &["help"]] {
            let Ok(Request::Help(text)) = parse(words) else {
                panic!("{words:?}");
            };
            assert!(COMMANDS.iter().all(|spec| text.contains(spec.about)), "{text}");
        }
        for words in [
            &["help", "apply"][..],
            &["apply", "--help"],
            &["apply", "x", "-h"],
        ] {
            let Ok(Request::Help(text)) = parse(words) else {
                panic!("{words:?}");
            };
            assert!(text.starts_with("usage: palmfarm-agent apply FILE"), "{text}");
        }
    }
}
