//! Work that several processors do at once.

use std::num::NonZero;
use std::panic::resume_unwind;
use std::thread;

/// How many there are for this process.
pub(crate) fn count() -> usize {
    thread::available_parallelism().map_or(1, NonZero::get)
}

/// What becomes of each part, in their order: of the first on this thread, of each other on one of its own. A panic in
/// one of them goes on here.
pub(crate) fn each<P: Send, R: Send>(
    parts: impl IntoIterator<Item = P>,
    act: impl Fn(P) -> R + Sync,
) -> Vec<R> {
    let (mut parts, act) = (parts.into_iter(), &act);
    let Some(first) = parts.next() else { return Vec::new() };
    thread::scope(|scope| {
        let others: Vec<_> = parts.map(|part| scope.spawn(move || act(part))).collect();
        let first = act(first);
        let others =
            others.into_iter().map(|other| other.join().unwrap_or_else(|panic| resume_unwind(panic)));
        std::iter::once(first).chain(others).collect()
    })
}

/// What becomes of two different things: of the first on this thread, of the other on one of its own.
pub(crate) fn both<A, B: Send>(first: impl FnOnce() -> A, other: impl FnOnce() -> B + Send) -> (A, B) {
    thread::scope(|scope| {
        let other = scope.spawn(other);
        let first = first();
        (first, other.join().unwrap_or_else(|panic| resume_unwind(panic)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_becomes_of_each_stands_in_its_place() {
        assert_eq!(each(0..5, |part| part * 2), [0, 2, 4, 6, 8]);
        assert_eq!(each(0..0, |part: u32| part), [0; 0]);
        assert_eq!(both(|| 1, || "two"), (1, "two"));
    }

    #[test]
    fn a_panic_of_one_goes_on_here() {
        let ended = std::panic::catch_unwind(|| each(0..3, |part| assert!(part != 2)));
        assert!(ended.is_err());
    }
}
