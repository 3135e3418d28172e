//! Running the system's own programs, such as `ip`, `systemctl` and `apt-get`: never through a shell, and always in the C
//! locale.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::process::{Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::root::Root;
use crate::step::StepError;

/// Where programs are if the caller has no `PATH`.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// How many bytes are read from the end of a program's output.
const TAIL: u64 = 64 << 10;

/// How many lines of output go into the report.
const SHOWN: usize = 12;

/// What a short query prints; empty if there is no such program or it fails.
pub(crate) fn query(name: &str, args: &[&str]) -> String {
    let done = command(name, args).stderr(Stdio::null()).output();
    done.map_or_else(
        |_| String::new(),
        |done| String::from_utf8_lossy(&done.stdout).into_owned(),
    )
}

/// Run a program whose output is for the person at this terminal. Whether it succeeded does not matter here.
pub(crate) fn show(name: &str, args: &[&str]) {
    let _ = command(name, args).status();
}

/// Run a program to its end, or kill it after `limit`.
pub(crate) fn run(root: &Root, name: &str, args: &[&str], limit: Duration) -> Result<(), StepError> {
    output(root, name, args, limit).map(drop)
}

/// The same, and return the last lines that it prints. The output goes to a file below `/run`, so that it is never in
/// memory, however much there is.
pub(crate) fn output(
    root: &Root,
    name: &str,
    args: &[&str],
    limit: Duration,
) -> Result<Vec<String>, StepError> {
    let mut command = command(name, args);
    let shown = format!("{name} {}", args.join(" "));
    let failed = |error: io::Error| StepError::new(format!("running {shown}: {error}"));
    let dir = root.at("/run/palmfarm");
    let path = dir.join(format!("output.{}", std::process::id()));
    fs::create_dir_all(&dir).map_err(failed)?;
    let mut options = File::options();
    options.read(true).write(true).create(true).truncate(true);
    let mut output = options.open(&path).map_err(failed)?;
    // Only the descriptor is needed: a name that is removed now cannot be left behind.
    let _ = fs::remove_file(&path);
    let (out, err) = (
        output.try_clone().map_err(failed)?,
        output.try_clone().map_err(failed)?,
    );
    let mut child = command.stdout(out).stderr(err).spawn().map_err(failed)?;
    let end = Instant::now() + limit;
    let status = loop {
        if let Some(status) = child.try_wait().map_err(failed)? {
            break Some(status);
        }
        if Instant::now() > end {
            let _ = child.kill();
            let _ = child.wait();
            break None;
        }
        sleep(Duration::from_millis(100));
    };
    let why = match status {
        Some(status) if status.success() => return last_lines(&mut output).map_err(failed),
        Some(status) => describe(status),
        None => format!("was not done after {} s", limit.as_secs()),
    };
    let mut error = StepError::new(format!("{shown} {why}"));
    // Without its output the error is still worth reporting.
    error.output = last_lines(&mut output).unwrap_or_default();
    Err(error)
}

/// What an error says once every try has failed.
const LATER: &str = "; the next boot and `palmfarm-agent run` retry it";

/// Pause for so many seconds before each try, until one succeeds.
pub(crate) fn retry<T>(
    pauses: &[u64],
    doing: &str,
    attempt: impl Fn() -> Result<T, StepError>,
) -> Result<T, StepError> {
    let mut last = StepError::new(doing);
    for pause in pauses {
        sleep(Duration::from_secs(*pause));
        match attempt() {
            Ok(done) => return Ok(done),
            Err(error) => {
                say!("{doing}: {error}");
                last = error;
            }
        }
    }
    // What was tried may consist of tries itself.
    if !last.message.ends_with(LATER) {
        last.message.push_str(LATER);
    }
    Err(last)
}

fn command(name: &str, args: &[&str]) -> Command {
    let mut command = Command::new(name);
    command
        .args(args)
        .env("LC_ALL", "C")
        // Nobody can answer the questions of a package's scripts (debconf(7), needrestart(1)).
        .env("DEBIAN_FRONTEND", "noninteractive")
        .env("NEEDRESTART_MODE", "l")
        .stdin(Stdio::null());
    if std::env::var_os("PATH").is_none() {
        command.env("PATH", PATH);
    }
    command
}

fn describe(status: ExitStatus) -> String {
    match status.code() {
        Some(code) => format!("ended with {code}"),
        None => format!("was stopped ({status})"),
    }
}

fn last_lines(output: &mut File) -> io::Result<Vec<String>> {
    let size = output.seek(SeekFrom::End(0))?;
    output.seek(SeekFrom::Start(size.saturating_sub(TAIL)))?;
    let mut bytes = Vec::new();
    output.read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    let from = lines.len().saturating_sub(SHOWN);
    Ok(lines.into_iter().skip(from).map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::root::scratch::Scratch;

    #[test]
    fn a_failure_carries_its_last_lines() {
        let scratch = Scratch::new("program", &[]);
        let run = |script: &str, limit| run(&scratch.0, "sh", &["-c", script], Duration::from_millis(limit));
        run("echo fine; exit 0", 60_000).unwrap();
        let error = run("seq 1 30; echo worse >&2; exit 3", 60_000).unwrap_err();
        assert!(error.message.ends_with("ended with 3"), "{}", error.message);
        assert_eq!(error.output.len(), SHOWN);
        assert_eq!(error.output.last().map(String::as_str), Some("worse"));
        let error = run("echo begun; sleep 600", 300).unwrap_err();
        assert!(error.message.contains("was not done after"), "{}", error.message);
        assert_eq!(scratch.0.names("/run/palmfarm"), [""; 0]);
    }

    #[test]
    fn a_query_of_a_missing_program_is_empty() {
        assert_eq!(query("palmfarm-no-such-program", &[]), "");
        assert_eq!(query("echo", &["a"]), "a\n");
    }
}
