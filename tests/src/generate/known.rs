//! What is known of the devices of a world beside their documents, and what rules demand of them.

use std::collections::BTreeMap;
use std::time::Duration;

use bulkhead::policy::{Attribute, AttributeKey, Attributes, Name, Policy, Source};

use super::{Random, SLEPT};

/// Labels of documents and what is observed: versions in an order of their own, and one that is none.
pub(super) const FIRMWARES: [&str; 7] = ["2.3", "2.4", "2.10", "2.4-rc1", "v3", "3.0-rc1", "R12"];

const OBSERVED: [(&str, &[&str]); 6] = [
    ("firmware", &FIRMWARES),
    ("plmn", &["24201", "24001", "90128"]),
    ("trackingArea", &["24201-1a2b", "24002-1a2b"]),
    ("cell", &["24201-0a1b2c3", "24002-00a1b2c3d"]),
    ("rat", &["lte-m", "nb-iot", "nr"]),
    ("imei", &["350000000000017", "3500000000000199", "351111110000019"]),
];

/// The boot clock when the traffic's own begins.
const BOOTED_MS: i64 = (SLEPT / 1_000_000) as i64;

/// Around the age that rules bear.
const AGES: [u64; 6] = [0, 0, 60, 590, 3600, 3601];

const WHEN: [&str; 19] = [
    // What holds of many, for a time.
    "rat: [lte-m, nb-iot, nr], maxAge: 10m",
    "rat: [lte-m, nb-iot, nr], maxAge: 1m",
    "location: {plmn: [\"24201\", \"24001\", \"24002\", \"90128\"]}, maxAge: 1h",
    "location: {plmn: [\"24201\", \"24001\", \"24002\", \"90128\"]}, maxAge: 2m",
    "labels: {firmware: {in: [\"2.3\", \"2.4\", \"2.10\", 2.4-rc1, v3, 3.0-rc1, R12]}}, maxAge: 10m",
    "labels: {class: {in: [camera, recorder, charger]}}",
    "labels: {firmware: {atLeast: \"2.4\"}}",
    "labels: {firmware: {atLeast: \"2.4-rc1\"}}",
    "labels: {firmware: {below: \"3\"}}",
    "labels: {firmware: {atLeast: \"2.4\", below: \"2.10\", maxAge: 1h}}",
    "labels: {firmware: {in: [\"2.3\", R12, v3]}}",
    "labels: {site: {is: oslo}}, maxAge: 1h",
    "location: {country: [\"NO\"]}",
    "location: {plmn: [\"24201\", \"24001\"], maxAge: 1h}",
    "location: {trackingArea: [24201-1a2b], country: [\"NO\", SE]}",
    "location: {cell: [24201-0a1b2c3, 24002-00a1b2c3d]}, rat: [lte-m, nb-iot]",
    "rat: [nr]",
    "imei: {tac: [\"35000000\"]}",
    "labels: {firmware: {atLeast: \"2.4\"}}, imei: {in: [\"350000000000017\"]}, rat: [lte-m], maxAge: 1h",
];

/// What a rule demands.
pub(super) fn when(random: &mut Random) -> &'static str {
    random.pick::<&str>(&WHEN)
}

/// Draws what is known of each device.
pub(super) fn draw(random: &mut Random, policy: &Policy) -> BTreeMap<Name, Attributes> {
    policy.devices().keys().map(|name| (name.clone(), of_one(random))).collect()
}

/// Draws what is known of one device.
pub(super) fn of_one(random: &mut Random) -> Attributes {
    let mut known = Attributes::new();
    for (key, values) in OBSERVED {
        if random.chance(65) {
            let key = AttributeKey::new(key).expect("an attribute");
            let value: &str = random.pick::<&str>(values);
            let value = key.normal(value).expect("a value");
            let age = random.chance(80).then(|| Duration::from_secs(*random.pick(&AGES)));
            // Of what nobody knows when it was said, nothing gets too old by itself.
            let said = age.filter(|_| random.chance(85)).map(|age| BOOTED_MS - age.as_millis() as i64);
            known.insert(key, Attribute { value, source: Source::Api, age, said_ms: said });
        }
    }
    known
}
