//! Network interfaces as `/sys/class/net` has them (Documentation/ABI/testing/sysfs-class-net).

use palmfarm_protocol::mac::Mac;

use crate::root::Root;

const CLASS: &str = "/sys/class/net";

/// `ARPHRD_ETHER`.
const ETHERNET: &str = "1";

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Nic {
    pub(crate) name: String,
    pub(crate) mac: Option<Mac>,
    /// Whether there is a link partner at the other end of the cable. An interface that is down does not know.
    pub(crate) carrier: bool,
    /// Whether it is an Ethernet adapter with a cable.
    pub(crate) wired: bool,
}

/// The interface `name`, if there is one.
pub(crate) fn look(root: &Root, name: &str) -> Option<Nic> {
    let dir = format!("{CLASS}/{name}");
    let line = |file: &str| root.line(&format!("{dir}/{file}"));
    let has = |file: &str| root.has(&format!("{dir}/{file}"));
    has("address").then(|| Nic {
        name: name.to_owned(),
        mac: line("address").and_then(|text| text.parse().ok()),
        carrier: line("carrier").as_deref() == Some("1"),
        wired: line("type").as_deref() == Some(ETHERNET)
            && has("device")
            && !has("wireless")
            && !has("phy80211"),
    })
}

/// Every interface, by name.
pub(crate) fn all(root: &Root) -> Vec<Nic> {
    let names = root.names(CLASS);
    names.iter().filter_map(|name| look(root, name)).collect()
}

/// The bridge that `name` is a port of.
pub(crate) fn bridge_of(root: &Root, name: &str) -> Option<String> {
    let target = std::fs::read_link(root.at(&format!("{CLASS}/{name}/master"))).ok()?;
    Some(target.file_name()?.to_string_lossy().into_owned())
}

/// The interface index, which a link-local address needs as its scope.
pub(crate) fn index(root: &Root, name: &str) -> Option<u32> {
    root.line(&format!("{CLASS}/{name}/ifindex"))?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::root::scratch::Scratch;

    #[test]
    fn only_an_adapter_with_a_cable_is_wired() {
        let files = [
            ("/sys/class/net/eth0/address", "b8:27:eb:12:34:56\n"),
            ("/sys/class/net/eth0/carrier", "1\n"),
            ("/sys/class/net/eth0/type", "1\n"),
            ("/sys/class/net/eth0/device/uevent", ""),
            ("/sys/class/net/eth0/ifindex", "2\n"),
            ("/sys/class/net/wlan0/address", "b8:27:eb:12:34:57\n"),
            ("/sys/class/net/wlan0/type", "1\n"),
            ("/sys/class/net/wlan0/device/uevent", ""),
            ("/sys/class/net/wlan0/wireless/x", ""),
            ("/sys/class/net/lo/address", "00:00:00:00:00:00\n"),
            ("/sys/class/net/lo/carrier", "1\n"),
            ("/sys/class/net/lo/type", "772\n"),
            ("/sys/class/net/br0/address", "what is this\n"),
            ("/sys/class/net/br0/carrier", "0\n"),
            ("/sys/class/net/br0/type", "1\n"),
        ];
        let scratch = Scratch::new("nic", &files);
        let root = &scratch.0;
        let wired: Vec<String> = all(root)
            .into_iter()
            .filter(|nic| nic.wired)
            .map(|nic| nic.name)
            .collect();
        assert_eq!(wired, ["eth0"]);
        let eth0 = look(root, "eth0").unwrap();
        assert!(eth0.carrier);
        assert_eq!(
            eth0.mac.map(|mac| mac.to_string()).as_deref(),
            Some("b8:27:eb:12:34:56")
        );
        assert_eq!(index(root, "eth0"), Some(2));
        let br0 = look(root, "br0").unwrap();
        assert_eq!((br0.mac, br0.carrier), (None, false));
        assert_eq!(look(root, "eth9"), None);
    }
}
