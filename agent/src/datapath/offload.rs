//! VLAN tags must be in the frame: a driver that takes them off hides from XDP which network a frame belongs to.

use anyhow::{Context, Result, ensure};

use super::ethtool::Features;

/// Features by which drivers move the outer tag of a received frame out of it, 802.1Q's and 802.1ad's: as the kernel calls
/// them (net/ethtool/common.c), and as the program `ethtool` does.
const STRIPPING: [(&str, &str); 2] =
    [("rx-vlan-hw-parse", "rxvlan"), ("rx-vlan-stag-hw-parse", "rx-vlan-stag-hw-parse")];

/// Makes an interface of this thread's network namespace leave VLAN tags where the program can read them.
///
/// Says what had to be switched off for that, as `ethtool` calls it.
///
/// # Errors
/// The driver does not let go of it: every tagged frame would be judged as an untagged one.
pub fn keep_vlan_tags(interface: &str) -> Result<Vec<&'static str>> {
    let features = Features::of(interface).with_context(|| format!("read the offloads of {interface}"))?;
    let mut switched = Vec::new();
    for (feature, switch) in STRIPPING {
        if keep_tags(&features, interface, feature, switch)? {
            switched.push(switch);
        }
    }
    Ok(switched)
}

/// True if a feature had to be switched off.
fn keep_tags(features: &Features<'_>, interface: &str, feature: &str, switch: &str) -> Result<bool> {
    let is_on = || features.is_on(feature).with_context(|| format!("read the offloads of {interface}"));
    if !is_on()? {
        return Ok(false);
    }
    let hint = || {
        format!(
            "{interface} takes VLAN tags off before they can be read, so networks on VLANs cannot be told apart: \
             switch it off with `ethtool -K {interface} {switch} off`"
        )
    };
    features.switch_off(feature).with_context(hint)?;
    ensure!(!is_on()?, hint());
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The loopback cannot but loop back: a feature like those of drivers that cannot but take tags off.
    #[test]
    fn a_driver_that_does_not_let_go_is_told_of_with_the_command_to_run() {
        let features = Features::of("lo").unwrap();
        let refusal = keep_tags(&features, "lo", "loopback", "loopback").unwrap_err();
        assert!(format!("{refusal:#}").contains("`ethtool -K lo loopback off`"), "{refusal:#}");
    }

    #[test]
    fn what_is_off_is_left_alone() {
        assert!(keep_vlan_tags("lo").unwrap().is_empty());
    }
}
