//! Addresses in the kernel's maps: many of them, come and gone, and what an insertion leaves behind that ends in its
//! middle.

use anyhow::{Result, ensure};
use bulkhead::datapath::{AddressRows, Isolated};
use bulkhead::reconcile::{Reconciler, Rows};
use bulkhead::tables::{Capacities, Owner, Tables};
use bulkhead_common::abi::value::ROLE_ACCESS;
use bulkhead_common::abi::{Addr, AddressKey, Device, DeviceId, ProfileId};
use bulkhead_common::address_table::is_absent;
use tests::kernel::{Kernel, privilege};
use tests::small::{self, NETWORK};

const MANY: u32 = 10_000;

/// Of three kinds, in turn.
fn key(number: u32) -> AddressKey {
    let [a, b, c, d] = (0x0a2d_0000 + number).to_be_bytes();
    let v6 = Addr::from_halves(0xfd00_0045_0000_0000 | u64::from(number), u64::from(number));
    match number % 3 {
        0 => AddressKey::host(NETWORK, Addr::from_v4([a, b, c, d])),
        1 => AddressKey::host(NETWORK, v6),
        _ => AddressKey::prefix64(NETWORK, v6),
    }
}

/// Devices that are treated alike, an address each.
fn fleet(devices: impl Iterator<Item = u32>) -> Tables {
    let mut tables = small::tables(&[(3, ROLE_ACCESS)], &[(1, 443)]);
    for id in devices.map(DeviceId) {
        tables.devices.insert(id, Device::unbound(id, NETWORK, ProfileId(1)));
        tables.addresses.insert(key(id.0), Owner { device: id, ..Owner::default() });
    }
    tables
}

fn room(addresses: u32) -> Result<Isolated> {
    Isolated::load(&Capacities { addresses, flows: 1024, ..Capacities::default() })
}

#[test]
fn what_comes_and_goes_is_what_the_kernel_s_rows_say() -> Result<()> {
    if !privilege::granted() {
        return Ok(());
    }
    let mut isolated = room(MANY + 16)?;
    let mut reconciler = Reconciler::observe(isolated.rows())?;
    for step in [1, 2, 3, 7, 1] {
        let fleet = fleet((1..=MANY).step_by(step));
        reconciler.apply(isolated.rows(), &fleet)?;
        let found = Reconciler::observe(isolated.rows())?;
        ensure!(found.state() == reconciler.state(), "each {step}th: the rows are not what was written");
        assert_eq!(found.state().addresses.len(), fleet.addresses.len());
    }
    Ok(())
}

#[test]
fn nobody_s_address_is_told_at_once_and_a_device_s_never_is() -> Result<()> {
    if !privilege::granted() {
        return Ok(());
    }
    let kernel = Kernel::load_attached(MANY)?;
    let mut rows = kernel.addresses()?;
    let seems_nobody_s = |rows: &AddressRows, number| is_absent(rows, key(number).words());
    // As full as it gets, so that many have to pass full lines; then each goes in its turn, and another one comes.
    let room = rows.capacity();
    (0..room).try_for_each(|number| rows.insert(key(number), number, 0))?;
    for round in 0..4 {
        let (held, others) = (round * room..(round + 1) * room, (round + 1) * room..(round + 2) * room);
        assert!(held.clone().all(|number| !seems_nobody_s(&rows, number)), "round {round}");
        let told = others.clone().filter(|number| seems_nobody_s(&rows, *number)).count();
        ensure!(told as u32 > room / 100 * 95, "round {round}: only {told} of {room}");
        for (slot, (gone, comes)) in (0..).zip(held.zip(others)) {
            rows.remove(&key(gone))?;
            rows.insert(key(comes), slot, 0)?;
        }
    }
    (4 * room..5 * room).try_for_each(|number| rows.remove(&key(number)))?;
    assert!((0..5 * room).all(|number| seems_nobody_s(&rows, number)));
    Ok(())
}

#[test]
fn an_insertion_that_ends_in_its_middle_leaves_in_force_what_was() -> Result<()> {
    if !privilege::granted() {
        return Ok(());
    }
    let mut isolated = room(64)?;
    let mut reconciler = Reconciler::observe(isolated.rows())?;
    reconciler.apply(isolated.rows(), &fleet(1..=8))?;
    let (before, epoch) = (format!("{:?}", reconciler.state().devices), isolated.rows().epoch());
    // Who plans thinks that there is more room.
    let mut state = reconciler.state().clone();
    state.capacity.addresses = 128;
    let (ops, _) = bulkhead::reconcile::plan(&state, &fleet(1..=100))?;
    let error = isolated.rows().perform_all(&ops).unwrap_err();
    ensure!(format!("{error:#}").contains("no slot 64"), "{error:#}");
    assert_eq!(isolated.rows().addresses()?.len(), 64, "what there was room for is there");
    assert_eq!(isolated.rows().epoch(), epoch, "it was never published");
    let mut next = Reconciler::observe(isolated.rows())?;
    assert_eq!(format!("{:?}", next.state().devices), before, "nothing but what was is in force");
    // What leads nowhere goes first.
    next.apply(isolated.rows(), &fleet(1..=8))?;
    next.apply(isolated.rows(), &fleet(1..=60))?;
    assert_eq!(next.state().devices.iter().count(), 60, "and the next apply finds its way");
    Ok(())
}
