//! Two texts, line by line: what went, what came, and a little of what stayed.

/// Lines of context around a change.
const AROUND: usize = 2;
/// Beyond this many lines on either side the texts are shown whole: comparing takes their product.
const LONGEST: usize = 2_000;

/// One line of a difference.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Line<'a> {
    /// In both.
    Stays(&'a str),
    /// Only in the first.
    Goes(&'a str),
    /// Only in the second.
    Comes(&'a str),
    /// Lines that stay and are not shown.
    Skipped,
}

/// What leads from one text to another, with context.
pub(super) fn difference<'a>(before: &'a str, after: &'a str) -> Vec<Line<'a>> {
    let (before, after): (Vec<&str>, Vec<&str>) = (before.lines().collect(), after.lines().collect());
    if before.len().max(after.len()) > LONGEST {
        let goes = before.into_iter().map(Line::Goes);
        return goes.chain(after.into_iter().map(Line::Comes)).collect();
    }
    shortened(&script(&before, &after))
}

/// The longest common subsequence, read forwards.
fn script<'a>(before: &[&'a str], after: &[&'a str]) -> Vec<Line<'a>> {
    let common = common(before, after);
    let (mut lines, mut i, mut j) = (Vec::new(), 0, 0);
    while i < before.len() || j < after.len() {
        if i < before.len() && j < after.len() && before[i] == after[j] {
            lines.push(Line::Stays(before[i]));
            (i, j) = (i + 1, j + 1);
        } else if j >= after.len() || (i < before.len() && common[i + 1][j] >= common[i][j + 1]) {
            lines.push(Line::Goes(before[i]));
            i += 1;
        } else {
            lines.push(Line::Comes(after[j]));
            j += 1;
        }
    }
    lines
}

/// How long the common subsequence of what follows each pair of places is.
fn common(before: &[&str], after: &[&str]) -> Vec<Vec<u16>> {
    let mut table = vec![vec![0; after.len() + 1]; before.len() + 1];
    for i in (0..before.len()).rev() {
        for j in (0..after.len()).rev() {
            table[i][j] = match before[i] == after[j] {
                true => table[i + 1][j + 1] + 1,
                false => table[i + 1][j].max(table[i][j + 1]),
            };
        }
    }
    table
}

fn shortened<'a>(lines: &[Line<'a>]) -> Vec<Line<'a>> {
    let changed: Vec<usize> = (0..lines.len()).filter(|at| !matches!(lines[*at], Line::Stays(_))).collect();
    let near = |at: usize| {
        let next = changed.partition_point(|changed| *changed < at);
        let close = |index: Option<&usize>| index.is_some_and(|changed| changed.abs_diff(at) <= AROUND);
        close(changed.get(next)) || close(next.checked_sub(1).and_then(|before| changed.get(before)))
    };
    let mut shown = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        if near(at) {
            shown.push(*line);
        } else if shown.last() != Some(&Line::Skipped) {
            shown.push(Line::Skipped);
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::Line::{Comes, Goes, Skipped, Stays};
    use super::*;

    #[test]
    fn what_changed_is_shown_with_what_is_around_it() {
        let before = "a\nb\nc\nd\ne\nf\n";
        let after = "a\nb\nc\nd\nE\nf\n";
        assert_eq!(
            difference(before, after),
            [Skipped, Stays("c"), Stays("d"), Goes("e"), Comes("E"), Stays("f")]
        );
        assert_eq!(difference("a\n", "a\n"), [Skipped]);
        assert_eq!(difference("", "x\n"), [Comes("x")]);
        assert_eq!(difference("x\n", ""), [Goes("x")]);
    }

    #[test]
    fn both_texts_can_be_put_together_again() {
        let (before, after) = ("a\nb\nc\na\nb\n", "b\na\nc\nb\nb\na\n");
        let (old, new): (Vec<&str>, Vec<&str>) = (before.lines().collect(), after.lines().collect());
        let lines = script(&old, &new);
        let old_again: Vec<&str> =
            lines.iter().filter_map(|l| if let Stays(t) | Goes(t) = l { Some(*t) } else { None }).collect();
        let new_again: Vec<&str> =
            lines.iter().filter_map(|l| if let Stays(t) | Comes(t) = l { Some(*t) } else { None }).collect();
        assert_eq!((old_again, new_again), (old, new));
    }
}
