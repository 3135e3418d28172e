//! Debian packages as their control files and dpkg's own list describe them (deb-control(5), Debian Policy, section 7): what
//! each is, what it needs, and which of the others fulfil that. It reads no file.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;

/// One package of one version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Debian's name of an architecture, or `all`.
    pub architecture: String,
    /// `Pre-Depends` and `Depends`: of each need one alternative must be fulfilled.
    pub needs: Vec<Need>,
    /// `Provides`: other names that it goes by, perhaps with a version.
    provides: Vec<(String, Option<String>)>,
}

/// Alternatives, one of which a package needs: `default-mta | mail-transport-agent`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Need(Vec<Relation>);

/// A name, perhaps with a bound on the version: `libc6 (>= 2.34)`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Relation {
    name: String,
    bound: Option<(Bound, String)>,
}

/// How a version is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Bound {
    Earlier,
    AtMost,
    Exactly,
    AtLeast,
    Later,
}

/// Their signs, the longer ones first; `<` and `>` are old, and mean what dpkg takes them for (deb-control(5)).
const BOUNDS: [(&str, Bound); 7] = [
    ("<<", Bound::Earlier),
    ("<=", Bound::AtMost),
    (">=", Bound::AtLeast),
    (">>", Bound::Later),
    ("=", Bound::Exactly),
    ("<", Bound::AtMost),
    (">", Bound::AtLeast),
];

/// A field of a control file is missing or cannot be understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadControl {
    /// There is no such field.
    #[error("its control file has no {0}")]
    Missing(&'static str),
    /// A dependency that is not one.
    #[error("its control file has a dependency that is not one: {0:?}")]
    Relation(String),
}

impl Package {
    /// From a paragraph of a control file.
    ///
    /// # Errors
    /// [`BadControl`].
    pub fn parse(paragraph: &str) -> Result<Self, BadControl> {
        Self::of_fields(&fields(paragraph))
    }

    fn of_fields(fields: &BTreeMap<String, String>) -> Result<Self, BadControl> {
        let field = |key: &'static str| {
            let value = fields.get(&key.to_ascii_lowercase());
            let value = value.filter(|value| !value.is_empty());
            value.cloned().ok_or(BadControl::Missing(key))
        };
        let list = |key: &str| fields.get(key).map(String::as_str).unwrap_or_default();
        let needs = [list("pre-depends"), list("depends")];
        let needs = needs.iter().flat_map(|list| items(list, ','));
        let provides = items(list("provides"), ',').map(Relation::parse);
        Ok(Self {
            name: field("Package")?,
            version: field("Version")?,
            architecture: field("Architecture")?,
            needs: needs.map(Need::parse).collect::<Result<_, _>>()?,
            provides: provides
                .map(|provided| provided.map(|one| (one.name, one.bound.map(|(_, version)| version))))
                .collect::<Result<_, _>>()?,
        })
    }

    /// Whether it is of the architecture `wanted`, or of all.
    #[must_use]
    pub fn fits(&self, wanted: &str) -> bool {
        self.architecture == wanted || self.architecture == "all"
    }

    /// Whether its version is later than that of `other`.
    #[must_use]
    pub fn is_later_than(&self, other: &Self) -> bool {
        compare(&self.version, &other.version) == Ordering::Greater
    }
}

/// The packages that are installed according to the text of /var/lib/dpkg/status. One that cannot be understood is left
/// out.
#[must_use]
pub fn installed(status: &str) -> Vec<Package> {
    let paragraphs = status.split("\n\n").map(fields);
    let is_installed = |fields: &BTreeMap<String, String>| {
        fields
            .get("status")
            .is_some_and(|status| status.ends_with(" ok installed"))
    };
    paragraphs
        .filter(is_installed)
        .filter_map(|fields| Package::of_fields(&fields).ok())
        .collect()
}

/// What the packages of a system fulfil, by name.
pub struct Fulfilled<'p>(BTreeMap<&'p str, Vec<Option<&'p str>>>);

impl<'p> Fulfilled<'p> {
    /// By these packages. Of two with one name only the later counts.
    pub fn by(packages: impl Iterator<Item = &'p Package>) -> Self {
        let mut latest: BTreeMap<&str, &Package> = BTreeMap::new();
        for package in packages {
            let known = latest.entry(&package.name).or_insert(package);
            if package.is_later_than(known) {
                *known = package;
            }
        }
        let mut names: BTreeMap<&str, Vec<Option<&str>>> = BTreeMap::new();
        for package in latest.into_values() {
            names
                .entry(&package.name)
                .or_default()
                .push(Some(&package.version));
            for (name, version) in &package.provides {
                names.entry(name).or_default().push(version.as_deref());
            }
        }
        Self(names)
    }

    /// Whether one of the alternatives of `need` is there. A name that is provided without a version fulfils no bound
    /// (Debian Policy, section 7.5).
    #[must_use]
    pub fn has(&self, need: &Need) -> bool {
        need.0.iter().any(|relation| {
            let mut there = self.0.get(relation.name.as_str()).into_iter().flatten();
            there.any(|version| match (&relation.bound, version) {
                (None, _) => true,
                (Some((bound, wanted)), Some(version)) => bound.holds(compare(version, wanted)),
                (Some(_), None) => false,
            })
        })
    }
}

impl Need {
    fn parse(text: &str) -> Result<Self, BadControl> {
        Ok(Self(
            items(text, '|').map(Relation::parse).collect::<Result<_, _>>()?,
        ))
    }

    /// The name of the first alternative, which is the one that apt prefers.
    #[must_use]
    pub fn first(&self) -> &str {
        self.0
            .first()
            .map(|relation| relation.name.as_str())
            .unwrap_or_default()
    }
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, relation) in self.0.iter().enumerate() {
            let between = if index == 0 { "" } else { " | " };
            write!(f, "{between}{}", relation.name)?;
            if let Some((bound, version)) = &relation.bound {
                let sign = BOUNDS.iter().find(|(_, known)| known == bound);
                write!(f, " ({} {version})", sign.map_or("?", |(sign, _)| sign))?;
            }
        }
        Ok(())
    }
}

impl Relation {
    /// `NAME[:ARCHITECTURE] [(SIGN VERSION)]`. With one architecture on a card, what stands after the colon says nothing
    /// new.
    fn parse(text: &str) -> Result<Self, BadControl> {
        let wrong = || BadControl::Relation(text.chars().take(100).collect());
        let (name, bound) = match text.split_once('(') {
            None => (text, None),
            Some((name, bound)) => {
                let bound = bound.trim_end().strip_suffix(')').ok_or_else(wrong)?.trim();
                let of_sign = |(sign, kind): &(&str, Bound)| Some((*kind, bound.strip_prefix(sign)?.trim()));
                let (kind, version) = BOUNDS.iter().find_map(of_sign).ok_or_else(wrong)?;
                (name, Some((kind, version.to_owned())))
            }
        };
        // It is shown to people, and comes from a stranger's file.
        let of_version = |c: char| c.is_ascii_alphanumeric() || ".+-~:".contains(c);
        if bound
            .as_ref()
            .is_some_and(|(_, version)| !version.chars().all(of_version))
        {
            return Err(wrong());
        }
        let name = name.trim().split(':').next().unwrap_or_default();
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
        if !name.starts_with(|c: char| c.is_ascii_alphanumeric()) || !name.chars().all(plain) {
            return Err(wrong());
        }
        Ok(Self {
            name: name.into(),
            bound,
        })
    }
}

impl Bound {
    fn holds(self, order: Ordering) -> bool {
        match self {
            Self::Earlier => order.is_lt(),
            Self::AtMost => order.is_le(),
            Self::Exactly => order.is_eq(),
            Self::AtLeast => order.is_ge(),
            Self::Later => order.is_gt(),
        }
    }
}

/// The fields of a paragraph, by name in lower case; a line that continues a field is joined to it.
fn fields(paragraph: &str) -> BTreeMap<String, String> {
    let mut fields: BTreeMap<String, String> = BTreeMap::new();
    let mut last = String::new();
    for line in paragraph.lines() {
        if line.starts_with([' ', '\t']) {
            if let Some(value) = fields.get_mut(&last) {
                value.push(' ');
                value.push_str(line.trim());
            }
        } else if let Some((key, value)) = line.split_once(':') {
            last = key.to_ascii_lowercase();
            fields.insert(last.clone(), value.trim().to_owned());
        }
    }
    fields
}

/// What stands between the `separator`s of a list.
fn items(list: &str, separator: char) -> impl Iterator<Item = &str> {
    list.split(separator)
        .map(str::trim)
        .filter(|item| !item.is_empty())
}

/// The order of two versions, `[EPOCH:]UPSTREAM[-REVISION]` (deb-version(7)).
fn compare(a: &str, b: &str) -> Ordering {
    let parts = |version: &str| {
        let (epoch, rest) = version.split_once(':').unwrap_or(("0", version));
        let (upstream, revision) = rest.rsplit_once('-').unwrap_or((rest, "0"));
        [epoch, upstream, revision].map(str::to_owned)
    };
    let pairs = parts(a).into_iter().zip(parts(b));
    let orders = pairs.map(|(a, b)| compare_part(&a, &b));
    orders.fold(Ordering::Equal, Ordering::then)
}

/// The order of two parts: what is not a digit and what is are compared in turn.
fn compare_part(mut a: &str, mut b: &str) -> Ordering {
    while !(a.is_empty() && b.is_empty()) {
        let (text_a, rest_a) = split(a, |c| !c.is_ascii_digit());
        let (text_b, rest_b) = split(b, |c| !c.is_ascii_digit());
        let (number_a, next_a) = split(rest_a, |c| c.is_ascii_digit());
        let (number_b, next_b) = split(rest_b, |c| c.is_ascii_digit());
        let order = compare_text(text_a, text_b).then_with(|| compare_number(number_a, number_b));
        if order.is_ne() {
            return order;
        }
        (a, b) = (next_a, next_b);
    }
    Ordering::Equal
}

/// `text` before and after the first character that is not `of_part`.
fn split(text: &str, of_part: impl Fn(char) -> bool) -> (&str, &str) {
    let end = text.find(|c| !of_part(c)).unwrap_or(text.len());
    text.split_at_checked(end).unwrap_or((text, ""))
}

/// Letters come before other characters, and a tilde before everything, even the end.
fn compare_text(a: &str, b: &str) -> Ordering {
    let weight = |c: Option<char>| match c {
        Some('~') => -1,
        None => 0,
        Some(c) if c.is_ascii_alphabetic() => i64::from(u32::from(c)),
        Some(c) => i64::from(u32::from(c)).saturating_add(256),
    };
    let (mut a, mut b) = (a.chars(), b.chars());
    loop {
        let (left, right) = (a.next(), b.next());
        let order = weight(left).cmp(&weight(right));
        if order.is_ne() || left.is_none() {
            return order;
        }
    }
}

/// Numbers of any length.
fn compare_number(a: &str, b: &str) -> Ordering {
    let (a, b) = (a.trim_start_matches('0'), b.trim_start_matches('0'));
    a.len().cmp(&b.len()).then_with(|| a.cmp(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_have_dpkgs_order() {
        // Each is later than the one before; dpkg --compare-versions says so, too.
        let rising = [
            "0~~",
            "0~~a",
            "0~",
            "0",
            "0-0a",
            "0a",
            "0a1",
            "0b",
            "0+",
            "1",
            "1.0",
            "1.0.1",
            "1.2",
            "1.10",
            "1.10-1~bpo1",
            "1.10-1",
            "1.10-1+b1",
            "1.10-1.1",
            "1.10-2",
            "1.10-10",
            "99999999999999999999999",
            "1:0.1",
            "2:0",
        ];
        for (index, a) in rising.iter().enumerate() {
            for (other, b) in rising.iter().enumerate() {
                assert_eq!(compare(a, b), index.cmp(&other), "{a} {b}");
            }
        }
        for same in [("1", "1-0"), ("0:1", "1"), ("1.0", "1.00"), ("1-1", "1-01")] {
            assert_eq!(compare(same.0, same.1), Ordering::Equal, "{same:?}");
        }
        // Neither of these is a version, and both are compared.
        for odd in ["", ":", "-", "ü", "1:ü-~"] {
            assert_eq!(compare(odd, odd), Ordering::Equal);
        }
    }

    const JQ: &str = "Package: jq\nVersion: 1.6-2.1\nArchitecture: armhf\nDescription: a\n b\n .\nDepends: libjq1 (= 1.6-2.1),\n \
                      libc6:any (>= 2.34)\nPRE-DEPENDS: dpkg (>> 1.15) | multi-arch (<<2)\nProvides: json-tool, jq-api (= 1.6)\n";

    #[test]
    fn a_control_file_says_what_is_needed() {
        let jq = Package::parse(JQ).unwrap();
        assert_eq!((jq.name.as_str(), jq.version.as_str()), ("jq", "1.6-2.1"));
        assert!(jq.fits("armhf") && !jq.fits("arm64"));
        let needs: Vec<String> = jq.needs.iter().map(Need::to_string).collect();
        assert_eq!(
            needs,
            [
                "dpkg (>> 1.15) | multi-arch (<< 2)",
                "libjq1 (= 1.6-2.1)",
                "libc6 (>= 2.34)"
            ]
        );
        let check = |text: &str, expect| assert_eq!(Package::parse(text).unwrap_err(), expect);
        check("", BadControl::Missing("Package"));
        check(
            &JQ.replace("Version: 1.6-2.1", "Version:"),
            BadControl::Missing("Version"),
        );
        for wrong in [
            "libjq1 (1.6)",
            "libjq1 (= 1.6\u{1b}[2J)",
            "libjq1 (= 1.6",
            "lib jq",
            "(= 1)",
            "-|",
        ] {
            let text = JQ.replace("libjq1 (= 1.6-2.1)", wrong);
            assert!(
                matches!(Package::parse(&text), Err(BadControl::Relation(_))),
                "{wrong}"
            );
        }
    }

    #[test]
    fn needs_are_fulfilled_by_names_versions_and_provided_names() {
        let status = format!(
            "{JQ}Status: install ok installed\n\nPackage: gone\nVersion: 1\nArchitecture: all\nStatus: deinstall ok \
             config-files\n\nPackage: odd\nStatus: install ok installed\n\nPackage: jq\nVersion: 1.5\nArchitecture: armhf\n\
             Status: hold ok installed\n"
        );
        let there = installed(&status);
        assert_eq!(there.len(), 2);
        let fulfilled = Fulfilled::by(there.iter());
        let check =
            |need: &str, expect| assert_eq!(fulfilled.has(&Need::parse(need).unwrap()), expect, "{need}");
        check("jq", true);
        check("jq (>= 1.6)", true);
        check("jq (<< 1.6)", false);
        check("jq (= 1.5)", false);
        check("jq (<= 1.6-2.1) ", true);
        check("json-tool", true);
        check("json-tool (>= 0)", false);
        check("jq-api (>= 1.5)", true);
        check("jq-api (>> 1.6)", false);
        check("gone", false);
        check("gone | odd | jq", true);
    }
}
