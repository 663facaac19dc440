//! Packets that arrived at an interface, counted by the kernel of the receiver: what proves that nothing leaked.

use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::sync::Mutex;
use std::sync::PoisonError;

use anyhow::{Context, Result, ensure};

use super::{Namespace, inject, sys};

/// Which packets a witness counts; IPv4 and IPv6, never ARP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Match {
    /// Only packets from this address.
    pub source: Option<IpAddr>,
    /// Only packets to this address.
    pub destination: Option<IpAddr>,
}

/// A packet socket whose filter and counter live in the kernel, so that a burst is counted in full.
#[derive(Debug)]
pub struct Witness {
    socket: OwnedFd,
    seen: Mutex<u64>,
}

impl Witness {
    /// Starts to count what arrives on `interface` inside `namespace` and fits `wanted`.
    pub fn open(namespace: &Namespace, interface: &str, wanted: Match) -> Result<Self> {
        let program = wanted.program()?;
        let (socket, _) = namespace.run(|| inject::packet_socket(interface))??;
        sys::attach_filter(&socket, &program).context("attach a filter to a packet socket")?;
        // What came between the bind and the filter was counted too.
        sys::take_packet_count(&socket).context("reset a packet socket's counter")?;
        Ok(Self { socket, seen: Mutex::new(0) })
    }

    /// Returns how many packets have arrived since the witness was opened.
    pub fn seen(&self) -> Result<u64> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        *seen += u64::from(sys::take_packet_count(&self.socket).context("read a packet socket's counter")?);
        Ok(*seen)
    }
}

/// Offsets from the Ethernet header, where a packet socket's view begins.
struct Layout {
    ether_type: u32,
    source: u32,
    destination: u32,
}

const IPV4: Layout = Layout { ether_type: 0x0800, source: 26, destination: 30 };
const IPV6: Layout = Layout { ether_type: 0x86dd, source: 22, destination: 38 };

/// `SKF_AD_OFF + SKF_AD_PKTTYPE` and `PACKET_OUTGOING` of linux/filter.h and linux/if_packet.h.
const PACKET_TYPE: u32 = 0xffff_f004;
const OUTGOING: u32 = 4;

/// Classic BPF opcodes of linux/filter.h.
const LOAD_WORD: u16 = 0x20;
const LOAD_HALF: u16 = 0x28;
const JUMP_EQUAL: u16 = 0x15;
const RETURN: u16 = 0x06;

impl Match {
    /// Compiles to classic BPF: each comparison jumps to the rejecting last instruction when it fails.
    fn program(self) -> Result<Vec<sys::Instruction>> {
        let layout = self.layout()?;
        let mut checks = vec![(LOAD_HALF, 12, layout.ether_type)];
        checks.extend(self.source.into_iter().flat_map(|ip| words(ip, layout.source)));
        checks.extend(self.destination.into_iter().flat_map(|ip| words(ip, layout.destination)));
        // Type check, comparisons, accept, reject.
        let last = u8::try_from(2 + 2 * checks.len() + 1).context("compile a packet filter")?;
        let mut program = vec![op(LOAD_WORD, 0, 0, PACKET_TYPE), op(JUMP_EQUAL, last - 2, 0, OUTGOING)];
        for (load, at, value) in checks {
            program.push(op(load, 0, 0, at));
            let here = u8::try_from(program.len()).context("compile a packet filter")?;
            program.push(op(JUMP_EQUAL, 0, last - here - 1, value));
        }
        program.extend([op(RETURN, 0, 0, 1), op(RETURN, 0, 0, 0)]);
        Ok(program)
    }

    fn layout(self) -> Result<&'static Layout> {
        let families: Vec<bool> =
            [self.source, self.destination].into_iter().flatten().map(|ip| ip.is_ipv4()).collect();
        ensure!(!families.is_empty(), "a witness needs a source or a destination");
        ensure!(
            families.windows(2).all(|pair| pair[0] == pair[1]),
            "a witness's addresses are of two families"
        );
        Ok(if families[0] { &IPV4 } else { &IPV6 })
    }
}

/// Splits an address into the words that classic BPF can compare.
fn words(address: IpAddr, at: u32) -> Vec<(u16, u32, u32)> {
    let octets = match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    };
    let words = octets.chunks_exact(4).map(|word| u32::from_be_bytes([word[0], word[1], word[2], word[3]]));
    words.zip((at..).step_by(4)).map(|(word, at)| (LOAD_WORD, at, word)).collect()
}

fn op(code: u16, jt: u8, jf: u8, k: u32) -> sys::Instruction {
    sys::Instruction { code, jt, jf, k }
}
