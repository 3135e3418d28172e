//! Runs the tools that the chores use, and reports in one form what was run, how it ended and what it complained of.
//!
//! It never goes through a shell, and never hides a failure: an exit code other than 0 is an error that carries
//! the command and the end of its standard error.

use std::borrow::BorrowMut;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use anyhow::{bail, Context, Result};
use xshell::{Cmd, Shell};

/// Where administrators' tools live; an ordinary user's `PATH` on Debian leaves these out.
const SBIN: [&str; 3] = ["/usr/local/sbin", "/usr/sbin", "/sbin"];

/// The program called `name` in `PATH` or in the administrators' directories.
pub(crate) fn find(name: &str) -> Option<PathBuf> {
    std::env::split_paths(&search_path())
        .map(|dir| dir.join(name))
        .find(|path| path.is_file())
}

/// `PATH` with the administrators' directories at its end.
pub(crate) fn search_path() -> OsString {
    let given = std::env::var_os("PATH").unwrap_or_default();
    let dirs = std::env::split_paths(&given).chain(SBIN.iter().map(PathBuf::from));
    std::env::join_paths(dirs).unwrap_or(given)
}

/// `program` with `args`, in the plain C locale, in UTC and with [`search_path`]; nothing is started yet.
pub(crate) fn cmd<S: AsRef<OsStr>>(program: &str, args: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(find(program).unwrap_or_else(|| PathBuf::from(program)));
    command
        .args(args)
        .env("PATH", search_path())
        .env("LC_ALL", "C")
        // FAT keeps local time.
        .env("TZ", "UTC")
        .stdin(Stdio::null());
    command
}

/// What [`xshell::cmd!`] takes its environment from: the same as in [`cmd`].
pub(crate) fn shell() -> Result<Shell> {
    let shell = Shell::new()?;
    shell.set_var("PATH", search_path());
    shell.set_var("LC_ALL", "C");
    shell.set_var("TZ", "UTC");
    Ok(shell)
}

/// What the functions below run: a command put together word by word, or one line of [`xshell::cmd!`].
pub(crate) trait Tool {
    fn command(self) -> impl BorrowMut<Command>;
}

impl Tool for &mut Command {
    fn command(self) -> impl BorrowMut<Command> {
        self
    }
}

impl Tool for Cmd<'_> {
    fn command(self) -> impl BorrowMut<Command> {
        Command::from(self)
    }
}

/// The cargo that runs us, in the workspace.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(crate::workspace_dir()).stdin(Stdio::null());
    command
}

/// `path` as one word for sh.
pub(crate) fn quoted(path: &Path) -> String {
    format!("'{}'", path.display().to_string().replace('\'', "'\\''"))
}

/// Run to the end; the output is shown only when it failed.
pub(crate) fn run(tool: impl Tool) -> Result<()> {
    output(tool).map(drop)
}

/// Run to the end and return what it printed.
pub(crate) fn output(tool: impl Tool) -> Result<String> {
    let mut tool = tool.command();
    let command = tool.borrow_mut();
    let shown = shown(command);
    let done = command.output().with_context(|| format!("starting {shown}"))?;
    if !done.status.success() {
        bail!("{shown}: {}{}", done.status, tail(&done));
    }
    Ok(String::from_utf8_lossy(&done.stdout).into_owned())
}

/// Run to the end with the terminal's own output, for what takes minutes.
pub(crate) fn run_shown(command: &mut Command) -> Result<()> {
    let shown = shown(command);
    eprintln!("$ {shown}");
    let status = command.status().with_context(|| format!("starting {shown}"))?;
    if !status.success() {
        bail!("{shown}: {status}");
    }
    Ok(())
}

/// Run to the end with everything it prints in `log`; a failure names the log and shows its last lines.
pub(crate) fn run_logged(tool: impl Tool, log: &Path) -> Result<()> {
    let mut tool = tool.command();
    let shown = shown(tool.borrow_mut());
    let status = start_logged(tool.borrow_mut(), log)?.wait()?;
    if !status.success() {
        let text = fs_err::read(log).unwrap_or_default();
        bail!(
            "{shown}: {status}; the end of {}:\n{}",
            log.display(),
            last_lines(&String::from_utf8_lossy(&text), 25)
        );
    }
    Ok(())
}

/// Start it with everything it prints in `log`.
pub(crate) fn start_logged(tool: impl Tool, log: &Path) -> Result<Child> {
    let mut tool = tool.command();
    let command = tool.borrow_mut();
    let out = fs_err::File::create(log)?;
    command.stdin(Stdio::null()).stderr(out.try_clone()?.into_file());
    let child = command.stdout(out.into_file()).spawn();
    child.with_context(|| format!("starting {}", shown(command)))
}

/// Whether it ended with exit code 0; what it printed does not matter.
pub(crate) fn succeeds(tool: impl Tool) -> bool {
    let mut tool = tool.command();
    let command = tool.borrow_mut();
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// The command as a person would type it, with long arguments shortened.
pub(crate) fn shown(command: &Command) -> String {
    let mut text = Path::new(command.get_program())
        .file_name()
        .map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    for arg in command.get_args() {
        let arg = arg.to_string_lossy();
        text.push(' ');
        match arg.char_indices().nth(160) {
            Some((at, _)) => text.extend([&arg[..at], "…"]),
            None => text.push_str(&arg),
        }
    }
    text
}

fn tail(done: &Output) -> String {
    let text = if done.stderr.is_empty() {
        &done.stdout
    } else {
        &done.stderr
    };
    let text = last_lines(&String::from_utf8_lossy(text), 25);
    if text.is_empty() {
        text
    } else {
        format!(":\n{text}")
    }
}

/// The last `count` lines of `text`.
pub(crate) fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.trim_end().lines().collect();
    let from = lines.len().saturating_sub(count);
    lines.get(from..).unwrap_or_default().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_one_word() {
        assert_eq!(quoted(Path::new("/a b/it's")), r"'/a b/it'\''s'");
    }
}
