//! How parts of a policy are said in one line.

use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};

use crate::api::types::RevisionInfo;
use crate::policy::{
    Binding, Direction, Hold, Labels, Located, Name, Network, Policy, Port, Remotes, Rule, Selector, Service,
    Subject, When, plain,
};

/// Joins what can be written.
pub(super) fn list<T: ToString>(items: impl IntoIterator<Item = T>) -> String {
    items.into_iter().map(|item| item.to_string()).collect::<Vec<_>>().join(", ")
}

/// As [`list`], with `-` for nothing.
pub(super) fn list_or_dash<T: ToString>(items: impl IntoIterator<Item = T>) -> String {
    or_dash(list(items))
}

/// `-` for nothing.
pub(super) fn or_dash(text: String) -> String {
    if text.is_empty() { "-".to_owned() } else { text }
}

/// `10.45.0.0/16, fd00:45::/32`.
pub(super) fn prefixes(prefixes: &[Located<ipnet::IpNet>]) -> String {
    list_or_dash(prefixes.iter().map(|prefix| plain(&prefix.value)))
}

/// `class=ev-charger, site=oslo-12`.
pub(super) fn labels(labels: &Labels) -> String {
    list_or_dash(labels.iter().map(|(key, value)| format!("{key}={value}")))
}

/// `r412 (02:58 kari via sudo)`; the day too if it is not today's.
pub(super) fn revision(revision: &RevisionInfo) -> String {
    format!("r{} ({} {})", revision.number, time(revision.time, &Zoned::now()), revision.author)
}

/// `2026-12-01 02:58:11`, in this host's zone.
pub(super) fn moment(time: Timestamp) -> String {
    time.to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S").to_string()
}

fn time(time: Timestamp, now: &Zoned) -> String {
    let zone: TimeZone = now.time_zone().clone();
    let time = time.to_zoned(zone);
    let form = if time.date() == now.date() { "%H:%M" } else { "%Y-%m-%d %H:%M" };
    time.strftime(form).to_string()
}

/// Whom a policy is about: `segment ev-chargers`, `segment recorders → segment cameras, same site`.
pub(super) fn subject(subject: &Subject) -> String {
    match subject {
        Subject::Devices(selector) => self::selector(selector),
        Subject::Between(ends) => {
            let labels = list(&ends.same_labels);
            let same = if labels.is_empty() { String::new() } else { format!(", same {labels}") };
            format!("{} → {}{same}", selector(&ends.initiator), selector(&ends.responder))
        }
    }
}

fn selector(selector: &Selector) -> String {
    match selector {
        Selector::Segment(name) => format!("segment {}", name.value),
        Selector::Device(name) => format!("device {}", name.value),
        Selector::Labels(wanted) => format!("devices with {}", labels(&wanted.value)),
    }
}

/// Whom a rule names at the far end, with the addresses of its destinations.
pub(super) fn far_end(policy: &Policy, rule: &Rule, about: &Subject) -> String {
    match &rule.direction {
        Direction::Outbound(remotes) => format!("to {}", self::remotes(policy, remotes)),
        Direction::Inbound(remotes) => format!("from {}", self::remotes(policy, remotes)),
        Direction::Peer => subject(about),
    }
}

/// The far end of a rule, with the addresses of its destinations.
pub(super) fn remotes(policy: &Policy, remotes: &Remotes) -> String {
    let services = remotes.services.iter().map(|name| format!("service {}", name.value));
    let destinations = remotes.destinations.iter().map(|name| destination(policy, &name.value));
    let cidrs = remotes.cidrs.iter().map(|cidr| plain(&cidr.value));
    list(services.chain(destinations).chain(cidrs))
}

/// `cloud [203.0.113.10, 2001:db8:cafe::10]`.
fn destination(policy: &Policy, name: &Name) -> String {
    const SHOWN: usize = 3;
    let Some(destination) = policy.destinations().get(name) else { return name.to_string() };
    let mut cidrs: Vec<String> = destination.cidrs.iter().map(|cidr| plain(&cidr.value)).collect();
    if cidrs.len() > SHOWN {
        let more = cidrs.len() - SHOWN;
        cidrs.truncate(SHOWN);
        cidrs.push(format!("{more} more"));
    }
    format!("{name} [{}]", list(cidrs))
}

/// The ports that a rule opens in a network, those of its services too.
pub(super) fn opens(rule: &Rule, network: Option<&Network>) -> String {
    let mut ports: Vec<Port> = rule.ports.clone();
    if let (Direction::Outbound(remotes), Some(network)) = (&rule.direction, network) {
        let services = remotes.services.iter().filter_map(|name| network.services.get(&name.value));
        ports.extend(services.flat_map(|service: &Service| service.ports.iter().copied()));
    }
    let ports = if ports.is_empty() { "the service's ports".to_owned() } else { list(ports) };
    match rule.behind.is_empty() {
        true => ports,
        false => format!("{ports} behind {}", prefixes(&rule.behind)),
    }
}

/// When a rule is open, and when that changes: `mon-fri 06:00-22:00 Europe/Oslo, closes 2026-12-01 22:00:00`; nothing
/// if it is always. Without a moment, only when.
pub(super) fn hours(time: &When, at: Option<Timestamp>) -> Option<String> {
    if time.is_always() {
        return None;
    }
    let change = at.map(|at| match time.hold(at) {
        Hold::Open(Some(end)) => format!(", closes {}", moment(end)),
        Hold::Open(None) => ", open for good".to_owned(),
        Hold::Closed(Some(start)) => format!(", opens {}", moment(start)),
        Hold::Closed(None) => ", closed for good".to_owned(),
    });
    Some(format!("{time}{}", change.unwrap_or_default()))
}

/// Where a device's frames must enter: `acc0 vlan 101.7, MAC 02:00:00:00:00:11`.
pub(super) fn binding(binding: &Binding) -> String {
    let vlan = match (binding.vlan, binding.inner_vlan) {
        (Some(outer), Some(inner)) => Some(format!("vlan {outer}.{inner}")),
        (Some(outer), None) => Some(format!("vlan {outer}")),
        (None, Some(inner)) => Some(format!("inner vlan {inner}")),
        (None, None) => None,
    };
    let mac = binding.mac.map(|mac| format!("MAC {}", self::mac(mac)));
    let place = [binding.interface.clone(), vlan].into_iter().flatten().collect::<Vec<_>>().join(" ");
    list((!place.is_empty()).then_some(place).into_iter().chain(mac))
}

/// `02:00:00:00:00:11`.
pub(super) fn mac(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_revision_of_today_has_only_its_time() {
        let now: Zoned = "2026-12-01T03:12:04[UTC]".parse().unwrap();
        let at = |text: &str| time(text.parse().unwrap(), &now);
        assert_eq!(at("2026-12-01T02:58:00Z"), "02:58");
        assert_eq!(at("2026-11-30T23:58:00Z"), "2026-11-30 23:58");
    }
}
