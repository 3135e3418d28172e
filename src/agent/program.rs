//! Running the system's own programs: `ip`, `systemctl`, `apt-get`. Never through a shell, always in the C locale,
//! always with an end.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::process::{Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::farm::Trouble;
use crate::root::Root;

/// Where programs are, for a caller that has no `PATH`.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What is kept of a program's output, in bytes from its end.
const KEPT: u64 = 64 << 10;

/// Lines of output that go into the report.
const SHOWN: usize = 12;

/// What a short query printed; empty where the program is absent or failed.
pub(crate) fn ask(name: &str, args: &[&str]) -> String {
    let done = command(name, args).stderr(Stdio::null()).output();
    done.map_or_else(
        |_| String::new(),
        |done| String::from_utf8_lossy(&done.stdout).into_owned(),
    )
}

/// Run to the end, at most for `limit`. Output goes to a file below `/run`, so that however much there is, it is never
/// in memory.
pub(crate) fn run(root: &Root, name: &str, args: &[&str], limit: Duration) -> Result<(), Trouble> {
    let mut command = command(name, args);
    let shown = format!("{name} {}", args.join(" "));
    let failed = |error: io::Error| Trouble::new(format!("running {shown}: {error}"));
    let dir = root.at("/run/palmfarm");
    let path = dir.join(format!("output.{}", std::process::id()));
    fs::create_dir_all(&dir).map_err(failed)?;
    let mut options = File::options();
    options.read(true).write(true).create(true).truncate(true);
    let mut output = options.open(&path).map_err(failed)?;
    // Open by descriptor only: a name that is gone cannot be left behind.
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
        Some(status) if status.success() => return Ok(()),
        Some(status) => ending(status),
        None => format!("was not done after {} s", limit.as_secs()),
    };
    let mut trouble = Trouble::new(format!("{shown} {why}"));
    trouble.output = last_lines(&mut output).unwrap_or_default();
    Err(trouble)
}

fn command(name: &str, args: &[&str]) -> Command {
    let mut command = Command::new(name);
    command
        .args(args)
        .env("LC_ALL", "C")
        // Nobody is there to answer what a package's scripts may ask (debconf(7), needrestart(1)).
        .env("DEBIAN_FRONTEND", "noninteractive")
        .env("NEEDRESTART_MODE", "l")
        .stdin(Stdio::null());
    if std::env::var_os("PATH").is_none() {
        command.env("PATH", PATH);
    }
    command
}

fn ending(status: ExitStatus) -> String {
    match status.code() {
        Some(code) => format!("ended with {code}"),
        None => format!("was stopped ({status})"),
    }
}

fn last_lines(output: &mut File) -> io::Result<Vec<String>> {
    let size = output.seek(SeekFrom::End(0))?;
    output.seek(SeekFrom::Start(size.saturating_sub(KEPT)))?;
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
        let trouble = run("seq 1 30; echo worse >&2; exit 3", 60_000).unwrap_err();
        assert!(trouble.message.ends_with("ended with 3"), "{}", trouble.message);
        assert_eq!(trouble.output.len(), SHOWN);
        assert_eq!(trouble.output.last().map(String::as_str), Some("worse"));
        let trouble = run("echo begun; sleep 600", 300).unwrap_err();
        assert!(
            trouble.message.contains("was not done after"),
            "{}",
            trouble.message
        );
        assert_eq!(scratch.0.names("/run/palmfarm"), [""; 0]);
    }

    #[test]
    fn a_query_of_what_is_not_there_is_empty() {
        assert_eq!(ask("palmfarm-no-such-program", &[]), "");
        assert_eq!(ask("echo", &["a"]), "a\n");
    }
}
