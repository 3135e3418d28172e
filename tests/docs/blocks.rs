//! What of a Markdown page can be tried: fenced blocks with a farm, and those with command lines. It runs nothing.

/// A fenced block.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Block {
    /// A whole farm.
    Farm(String),
    /// Command lines, and whether they can be run here: the fence of others says `console,no_run`.
    Console { text: String, runs: bool },
}

/// One command line.
pub(crate) struct Line {
    /// As the page has it, without the prompt.
    pub shown: String,
}

/// The blocks of `page`, in order. Other blocks, and pieces of farms, are not among them.
pub(crate) fn blocks(page: &str) -> Vec<Block> {
    let mut found = Vec::new();
    let mut open: Option<(&str, String)> = None;
    for line in page.lines() {
        match (&mut open, line.trim_start().strip_prefix("```")) {
            (None, Some(info)) => open = Some((info.trim(), String::new())),
            (Some((info, text)), Some(_)) => {
                match *info {
                    "yaml" if text.contains("farm: 1") => found.push(Block::Farm(text.clone())),
                    "console" | "console,no_run" => found.push(Block::Console {
                        text: text.clone(),
                        runs: *info == "console",
                    }),
                    _ => {}
                }
                open = None;
            }
            (Some((_, text)), None) => text.push_str(&format!("{line}\n")),
            (None, None) => {}
        }
    }
    found
}

/// The lines of a console that a person types. A prompt ends in `$ `; other lines are what programs print.
pub(crate) fn command_lines(console: &str) -> Vec<Line> {
    let typed = console.lines().filter_map(|line| {
        let (prompt, command) = line.split_once("$ ")?;
        (!prompt.contains(' ')).then_some(command)
    });
    // A remark begins after two blanks.
    typed
        .map(|command| command.split("  #").next().unwrap_or_default().trim())
        .map(|command| Line {
            shown: command.to_owned(),
        })
        .collect()
}

impl Line {
    /// The arguments, if the line calls palmfarm on this computer. What the shell does with the output is left out.
    pub(crate) fn palmfarm(&self) -> Option<Vec<String>> {
        let mut words = self.shown.split_whitespace().skip_while(|word| *word == "sudo");
        (words.next()? == "palmfarm").then_some(())?;
        let ours = words.take_while(|word| ![">", "|", "&&"].contains(word));
        Some(
            ours.map(|word| word.trim_matches(['"', '\'']).to_owned())
                .collect(),
        )
    }
}

#[test]
fn blocks_and_lines_are_found() {
    let page = "a\n```yaml\nfarm: 1\n```\n```yaml\nfiles: {}\n```\n```console,no_run\n$ sudo palmfarm flash f.yaml  # x\n\
                out $ put\ncraig@palm:~$ ls\n```\n```console\n$ palmfarm plan f > x\n```\n";
    let found = blocks(page);
    assert_eq!(found.len(), 3, "{found:?}");
    assert_eq!(found[0], Block::Farm("farm: 1\n".to_owned()));
    let Block::Console { text, runs: false } = &found[1] else {
        panic!("{found:?}")
    };
    let lines = command_lines(text);
    let shown: Vec<&str> = lines.iter().map(|line| line.shown.as_str()).collect();
    assert_eq!(shown, ["sudo palmfarm flash f.yaml", "ls"]);
    assert_eq!(lines[0].palmfarm().unwrap(), ["flash", "f.yaml"]);
    assert_eq!(lines[1].palmfarm(), None);
    let Block::Console { text, runs: true } = &found[2] else {
        panic!("{found:?}")
    };
    assert_eq!(command_lines(text)[0].palmfarm().unwrap(), ["plan", "f"]);
}
