//! How a step of `run` gets to the shell of a container, and what its report may show of what it printed: the report lies on
//! the FAT partition, where everybody reads it. It runs nothing itself.

use crate::daemon::Exit;

/// The environment variable with the script. Arguments are for everybody who can list processes; a process's environment
/// is for root and itself alone.
pub(super) const VARIABLE: &str = "PALMFARM_RUN";

/// What the shell runs: the script, without the variable, and after it a line that says how it ended, if it ended in a way
/// that LXD takes for its own failure to start the shell. LXD would not keep the output then.
pub(super) const SHELL: &str = "\
palmfarm_run=$PALMFARM_RUN; unset PALMFARM_RUN; (eval \"$palmfarm_run\"); palmfarm_run=$?
case $palmfarm_run in 126|127) echo \"palmfarm: exit code $palmfarm_run\" >&2; exit 1;; esac; exit \"$palmfarm_run\"";

/// The start of that line.
const ENDED: &str = "palmfarm: exit code ";

/// What is shown in place of a word.
const HIDDEN: &str = "…";

/// How the script that [`SHELL`] ran ended: its own exit code, and its output without the words of `script` that may be
/// secret.
pub(super) fn ended(script: &str, mut exit: Exit) -> Exit {
    let last = exit.output.last().and_then(|line| line.strip_prefix(ENDED));
    if let Some(code) = last.and_then(|code| code.parse().ok()) {
        exit.output.pop();
        exit.code = code;
    }
    let words = may_be_secret(script);
    for line in &mut exit.output {
        for word in &words {
            *line = line.replace(word, HIDDEN);
        }
    }
    exit
}

/// The words of `script` that may be secret, the longest first: what is assigned, and what is not plainly the name of a
/// program, an option, a file or a package.
fn may_be_secret(script: &str) -> Vec<String> {
    let mut found = Vec::new();
    for assigned in script.split('=').skip(1) {
        let value = match assigned.chars().next() {
            Some(quote @ ('"' | '\'')) => assigned.split(quote).nth(1),
            _ => assigned.split(ends_a_word).next(),
        };
        let value = value.unwrap_or_default();
        found.push(value.to_owned());
        found.extend(value.split_whitespace().map(str::to_owned));
    }
    let is_plain = |c: char| c.is_ascii_lowercase() || "/._-+:".contains(c);
    for word in script.split(ends_a_word) {
        let parts = [word].into_iter().chain(word.split([':', '/', '@', '=', ',']));
        found.extend(
            parts
                .filter(|part| !part.chars().all(is_plain))
                .map(str::to_owned),
        );
    }
    // Shorter ones are in every output, and protect nothing.
    found.retain(|word| word.chars().count() >= 4);
    found.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
    found.dedup();
    found
}

fn ends_a_word(c: char) -> bool {
    c.is_whitespace() || "'\"`;|&()<>{}$\\".contains(c)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// What this computer's shell makes of `script`.
    fn run(script: &str) -> Exit {
        let out = Command::new("/bin/sh")
            .args(["-c", SHELL])
            .env(VARIABLE, script)
            .output()
            .unwrap();
        let text = [out.stdout, out.stderr].concat();
        let output = String::from_utf8(text)
            .unwrap()
            .lines()
            .map(str::to_owned)
            .collect();
        let code = out.status.code().unwrap().into();
        ended(script, Exit { code, output })
    }

    #[test]
    fn a_script_ends_as_it_does_in_a_shell_of_its_own() {
        let check = |script: &str, code: i64, output: &[&str]| {
            let exit = run(script);
            assert_eq!(
                (exit.code, exit.output),
                (code, output.iter().map(|line| (*line).into()).collect()),
                "{script}"
            );
        };
        check("echo one\necho two", 0, &["one", "two"]);
        check("echo said; exit 127", 127, &["said"]);
        check("echo said; exit 126", 126, &["said"]);
        check("set -e\nfalse\necho not", 1, &[]);
        check("cat <<E\nhere\nE\nexit 3", 3, &["here"]);
        check("trap 'echo trapped' EXIT; exit 4", 4, &["trapped"]);
        // Neither arguments nor the environment of what it starts have the script.
        check(
            "tr '\\0' '\\n' < /proc/self/environ | grep -c PALMFARM_RUN",
            1,
            &["0"],
        );
        check("tr '\\0' ' ' < /proc/$$/cmdline | grep -c say-nothing", 1, &["0"]);
        let missing = run("no-such-program-there");
        assert_eq!(missing.code, 127);
        assert!(
            missing.output.iter().any(|line| line.contains("not found")),
            "{missing:?}"
        );
    }

    #[test]
    fn what_may_be_secret_is_not_shown() {
        let shown = |script: &str, line: &str| {
            let output = vec![line.to_owned()];
            ended(script, Exit { code: 1, output }).output.remove(0)
        };
        assert_eq!(shown("set -x; PW=hunter", "+ PW=hunter"), "+ …");
        assert_eq!(shown("PW=\"correct horse\"; x", "got horse correct"), "got … …");
        assert_eq!(shown("mysql -phunter2 x", "+ mysql -phunter2 x"), "+ mysql … x");
        assert_eq!(
            shown("curl https://nina:hunter2@x/", "for nina: hunter2 is wrong"),
            "for nina: … is wrong"
        );
        // What helps is left.
        let line = "E: Unable to locate package nginx-lite";
        assert_eq!(shown("apt-get install nginx-lite", line), line);
    }
}
