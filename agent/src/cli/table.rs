//! Objects of one kind, one a row.

use std::fmt;
use std::sync::Arc;

use comfy_table::presets::NOTHING;

use super::get::Kind;
use super::words::{binding, labels, list, list_or_dash, or_dash, prefixes, subject};
use crate::policy::{Destination, Device, Grant, Name, Network, Policy, PolicyRules, Segment};
use crate::sink::Safe;

/// Rows below a header; columns that only a wide screen has come last.
pub(super) struct Table {
    rows: Vec<Vec<String>>,
    header: Vec<&'static str>,
}

/// A column's title and how a row fills it.
type Column<'a, T> = (&'static str, &'a dyn Fn(&T) -> String);

impl Table {
    /// Lists what is wanted of a kind.
    pub(super) fn of(kind: Kind, policy: &Policy, wide: bool, wanted: &dyn Fn(&Name) -> bool) -> Self {
        match kind {
            Kind::Networks => networks(policy, wide, wanted),
            Kind::Segments => segments(policy, wide, wanted),
            Kind::Devices => devices(policy, wide, wanted),
            Kind::Destinations => destinations(policy, wide, wanted),
            Kind::Policies => policies(policy, wide, wanted),
            Kind::Grants => grants(policy, wide, wanted),
            Kind::All => Self { rows: Vec::new(), header: Vec::new() },
        }
    }

    /// True if there is no row.
    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Makes a table of columns.
    pub(super) fn build<'a, T: 'a>(items: impl Iterator<Item = &'a T>, columns: &[Column<'_, T>]) -> Self {
        let row = |item: &T| columns.iter().map(|(_, cell)| cell(item)).collect();
        Self { rows: items.map(row).collect(), header: columns.iter().map(|(title, _)| *title).collect() }
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = comfy_table::Table::new();
        table.load_style(NOTHING).set_header(self.header.clone()).add_rows(self.rows.clone());
        table.column_iter_mut().for_each(|column| {
            column.set_padding((0, 2));
        });
        f.write_str(&table.trim_fmt())
    }
}

fn shown<'a, T>(columns: &'a [Column<'a, T>], wide: bool, narrow: usize) -> &'a [Column<'a, T>] {
    if wide { columns } else { &columns[..narrow] }
}

fn networks(policy: &Policy, wide: bool, wanted: &dyn Fn(&Name) -> bool) -> Table {
    let columns: [Column<'_, Network>; 7] = [
        ("NAME", &|n| n.name.to_string()),
        ("SEEN ON", &|n| list(n.seen_on.iter().map(|seen| &seen.value))),
        ("POOLS", &|n| prefixes(&n.pools)),
        ("SERVICES", &|n| list_or_dash(n.services.keys())),
        ("INFRASTRUCTURE", &|n| prefixes(&n.infrastructure)),
        ("NEVER", &|n| list_or_dash(&n.never)),
        ("WRITTEN", &|n| n.at.to_string()),
    ];
    Table::build(policy.networks().values().filter(|n| wanted(&n.name)), shown(&columns, wide, 4))
}

fn segments(policy: &Policy, wide: bool, wanted: &dyn Fn(&Name) -> bool) -> Table {
    let members = |segment: &Segment| {
        policy
            .devices()
            .values()
            .filter(|device| device.segment.as_ref() == Some(&segment.name))
            .count()
            .to_string()
    };
    let columns: [Column<'_, Segment>; 5] = [
        ("NAME", &|s| s.name.to_string()),
        ("MEMBERS", &|s| labels(&s.members)),
        ("DEVICES", &members),
        ("NEVER", &|s| list_or_dash(&s.never)),
        ("WRITTEN", &|s| s.at.to_string()),
    ];
    Table::build(policy.segments().values().filter(|s| wanted(&s.name)), shown(&columns, wide, 3))
}

fn devices(policy: &Policy, wide: bool, wanted: &dyn Fn(&Name) -> bool) -> Table {
    let columns: [Column<'_, Device>; 7] = [
        ("NAME", &|d| d.name.to_string()),
        ("NETWORK", &|d| d.network.value.to_string()),
        ("SEGMENT", &|d| list_or_dash(&d.segment)),
        ("ADDRESSES", &|d| prefixes(&d.addresses)),
        ("ENTERS BY", &|d| or_dash(d.binding.as_deref().map(binding).unwrap_or_default())),
        ("LABELS", &|d| labels(&d.labels)),
        ("WRITTEN", &|d| d.at.to_string()),
    ];
    Table::build(
        policy.devices().values().map(Arc::as_ref).filter(|d| wanted(&d.name)),
        shown(&columns, wide, 5),
    )
}

fn destinations(policy: &Policy, wide: bool, wanted: &dyn Fn(&Name) -> bool) -> Table {
    let columns: [Column<'_, Destination>; 4] = [
        ("NAME", &|d| d.name.to_string()),
        ("ADDRESSES", &|d| prefixes(&d.cidrs)),
        ("REACHES", &|d| if d.reaches_infrastructure { "infrastructure".to_owned() } else { "-".to_owned() }),
        ("WRITTEN", &|d| d.at.to_string()),
    ];
    Table::build(policy.destinations().values().filter(|d| wanted(&d.name)), shown(&columns, wide, 2))
}

fn grants(policy: &Policy, _wide: bool, wanted: &dyn Fn(&Name) -> bool) -> Table {
    Table::build(
        policy.grants().values().filter(|grant| wanted(&grant.name)),
        &[
            ("NAME", &|grant: &Grant| grant.name.to_string()),
            ("WHO", &|grant| Safe(&grant.who.person).to_string()),
            ("FROM", &|grant| prefixes(&grant.from)),
            ("DEVICE", &|grant| grant.device.value.to_string()),
            ("BEHIND", &|grant| prefixes(&grant.behind)),
            ("PORTS", &|grant| list(&grant.ports)),
            ("START", &|grant| grant.start.to_string()),
            ("END", &|grant| grant.end.to_string()),
        ],
    )
}

fn policies(policy: &Policy, wide: bool, wanted: &dyn Fn(&Name) -> bool) -> Table {
    let columns: [Column<'_, PolicyRules>; 5] = [
        ("NAME", &|p| p.name.to_string()),
        ("ABOUT", &|p| subject(&p.subject)),
        ("RULES", &|p| list_or_dash(p.rules.iter().map(|rule| &rule.name))),
        ("TESTS", &|p| p.tests.len().to_string()),
        ("WRITTEN", &|p| p.at.to_string()),
    ];
    Table::build(policy.written().filter(|p| wanted(&p.name)), shown(&columns, wide, 3))
}
