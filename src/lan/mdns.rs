//! Questions and answers of multicast DNS (RFC 6762) in the format of RFC 1035, for one name at a time. It does no I/O. An
//! answer comes from whoever is on the LAN, so nothing in it is believed but its form, which is checked.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What responders listen on (RFC 6762, section 3).
pub(super) const PORT: u16 = 5353;
pub(super) const GROUP_V4: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 251);
pub(super) const GROUP_V6: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0xfb);

const TYPE_A: u16 = 1;
const TYPE_PTR: u16 = 12;
const TYPE_AAAA: u16 = 28;
const CLASS_IN: u16 = 1;

/// In a class: the highest bit says that caches should be flushed (RFC 6762, section 10.2).
const CACHE_FLUSH: u16 = 0x8000;

/// In the flags: it is a response, and its opcode and its code are 0 (RFC 6762, section 18).
const RESPONSE: u16 = 0x8000;
const RESPONSE_OPCODE_RCODE: u16 = 0xf80f;

/// How many questions and records of a message are read; a message has 9000 bytes at most (section 17).
const MOST: u16 = 128;

/// How many pointers a name may take: each must lead back, so a message of 9000 bytes could have thousands.
const MOST_POINTERS: usize = 16;

/// A record of a response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its labels with dots between them, in lower case.
    pub name: String,
    pub data: Data,
}

/// What a record says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Data {
    Address(IpAddr),
    /// The name that an address has.
    Pointer(String),
}

/// The question for all addresses of `host`, such as `palm.local`. A responder repeats `id` when it answers a question that
/// did not come from port 5353 (section 6.7).
pub(super) fn ask_addresses(id: u16, host: &str) -> Vec<u8> {
    query(id, host, &[TYPE_A, TYPE_AAAA])
}

/// The question for the name of `address`.
pub(super) fn ask_name(id: u16, address: IpAddr) -> Vec<u8> {
    query(id, &reverse(address), &[TYPE_PTR])
}

/// The name under which the name of `address` is asked for (RFC 1035, section 3.5; RFC 3596, section 2.5).
pub(super) fn reverse(address: IpAddr) -> String {
    match address {
        IpAddr::V4(ip) => {
            let [a, b, c, d] = ip.octets();
            format!("{d}.{c}.{b}.{a}.in-addr.arpa")
        }
        IpAddr::V6(ip) => {
            let nibbles = ip.octets().into_iter().rev();
            let nibbles: String = nibbles
                .map(|byte| format!("{:x}.{:x}.", byte & 15, byte >> 4))
                .collect();
            format!("{nibbles}ip6.arpa")
        }
    }
}

fn query(id: u16, name: &str, kinds: &[u16]) -> Vec<u8> {
    let mut message = Vec::new();
    let count = u16::try_from(kinds.len()).unwrap_or(u16::MAX);
    for number in [id, 0, count, 0, 0, 0] {
        message.extend(number.to_be_bytes());
    }
    for kind in kinds {
        for label in name.split('.') {
            // Host names have labels of at most 63 letters, which `check` holds them to.
            let label = label.as_bytes().get(..63).unwrap_or(label.as_bytes());
            message.push(u8::try_from(label.len()).unwrap_or(0));
            message.extend(label);
        }
        message.push(0);
        message.extend(kind.to_be_bytes());
        message.extend(CLASS_IN.to_be_bytes());
    }
    message
}

/// The addresses and names in `message`, if it is a response to the question with this `id`. What is damaged ends the
/// list.
pub fn answers(message: &[u8], id: u16) -> Vec<Record> {
    let mut reader = Reader { message, at: 0 };
    let mut records = Vec::new();
    // A message that ends too early has no more records to give.
    let _ = reader.records(id, &mut records);
    records
}

struct Reader<'a> {
    message: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn records(&mut self, id: u16, records: &mut Vec<Record>) -> Option<()> {
        let (its_id, flags) = (self.number()?, self.number()?);
        if its_id != id || flags & RESPONSE_OPCODE_RCODE != RESPONSE {
            return None;
        }
        let questions = self.number()?;
        // Answers, authorities, additional records: a responder may put addresses into any of these.
        let all = self
            .number()?
            .saturating_add(self.number()?)
            .saturating_add(self.number()?);
        for _ in 0..questions.min(MOST) {
            self.name()?;
            self.skip(4)?;
        }
        for _ in 0..all.min(MOST) {
            let name = self.name()?;
            let (kind, class) = (self.number()?, self.number()?);
            self.skip(4)?;
            let length = usize::from(self.number()?);
            let from = self.at;
            let data = self.skip(length)?;
            let data = match kind {
                TYPE_A => <[u8; 4]>::try_from(data).ok().map(|ip| Data::Address(ip.into())),
                TYPE_AAAA => <[u8; 16]>::try_from(data).ok().map(|ip| Data::Address(ip.into())),
                TYPE_PTR => Reader { at: from, ..*self }.name().map(Data::Pointer),
                _ => None,
            };
            if let Some(data) = data.filter(|_| class & !CACHE_FLUSH == CLASS_IN) {
                records.push(Record { name, data });
            }
        }
        Some(())
    }

    fn skip(&mut self, length: usize) -> Option<&[u8]> {
        let end = self.at.checked_add(length)?;
        let bytes = self.message.get(self.at..end)?;
        self.at = end;
        Some(bytes)
    }

    fn number(&mut self) -> Option<u16> {
        Some(u16::from_be_bytes(self.skip(2)?.try_into().ok()?))
    }

    /// A name, which may end in a pointer to an earlier place (RFC 1035, section 4.1.4).
    fn name(&mut self) -> Option<String> {
        let mut name = String::new();
        let mut after = None;
        let mut pointers = 0_usize;
        loop {
            let start = self.at;
            let length = *self.skip(1)?.first()?;
            match length {
                0 => break,
                1..=63 => {
                    let label = String::from_utf8_lossy(self.skip(usize::from(length))?).to_ascii_lowercase();
                    if !name.is_empty() {
                        name.push('.');
                    }
                    // A dot within a label must not look like one between two.
                    name.push_str(&label.replace('.', "\\."));
                }
                0xc0.. => {
                    let low = *self.skip(1)?.first()?;
                    let to = usize::from(u16::from_be_bytes([length & 0x3f, low]));
                    pointers = pointers.saturating_add(1);
                    if to >= start || pointers > MOST_POINTERS {
                        return None;
                    }
                    after = after.or(Some(self.at));
                    self.at = to;
                }
                _ => return None,
            }
            // A name has 255 bytes at most (RFC 1035, section 2.3.4).
            if name.len() > 1024 {
                return None;
            }
        }
        self.at = after.unwrap_or(self.at);
        Some(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A response to question 7, with these counts of questions and answers before `rest`.
    fn response(questions: u16, answers: u16, rest: &[&[u8]]) -> Vec<u8> {
        let head = [7, 0x8400, questions, answers, 0, 0]
            .map(u16::to_be_bytes)
            .concat();
        [head, rest.concat()].concat()
    }

    const PALM: &[u8] = b"\x04Palm\x05local\0";
    const A: &[u8] = b"\0\x01\x80\x01\0\0\0\x78\0\x04\xc0\0\x02\x0a";

    fn palm() -> Record {
        Record {
            name: "palm.local".into(),
            data: Data::Address("192.0.2.10".parse().unwrap()),
        }
    }

    #[test]
    fn a_question_has_both_kinds() {
        let name = b"\x04palm\x05local\0";
        let expect = [
            b"\0\x07\0\0\0\x02\0\0\0\0\0\0".as_slice(),
            name,
            b"\0\x01\0\x01",
            name,
            b"\0\x1c\0\x01",
        ];
        assert_eq!(ask_addresses(7, "palm.local"), expect.concat());
        assert_eq!(reverse("192.0.2.10".parse().unwrap()), "10.2.0.192.in-addr.arpa");
        let six = reverse("2001:db8::a:b".parse().unwrap());
        assert!(
            six.starts_with("b.0.0.0.a.0.0.0.0.") && six.ends_with(".8.b.d.0.1.0.0.2.ip6.arpa"),
            "{six}"
        );
    }

    #[test]
    fn an_answer_is_read() {
        let question = [PALM, b"\0\x01\0\x01"].concat();
        let pointer = b"\xc0\x0c";
        assert_eq!(answers(&response(0, 1, &[PALM, A]), 7), [palm()]);
        assert_eq!(answers(&response(1, 1, &[&question, pointer, A]), 7), [palm()]);
        let six = b"\0\x1c\0\x01\0\0\0\x78\0\x10\xfe\x80\0\0\0\0\0\0\0\0\0\0\0\0\0\x01";
        let found = answers(&response(1, 2, &[&question, pointer, A, pointer, six]), 7);
        assert_eq!(
            found.get(1).map(|one| &one.data),
            Some(&Data::Address("fe80::1".parse().unwrap()))
        );
        // The name of an address, in compressed form.
        let name = response(
            1,
            1,
            &[&question, b"\x01x\0", b"\0\x0c\0\x01\0\0\0\x78\0\x02", pointer],
        );
        assert_eq!(answers(&name, 7)[0].data, Data::Pointer("palm.local".into()));
    }

    #[test]
    fn what_is_not_an_answer_says_nothing() {
        let good = response(0, 1, &[PALM, A]);
        assert_eq!(answers(&good, 8), []);
        // A question, another opcode, an error.
        for (at, byte) in [(2, 0x04), (2, 0xa4), (3, 0x03)] {
            let mut bad = good.clone();
            bad[at] = byte;
            assert_eq!(answers(&bad, 7), [], "{at}");
        }
        for end in 0..good.len() {
            assert_eq!(answers(&good[..end], 7), [], "{end}");
        }
        // Of another class; an address of three bytes.
        let class = A
            .iter()
            .enumerate()
            .map(|(at, byte)| if at == 3 { 3 } else { *byte });
        assert_eq!(
            answers(&response(0, 1, &[PALM, &class.collect::<Vec<_>>()]), 7),
            []
        );
        assert_eq!(
            answers(
                &response(0, 1, &[PALM, b"\0\x01\0\x01\0\0\0\0\0\x03\xc0\0\x02"]),
                7
            ),
            []
        );
    }

    #[test]
    fn hostile_names_end() {
        let with = |name: &[u8]| answers(&response(0, 1, &[name, A]), 7);
        // To itself, forward, in a circle, and with the reserved bits.
        assert_eq!(with(b"\xc0\x0c"), []);
        assert_eq!(with(b"\xc0\x0e"), []);
        assert_eq!(with(b"\x01a\xc0\x0c"), []);
        assert_eq!(with(b"\x40a\0"), []);
        // Longer than any name.
        assert_eq!(with(&[&[63; 64].repeat(20)[..], b"\0"].concat()), []);
        // More pointers than a name takes: each leads to the one before it, in the data of another record.
        let chained = |pointers: u8| {
            let chain: Vec<u8> = (0..pointers)
                .flat_map(|number| [0xc0, if number == 0 { 12 } else { 21 + 2 * number }])
                .collect();
            let length = u16::from(2 * pointers).to_be_bytes();
            let first = [b"\0\0\x63\0\x01\0\0\0\0".as_slice(), &length, &chain].concat();
            let last = [0xc0, 21 + 2 * pointers];
            answers(&response(0, 2, &[&first, &last, A]), 7).len()
        };
        assert_eq!((chained(10), chained(30)), (1, 0));
        // A dot in a label is not a border between two.
        assert_eq!(with(b"\x0apalm.local\0")[0].name, "palm\\.local");
        // Counts that promise more than there is.
        assert_eq!(answers(&response(u16::MAX, u16::MAX, &[PALM, A]), 7), []);
        assert_eq!(answers(&response(0, u16::MAX, &[PALM, A]), 7), [palm()]);
    }
}
