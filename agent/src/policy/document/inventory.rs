//! A table of devices: a CSV file whose first line names the fields.
//!
//! Each row is a `kind: Device` in one line, so whatever knows devices knows rows: names are
//! unique across all files, a change is a change of one device, and labels choose segments.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::device::{is_digits, mac_of};
use super::network::teid_of;
use super::{Drafts, Kind};
use crate::few::Few;
use crate::policy::attribute::{Attributes, LABEL_RULE, is_label_key};
use crate::policy::characters;
use crate::policy::csv::{self, Cell, Flaw, Lines, MOST_CELLS, Row};
use crate::policy::diagnostic::{Diagnostic, Diagnostics};
use crate::policy::location::{Located, SourceFile, Span};
use crate::policy::model::{Binding, Device, Labels, SimProfile};
use crate::policy::name::{Name, nearest};
use crate::policy::node::Word;
use crate::policy::reader::{LONGEST, Reader};
use crate::processors;

/// What a column says of devices.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Column {
    Name,
    Network,
    Addresses,
    FramedRoutes,
    Iccid,
    Imsi,
    Imei,
    Teid,
    Interface,
    Vlan,
    InnerVlan,
    Mac,
    /// One label, by its name.
    Label(String),
}

impl Column {
    /// Columns with a name of their own.
    const NAMED: [(&'static str, Self); 12] = [
        ("name", Self::Name),
        ("network", Self::Network),
        ("addresses", Self::Addresses),
        ("framedRoutes", Self::FramedRoutes),
        ("iccid", Self::Iccid),
        ("imsi", Self::Imsi),
        ("imei", Self::Imei),
        ("teid", Self::Teid),
        ("interface", Self::Interface),
        ("vlan", Self::Vlan),
        ("innerVlan", Self::InnerVlan),
        ("mac", Self::Mac),
    ];
    /// Columns without which there is no device.
    const REQUIRED: [(&'static str, Self); 3] =
        [("name", Self::Name), ("network", Self::Network), ("addresses", Self::Addresses)];
}

/// What stands before the name of a label.
const LABEL: &str = "labels.";

/// Reads every row of a table; a broken one costs its own errors and nothing else.
pub(super) fn read(source: &Arc<SourceFile>, problems: &mut Diagnostics, drafts: &mut Drafts) {
    let before = problems.errors();
    characters::refuse(source, problems);
    if problems.errors() > before {
        drafts.lost = true;
        return;
    }
    let mut rows = csv::rows(source.text());
    let Some(header) = rows.next() else {
        drafts.lost = true;
        problems.push(Diagnostic::of_file(source.name(), "is empty", FIRST_LINE));
        return;
    };
    let mut reader = Reader::new(source, problems);
    let Some(columns) = columns(&mut reader, header) else {
        drafts.lost = true;
        return;
    };
    if rows.next().is_none() {
        let help = "remove the file, or write a row for each";
        reader.refuse::<()>(header.whole(), "the table has no devices", help);
    }
    let behind = Lines::behind(header, source.text());
    for (found, part) in side_by_side(source, &columns, behind.parts(parts(source.text()))) {
        problems.append(found);
        drafts.append(part);
    }
}

/// Bytes that are worth a thread of their own.
const A_PART: usize = 1 << 20;

/// In how many parts a text is read: in one, unless it is large.
fn parts(text: &str) -> usize {
    processors::count().min(text.len() / A_PART).max(1)
}

/// What is read of each part, in their order.
fn side_by_side(
    source: &Arc<SourceFile>,
    columns: &[Column],
    parts: Vec<Lines<'_>>,
) -> Vec<(Diagnostics, Drafts)> {
    let read = |part: Lines<'_>| {
        // Every place holds on to its file: one that all threads count would pass from one to the other all the time.
        let own = Arc::new(SourceFile::clone(source));
        let (mut problems, mut drafts) = (Diagnostics::default(), Drafts::default());
        devices(&mut Reader::new(&own, &mut problems), columns, part.rows(), &mut drafts);
        (problems, drafts)
    };
    processors::each(parts, read)
}

const FIRST_LINE: &str = "name the columns in the first line: name,network,addresses,labels.…";

/// One device of a table, as it was written.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Written {
    /// The device's name.
    pub name: String,
    /// The line that it stands on.
    pub line: u32,
    /// The table's first line and the device's.
    pub text: String,
}

/// Splits a valid table into its devices, and makes something of each.
pub(crate) fn split<T: Send>(text: &str, make: impl Fn(Written) -> T + Sync) -> Vec<T> {
    let header = csv::rows(text).next();
    let column = header.and_then(|header| texts(header).iter().position(|name| name == "name"));
    let (Some(header), Some(column)) = (header, column) else { return Vec::new() };
    let written = |row: Row<'_>| {
        let name = row.nth(column)?.into_owned();
        let text = [header.text, "\n", row.text, "\n"].concat();
        Some(Written { name, line: u32::try_from(row.line).ok()?, text })
    };
    let behind = Lines::behind(header, text).parts(parts(text));
    let made = |part: Lines<'_>| part.rows().filter_map(written).map(&make).collect::<Vec<T>>();
    processors::each(behind, made).into_iter().flatten().collect()
}

fn texts(row: Row<'_>) -> Vec<Cow<'_, str>> {
    let mut cells = Vec::new();
    match row.cells(&mut cells) {
        Ok(()) => cells.into_iter().map(|cell| cell.text).collect(),
        Err(_) => Vec::new(),
    }
}

/// A table of one device as a document of YAML that says the same; nothing if it is none.
pub(crate) fn document(text: &str) -> Option<String> {
    let mut rows = csv::rows(text);
    let (header, row) = (texts(rows.next()?), texts(rows.next()?));
    let mut device = Json { metadata: Map::new(), spec: Map::new() };
    let values = header.iter().zip(&row).filter(|(_, value)| !value.is_empty());
    values.for_each(|(column, value)| device.put(column, value));
    let (metadata, spec) = (Value::from(device.metadata), Value::from(device.spec));
    // JSON is YAML, and leaves no doubt about what is text.
    Some(format!("apiVersion: bulkhead/v1\nkind: Device\nmetadata: {metadata}\nspec: {spec}\n"))
}

struct Json {
    metadata: Map<String, Value>,
    spec: Map<String, Value>,
}

impl Json {
    fn put(&mut self, column: &str, value: &str) {
        let named = Column::NAMED.iter().find(|(name, _)| *name == column);
        let Some((_, kind)) = named else {
            let label = column.strip_prefix(LABEL).unwrap_or(column);
            self.metadata.entry("labels").or_insert_with(|| json!({}))[label] = value.into();
            return;
        };
        match kind {
            Column::Name => drop(self.metadata.insert(column.to_owned(), value.into())),
            Column::Network | Column::Imei | Column::Teid => self.specify(column, value),
            Column::Addresses | Column::FramedRoutes => {
                self.specify(column, value.split_ascii_whitespace().collect::<Value>());
            }
            Column::Iccid | Column::Imsi => {
                self.spec.entry("profiles").or_insert_with(|| json!([{}]))[0][column] = value.into();
            }
            Column::Vlan | Column::InnerVlan => self.bind(column, value.parse::<u16>().unwrap_or_default()),
            Column::Interface | Column::Mac => self.bind(column, value),
            Column::Label(_) => {}
        }
    }

    fn specify(&mut self, column: &str, value: impl Into<Value>) {
        self.spec.insert(column.to_owned(), value.into());
    }

    fn bind(&mut self, column: &str, value: impl Into<Value>) {
        self.spec.entry("binding").or_insert_with(|| json!({}))[column] = value.into();
    }
}

/// What the first line says of the others.
fn columns(reader: &mut Reader<'_>, header: Row<'_>) -> Option<Vec<Column>> {
    let mut cells = Vec::new();
    cells_of(reader, header, &mut cells)?;
    if let [only] = &*cells
        && let Some(other) = only.text.find([';', '\t', '|'])
    {
        let sign = only.text[other..].chars().next().unwrap_or_default().escape_default();
        let problem = format!("columns are divided by `{sign}`");
        return reader.refuse(only.span, problem, "export the table with commas");
    }
    if !cells.iter().any(|cell| is_column(&cell.text)) {
        return reader.refuse(header.whole(), "the first line names no columns", FIRST_LINE);
    }
    let mut columns: Vec<Column> = Vec::new();
    let mut whole = true;
    for cell in &cells {
        let column = column(reader, cell).filter(|column| unlike(reader, &columns, column, cell));
        whole &= column.is_some();
        columns.extend(column);
    }
    for (name, column) in Column::REQUIRED {
        // A mistyped column was told already.
        if whole && !columns.contains(&column) {
            reader.refuse::<()>(header.whole(), format!("the table has no column `{name}`"), FIRST_LINE);
            return None;
        }
    }
    whole.then_some(columns)
}

/// True of what can only be the name of a column, well written or not.
fn is_column(text: &str) -> bool {
    let name = text.to_ascii_lowercase();
    name.starts_with(LABEL) || Column::NAMED.iter().any(|(known, _)| known.eq_ignore_ascii_case(&name))
}

fn column(reader: &mut Reader<'_>, cell: &Cell<'_>) -> Option<Column> {
    let text = &*cell.text;
    if let Some((_, column)) = Column::NAMED.iter().find(|(name, _)| *name == text) {
        return Some(column.clone());
    }
    match text.strip_prefix(LABEL) {
        Some(label) if is_label_key(label) => Some(Column::Label(label.to_owned())),
        Some(label) => reader.refuse(cell.span, format!("{label:?} is not a valid label name"), LABEL_RULE),
        None if text.is_empty() => reader.refuse(cell.span, "a column has no name", "name it, or remove it"),
        None => reader.refuse(cell.span, format!("unknown column {text:?}"), other_name(text)),
    }
}

/// What a column that there is not was probably meant to be.
fn other_name(text: &str) -> String {
    let names = Column::NAMED.iter().map(|(name, _)| *name);
    match (nearest(text, names), text) {
        (Some(near), _) => format!("nearest is `{near}`"),
        (None, "segment" | "group") => "segments choose devices by labels: name it `labels.class`".to_owned(),
        (None, _) if is_label_key(text) => {
            format!("a label would be `{LABEL}{text}`; else remove the column")
        }
        (None, _) => "remove it".to_owned(),
    }
}

fn unlike(reader: &mut Reader<'_>, columns: &[Column], column: &Column, cell: &Cell<'_>) -> bool {
    if columns.contains(column) {
        let problem = format!("the column `{}` is there twice", cell.text);
        reader.refuse::<()>(cell.span, problem, "keep one of them");
        return false;
    }
    true
}

fn cells_of<'t>(reader: &mut Reader<'_>, row: Row<'t>, cells: &mut Vec<Cell<'t>>) -> Option<()> {
    cells.clear();
    let Err((flaw, span)) = row.cells(cells) else { return Some(()) };
    match flaw {
        Flaw::Open => reader.refuse(
            span,
            "the quote is not closed on its line",
            "close it; no value holds a line break",
        ),
        Flaw::Stray => {
            let help = "put the whole value in quotes, and write \"\" for each in it";
            reader.refuse(span, "a quote stands inside a value", help)
        }
        Flaw::Long => {
            let problem = format!("the row has more than {MOST_CELLS} values");
            reader.refuse(span, problem, "no table has so many columns; is a line break missing?")
        }
    }
}

fn devices<'t>(
    reader: &mut Reader<'_>,
    columns: &[Column],
    rows: impl Iterator<Item = Row<'t>>,
    drafts: &mut Drafts,
) {
    let mut cells = Vec::with_capacity(columns.len());
    let mut alike = Alike::default();
    for row in rows {
        let shaped = cells_of(reader, row, &mut cells).and_then(|()| fits(reader, columns, row, &cells));
        let labels = shaped.and_then(|()| alike.labels(columns, &cells));
        let known = labels.is_some();
        let mut draft = Draft {
            reader,
            row,
            network: &mut alike.network,
            name: None,
            whole: true,
            said: Said::default(),
        };
        if shaped.is_some() {
            let told = |(column, _): &(&Column, _)| !(known && matches!(column, Column::Label(_)));
            columns.iter().zip(&cells).filter(told).for_each(|(column, cell)| draft.take(column, cell));
        }
        let name = draft.name.clone();
        match (shaped.and_then(|()| draft.finish(labels)), name) {
            (Some(device), _) => {
                if !known {
                    alike.keep(&device.labels);
                }
                drafts.devices.push(device);
            }
            (None, Some(name)) => drafts.broken.push((Kind::Device, name.value)),
            (None, None) => drafts.lost = true,
        }
    }
}

/// Refuses rows with more or fewer values than columns: nobody knows which one is missing.
fn fits(reader: &mut Reader<'_>, columns: &[Column], row: Row<'_>, cells: &[Cell<'_>]) -> Option<()> {
    let problem = || format!("the row has {} values for {} columns", cells.len(), columns.len());
    match cells.get(columns.len()) {
        Some(extra) => reader.refuse(extra.span, problem(), "put a value with a comma in it in quotes"),
        None if cells.len() < columns.len() => reader.refuse(
            row.whole(),
            problem(),
            "leave what a device does not have empty, between its commas",
        ),
        None => Some(()),
    }
}

/// What rows before said: most devices have the labels and the network of others, and share them.
#[derive(Default)]
struct Alike {
    /// By the values of the columns of labels.
    labels: HashMap<String, Arc<Labels>>,
    /// Those values of the row that is read; no value holds a line break.
    values: String,
    network: Option<Name>,
}

/// Most sets of labels that are remembered: where each device has its own, none is shared.
const MOST_SETS: usize = 1 << 16;

impl Alike {
    /// The labels of a row, if a row before had the same.
    fn labels(&mut self, columns: &[Column], cells: &[Cell<'_>]) -> Option<Arc<Labels>> {
        self.values.clear();
        for (column, cell) in columns.iter().zip(cells) {
            if matches!(column, Column::Label(_)) {
                self.values.push_str(&cell.text);
                self.values.push('\n');
            }
        }
        self.labels.get(&self.values).cloned()
    }

    /// Remembers the labels of the row that [`Self::labels`] was asked about.
    fn keep(&mut self, labels: &Arc<Labels>) {
        if self.labels.len() < MOST_SETS {
            self.labels.insert(self.values.clone(), Arc::clone(labels));
        }
    }
}

/// A device on its way from a row.
struct Draft<'r, 'a, 't> {
    reader: &'r mut Reader<'a>,
    row: Row<'t>,
    /// The network of the row before.
    network: &'r mut Option<Name>,
    name: Option<Located<Name>>,
    whole: bool,
    said: Said,
}

/// What a row says of a device besides its name.
#[derive(Default)]
struct Said {
    network: Option<Located<Name>>,
    labels: Labels,
    addresses: Few<Located<ipnet::IpNet>>,
    framed_routes: Vec<Located<ipnet::IpNet>>,
    profile: SimProfile,
    imei: Option<Located<String>>,
    teid: Option<Located<u32>>,
    interface: Option<String>,
    vlan: Option<u16>,
    inner_vlan: Option<u16>,
    mac: Option<[u8; 6]>,
    /// Where the first value of the binding stands.
    bound: Option<Span>,
}

impl Draft<'_, '_, '_> {
    fn take(&mut self, column: &Column, cell: &Cell<'_>) {
        let read = match cell.text.len() {
            0 => self.without(column, cell),
            1..=LONGEST => self.value(column, Word { text: &cell.text, span: cell.span }),
            _ => {
                self.reader.refuse(cell.span, format!("a value is longer than {LONGEST} bytes"), "shorten it")
            }
        };
        self.whole &= read.is_some();
    }

    /// An empty value stands for a field that is not there.
    fn without(&mut self, column: &Column, cell: &Cell<'_>) -> Option<()> {
        let Some((name, _)) = Column::REQUIRED.iter().find(|(_, required)| required == column) else {
            return Some(());
        };
        self.reader.refuse(cell.span, format!("the device has no `{name}`"), "write one, or remove the row")
    }

    fn value(&mut self, column: &Column, word: Word<'_>) -> Option<()> {
        let reader = &mut *self.reader;
        match column {
            Column::Name => self.name = Some(reader.name_of(word)?),
            Column::Network => self.said.network = Some(network_of(reader, word, self.network)?),
            Column::Addresses => self.said.addresses = prefixes(reader, word)?,
            Column::FramedRoutes => self.said.framed_routes = prefixes(reader, word)?,
            Column::Iccid => self.said.profile.iccid = Some(digits(reader, word, "ICCID", 18, 22)?),
            Column::Imsi => self.said.profile.imsi = Some(digits(reader, word, "IMSI", 6, 15)?),
            Column::Imei => self.said.imei = Some(digits(reader, word, "IMEI", 14, 16)?),
            Column::Teid => self.said.teid = Some(teid_of(reader, word)?),
            Column::Interface | Column::Vlan | Column::InnerVlan | Column::Mac => self.bind(column, word)?,
            Column::Label(name) => {
                let value = reader.label_of(word)?;
                self.said.labels.insert(name.clone(), value.to_owned());
            }
        }
        Some(())
    }

    fn bind(&mut self, column: &Column, word: Word<'_>) -> Option<()> {
        let reader = &mut *self.reader;
        self.said.bound.get_or_insert(word.span);
        match column {
            Column::Interface => self.said.interface = Some(reader.interface_of(word)?.value),
            Column::Vlan => self.said.vlan = Some(reader.vlan_of(word)?),
            Column::InnerVlan => self.said.inner_vlan = Some(reader.vlan_of(word)?),
            Column::Mac => self.said.mac = Some(mac_of(reader, word)?),
            Column::Name
            | Column::Network
            | Column::Addresses
            | Column::FramedRoutes
            | Column::Iccid
            | Column::Imsi
            | Column::Imei
            | Column::Teid
            | Column::Label(_) => {}
        }
        Some(())
    }

    /// The device; `labels` are those of another one, if they are its own too.
    fn finish(self, labels: Option<Arc<Labels>>) -> Option<Arc<Device>> {
        let Said { bound, inner_vlan, vlan, .. } = &self.said;
        if let (Some(at), Some(_), None, true) = (*bound, inner_vlan, vlan, self.whole) {
            return self.reader.refuse(
                at,
                "`innerVlan` without `vlan`",
                "write the outer tag in column `vlan`",
            );
        }
        let Self { reader, name, whole, said, row, network: _ } = self;
        let (name, network) = (name.filter(|_| whole)?, said.network?);
        debug_assert!(name.at.line() as usize == row.line, "a cell stands on its row");
        let binding = said.bound.map(|at| Binding {
            at: reader.at(at),
            interface: said.interface,
            vlan: said.vlan,
            inner_vlan: said.inner_vlan,
            mac: said.mac,
        });
        let known = said.profile.iccid.is_some() || said.profile.imsi.is_some();
        Some(Arc::new(Device {
            name: name.value,
            at: name.at,
            network,
            segment: None,
            labels: labels.unwrap_or_else(|| Arc::new(said.labels)),
            addresses: said.addresses,
            teid: said.teid,
            framed_routes: said.framed_routes,
            binding: binding.map(Box::new),
            profiles: known.then_some(said.profile).into_iter().collect(),
            imei: said.imei.map(Box::new),
            observed: Attributes::new(),
        }))
    }
}

/// A network's name, which is that of the row before mostly.
fn network_of(reader: &mut Reader<'_>, word: Word<'_>, before: &mut Option<Name>) -> Option<Located<Name>> {
    if let Some(same) = before.as_ref().filter(|before| before.as_str() == word.text) {
        return Some(Located::new(same.clone(), reader.at(word.span)));
    }
    let name = reader.name_of(word)?;
    *before = Some(name.value.clone());
    Some(name)
}

/// Addresses and prefixes with spaces between them.
fn prefixes<L: FromIterator<Located<ipnet::IpNet>>>(reader: &mut Reader<'_>, word: Word<'_>) -> Option<L> {
    if let Some(other) = word.text.find([',', ';']) {
        let sign = &word.text[other..=other];
        return reader.refuse(
            word.span,
            format!("addresses are divided by `{sign}`"),
            "divide them by spaces",
        );
    }
    let mut whole = true;
    let prefixes = word.text.split_ascii_whitespace().filter_map(|text| {
        let prefix = reader.prefix_of(Word { text, span: part(word, text) });
        whole &= prefix.is_some();
        prefix
    });
    let found = prefixes.collect();
    whole.then_some(found)
}

/// Where a part of a value stands. A quoted one starts behind its quote.
fn part(word: Word<'_>, text: &str) -> Span {
    let quote = usize::from((word.span.end - word.span.start) as usize > word.text.len());
    let before = text.as_ptr() as usize - word.text.as_ptr() as usize;
    let start = word.span.start as usize + quote + before;
    let column = word.span.column as usize + quote + word.text[..before].chars().count();
    Span::new(start..start + text.len(), word.span.line as usize, column)
}

/// Digits, which a table keeps as they are and a spreadsheet does not.
fn digits<T: for<'t> From<&'t str>>(
    reader: &mut Reader<'_>,
    word: Word<'_>,
    what: &str,
    least: usize,
    most: usize,
) -> Option<Located<T>> {
    let Word { text, span } = word;
    if is_digits(text, least, most) {
        return Some(Located::new(text.into(), reader.at(span)));
    }
    let rounded = text.to_ascii_uppercase().contains("E+");
    let help = match rounded {
        true => "a spreadsheet has rounded it: format the column as text, and export again".to_owned(),
        false => format!("an {what} is {least} to {most} digits"),
    };
    reader.refuse(span, format!("{text:?} is not an {what}"), help)
}
