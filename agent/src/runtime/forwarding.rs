//! The fast way as the engine keeps it: open where a network asks for it and nothing stands in the way.

use std::collections::BTreeSet;

use anyhow::Result;

use super::engine::Engine;
use crate::api::types::ForwardingStatus;
use crate::datapath::{Attachment, Mode};
use crate::forwarding::Survey;
use crate::policy::Forwarding;

impl Engine {
    /// Looks at what packets would go round, and lets them if that is nothing.
    pub(super) fn look_at_forwarding(&mut self) {
        if let Err(error) = self.forward() {
            tracing::warn!("what is forwarded by XDP could not be settled: {error:#}");
        }
    }

    fn forward(&mut self) -> Result<()> {
        let Some(kernel) = &self.kernel else { return Ok(()) };
        let surveyed = match self.wants_forwarding() {
            true => {
                let attached = kernel.datapath().attachments();
                let surveyed = attached.and_then(|attached| Survey::take(&judged_by_driver(&attached)));
                surveyed.unwrap_or_else(|error| Survey {
                    obstacles: vec![format!("this host could not be looked at: {error:#}")],
                    ..Survey::default()
                })
            }
            false => Survey::default(),
        };
        let changed = kernel.datapath().forward_by(&surveyed.legs)?;
        if changed || surveyed.obstacles != self.forwarding.obstacles {
            tell(&surveyed);
        }
        self.forwarding = surveyed;
        Ok(())
    }

    fn wants_forwarding(&self) -> bool {
        !self.forwarding_networks().is_empty()
    }

    fn forwarding_networks(&self) -> Vec<String> {
        let networks = self.in_force.iter().flat_map(|in_force| in_force.policy.networks().values());
        networks.filter(|n| n.forwarding == Forwarding::Xdp).map(|n| n.name.to_string()).collect()
    }

    /// What is to be told of it; nothing if no network asks for it.
    pub(super) fn forwarding_status(&self) -> Option<ForwardingStatus> {
        let networks = self.forwarding_networks();
        let Survey { enters, leaves, obstacles, mut notes, .. } = self.forwarding.clone();
        if self.trial.kept.is_some() {
            notes.push(TRIED_OUT.to_owned());
        }
        (!networks.is_empty()).then_some(ForwardingStatus { networks, enters, leaves, obstacles, notes })
    }
}

/// A candidate gets each packet last, as it came.
const TRIED_OUT: &str = "while a candidate is tried out the kernel forwards all packets, and XDP none";

/// Interfaces on which the program runs in the driver: a frame that the stack has seen first has no use for a way past it.
fn judged_by_driver(attached: &[Attachment]) -> BTreeSet<u32> {
    let native = attached.iter().filter(|attachment| !attachment.defunct && attachment.mode == Mode::Native);
    native.map(|attachment| attachment.ifindex).collect()
}

fn tell(survey: &Survey) {
    if survey.obstacles.is_empty() && survey.legs.is_empty() {
        tracing::info!("nothing is forwarded by XDP");
    } else if survey.obstacles.is_empty() {
        let (enters, leaves) = (survey.enters.join(", "), survey.leaves.join(", "));
        tracing::info!("forwarded by XDP: what enters by [{enters}] and leaves by [{leaves}]");
    }
    for obstacle in &survey.obstacles {
        tracing::warn!("nothing is forwarded by XDP, because it would be gone round: {obstacle}");
    }
}
