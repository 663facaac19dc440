//! Compiled tables as text, numbers replaced by names.

use std::fmt::Write as _;

use bulkhead::policy::{Compiled, RuleName};
use bulkhead_common::abi::{NetworkId, PortRange, RuleId};

/// Everything that the engine reads, in order.
pub(crate) fn tables(compiled: &Compiled) -> String {
    let mut out = String::new();
    let (tables, catalogue) = (&compiled.tables, &compiled.catalogue);
    let network = |id: NetworkId| catalogue.networks.get(&id).map_or("host", |name| name.as_str());
    for (place, facts) in &tables.subinterfaces {
        let link: Vec<String> = facts.link.iter().map(|l| format!("{}-{}", l.first, l.last)).collect();
        writeln!(
            out,
            "place {}/{}/{} {} roles {} transit {} link [{}]",
            place.ifindex,
            place.outer_vlan,
            place.inner_vlan,
            network(facts.network),
            facts.roles,
            facts.transit,
            link.join(" ")
        )
        .unwrap();
    }
    for (id, facts) in &tables.networks {
        if facts.flags != 0 {
            writeln!(out, "network {} flags {}", network(*id), facts.flags).unwrap();
        }
        for (what, ranges) in [("scope", &facts.scopes), ("prefix", &facts.prefixes)] {
            for range in ranges {
                writeln!(out, "{what} {} {}-{} {}", network(*id), range.first, range.last, range.scope)
                    .unwrap();
            }
        }
    }
    for (key, owner) in &tables.addresses {
        let row = &tables.devices[&owner.device];
        writeln!(
            out,
            "address {} {}/{} {}{} profile {} via {}/{}/{} flags {}",
            network(key.network()),
            key.address(),
            key.prefix_len(),
            if owner.behind { "behind " } else { "" },
            catalogue.devices[&owner.device],
            row.profile.0,
            row.ifindex,
            row.outer_vlan,
            row.inner_vlan,
            row.flags
        )
        .unwrap();
    }
    let ports = |list: &[PortRange]| {
        let one = |p: &PortRange| {
            let closed = p.closed_by().map(|reason| format!(" ({})", reason.as_str())).unwrap_or_default();
            format!("{}/{}-{} {}{closed}", p.protocol, p.first, p.last, rule(compiled, p.rule))
        };
        list.iter().map(one).collect::<Vec<_>>().join(", ")
    };
    for (profile, rules) in &tables.profiles {
        let name = &catalogue.profiles[profile];
        writeln!(out, "profile {} {} {:?}", profile.0, name.network, name.segment).unwrap();
        for (way, remotes) in [("to", &rules.outbound), ("from", &rules.inbound)] {
            for remote in remotes {
                writeln!(out, "  {way} {}-{} {}", remote.first, remote.last, ports(&remote.ports)).unwrap();
            }
        }
        for local in &rules.behind {
            for remote in &local.callers {
                let behind = format!("{}-{}", local.first, local.last);
                let from = format!("{}-{}", remote.first, remote.last);
                writeln!(out, "  behind {behind} from {from} {}", ports(&remote.ports)).unwrap();
            }
        }
        for peer in &rules.peers {
            writeln!(out, "  peer {} {}", peer.profile.0, ports(&peer.ports)).unwrap();
            for local in &peer.behind {
                writeln!(out, "    behind {}-{} {}", local.first, local.last, ports(&local.ports)).unwrap();
            }
        }
        writeln!(out, "  never {}", ports(&rules.never)).unwrap();
    }
    out
}

fn rule(compiled: &Compiled, id: RuleId) -> String {
    compiled.catalogue.rules.get(&id).map_or_else(|| "-".to_owned(), RuleName::to_string)
}
