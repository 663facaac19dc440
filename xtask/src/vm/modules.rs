//! The drivers that tests in a guest use: Debian builds them as modules.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};

/// Pairs of interfaces, VLANs, and the tunnels that a host may terminate.
const WANTED: [&str; 15] = [
    "veth",
    "8021q",
    "ipip",
    "ip6_tunnel",
    "ip_gre",
    "ip6_gre",
    "sit",
    "wireguard",
    "vxlan",
    "pppoe",
    // IPsec, and ciphers that encrypt nothing.
    "xfrm_user",
    "esp4",
    "authenc",
    "crypto_null",
    "xfrm_interface",
];

/// The wanted modules below a folder, each behind those that it needs; what is not there is built into the kernel.
pub(super) fn below(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = BTreeMap::new();
    list(folder, &mut found)?;
    let mut modules = Modules { found, ordered: Vec::new() };
    WANTED.iter().try_for_each(|name| modules.add(name))?;
    Ok(modules.ordered)
}

struct Modules {
    /// By name, taken out as soon as they have their place.
    found: BTreeMap<String, PathBuf>,
    ordered: Vec<PathBuf>,
}

impl Modules {
    fn add(&mut self, name: &str) -> Result<()> {
        let Some(path) = self.found.remove(&plain(name)) else { return Ok(()) };
        let path = unpacked(&path)?;
        let content = fs::read(&path).with_context(|| format!("read {}", path.display()))?;
        needed(&content).iter().try_for_each(|name| self.add(name))?;
        self.ordered.push(path);
        Ok(())
    }
}

/// Every module below a folder by its name.
fn list(folder: &Path, found: &mut BTreeMap<String, PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("list {}", folder.display()))? {
        let path = entry.with_context(|| format!("list {}", folder.display()))?.path();
        if path.is_dir() {
            list(&path, found)?;
        } else if let Some((name, "ko" | "ko.xz")) = name_of(&path).split_once('.') {
            found.insert(plain(name), path.clone());
        }
    }
    Ok(())
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// A module is `nf-log` or `nf_log`, as it likes.
fn plain(name: &str) -> String {
    name.replace('-', "_")
}

/// What a module needs to be loaded first: the word `depends` of its section `.modinfo`.
fn needed(module: &[u8]) -> Vec<String> {
    const KEY: &[u8] = b"\0depends=";
    let Some(at) = module.windows(KEY.len()).position(|bytes| bytes == KEY) else { return Vec::new() };
    let rest = &module[at + KEY.len()..];
    let end = rest.iter().position(|byte| *byte == 0).unwrap_or(rest.len());
    let names = String::from_utf8_lossy(&rest[..end]).into_owned();
    names.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

/// The module itself, where it is packed up.
fn unpacked(module: &Path) -> Result<PathBuf> {
    if module.extension().is_none_or(|extension| extension != "xz") {
        return Ok(module.to_owned());
    }
    let plain = module.with_extension("");
    if !plain.exists() {
        let status = Command::new("xz").arg("-dk").arg(module).status().context("start xz")?;
        ensure!(status.success(), "xz could not unpack {}", module.display());
    }
    Ok(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_comes_behind_what_it_needs() {
        let folder = std::env::temp_dir().join(format!("modules-{}", std::process::id()));
        fs::create_dir_all(folder.join("net")).unwrap();
        let write = |path: &str, needs: &str| {
            fs::write(folder.join(path), format!("ELF\0license=GPL\0depends={needs}\0name=x\0")).unwrap();
        };
        write("net/ip_gre.ko", "ip_tunnel,gre");
        write("ip_tunnel.ko", "tunnel-4");
        write("tunnel_4.ko", "");
        write("gre.ko", "");
        write("unwanted.ko", "gre");
        let names: Vec<String> = below(&folder).unwrap().iter().map(|path| name_of(path)).collect();
        fs::remove_dir_all(&folder).unwrap();
        assert_eq!(names, ["tunnel_4.ko", "ip_tunnel.ko", "gre.ko", "ip_gre.ko"]);
    }

    #[test]
    fn what_is_no_module_needs_nothing() {
        assert!(needed(b"depends=x").is_empty() && needed(b"").is_empty());
        assert_eq!(needed(b"\0depends=a,b-c"), ["a", "b-c"]);
    }
}
