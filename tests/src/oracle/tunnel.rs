//! GTP-U tunnels that end on the host (TS 29.281), and which one a device speaks through.
#![expect(clippy::wildcard_enum_match_arm, reason = "what is not named is the rest, whatever it is")]

use std::net::IpAddr;

use bulkhead::policy::{Device, Gtpu, Network};
use ipnet::IpNet;

use super::dissect::{Dissected, What, number};
use super::place::Place;
use super::watch::Gate;
use super::{Flaw, Oracle, Refusal, Subject};

/// The port of GTP-U.
const PORT: u16 = 2152;

/// Which tunnel an address was heard through last.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Heard {
    network: String,
    address: IpNet,
    teid: u32,
    second: u64,
}

/// What a frame for an endpoint is.
pub(super) enum Unwrapped {
    /// None of an endpoint's business.
    Plain,
    /// Talk between endpoints.
    Signalling,
    /// A device's packet, and the tunnel that it came through.
    Packet(Box<Dissected>, u32),
}

impl Oracle<'_> {
    /// Looks into a frame that is for a GTP-U endpoint on its interface.
    pub(super) fn unwrap(&self, gate: Gate<'_>, frame: &Dissected) -> Result<Unwrapped, Refusal> {
        let Some(gtpu) = &gate.interface.gtpu else { return Ok(Unwrapped::Plain) };
        if !gtpu.local.iter().any(|local| local.value == frame.to) || frame.protocol != 17 {
            return Ok(Unwrapped::Plain);
        }
        if frame.piece.is_some() && !self.has(Flaw::IgnoresOuterFragments) {
            return Err("gtpu_outer_fragment");
        }
        match frame.what {
            What::Ports { destination: PORT, .. } => self.message(gtpu, frame),
            _ => Ok(Unwrapped::Plain),
        }
    }

    fn message(&self, gtpu: &Gtpu, frame: &Dissected) -> Result<Unwrapped, Refusal> {
        let listed = gtpu.peers.iter().any(|peer| peer.value.contains(&frame.from));
        if !listed && !self.has(Flaw::BelievesPeers) {
            return Err("gtpu_peer");
        }
        let (header, rest) = frame.datagram.split_at_checked(8).ok_or("gtpu_malformed")?;
        if header[0] / 32 != 1 {
            return Err("gtpu_version");
        }
        if header[0] & 16 == 0 {
            return Err("gtpu_prime");
        }
        let content = rest.get(..usize::from(number(&header[2..4]))).ok_or("gtpu_malformed")?;
        let teid = header[4..8].iter().fold(0, |teid, byte| teid * 256 + u32::from(*byte));
        match header[1] {
            1 | 2 | 26 | 31 | 253 | 254 => return Ok(Unwrapped::Signalling),
            255 => {}
            _ => return Err("gtpu_message"),
        }
        if teid == 0 {
            return Err("gtpu_teid_zero");
        }
        let packet = self.behind_options(header[0], content)?;
        Ok(Unwrapped::Packet(Box::new(frame.inside(packet, self.flaw)?), teid))
    }

    /// Sequence number, N-PDU number and next type are there together; a chain follows if E says so.
    fn behind_options<'b>(&self, flags: u8, content: &'b [u8]) -> Result<&'b [u8], Refusal> {
        if flags & 7 == 0 || self.has(Flaw::IgnoresGtpuOptions) {
            return Ok(content);
        }
        let (fields, mut rest) = content.split_at_checked(4).ok_or("gtpu_malformed")?;
        let mut kind = if flags & 4 == 0 { 0 } else { fields[3] };
        let mut walked = 0;
        while kind != 0 {
            if walked == 4 || !matches!(kind, 3 | 0x20 | 0x40 | 0x81 | 0x82 | 0x83 | 0x84 | 0x85 | 0xc0) {
                return Err("gtpu_extension");
            }
            let words = usize::from(*rest.first().ok_or("gtpu_malformed")?);
            let words = if self.has(Flaw::SkipsFixedExtensions) { 1 } else { words };
            let header = rest.get(..4 * words).filter(|header| !header.is_empty()).ok_or("gtpu_malformed")?;
            kind = header[header.len() - 1];
            rest = &rest[header.len()..];
            walked += 1;
        }
        Ok(rest)
    }

    /// The network of a packet that came through a tunnel, or of a plain one where tunnels end.
    pub(super) fn network_of(&self, place: &Place<'_>, subject: &Subject<'_>) -> Option<&'_ Network> {
        let here = |network: &&Network| {
            network.seen_on.iter().any(|seen| {
                let vlans = (seen.value.vlan, seen.value.inner_vlan);
                seen.value.interface == place.interface.name.value && vlans == place.vlans
            })
        };
        let networks: Vec<&Network> = self.intent.policy.networks().values().filter(here).collect();
        let teids = |network: &Network| {
            let mut listed = network.teids.iter();
            let here = listed.find(|(seen, _)| {
                seen.interface == place.interface.name.value && (seen.vlan, seen.inner_vlan) == place.vlans
            });
            here.map(|(_, teids)| teids.clone())
        };
        if let [only] = networks[..]
            && teids(only).is_none()
        {
            return Some(only);
        }
        let has = |network: &&&Network, address: IpAddr| self.intent.is_pool(network, address);
        let Some(teid) = subject.teid else {
            let mut networks = networks.iter().filter(|_| place.core);
            return networks.find(|network| has(network, subject.frame.to)).copied();
        };
        let told = networks.iter().find(|network| {
            let ranges = teids(network).unwrap_or_default();
            ranges.iter().any(|range| (range.value.first..=range.value.last).contains(&teid))
        });
        let told = told.filter(|_| !self.has(Flaw::IgnoresTeids));
        told.or_else(|| {
            let free = |network: &&&Network| teids(network).is_none() || self.has(Flaw::IgnoresTeids);
            networks.iter().filter(free).find(|network| has(network, subject.frame.from))
        })
        .copied()
    }

    /// True if the device may speak through the tunnel that its packet came through, which is remembered.
    pub(super) fn is_its_tunnel(
        &mut self,
        device: &Device,
        place: &Place<'_>,
        subject: &Subject<'_>,
    ) -> bool {
        if self.has(Flaw::ForgetsTunnels) {
            return true;
        }
        let own = device.teid.as_ref().map(|teid| teid.value);
        let Some(teid) = subject.teid.filter(|_| own.is_none()) else { return own == subject.teid };
        let addresses = device.addresses.iter().chain(&device.framed_routes).map(|address| address.value);
        let holding = addresses.filter(|address| address.contains(&subject.frame.from));
        let Some(address) = holding.max_by_key(IpNet::prefix_len) else { return false };
        let network = device.network.value.to_string();
        let second = subject.now / 1_000_000_000;
        let idle = place.interface.gtpu.as_ref().map_or(0, |gtpu| gtpu.idle.as_secs());
        let heard = Heard { network, address, teid, second };
        let same = |known: &&mut Heard| known.network == heard.network && known.address == heard.address;
        match self.heard.iter_mut().find(same) {
            Some(known) if known.teid != teid && second - known.second < idle => return false,
            Some(known) => *known = heard,
            None => self.heard.push(heard),
        }
        true
    }

    /// Refuses what would reach an endpoint past its own interface.
    pub(super) fn refuse_endpoint(&self, subject: &Subject<'_>) -> Result<(), Refusal> {
        let Dissected { to, what, protocol, piece, .. } = subject.frame.clone();
        if !self.intent.agent.endpoints().any(|local| local.value == to) || protocol != 17 {
            return Ok(());
        }
        match what {
            _ if piece.is_some() && !self.has(Flaw::IgnoresOuterFragments) => Err("gtpu_outer_fragment"),
            What::Ports { destination: PORT, .. } => Err("gtpu_peer"),
            _ => Ok(()),
        }
    }
}

/// True for GTP-U inside a tunnel.
pub(super) fn is_nested(subject: &Subject<'_>) -> bool {
    subject.teid.is_some()
        && matches!(subject.frame.what, What::Ports { protocol: 17, destination: PORT, .. })
}
