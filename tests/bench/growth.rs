//! `--growth FILE`: what packets and applies cost as devices grow in number, beside the peers, as a chart.

use std::path::Path;

use anyhow::Result;

use super::chart::{self, Panel};
use super::lab;
use super::options::{Options, Size};
use super::peers::Peer;
use super::table::{A_PACKET, Table};
use super::{control, path};

/// How the product is called in every table.
const BULKHEAD: &str = "Bulkhead";

/// Measures, draws, and returns the figures behind the curves.
pub(crate) fn measure(options: &Options, to: &Path) -> Result<[Table; 3]> {
    let table = |title, each, reference| Table::new(title, each, reference, options.only.clone());
    let mut drop = table("Dropped, over veth", A_PACKET, "bare XDP_DROP");
    let mut forward = table("Forwarded, over veth", A_PACKET, "no firewall");
    let mut apply = table("From files to a kernel that enforces", "all devices", BULKHEAD);
    lab::within(|lab| {
        loaded(options, &mut apply)?;
        path::dropped(lab, options, &mut drop)?;
        path::forwarded(lab, options, &mut forward)
    })?;
    let panels = [
        Panel {
            title: "a packet of an unknown device, dropped",
            unit: "ns",
            curves: chart::curves(&drop, 1.0),
        },
        Panel {
            title: "a packet of a live flow, forwarded",
            unit: "ns",
            curves: chart::curves(&forward, 1.0),
        },
        Panel {
            title: "from files to a kernel that enforces",
            unit: "ms",
            curves: chart::curves(&apply, 1e-6),
        },
    ];
    chart::draw(to, &panels)?;
    Ok([drop, forward, apply])
}

/// Processor time until the kernel knows all devices: of the product from an inventory and policies, of the peers
/// from a list of bare addresses.
fn loaded(options: &Options, table: &mut Table) -> Result<()> {
    for size in options.control {
        for _ in 0..options.control_rounds {
            table.sample(BULKHEAD, *size, || control::end_to_end(*size))?;
            for peer in [Peer::NftNetdev, Peer::Ipset] {
                if table.wants(peer.name()) {
                    listed(peer, *size, table)?;
                }
            }
        }
    }
    Ok(())
}

/// A peer's list of addresses, for as long as its loading takes.
fn listed(peer: Peer, size: Size, table: &mut Table) -> Result<()> {
    let before = lab::children_time()?;
    if let Err(error) = peer.prepare(size.devices()) {
        eprintln!("{} is not loaded with {} devices: {error:#}", peer.name(), size.name);
        return Ok(());
    }
    table.add(peer.name(), size, lab::children_time()? - before);
    peer.clear()
}
