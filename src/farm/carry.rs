//! What a farm carries so that its first boot needs no Internet: the files, and what was found in them. It reads nothing.

use std::collections::BTreeSet;

use crate::base::debian::{Fulfilled, Need, Package};

/// What the cards carry beside images.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Carry {
    /// Debian packages, by the places in which the farm names them.
    pub packages: Vec<CarriedPackages>,
    /// The snap of LXD and those that it needs, in the order of their installation.
    pub lxd: Vec<CarriedSnap>,
}

/// A snap in a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CarriedSnap {
    /// Beside the farm file.
    pub file: String,
    /// Whether it has no assertions, so that nobody vouches for it.
    pub dangerous: bool,
    /// Its name, by its assertions; without them what its file is called. Empty until the file was looked at.
    pub name: String,
}

/// Debian packages that the farm names in one place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CarriedPackages {
    /// A file beside the farm file, or a folder, which stands for all its files that end in `.deb`.
    pub named: String,
    /// What is there.
    pub found: Vec<CarriedPackage>,
}

/// A Debian package in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CarriedPackage {
    /// Beside the farm file.
    pub file: String,
    /// What its control file says.
    pub package: Package,
}

impl Carry {
    /// Every package.
    pub fn packages(&self) -> impl Iterator<Item = &CarriedPackage> {
        self.packages.iter().flat_map(|named| &named.found)
    }

    /// What the packages need that none of them fulfils: the base must.
    #[must_use]
    pub fn needs_of_base(&self) -> BTreeSet<&Need> {
        let among = Fulfilled::by(self.packages().map(|carried| &carried.package));
        let needs = self.packages().flat_map(|carried| &carried.package.needs);
        needs.filter(|need| !among.has(need)).collect()
    }
}

impl CarriedSnap {
    /// The file with its assertions, as `snap download` calls it; `None`: it has none.
    #[must_use]
    pub fn assertions(&self) -> Option<String> {
        let stem = self.file.strip_suffix(".snap").unwrap_or(&self.file);
        (!self.dangerous).then(|| format!("{stem}.assert"))
    }
}

impl CarriedPackages {
    /// Those in the file or folder `named`, which were not looked for yet.
    pub(super) fn named(named: String) -> Self {
        Self {
            named,
            found: Vec::new(),
        }
    }
}

impl CarriedPackage {
    /// What apt calls it: `NAME=VERSION`, or `NAME:ARCHITECTURE=VERSION`.
    #[must_use]
    pub fn spec(&self) -> String {
        let Package {
            name,
            version,
            architecture,
            ..
        } = &self.package;
        match architecture.as_str() {
            "all" => format!("{name}={version}"),
            _ => format!("{name}:{architecture}={version}"),
        }
    }

    /// What its file is called on the card. A later version takes the place of an earlier one.
    #[must_use]
    pub fn name_on_card(&self) -> String {
        format!("{}_{}.deb", self.package.name, self.package.architecture)
    }
}
