//! What the generations of Ubuntu's Raspberry Pi images look like on disk, as data.
//!
//! Partition starts, types, labels, mkfs options, seeds and boot files are those of the release that is named. A comment
//! beside each says where it comes from. Nothing here touches a disk.

use anyhow::{Context, Result};

/// A release of Ubuntu: year and month.
pub(crate) type Release = (u8, u8);

/// A processor architecture, as Debian and QEMU call it.
#[derive(Debug)]
pub(crate) struct Arch {
    /// Debian's name.
    pub(crate) debian: &'static str,
    /// The metapackage that depends on the newest kernel image.
    pub(crate) kernel: &'static str,
    /// The entry of `binfmt_misc` that runs its programs, from qemu-user-static.
    pub(crate) binfmt: &'static str,
    /// The emulator of a whole machine, and what makes it one that this architecture's kernel boots on.
    pub(crate) machine: &'static [&'static str],
}

/// 32-bit: what every Pi from the 2 on can run.
pub(crate) static ARMHF: Arch = Arch {
    debian: "armhf",
    kernel: "linux-image-armmp-lpae",
    binfmt: "qemu-arm",
    machine: &["qemu-system-arm", "-M", "virt,highmem=off", "-cpu", "cortex-a15"],
};

/// 64-bit: the only one that Ubuntu still makes since 24.04.
pub(crate) static ARM64: Arch = Arch {
    debian: "arm64",
    kernel: "linux-image-arm64",
    binfmt: "qemu-aarch64",
    machine: &["qemu-system-aarch64", "-M", "virt", "-cpu", "cortex-a53"],
};

/// One generation of images.
#[derive(Debug)]
pub(crate) struct Layout {
    /// The series, and behind a dash what is not usual: the name of the architecture, or where LXD is.
    pub(crate) name: &'static str,
    /// The release of Ubuntu that it is the layout of.
    pub(crate) release: Release,
    /// What the root file system is built for.
    pub(crate) arch: &'static Arch,
    /// Disk signature at byte 440 of the MBR. Ubuntu's are random; a fixed one keeps the image reproducible.
    pub(crate) disk_id: u32,
    /// The first partition.
    pub(crate) boot: Boot,
    /// The second partition.
    pub(crate) root: Root,
    /// What follows the root partition.
    pub(crate) end: End,
    /// Lines of /etc/fstab.
    pub(crate) fstab: &'static str,
    /// Where cloud-init finds its seed.
    pub(crate) seed: Seed,
    /// Whether a .link file of ubuntu-raspi-settings names the NIC of a Pi `eth0`; in the others `net.ifnames=0` on the
    /// kernel's command line does.
    pub(crate) has_link_file: bool,
    /// Arguments of xz.
    pub(crate) xz: &'static [&'static str],
    /// How LXD comes.
    pub(crate) lxd: Lxd,
}

/// How LXD comes onto a card.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lxd {
    /// It is a package of the base, as in 18.04.
    Package,
    /// The base has nothing of it, and the card carries snapd and LXD's snap.
    Snap,
}

/// The FAT partition.
#[derive(Debug)]
pub(crate) struct Boot {
    /// First 512-byte sector.
    pub(crate) start: u64,
    /// Length in 512-byte sectors.
    pub(crate) sectors: u64,
    /// Arguments of mkfs.vfat, without the label.
    pub(crate) mkfs: &'static [&'static str],
    /// Whether the `bootable` byte of the partition entry is 0x80.
    pub(crate) bootable: bool,
    /// Whether kernel, initrd and command line are in `current/`, with the A/B scheme's state file (25.10 on), and not in
    /// the root.
    pub(crate) in_current: bool,
    /// Contents of cmdline.txt.
    pub(crate) cmdline: &'static str,
    /// Contents of config.txt.
    pub(crate) config: &'static str,
}

impl Boot {
    /// The sector after its last, where the root partition starts.
    pub(crate) const fn end(&self) -> u64 {
        self.start.saturating_add(self.sectors)
    }
}

/// The ext4 partition.
#[derive(Debug)]
pub(crate) struct Root {
    /// File system label.
    pub(crate) label: &'static str,
    /// Fixed where Ubuntu's is random, so that the image is reproducible.
    pub(crate) uuid: &'static str,
    /// Arguments of mkfs.ext4, without label and UUID.
    pub(crate) mkfs: &'static [&'static str],
}

/// How the image's size follows from its contents.
#[derive(Clone, Copy, Debug)]
pub(crate) enum End {
    /// The whole image has this many bytes; the root partition takes what is left.
    Total(u64),
    /// The root partition has one and a half times what its files use plus 8 MiB; then come this many bytes.
    Tail(u64),
}

/// Where cloud-init finds its seed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seed {
    /// /var/lib/cloud/seed/nocloud-net in the root file system.
    Root,
    /// The root of the FAT partition, found by its label.
    /// The value is user-data: how the password is given and whether sshd takes it.
    Fat(&'static str),
}

/// The layout called `name`.
pub(crate) fn find(name: &str) -> Result<&'static Layout> {
    let found = ALL.into_iter().find(|layout| layout.name == name);
    found.with_context(|| {
        let names = ALL.map(|layout| layout.name).join(", ");
        format!("there is no layout {name}; there are {names}")
    })
}

/// All layouts, oldest first.
static ALL: [&Layout; 7] = [
    &BIONIC,
    &JAMMY,
    &JAMMY_ARM64,
    &JAMMY_SNAP,
    &NOBLE,
    &NOBLE_ARM64,
    &RESOLUTE,
];

/// Sectors in a MiB.
const MIB: u64 = 2048;

/// Ubuntu's own mke2fs calls of 20.04 and 22.04: `-O` adds up, so `metadata_csum` is off and `uninit_bg` on.
const EXT4_UNINIT_BG: &[&str] = &["-O", "-metadata_csum", "-T", "default", "-O", "uninit_bg"];

/// FAT32 with one sector per cluster: ubuntu-image's choice, and hard on FAT chains.
const FAT32: &[&str] = &["-s", "1", "-S", "512", "-F", "32"];

const FSTAB_20_04: &str = "LABEL=writable\t/\text4\tdefaults\t0 0\n\
                           LABEL=system-boot\t/boot/firmware\tvfat\tdefaults\t0 1\n";
const FSTAB_24_04: &str = "LABEL=writable\t/\text4\tdiscard,errors=remount-ro\t0 1\n\
                           LABEL=system-boot\t/boot/firmware\tvfat\tdefaults\t0 1\n";

/// Until 22.04 sshd takes the password that must be changed at the first login.
const USER_DATA_22_04: &str =
    "#cloud-config\nchpasswd:\n  expire: true\n  list:\n  - ubuntu:ubuntu\nssh_pwauth: true\n";
/// Since 23.10 it does not.
const USER_DATA_24_04: &str = "#cloud-config\nchpasswd:\n  expire: true\n  users:\n  - name: ubuntu\n    \
                               password: ubuntu\n    type: text\nssh_pwauth: false\n";

const CMDLINE_22_04: &str = "console=serial0,115200 dwc_otg.lpm_enable=0 console=tty1 root=LABEL=writable \
                             rootfstype=ext4 rootwait fixrtc quiet splash\n";
const CMDLINE_24_04: &str = "console=serial0,115200 multipath=off dwc_otg.lpm_enable=0 console=tty1 \
                             root=LABEL=writable rootfstype=ext4 rootwait fixrtc\n";
const CMDLINE_26_04: &str = "console=serial0,115200 multipath=off dwc_otg.lpm_enable=0 console=tty1 \
                             root=LABEL=writable rootfstype=ext4 panic=10 rootwait fixrtc\n";

const CONFIG_22_04: &str =
    "[all]\nkernel=vmlinuz\ncmdline=cmdline.txt\ninitramfs initrd.img followkernel\n\n\
                            [pi4]\nmax_framebuffers=2\narm_boost=1\n\n\
                            [all]\ndtparam=audio=on\ndtparam=i2c_arm=on\ndtparam=spi=on\ndisable_overscan=1\n\
                            enable_uart=1\n\n[cm4]\ndtoverlay=dwc2,dr_mode=host\n\n[all]\n";
const CONFIG_26_04: &str = "[all]\nos_prefix=current/\nkernel=vmlinuz\ncmdline=cmdline.txt\n\
                            initramfs initrd.img followkernel\n\n[tryboot]\nos_prefix=new/\n\n\
                            [all]\ndtparam=audio=on\ndtparam=i2c_arm=on\ndtparam=spi=on\ndisable_overscan=1\n\
                            enable_uart=1\n\n[all]\n";

/// 18.04 as livecd-rootfs made it with parted and mkfs defaults: FAT16, a seed in the root file system.
static BIONIC: Layout = Layout {
    name: "bionic",
    release: (18, 4),
    arch: &ARMHF,
    disk_id: 0x7061_1804,
    boot: Boot {
        start: 8192,
        sectors: 261_340,
        mkfs: &[],
        bootable: true,
        in_current: false,
        cmdline: "net.ifnames=0 dwc_otg.lpm_enable=0 console=ttyAMA0,115200 console=tty1 root=/dev/mmcblk0p2 \
                  rootfstype=ext4 elevator=deadline rootwait\n",
        config: "kernel=uboot.bin\ndevice_tree_address=0x02000000\n",
    },
    root: Root {
        label: "cloudimg-rootfs",
        uuid: "70616c6d-0000-4000-8000-000000001804",
        mkfs: &["-b", "4096", "-i", "8192", "-m", "0", "-E", "resize=536870912"],
    },
    end: End::Total(4_000_000_000),
    fstab: "LABEL=cloudimg-rootfs\t/\text4\tdefaults\t0 1\nLABEL=system-boot\t/boot/firmware\tvfat\tdefaults\t0 1\n",
    seed: Seed::Root,
    has_link_file: false,
    xz: &["-6", "-T4"],
    lxd: Lxd::Package,
};

/// 22.04 as ubuntu-image 1.11 made it.
static JAMMY: Layout = jammy("jammy", &ARMHF);
static JAMMY_ARM64: Layout = jammy("jammy-arm64", &ARM64);
static JAMMY_SNAP: Layout = {
    let mut jammy = jammy("jammy-snap", &ARMHF);
    jammy.lxd = Lxd::Snap;
    jammy
};

const fn jammy(name: &'static str, arch: &'static Arch) -> Layout {
    Layout {
        name,
        release: (22, 4),
        arch,
        disk_id: 0x7061_2204,
        boot: Boot {
            start: MIB,
            sectors: 512 * MIB,
            mkfs: FAT32,
            bootable: false,
            in_current: false,
            cmdline: CMDLINE_22_04,
            config: CONFIG_22_04,
        },
        root: Root {
            label: "writable",
            uuid: "70616c6d-0000-4000-8000-000000002204",
            mkfs: EXT4_UNINIT_BG,
        },
        // Room for a backup GPT, although the label is an MBR.
        end: End::Tail(17 * 1024),
        fstab: FSTAB_20_04,
        seed: Seed::Fat(USER_DATA_22_04),
        has_link_file: true,
        xz: &["-0", "-T4"],
        lxd: Lxd::Package,
    }
}

/// The built-in base: 22.04 with just enough of everything. FAT32 needs 65525 clusters, so 34 MiB is its least.
pub(super) static MINI: Layout = {
    let mut mini = jammy("mini", &ARMHF);
    mini.disk_id = 0x7061_0001;
    mini.boot.sectors = 34 * MIB;
    // Without it the label carries the time of the host.
    mini.boot.mkfs = &["--invariant", "-s", "1", "-S", "512", "-F", "32"];
    mini.root.uuid = "70616c6d-0000-4000-8000-000000000001";
    mini.end = End::Total(96 << 20);
    mini
};

/// 24.04 as the Go ubuntu-image makes it: mke2fs with its defaults, `metadata_csum` among them.
static NOBLE: Layout = noble("noble", &ARMHF);
static NOBLE_ARM64: Layout = noble("noble-arm64", &ARM64);

const fn noble(name: &'static str, arch: &'static Arch) -> Layout {
    let mut noble = jammy(name, arch);
    noble.release = (24, 4);
    noble.disk_id = 0x7061_2404;
    noble.boot.bootable = true;
    noble.boot.cmdline = CMDLINE_24_04;
    noble.root.uuid = "70616c6d-0000-4000-8000-000000002404";
    noble.root.mkfs = &[];
    noble.end = End::Tail(512);
    noble.fstab = FSTAB_24_04;
    noble.seed = Seed::Fat(USER_DATA_24_04);
    noble
}

/// 26.04: checksums seeded from the superblock, an orphan file, and boot files in `current/`.
static RESOLUTE: Layout = {
    let mut resolute = noble("resolute", &ARMHF);
    resolute.release = (26, 4);
    resolute.disk_id = 0x7061_2604;
    resolute.boot.in_current = true;
    resolute.boot.cmdline = CMDLINE_26_04;
    resolute.boot.config = CONFIG_26_04;
    resolute.root.uuid = "70616c6d-0000-4000-8000-000000002604";
    resolute.root.mkfs = &["-O", "metadata_csum_seed,orphan_file"];
    resolute
};
