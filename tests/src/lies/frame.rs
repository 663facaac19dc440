//! Frames that show the parser other bytes than they hold.
#![expect(clippy::wildcard_enum_match_arm, reason = "a lie touches one thing and leaves the rest")]

use bulkhead_common::frame::Frame;

/// What the parser is made to overlook.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum FrameLie {
    /// Every IPv4 header has twenty bytes.
    Ihl,
    /// No IPv4 packet is a fragment.
    Fragment,
    /// VLAN numbers have eight bits.
    VlanNumber,
    /// The second tag has number 0.
    InnerVlan,
    /// Ports have eight bits.
    PortHigh,
    /// Every TCP segment is an acknowledgement.
    TcpFlags,
    /// The source address is its neighbour.
    Source,
    /// Every hop limit is 255.
    HopLimit,
    /// Frames are eight bytes longer than they are.
    Length,
    /// The first extension header is not one.
    Extension,
    /// Every frame comes from the same station.
    Mac,
    /// Echoes have no identifier.
    EchoId,
    /// UDP lengths always fit.
    UdpLength,
    /// ARP senders never claim another station's MAC address.
    ArpMac,
    /// TCP's data offset is always five.
    TcpOffset,
    /// A third tag is IPv4.
    ThirdTag,
    /// GTP-U never has optional fields.
    GtpuOptions,
    /// Every GTP-U extension header has one word.
    GtpuExtensionLength,
    /// The first GTP-U extension header is known.
    GtpuExtensionType,
    /// TEIDs have 31 bits, without the lowest.
    GtpuTeid,
    /// Every GTP-U message is a packet.
    GtpuMessage,
    /// Every GTP-U header is of version 1.
    GtpuVersion,
    /// GTP' is GTP.
    GtpuPrime,
    /// GTP-U is no tunnel.
    GtpuPort,
    /// GTP-U lengths always fit.
    GtpuLength,
    /// Every datagram in pieces has the same number.
    FragmentId,
    /// No fragments follow.
    FragmentMore,
    /// Fragment offsets have eight bits.
    FragmentOffset,
    /// An IPv6 fragment header says nothing.
    FragmentHeader,
    /// Source quench, redirects and the like are errors.
    IcmpType,
    /// A packet inside an error has ports of eight bits.
    IcmpErrorPort,
    /// A packet inside an error is never a later fragment.
    IcmpErrorFragment,
    /// Every IPv6 extension header has eight bytes.
    ExtensionLength,
    /// An authentication header is walked as if it counted its length like the others.
    AuthenticationUnits,
    /// What pads a frame belongs to the IPv4 packet.
    Padding,
    /// What pads a frame belongs to the IPv6 packet.
    PaddingV6,
}

impl FrameLie {
    /// All of them.
    pub const ALL: [Self; 36] = [
        Self::Ihl,
        Self::Fragment,
        Self::VlanNumber,
        Self::InnerVlan,
        Self::PortHigh,
        Self::TcpFlags,
        Self::Source,
        Self::HopLimit,
        Self::Length,
        Self::Extension,
        Self::Mac,
        Self::EchoId,
        Self::UdpLength,
        Self::ArpMac,
        Self::TcpOffset,
        Self::ThirdTag,
        Self::GtpuOptions,
        Self::GtpuExtensionLength,
        Self::GtpuExtensionType,
        Self::GtpuTeid,
        Self::GtpuMessage,
        Self::GtpuVersion,
        Self::GtpuPrime,
        Self::GtpuPort,
        Self::GtpuLength,
        Self::FragmentId,
        Self::FragmentMore,
        Self::FragmentOffset,
        Self::FragmentHeader,
        Self::IcmpType,
        Self::IcmpErrorPort,
        Self::IcmpErrorFragment,
        Self::ExtensionLength,
        Self::AuthenticationUnits,
        Self::Padding,
        Self::PaddingV6,
    ];
}

/// A frame with a few bytes painted over.
#[derive(Debug)]
pub struct LyingFrame<'f> {
    bytes: &'f [u8],
    longer: u32,
    paint: Vec<(usize, u8)>,
}

impl<'f> LyingFrame<'f> {
    /// Paints a frame.
    pub fn new(bytes: &'f [u8], lie: FrameLie) -> Self {
        let longer = if lie == FrameLie::Length { 8 } else { 0 };
        Self { bytes, longer, paint: paint(bytes, lie).unwrap_or_default() }
    }
}

impl Frame for LyingFrame<'_> {
    fn len(&self) -> u32 {
        Frame::len(self.bytes) + self.longer
    }

    fn load<const N: usize>(&self, at: u32) -> Option<[u8; N]> {
        // What a frame that claims to be longer shows behind its end.
        let mut shown = if self.longer > 0 {
            let held = self.bytes.get(at as usize..).unwrap_or_default();
            let mut shown = [0; N];
            let fits = at + N as u32 <= self.len();
            held.iter().take(N).enumerate().for_each(|(index, byte)| shown[index] = *byte);
            fits.then_some(shown)?
        } else {
            self.bytes.load(at)?
        };
        for (position, value) in &self.paint {
            if let Some(byte) = position.checked_sub(at as usize).and_then(|index| shown.get_mut(index)) {
                *byte = *value;
            }
        }
        Some(shown)
    }
}

/// Which bytes to paint over, by position; nothing if the frame has no such header.
fn paint(bytes: &[u8], lie: FrameLie) -> Option<Vec<(usize, u8)>> {
    let mut network = 14;
    let mut tags = 0;
    while matches!(bytes.get(network - 2..network)?, [0x81, 0] | [0x88, 0xa8]) {
        network += 4;
        tags += 1;
    }
    let v4 = bytes.get(network - 2..network)? == [8, 0];
    let v6 = bytes.get(network - 2..network)? == [0x86, 0xdd];
    let (protocol, transport) = match () {
        () if v4 => (*bytes.get(network + 9)?, network + usize::from(bytes[network] & 15) * 4),
        () if v6 => (*bytes.get(network + 6)?, network + 40),
        () => (0, network),
    };
    let ported = matches!(protocol, 6 | 17 | 132);
    let tunnel = transport + 8;
    let gtpu = protocol == 17 && bytes.get(transport + 2..transport + 4) == Some(&[8, 104]);
    let byte = |at: usize| bytes.get(at).copied().unwrap_or_default();
    let error = protocol == 1 && matches!(byte(transport), 3 | 11 | 12);
    let inside = transport + 8;
    let chained = gtpu && byte(tunnel) & 4 != 0;
    Some(match lie {
        FrameLie::Ihl if v4 => vec![(network, 0x45)],
        FrameLie::Fragment if v4 => vec![(network + 6, 0), (network + 7, 0)],
        FrameLie::VlanNumber if tags > 0 => vec![(14, 0)],
        FrameLie::InnerVlan if tags == 2 => vec![(18, 0), (19, 0)],
        FrameLie::PortHigh if ported => vec![(transport + 2, 0)],
        FrameLie::TcpFlags if protocol == 6 => vec![(transport + 13, 0x10)],
        FrameLie::Source if v4 => vec![(network + 15, bytes.get(network + 15)? ^ 1)],
        FrameLie::HopLimit if v6 => vec![(network + 7, 255)],
        FrameLie::Extension if v6 && matches!(protocol, 0 | 43 | 60) => vec![(network + 6, 59)],
        FrameLie::Mac => vec![(11, 0x10)],
        FrameLie::EchoId if matches!(protocol, 1 | 58) => vec![(transport + 4, 0), (transport + 5, 0)],
        FrameLie::UdpLength if protocol == 17 => vec![(transport + 4, 0), (transport + 5, 8)],
        FrameLie::ArpMac => (0..6).map(|at| (network + 8 + at, bytes[6 + at])).collect(),
        FrameLie::TcpOffset if protocol == 6 => vec![(transport + 12, 0x50)],
        FrameLie::ThirdTag if tags == 3 => vec![(20, 8), (21, 0)],
        FrameLie::GtpuOptions if gtpu => vec![(tunnel, byte(tunnel) & 0xf8)],
        FrameLie::GtpuExtensionLength if chained => vec![(tunnel + 12, 1)],
        FrameLie::GtpuExtensionType if chained => vec![(tunnel + 11, 0x85)],
        FrameLie::GtpuTeid if gtpu => vec![(tunnel + 7, byte(tunnel + 7) & 0xfe)],
        FrameLie::GtpuMessage if gtpu => vec![(tunnel + 1, 255)],
        FrameLie::GtpuVersion if gtpu => vec![(tunnel, byte(tunnel) & 0x1f | 0x20)],
        FrameLie::GtpuPrime if gtpu => vec![(tunnel, byte(tunnel) | 0x10)],
        FrameLie::GtpuPort if gtpu => vec![(transport + 3, 105)],
        FrameLie::GtpuLength if gtpu => vec![(tunnel + 2, 0), (tunnel + 3, 20)],
        FrameLie::FragmentId if v4 => vec![(network + 4, 0), (network + 5, 7)],
        FrameLie::FragmentMore if v4 => vec![(network + 6, byte(network + 6) & 0xdf)],
        FrameLie::FragmentOffset if v4 => vec![(network + 6, byte(network + 6) & 0xe0)],
        FrameLie::FragmentHeader if v6 && protocol == 44 => vec![(transport + 2, 0), (transport + 3, 0)],
        FrameLie::IcmpType if protocol == 1 && matches!(byte(transport), 4 | 5) => vec![(transport, 3)],
        FrameLie::IcmpErrorPort if error => vec![(inside + 22, 0)],
        FrameLie::ExtensionLength if v6 && matches!(protocol, 0 | 43 | 60) => vec![(transport + 1, 0)],
        FrameLie::AuthenticationUnits if v6 && protocol == 51 => vec![(network + 6, 60)],
        FrameLie::Padding if v4 => number(network + 2, bytes.len() - network),
        FrameLie::PaddingV6 if v6 => number(network + 4, bytes.len().saturating_sub(transport)),
        FrameLie::IcmpErrorFragment if error => vec![(inside + 6, 0), (inside + 7, 0)],
        _ => Vec::new(),
    })
}

/// Two bytes in network order.
fn number(at: usize, value: usize) -> Vec<(usize, u8)> {
    let [high, low] = u16::try_from(value).unwrap_or(u16::MAX).to_be_bytes();
    vec![(at, high), (at + 1, low)]
}
