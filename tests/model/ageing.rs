//! What is known of a device gets too old while nobody says anything: the engine closes rules by the boot clock, live
//! flows too. The random worlds show it of new conversations; a live flow seldom lasts over such a moment there.

use std::sync::Arc;
use std::time::Duration;

use bulkhead::policy::{Attribute, AttributeKey, Attributes, Ids, Name, Source, compile};
use bulkhead::tables::{Image, Tables};
use bulkhead_common::abi::value::{PORT_AGES, PORT_OPEN};
use bulkhead_common::verdict::{DropReason, Pass, Verdict};
use tests::frame::eth;
use tests::generate::World;

const POLICY: &str = r"
apiVersion: bulkhead/v1
kind: Network
metadata: {name: acme}
spec: {seenOn: [{interface: acc0}, {interface: core0}], pools: [10.45.0.0/16]}
---
kind: Device
metadata: {name: charger}
spec: {network: acme, addresses: [10.45.0.17]}
---
kind: Policy
metadata: {name: ev}
spec:
  subject: {device: charger}
  allow:
    - {name: home, to: {cidrs: [203.0.113.10]}, ports: [udp/443], when: {location: {country: ['NO'], maxAge: 1m}}}
    - {name: slow, to: {cidrs: [203.0.113.11]}, ports: [udp/443], when: {rat: [lte-m], maxAge: 1h}}
    - {name: always, to: {cidrs: [203.0.113.12]}, ports: [udp/443]}
";

const SECOND: u64 = 1_000_000_000;
/// The boot clock is that far ahead.
const BOOTED: u64 = 1_000 * SECOND;
const HOME: [u8; 4] = [203, 0, 113, 10];
const SLOW: [u8; 4] = [203, 0, 113, 11];
const ALWAYS: [u8; 4] = [203, 0, 113, 12];

/// The tables of a host on which both were said when the test's clock began.
fn tables() -> Tables {
    let mut world = World::written(POLICY);
    let said = |value: &str| Attribute {
        value: value.to_owned(),
        source: Source::Api,
        age: Some(Duration::ZERO),
        said_ms: Some((BOOTED / 1_000_000).cast_signed()),
    };
    let known = Attributes::from([(AttributeKey::Plmn, said("24201")), (AttributeKey::Rat, said("lte-m"))]);
    world.policy.observe([(Name::new("charger").expect("a name"), known)].into());
    compile(&world.policy, &world.agent, &world.host, &mut Ids::default()).expect("a policy").tables
}

fn at(image: &Image, seconds: u64, to: [u8; 4]) -> Verdict {
    image.set_now(seconds * SECOND, BOOTED + seconds * SECOND);
    image.judge(&eth().ip([10, 45, 0, 17], to).udp(50_000, 443).payload(b"?").build(), 11).0
}

#[test]
fn a_live_flow_ends_when_what_it_holds_by_is_too_old() {
    let image = Image::new(&tables());
    for to in [HOME, SLOW, ALWAYS] {
        assert_eq!(at(&image, 1, to), Verdict::Pass(Pass::Opened));
    }
    // The agent has five seconds to do it itself.
    for to in [HOME, SLOW, ALWAYS] {
        assert_eq!(at(&image, 64, to), Verdict::Pass(Pass::Established));
    }
    assert_eq!(at(&image, 65, HOME), Verdict::Drop(DropReason::ConditionPlace));
    assert_eq!(
        at(&image, 65, SLOW),
        Verdict::Drop(DropReason::ConditionPlace),
        "the first takes along what ages"
    );
    assert_eq!(at(&image, 65, ALWAYS), Verdict::Pass(Pass::Established));
}

#[test]
fn a_flow_that_is_not_judged_again_would_be_noticed() {
    let mut tables = tables();
    for rules in tables.profiles.values_mut() {
        let ports = Arc::make_mut(rules).outbound.iter_mut().flat_map(|remote| &mut remote.ports);
        ports.filter(|port| port.closed == PORT_AGES).for_each(|port| port.closed = PORT_OPEN);
    }
    let image = Image::new(&tables);
    assert_eq!(at(&image, 1, HOME), Verdict::Pass(Pass::Opened));
    assert_eq!(at(&image, 66, HOME), Verdict::Pass(Pass::Established));
}
