//! Problems as an operator reads them: the line, a caret, and what to do.

use annotate_snippets::renderer::{DEFAULT_TERM_WIDTH, Renderer};
use annotate_snippets::{AnnotationKind, Group, Level, Origin, Snippet};

use super::diagnostic::{Diagnostic, Diagnostics, Severity};

/// Draws all problems, a blank line between them and a count at the end.
pub(crate) fn report(found: &Diagnostics, colour: bool) -> String {
    let renderer = renderer(colour);
    let mut out = String::new();
    for diagnostic in found.iter() {
        for line in renderer.render(&[group(diagnostic)]).lines() {
            // The library marks a place that is not followed by its own path; it says nothing.
            if anstream::adapter::strip_str(line).to_string().trim() != ":::" {
                out.push_str(line);
                out.push('\n');
            }
        }
        out.push('\n');
    }
    if found.omitted() > 0 {
        out.push_str(&format!("… and {} more problems\n", found.omitted()));
    }
    out.truncate(out.trim_end().len());
    if !out.is_empty() {
        out.push('\n');
    }
    out
}

fn renderer(colour: bool) -> Renderer {
    // Excerpts are cut to a bearable length already; a second cut would hide the caret's label.
    let width = DEFAULT_TERM_WIDTH * 4;
    match colour {
        true => Renderer::styled().term_width(width),
        false => Renderer::plain().term_width(width),
    }
}

fn group(diagnostic: &Diagnostic) -> Group<'_> {
    let title = level(diagnostic.severity).primary_title(diagnostic.problem.as_str());
    let group = Group::with_title(title);
    match &diagnostic.excerpt {
        Some(excerpt) => group.element(origin(diagnostic)).element(
            Snippet::source(excerpt.text.as_str()).line_start(diagnostic.line as usize).annotation(
                AnnotationKind::Primary.span(excerpt.start..excerpt.end).label(diagnostic.help.as_str()),
            ),
        ),
        None if diagnostic.file.is_empty() => group.element(Level::HELP.message(diagnostic.help.as_str())),
        None => group.element(origin(diagnostic)).element(Level::HELP.message(diagnostic.help.as_str())),
    }
}

fn origin(diagnostic: &Diagnostic) -> Origin<'_> {
    let origin = Origin::path(diagnostic.file.as_str());
    match diagnostic.line {
        0 => origin,
        line => origin.line(line as usize).char_column(diagnostic.column as usize),
    }
}

fn level(severity: Severity) -> Level<'static> {
    match severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
        Severity::Note => Level::NOTE,
    }
}
