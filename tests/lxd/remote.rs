//! `palmfarm watch` and `palmfarm push` from the home's network, over a real sshd in the Pi's namespaces: with a port and
//! keys of its own, and a `/etc/ssh` of its own for the client.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use palmfarm_protocol::report::{Report, StepState};
use serde_json::Value;

use crate::card::{accounts, Workstation, HEAD};
use crate::common::skipped;
use crate::find::events;
use crate::image;
use crate::lab::Lab;
use crate::router::Service;
use crate::sh;

const SSHD: &str = "/usr/sbin/sshd";

const CONTAINERS: &str = "lxd: {storage: {driver: btrfs, size: 4GB}}
images: {alpine: {file: alpine.tar.gz}}
containers:
  web: {image: alpine}
";

/// The card's `/run` is that of the sessions, and `palmfarm-agent` is the card's, on the lab's daemon.
const SERVE: &str = r#"mkdir -p "$card/run/sshd" "$card/proc" "$card/sys"
mount --bind /proc "$card/proc"
mount --rbind /sys "$card/sys"
mount --bind "$card/run" /run
mount --bind "$keys/bin" /usr/local/sbin
exec /usr/sbin/sshd -D -e -f "$keys/sshd_config""#;

/// An sshd for root with the keys that are in a folder; it ends with this.
struct Sshd {
    child: Child,
    keys: PathBuf,
}

impl Sshd {
    fn start(lab: &Lab) -> Self {
        let keys = lab.card().join("keys");
        fs::create_dir_all(keys.join("bin")).unwrap();
        for name in ["host", "root"] {
            sh::run(
                sh::words("ssh-keygen -q -t ed25519 -N")
                    .arg("")
                    .arg("-f")
                    .arg(keys.join(name)),
            );
        }
        let at = keys.display();
        fs::copy(keys.join("root.pub"), keys.join("authorized")).unwrap();
        let host = fs::read_to_string(keys.join("host.pub")).unwrap();
        lab.put("keys/known_hosts", format!("192.0.2.10 {host}").as_bytes());
        lab.put(
            "keys/sshd_config",
            format!(
                "ListenAddress 192.0.2.10\nHostKey {at}/host\nAuthorizedKeysFile {at}/authorized\nStrictModes no\n\
                 UsePAM no\nPidFile none\nPermitRootLogin prohibit-password\nPasswordAuthentication no\n"
            )
            .as_bytes(),
        );
        lab.put(
            "keys/ssh_config",
            format!("IdentityFile {at}/root\nIdentitiesOnly yes\nUserKnownHostsFile {at}/known_hosts\n")
                .as_bytes(),
        );
        let card = lab.card();
        let agent = format!(
            "#!/bin/sh\nexport LXD_SOCKET={}\nexec {1}/usr/lib/palmfarm/palmfarm-agent --root {1} \"$@\"\n",
            lab.pi.socket().display(),
            card.display()
        );
        lab.put("keys/bin/palmfarm-agent", agent.as_bytes());
        sh::run(sh::words("chmod 755").arg(keys.join("bin/palmfarm-agent")));
        let log = File::create(card.join("sshd.log")).unwrap();
        let mut sshd = lab.pi.command("sh");
        sshd.args(["-euc", SERVE]).env("card", &card).env("keys", &keys);
        let child = sshd
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        Self { child, keys }
    }

    /// The tool on the home's network, in the workstation's folder, whose ssh knows the keys.
    fn palmfarm(&self, lab: &Lab, workstation: &Workstation, words: &[&str]) -> Command {
        let mut command = lab.router.command("sh");
        command
            .args([
                "-c",
                r#"mount --bind "$keys" /etc/ssh && exec "$@""#,
                "sh",
                env!("CARGO_BIN_EXE_palmfarm"),
            ])
            .args(words)
            .args(["--user", "root"])
            .env("keys", &self.keys)
            .env_remove("SSH_AUTH_SOCK")
            .stdin(Stdio::null());
        workstation.on(&mut command);
        command
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The reports in lines of JSON.
fn reports(printed: &str, kind: &str) -> Vec<Report> {
    let reports = events(printed, kind).into_iter();
    reports
        .map(|mut event| serde_json::from_value(event["report"].take()).unwrap())
        .collect()
}

fn names(lab: &Lab) -> Vec<String> {
    let all = lab.pi.query("/1.0/instances?recursion=1");
    let names = all
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["name"].as_str().unwrap().to_owned());
    names.collect()
}

#[test]
#[expect(
    clippy::too_many_lines,
    reason = "one story on one Pi, whose setup takes half a minute"
)]
fn a_farm_is_watched_and_changed_from_the_laptop() {
    if let Some(missing) = [SSHD, "/usr/bin/ssh"]
        .iter()
        .find(|path| !PathBuf::from(path).is_file())
    {
        return skipped(format!("there is no {missing}"));
    }
    let Some(mut lab) = Lab::new() else { return };
    lab.router.serve(Service::Both);
    let rootfs = fs::read(image::busybox_rootfs()).unwrap();
    let workstation = Workstation::new(&[
        ("farm.yaml", format!("{HEAD}{CONTAINERS}").as_bytes()),
        ("alpine.tar.gz", &rootfs),
    ]);
    workstation.build(&lab);
    accounts(&lab);

    // While cloud-init is at work, and then the agent.
    let log = lab.card().join("watch.log");
    let sshd = Sshd::start(&lab);
    lab.put(
        "run/cloud-init/status.json",
        b"{\n \"v1\": {\"stage\": \"modules-config\"}\n}\n",
    );
    let mut watch = sshd.palmfarm(&lab, &workstation, &["watch", "--json", "--timeout", "5m"]);
    let mut watch = watch.stdout(File::create(&log).unwrap()).spawn().unwrap();
    let printed = || fs::read_to_string(&log).unwrap();
    let begun = Instant::now();
    while events(&printed(), "cloud-init").is_empty() {
        assert!(begun.elapsed() < Duration::from_secs(120), "{}", printed());
        std::thread::sleep(Duration::from_millis(200));
    }
    lab.command(&["run"]).all_well();
    assert!(watch.wait().unwrap().success(), "{}", printed());
    let seen = reports(&printed(), "report");
    assert!(
        seen.iter()
            .any(|report| report.doing.as_deref() == Some("container web")),
        "{}",
        printed()
    );
    assert_eq!(seen.last().unwrap().containers.len(), 1, "{}", printed());

    // A container more, and a setting. First what would change: nothing does.
    let more = format!("{HEAD}{CONTAINERS}  mail: {{image: alpine}}\n").replace(
        "web: {image: alpine}",
        &format!(
            "web: {{image: alpine, config: {{user.lab: \"{}\"}}}}",
            lab.card().display()
        ),
    );
    workstation.put("farm.yaml", more.as_bytes());
    let document = || fs::read(lab.card().join("etc/palmfarm/firstboot.json")).unwrap();
    let before = document();
    let printed = sh::output(&mut sshd.palmfarm(&lab, &workstation, &["push", "--dry-run", "--json"]));
    let preview = reports(&printed, "preview").pop().unwrap();
    let step = |name: &str| {
        preview
            .steps
            .iter()
            .find(|step| step.name == name)
            .unwrap_or_else(|| panic!("{preview:#?}"))
    };
    let changed = |name: &str| (step(name).state, step(name).message.clone());
    assert_eq!(
        changed("container mail"),
        (StepState::Changed, "making mail".into())
    );
    assert_eq!(
        changed("container web"),
        (StepState::Changed, "changing the settings of web".into())
    );
    assert_eq!(changed("image alpine"), (StepState::Unchanged, String::new()));
    assert_eq!(
        (names(&lab), document() == before),
        (vec!["web".to_owned()], true)
    );

    // Then the change, shown like a first boot.
    let printed = sh::output(&mut sshd.palmfarm(&lab, &workstation, &["push", "--yes", "--json"]));
    assert_eq!(
        reports(&printed, "report").last().unwrap().containers.len(),
        2,
        "{printed}"
    );
    assert_eq!(names(&lab), ["mail", "web"]);
    // What was copied there is gone; another lab's may be there.
    let mark = lab.card().display().to_string().into_bytes();
    let copies = fs::read_dir("/var/tmp").unwrap().flatten();
    for one in copies.filter(|one| one.file_name().to_string_lossy().starts_with("palmfarm.")) {
        let content = fs::read(one.path()).unwrap_or_default();
        assert!(
            !content.windows(mark.len()).any(|part| part == mark),
            "{:?} was left on the Pi",
            one.path()
        );
    }

    // Another card's farm is refused by the Pi, with the reason.
    workstation.put(
        "farm.yaml",
        more.replace("hostname: palm", "hostname: other").as_bytes(),
    );
    let refused = sh::ended(&mut sshd.palmfarm(&lab, &workstation, &["push", "--yes", "--json"]));
    let printed = String::from_utf8_lossy(&refused.stdout);
    assert_eq!(refused.status.code(), Some(1), "{printed}");
    let said: Vec<Value> = events(&printed, "error");
    assert!(
        said[0]["message"]
            .as_str()
            .unwrap()
            .contains("it is for the card other, and this is palm"),
        "{printed}"
    );
}
