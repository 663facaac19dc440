//! SARIF 2.1.0 (OASIS): what code hosts and CI systems show beside the lines of a change.

use serde_json::{Value, json};

use crate::policy::{Diagnostic, Diagnostics, Severity};

const SCHEMA: &str = "https://json.schemastore.org/sarif-2.1.0.json";

/// The problems of one check as one run of a tool.
pub(super) fn report(problems: &Diagnostics) -> Value {
    let severities = [Severity::Error, Severity::Warning, Severity::Note];
    let rules: Vec<Value> = severities.iter().map(|severity| rule(*severity)).collect();
    let results: Vec<Value> = problems.iter().map(result).collect();
    let driver = json!({
        "name": "bulkhead",
        "version": env!("CARGO_PKG_VERSION"),
        "informationUri": env!("CARGO_PKG_REPOSITORY"),
        "rules": rules,
    });
    json!({
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [{"tool": {"driver": driver}, "columnKind": "unicodeCodePoints", "results": results}],
    })
}

/// Problems have sentences and no numbers: what they mean for the apply is what tells them apart.
fn rule(severity: Severity) -> Value {
    let meaning = match severity {
        Severity::Error => "The policy is refused.",
        Severity::Warning => "The policy is accepted, and is probably not what was meant.",
        Severity::Note => "The policy is accepted; the operator should know.",
    };
    json!({"id": id(severity), "shortDescription": {"text": meaning}})
}

fn id(severity: Severity) -> String {
    format!("policy-{}", severity.as_str())
}

fn result(problem: &Diagnostic) -> Value {
    json!({
        "ruleId": id(problem.severity),
        "level": problem.severity.as_str(),
        "message": {"text": format!("{}; {}", problem.problem, problem.help)},
        "locations": locations(problem),
    })
}

fn locations(problem: &Diagnostic) -> Vec<Value> {
    if problem.file.is_empty() {
        return Vec::new();
    }
    let artifact = json!({"uri": uri(&problem.file)});
    let physical = match problem.line {
        0 => json!({"artifactLocation": artifact}),
        line => json!({
            "artifactLocation": artifact,
            "region": {"startLine": line, "startColumn": problem.column.max(1)},
        }),
    };
    vec![json!({"physicalLocation": physical})]
}

/// A path as a URI reference (RFC 3986): everything that is not plain is escaped.
fn uri(path: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte);
    let escaped = path.bytes().map(|byte| match plain(byte) {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    });
    escaped.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_become_references() {
        assert_eq!(uri("policies/ev.yaml"), "policies/ev.yaml");
        assert_eq!(uri("a b/ü#1.yaml"), "a%20b/%C3%BC%231.yaml");
    }
}
