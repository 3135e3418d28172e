//! How this computer is set up, as far as a Pi of its owner is set up alike: board, time zone and router. It changes nothing, and
//! what it cannot find out is `None`.

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;

use super::bounded_read;

/// The largest file that is read, in bytes.
const LARGEST: u64 = 64 << 10;

/// What board this computer is, if it has a device tree, as every Raspberry Pi has: `Raspberry Pi 4 Model B Rev 1.4`.
pub fn board() -> Option<String> {
    let model = text("/proc/device-tree/model")?;
    Some(model.trim_end_matches('\0').to_owned())
}

/// The name of the time zone: the line in /etc/timezone, as Debian has it, else where /etc/localtime leads (timezone(5)).
pub fn time_zone() -> Option<String> {
    let named = text("/etc/timezone").map(|text| text.trim().to_owned());
    named.filter(|name| !name.is_empty()).or_else(|| {
        let leads = fs::read_link("/etc/localtime").ok()?;
        zone_of(&leads)
    })
}

fn zone_of(file: &Path) -> Option<String> {
    let (_, zone) = file.to_str()?.split_once("/zoneinfo/")?;
    Some(zone.to_owned())
}

/// The IPv4 router that this computer uses.
pub fn router() -> Option<Ipv4Addr> {
    default_gateway(&text("/proc/net/route")?)
}

/// The gateway of the first route to 0.0.0.0 in `table`. The kernel writes addresses as the hexadecimal number that they
/// are in its memory (`fib_route_seq_show`).
fn default_gateway(table: &str) -> Option<Ipv4Addr> {
    table.lines().skip(1).find_map(|line| {
        let mut fields = line.split_whitespace().skip(1);
        let (to, gateway) = (fields.next()?, fields.next()?);
        let gateway = u32::from_str_radix(gateway, 16).ok()?;
        (to == "00000000" && gateway != 0).then(|| Ipv4Addr::from(gateway.to_ne_bytes()))
    })
}

fn text(path: &str) -> Option<String> {
    let bytes = bounded_read::read(Path::new(path), LARGEST).ok()?;
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zone_is_what_the_link_leads_to() {
        for (link, expect) in [
            ("/usr/share/zoneinfo/Europe/Vienna", Some("Europe/Vienna")),
            ("../usr/share/zoneinfo/Etc/UTC", Some("Etc/UTC")),
            ("/somewhere/else", None),
        ] {
            assert_eq!(zone_of(Path::new(link)).as_deref(), expect);
        }
    }

    #[test]
    fn the_router_is_that_of_the_default_route() {
        let gateway = u32::from_ne_bytes([192, 168, 1, 1]);
        let table = format!(
            "Iface\tDestination\tGateway\tFlags\nwlan0\t0001A8C0\t00000000\t0001\nwlan0\t00000000\t{gateway:08X}\t0003\n"
        );
        assert_eq!(default_gateway(&table), Some(Ipv4Addr::new(192, 168, 1, 1)));
        assert_eq!(default_gateway("Iface\tDestination\n"), None);
        assert_eq!(default_gateway("head\nshort\n"), None);
    }
}
