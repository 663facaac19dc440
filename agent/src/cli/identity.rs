//! IMSI, IMEI and ICCID: shown only in part unless somebody asks for them.

use crate::policy::Device;

/// Digits that stay at the front (PLMN of an IMSI, the TAC's first of an IMEI) and at the end.
const KEPT: (usize, usize) = (5, 3);

/// `24201…017`; a short number is not shown at all.
pub(super) fn masked(number: &str) -> String {
    let (front, back) = KEPT;
    let digits: Vec<char> = number.chars().collect();
    if digits.len() < front + back + 3 {
        return "…".to_owned();
    }
    let text = |digits: &[char]| digits.iter().collect::<String>();
    format!("{}…{}", text(&digits[..front]), text(&digits[digits.len() - back..]))
}

/// A document with the identities of a device masked wherever they stand.
pub(super) fn masked_in(text: &str, device: &Device) -> String {
    let profiles = device.profiles.iter().flat_map(|profile| [&profile.iccid, &profile.imsi]);
    let imei = device.imei.iter().map(|imei| imei.value.as_str());
    let mut numbers: Vec<&str> = profiles.flatten().map(|number| number.value.as_str()).chain(imei).collect();
    // An ICCID may hold an IMSI: the longest first.
    numbers.sort_by_key(|number| std::cmp::Reverse(number.len()));
    numbers.iter().fold(text.to_owned(), |text, number| text.replace(number, &masked(number)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{SourceFile, parse};

    #[test]
    fn the_middle_is_hidden() {
        assert_eq!(masked("242017000000017"), "24201…017");
        assert_eq!(masked("24201700"), "…");
        assert_eq!(masked(""), "…");
    }

    #[test]
    fn a_document_shows_no_whole_number() {
        let text = "
apiVersion: bulkhead/v1
kind: Network
metadata: {name: acme}
spec: {seenOn: [{interface: n3}], pools: [10.45.0.0/16]}
---
apiVersion: bulkhead/v1
kind: Device
metadata: {name: charger-0017}
spec:
  network: acme
  addresses: [10.45.0.17]
  profiles: [{iccid: \"8947000000000000017\", imsi: \"242017000000017\"}]
  imei: \"350000000000017\" # 350000000000017
";
        let policy = parse(vec![SourceFile::new("a.yaml", text)], None).unwrap().policy;
        let shown = masked_in(text, policy.devices().values().next().unwrap());
        assert!(shown.contains("imsi: \"24201…017\"}]\n  imei: \"35000…017\" # 35000…017\n"), "{shown}");
        assert!(shown.contains("iccid: \"89470…017\"") && shown.contains("10.45.0.17"), "{shown}");
    }
}
