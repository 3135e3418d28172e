//! Generated machines: disks, partitions, mappings over several of them, loop devices over files and devices,
//! mounts, swap, the image. Each is written as a snapshot, parsed, and judged; an oracle that knows only the
//! generated edges, not how they were read, says what must be refused.

use std::collections::BTreeSet;

use palmfarm::card::facts::FileRole;
use palmfarm::card::{approve, refusals, target_of, Allow, Allowed, Facts, Refusal, Snapshot, LARGE};
use proptest::prelude::*;

/// A node of the graph; others are named by number, which is taken modulo what there is.
#[derive(Clone, Debug)]
enum Kind {
    Fixed,
    Removable,
    Card,
    Partition(usize),
    Mapped(Vec<usize>),
    Raid(Vec<usize>),
    LoopOverDevice(usize),
    /// The mount, and one of a few files in it, so that some have the same.
    LoopOverFile(usize, usize),
}

#[derive(Clone, Debug)]
struct Node {
    kind: Kind,
    sectors: u64,
    read_only: bool,
}

#[derive(Clone, Debug)]
struct Mount {
    node: usize,
    target: &'static str,
    /// As btrfs shows itself: with a number of its own, known by its source alone.
    anonymous: bool,
    optional: &'static str,
}

#[derive(Clone, Debug)]
struct Machine {
    nodes: Vec<Node>,
    mounts: Vec<Mount>,
    swaps: Vec<usize>,
    swap_file: Option<usize>,
    image: Option<usize>,
    program: Option<usize>,
    image_size: u64,
    allowed: Vec<Allow>,
}

/// The files that loop devices have behind them.
const FILES: [&str; 3] = ["image", "program", "file"];

const TARGETS: [&str; 5] = ["/", "/home", "/media/x y", "/boot/efi", "/mnt/#1\\2"];

fn kinds() -> impl Strategy<Value = Kind> {
    let some = || any::<usize>();
    prop_oneof![
        2 => Just(Kind::Fixed),
        3 => Just(Kind::Removable),
        2 => Just(Kind::Card),
        5 => some().prop_map(Kind::Partition),
        3 => prop::collection::vec(some(), 1..3).prop_map(Kind::Mapped),
        2 => prop::collection::vec(some(), 1..4).prop_map(Kind::Raid),
        1 => some().prop_map(Kind::LoopOverDevice),
        2 => (some(), 0..3_usize).prop_map(|(mount, file)| Kind::LoopOverFile(mount, file)),
    ]
}

fn machines() -> impl Strategy<Value = Machine> {
    let sectors = prop_oneof![
        8 => Just(62_333_952_u64),
        1 => Just(0),
        1 => Just(2048),
        1 => Just(LARGE / 512),
        1 => Just(LARGE / 512 + 1),
    ];
    let node = (kinds(), sectors, prop::bool::weighted(0.1)).prop_map(|(kind, sectors, read_only)| Node {
        kind,
        sectors,
        read_only,
    });
    let mount = (
        any::<usize>(),
        any::<bool>(),
        prop::sample::select(vec!["", "shared:1 ", "shared:7 master:1 "]),
    );
    let place = || prop::option::weighted(0.3, any::<usize>());
    (
        prop::collection::vec(node, 1..12),
        prop::collection::vec(mount, 0..TARGETS.len()),
        prop::collection::vec(any::<usize>(), 0..2),
        (place(), place(), place()),
        prop_oneof![
            Just(4_000_000_000_u64),
            Just(31_914_983_424),
            Just(31_914_983_425)
        ],
        prop::sample::subsequence(Allow::ALL.to_vec(), 0..=3),
    )
        .prop_map(
            |(nodes, mounts, swaps, (swap_file, image, program), image_size, allowed)| Machine {
                mounts: mounts
                    .into_iter()
                    .zip(TARGETS)
                    .map(|((node, anonymous, optional), target)| Mount {
                        node: node % nodes.len(),
                        target,
                        anonymous,
                        optional,
                    })
                    .collect(),
                swaps: swaps.iter().map(|swap| swap % nodes.len()).collect(),
                nodes,
                swap_file,
                image,
                program,
                image_size,
                allowed,
            },
        )
        .prop_map(settled)
}

/// Make every reference point at something that fits: a partition at a disk, a file at a mount. Mappings may
/// point anywhere, so that cycles occur.
fn settled(mut machine: Machine) -> Machine {
    let disks: Vec<usize> = (0..machine.nodes.len())
        .filter(|index| {
            matches!(
                machine.nodes[*index].kind,
                Kind::Fixed | Kind::Removable | Kind::Card | Kind::LoopOverDevice(_) | Kind::LoopOverFile(..)
            )
        })
        .collect();
    let count = machine.nodes.len();
    let mounts = machine.mounts.len();
    for node in &mut machine.nodes {
        node.kind = match &node.kind {
            Kind::Partition(_) if disks.is_empty() => Kind::Removable,
            Kind::Partition(of) => Kind::Partition(disks[of % disks.len()]),
            Kind::Mapped(over) => Kind::Mapped(over.iter().map(|below| below % count).collect()),
            Kind::Raid(over) => Kind::Raid(over.iter().map(|below| below % count).collect()),
            Kind::LoopOverDevice(over) => Kind::LoopOverDevice(over % count),
            Kind::LoopOverFile(..) if mounts == 0 => Kind::Fixed,
            Kind::LoopOverFile(mount, file) => Kind::LoopOverFile(mount % mounts, *file),
            other => other.clone(),
        };
    }
    for place in [&mut machine.swap_file, &mut machine.image, &mut machine.program] {
        *place = place.filter(|_| mounts > 0).map(|mount| mount % mounts);
    }
    machine
}

impl Machine {
    fn name(&self, index: usize) -> String {
        match &self.nodes[index].kind {
            Kind::Fixed | Kind::Removable => format!("sd{}", char::from(b'a' + u8::try_from(index).unwrap())),
            Kind::Card => format!("mmcblk{index}"),
            Kind::Partition(of) => format!("{}p{index}", self.name(*of)),
            Kind::Mapped(_) => format!("dm-{index}"),
            Kind::Raid(_) => format!("md{index}"),
            Kind::LoopOverDevice(_) | Kind::LoopOverFile(..) => format!("loop{index}"),
        }
    }

    fn dir(&self, index: usize) -> String {
        let name = self.name(index);
        match &self.nodes[index].kind {
            Kind::Fixed => {
                format!("/sys/devices/pci0000:00/ata1/host0/target0:0:0/0:0:0:{index}/block/{name}")
            }
            Kind::Removable => {
                format!("/sys/devices/pci0000:00/usb1/1-1/host1/target1:0:0/1:0:0:{index}/block/{name}")
            }
            Kind::Card => format!("/sys/devices/pci0000:00/mmc_host/mmc{index}/mmc{index}:aaaa/block/{name}"),
            Kind::Partition(of) => format!("{}/{name}", self.dir(*of)),
            _ => format!("/sys/devices/virtual/block/{name}"),
        }
    }

    fn slaves(&self, index: usize) -> &[usize] {
        match &self.nodes[index].kind {
            Kind::Mapped(over) | Kind::Raid(over) => over,
            _ => &[],
        }
    }

    fn snapshot(&self) -> Snapshot {
        let mut out = Snapshot::default();
        for (index, node) in self.nodes.iter().enumerate() {
            let (name, dir) = (self.name(index), self.dir(index));
            let mut say = |attribute: &str, text: &str| out.add_text(&format!("{dir}/{attribute}"), text);
            say("dev", &format!("8:{index}\n"));
            say("size", &format!("{}\n", node.sectors));
            say("ro", if node.read_only { "1\n" } else { "0\n" });
            let removable = matches!(node.kind, Kind::Removable);
            say("removable", if removable { "1\n" } else { "0\n" });
            match &node.kind {
                Kind::Partition(_) => say("partition", &format!("{index}\n")),
                Kind::Mapped(_) => say("dm/name", &format!("map-{index}\n")),
                Kind::Raid(_) => say("md/level", "raid1\n"),
                Kind::LoopOverDevice(over) => {
                    say("loop/backing_file", &format!("/dev/{}\n", self.name(*over)));
                }
                Kind::LoopOverFile(mount, file) => {
                    let dir = self.mounts[*mount].target.trim_end_matches('/');
                    say("loop/backing_file", &format!("{dir}/{}\n", FILES[*file]));
                    // By another name, as through a hard link; the kernel knows the file all the same.
                    if index % 2 == 0 {
                        say("loop/backing_file", &format!("/elsewhere/{index} (deleted)\n"));
                    }
                    let number = format!("file: 0:{mount} {file}");
                    out.add_text(&format!("@loop/b8:{index}"), &number);
                }
                Kind::Fixed | Kind::Removable | Kind::Card => {}
            }
            let class = format!("/sys/class/block/{name}");
            out.add_link(&class, &format!("../../{}", dir.strip_prefix("/sys/").unwrap()));
            // The kernel shows each edge at both ends; either must do.
            for (nth, slave) in self.slaves(index).iter().enumerate() {
                if nth % 2 == 0 {
                    out.add_link(&format!("{dir}/slaves/{}", self.name(*slave)), "x");
                } else {
                    out.add_link(&format!("{}/holders/{name}", self.dir(*slave)), "x");
                }
            }
        }
        out.add_text("/proc/self/mountinfo", &self.mountinfo());
        out.add_text("/proc/swaps", &self.swap_lines());
        for (role, place) in [(FileRole::Image, self.image), (FileRole::Program, self.program)] {
            if let Some(mount) = place {
                let path = format!("{}/{}", self.mounts[mount].target, role.word());
                let file = FILES.iter().position(|file| *file == role.word()).unwrap();
                out.add_text(
                    &format!("@{}", role.word()),
                    &format!("path: {path}\nmnt_id: {}\nfile: 0:{mount} {file}", 100 + mount),
                );
            }
        }
        out
    }

    fn mountinfo(&self) -> String {
        let mut lines = String::from("90 1 0:90 / /proc rw - proc proc rw\n");
        for (index, mount) in self.mounts.iter().enumerate() {
            let dev = if mount.anonymous {
                format!("0:{index}")
            } else {
                format!("8:{}", mount.node)
            };
            let source = match &self.nodes[mount.node].kind {
                Kind::Mapped(_) => format!("/dev/mapper/map-{}", mount.node),
                _ => format!("/dev/{}", self.name(mount.node)),
            };
            let target = escape(mount.target);
            let optional = mount.optional;
            let id = 100 + index;
            lines.push_str(&format!(
                "{id} 1 {dev} / {target} rw {optional}- ext4 {source} rw\n"
            ));
        }
        lines
    }

    fn swap_lines(&self) -> String {
        let mut lines = String::from("Filename Type Size Used Priority\n");
        for swap in &self.swaps {
            lines.push_str(&format!("/dev/{} partition 1 0 -2\n", self.name(*swap)));
        }
        if let Some(mount) = self.swap_file {
            let dir = self.mounts[mount].target.trim_end_matches('/');
            lines.push_str(&format!("{}/swap file 1 0 -2\n", escape(dir)));
        }
        lines
    }

    /// What each node rests on directly, as generated.
    fn edges(&self, index: usize) -> Vec<usize> {
        match &self.nodes[index].kind {
            Kind::Partition(of) => vec![*of],
            Kind::Mapped(over) | Kind::Raid(over) => over.clone(),
            Kind::LoopOverDevice(over) => vec![*over],
            Kind::LoopOverFile(mount, _) => {
                let shown = index % 2 == 1;
                let holding = shown.then_some(self.mounts[*mount].node);
                let is_twin = |other: &usize| *other != index && self.is_same_file(index, *other);
                let twins = (0..self.nodes.len()).filter(is_twin);
                holding.into_iter().chain(twins).collect()
            }
            Kind::Fixed | Kind::Removable | Kind::Card => Vec::new(),
        }
    }

    fn is_same_file(&self, one: usize, other: usize) -> bool {
        match (&self.nodes[one].kind, &self.nodes[other].kind) {
            (Kind::LoopOverFile(mount, file), Kind::LoopOverFile(its_mount, its)) => {
                (mount, file) == (its_mount, its)
            }
            _ => false,
        }
    }

    /// Whether the node is a loop device over the image or the program.
    fn is_over_role(&self, index: usize) -> bool {
        let Kind::LoopOverFile(mount, file) = self.nodes[index].kind else {
            return false;
        };
        (FILES[file] == "image" && self.image == Some(mount))
            || (FILES[file] == "program" && self.program == Some(mount))
    }

    /// Whether `from` rests on `to`, by repeated relaxation of a matrix: another way than the one under test.
    fn rests_on(&self) -> Vec<Vec<bool>> {
        let count = self.nodes.len();
        let mut reach = vec![vec![false; count]; count];
        for (from, row) in reach.iter_mut().enumerate() {
            row[from] = true;
            for to in self.edges(from) {
                row[to] = true;
            }
        }
        for middle in 0..count {
            for from in 0..count {
                for to in 0..count {
                    reach[from][to] |= reach[from][middle] && reach[middle][to];
                }
            }
        }
        reach
    }

    /// Whether anything that can never be allowed speaks against writing `target`.
    fn forbidden(&self, target: usize) -> bool {
        let reach = self.rests_on();
        let node = &self.nodes[target];
        let is_own_part =
            |other: usize| matches!(self.nodes[other].kind, Kind::Partition(of) if of == target);
        let places = [self.swap_file, self.image, self.program];
        let used = self
            .mounts
            .iter()
            .map(|mount| mount.node)
            .chain(self.swaps.iter().copied())
            .chain(places.into_iter().flatten().map(|mount| self.mounts[mount].node));
        let in_use = used.into_iter().any(|other| reach[other][target]);
        let held =
            (0..self.nodes.len()).any(|other| other != target && !is_own_part(other) && reach[other][target]);
        // A loop device over another device is not a disk of its own.
        let whole = matches!(
            node.kind,
            Kind::Fixed | Kind::Removable | Kind::Card | Kind::LoopOverFile(..)
        );
        let over_role = (0..self.nodes.len()).any(|other| reach[other][target] && self.is_over_role(other));
        let size = node.sectors * 512;
        in_use || held || over_role || !whole || node.read_only || size == 0 || size < self.image_size
    }

    /// What must have been allowed before `target` may be written.
    fn needs(&self, target: usize) -> BTreeSet<Allow> {
        let node = &self.nodes[target];
        let mut needs = BTreeSet::new();
        match node.kind {
            Kind::Fixed => needs.insert(Allow::Internal),
            Kind::LoopOverDevice(_) | Kind::LoopOverFile(..) => needs.insert(Allow::Loop),
            _ => false,
        };
        if node.sectors * 512 > LARGE {
            needs.insert(Allow::Large);
        }
        needs
    }
}

fn escape(path: &str) -> String {
    path.replace('\\', "\\134")
        .replace(' ', "\\040")
        .replace('#', "\\043")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Approved exactly if the oracle finds nothing, and what it needs was allowed.
    #[test]
    fn nothing_in_use_is_ever_approved(machine in machines()) {
        let facts = Facts::parse(&machine.snapshot()).unwrap();
        prop_assert_eq!(facts.devices.len(), machine.nodes.len());
        let allowed: Allowed = machine.allowed.iter().copied().collect();
        for target in 0..machine.nodes.len() {
            let device = facts.named(&machine.name(target)).unwrap();
            let expect = !machine.forbidden(target) && machine.needs(target).is_subset(&allowed);
            let approved = approve(&facts, &target_of(device), Some(machine.image_size), &allowed);
            prop_assert_eq!(approved.is_ok(), expect, "{}: {:?}", device.name, approved);
        }
    }

    /// Each relation that reaches the disk has its reason, whatever else speaks against it.
    #[test]
    fn every_reason_is_given(machine in machines()) {
        let facts = Facts::parse(&machine.snapshot()).unwrap();
        let reach = machine.rests_on();
        for (target, _) in machine.nodes.iter().enumerate() {
            let device = facts.named(&machine.name(target)).unwrap();
            let found = refusals(&facts, &target_of(device), Some(machine.image_size), &Allowed::new());
            let given = |test: &dyn Fn(&Refusal) -> bool| found.iter().any(test);
            let system = given(&|reason| matches!(reason, Refusal::System { .. }));
            for mount in machine.mounts.iter().filter(|mount| reach[mount.node][target]) {
                let is_given = given(&|reason| matches!(reason, Refusal::Mounted { target, .. } if target == mount.target));
                // What the system keeps in loop devices on its own disk is not listed one by one.
                prop_assert!(is_given || system, "{}: {:?}: {:?}", device.name, mount, found);
                let is_system = matches!(mount.target, "/" | "/home" | "/boot/efi");
                prop_assert!(!is_system || system, "{}: {:?}: {:?}", device.name, mount, found);
            }
            for swap in machine.swaps.iter().filter(|swap| reach[**swap][target]) {
                let area = format!("/dev/{}", machine.name(*swap));
                let is_given = given(&|reason| matches!(reason, Refusal::Swap { path, .. } if *path == area));
                prop_assert!(is_given, "{}: {}: {:?}", device.name, area, found);
            }
            for (file, place) in [(FileRole::Image, machine.image), (FileRole::Program, machine.program)] {
                if place.is_some_and(|mount| reach[machine.mounts[mount].node][target]) {
                    let is_given = given(&|reason| matches!(reason, Refusal::Contains { role, .. } if *role == file));
                    prop_assert!(is_given, "{}: {:?}: {:?}", device.name, file, found);
                }
            }
            for other in (0..machine.nodes.len()).filter(|other| *other != target) {
                if machine.slaves(other).contains(&target) {
                    let holder = format!("/dev/{}", machine.name(other));
                    let is_given = given(&|reason| {
                        matches!(reason, Refusal::Holder { node, .. } if node.split(' ').next() == Some(&holder))
                    });
                    prop_assert!(is_given, "{}: {}: {:?}", device.name, holder, found);
                }
            }
        }
    }
}
