//! Offset in a file → path in its document, like `spec.allow[1].ports[0]`.
//!
//! Worked out only for files that have problems, by reading them once more: readers of fields
//! need not carry a path along for messages that are almost never written.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use super::csv;
use super::diagnostic::{Diagnostic, Diagnostics};
use super::location::{SourceFile, Span};
use super::node::{Node, Value};
use super::yaml;

/// Fills in the path of every problem that has a place.
pub(crate) fn fill(items: &mut [Diagnostic]) {
    let mut files: BTreeMap<*const SourceFile, Vec<usize>> = BTreeMap::new();
    for (index, item) in items.iter().enumerate() {
        if let Some(origin) = item.origin.as_ref().filter(|origin| origin.line() > 0) {
            files.entry(Arc::as_ptr(origin.source())).or_default().push(index);
        }
    }
    for indexes in files.into_values() {
        fill_file(items, &indexes);
    }
}

fn fill_file(items: &mut [Diagnostic], indexes: &[usize]) {
    let Some(first) = indexes.first().and_then(|index| items[*index].origin.clone()) else {
        return;
    };
    if first.source().is_inventory() {
        return fill_table(items, indexes, first.source().text());
    }
    let roots = yaml::documents(first.source(), &mut Diagnostics::default()).roots;
    for index in indexes {
        let item = &mut items[*index];
        let span = item.origin.as_ref().map(|origin| origin.span());
        item.path = span.and_then(|span| of(&roots, span));
    }
}

/// In a table the path is the name of the column.
fn fill_table(items: &mut [Diagnostic], indexes: &[usize], text: &str) {
    let mut rows = csv::rows(text);
    let Some(header) = rows.next() else { return };
    let mut names = Vec::new();
    // What can be read of a flawed line is enough to find a place in it.
    let _ = header.cells(&mut names);
    let mut wanted: Vec<usize> = indexes.to_vec();
    wanted.sort_by_key(|index| items[*index].line);
    let mut rows = rows.peekable();
    for index in wanted {
        let item = &mut items[index];
        while rows.next_if(|row| row.line < item.line as usize).is_some() {}
        let Some(row) = rows.peek().filter(|row| row.line == item.line as usize) else { continue };
        let mut cells = Vec::new();
        let _ = row.cells(&mut cells);
        let column = cells.iter().rposition(|cell| cell.span.column <= item.column);
        let whole = item.origin.as_ref().is_some_and(|origin| origin.span() == row.whole());
        item.path = column.filter(|_| !whole).and_then(|at| Some(names.get(at)?.text.to_string()));
    }
}

fn of(roots: &[Node], span: Span) -> Option<String> {
    let after = roots.partition_point(|root| root.span.start <= span.start);
    let root = &roots[after.checked_sub(1)?];
    let mut path = String::new();
    descend(root, span, &mut path);
    (!path.is_empty()).then_some(path)
}

fn descend(node: &Node, span: Span, path: &mut String) {
    match &node.value {
        Value::Null | Value::Scalar { .. } => {}
        Value::Sequence(items) => {
            let after = items.partition_point(|item| item.span.start <= span.start);
            let Some(index) = after.checked_sub(1).filter(|index| holds(&items[*index], span)) else {
                return;
            };
            // Writing to a String cannot fail.
            let _ = write!(path, "[{index}]");
            descend(&items[index], span, path);
        }
        Value::Mapping(entries) => {
            let after = entries.partition_point(|entry| entry.key_span.start <= span.start);
            let Some(entry) = after.checked_sub(1).map(|index| &entries[index]) else {
                return;
            };
            if span.start < entry.key_span.end || holds(&entry.node, span) {
                if !path.is_empty() {
                    path.push('.');
                }
                path.push_str(&entry.key);
                descend(&entry.node, span, path);
            }
        }
    }
}

/// True if the problem lies inside a value and is not that whole value's own beginning.
fn holds(node: &Node, span: Span) -> bool {
    node.span.start <= span.start && span.start < node.span.end.max(node.span.start + 1)
}
