//! The demo's policies, inside the binary: the demo needs no checkout.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use jiff::Timestamp;

use crate::lab::Lab;

/// File names and texts of `policies/demo/`.
const POLICIES: [(&str, &str); 7] = [
    ("10-network.yaml", include_str!("../../../policies/demo/10-network.yaml")),
    ("20-devices.yaml", include_str!("../../../policies/demo/20-devices.yaml")),
    ("30-destinations.yaml", include_str!("../../../policies/demo/30-destinations.yaml")),
    ("40-chargers.yaml", include_str!("../../../policies/demo/40-chargers.yaml")),
    (FIRMWARE, include_str!("../../../policies/demo/41-firmware.yaml")),
    ("50-pumps.yaml", include_str!("../../../policies/demo/50-pumps.yaml")),
    ("60-cameras.yaml", include_str!("../../../policies/demo/60-cameras.yaml")),
];
const AGENT: &str = include_str!("../../../policies/demo/host/agent.yaml");

const FIRMWARE: &str = "41-firmware.yaml";
/// What the demo adds for some seconds.
const MAINTENANCE: &str = "42-maintenance.yaml";
const MAINTENANCE_HEAD: &str = "apiVersion: bulkhead/v1\nkind: Policy\nmetadata: {name: maintenance}\nspec:\n  \
                                subject: {device: charger-1}\n  allow:\n";
/// What the pushed policy changes.
pub(crate) const OLD_PORT: u16 = 8443;
/// What it changes it to.
pub(crate) const NEW_PORT: u16 = 9443;

/// Where the demo keeps its files; everything lies in the lab's own directory but for the pins.
#[derive(Clone, Debug)]
pub struct Files {
    /// The agent's settings.
    pub config: PathBuf,
    /// The folder that is applied.
    pub policies: PathBuf,
    /// The agent's API.
    pub socket: PathBuf,
    /// What the agent prints.
    pub log: PathBuf,
    /// The agent's pins on bpffs.
    pub pins: PathBuf,
}

impl Files {
    /// Writes policies and settings into the lab's directory.
    ///
    /// # Errors
    /// The directory is not there or not writable.
    pub fn write(lab: &Lab) -> Result<Self> {
        let root = lab.directory();
        let files = Self {
            config: root.join("agent.yaml"),
            policies: root.join("policies"),
            socket: root.join("bulkhead.sock"),
            log: root.join("agent.log"),
            pins: lab.pins(),
        };
        fs::create_dir(&files.policies).with_context(|| format!("create {}", files.policies.display()))?;
        for (name, text) in &POLICIES {
            write(&files.policies.join(name), text)?;
        }
        write(&files.config, &files.agent(&root))?;
        Ok(files)
    }

    /// Adds a policy that allows a charger maintenance at a port until some moment; returns its rule.
    pub(crate) fn allow_maintenance(&self, port: u16, end: Timestamp) -> Result<String> {
        let rule = format!(
            "{{name: visit, to: {{destinations: [cloud]}}, ports: [tcp/{port}], notAfter: \"{end}\"}}"
        );
        write(&self.policies.join(MAINTENANCE), &format!("{MAINTENANCE_HEAD}    - {rule}\n"))?;
        Ok(rule)
    }

    /// The agent's settings with the lab's paths at the end. Nobody keeps a laboratory's clock right.
    fn agent(&self, root: &Path) -> String {
        let paths = [
            ("stateDir", &root.join("state")),
            ("socket", &self.socket),
            ("pinDir", &self.pins),
            ("policyFolder", &self.policies),
        ];
        let paths = paths.map(|(key, path)| format!("  {key}: {}\n", path.display())).concat();
        format!("{AGENT}{paths}  clock: trusted\n")
    }

    /// Changes the firmware policy as an operator would, in the file, and returns the changed lines as a diff.
    pub(crate) fn move_firmware_port(&self, from: u16, to: u16) -> Result<String> {
        let path = self.policies.join(FIRMWARE);
        let before = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        let after = before.replace(&format!("tcp/{from}"), &format!("tcp/{to}"));
        ensure!(before != after, "{} does not name tcp/{from}", path.display());
        write(&path, &after)?;
        let changed = before.lines().zip(after.lines()).filter(|(old, new)| old != new);
        Ok(changed.map(|(old, new)| format!("-{old}\n+{new}")).collect::<Vec<_>>().join("\n"))
    }
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{SourceFile, parse, parse_agent};

    fn source((name, text): (&str, &str)) -> SourceFile {
        SourceFile::new(name, text)
    }

    #[test]
    fn the_settings_and_policies_are_valid_together() {
        let path = PathBuf::from;
        let files = Files {
            config: path("/lab/agent.yaml"),
            policies: path("/lab/policies"),
            socket: path("/lab/bulkhead.sock"),
            log: path("/lab/agent.log"),
            pins: path("/sys/fs/bpf/lab"),
        };
        let settings = files.agent(Path::new("/lab"));
        let agent = parse_agent(vec![source(("agent.yaml", &settings))]);
        let agent = agent.unwrap_or_else(|problems| panic!("{problems}"));
        assert_eq!((&agent.socket, &agent.pin_dir), (&files.socket, &files.pins));
        let loaded = parse(POLICIES.map(source).into(), Some(&agent));
        let loaded = loaded.unwrap_or_else(|problems| panic!("{problems}"));
        assert!(loaded.warnings.is_empty(), "{}", loaded.warnings);
        assert_eq!(loaded.policy.devices().len(), 5);
    }

    #[test]
    fn every_policy_of_the_folder_is_embedded() -> Result<()> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../policies/demo");
        let mut found: Vec<String> = fs::read_dir(folder)?
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter(|name| name.ends_with(".yaml"))
            .collect();
        found.sort();
        let embedded: Vec<&str> = POLICIES.iter().map(|(name, _)| *name).collect();
        assert_eq!(found, embedded);
        Ok(())
    }
}
