//! For which machine a program is, from the first bytes of its file (elf(5)).

use std::fmt;

use crate::base::Arch;

/// How much of a program [`Machine::of`] wants to see, in bytes: the header of a 64-bit ELF file.
pub(super) const HEADER: usize = 64;

/// `EF_ARM_ABI_FLOAT_SOFT` (ARM IHI 0044): floating point arguments are passed as integers, which armhf does not.
const SOFT_FLOAT: u32 = 0x200;

/// A machine that programs are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Machine {
    /// One that cards are made for.
    Known(Arch),
    /// 32-bit ARM without hard floats: Debian's armel.
    Armel,
    /// Another, by its `e_machine`.
    Other(u16),
}

impl Machine {
    /// The machine of a program; `None`: it is no ELF file, or cut off.
    pub fn of(program: &[u8]) -> Option<Self> {
        let header = program.get(..HEADER)?;
        if !header.starts_with(b"\x7fELF") {
            return None;
        }
        let (class, order) = (header.get(4)?, header.get(5)?);
        // `e_machine`, then for the 32-bit class `e_flags` at 36; both in the file's byte order.
        let machine = number(header.get(18..20)?, *order);
        let machine = u16::try_from(machine).ok()?;
        Some(match (machine, *class, *order) {
            (40, 1, 1) if number(header.get(36..40)?, 1) & SOFT_FLOAT != 0 => Self::Armel,
            (40, 1, 1) => Self::Known(Arch::Armhf),
            (183, 2, 1) => Self::Known(Arch::Arm64),
            (62, 2, 1) => Self::Known(Arch::Amd64),
            _ => Self::Other(machine),
        })
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Known(arch) => arch.fmt(f),
            Self::Armel => f.write_str("armel"),
            Self::Other(machine) => write!(f, "ELF machine {machine}"),
        }
    }
}

/// The bytes of a number; `order` 2 is big-endian.
fn number(bytes: &[u8], order: u8) -> u32 {
    let add = |all: u32, byte: &u8| (all << 8) | u32::from(*byte);
    if order == 2 {
        bytes.iter().fold(0, add)
    } else {
        bytes.iter().rev().fold(0, add)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machines_are_told_apart() {
        let check = |class: u8, order: u8, machine: [u8; 2], flags: [u8; 4], expect: Option<Machine>| {
            let mut bytes = vec![0x7f, b'E', b'L', b'F', class, order, 1];
            bytes.resize(HEADER, 0);
            bytes[18..20].copy_from_slice(&machine);
            bytes[36..40].copy_from_slice(&flags);
            assert_eq!(Machine::of(&bytes), expect, "{machine:?}");
        };
        check(1, 1, [40, 0], [0, 4, 0, 5], Some(Machine::Known(Arch::Armhf)));
        check(1, 1, [40, 0], [0, 2, 0, 5], Some(Machine::Armel));
        check(1, 2, [0, 40], [0; 4], Some(Machine::Other(40)));
        check(2, 1, [183, 0], [0; 4], Some(Machine::Known(Arch::Arm64)));
        check(2, 1, [62, 0], [0; 4], Some(Machine::Known(Arch::Amd64)));
        // x32 has the machine of amd64 in files of the 32-bit class.
        check(1, 1, [62, 0], [0; 4], Some(Machine::Other(62)));
        check(2, 1, [243, 0], [0; 4], Some(Machine::Other(243)));
        assert_eq!(Machine::of(b"#!/bin/sh\n"), None);
        assert_eq!(Machine::of(b"\x7fELF\x02\x01"), None);
    }
}
