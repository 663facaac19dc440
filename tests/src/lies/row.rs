//! Tables that may have lost their rows.

/// A table of which the engine finds no row.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Row {
    /// Networks.
    Network,
    /// Scopes.
    Scope,
    /// Devices.
    Device,
    /// Profiles.
    Profile,
    /// Profiles have rows, and nothing was ever staged there.
    Staged,
    /// Rule sets.
    RuleSet,
    /// Ranges of remote addresses.
    Range,
    /// Reachable profiles.
    Peer,
    /// Ranges of ports.
    Port,
    /// Windows of time.
    Window,
}

impl Row {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Network,
        Self::Scope,
        Self::Device,
        Self::Profile,
        Self::Staged,
        Self::RuleSet,
        Self::Range,
        Self::Peer,
        Self::Port,
        Self::Window,
    ];
}
