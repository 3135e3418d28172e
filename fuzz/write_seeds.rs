//! Writes what the fuzzer begins with to `corpus/ENTRY/` in the folder that it is given.

#[path = "seeds.rs"]
mod seeds;

fn main() -> std::io::Result<()> {
    let top = std::env::args().nth(1).unwrap_or_else(|| "corpus".into());
    for entry in ["farm", "table", "xz", "fat", "ext4", "overlay", "firstboot", "daemon", "sums", "keys", "mdns"] {
        let dir = std::path::Path::new(&top).join(entry);
        std::fs::create_dir_all(&dir)?;
        for (number, seed) in seeds::seeds(entry).iter().enumerate() {
            std::fs::write(dir.join(format!("seed-{number}")), seed)?;
        }
    }
    Ok(())
}
