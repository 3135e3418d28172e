//! `palmfarm watch`: shows how a Pi comes up, from cloud-init to the last container, over the person's own ssh. It changes
//! nothing there.

use std::collections::BTreeSet;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::anyhow;
use palmfarm_protocol::report::{Report, State, StepState};
use serde_json::{json, Value};

use super::args::Watch;
use super::env::drop_privileges;
use super::outcome::{CliResult, Failure, Outcome, OutcomeExt};
use super::remote::{untrusted, Remote};
use super::session::Session;
use super::ui::Ui;
use crate::host::ssh::{self, Event, Line, Login};

/// How long one waits for a line before looking whether to stop.
const PAUSE: Duration = Duration::from_millis(100);

/// The pause before ssh is started again.
const AGAIN: Duration = Duration::from_secs(2);

/// What ssh ends with if it fails itself (ssh(1)).
const SSH_FAILED: i32 = 255;

/// Prints cloud-init's own status (`/run/cloud-init/status.json`, on one line) while it changes, and once the agent has
/// begun in this boot, each change of its report. Ends as `palmfarm-agent status --follow`.
const FOLLOW: &str = r#"PATH=$PATH:/usr/sbin:/sbin
until [ -e /run/palmfarm/report.json ]; do
    now=$(tr -d '\n' 2> /dev/null < /run/cloud-init/status.json)
    [ "$now" = "$last" ] || printf '%s\n' "$now"
    last=$now
    sleep 1
done
exec palmfarm-agent status --json --follow"#;

/// How many lines of what ssh says last are kept: its longest warning, of another host key, has some 15.
const KEPT: usize = 20;

pub(super) fn run(args: &Watch, ui: Ui) -> CliResult {
    drop_privileges()?;
    let mut remote = args.pi.remote(ui)?;
    let session = Session::start(ui);
    follow(&mut remote, args.pi.timeout, &session)
}

/// Show the run that is at work on the Pi, or the last one of this boot, until it has ended.
pub(super) fn follow(remote: &mut Remote, timeout: Duration, session: &Session) -> CliResult {
    let end = Instant::now() + timeout;
    let mut shown = Shown::new(session.ui, remote.name.clone());
    loop {
        let login = remote.login(end, session)?;
        shown.begin(&login);
        let report = watch_once(&login, end, &mut shown, session)?;
        match report.map(|report| report.state) {
            Some(State::Done) => return Ok(()),
            Some(State::Failed) => {
                let error = anyhow!("not everything on {} is as declared", remote.name);
                let hint = "the next boot and `sudo palmfarm-agent run` there retry what failed";
                return Err(Failure::new(Outcome::Failed, error).hint(hint));
            }
            Some(State::Running) | None => {}
        }
        if Instant::now() >= end {
            let error = anyhow!("{} was not done in time: {}", remote.name, shown.last);
            return Err(Failure::new(Outcome::TimedOut, error)
                .hint("it goes on without you: watch again, with --timeout"));
        }
        sleep(AGAIN);
    }
}

/// One session, to its end. Returns the report with which the run ended; `None` if the Pi went away before.
fn watch_once(
    login: &Login,
    end: Instant,
    shown: &mut Shown,
    session: &Session,
) -> Result<Option<Report>, Failure> {
    let mut ssh = ssh::start(login, session.ui.can_ask(), FOLLOW, None).map_err(not_started)?;
    let mut last = None;
    let mut said = Vec::new();
    loop {
        if session.is_cancelled() {
            return Err(session.interrupted("interrupted; the Pi goes on"));
        }
        match ssh.next(PAUSE).or_fail(Outcome::Failed)? {
            Event::Line(Line::Out(line)) => match serde_json::from_str::<Report>(&line) {
                Ok(report) => {
                    shown.report(&report);
                    last = Some(report);
                }
                Err(_) => shown.cloud_init(&line),
            },
            Event::Line(Line::Err(line)) => {
                said.push(line);
                said.drain(..said.len().saturating_sub(KEPT));
            }
            Event::Silence if Instant::now() >= end => return Ok(None),
            Event::Silence => {}
            Event::Ended(Some(SSH_FAILED) | None) => {
                if let Some(failure) = untrusted(login, &said) {
                    return Err(failure);
                }
                shown.lost(said.last().map_or("the connection ended", String::as_str));
                return Ok(None);
            }
            Event::Ended(Some(_)) if last.is_some() => return Ok(last),
            Event::Ended(Some(code)) => {
                let said = said.last().map_or("it said nothing", String::as_str);
                let error = anyhow!("{} cannot say how far it is: {said} (code {code})", login.host);
                let hint = "was it set up by palmfarm, and by one that is as new as this?";
                return Err(Failure::new(Outcome::Failed, error).hint(hint));
            }
        }
    }
}

/// ssh(1) cannot be started.
pub(super) fn not_started(error: std::io::Error) -> Failure {
    let error = anyhow::Error::new(error).context("starting ssh");
    Failure::refused(error, "install it: sudo apt install openssh-client")
}

/// What has been shown of a Pi.
struct Shown {
    ui: Ui,
    name: String,
    /// The line that was printed last.
    last: String,
    /// What was said of connections since the Pi was heard last: a Pi that boots has several addresses, and none has ssh.
    tried: BTreeSet<String>,
    run: u32,
    steps: usize,
    containers: usize,
}

impl Shown {
    fn new(ui: Ui, name: String) -> Self {
        Self {
            ui,
            name,
            last: "ssh has not answered".into(),
            tried: BTreeSet::new(),
            run: 0,
            steps: 0,
            containers: 0,
        }
    }

    fn begin(&mut self, login: &Login) {
        let event = json!({"event": "host", "name": self.name, "address": login.host, "user": login.user});
        self.print_once(&event, format!("is at {}", login.host));
    }

    /// ssh has ended because of `why`.
    fn lost(&mut self, why: &str) {
        let event = json!({"event": "lost", "name": self.name, "message": why});
        self.print_once(&event, format!("{why}; trying again"));
    }

    fn print_once(&mut self, event: &Value, line: String) {
        if self.tried.insert(line.clone()) {
            self.print(Some(event), line);
        }
    }

    /// cloud-init's status, or what else a login prints.
    fn cloud_init(&mut self, line: &str) {
        let Ok(status) = serde_json::from_str::<Value>(line) else {
            return;
        };
        let Some(stage) = status.pointer("/v1/stage") else {
            return;
        };
        self.tried.clear();
        let stage = stage.as_str().unwrap_or("between two stages");
        let event = json!({"event": "cloud-init", "name": self.name, "stage": status.pointer("/v1/stage")});
        self.print(Some(&event), format!("cloud-init: {stage}"));
    }

    fn report(&mut self, report: &Report) {
        self.tried.clear();
        if self.ui.json {
            self.ui
                .event(&json!({"event": "report", "name": self.name, "report": report}));
        }
        if report.run != self.run {
            (self.run, self.steps, self.containers) = (report.run, 0, 0);
        }
        for step in report.steps.iter().skip(self.steps) {
            let state = match step.state {
                StepState::Unchanged => "as declared",
                StepState::Changed => "done",
                StepState::Failed => "FAILED",
                StepState::Skipped => "skipped",
            };
            let colon = if step.message.is_empty() { "" } else { ": " };
            let mut lines = format!("{}: {state}{colon}{}", step.name, step.message);
            for line in &step.output {
                lines.push_str(&format!("\n    | {line}"));
            }
            self.print(None, lines);
        }
        self.steps = report.steps.len();
        if let Some(name) = &report.doing {
            self.print(None, format!("{name} …"));
        }
        for container in report.containers.iter().skip(self.containers) {
            let addresses: Vec<String> = container.observed.iter().map(ToString::to_string).collect();
            let colon = if container.message.is_empty() { "" } else { ": " };
            self.print(
                None,
                format!(
                    "{} {} {}{colon}{}",
                    container.name,
                    container.state,
                    addresses.join(" "),
                    container.message
                ),
            );
        }
        self.containers = report.containers.len();
        match report.state {
            State::Running => {}
            State::Done => self.print(None, "done: everything is as declared".into()),
            State::Failed => self.print(
                None,
                "the run has ended, and not everything is as declared".into(),
            ),
        }
    }

    /// Print `line` for people, unless it is the one that was printed last, and `event` for programs.
    fn print(&mut self, event: Option<&Value>, line: String) {
        if line == self.last {
            return;
        }
        match event {
            Some(event) if self.ui.json => self.ui.event(event),
            _ if self.ui.json => {}
            _ => self.ui.result_line(format_args!("{}: {line}", self.name)),
        }
        self.last = line;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_in_turn_are_each_said_once_until_the_pi_is_heard() {
        let ui = Ui {
            json: true,
            quiet: true,
        };
        let mut shown = Shown::new(ui, "palm".into());
        let at = |host: &str| Login {
            user: None,
            host: host.into(),
            host_keys: None,
        };
        let mut said = Vec::new();
        for host in ["192.0.2.1", "2001:db8::1", "192.0.2.1", "2001:db8::1"] {
            shown.begin(&at(host));
            said.push(shown.last.clone());
            shown.lost("refused");
            said.push(shown.last.clone());
        }
        said.dedup();
        assert_eq!(
            said,
            ["is at 192.0.2.1", "refused; trying again", "is at 2001:db8::1"]
        );
        shown.cloud_init(r#"{"v1": {"stage": "init"}}"#);
        shown.lost("refused");
        assert_eq!(shown.last, "refused; trying again");
    }
}
