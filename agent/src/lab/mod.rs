//! A packet core in network namespaces: devices, radio side, core, data network and one attacker, on one machine.
//!
//! The demo and the namespace tests run on it. Everything in it is real: the kernel forwards, sockets answer, and a
//! packet that a receiver counts did arrive. Without a filter everything reaches everything, which is what makes a
//! later "nothing arrived" worth something.
//!
//! ```text
//!  charger-1 ─ radio ┐                ┌ acc0 ┐         n6            out
//!  charger-2 ─ radio ┤  ran (router)  ┤      ├ core ──────── dn ────────── outside
//!  camera-1  ─ radio ┘                └ acc1 ┘     servers on lo      192.0.2.66
//! ```

mod cleanup;
pub mod client;
mod guard;
pub mod inject;
pub mod live;
pub mod load;
mod namespace;
pub mod privilege;
pub mod server;
mod sys;
#[cfg(test)]
mod tests;
pub mod topology;
mod wiring;
pub mod witness;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

pub use cleanup::{Remnant, remnants};
pub use namespace::Namespace;
pub use topology::Topology;

/// Interfaces that carry tagged frames in tests; veth hides a tag from XDP while this offload is on.
const TAGGED: [(&str, &str); 6] =
    [("core", "acc0"), ("core", "acc1"), ("core", "n6"), ("ran", "acc0"), ("ran", "acc1"), ("dn", "n6")];

/// A running lab; it is gone, with the processes inside, when this value is dropped or the process is interrupted.
#[derive(Debug)]
pub struct Lab {
    prefix: String,
    topology: Topology,
    namespaces: Vec<(String, Namespace)>,
    keep: bool,
}

impl Lab {
    /// Creates the namespaces and links of `topology`, after removing what dead labs left behind.
    pub fn new(topology: &Topology) -> Result<Self> {
        ensure!(privilege::is_root(), "create a lab: needs root, for network namespaces; run it with sudo");
        guard::install();
        cleanup::remove_stale();
        let prefix = guard::claim()?;
        let mut lab = Self { prefix, topology: topology.clone(), namespaces: Vec::new(), keep: false };
        lab.create_namespaces()?;
        lab.wire()?;
        Ok(lab)
    }

    /// Opens a lab that another process created and keeps; it stays when this value is dropped.
    pub fn open(prefix: &str, topology: &Topology) -> Result<Self> {
        let namespace = |role: String| Ok((role.clone(), Namespace::open(&format!("{prefix}-{role}"))?));
        let namespaces = topology.roles().into_iter().map(namespace).collect::<Result<_>>()?;
        Ok(Self { prefix: prefix.to_owned(), topology: topology.clone(), namespaces, keep: true })
    }

    /// Finds a namespace by its role: `core`, `ran`, `dn`, `outside`, or a device's name.
    pub fn namespace(&self, role: &str) -> Result<&Namespace> {
        let found = self.namespaces.iter().find(|(name, _)| name == role);
        found
            .map(|(_, namespace)| namespace)
            .with_context(|| format!("namespace {role} is not in lab {}", self.prefix))
    }

    /// Lists every namespace with its role.
    pub fn namespaces(&self) -> impl Iterator<Item = (&str, &Namespace)> {
        self.namespaces.iter().map(|(role, namespace)| (role.as_str(), namespace))
    }

    /// Returns the topology that the lab was built from.
    pub fn topology(&self) -> &Topology {
        &self.topology
    }

    /// Returns what the names of this lab's namespaces begin with, e.g. `bh-4711`.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Returns the lab's own directory for configuration, sockets and state; removed with the lab.
    pub fn directory(&self) -> PathBuf {
        cleanup::directory(&self.prefix)
    }

    /// Returns the pin directory on bpffs that belongs to this lab; removed with the lab.
    ///
    /// It is not created here: who pins creates it, with the mode it wants.
    pub fn pins(&self) -> PathBuf {
        cleanup::pins(&self.prefix)
    }

    /// Makes sure that a BPF filesystem is mounted where [`Lab::pins`] points.
    pub fn mount_bpffs(&self) -> Result<()> {
        cleanup::mount_bpffs(&self.prefix)
    }

    /// Leaves the lab in place when this process ends; `bulkhead demo --clean` removes it.
    pub fn keep(mut self) -> Result<()> {
        let marker = self.directory().join(cleanup::KEEP);
        std::fs::write(&marker, "")
            .with_context(|| format!("mark the lab as kept in {}", marker.display()))?;
        guard::release(&self.prefix);
        self.keep = true;
        Ok(())
    }

    fn create_namespaces(&mut self) -> Result<()> {
        for role in self.topology.roles() {
            let name = format!("{}-{role}", self.prefix);
            let namespace = guard::unless_closing(|| Namespace::create(&name))?;
            self.namespaces.push((role, namespace));
        }
        Ok(())
    }

    /// Makes the links fit for forwarding by XDP, as NICs are: their other ends take frames from XDP programs, and senders
    /// finish the checksums of what they send.
    ///
    /// # Errors
    /// An interface cannot do that.
    pub fn fit_for_xdp(&self) -> Result<()> {
        for (role, interface) in [("ran", "acc0"), ("ran", "acc1"), ("dn", "n6")] {
            self.namespace(role)?.run(|| sys::take_frames_from_xdp(interface))??;
        }
        let devices = self.topology.devices.iter().map(|device| (device.name.as_str(), "radio"));
        for (role, interface) in devices.chain([("dn", "n6"), ("outside", "out")]) {
            self.namespace(role)?.run(|| sys::finish_checksums(interface))??;
        }
        Ok(())
    }

    fn wire(&self) -> Result<()> {
        for (role, namespace) in self.namespaces() {
            namespace.run(|| wiring::write_sysctls(role))??;
        }
        wiring::ip_batch(None, &wiring::links(&self.topology, &self.prefix))
            .context("create the lab's links")?;
        for (role, namespace) in self.namespaces() {
            let lines = wiring::configuration(&self.topology, role);
            wiring::ip_batch(Some(namespace), &lines)
                .with_context(|| format!("configure namespace {role}"))?;
        }
        for (role, interface) in TAGGED {
            self.namespace(role)?.run(|| sys::disable_vlan_offload(interface))??;
        }
        Ok(())
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if !self.keep {
            cleanup::remove(&self.prefix);
            guard::release(&self.prefix);
        }
    }
}

/// Says whether `path` lies on a BPF filesystem.
pub fn is_bpffs(path: &Path) -> bool {
    nix::sys::statfs::statfs(path).is_ok_and(|fs| fs.filesystem_type() == nix::sys::statfs::BPF_FS_MAGIC)
}
