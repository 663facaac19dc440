//! One interface of `kind: Agent`.

use std::time::Duration;

use crate::policy::agent::{AttachMode, Downlink, FromHost, Gtpu, Hairpin, Interface, Role, Transit};
use crate::policy::node::Node;
use crate::policy::reader::{Fields, Reader};

/// A device that moves to a new session has been silent for longer, one that is being impersonated has not.
const TUNNEL_IDLE: Duration = Duration::from_secs(30);

pub(super) fn interface(reader: &mut Reader<'_>, node: &Node) -> Option<Interface> {
    let mut fields = reader.fields(node, "the interface")?;
    let name = fields.required(reader, "name").and_then(|node| reader.interface(node));
    let roles = fields.required(reader, "roles").and_then(|node| reader.some(node, "`roles`", role));
    let roles = roles.map(|roles| sorted(reader, &mut fields, roles));
    let witness = roles.as_ref().is_some_and(|roles| roles.contains(&Role::Witness));
    let transit = if witness { Some(no_transit(reader, &mut fields)) } else { transit(reader, &mut fields) };
    let attach_mode = attach_mode(reader, &mut fields);
    let hairpin = hairpin(reader, &mut fields, roles.as_deref());
    let downlink = downlink(reader, &mut fields, roles.as_deref());
    let gtpu = tunnels(reader, &mut fields, roles.as_deref(), downlink);
    fields.finish(reader);
    Some(Interface { attach_mode, hairpin, downlink, gtpu: gtpu?, ..Interface::new(name?, roles?, transit?) })
}

/// The tunnels that end here, if any do; nothing if what was written of them could not be read.
fn tunnels(
    reader: &mut Reader<'_>,
    fields: &mut Fields<'_>,
    roles: Option<&[Role]>,
    downlink: Downlink,
) -> Option<Option<Gtpu>> {
    let Some(node) = fields.optional(reader, "gtpu") else { return Some(None) };
    let read = gtpu(reader, node);
    let at = fields.key_span("gtpu").unwrap_or(fields.span());
    if roles.is_some_and(|roles| !roles.contains(&Role::Access)) {
        let problem = "`gtpu` on an interface that is not `access`";
        reader.refuse::<()>(at, problem, "add access to its roles: tunnels bring what devices send");
    }
    if downlink != Downlink::Ingress {
        let problem = "what leaves in tunnels cannot be judged";
        reader.refuse::<()>(at, problem, "write downlink: egress for the packet core's TUN device");
    }
    read.map(Some)
}

fn gtpu(reader: &mut Reader<'_>, node: &Node) -> Option<Gtpu> {
    let mut fields = reader.fields(node, "`gtpu`")?;
    let local = fields
        .required(reader, "local")
        .and_then(|node| reader.some(node, "`local`", |reader, node| reader.address(node)));
    let peers = fields
        .required(reader, "peers")
        .and_then(|node| reader.some(node, "`peers`", |reader, node| reader.prefix(node)));
    let idle = fields.optional(reader, "idle").map(|node| reader.duration(node, "`idle`"));
    fields.finish(reader);
    Some(Gtpu { local: local?, peers: peers?, idle: idle.unwrap_or(Some(TUNNEL_IDLE))? })
}

fn role(reader: &mut Reader<'_>, node: &Node) -> Option<Role> {
    let roles = [("access", Role::Access), ("core", Role::Core), ("witness", Role::Witness)];
    reader.choice(node, "role", &roles)
}

/// The roles in order, each once; a witness judges nothing, so it is nothing else.
fn sorted(reader: &mut Reader<'_>, fields: &mut Fields<'_>, mut roles: Vec<Role>) -> Vec<Role> {
    roles.sort();
    roles.dedup();
    if roles.len() > 1 && roles.contains(&Role::Witness) {
        let at = fields.key_span("roles").unwrap_or(fields.span());
        let problem = "an interface is a witness or judges, not both";
        reader.refuse::<()>(at, problem, "write roles: [witness] where another interface judges uplink");
    }
    roles
}

fn transit(reader: &mut Reader<'_>, fields: &mut Fields<'_>) -> Option<Transit> {
    let node = fields.required(reader, "transit")?;
    reader.choice(node, "transit", &[("pass", Transit::Pass), ("drop", Transit::Drop)])
}

/// A witness drops nothing, so there is nothing to choose.
fn no_transit(reader: &mut Reader<'_>, fields: &mut Fields<'_>) -> Transit {
    if fields.has("transit") && transit(reader, fields) == Some(Transit::Drop) {
        let at = fields.key_span("transit").unwrap_or(fields.span());
        reader.refuse::<()>(at, "a witness drops nothing", "remove `transit`");
    }
    Transit::Pass
}

fn attach_mode(reader: &mut Reader<'_>, fields: &mut Fields<'_>) -> AttachMode {
    let modes = [("native", AttachMode::Native), ("generic", AttachMode::Generic)];
    let node = fields.optional(reader, "attachMode");
    node.and_then(|node| reader.choice(node, "attach mode", &modes)).unwrap_or(AttachMode::Native)
}

fn hairpin(reader: &mut Reader<'_>, fields: &mut Fields<'_>, roles: Option<&[Role]>) -> Option<Hairpin> {
    let node = fields.optional(reader, "hairpin")?;
    needs_role(reader, fields, "hairpin", roles, &[Role::Access]);
    reader.choice(node, "hairpin", &[("none", Hairpin::Never), ("inside", Hairpin::Inside)])
}

fn downlink(reader: &mut Reader<'_>, fields: &mut Fields<'_>, roles: Option<&[Role]>) -> Downlink {
    let node = fields.optional(reader, "downlink");
    let egress =
        node.and_then(|node| reader.choice(node, "downlink", &[("ingress", false), ("egress", true)]));
    let host = fields.optional(reader, "fromHost");
    let choices = [("judge", FromHost::Judge), ("pass", FromHost::Pass)];
    let from_host = host.and_then(|node| reader.choice(node, "fromHost", &choices));
    if egress == Some(true) {
        needs_role(reader, fields, "downlink", roles, &[Role::Access, Role::Witness]);
        return Downlink::Egress { from_host: from_host.unwrap_or(FromHost::Judge) };
    }
    if let Some(at) = fields.key_span("fromHost") {
        let problem = "`fromHost` is about what leaves by the interface, and nothing is judged there";
        reader.refuse::<()>(at, problem, "add downlink: egress, or remove `fromHost`");
    }
    Downlink::Ingress
}

/// Refuses a key that says something about the device side of an interface that has none.
fn needs_role(
    reader: &mut Reader<'_>,
    fields: &mut Fields<'_>,
    key: &'static str,
    roles: Option<&[Role]>,
    wanted: &[Role],
) {
    // Roles that could not be read were reported.
    if roles.is_none_or(|roles| roles.iter().any(|role| wanted.contains(role))) {
        return;
    }
    let at = fields.key_span(key).unwrap_or(fields.span());
    let problem = format!("`{key}` is about devices, and none are behind an interface with these roles");
    reader.refuse::<()>(at, problem, format!("remove `{key}`"));
}
