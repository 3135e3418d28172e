//! What the man pages say beside what is declared elsewhere: exit codes, variables, files, examples. It holds text, and
//! which commands it is for; a new command needs nothing here.

/// `exit code, meaning`.
pub(super) const EXIT_STATUS: &[(&str, &str)] = &[
    ("0", "Done."),
    ("1", "Refused; nothing was touched."),
    ("2", "The command line is wrong."),
    (
        "3",
        "Failed; the card, or the file with the output's name, is untouched.",
    ),
    ("4", "The card is spoiled: write it again."),
    ("5", "What was waited for did not come in time."),
    (
        "130",
        "Interrupted; if a card was being written, it is spoiled, and the message says so.",
    ),
];

/// A term, what it means, and the commands that it matters to; the tool's own page has all of them.
type Entry = (&'static str, &'static str, &'static [&'static str]);

pub(super) const ENVIRONMENT: &[Entry] = &[
    (
        "ALL_PROXY, HTTPS_PROXY, HTTP_PROXY",
        "The proxy for downloads: the first that is set counts, in large or small letters. A proxy that cannot be used is \
         an error.",
        &["build", "flash", "push", "base", "image"],
    ),
    (
        "SSL_CERT_FILE",
        "A file of certificates in PEM to trust in place of the built-in ones.",
        &["build", "flash", "push", "base", "image"],
    ),
    (
        "SOURCE_DATE_EPOCH",
        "Seconds since 1970 that files on the card have as their time. If it is not set, the \
         time at which the base's root filesystem was last written.",
        &["build", "flash", "push"],
    ),
    (
        "PALMFARM_AGENT_DIR",
        "The folder of the agents for the Pi, if the program has none inside.",
        &["build", "flash", "push", "doctor"],
    ),
    (
        "XDG_CACHE_HOME",
        "Where the folder palmfarm with downloaded images is, in place of ~/.cache. Under sudo it is not used: the folder \
         is that of the user who called.",
        &["build", "flash", "push", "base", "plan"],
    ),
    ("NO_COLOR", "If it is set, no colour is printed.", &[]),
];

pub(super) const FILES: &[Entry] = &[
    ("farm.yaml", "The farm: see palmfarm.yaml(5).", &["init", "check", "plan", "build", "flash", "find", "watch", "push", "lock", "keys"]),
    (
        "~/.cache/palmfarm/bases",
        "Downloaded and unpacked images; palmfarm base clean makes room.",
        &["build", "flash", "push", "base", "plan"],
    ),
    (
        "OUT.manifest.json, OUT.bmap",
        "Beside an image: its digest, and the map of its blocks in use for bmaptool. The digest of an image with secrets is \
         as secret as they are.",
        &["build"],
    ),
    (
        "palmfarm-report.txt",
        "In the FAT partition of a card that was booted: what was done, what failed, and what to do.",
        &["inspect"],
    ),
];

/// A command line and what it does. The first words are the command's.
const EXAMPLES: &[(&str, &str)] = &[
    ("palmfarm init", "Write a commented farm.yaml."),
    (
        "palmfarm check farm.yaml",
        "Show every problem of a farm at once, with line and column.",
    ),
    (
        "palmfarm plan farm.yaml --prefix 2001:db8:ebbd:2080::/64",
        "Show what the card would hold, and the addresses in this home network.",
    ),
    (
        "palmfarm plan --prefix auto -o plan.html --open",
        "Show a page with the network drawn in a browser.",
    ),
    (
        "palmfarm build farm.yaml -o palm.img",
        "Make an image; this needs no root.",
    ),
    (
        "palmfarm build farm.yaml -o palm.tar",
        "Make what palmfarm-agent apply takes on a running Pi.",
    ),
    (
        "sudo palmfarm flash farm.yaml",
        "Pick a card, write it and read it back.",
    ),
    (
        "sudo palmfarm flash palm.img /dev/sdb",
        "Write an image to a card.",
    ),
    (
        "palmfarm find",
        "Wait until the Pis and containers of farm.yaml are on the LAN.",
    ),
    ("palmfarm watch", "Show how a Pi comes up, over ssh."),
    (
        "palmfarm push --dry-run",
        "Show what a later farm.yaml would change on a running Pi.",
    ),
    (
        "palmfarm watch farm.yaml",
        "Show how the Pi comes up, until everything is as declared.",
    ),
    (
        "palmfarm push farm.yaml --dry-run",
        "Show what a later farm would change on the running Pi.",
    ),
    (
        "palmfarm push farm.yaml 192.168.1.10 --user craig",
        "Bring a later farm to the Pi at this address.",
    ),
    (
        "palmfarm devices",
        "Show every disk, and why it may not be written.",
    ),
    ("palmfarm inspect palm.img", "Show what is on an image."),
    (
        "palmfarm inspect palm.img root:/etc/palmfarm/manifest.json",
        "Print a file of an image.",
    ),
    (
        "palmfarm image fetch alpine/3.23 --arch armhf",
        "Download a root filesystem for `images:`.",
    ),
    (
        "palmfarm doctor image.img",
        "Say what on an image would keep its cards from coming up.",
    ),
    ("palmfarm base list", "List the images that a farm can name."),
    (
        "palmfarm base suggest 4",
        "Say which image suits a Raspberry Pi 4.",
    ),
    (
        "palmfarm base fetch ubuntu-24.04-arm64",
        "Download an image, or resume its download.",
    ),
    (
        "palmfarm base verify my.img.xz --sums SHA256SUMS --signature SHA256SUMS.gpg",
        "Compare an image with a list that Ubuntu signed.",
    ),
    ("palmfarm base clean --all", "Empty the cache."),
    ("palmfarm schema", "Print the schema of farm.yaml for an editor."),
    (
        "palmfarm completions bash",
        "Print what ~/.local/share/bash-completion/completions/palmfarm should hold.",
    ),
    ("palmfarm man pages", "Write these pages into a folder."),
];

pub(super) const FARM: &str = "A farm is a file in YAML, by custom farm.yaml, that says what palmfarm puts on a card: the base \
     image, the people who log in, the network, LXD and its containers. Paths in it are relative to it. NAME stands for a \
     name that you choose, and [] for each entry of a list. An unknown key is an error. palmfarm check reports every problem \
     at once.";

/// A farm that can be used once the key is another.
pub(super) const SHORT_FARM: &str = "\
farm: 1
base: ubuntu-24.04-arm64
hostname: palm
users:
  - name: craig
    groups: [sudo, lxd]
    ssh_keys: [\"ssh-ed25519 AAAA... craig@laptop\"]
    sudo: nopasswd
containers:
  web: {image: \"images:debian/12\"}
";

/// The entries for the command that `words` name, all of them for the tool itself.
pub(super) fn chosen(
    entries: &'static [Entry],
    words: &[&str],
) -> impl Iterator<Item = (&'static str, &'static str)> {
    let command = words.get(1).map(|word| (*word).to_owned());
    let fits = move |commands: &[&str]| command.as_deref().is_none_or(|name| commands.contains(&name));
    entries
        .iter()
        .filter(move |(_, _, commands)| fits(commands))
        .map(|(term, text, _)| (*term, *text))
}

/// The examples of the command that `words` name; the tool itself has the first of each that makes a card.
pub(super) fn examples(words: &[&str]) -> Vec<(&'static str, &'static str)> {
    let first_card = ["init", "check", "plan", "flash", "find"];
    let fits = |line: &&(&str, &str)| {
        let line: Vec<&str> = line.0.trim_start_matches("sudo ").split(' ').collect();
        if words.len() == 1 {
            first_card.iter().any(|name| line.get(1) == Some(name))
        } else {
            line.starts_with(words)
        }
    };
    EXAMPLES.iter().filter(fits).copied().collect()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::args::Palmfarm;

    #[test]
    fn every_example_is_a_command_line() {
        for (line, _) in EXAMPLES {
            let words = line.trim_start_matches("sudo ").split(' ');
            Palmfarm::try_parse_from(words).unwrap_or_else(|error| panic!("{line}: {error}"));
        }
    }

    #[test]
    fn what_is_for_a_command_is_for_one_that_there_is() {
        let tool = crate::cli::reference::tool();
        for (term, _, commands) in ENVIRONMENT.iter().chain(FILES) {
            for command in *commands {
                assert!(tool.find_subcommand(command).is_some(), "{term}: {command}");
            }
        }
    }
}
