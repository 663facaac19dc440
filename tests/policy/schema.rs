//! The JSON Schema for editors, against everything that is accepted; and by somebody else's validator, if there is one.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use bulkhead::policy::SCHEMA;
use serde_json::Value;

/// Whoever has it gets a second opinion: `pip install check-jsonschema`.
const VALIDATOR: &str = "check-jsonschema";

fn schema() -> Value {
    serde_json::from_str(SCHEMA).unwrap()
}

/// What a document has that the schema does not know, or lacks; only the keywords that ours uses.
fn wrong(root: &Value, schema: &Value, value: &Value, at: &str) -> Vec<String> {
    if let Some(name) = schema["$ref"].as_str() {
        let target = root.pointer(name.trim_start_matches('#')).unwrap_or_else(|| panic!("no {name}"));
        return wrong(root, target, value, at);
    }
    if let Some(ways) = schema["oneOf"].as_array().or(schema["anyOf"].as_array()) {
        let found = ways.iter().map(|way| wrong(root, way, value, at));
        return found.min_by_key(Vec::len).unwrap_or_default();
    }
    let allowed = schema["enum"]
        .as_array()
        .cloned()
        .unwrap_or_else(|| schema.get("const").cloned().into_iter().collect());
    if !allowed.is_empty() && !allowed.contains(value) {
        return vec![format!("{at}: {value} is none of {allowed:?}")];
    }
    match value {
        Value::Object(fields) => {
            let known = &schema["properties"];
            let other = &schema["additionalProperties"];
            let missing = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
            let missing =
                missing.filter(|key| !fields.contains_key(*key)).map(|key| format!("{at}: no {key}"));
            let inside = fields.iter().flat_map(|(key, value)| match (known.get(key), other) {
                (Some(schema), _) => wrong(root, schema, value, &format!("{at}.{key}")),
                (None, Value::Object(_)) => wrong(root, other, value, &format!("{at}.{key}")),
                (None, _) => vec![format!("{at}: the schema does not know {key}")],
            });
            missing.chain(inside).collect()
        }
        Value::Array(items) => {
            items.iter().flat_map(|item| wrong(root, &schema["items"], item, &format!("{at}[]"))).collect()
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Vec::new(),
    }
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
    let found: Vec<String> =
        right.iter().flat_map(|(name, value)| wrong(&schema, &schema, value, name)).collect();
    assert!(found.is_empty(), "agent/src/policy/schema.json is behind the language:\n{}", found.join("\n"));
}

#[test]
fn the_schema_refuses_what_is_no_field_and_what_lacks_one() {
    let schema = schema();
    for (text, told) in [
        ("kind: Segment\nmetadata: {name: a}\nspec: {membrs: {}}", "does not know membrs"),
        ("kind: Device\nmetadata: {name: a}\nspec: {network: n}", "no addresses"),
        ("kind: Gadget\nmetadata: {name: a}\nspec: {}", "is none of"),
        ("kind: Agent\nspec: {interfaces: [{name: n3, roles: [acess], transit: drop}]}", "is none of"),
    ] {
        let found =
            documents(text).iter().flat_map(|value| wrong(&schema, &schema, value, "$")).collect::<Vec<_>>();
        assert!(found.join("\n").contains(told), "{told}: {found:?}");
    }
}

#[test]
fn another_validator_agrees() {
    if Command::new(VALIDATOR).arg("--version").output().is_err() {
        println!("{VALIDATOR} is not installed: the schema is held against our own reading of it alone");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        path
    };
    let schema = file("schema.json", SCHEMA);
    let right: Vec<PathBuf> = right()
        .iter()
        .enumerate()
        .map(|(n, (_, value))| file(&format!("{n}.json"), &value.to_string()))
        .collect();
    let judge = |files: &[PathBuf]| {
        Command::new(VALIDATOR).arg("--schemafile").arg(&schema).args(files).output().unwrap()
    };
    let output = judge(&right);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    let wrong =
        file("wrong.json", r#"{"kind": "Segment", "metadata": {"name": "a"}, "spec": {"membrs": {}}}"#);
    assert!(!judge(&[wrong]).status.success());
}
