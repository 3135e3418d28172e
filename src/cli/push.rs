//! `palmfarm push`: brings a later farm.yaml to a Pi that is running. The Pi's own agent judges it and says what would
//! change; nothing is changed there before the person agrees.

use std::time::{Duration, Instant};

use anyhow::anyhow;
use palmfarm_protocol::report::{Report, Step, StepState};
use serde_json::json;

use super::args::Push;
use super::ask::ask;
use super::build::bundle;
use super::env::{drop_privileges, host_inputs};
use super::outcome::{CliResult, Failure, Outcome, OutcomeExt};
use super::remote::untrusted;
use super::session::Session;
use super::ui::Ui;
use super::{from_farm, watch};
use crate::host::ssh::{self, Event, Line, Login};
use crate::pipeline::FarmInputs;

/// How long one waits for a line before looking whether to stop.
const PAUSE: Duration = Duration::from_millis(100);

/// Takes the tarball from standard input, and prints where it is. It may hold secrets of containers.
const UPLOAD: &str =
    r#"umask 077 && file=$(mktemp /var/tmp/palmfarm.XXXXXXXX) && cat > "$file" && echo "$file""#;

/// What a command ends with if sudo would ask for a password.
const ASKS: i32 = 77;

pub(super) fn run(args: &Push, ui: Ui) -> CliResult {
    let cache = drop_privileges()?;
    if !args.yes && !args.dry_run && !ui.can_ask() {
        let error = "nobody can be asked whether to change the Pi";
        return Err(Failure::usage(error)
            .hint("--yes changes it without asking, --dry-run only says what would change"));
    }
    let mut remote = args.pi.remote(ui)?;
    let Some(farm) = remote.farm.take() else {
        let error = "no farm was named, and there is no farm.yaml in this folder";
        return Err(Failure::usage(error).hint("name the farm file"));
    };
    let card = from_farm::card(&farm, args.pi.card.as_deref())?;
    let session = Session::start(ui);
    let inputs = FarmInputs::read(farm, host_inputs()?)?;
    let base = session.open_base(&inputs.loaded, &cache, args.offline)?;
    let tarball = bundle::in_memory(card, &inputs, &base)?;
    session.progress.clear();
    ui.info_line(bundle::NOT_OF_THE_HOST);
    let login = remote.login(Instant::now() + args.pi.timeout, &session)?;
    let pi = Pi {
        login,
        session: &session,
    };
    let file = pi.upload(tarball)?;
    let done = pi.look(&file).and_then(|()| {
        if args.dry_run || !args.yes && !is_yes(&ask(&format!("change {}? [y/N] ", remote.name), &session)?) {
            ui.info_line("nothing was changed");
            return Ok(false);
        }
        Ok(true)
    });
    if !matches!(done, Ok(true)) {
        // What is left there is the person's own, and the system removes it some day.
        drop(pi.all(&format!("rm -f {file}"), None));
        return done.map(drop);
    }
    pi.apply(&file, || watch::follow(&mut remote, args.pi.timeout, &session))
}

fn is_yes(answer: &str) -> bool {
    ["y", "yes"].contains(&answer.to_ascii_lowercase().as_str())
}

/// Where the commands run.
struct Pi<'a> {
    login: Login,
    session: &'a Session,
}

/// How a command ended.
struct Ended {
    code: Option<i32>,
    out: Vec<String>,
    err: Vec<String>,
}

impl Pi<'_> {
    fn upload(&self, tarball: Vec<u8>) -> Result<String, Failure> {
        let ended = self.all(UPLOAD, Some(tarball))?;
        match (ended.code, ended.out.last()) {
            (Some(0), Some(file)) if is_plain(file) => Ok(file.clone()),
            _ => Err(self.failed("copying the farm to", &ended)),
        }
    }

    /// Show what would change.
    fn look(&self, file: &str) -> CliResult {
        let command = as_root(&format!("palmfarm-agent apply --dry-run --json {file}"));
        let ended = self.all(&command, None)?;
        if ended.code == Some(ASKS) && self.session.ui.can_ask() {
            let command = format!("sudo /usr/sbin/palmfarm-agent apply --dry-run {file}");
            let code = ssh::run_on_terminal(&self.login, &command).map_err(watch::not_started)?;
            return if code == Some(0) {
                Ok(())
            } else {
                Err(Failure::printed(Outcome::Refused))
            };
        }
        let report = ended
            .out
            .last()
            .and_then(|line| serde_json::from_str::<Report>(line).ok());
        match (ended.code, report) {
            (Some(0), Some(report)) => {
                show(&report, self.session.ui);
                Ok(())
            }
            (Some(ASKS), _) => {
                let error = anyhow!("sudo on {} asks for a password", self.login.host);
                Err(Failure::refused(
                    error,
                    "run palmfarm push on a terminal, without --json",
                ))
            }
            (Some(1), None) => Err(self.refused(&ended.err)),
            _ => Err(self.failed("asking what would change on", &ended)),
        }
    }

    /// Change the Pi; `follow` shows the run.
    fn apply(&self, file: &str, follow: impl FnOnce() -> CliResult) -> CliResult {
        let apply = format!("palmfarm-agent apply {file}; code=$?; rm -f {file}; exit $code");
        let mut ssh = self.start(&as_root(&apply), None)?;
        let mut refused = Vec::new();
        loop {
            self.check_cancelled()?;
            match ssh.next(PAUSE).or_fail(Outcome::Failed)? {
                Event::Silence => {}
                Event::Line(Line::Err(line)) if line.starts_with("palmfarm-agent:") => refused.push(line),
                // It has begun.
                Event::Line(_) => break,
                Event::Ended(Some(ASKS)) => {
                    let apply = format!("sudo sh -c 'PATH=$PATH:/usr/sbin; {apply}'");
                    let code = ssh::run_on_terminal(&self.login, &apply).map_err(watch::not_started)?;
                    return match code {
                        Some(0) => Ok(()),
                        Some(1) => Err(Failure::printed(Outcome::Refused)),
                        _ => Err(Failure::printed(Outcome::Failed)),
                    };
                }
                Event::Ended(Some(1)) => return Err(self.refused(&refused)),
                Event::Ended(code) => {
                    let (out, err) = (Vec::new(), refused);
                    return Err(self.failed("changing", &Ended { code, out, err }));
                }
            }
        }
        follow()?;
        // It ends a moment after the report says that it has.
        while !matches!(ssh.next(PAUSE).or_fail(Outcome::Failed)?, Event::Ended(_)) {}
        Ok(())
    }

    /// Run `command` to its end.
    fn all(&self, command: &str, input: Option<Vec<u8>>) -> Result<Ended, Failure> {
        let mut ssh = self.start(command, input)?;
        let (mut out, mut err) = (Vec::new(), Vec::new());
        loop {
            self.check_cancelled()?;
            match ssh.next(PAUSE).or_fail(Outcome::Failed)? {
                Event::Line(Line::Out(line)) => out.push(line),
                Event::Line(Line::Err(line)) => err.push(line),
                Event::Silence => {}
                Event::Ended(code) => return Ok(Ended { code, out, err }),
            }
        }
    }

    fn start(&self, command: &str, input: Option<Vec<u8>>) -> Result<ssh::Session, Failure> {
        ssh::start(&self.login, self.session.ui.can_ask(), command, input).map_err(watch::not_started)
    }

    fn check_cancelled(&self) -> CliResult {
        if self.session.is_cancelled() {
            return Err(self
                .session
                .interrupted("interrupted; a run that has begun on the Pi goes on"));
        }
        Ok(())
    }

    /// The Pi's agent has refused the farm, and said why.
    fn refused(&self, said: &[String]) -> Failure {
        let reasons: Vec<&str> = said
            .iter()
            .map(|line| line.trim_start_matches("palmfarm-agent: "))
            .collect();
        let error = anyhow!("{} refuses this farm: {}", self.login.host, reasons.join("; "));
        Failure::refused(error, "correct the farm, or write its card again: palmfarm flash")
    }

    fn failed(&self, doing: &str, ended: &Ended) -> Failure {
        if let Some(failure) = untrusted(&self.login, &ended.err) {
            return failure;
        }
        let said = if ended.err.is_empty() {
            "it said nothing".into()
        } else {
            ended.err.join("; ")
        };
        let code = ended.code.map_or("a signal".into(), |code| code.to_string());
        let error = anyhow!("{doing} {}: {said} (ended with {code})", self.login.host);
        Failure::new(Outcome::Failed, error).hint("can you log in there? `palmfarm watch` says what ssh says")
    }
}

/// `command` as root, if that needs no password.
fn as_root(command: &str) -> String {
    format!(
        "as=; [ \"$(id -u)\" = 0 ] || as='sudo -n'; $as true 2> /dev/null || exit {ASKS}; \
         $as sh -c 'PATH=$PATH:/usr/sbin; {command}'"
    )
}

/// Whether a path from the Pi can be put into a command for it.
fn is_plain(path: &str) -> bool {
    let name = path.strip_prefix("/var/tmp/palmfarm.");
    name.is_some_and(|name| name.bytes().all(|byte| byte.is_ascii_alphanumeric()))
}

fn show(report: &Report, ui: Ui) {
    if ui.json {
        ui.event(&json!({"event": "preview", "report": report}));
        return;
    }
    let matters = |step: &&Step| step.state != StepState::Unchanged || !step.message.is_empty();
    let steps: Vec<&Step> = report.steps.iter().filter(matters).collect();
    for step in &steps {
        let what = match step.state {
            StepState::Unchanged => "stays",
            StepState::Changed => "changes",
            StepState::Failed => "STAYS",
            StepState::Skipped => "skipped",
        };
        ui.result_line(format_args!("{what:<8} {}: {}", step.name, step.message));
    }
    if steps.is_empty() {
        ui.result_line("nothing would change");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_file_goes_into_a_command() {
        for (path, expect) in [
            ("/var/tmp/palmfarm.a1B2c3D4", true),
            ("/var/tmp/palmfarm.a;reboot", false),
            ("/var/tmp/palmfarm.a/../../../etc/passwd", false),
            ("/etc/passwd", false),
        ] {
            assert_eq!(is_plain(path), expect, "{path}");
        }
    }
}
