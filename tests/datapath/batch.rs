//! Many addresses by one system call: what it leads to, and what it leaves behind when the kernel stops inside.

use anyhow::{Result, ensure};
use bulkhead::datapath::Isolated;
use bulkhead::reconcile::{Op, Reconciler, Rows};
use bulkhead::tables::{Capacities, Owner, Tables};
use bulkhead_common::abi::value::ROLE_ACCESS;
use bulkhead_common::abi::{Addr, AddressKey, Device, DeviceId, ProfileId};
use tests::kernel::privilege;
use tests::small::{self, NETWORK};

/// More than two system calls' worth.
const MANY: u32 = 10_000;

fn key(number: u32) -> AddressKey {
    let [a, b, c, d] = (0x0a2d_0000 + number).to_be_bytes();
    AddressKey::host(NETWORK, Addr::from_v4([a, b, c, d]))
}

/// Devices that are treated alike, an address each.
fn fleet(devices: u32) -> Tables {
    let mut tables = small::tables(&[(3, ROLE_ACCESS)], &[(1, 443)]);
    for id in (1..=devices).map(DeviceId) {
        tables.devices.insert(id, Device::unbound(id, NETWORK, ProfileId(1)));
        tables.addresses.insert(key(id.0), Owner { device: id, ..Owner::default() });
    }
    tables
}

fn room(addresses: u32) -> Result<Isolated> {
    Isolated::load(&Capacities { addresses, flows: 1024, ..Capacities::default() })
}

/// What the kernel's rows say, whoever wrote them.
fn read(isolated: &mut Isolated) -> Result<String> {
    Ok(format!("{:?}", Reconciler::observe(isolated.rows())?.state()))
}

#[test]
fn many_at_once_lead_to_what_one_by_one_lead_to() -> Result<()> {
    if !privilege::granted() {
        return Ok(());
    }
    let (mut batched, mut single) = (room(MANY + 16)?, room(MANY + 16)?);
    let reconciler = Reconciler::observe(batched.rows())?;
    let (ops, _) = bulkhead::reconcile::plan(reconciler.state(), &fleet(MANY))?;
    batched.rows().perform_all(&ops)?;
    ops.iter().try_for_each(|op| single.rows().perform(op))?;
    assert_eq!(read(&mut batched)?, read(&mut single)?);
    assert_eq!(batched.rows().addresses()?.len(), MANY as usize);
    Ok(())
}

#[test]
fn a_batch_that_the_kernel_performs_in_part_leaves_in_force_what_was() -> Result<()> {
    if !privilege::granted() {
        return Ok(());
    }
    let mut isolated = room(64)?;
    let mut reconciler = Reconciler::observe(isolated.rows())?;
    reconciler.apply(isolated.rows(), &fleet(8))?;
    let (before, epoch) = (format!("{:?}", reconciler.state().devices), isolated.rows().epoch());
    // Somebody takes room that the plan counts on: the batch finds no more in its middle.
    let foreign: Vec<AddressKey> = (1_000..1_020).map(key).collect();
    let mut foreign_inserts = foreign.iter().map(|key| Op::InsertAddress { key: *key, slot: 63, value: 0 });
    foreign_inserts.try_for_each(|op| isolated.rows().perform(&op))?;
    let error = reconciler.apply(isolated.rows(), &fleet(60)).map(drop).unwrap_err();
    ensure!(format!("{error:#}").contains("insert into ADDRESSES"), "{error:#}");
    let inserted = isolated.rows().addresses()?.len();
    ensure!(inserted > 8 + foreign.len(), "nothing of the batch was done: {inserted} addresses");
    assert_eq!(isolated.rows().epoch(), epoch, "it was never published");
    assert_eq!(format!("{:?}", reconciler.state().devices), before, "nothing but what was is in force");
    foreign.iter().try_for_each(|key| isolated.rows().perform(&Op::RemoveAddress(*key)))?;
    let mut next = Reconciler::observe(isolated.rows())?;
    next.apply(isolated.rows(), &fleet(60))?;
    assert_eq!(next.state().devices.iter().count(), 60, "and the next apply finds its way");
    Ok(())
}
