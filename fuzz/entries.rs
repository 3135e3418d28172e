//! What untrusted bytes reach, one function for each kind: called by the fuzzer with whatever it makes, and by the
//! tests with what is kept beside this file. Each must come back, and must not panic; errors are fine.

use std::hint::black_box;
use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex};

use palmfarm::base::download::{signed_sums, ubuntu_keys, Sums, Url};
use palmfarm::base::layout::Layout;
use palmfarm::base::mini;
use palmfarm::base::source::{BaseImage, CacheDir, Expect};
use palmfarm::base::survey::{survey, Volumes};
use palmfarm::edit::block::{Overlay, ReadAt, Span, WriteAt};
use palmfarm::edit::fs::{allocated, FileKind};
use palmfarm::edit::tree::{Access, CardPath, IfThere, Node, Planned, Privacy, Tree, Volume};
use palmfarm::farm::lock::Lock;
use palmfarm::farm::{accounts, assets, overlay};
use palmfarm::lan::mdns::answers;
use palmfarm::pipeline::doctor::doctor_with;
use palmfarm::pipeline::HostInputs;
use palmfarm::plan::content_cache::ContentCache;
use palmfarm::plan::{self, html, names, show, table};
use palmfarm::progress::{Cancel, Observer, Silent};
use palmfarm::{edit, farm};
use palmfarm_agent::daemon::Daemon;
use palmfarm_agent::journal;
use palmfarm_protocol::firstboot::FirstBoot;
use palmfarm_protocol::report::Report;

/// An entry point by name.
pub type Entry = (&'static str, fn(&[u8]));

/// Every entry point.
pub const ENTRIES: &[Entry] = &[
    ("farm", farm_yaml),
    ("table", table),
    ("xz", xz),
    ("fat", fat),
    ("ext4", ext4),
    ("overlay", overlay),
    ("firstboot", firstboot),
    ("daemon", daemon),
    ("sums", sums),
    ("keys", keys),
    ("mdns", mdns),
];

/// farm.yaml: read, told about, planned, shown.
pub fn farm_yaml(bytes: &[u8]) {
    let nowhere = Path::new("/nonexistent");
    match farm::parse("farm.yaml", bytes, nowhere, &|_| None, None) {
        Err(refused) => {
            drop(refused.text().render(refused.problems()));
        }
        Ok(loaded) => {
            drop(loaded.text.render(&loaded.warnings));
            let Ok(gathered) = assets::gather(&loaded) else {
                return;
            };
            let tree = Tree::default();
            let mut plans = Vec::new();
            for card in loaded.farm.resolved_cards().into_iter().take(2) {
                let Ok(hashes) = assets::hashes(&loaded, &card.name, &|_| None) else {
                    continue;
                };
                let prefixes: Vec<_> = "2001:db8::/64".parse().into_iter().collect();
                if let Ok(plan) = plan::card(
                    &loaded.farm,
                    card,
                    &gathered.sources,
                    &hashes,
                    &prefixes,
                    gathered.keys.as_ref(),
                    &mut ContentCache::default(),
                ) {
                    drop(show::files(&plan, &tree));
                    plans.push(plan);
                }
            }
            let trees = vec![tree; plans.len()];
            drop(table::table(&plans, Some(60)));
            drop(show::json(&plans, &trees).to_string());
            for list in [names::zone, names::reverse_zone, names::hosts] {
                drop(list(&plans));
            }
            drop(html::page(&plans, &trees, &loaded.farm.base, &[]));
        }
    }
}

/// A medium that begins with bytes that somebody made, and goes on with zeros.
struct Begins<'a> {
    bytes: &'a [u8],
    size: u64,
}

impl ReadAt for Begins<'_> {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> std::io::Result<()> {
        let len = u64::try_from(buf.len()).unwrap_or(u64::MAX);
        if offset.checked_add(len).is_none_or(|end| end > self.size) {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        for (at, byte) in (offset..).zip(buf.iter_mut()) {
            *byte = usize::try_from(at)
                .ok()
                .and_then(|at| self.bytes.get(at))
                .copied()
                .unwrap_or(0);
        }
        Ok(())
    }
}

/// Partition tables: the first byte says how large the medium is, the rest is how it begins.
pub fn table(bytes: &[u8]) {
    let Some((size, bytes)) = bytes.split_first() else {
        return;
    };
    let size = match size % 4 {
        0 => u64::try_from(bytes.len()).unwrap_or(0),
        1 => 1 << 20,
        2 => 4 << 30,
        _ => 2 << 40,
    };
    let medium = Begins { bytes, size };
    if let Ok(layout) = Layout::read(&medium) {
        let spans: Vec<_> = layout.partitions.iter().map(|partition| partition.span).collect();
        drop(allocated(&medium, &spans));
        let base: Arc<dyn ReadAt> = Arc::new(bytes.to_vec());
        drop(survey(&base, &layout));
    }
}

/// A base as a file: recognised, its index read, decoded at a few places.
pub fn xz(bytes: &[u8]) {
    let Ok(mut file) = tempfile::NamedTempFile::new_in("/dev/shm") else {
        return;
    };
    if file.write_all(bytes).and_then(|()| file.flush()).is_err() {
        return;
    }
    let cancel = Cancel::new();
    let observer = Observer {
        progress: &Silent,
        cancel: &cancel,
    };
    if let Ok(image) = BaseImage::open(file.path(), Expect::Anything, &CacheDir::none(), observer) {
        let mut buf = [0; 4096];
        let size = image.size();
        for at in [0, size / 3, size / 2, size.saturating_sub(4096)] {
            drop(image.read_exact_at(at, &mut buf));
        }
    }
}

/// The built-in base, decoded, and where its filesystems hold something.
struct Whole {
    bytes: &'static [u8],
    layout: Layout,
}

static MINI: LazyLock<Whole> = LazyLock::new(|| {
    let cancel = Cancel::new();
    let observer = Observer {
        progress: &Silent,
        cancel: &cancel,
    };
    let image = BaseImage::built_in("mini", mini::MINI, observer).unwrap();
    let mut bytes = vec![0; usize::try_from(image.size()).unwrap()];
    image.read_exact_at(0, &mut bytes).unwrap();
    let bytes: &'static [u8] = Box::leak(bytes.into_boxed_slice());
    let layout = Layout::read(&bytes).unwrap();
    Whole { bytes, layout }
});

/// Blocks of a partition of the built-in base that are not all zero, by their offset in the image.
fn used(span: Span) -> Vec<u64> {
    (span.start()..span.end())
        .step_by(1024)
        .filter(|at| {
            let at = usize::try_from(*at).unwrap();
            MINI.bytes[at..(at + 1024).min(MINI.bytes.len())]
                .iter()
                .any(|byte| *byte != 0)
        })
        .collect()
}

static FAT_USED: LazyLock<Vec<u64>> = LazyLock::new(|| used(MINI.layout.boot.span));
static EXT4_USED: LazyLock<Vec<u64>> = LazyLock::new(|| used(MINI.layout.root.span));

/// Changes of the FAT of the built-in base: three bytes where, one how many, then the bytes; again and again.
pub fn fat(bytes: &[u8]) {
    changed(bytes, &FAT_USED);
}

/// The same for its ext4.
pub fn ext4(bytes: &[u8]) {
    changed(bytes, &EXT4_USED);
}

fn changed(mut bytes: &[u8], blocks: &[u64]) {
    let base = Overlay::new(MINI.bytes);
    while let [a, b, c, count, rest @ ..] = bytes {
        let place = usize::from(*a) | usize::from(*b) << 8 | usize::from(*c) << 16;
        let place = place % (blocks.len() * 1024);
        let at = blocks[place / 1024] + u64::try_from(place % 1024).unwrap();
        let (put, rest) = rest.split_at(usize::from(*count).clamp(1, 64).min(rest.len()));
        drop(base.write_all_at(at, put));
        bytes = rest;
    }
    let base = Arc::new(base);
    let Ok(layout) = Layout::read(&base) else { return };
    drop(survey(&base, &layout));
    if let Ok(volumes) = Volumes::open(&base, &layout) {
        for volume in [Volume::Boot, Volume::Root] {
            let mut left = 500;
            walk(&volumes, volume, None, 30, &mut left);
        }
    }
    let spans: Vec<_> = layout.partitions.iter().map(|partition| partition.span).collect();
    drop(allocated(&base, &spans));
    drop(edit::edit(&base, layout.spans(), &tree(), 1_700_000_000));
    let host = HostInputs {
        environment: &|_| None,
        epoch: None,
    };
    drop(doctor_with(&base, host, &|_| Ok(armhf_program().into())));
}

/// Nothing but the header of a program for 32-bit ARM (elf(5)).
fn armhf_program() -> Vec<u8> {
    let mut program = b"\x7fELF\x01\x01\x01".to_vec();
    program.resize(64, 0);
    program[18] = 40;
    program
}

fn walk<M: ReadAt + Clone + 'static>(
    volumes: &Volumes<M>,
    volume: Volume,
    path: Option<&CardPath>,
    deep: u32,
    left: &mut u32,
) {
    let reader = volumes.reader(volume);
    let Ok(names) = reader.names(path) else {
        return;
    };
    for name in names {
        if *left == 0 {
            return;
        }
        *left -= 1;
        let top = path.map_or("", CardPath::as_str);
        let Ok(path) = CardPath::new(&format!("{top}/{name}")) else {
            continue;
        };
        match reader.stat(&path).ok().flatten().map(|stat| stat.kind) {
            Some(FileKind::Dir) if deep > 0 => walk(volumes, volume, Some(&path), deep - 1, left),
            Some(FileKind::File) => drop(reader.read(&path, 1 << 20)),
            _ => drop(reader.stat_through(&path)),
        }
    }
}

/// A plan that touches much: new and replaced files, directories, symlinks, something removed.
fn tree() -> Tree {
    let mut tree = Tree::default();
    let mut add = |volume, path: &str, node| {
        let planned = Planned {
            node,
            origin: "fuzz".into(),
            privacy: Privacy::Public,
        };
        tree.add(volume, CardPath::new(path).unwrap(), planned).unwrap();
    };
    let file = |len: usize| Node::File {
        content: vec![7; len].into(),
        access: Access::root(0o644),
    };
    add(Volume::Boot, "/cmdline.txt", file(70));
    add(Volume::Boot, "/new/long name of a file.txt", file(3000));
    add(Volume::Boot, "/network-config", Node::Absent);
    add(Volume::Root, "/etc/hostname", file(5));
    add(Volume::Root, "/etc/netplan/50-cloud-init.yaml", Node::Absent);
    add(
        Volume::Root,
        "/etc/systemd/system/multi-user.target.wants/x.service",
        Node::Symlink {
            target: "/a".repeat(40),
        },
    );
    add(Volume::Root, "/usr/lib/palmfarm/agent", file(200_000));
    add(
        Volume::Root,
        "/var/new/deep/dir",
        Node::Dir {
            access: Access::root(0o700),
            if_there: IfThere::Set,
        },
    );
    tree
}

/// An overlay that is a tar file.
pub fn overlay(bytes: &[u8]) {
    let Ok(dir) = tempfile::tempdir_in("/dev/shm") else {
        return;
    };
    let path = dir.path().join("overlay.tar");
    if std::fs::write(&path, bytes).is_err() {
        return;
    }
    drop(overlay::read("overlay.tar", &path));
    // Nothing was written beside it.
    assert_eq!(std::fs::read_dir(dir.path()).map(Iterator::count).ok(), Some(1));
}

/// What the agent reads from its card: document, journal, report.
pub fn firstboot(bytes: &[u8]) {
    if let Ok(document) = serde_json::from_slice::<FirstBoot>(bytes) {
        let again = serde_json::to_vec(&document).unwrap();
        assert_eq!(serde_json::from_slice::<FirstBoot>(&again).unwrap(), document);
        let network = &document.network;
        black_box((network.addressed(), network.port()));
    }
    drop(serde_json::from_slice::<Report>(bytes));
    black_box(journal::parse(bytes));
}

/// A daemon that answers every request with the same bytes.
struct Answering {
    socket: PathBuf,
    answer: Arc<Mutex<Vec<u8>>>,
    _dir: tempfile::TempDir,
}

static DAEMON: LazyLock<Answering> = LazyLock::new(|| {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("unix.socket");
    let listener = UnixListener::bind(&socket).unwrap();
    let answer: Arc<Mutex<Vec<u8>>> = Arc::default();
    let given = Arc::clone(&answer);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { continue };
            // One read takes the request, which is small.
            let mut request = [0; 4096];
            drop(stream.read(&mut request));
            let bytes = given.lock().unwrap().clone();
            drop(stream.write_all(&bytes));
        }
    });
    Answering {
        socket,
        answer,
        _dir: dir,
    }
});

/// LXD's answers: bytes as they are, or as the body of a good answer.
pub fn daemon(bytes: &[u8]) {
    let Some((form, bytes)) = bytes.split_first() else {
        return;
    };
    let answer = if form % 2 == 0 {
        bytes.to_vec()
    } else {
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            bytes.len()
        );
        [head.as_bytes(), bytes].concat()
    };
    *DAEMON.answer.lock().unwrap() = answer;
    if let Ok(daemon) = Daemon::connect(&DAEMON.socket) {
        drop(daemon.look("looking", "/1.0/instances?recursion=2"));
        drop(daemon.fetch("fetching", "/1.0/instances/a/logs/b"));
        drop(daemon.settle_down("", std::time::Duration::ZERO));
        black_box(daemon.stayed());
    }
}

/// palmfarm.lock, and the list of an account's keys. What is read from a list can be pinned, and is read back.
pub fn keys(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if let Ok(lock) = Lock::parse(&text) {
        assert_eq!(Lock::parse(&lock.text()), Ok(lock));
    }
    let account: accounts::Account = "github:nina".parse().unwrap();
    if let Ok(keys) = accounts::listed(&account, bytes.to_vec()) {
        let mut lock = Lock::default();
        lock.pin(account, keys);
        assert_eq!(Lock::parse(&lock.text()), Ok(lock));
    }
}

/// What comes from a server of images: a list, its signature, where a redirect leads.
pub fn sums(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    black_box(Sums::parse(&text).find("x"));
    let keys = ubuntu_keys().unwrap();
    drop(signed_sums(b"list", bytes, &keys));
    if let Ok(url) = Url::parse("https://a.example/b/c") {
        drop(url.follow(&text));
    }
    drop(Url::parse(&text));
}

/// An answer over multicast DNS, to the question whose number it begins with.
pub fn mdns(bytes: &[u8]) {
    if let [a, b, ..] = bytes {
        drop(black_box(answers(bytes, u16::from_be_bytes([*a, *b]))));
    }
}
