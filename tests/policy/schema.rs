//! The JSON Schema for editors, against everything that is accepted, by a validator that is not ours.

use std::fs;
use std::path::{Path, PathBuf};

use bulkhead::policy::SCHEMA;
use serde_json::Value;
use tests::schema::Schema;

fn schema() -> Schema {
    Schema::read(SCHEMA).unwrap_or_else(|error| panic!("agent/src/policy/schema.json: {error}"))
}

/// Every document that people are shown as right, with where it stands.
fn right() -> Vec<(String, Value)> {
    let policies = Path::new("../policies");
    let mut files: Vec<PathBuf> = vec!["fixtures/policies/accepted/whole-language.yaml".into()];
    for folder in [policies.to_owned(), policies.join("demo"), policies.join("demo/host")] {
        let listed = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        files.extend(listed.filter(|path| path.extension().is_some_and(|end| end == "yaml")));
    }
    let mut texts: Vec<(String, String)> =
        files.iter().map(|path| (path.display().to_string(), fs::read_to_string(path).unwrap())).collect();
    let page = fs::read_to_string(policies.join("README.md")).unwrap();
    let blocks =
        page.split("\n```").filter_map(|block| block.strip_prefix("yaml")).filter_map(|b| b.split_once('\n'));
    texts.extend(blocks.map(|(_, text)| ("policies/README.md".to_owned(), text.to_owned())));
    texts
        .iter()
        .flat_map(|(name, text)| documents(text).into_iter().map(|value| (name.clone(), value)))
        .collect()
}

fn documents(text: &str) -> Vec<Value> {
    let marked = format!("\n{text}");
    let documents = marked.split("\n---").filter(|document| document.contains("kind:"));
    documents
        .map(|document| serde_yaml::from_str(document).unwrap_or_else(|e| panic!("{e}: {document}")))
        .collect()
}

#[test]
fn the_schema_knows_every_field_that_people_are_shown() {
    let (schema, right) = (schema(), right());
    assert!(right.len() > 40, "only {} documents", right.len());
    let found: Vec<String> = right
        .iter()
        .filter_map(|(name, value)| schema.validate(value).err().map(|error| format!("{name}: {error}")))
        .collect();
    assert!(found.is_empty(), "agent/src/policy/schema.json is behind the language:\n{}", found.join("\n"));
}

#[test]
fn the_schema_refuses_what_is_no_field_and_what_lacks_one() {
    let schema = schema();
    for (text, told) in [
        ("kind: Segment\nmetadata: {name: a}\nspec: {membrs: {}}", "membrs"),
        ("kind: Device\nmetadata: {name: a}\nspec: {network: n}", "addresses"),
        ("kind: Gadget\nmetadata: {name: a}\nspec: {}", "/kind"),
        (
            "kind: Agent\nspec: {interfaces: [{name: n3, roles: [acess], transit: drop}]}",
            "/spec/interfaces/0/roles/0",
        ),
    ] {
        let found: Vec<String> = documents(text)
            .iter()
            .filter_map(|value| schema.validate(value).err().map(|error| error.to_string()))
            .collect();
        assert!(found.join("\n").contains(told), "{told}: {found:?}");
    }
}
