//! Several Pis on one LAN, each with its daemon, its card and the real agent, in namespaces of their own. What they are
//! to form together is the documents' affair.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use palmfarm::farm::addresses;
use palmfarm::farm::cluster_keys::ClusterKeys;
use palmfarm::farm::{Flavour, Ipv4};
use palmfarm_protocol::cluster::{Cluster, Member};
use palmfarm_protocol::firstboot::{FirstBoot, Refresh};
use palmfarm_protocol::report::Report;
use serde_json::Value;

use crate::cgroup::Cgroup;
use crate::common::skipped;
use crate::document::{carry, empty};
use crate::image;
use crate::machine::{agent_program, lacking, Scratch};
use crate::netns::{namespaces, Netns};
use crate::router::{Router, Service};
use crate::running::Running;
use crate::sh;
use crate::sweep;

/// Stands in for systemd(1): it passes on what is to become of the daemon.
const SYSTEMCTL: &str = r#"#!/bin/sh
for unit; do :; done
case $unit in lxd.service | incus.service) ;; *) exit 0 ;; esac
case $1 in start | stop | kill) ;; *) exit 0 ;; esac
answer=$(mktemp -u "$ORDERS.XXXXXX")
mkfifo "$answer"
echo "$1 $answer" > "$ORDERS"
read -r _ < "$answer"
rm "$answer"
"#;

/// The Pis of one home.
pub(crate) struct Fleet {
    pub(crate) cards: Vec<Card>,
    pub(crate) router: Router,
    keys: ClusterKeys,
    flavour: Flavour,
    /// Goes last.
    _dir: Scratch,
}

/// One Pi.
pub(crate) struct Card {
    pub(crate) name: String,
    pub(crate) address: Ipv6Addr,
    dir: PathBuf,
    bin: PathBuf,
    agent: PathBuf,
    /// The system that has Incus, if that takes LXD's place.
    tree: Option<PathBuf>,
    /// The daemon's folder.
    folder: PathBuf,
    /// Process 1, or rather who waits for it, while the Pi has power.
    init: Option<Child>,
    netns: Netns,
    cgroup: Cgroup,
}

impl Fleet {
    /// `count` cards without power, with their keys; `None` if something is missing, which the test has said then.
    pub(crate) fn new(count: u8) -> Option<Self> {
        if let Some(why) = lacking(&["lxd", "lxc", "mkfs.btrfs", "nsenter"]) {
            skipped(why);
            return None;
        }
        Some(Self::with(count, None))
    }

    /// The same with Debian's Incus in the place of LXD.
    pub(crate) fn incus(count: u8) -> Option<Self> {
        let tree = match lacking(&["mmdebstrap", "nsenter"]) {
            None => image::incus(),
            Some(why) => Err(why),
        };
        match tree {
            Ok(tree) => Some(Self::with(count, Some(&tree))),
            Err(why) => {
                skipped(why);
                None
            }
        }
    }

    fn with(count: u8, tree: Option<&Path>) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(1);
        sweep::sweep();
        let id = format!("{}-f{}", std::process::id(), COUNT.fetch_add(1, Ordering::SeqCst));
        let dir = Scratch::new(&id);
        let netns = |number: u8| Netns::new(format!("pi-palmfarm-{id}-{number}"));
        let pis: Vec<Netns> = (1..=count).map(netns).collect();
        let mut router = Router::with_switch(Netns::new(format!("home-palmfarm-{id}")), &pis, &dir.0);
        router.serve(Service::Both);
        let bin = dir.0.join("bin");
        fs::create_dir(&bin).unwrap();
        let systemctl = bin.join("systemctl");
        fs::write(&systemctl, SYSTEMCTL).unwrap();
        fs::set_permissions(&systemctl, fs::Permissions::from_mode(0o755)).unwrap();
        let agent = dir.0.join("agent");
        fs::copy(agent_program(), &agent).unwrap();
        let flavour = if tree.is_some() {
            Flavour::Incus
        } else {
            Flavour::Lxd
        };
        let names: Vec<String> = (1..=count).map(|number| format!("palm{number}")).collect();
        let mut keys = ClusterKeys::new().unwrap();
        keys.add(names.iter()).unwrap();
        let mut cards = Vec::new();
        for ((netns, name), number) in pis.into_iter().zip(names).zip(1..) {
            let address = addresses::member(keys.cluster.der(), &name);
            netns.bridge_of(number);
            netns.ip(&format!("address add {address}/64 dev br0 nodad"));
            let card = dir.0.join(&name);
            cards.push(Card {
                folder: card.join(match flavour {
                    Flavour::Lxd => "var/lib/lxd",
                    Flavour::Incus => "var/lib/incus",
                }),
                dir: card,
                agent: agent.clone(),
                tree: tree.map(Path::to_owned),
                name,
                address,
                bin: bin.clone(),
                init: None,
                cgroup: Cgroup::new(netns.name()),
                netns,
            });
        }
        let fleet = Self {
            cards,
            router,
            keys,
            flavour,
            _dir: dir,
        };
        for number in 1..=count {
            fleet.flash(number);
        }
        fleet
    }

    /// The card with this number, from 1.
    pub(crate) fn card(&self, number: u8) -> &Card {
        &self.cards[usize::from(number) - 1]
    }

    pub(crate) fn card_mut(&mut self, number: u8) -> &mut Card {
        &mut self.cards[usize::from(number) - 1]
    }

    /// The end of what all cards' daemons and agents said.
    pub(crate) fn logs(&self) -> String {
        self.cards.iter().map(Card::log).collect()
    }

    /// Make the file tree of a card without power anew.
    pub(crate) fn flash(&self, number: u8) {
        let card = self.card(number);
        assert!(card.init.is_none(), "{} has power", card.name);
        let _ = fs::remove_dir_all(&card.dir);
        for sub in [
            "proc",
            "sys",
            "var/lib/palmfarm",
            "boot/firmware",
            "etc/palmfarm/cluster",
        ] {
            fs::create_dir_all(card.dir.join(sub)).unwrap();
        }
        fs::create_dir_all(&card.folder).unwrap();
        // Nothing sets the clock here, so the agent must not wait for it.
        card.put("run/systemd/timesync/synchronized", b"");
        card.put(
            "etc/palmfarm/cluster/server.key",
            self.keys.cards[&card.name].key.pem().as_bytes(),
        );
        if number == 1 {
            card.put(
                "etc/palmfarm/cluster/cluster.key",
                self.keys.cluster.key.pem().as_bytes(),
            );
        }
        let busybox = image::busybox();
        card.put(
            "var/lib/palmfarm/alpine.tar.gz",
            &fs::read(&busybox.path).unwrap(),
        );
    }

    /// A document for the card with this number, without containers. `first` is the number of the card that forms the
    /// cluster.
    pub(crate) fn document(&self, number: u8, first: u8) -> FirstBoot {
        let first_name = &self.card(first).name;
        let card = self.card(number);
        let mut document = empty();
        document.card.clone_from(&card.name);
        document.hostname.clone_from(&card.name);
        document.network.ipv4 = Ipv4::Static {
            address: Ipv4Addr::new(192, 0, 2, 10 + number),
            prefix: 24,
            gateway: Some(Ipv4Addr::new(192, 0, 2, 1)),
            dns: Vec::new(),
        };
        // The card that forms the cluster carries the image for all.
        let mut published = BTreeMap::new();
        if number == first {
            let fingerprint = image::busybox().fingerprint;
            carry(
                &mut document,
                "alpine",
                "/var/lib/palmfarm/alpine.tar.gz",
                &fingerprint,
            );
        } else {
            published.insert("alpine".into(), first_name.clone());
        }
        let member = |card: &Card| Member {
            name: card.name.clone(),
            address: card.address,
            certificate: self.keys.cards[&card.name].certificate(),
        };
        let lxd = document.lxd.as_mut().unwrap();
        lxd.flavour = self.flavour;
        // As the farm's decoder has it for a cluster.
        if self.flavour == Flavour::Lxd {
            lxd.refresh = Refresh::Hold;
        }
        lxd.cluster = Some(Cluster {
            first: first_name.clone(),
            members: self.cards.iter().map(member).collect(),
            certificate: self.keys.cluster.certificate(),
            offline_threshold: 11,
            published,
        });
        document
    }
}

impl Card {
    /// Put `bytes` at `path` of the card.
    pub(crate) fn put(&self, path: &str, bytes: &[u8]) {
        let path = self.dir.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    /// What the file `path` of the card has in it.
    #[track_caller]
    pub(crate) fn get(&self, path: &str) -> Vec<u8> {
        fs::read(self.dir.join(path)).unwrap()
    }

    /// Give it power: its daemon starts.
    pub(crate) fn on(&mut self) {
        self.on_without_daemon();
        self.order("start");
    }

    /// The same while nothing has started the daemon yet.
    pub(crate) fn on_without_daemon(&mut self) {
        let orders = self.orders();
        let _ = fs::remove_file(&orders);
        sh::run(sh::words("mkfifo").arg(&orders));
        let mut init = namespaces(&self.netns, &self.cgroup);
        init.args(["--mount-proc", "sh", "-c", include_str!("namespace.sh")])
            .env("LXD_DIR", &self.folder)
            .envs(self.tree.iter().map(|tree| ("TREE", tree)))
            .env("ORDERS", &orders)
            .env("CARD", &self.dir);
        let log = fs::File::create(self.dir.with_extension("init.log")).unwrap();
        init.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
        let mut init = init.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(init.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        assert_eq!(line, "up\n", "{}", self.log());
        self.init = Some(init);
        // What a boot does to /run.
        let _ = fs::remove_dir_all(self.dir.join("run/palmfarm"));
    }

    pub(crate) fn is_on(&self) -> bool {
        self.init.is_some()
    }

    /// Wait until the file `path` of the card has `text` in it.
    #[track_caller]
    pub(crate) fn wait_for(&self, path: &str, text: &str) {
        let path = self.dir.join(path);
        let begun = Instant::now();
        while !fs::read_to_string(&path).is_ok_and(|all| all.contains(text)) {
            assert!(
                begun.elapsed() < Duration::from_secs(180),
                "no {text} in {}\n{}",
                path.display(),
                self.log()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Take its power away: the daemon and the containers end as they are.
    pub(crate) fn off(&mut self) {
        if let Some(mut init) = self.init.take() {
            let _ = init.kill();
            let _ = init.wait();
            // The network namespace stays, with an interface that no real Pi would have after that.
            let _ = sh::succeeds(&mut sh::words(&format!(
                "ip -n {} link delete lxdbr0",
                self.netns.name()
            )));
        }
    }

    /// `start`, `stop`, `kill`, `pause` or `resume` the daemon.
    pub(crate) fn order(&self, order: &str) {
        let answer = self.dir.with_extension("answer");
        let _ = fs::remove_file(&answer);
        sh::run(sh::words("mkfifo").arg(&answer));
        let mut orders = fs::OpenOptions::new().write(true).open(self.orders()).unwrap();
        writeln!(orders, "{order} {}", answer.display()).unwrap();
        let said = fs::read_to_string(&answer).unwrap();
        assert_eq!(said.trim_end(), order, "{}", self.log());
    }

    /// Wait until its daemon has been ended and started again since it was the process `before`.
    #[track_caller]
    pub(crate) fn wait_for_another(&self, before: &str) {
        let begun = Instant::now();
        while self.daemon() == before {
            assert!(begun.elapsed() < Duration::from_secs(600), "{}", self.log());
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// The process of its daemon.
    pub(crate) fn daemon(&self) -> String {
        fs::read_to_string(self.folder.with_extension("pid")).unwrap_or_default()
    }

    fn orders(&self) -> PathBuf {
        self.dir.with_extension("orders")
    }

    /// Begin `run` on `document`.
    pub(crate) fn run(&self, document: &FirstBoot) -> Running {
        self.put(
            "etc/palmfarm/firstboot.json",
            &serde_json::to_vec_pretty(document).unwrap(),
        );
        let _ = fs::remove_file(self.dir.join("var/lib/palmfarm/report.json"));
        self.agent(&["run"])
    }

    /// Begin `apply` with `document`.
    pub(crate) fn apply(&self, document: &FirstBoot) -> Running {
        let text = serde_json::to_vec_pretty(document).unwrap();
        self.put("tmp/new.json", &text);
        let file = self.dir.join("tmp/new.json");
        self.agent(&["apply", file.to_str().unwrap()])
    }

    /// `ip` with `line`, on it.
    pub(crate) fn ip(&self, line: &str) {
        self.netns.ip(line);
    }

    /// Begin a command of the agent, in the namespaces of its Pi.
    pub(crate) fn agent(&self, words: &[&str]) -> Running {
        let init = self.init.as_ref().expect("it has power").id();
        let children = fs::read_to_string(format!("/proc/{init}/task/{init}/children")).unwrap();
        let mut agent =
            sh::words("setpriv --pdeathsig KILL nsenter --mount --pid --net --cgroup --ipc --uts");
        agent.args(["--target", children.trim()]);
        agent.args(["setpriv", "--pdeathsig", "KILL"]);
        agent.arg(&self.agent).arg("--root").arg(&self.dir).args(words);
        let path = std::env::var("PATH").unwrap_or_default();
        agent
            .env("PATH", format!("{}:{path}", self.bin.display()))
            .env("ORDERS", self.orders());
        let log = self.dir.with_extension(format!("{}.log", words[0]));
        let out = fs::File::create(&log).unwrap();
        agent.stdout(out.try_clone().unwrap()).stderr(out);
        Running::new(agent.spawn().unwrap(), log)
    }

    /// The report of its agent.
    pub(crate) fn report(&self) -> Report {
        let text = fs::read(self.dir.join("var/lib/palmfarm/report.json"));
        let text = text.unwrap_or_else(|error| panic!("no report: {error}\n{}", self.log()));
        serde_json::from_slice(&text).unwrap()
    }

    /// What its daemon answers to a GET of `path`, if it does within `seconds`.
    pub(crate) fn query(&self, path: &str, seconds: u32) -> Option<Value> {
        let done = sh::ended(&mut self.curl("GET", path, seconds));
        let mut answer: Value = serde_json::from_slice(&done.stdout).ok()?;
        (answer["type"] != "error").then(|| answer["metadata"].take())
    }

    /// Ask its daemon for something, and wait for that; the error that it gives.
    pub(crate) fn ask(&self, method: &str, path: &str, body: &Value) -> Result<(), String> {
        let mut curl = self.curl(method, path, 60);
        let text = sh::output(curl.arg("--data").arg(body.to_string()));
        let answer: Value = serde_json::from_str(&text).unwrap();
        if answer["type"] == "error" {
            return Err(answer["error"].as_str().unwrap().into());
        }
        let Some(operation) = answer["operation"].as_str().filter(|path| !path.is_empty()) else {
            return Ok(());
        };
        let path = format!("{}/wait?timeout=60", operation.split('?').next().unwrap());
        let end = self.query(&path, 70).unwrap();
        match end["status_code"].as_u64() {
            Some(200) => Ok(()),
            _ => Err(end["err"].as_str().unwrap_or_default().into()),
        }
    }

    fn curl(&self, method: &str, path: &str, seconds: u32) -> Command {
        let mut curl = sh::words("curl --silent --noproxy * --globoff --unix-socket");
        curl.arg(self.folder.join("unix.socket"))
            .args(["--max-time", &seconds.to_string(), "--request", method])
            .arg(format!("http://daemon{path}"));
        curl
    }

    /// The end of what its daemon and its agent said.
    pub(crate) fn log(&self) -> String {
        let end = |path: PathBuf| {
            let text = fs::read_to_string(&path).unwrap_or_default();
            let lines: Vec<&str> = text.lines().collect();
            let from = lines.len().saturating_sub(30);
            format!("== {}\n{}\n", path.display(), lines[from..].join("\n"))
        };
        [
            self.folder.with_extension("log"),
            self.dir.with_extension("init.log"),
            self.dir.with_extension("run.log"),
        ]
        .map(end)
        .concat()
    }
}

impl Drop for Card {
    fn drop(&mut self) {
        self.off();
    }
}
