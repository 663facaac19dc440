//! Source translation on a router, as a packet core's installer sets it up: one nftables rule, by netlink.

use std::fs::File;
use std::io::{Read as _, Write as _};

use anyhow::{Context as _, Result, ensure};
use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};

use crate::netns::Namespace;

/// Makes a namespace translate the source of whatever leaves it (`masquerade` in postrouting).
///
/// # Errors
/// The kernel's.
pub fn masquerade(namespace: &Namespace) -> Result<()> {
    let opened = namespace.run(|| {
        let protocol = Some(SockProtocol::NetlinkNetFilter);
        socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)
    })??;
    let mut link = File::from(opened);
    link.write_all(&batch()).context("ask for masquerade")?;
    let mut answer = [0; 4096];
    let length = link.read(&mut answer).context("hear of masquerade")?;
    let code = answer.get(16..20).filter(|_| length >= 20).context("a short answer")?;
    ensure!(code == [0; 4], "the kernel refuses masquerade: {:?}", i32::from_ne_bytes(code.try_into()?));
    Ok(())
}

/// linux/netfilter/nfnetlink.h and nf_tables.h.
const BATCH_BEGIN: u16 = 16;
const BATCH_END: u16 = 17;
const NFTABLES: u16 = 10;
const NEW_TABLE: u16 = NFTABLES << 8;
const NEW_CHAIN: u16 = (NFTABLES << 8) | 3;
const NEW_RULE: u16 = (NFTABLES << 8) | 6;
const REQUEST: u16 = 1;
const ACK: u16 = 4;
const CREATE: u16 = 0x400;
const IPV4: u8 = 2;
const POSTROUTING: u32 = 4;
const SOURCE_NAT: u32 = 100;

fn batch() -> Vec<u8> {
    let hook = [attribute(1, &POSTROUTING.to_be_bytes()), attribute(2, &SOURCE_NAT.to_be_bytes())].concat();
    let chain = [text(1, "lab-nat"), text(3, "out"), attribute(4, &hook), text(7, "nat")].concat();
    let expressions = attribute(1, &text(1, "masq"));
    let rule = [text(1, "lab-nat"), text(2, "out"), attribute(4, &expressions)].concat();
    [
        message(BATCH_BEGIN, REQUEST, 0, &[]),
        message(NEW_TABLE, REQUEST | CREATE, IPV4, &text(1, "lab-nat")),
        message(NEW_CHAIN, REQUEST | CREATE, IPV4, &chain),
        message(NEW_RULE, REQUEST | CREATE | ACK, IPV4, &rule),
        message(BATCH_END, REQUEST, 0, &[]),
    ]
    .concat()
}

fn message(kind: u16, flags: u16, family: u8, attributes: &[u8]) -> Vec<u8> {
    let subsystem = if family == 0 { NFTABLES } else { 0 };
    let length = u32::try_from(20 + attributes.len()).unwrap_or(u32::MAX);
    let mut bytes = length.to_ne_bytes().to_vec();
    bytes.extend([kind.to_ne_bytes(), flags.to_ne_bytes()].concat());
    bytes.extend([0; 8]);
    bytes.extend([family, 0]);
    bytes.extend(subsystem.to_be_bytes());
    bytes.extend(attributes);
    bytes
}

fn text(kind: u16, text: &str) -> Vec<u8> {
    attribute(kind, &[text.as_bytes(), &[0]].concat())
}

fn attribute(kind: u16, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(4 + body.len()).unwrap_or(u16::MAX);
    let mut bytes = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
    bytes.extend(body);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}
