//! Interfaces of a capture → interfaces of the agent.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};

use super::capture::Interface;
use super::link::LinkLayer;
use crate::policy::nearest_name;

/// What `--interface` says.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Mapping {
    /// By the name or number that the capture has.
    one: BTreeMap<String, String>,
    /// For all others.
    all: Option<String>,
}

impl Mapping {
    /// Reads `NAME` and `CAPTURED=NAME`.
    ///
    /// # Errors
    /// Something is mapped twice, or an end is missing.
    pub fn parse(typed: &[String]) -> Result<Self> {
        let mut mapping = Self::default();
        for text in typed {
            let twice = match text.split_once('=') {
                Some((captured, name)) => {
                    ensure!(
                        !captured.is_empty() && !name.is_empty(),
                        "--interface {text}: write CAPTURED=NAME"
                    );
                    mapping.one.insert(captured.to_owned(), name.to_owned())
                }
                None => mapping.all.replace(text.clone()),
            };
            ensure!(twice.is_none(), "--interface {text}: what it maps is mapped already");
        }
        Ok(mapping)
    }

    fn names(&self) -> impl Iterator<Item = &String> {
        self.one.values().chain(&self.all)
    }

    fn of(&self, interface: &Interface, ifindex: Option<u32>) -> Option<&String> {
        let by_number = ifindex.or(interface.name.is_none().then_some(interface.number));
        let by_number = by_number.and_then(|number| self.one.get(&number.to_string()));
        by_number.or_else(|| self.one.get(interface.name.as_ref()?)).or(self.all.as_ref())
    }
}

/// The agent's interfaces, and how those of a capture are found among them.
#[derive(Debug)]
pub struct Interfaces {
    /// Numbers in the tables by name.
    known: BTreeMap<String, u32>,
    mapping: Mapping,
    found: BTreeMap<(usize, Option<u32>), u32>,
    /// Captured interfaces that were looked at.
    seen: Vec<LinkLayer>,
}

impl Interfaces {
    /// Maps to interfaces by their numbers in the tables.
    ///
    /// # Errors
    /// A name to map to is none of them.
    pub fn new(known: BTreeMap<String, u32>, mapping: Mapping) -> Result<Self> {
        let interfaces = Self { known, mapping, found: BTreeMap::new(), seen: Vec::new() };
        for name in interfaces.mapping.names() {
            interfaces.number(name).with_context(|| interfaces.unknown(name)).context("--interface")?;
        }
        Ok(interfaces)
    }

    /// Looks at the interfaces that a capture has described since the last call.
    ///
    /// # Errors
    /// One is of a link type that is not read, or stands for no interface of the agent.
    pub fn learn(&mut self, captured: &[Interface]) -> Result<()> {
        for (index, interface) in captured.iter().enumerate().skip(self.seen.len()) {
            let layer = LinkLayer::from_number(interface.link_type).with_context(|| {
                let of = said(interface, None);
                format!("{of} has link type {}; read are {}", interface.link_type, LinkLayer::KNOWN)
            })?;
            self.seen.push(layer);
            // Packets of the second cooked form tell their interface each by itself.
            if layer != LinkLayer::CookedV2 {
                self.find(captured, index, None)?;
            }
        }
        Ok(())
    }

    /// The link layer of a captured interface that was learned.
    pub fn layer(&self, index: usize) -> Option<LinkLayer> {
        self.seen.get(index).copied()
    }

    /// The interface of the tables that stands for a captured one.
    ///
    /// # Errors
    /// There is none.
    pub fn find(&mut self, captured: &[Interface], index: usize, ifindex: Option<u32>) -> Result<u32> {
        if let Some(found) = self.found.get(&(index, ifindex)) {
            return Ok(*found);
        }
        let interface = captured.get(index).context("a packet of an interface that is not described")?;
        let found = self.resolve(interface, ifindex)?;
        self.found.insert((index, ifindex), found);
        Ok(found)
    }

    fn resolve(&self, interface: &Interface, ifindex: Option<u32>) -> Result<u32> {
        if let Some(name) = self.mapping.of(interface, ifindex) {
            return self.number(name).with_context(|| self.unknown(name));
        }
        if let (None, Some(name)) = (ifindex, &interface.name) {
            let captured = || format!("the capture was taken on {name:?}: {}", self.unknown(name));
            let map = || format!("{}; say what it stands for: --interface {name}=NAME", captured());
            return self.number(name).with_context(map);
        }
        let mut known = self.known.values();
        match (known.next(), known.next()) {
            (Some(only), None) => Ok(*only),
            _ => bail!(
                "{} has no name; say what it stands for: --interface NAME, where NAME is one of {}",
                said(interface, ifindex),
                self.list()
            ),
        }
    }

    fn number(&self, name: &str) -> Option<u32> {
        self.known.get(name).copied()
    }

    fn unknown(&self, name: &str) -> String {
        let nearest = nearest_name(name, self.known.keys().map(String::as_str));
        let nearest = nearest.map(|nearest| format!("; did you mean {nearest}?")).unwrap_or_default();
        format!("{name:?} is no interface of the agent, which has {}{nearest}", self.list())
    }

    fn list(&self) -> String {
        const SHOWN: usize = 8;
        let mut names: Vec<&str> = self.known.keys().take(SHOWN).map(String::as_str).collect();
        match self.known.len() {
            0 => names.push("none"),
            more if more > SHOWN => names.push("…"),
            _ => {}
        }
        names.join(", ")
    }
}

/// How an interface of a capture is called in messages.
fn said(interface: &Interface, ifindex: Option<u32>) -> String {
    match (ifindex, &interface.name) {
        (Some(number), _) => format!("interface number {number} of the capture"),
        (None, Some(name)) => format!("interface {name:?} of the capture"),
        (None, None) => "the capture's interface".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interface(name: Option<&str>, number: u32) -> Interface {
        Interface { name: name.map(str::to_owned), number, link_type: 1 }
    }

    fn interfaces(known: &[&str], typed: &[&str]) -> Result<Interfaces> {
        let known = known.iter().zip(1..).map(|(name, number)| ((*name).to_owned(), number)).collect();
        let typed: Vec<String> = typed.iter().map(|text| (*text).to_owned()).collect();
        Interfaces::new(known, Mapping::parse(&typed)?)
    }

    fn refusal<T>(result: Result<T>) -> String {
        result.err().map(|error| format!("{error:#}")).unwrap_or_default()
    }

    #[test]
    fn names_stand_for_themselves_unless_they_are_mapped() {
        let captured = [interface(Some("acc0"), 0), interface(Some("eth1"), 1)];
        let mut found = interfaces(&["acc0", "n6"], &["eth1=n6"]).unwrap();
        found.learn(&captured).unwrap();
        assert_eq!(found.find(&captured, 0, None).unwrap(), 1);
        assert_eq!(found.find(&captured, 1, None).unwrap(), 2);
        let mut found = interfaces(&["acc0", "n6"], &["n6", "acc0=acc0"]).unwrap();
        assert_eq!(found.find(&captured, 0, None).unwrap(), 1);
        assert_eq!(found.find(&captured, 1, None).unwrap(), 2);
    }

    #[test]
    fn an_unknown_name_is_refused_even_beside_a_single_interface() {
        let mut found = interfaces(&["acc0"], &[]).unwrap();
        let why = refusal(found.learn(&[interface(Some("acc1"), 0)]));
        for part in ["\"acc1\"", "--interface acc1=NAME", "which has acc0", "did you mean acc0?"] {
            assert!(why.contains(part), "{part} is not in {why}");
        }
    }

    #[test]
    fn without_a_name_only_a_single_interface_is_clear() {
        let unnamed = [interface(None, 0)];
        assert_eq!(interfaces(&["acc0"], &[]).unwrap().find(&unnamed, 0, None).unwrap(), 1);
        assert_eq!(interfaces(&["acc0", "n6"], &["0=n6"]).unwrap().find(&unnamed, 0, None).unwrap(), 2);
        let why = refusal(interfaces(&["acc0", "n6"], &[]).unwrap().find(&unnamed, 0, None));
        assert!(why.contains("--interface NAME, where NAME is one of acc0, n6"), "{why}");
    }

    #[test]
    fn numbers_of_cooked_packets_are_mapped_one_by_one() {
        let any = [Interface { link_type: 276, ..interface(Some("any"), 0) }];
        let mut found = interfaces(&["acc0", "n6"], &["2=acc0", "3=n6"]).unwrap();
        found.learn(&any).unwrap();
        assert_eq!(found.find(&any, 0, Some(2)).unwrap(), 1);
        assert_eq!(found.find(&any, 0, Some(3)).unwrap(), 2);
        assert!(refusal(found.find(&any, 0, Some(4))).contains("interface number 4"));
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        assert!(refusal(interfaces(&["acc0"], &["n6"])).contains("\"n6\" is no interface of the agent"));
        for typed in [&["=acc0"][..], &["acc0="], &["acc0", "acc0"], &["a=acc0", "a=acc0"]] {
            assert!(interfaces(&["acc0"], typed).is_err(), "{typed:?}");
        }
        let mut found = interfaces(&["acc0"], &["acc0"]).unwrap();
        let why = refusal(found.learn(&[Interface { link_type: 147, ..interface(None, 0) }]));
        assert!(why.contains("link type 147; read are Ethernet (1)"), "{why}");
    }
}
