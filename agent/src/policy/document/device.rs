//! `kind: Device`.

use std::sync::Arc;

use super::network::{self, vlans};
use super::optional;
use crate::policy::attribute::Attributes;
use crate::policy::location::Located;
use crate::policy::model::{Binding, Device, Labels, SimProfile};
use crate::policy::name::Name;
use crate::policy::node::{Node, Word};
use crate::policy::reader::{Fields, Reader};

pub(super) fn read(
    reader: &mut Reader<'_>,
    name: &Located<Name>,
    labels: &Labels,
    spec: &Node,
) -> Option<Device> {
    let mut fields = reader.fields(spec, "the device's spec")?;
    let network = fields.required(reader, "network").and_then(|node| reader.name(node, "the network"));
    let addresses = fields
        .required(reader, "addresses")
        .and_then(|node| reader.some(node, "`addresses`", Reader::prefix));
    let routes = fields
        .optional(reader, "framedRoutes")
        .map(|node| reader.some(node, "`framedRoutes`", Reader::prefix));
    let binding = fields.optional(reader, "binding").map(|node| binding(reader, node));
    let profiles = fields.optional(reader, "profiles").map(|node| reader.some(node, "`profiles`", profile));
    let imei = fields.optional(reader, "imei").map(|node| reader.digits(node, "IMEI", 14, 16));
    let teid = fields.optional(reader, "teid").map(|node| network::teid(reader, node));
    fields.later(reader, &["mode", "limits"]);
    fields.finish(reader);
    Some(Device {
        name: name.value.clone(),
        at: name.at.clone(),
        network: network?,
        segment: None,
        labels: Arc::new(labels.clone()),
        addresses: addresses?.into_iter().collect(),
        teid: optional(teid)?,
        framed_routes: routes.unwrap_or(Some(Vec::new()))?,
        binding: optional(binding)?.map(Box::new),
        profiles: profiles.unwrap_or(Some(Vec::new()))?.into_iter().collect(),
        imei: optional(imei)?.map(Box::new),
        observed: Attributes::new(),
    })
}

fn binding(reader: &mut Reader<'_>, node: &Node) -> Option<Binding> {
    let mut fields = reader.fields(node, "`binding`")?;
    let interface = fields.optional(reader, "interface").map(|node| reader.interface(node));
    let (vlan, inner) = vlans(reader, &mut fields);
    let mac = fields.optional(reader, "mac").map(|node| mac(reader, node));
    fields.later(reader, &["tunnel"]);
    if interface.is_none() && mac.is_none() && !fields.has("vlan") && !fields.has("innerVlan") {
        return empty(reader, fields);
    }
    fields.finish(reader);
    Some(Binding {
        at: reader.at(node.span),
        interface: optional(interface)?.map(|found| found.value),
        vlan: vlan?,
        inner_vlan: inner?,
        mac: optional(mac)?,
    })
}

fn empty<T>(reader: &mut Reader<'_>, fields: Fields<'_>) -> Option<T> {
    let span = fields.span();
    fields.finish(reader);
    reader.refuse(span, "`binding` binds nothing", "name an interface, vlan, innerVlan or mac, or remove it")
}

fn mac(reader: &mut Reader<'_>, node: &Node) -> Option<[u8; 6]> {
    let text = reader.text(node, "a MAC address")?;
    mac_of(reader, Word { text, span: node.span })
}

pub(super) fn mac_of(reader: &mut Reader<'_>, Word { text, span }: Word<'_>) -> Option<[u8; 6]> {
    let mut octets = [0u8; 6];
    let parts: Vec<&str> = text.split(':').collect();
    let good = parts.len() == 6
        && parts.iter().zip(&mut octets).all(|(part, octet)| {
            let hex = part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_hexdigit());
            u8::from_str_radix(part, 16).is_ok_and(|value| {
                *octet = value;
                hex
            })
        });
    if !good {
        let problem = format!("{text:?} is not a MAC address");
        return reader.refuse(span, problem, "write it like \"02:00:00:00:00:11\"");
    }
    if octets[0] & 1 == 1 || octets == [0; 6] {
        let problem = format!("{text} can be nobody's source address");
        return reader.refuse(span, problem, "write the device's own MAC address");
    }
    Some(octets)
}

fn profile(reader: &mut Reader<'_>, node: &Node) -> Option<SimProfile> {
    let mut fields = reader.fields(node, "the SIM profile")?;
    let iccid = fields.optional(reader, "iccid").map(|node| reader.digits(node, "ICCID", 18, 22));
    let imsi = fields.optional(reader, "imsi").map(|node| reader.digits(node, "IMSI", 6, 15));
    let span = fields.span();
    fields.finish(reader);
    if iccid.is_none() && imsi.is_none() {
        return reader.refuse(span, "the SIM profile is empty", "name its iccid or imsi");
    }
    Some(SimProfile { iccid: optional(iccid)?, imsi: optional(imsi)? })
}

impl Reader<'_> {
    /// An identifier made of digits. A number would lose its leading zeros, so quotes are needed.
    fn digits<T: for<'t> From<&'t str>>(
        &mut self,
        node: &Node,
        what: &str,
        least: usize,
        most: usize,
    ) -> Option<Located<T>> {
        let text = self.text(node, &format!("an {what}"))?;
        if is_digits(text, least, most) {
            return Some(Located::new(text.into(), self.at(node.span)));
        }
        let help = format!("an {what} is {least} to {most} digits, in quotes");
        self.refuse(node.span, format!("{text:?} is not an {what}"), help)
    }
}

/// True of so many digits and nothing else.
pub(super) fn is_digits(text: &str, least: usize, most: usize) -> bool {
    (least..=most).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
}
