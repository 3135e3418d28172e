//! What the fuzzer and the tests begin with: small good inputs for each entry point, made here rather than kept, and
//! what was once found to be trouble, kept as hexadecimal text in `found/`.

use std::path::Path;

use palmfarm::base::mini;

/// The inputs of `entry`.
pub fn seeds(entry: &str) -> Vec<Vec<u8>> {
    let mut all = match entry {
        "farm" => vec![
            include_bytes!("../examples/farm.yaml").to_vec(),
            include_bytes!("../tests/spec/example.yaml").to_vec(),
            include_bytes!("../examples/fleet.yaml").to_vec(),
            b"farm: 1\nbase: mini\ncards: {a: {mac: \"b8:27:eb:00:00:01\"}, b: {hostname: c}}\n\
              containers: {w: {image: \"images:a/1\", replicas: 1..3, nesting: true, autostart: true}}\ndns: {zone: a.net, serial: 1}\n"
                .to_vec(),
            b"farm: 1\nbase: ~/x.img\nhostname: a\nusers: [{name: a, ssh_keys: [{file: ~/.ssh/a.pub}, {github: a}, gh:a, {}]}]\n"
                .to_vec(),
        ],
        "table" => vec![mbr(), gpt()],
        "xz" => vec![
            mini::MINI.to_vec(),
            b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\x03\x00\x00\x00\x00\x00\x00\x00\x00\x00".to_vec(),
            b"\x28\xb5\x2f\xfd\x04\x00\x01\x00\x00\x99\xe9\xd8\x51".to_vec(),
            [mini::MINI, &[0; 8]].concat(),
            xz_that_ends_early(),
        ],
        // The boot sector, the FAT, a directory; the superblock, a group descriptor, an inode: a change of each.
        "fat" => (0..8_u8).map(|at| vec![at * 33, at, 0, 2, 0xff, at, 14, 0, 0, 1, at]).collect(),
        "ext4" => (0..16_u8).map(|at| vec![at * 4, at / 8, 0, 4, 0xff, at, 0, at, 96, at / 2, 0, 2, 0, 0xff]).collect(),
        "overlay" => tars(),
        "firstboot" => vec![
            b"{\"version\":2,\"card\":\"palm\",\"hostname\":\"palm\",\"network\":{\"uplink\":\"eth0\",\"vlan\":null,\
              \"bridge\":\"br0\",\"renderer\":\"networkd\",\"mac\":null,\"ipv4\":\"dhcp\",\"ipv6\":\"auto\",\
              \"rollback_seconds\":120},\"packages\":[],\"daemon_users\":[],\"lxd\":null,\"contents\":{},\"containers\":[],\
              \"boot_mount\":\"/boot/firmware\"}"
                .to_vec(),
        ],
        "daemon" => vec![
            b"\x01{\"type\":\"sync\",\"status_code\":200,\"metadata\":{\"api_extensions\":[\"instances\"],\
              \"environment\":{\"server_version\":\"5.0.2\",\"server_pid\":7}}}"
                .to_vec(),
            b"\x00HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{\"a\":\r\n2\r\n1}\r\n0\r\n\r\n".to_vec(),
            b"\x00HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\n{}".to_vec(),
        ],
        "keys" => vec![
            include_bytes!("../src/farm/testdata/ssh_keys.txt").to_vec(),
            b"version = 1\n\n[ssh_keys.\"github:nina\"]\nsha256 = \"73cb3858a687a8494ca3323053016282f3dad39d42cf62ca4e79dda2aac7d9ac\"\n\
              keys = [\n  \"x\",\n]\n"
                .to_vec(),
        ],
        "sums" => vec![
            include_bytes!("../src/base/download/testdata/SHA256SUMS").to_vec(),
            include_bytes!("../src/base/download/testdata/SHA256SUMS.gpg").to_vec(),
            b"//b.example/c?d#e".to_vec(),
        ],
        // Two answers and a pointer to a name; the name of an address.
        "mdns" => vec![
            b"\0\x07\x84\0\0\x01\0\x02\0\0\0\0\x04palm\x05local\0\0\x01\0\x01\xc0\x0c\0\x01\x80\x01\0\0\0\x78\0\x04\
              \xc0\0\x02\x0a\xc0\x0c\0\x1c\x80\x01\0\0\0\x78\0\x10\xfe\x80\0\0\0\0\0\0\0\0\0\0\0\0\0\x01"
                .to_vec(),
            b"\0\x07\x84\0\0\0\0\x01\0\0\0\0\x01x\0\0\x0c\0\x01\0\0\0\x78\0\x06\x04palm\xc0\x0c".to_vec(),
        ],
        _ => Vec::new(),
    };
    all.extend(found(entry));
    all
}

/// What was found before: one file each, bytes in hexadecimal, white space as one likes.
fn found(entry: &str) -> Vec<Vec<u8>> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR"));
    let places = [dir.join("found").join(entry), dir.join("fuzz/found").join(entry)];
    let Some(entries) = places.iter().find_map(|place| std::fs::read_dir(place).ok()) else {
        return Vec::new();
    };
    let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    paths
        .iter()
        .map(|path| {
            let text = std::fs::read_to_string(path).unwrap();
            let digits: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
            digits
                .chunks(2)
                .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
                .collect()
        })
        .collect()
}

/// Ubuntu's two partitions, on a medium of 4 GiB.
fn mbr() -> Vec<u8> {
    let mut sector = vec![0; 513];
    sector[0] = 2;
    let mut entry = |number: usize, kind: u8, start: u32, size: u32| {
        let at = 1 + 446 + number * 16;
        sector[at + 4] = kind;
        sector[at + 8..at + 12].copy_from_slice(&start.to_le_bytes());
        sector[at + 12..at + 16].copy_from_slice(&size.to_le_bytes());
    };
    entry(0, 0x0c, 2048, 524_288);
    entry(1, 0x83, 526_336, 4_000_000);
    sector[511..513].copy_from_slice(&[0x55, 0xaa]);
    sector
}

/// A protective MBR and the head of a GPT, whose checksums the fuzzer may get right or not.
fn gpt() -> Vec<u8> {
    let mut sectors = mbr();
    sectors[1 + 446 + 4] = 0xee;
    sectors.resize(1 + 34 * 512, 0);
    sectors[513..521].copy_from_slice(b"EFI PART");
    sectors[521..525].copy_from_slice(&[0, 0, 1, 0]);
    sectors[525] = 92;
    sectors
}

/// Archives that try what archives can try.
fn tars() -> Vec<Vec<u8>> {
    let end = vec![0; 1024];
    let entry = |name: &str, kind: u8, link: &str, content: &[u8]| {
        let mut header = vec![0; 512];
        header[..name.len()].copy_from_slice(name.as_bytes());
        header[100..107].copy_from_slice(b"0000644");
        header[108..115].copy_from_slice(b"0000000");
        header[116..123].copy_from_slice(b"0000000");
        header[124..135].copy_from_slice(format!("{:011o}", content.len()).as_bytes());
        header[136..147].copy_from_slice(b"00000000000");
        header[156] = kind;
        header[157..157 + link.len()].copy_from_slice(link.as_bytes());
        header[257..265].copy_from_slice(b"ustar\x0000");
        header[148..156].copy_from_slice(b"        ");
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        header.extend(content);
        header.resize(header.len().next_multiple_of(512), 0);
        header
    };
    let pax = |record: &str| {
        // The length counts itself.
        let mut length = record.len() + 3;
        while format!("{length} {record}\n").len() != length {
            length = format!("{length} {record}\n").len();
        }
        entry("pax", b'x', "", format!("{length} {record}\n").as_bytes())
    };
    let one = |parts: &[Vec<u8>]| [parts.concat(), end.clone()].concat();
    vec![
        one(&[
            entry("root/etc/motd", b'0', "", b"hello\n"),
            entry("root/etc/d", b'5', "", b""),
            entry("root/l", b'2', "etc", b""),
        ]),
        one(&[entry("../../etc/passwd", b'0', "", b"x")]),
        one(&[entry("/etc/passwd", b'0', "", b"x")]),
        one(&[
            entry("root/dev/sda", b'4', "", b""),
            entry("root/hard", b'1', "root/etc/motd", b""),
        ]),
        one(&[
            entry("root/l", b'2', "/", b""),
            entry("root/l/etc/passwd", b'0', "", b"x"),
        ]),
        one(&[pax("path=root/../../x"), entry("root/a", b'0', "", b"x")]),
        one(&[pax("size=99999999999999"), entry("root/a", b'0', "", b"x")]),
        one(&[
            entry("././@LongLink", b'L', "", &[b'a'; 5000]),
            entry("root/a", b'0', "", b"x"),
        ]),
        one(&[entry("root/sparse", b'S', "", b"x")]),
        entry("root/cut", b'0', "", &[1; 600])[..700].to_vec(),
    ]
}

/// One .xz stream whose block is, by its index, 4 MiB long, and holds four bytes, then the end of a stream, then zeroes.
pub fn xz_that_ends_early() -> Vec<u8> {
    let mut file = b"\xfd7zXZ\0\0\0".to_vec();
    file.extend(crc32(&file[6..8]));
    let header = b"\x02\x00\x21\x01\x00\x00\x00\x00";
    let block = [&header[..], &crc32(header), b"\x01\x00\x03palm\x00"].concat();
    file.extend(&block);
    file.extend(xz_end(block.len(), 4));
    file.resize(4096, 0);
    file.extend(xz_end(4096 - 12, 4 << 20));
    file
}

/// The index of a stream of one block, and its footer.
fn xz_end(packed: usize, unpacked: usize) -> Vec<u8> {
    let mut index = vec![0, 1];
    for mut number in [packed, unpacked] {
        while number > 0x7f {
            index.push(number.to_le_bytes()[0] | 0x80);
            number >>= 7;
        }
        index.push(number.to_le_bytes()[0]);
    }
    index.resize(index.len().next_multiple_of(4), 0);
    index.extend(crc32(&index));
    let mut footer = u32::try_from(index.len() / 4 - 1).unwrap().to_le_bytes().to_vec();
    footer.extend([0, 0]);
    [&index[..], &crc32(&footer), &footer, b"YZ"].concat()
}

/// CRC-32 as .xz has it, bit by bit.
fn crc32(bytes: &[u8]) -> [u8; 4] {
    let bit = |crc: u32, _| {
        if crc & 1 == 0 {
            crc >> 1
        } else {
            crc >> 1 ^ 0xEDB8_8320
        }
    };
    let crc = bytes
        .iter()
        .fold(u32::MAX, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), bit));
    (!crc).to_le_bytes()
}
