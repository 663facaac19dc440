//! A tree → one resource, by its `apiVersion` and `kind`.

mod agent;
mod control;
mod destination;
mod device;
mod grant;
mod interface;
mod inventory;
mod network;
mod rule;
mod rules;
mod segment;
mod test;
mod time;
mod when;

pub use inventory::Written as InventoryRow;
pub(crate) use inventory::{document as of_row, split as inventory_rows};

use std::sync::Arc;

use super::agent::AgentConfig;
use super::attribute::{LABEL_RULE, is_label_key};
use super::diagnostic::Diagnostics;
use super::grant::Grant;
use super::location::{Located, SourceFile};
use super::model::{Destination, Device, Labels, Network, PolicyRules, Segment};
use super::name::Name;
use super::node::{Node, Word};
use super::reader::{Fields, Reader};
use super::yaml;

/// The only version of the language.
const VERSION: &str = "bulkhead/v1";

/// The kinds of documents there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Agent,
    Network,
    Segment,
    Device,
    Destination,
    Policy,
    Grant,
}

impl Kind {
    const ALL: [(&'static str, Self); 7] = [
        ("Agent", Self::Agent),
        ("Network", Self::Network),
        ("Segment", Self::Segment),
        ("Device", Self::Device),
        ("Destination", Self::Destination),
        ("Policy", Self::Policy),
        ("Grant", Self::Grant),
    ];

    /// The kind as a common noun, for messages.
    pub(crate) fn noun(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::Network => "network",
            Self::Segment => "segment",
            Self::Device => "device",
            Self::Destination => "destination",
            Self::Policy => "policy",
            Self::Grant => "grant",
        }
    }
}

/// Every resource that could be read, before anything is compared with anything.
#[derive(Debug, Default)]
pub(crate) struct Drafts {
    pub(crate) agents: Vec<AgentConfig>,
    pub(crate) networks: Vec<Network>,
    pub(crate) segments: Vec<Segment>,
    pub(crate) devices: Vec<Arc<Device>>,
    pub(crate) destinations: Vec<Destination>,
    pub(crate) policies: Vec<PolicyRules>,
    pub(crate) grants: Vec<Grant>,
    /// Names of documents that could be read only in part: they exist, so naming them is right.
    pub(crate) broken: Vec<(Kind, Name)>,
    /// True if a whole document was given up, so that unknown names may be its.
    pub(crate) lost: bool,
}

impl Drafts {
    /// Takes over what another part of the same has.
    fn append(&mut self, mut other: Self) {
        self.agents.append(&mut other.agents);
        self.networks.append(&mut other.networks);
        self.segments.append(&mut other.segments);
        self.devices.append(&mut other.devices);
        self.destinations.append(&mut other.destinations);
        self.policies.append(&mut other.policies);
        self.grants.append(&mut other.grants);
        self.broken.append(&mut other.broken);
        self.lost |= other.lost;
    }
}

/// Reads every document, or every row, of one text.
pub(crate) fn read(source: &Arc<SourceFile>, problems: &mut Diagnostics, drafts: &mut Drafts) {
    if source.is_inventory() {
        return inventory::read(source, problems, drafts);
    }
    let before = problems.errors();
    let documents = yaml::documents(source, problems);
    drafts.lost |= documents.lost;
    let mut reader = Reader::new(source, problems);
    // The first document of a file says the version, if it could be read.
    let mut versioned = documents.lost || source.is_versioned();
    for root in &documents.roots {
        document(&mut reader, root, versioned, drafts);
        versioned = true;
    }
    if documents.roots.is_empty() && problems.errors() == before {
        problems.push(super::Diagnostic::of_file(
            source.name(),
            "has no documents",
            "remove the file, or write a resource in it (see policies/README.md)",
        ));
    }
}

fn document(reader: &mut Reader<'_>, root: &Node, versioned: bool, drafts: &mut Drafts) {
    let Some(mut fields) = reader.fields(root, "the document") else {
        drafts.lost = true;
        return;
    };
    version(reader, &mut fields, versioned);
    let kind = fields.required(reader, "kind");
    let kind = kind.and_then(|node| reader.choice(node, "kind", &Kind::ALL));
    let metadata = fields.optional(reader, "metadata");
    let spec = fields.required(reader, "spec");
    fields.finish(reader);
    let Some(kind) = kind else {
        drafts.lost = true;
        return;
    };
    if kind == Kind::Agent {
        // There is one agent per host, so its name is for people and may be left out.
        if metadata.is_some() {
            head(reader, root, metadata, kind);
        }
        let config = spec.and_then(|spec| agent::read(reader, spec));
        drafts.agents.extend(config);
        return;
    }
    let head = head(reader, root, metadata, kind);
    resource(reader, kind, head, spec, drafts);
}

/// The first document of a file says the version, and later ones may leave it out.
fn version(reader: &mut Reader<'_>, fields: &mut Fields<'_>, versioned: bool) {
    let node = match versioned {
        true => fields.optional(reader, "apiVersion"),
        false => fields.required(reader, "apiVersion"),
    };
    if let Some(node) = node {
        reader.choice(node, "apiVersion", &[(VERSION, ())]);
    }
}

/// What `metadata` says.
struct Head {
    name: Option<Located<Name>>,
    labels: Labels,
    /// False if something in it could not be read.
    whole: bool,
}

fn head(reader: &mut Reader<'_>, root: &Node, metadata: Option<&Node>, kind: Kind) -> Head {
    let mut head = Head { name: None, labels: Labels::new(), whole: false };
    let Some(node) = metadata else {
        if root.entry("metadata").is_none() {
            let at = root.entry("kind").map_or(root.span, |entry| entry.node.span);
            let problem = format!("the {} has no name", kind.noun());
            reader.refuse::<()>(at, problem, "add metadata: {name: …}");
        }
        return head;
    };
    let Some(mut fields) = reader.fields(node, "`metadata`") else {
        return head;
    };
    let name = fields.required(reader, "name");
    head.name = name.and_then(|node| reader.name(node, "the name"));
    head.whole = head.name.is_some();
    if kind == Kind::Device
        && let Some(node) = fields.optional(reader, "labels")
    {
        let labels = reader.labels(node, "`labels`");
        head.whole &= labels.is_some();
        head.labels = labels.unwrap_or_default();
    }
    fields.finish(reader);
    head
}

fn resource(reader: &mut Reader<'_>, kind: Kind, head: Head, spec: Option<&Node>, drafts: &mut Drafts) {
    let Some(name) = head.name.clone() else {
        drafts.lost = true;
        if let Some(spec) = spec {
            // Without a name it is lost, and what is wrong inside is still worth saying.
            let unnamed = Name::new("unnamed").map(|name| Located::new(name, reader.at(spec.span)));
            let head = Head { name: unnamed, ..head };
            resource(reader, kind, head, Some(spec), &mut Drafts::default());
        }
        return;
    };
    let whole = spec.and_then(|spec| put(reader, kind, &head, &name, spec, drafts));
    if whole.is_none() {
        drafts.broken.push((kind, name.value));
    }
}

fn put(
    reader: &mut Reader<'_>,
    kind: Kind,
    head: &Head,
    name: &Located<Name>,
    spec: &Node,
    drafts: &mut Drafts,
) -> Option<()> {
    match kind {
        Kind::Network => drafts.networks.push(network::read(reader, name, spec)?),
        Kind::Segment => drafts.segments.push(segment::read(reader, name, spec)?),
        Kind::Device => {
            let device = device::read(reader, name, &head.labels, spec)?;
            drafts.devices.push(Arc::new(head.whole.then_some(device)?));
        }
        Kind::Destination => drafts.destinations.push(destination::read(reader, name, spec)?),
        Kind::Policy => drafts.policies.push(rules::read(reader, name, spec)?),
        Kind::Grant => drafts.grants.push(grant::read(reader, name, spec)?),
        Kind::Agent => {}
    }
    Some(())
}

/// What a field that may be left out says; nothing of one that cannot be read.
fn optional<T>(read: Option<Option<T>>) -> Option<Option<T>> {
    read.map_or(Some(None), |read| read.map(Some))
}

impl Reader<'_> {
    /// A mapping of label names to texts.
    pub(crate) fn labels(&mut self, node: &Node, what: &str) -> Option<Labels> {
        let mut labels = Labels::new();
        let mut whole = true;
        for entry in self.entries(node, what)? {
            if !is_label_key(&entry.key) {
                let problem = format!("{:?} is not a valid label name", &*entry.key);
                self.refuse::<()>(entry.key_span, problem, LABEL_RULE);
                whole = false;
                continue;
            }
            match self.label_value(&entry.node) {
                Some(value) => {
                    labels.insert(entry.key.to_string(), value.to_owned());
                }
                None => whole = false,
            }
        }
        whole.then_some(labels)
    }

    fn label_value<'d>(&mut self, node: &'d Node) -> Option<&'d str> {
        let text = self.text(node, "the value of a label")?;
        self.label_of(Word { text, span: node.span })
    }

    fn label_of<'d>(&mut self, Word { text, span }: Word<'d>) -> Option<&'d str> {
        let printable = text.bytes().all(|byte| (b' '..=b'~').contains(&byte));
        if printable && text.len() <= 63 {
            return Some(text);
        }
        self.refuse(
            span,
            format!("label value {text:?} is not allowed"),
            "use at most 63 printable ASCII characters",
        )
    }

    /// `{matchLabels: {key: value}}` with at least one pair.
    pub(crate) fn match_labels(&mut self, node: &Node) -> Option<Located<Labels>> {
        let labels = self.labels(node, "`matchLabels`")?;
        if labels.is_empty() {
            return self.refuse(
                node.span,
                "`matchLabels` is empty and would match every device",
                "name at least one label",
            );
        }
        Some(Located::new(labels, self.at(node.span)))
    }
}
