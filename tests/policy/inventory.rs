//! Tables of devices: a row says what a document says.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use bulkhead::policy::{self, INVENTORY_BYTES, Ids, Loaded, SourceFile};

use super::{agent, compile, host, load};

const FIXTURE: &str = "fixtures/policies/compiled/inventory";

/// The fixture with each row of its table as a document of its own.
fn as_documents() -> Loaded {
    let read = |name: &str| fs::read_to_string(Path::new(FIXTURE).join(name)).unwrap();
    let document =
        |row: policy::InventoryRow| SourceFile::new(row.name, policy::as_document("devices.csv", &row.text));
    let mut files = policy::inventory_rows("devices.csv", &read("devices.csv"), document).unwrap();
    assert_eq!(files.len(), 4);
    files.push(SourceFile::new("net.yaml", read("net.yaml")));
    policy::parse(files, Some(&agent())).unwrap_or_else(|found| panic!("{found}"))
}

/// Every device in full, but where it was written.
fn told(loaded: &Loaded) -> Vec<String> {
    let place = |part: &str| part.split_once(['}', ',']).map_or(String::new(), |(_, rest)| rest.to_owned());
    let bare = |text: String| {
        let mut parts = text.split("at: ");
        let first = parts.next().unwrap_or_default().to_owned();
        parts.map(place).fold(first, |text, part| text + &part)
    };
    loaded.policy.devices().values().map(|device| bare(format!("{device:?}"))).collect()
}

#[test]
fn a_row_means_what_a_document_means() {
    let (table, documents) = (load(Path::new(FIXTURE)).unwrap(), as_documents());
    assert_eq!(told(&table), told(&documents));
    let compiled = |loaded: &Loaded| {
        let mut ids = Ids::default();
        policy::compile(&loaded.policy, &agent(), &host(), &mut ids).unwrap().tables
    };
    assert_eq!(compiled(&table), compiled(&documents));
}

#[test]
fn labels_of_a_table_are_text_whatever_they_look_like() {
    let loaded = load(Path::new(FIXTURE)).unwrap();
    let label = |device: &str, label: &str| {
        let devices = loaded.policy.devices();
        devices.values().find(|found| found.name.as_str() == device).unwrap().labels.get(label).cloned()
    };
    assert_eq!(label("charger-1", "note").as_deref(), Some("says \"no\", twice"));
    assert_eq!(label("charger-2", "note").as_deref(), Some("NO"));
    assert_eq!(label("charger-1", "firmware").as_deref(), Some("2.10"));
    assert_eq!(label("meter-1", "class"), None, "an empty value is no label");
}

#[test]
fn rows_share_labels_where_all_are_the_same_and_only_there() {
    let net = "apiVersion: bulkhead/v1\nkind: Network\nmetadata: {name: acme}\nspec:\n  \
               seenOn: [{interface: acc0}]\n  pools: [10.45.0.0/16]\n";
    let rows = [("a", "x,"), ("b", ",x"), ("c", "x,"), ("d", "x,x"), ("e", ",x"), ("f", "\"x\", ")];
    let rows = rows.iter().zip(1..).map(|((name, labels), n)| format!("{name},acme,10.45.0.{n},{labels}\n"));
    let table = "name,network,addresses,labels.one,labels.two\n".to_owned() + &rows.collect::<String>();
    let files = vec![SourceFile::new("net.yaml", net), SourceFile::new("d.csv", table)];
    let loaded = policy::parse(files, None).unwrap_or_else(|found| panic!("{found}"));
    let labels = |name: &str| &loaded.policy.devices()[name].labels;
    let told =
        |name: &str| labels(name).iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>();
    assert_eq!(["a", "b", "d"].map(told), [vec!["one=x"], vec!["two=x"], vec!["one=x", "two=x"]]);
    assert!(Arc::ptr_eq(labels("a"), labels("c")) && Arc::ptr_eq(labels("a"), labels("f")));
    assert!(Arc::ptr_eq(labels("b"), labels("e")));
}

#[test]
fn places_are_counted_through_a_table_that_is_read_in_parts() {
    let net = "apiVersion: bulkhead/v1\nkind: Network\nmetadata: {name: acme}\nspec:\n  \
               seenOn: [{interface: acc0}]\n  pools: [10.0.0.0/8]\n";
    let row = |n: u32| {
        let [_, b, c, d] = n.to_be_bytes();
        format!("meter-{n:05},acme,10.{b}.{c}.{d},{:060},site-{}\n", n, n % 7)
    };
    // Each processor reads a mebibyte at least.
    let rows: Vec<String> = (1..40_000).map(row).collect();
    let parsed = |rows: &[String]| {
        let table = "name,network,addresses,labels.number,labels.site\n".to_owned() + &rows.concat();
        assert!(table.len() > 3 << 20);
        policy::parse(vec![SourceFile::new("net.yaml", net), SourceFile::new("d.csv", table)], None)
    };
    let policy = parsed(&rows).unwrap_or_else(|found| panic!("{found}")).policy;
    assert_eq!(policy.devices().len(), rows.len());
    for (device, line) in policy.devices().values().zip(2..) {
        assert_eq!((device.at.line(), device.addresses[0].at.line(), device.at.column()), (line, line, 1));
        assert_eq!(device.at.file(), "d.csv");
    }
    let mut broken = rows;
    broken[10] = "meter-00011,acme,10.0.0.999,x,y\n".to_owned();
    broken[20_000] = broken[5].clone();
    broken[39_000] = "meter-39001,acme\n".to_owned();
    let found = parsed(&broken).map(drop).unwrap_err();
    let told: Vec<_> = found.iter().map(|problem| (problem.line, &*problem.problem)).collect();
    assert_eq!(told[0].0, 12, "{told:?}");
    let twice = "device meter-00006 is defined twice, first at d.csv:7";
    assert!(told.contains(&(20_002, twice)), "{told:?}");
    assert_eq!(told.last(), Some(&(39_002, "the row has 2 values for 5 columns")), "{told:?}");
}

#[test]
fn a_problem_of_a_table_names_its_column() {
    let text = "name,network,addresses\na,acme,10.0.0.1\n\nb,acme,\"10.0.0.2 10.0.0.999\"\nc,acme\n";
    let found = policy::parse(vec![SourceFile::new("d.csv", text)], None).unwrap_err();
    let told: Vec<_> = found.iter().map(|d| (d.line, d.column, d.path.as_deref())).collect();
    assert_eq!(told, [(2, 3, Some("network")), (4, 18, Some("addresses")), (5, 1, None)]);
}

#[test]
fn a_table_is_read_within_bounds() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("large.CSV");
    fs::File::create(&path).unwrap().set_len(INVENTORY_BYTES as u64 + 1).unwrap();
    let found = policy::load(&[path], None).unwrap_err();
    assert!(found.iter().next().unwrap().problem.contains("larger than 256 MiB"), "{found}");
}

#[test]
fn a_folder_may_hold_tables_beside_documents() {
    let loaded = policy::load(&[FIXTURE.into()], None).unwrap();
    let agent = policy::assumed_agent(&loaded.policy);
    let compiled = compile(&loaded, &policy::assumed_host(&agent)).unwrap();
    assert_eq!((loaded.policy.devices().len(), compiled.tables.addresses.len()), (4, 6));
}
