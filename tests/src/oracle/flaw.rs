//! Ways in which the oracle can be wrong.

/// One deliberate mistake. Each is a bug that a firewall has had somewhere.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Flaw {
    /// Takes every frame for an untagged one.
    IgnoresTags,
    /// Takes off one tag only.
    IgnoresInnerTag,
    /// Believes that every IPv4 header has twenty bytes.
    IgnoresOptions,
    /// Believes that a packet goes where its header says.
    IgnoresSourceRoutes,
    /// Takes a fragment for a whole packet.
    IgnoresFragments,
    /// Believes that an IPv6 header is followed by the transport.
    IgnoresExtensions,
    /// Reads a datagram up to the end of the frame.
    IgnoresUdpLength,
    /// Leaves the last port of a range out.
    EndsRangesEarly,
    /// Leaves the last address of a prefix out.
    EndsPrefixesEarly,
    /// Has no inbound rules.
    ForgetsInbound,
    /// Has no never lists.
    ForgetsNever,
    /// Asks only the sender for its never list.
    ForgetsPeersNever,
    /// Lets a wide destination reach into pools and infrastructure.
    ForgetsCuts,
    /// Lets a rule between two ends work both ways.
    SwapsEnds,
    /// Does not compare labels of the two ends.
    ForgetsSameLabels,
    /// Believes the source address, wherever it comes from.
    ForgetsBindings,
    /// Lets the same conversation come from elsewhere.
    ForgetsEntry,
    /// Keeps no state: replies need rules.
    ForgetsConversations,
    /// Lets conversations live for ever.
    ForgetsIdle,
    /// Lets the core open a TCP conversation by any segment.
    ForgetsSyn,
    /// Lets the called side open a TCP connection on live state.
    ForgetsResponderSyn,
    /// Takes every echo reply for the one that was asked for.
    ForgetsEchoId,
    /// Takes half-open connections for established ones.
    ForgetsHalfOpen,
    /// Believes what ARP and neighbour discovery claim.
    BelievesNeighbours,
    /// Lets unknown SIMs through as transit.
    PassesUnknownDevices,
    /// Mixes networks that use the same addresses.
    MixesNetworks,
    /// Lets anybody send to a GTP-U endpoint.
    BelievesPeers,
    /// Takes eight bytes for every GTP-U header.
    IgnoresGtpuOptions,
    /// Takes four bytes for every GTP-U extension header.
    SkipsFixedExtensions,
    /// Finds a tunnel's network by address alone.
    IgnoresTeids,
    /// Lets a device come through any tunnel.
    ForgetsTunnels,
    /// Lets GTP-U pass inside a tunnel.
    IgnoresNesting,
    /// Lets fragments reach an endpoint.
    IgnoresOuterFragments,
    /// Lets a wide rule open the core's own protocols.
    OpensControl,
    /// Lets fragments pass where the network drops them.
    PassesFragments,
    /// Lets a fragment overlap those before it.
    IgnoresOverlaps,
    /// Lets a device begin as many datagrams as it likes.
    ForgetsFragmentQuota,
    /// Takes pieces for those of a datagram wherever they enter.
    MixesPieces,
    /// Lets other headers stand before the transport header in a first piece.
    ShiftsHeaders,
    /// Forgets that a datagram has headers when it asks whether it is too long.
    ForgetsLongest,
    /// Lets options pass.
    PassesOptions,
    /// Lets an error be told to anybody.
    ReportsToAnybody,
    /// Lets a device tell another about what that one says to others.
    ReportsOfOthers,
    /// Tells of a device to device conversation only the side that has begun it.
    ForgetsCalledSenders,
    /// Lets errors flood a device.
    ForgetsErrorRate,
    /// Does not know that there is anything behind a device.
    ForgetsLans,
    /// Opens everything behind a device with the device.
    OpensLans,
    /// Opens the device too where a rule is about what lies behind it.
    OpensDeviceToo,
    /// Lets a device claim on its link what lies behind it.
    BelievesLans,
    /// Lets an entry that spans tunnels open them.
    OpensTunnels,
    /// Takes an authentication header for an extension header, and what is in it for the packet.
    LooksBehindAh,
    /// Lets a rule reach through a translator what it does not reach itself.
    ForgetsTranslators,
    /// Lets a rule reach the broadcast addresses of the host's links.
    ForgetsBroadcasts,
    /// Has no timeouts of a network.
    ForgetsTimeouts,
    /// Lets whoever sends keep a conversation alive.
    BelievesOutsiders,
    /// Takes a connection for closed when one side has closed it.
    ClosesAtOnce,
    /// Has no quarantine.
    ForgetsQuarantine,
    /// Forgets that a quarantine ends.
    KeepsQuarantine,
    /// Asks only for the sender's quarantine.
    ForgetsPeersQuarantine,
    /// Leaves every device in quarantine its repair.
    RepairsUnasked,
    /// Lets every rule hold for every device.
    ForgetsConditions,
    /// Bears any age.
    ForgetsAges,
    /// Takes 2.10 for less than 2.4.
    ComparesVersionsAsText,
    /// Knows of devices only what their documents say.
    BelievesDocuments,
    /// Lets a closed rule keep a wider one from opening.
    ClosesWhatIsOpen,
    /// Lets nothing get too old while nobody says anything.
    NeverAges,
    /// Has no limits of packets and bits.
    ForgetsRates,
    /// Has no limit of new conversations in a second.
    ForgetsFlowRates,
    /// Has no limit of conversations at once.
    ForgetsQuotas,
    /// Lets what is sent to a device use up what it may send.
    ChargesBothWays,
    /// Charges what is refused, too.
    ChargesRefused,
    /// Charges what devices send each other to the receiver.
    ChargesNeighbours,
    /// Lets one more come at once than in a second.
    LetsOneMore,
    /// Takes bits per second for bytes per second.
    TakesBitsForBytes,
    /// Keeps the places of conversations that have ended.
    KeepsPlaces,
    /// Drops what is only to be observed.
    ForgetsObserving,
    /// Only observes devices of segments that are stricter, and those that are enforced first.
    LoosensSegments,
    /// Lets pass what `never` forbids because nobody enforces rules.
    ObservesNever,
    /// Asks only the sender whether it is observed.
    AsksOneEnd,
    /// Only observes devices in quarantine.
    ObservesQuarantine,
    /// Only observes what goes to devices of another network.
    LeavesNetworks,
    /// Takes what comes from outside for a beginning although it may be an answer.
    GuessesWhoBegan,
    /// Judges where others have judged already.
    JudgesAsWitness,
    /// Drops what it cannot read where it should only look on.
    DropsAsWitness,
    /// Believes that whatever comes by was let through.
    NeverRings,
    /// Looks only for what the sender has begun.
    AsksSendersOnly,
    /// Takes pieces and errors for what nobody let through.
    RingsOfPieces,
    /// Forgets where it looks on that others only observe.
    RingsOfObserved,
    /// Rings of what was on its way when its conversation ended.
    ForgetsTheWay,
    /// Charges what only comes by.
    ChargesTwice,
    /// Takes what leaves to devices for what they send.
    TakesLeavingForEntering,
    /// Judges what this host sends where it may send what it likes.
    ForgetsOwn,
    /// Lets what this host passes on go as its own.
    TakesForwardedForOwn,
    /// Lets this host send what it likes everywhere.
    ForgetsFromHost,
    /// Does not know what was said of the packet core; about no frame, so not in `ALL`.
    ForgetsHairpin,
    /// Holds every rule to be open at any time.
    ForgetsTime,
    /// Lets conversations go on behind the end of what allows them.
    ForgetsClosing,
    /// Ends hours at midnight.
    ForgetsMidnight,
    /// Has no exceptions.
    ForgetsExceptions,
    /// Knows one zone only.
    ForgetsZones,
}

impl Flaw {
    /// All of them.
    pub const ALL: [Self; 99] = [
        Self::IgnoresTags,
        Self::IgnoresInnerTag,
        Self::IgnoresOptions,
        Self::IgnoresSourceRoutes,
        Self::IgnoresFragments,
        Self::IgnoresExtensions,
        Self::IgnoresUdpLength,
        Self::EndsRangesEarly,
        Self::EndsPrefixesEarly,
        Self::ForgetsInbound,
        Self::ForgetsNever,
        Self::ForgetsPeersNever,
        Self::ForgetsCuts,
        Self::SwapsEnds,
        Self::ForgetsSameLabels,
        Self::ForgetsBindings,
        Self::ForgetsEntry,
        Self::ForgetsConversations,
        Self::ForgetsIdle,
        Self::ForgetsSyn,
        Self::ForgetsResponderSyn,
        Self::ForgetsEchoId,
        Self::ForgetsHalfOpen,
        Self::BelievesNeighbours,
        Self::PassesUnknownDevices,
        Self::MixesNetworks,
        Self::BelievesPeers,
        Self::IgnoresGtpuOptions,
        Self::SkipsFixedExtensions,
        Self::IgnoresTeids,
        Self::ForgetsTunnels,
        Self::IgnoresNesting,
        Self::IgnoresOuterFragments,
        Self::OpensControl,
        Self::PassesFragments,
        Self::IgnoresOverlaps,
        Self::ForgetsFragmentQuota,
        Self::MixesPieces,
        Self::ShiftsHeaders,
        Self::ForgetsLongest,
        Self::PassesOptions,
        Self::ReportsToAnybody,
        Self::ReportsOfOthers,
        Self::ForgetsCalledSenders,
        Self::ForgetsErrorRate,
        Self::ForgetsLans,
        Self::OpensLans,
        Self::OpensDeviceToo,
        Self::BelievesLans,
        Self::OpensTunnels,
        Self::LooksBehindAh,
        Self::ForgetsTranslators,
        Self::ForgetsBroadcasts,
        Self::ForgetsTimeouts,
        Self::BelievesOutsiders,
        Self::ClosesAtOnce,
        Self::ForgetsQuarantine,
        Self::KeepsQuarantine,
        Self::ForgetsPeersQuarantine,
        Self::RepairsUnasked,
        Self::ForgetsConditions,
        Self::ForgetsAges,
        Self::ComparesVersionsAsText,
        Self::BelievesDocuments,
        Self::ClosesWhatIsOpen,
        Self::NeverAges,
        Self::ForgetsRates,
        Self::ForgetsFlowRates,
        Self::ForgetsQuotas,
        Self::ChargesBothWays,
        Self::ChargesRefused,
        Self::ChargesNeighbours,
        Self::LetsOneMore,
        Self::TakesBitsForBytes,
        Self::KeepsPlaces,
        Self::ForgetsObserving,
        Self::LoosensSegments,
        Self::ObservesNever,
        Self::AsksOneEnd,
        Self::ObservesQuarantine,
        Self::LeavesNetworks,
        Self::GuessesWhoBegan,
        Self::JudgesAsWitness,
        Self::DropsAsWitness,
        Self::NeverRings,
        Self::AsksSendersOnly,
        Self::RingsOfPieces,
        Self::RingsOfObserved,
        Self::ForgetsTheWay,
        Self::ChargesTwice,
        Self::TakesLeavingForEntering,
        Self::ForgetsOwn,
        Self::TakesForwardedForOwn,
        Self::ForgetsFromHost,
        Self::ForgetsTime,
        Self::ForgetsClosing,
        Self::ForgetsMidnight,
        Self::ForgetsExceptions,
        Self::ForgetsZones,
    ];
}
