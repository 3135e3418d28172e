//! Debian packages, made here so that a test says what is in them. dpkg installs them.

/// A package with this control file and nothing else in it.
pub fn deb(control: &str) -> Vec<u8> {
    let mut bytes = b"!<arch>\n".to_vec();
    for (name, content) in [
        ("debian-binary", b"2.0\n".to_vec()),
        ("control.tar", tar("./control", control)),
        ("data.tar", tar("", "")),
    ] {
        bytes.extend(format!("{name:<16}{:<24}{:<8}{:<10}`\n", "0", "100644", content.len()).bytes());
        bytes.extend(&content);
        // Members begin at even places.
        bytes.resize(bytes.len().next_multiple_of(2), b'\n');
    }
    bytes
}

/// The control file of a package of no size.
pub fn control(name: &str, version: &str, architecture: &str, depends: &str) -> String {
    let depends = match depends {
        "" => String::new(),
        some => format!("Depends: {some}\n"),
    };
    format!(
        "Package: {name}\nVersion: {version}\nArchitecture: {architecture}\nMaintainer: nobody <nobody@example.net>\n\
         Description: for a test\n{depends}"
    )
}

/// A tarball with the file `name`, if that is not empty, below its root directory.
fn tar(name: &str, content: &str) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Directory);
    header.set_mode(0o755);
    header.set_size(0);
    tar.append_data(&mut header, "./", &[][..]).unwrap();
    if !name.is_empty() {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_size(content.len().try_into().unwrap());
        tar.append_data(&mut header, name, content.as_bytes()).unwrap();
    }
    tar.into_inner().unwrap()
}
