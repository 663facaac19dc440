//! IPsec: what is decrypted is shown to a program behind the Ethernet header with which it came encrypted.

use anyhow::{Result, ensure};
use bulkhead::datapath::link_type;
use bulkhead_common::case::LinkType;
use tests::command::run;
use tests::frame::{bare, eth};

use super::host::{Guarded, LOCAL, PEER};
use super::{IPIP, inside};

const ESP: u8 = 50;
const ETHERNET: usize = 14;
/// The association; it encrypts nothing, and so anybody can write its packets.
const SPI: u32 = 7;

#[test]
fn what_comes_by_an_xfrm_interface_is_judged_inside() -> Result<()> {
    let Some(mut host) = Guarded::start("link add tunl7 type xfrm dev lo if_id 7")? else { return Ok(()) };
    run(&format!(
        "ip xfrm state add src {PEER} dst {LOCAL} proto esp spi {SPI} mode tunnel if_id 7 enc ecb(cipher_null) "
    ))?;
    ensure!(link_type("tunl7")? == LinkType::Ethernet);
    host.guard("tunl7", LinkType::Ethernet)?;
    for (packet, verdict) in inside(bare) {
        let frame = eth().to_mac(host.mac).ip(PEER, LOCAL).protocol(ESP).payload(&encrypted(&packet)).build();
        host.expect("tunl7", &frame, verdict, ETHERNET + packet.len())?;
    }
    Ok(())
}

/// RFC 4303: association and number in front; behind the packet what fills up words, how much that is, and a protocol.
fn encrypted(packet: &[u8]) -> Vec<u8> {
    const NUMBER: u32 = 1;
    let filling = packet.len().wrapping_neg().wrapping_sub(2) % 4;
    let head = [SPI.to_be_bytes(), NUMBER.to_be_bytes()].concat();
    [&head, packet, &[1, 2, 3][..filling], &[filling as u8, IPIP]].concat()
}
