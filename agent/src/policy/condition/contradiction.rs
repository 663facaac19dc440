//! Conditions that no device can ever meet together.

use super::{Condition, Country, Demand, Plmn, Version};
use crate::policy::attribute::AttributeKey;

/// The first condition that leaves nothing of what those before it demand, and why.
pub(crate) fn contradiction(conditions: &[Condition]) -> Option<(&Condition, String)> {
    conditions.iter().enumerate().find_map(|(index, condition)| {
        let before = &conditions[..index];
        let why = match &condition.demand {
            Demand::In(_) | Demand::AtLeast(_) | Demand::Below(_) => label(before, condition),
            Demand::Imei(_) | Demand::Tac(_) => equipment(before, condition),
            Demand::Plmn(_) | Demand::Country(_) | Demand::TrackingArea(_) | Demand::Cell(_) => {
                place(before, condition)
            }
            Demand::Rat(_) => None,
        };
        why.map(|why| (condition, why))
    })
}

fn label(before: &[Condition], condition: &Condition) -> Option<String> {
    let same: Vec<&Condition> = before.iter().filter(|other| other.key == condition.key).collect();
    let all: Vec<&Demand> = same.iter().chain([&condition]).map(|other| &other.demand).collect();
    let texts = all.iter().find_map(|demand| if let Demand::In(texts) = demand { Some(texts) } else { None });
    let possible = match texts {
        Some(texts) => texts.iter().any(|text| all.iter().all(|demand| demand.accepts(text))),
        None => between(&all),
    };
    (!possible).then(|| never(&condition.key, &same, condition))
}

/// True if there is a version between every `atLeast` and every `below`.
fn between(demands: &[&Demand]) -> bool {
    let least: Vec<&Version> =
        demands.iter().filter_map(|d| if let Demand::AtLeast(v) = d { Some(v) } else { None }).collect();
    let mut below = demands.iter().filter_map(|d| if let Demand::Below(v) = d { Some(v) } else { None });
    below.all(|bound| least.iter().all(|least| least.is_below(bound)))
}

fn equipment(before: &[Condition], condition: &Condition) -> Option<String> {
    let all: Vec<&Condition> =
        before.iter().filter(|other| other.key == AttributeKey::Imei).chain([condition]).collect();
    let imeis = all
        .iter()
        .find_map(|other| if let Demand::Imei(imeis) = &other.demand { Some(imeis) } else { None })?;
    let tacs =
        all.iter().find_map(|other| if let Demand::Tac(tacs) = &other.demand { Some(tacs) } else { None })?;
    let possible = imeis.iter().any(|imei| tacs.contains(&imei.tac()));
    (!possible).then(|| never(&AttributeKey::Imei, &all[..1], condition))
}

/// Every demand about the place bounds the networks that the device can be in.
fn place(before: &[Condition], condition: &Condition) -> Option<String> {
    let other = before.iter().find(|other| !share(&other.demand, &condition.demand))?;
    Some(format!("the place must be {} and {}: no network is in both", shown(other), shown(condition)))
}

fn shown(condition: &Condition) -> String {
    let preposition = if countries(&condition.demand).is_some() { "" } else { "in " };
    format!("{preposition}{}", condition.demand)
}

/// True if a device can be in a network that both demands bear.
fn share(one: &Demand, other: &Demand) -> bool {
    match (networks(one), networks(other)) {
        (Some(one), Some(other)) => one.iter().any(|plmn| other.contains(plmn)),
        (Some(networks), None) | (None, Some(networks)) => {
            let countries = countries(one).or(countries(other));
            countries.is_none_or(|wanted| {
                networks.iter().any(|plmn| plmn.country().is_some_and(|country| wanted.contains(&country)))
            })
        }
        (None, None) => true,
    }
}

/// The networks that a demand is met in; nothing if it does not name them.
fn networks(demand: &Demand) -> Option<Vec<&Plmn>> {
    match demand {
        Demand::Plmn(plmns) => Some(plmns.iter().collect()),
        Demand::TrackingArea(areas) => Some(areas.iter().map(|area| area.plmn()).collect()),
        Demand::Cell(cells) => Some(cells.iter().map(|cell| cell.plmn()).collect()),
        Demand::In(_)
        | Demand::AtLeast(_)
        | Demand::Below(_)
        | Demand::Country(_)
        | Demand::Rat(_)
        | Demand::Imei(_)
        | Demand::Tac(_) => None,
    }
}

fn countries(demand: &Demand) -> Option<&Vec<Country>> {
    if let Demand::Country(countries) = demand { Some(countries) } else { None }
}

fn never(key: &AttributeKey, before: &[&Condition], condition: &Condition) -> String {
    let before: Vec<String> = before.iter().map(|other| other.demand.to_string()).collect();
    format!("{key} must be {} and {}: that is never so", before.join(" and "), condition.demand)
}
