//! Root: the real agent in the lab, and every fault that its promises name, really caused.

#[path = "agent/apply.rs"]
mod apply;
#[path = "agent/attributes.rs"]
mod attributes;
#[path = "agent/audit.rs"]
mod audit;
#[path = "agent/behind.rs"]
mod behind;
#[path = "agent/candidate.rs"]
mod candidate;
#[path = "agent/clock.rs"]
mod clock;
#[path = "agent/crash.rs"]
mod crash;
#[path = "agent/few.rs"]
mod few;
#[path = "agent/folder.rs"]
mod folder;
#[path = "agent/forwarding.rs"]
mod forwarding;
#[path = "agent/grants.rs"]
mod grants;
#[path = "agent/gtpu.rs"]
mod gtpu;
#[path = "agent/guard.rs"]
mod guard;
#[path = "agent/host.rs"]
mod host;
#[path = "agent/interfaces.rs"]
mod interfaces;
#[path = "agent/inventory.rs"]
mod inventory;
#[path = "agent/kills.rs"]
mod kills;
#[path = "agent/limits.rs"]
mod limits;
#[path = "agent/meanwhile.rs"]
mod meanwhile;
#[path = "agent/observe.rs"]
mod observe;
#[path = "agent/origins.rs"]
mod origins;
#[path = "agent/plan.rs"]
mod plan;
#[path = "agent/quarantine.rs"]
mod quarantine;
#[path = "agent/quota.rs"]
mod quota;
#[path = "agent/revisions.rs"]
mod revisions;
#[path = "agent/site.rs"]
mod site;
#[path = "agent/socket.rs"]
mod socket;
#[path = "agent/state.rs"]
mod state;
#[path = "agent/stop.rs"]
mod stop;
#[path = "agent/throughput.rs"]
mod throughput;
#[path = "agent/time.rs"]
mod time;
#[path = "agent/traffic.rs"]
mod traffic;
#[path = "agent/tun.rs"]
mod tun;
#[path = "agent/warming.rs"]
mod warming;
