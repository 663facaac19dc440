//! Counts what libtest prints.

/// The start of a line by which a test says that it did not run, and why.
const SKIPPED: &str = "skipped: ";

/// Counts of all targets so far, with the names of what did not pass.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    passed: u64,
    failures: Vec<String>,
    skips: Vec<String>,
    target: Progress,
}

/// What is known of the target that is running.
#[derive(Debug, Default)]
struct Progress {
    label: String,
    /// Whether the names of the tests that passed are being listed, for a second time.
    listing: bool,
    /// Whether it printed its result.
    closed: bool,
    /// Whether the captured output that follows is of tests that passed.
    of_passed: bool,
    /// The test whose captured output is being printed.
    section: Option<String>,
    failures: usize,
    /// Tests that skipped themselves, which the result counts as passed.
    skips: u64,
}

impl Tally {
    /// Begins a target, whose label goes before the names of its tests.
    pub(crate) fn begin_target(&mut self, label: &str) {
        self.target = Progress { label: label.to_owned(), ..Progress::default() };
    }

    /// Reads one line of the running target and tells whether it is worth showing: not the list of the tests that
    /// passed, which libtest has printed line by line.
    pub(crate) fn read(&mut self, line: &str) -> bool {
        let listed = self.target.listing && (line.is_empty() || line.starts_with("    "));
        if !listed {
            self.target.listing = line == "successes:";
            self.read_news(line);
        }
        !listed && !self.target.listing
    }

    fn read_news(&mut self, line: &str) {
        if let Some(result) = line.strip_prefix("test result: ") {
            self.passed += count(result, " passed").saturating_sub(self.target.skips);
            self.target.closed = true;
            self.target.section = None;
        } else if let Some(test) = line.strip_prefix("test ") {
            self.read_outcome(test);
        } else if line == "successes:" || line == "failures:" {
            self.target.of_passed = line == "successes:";
            self.target.section = None;
        } else if let Some(name) = section_name(line) {
            self.target.section = Some(name.to_owned());
        } else if let Some(reason) = line.strip_prefix(SKIPPED) {
            self.read_skip(reason);
        }
    }

    /// Ends the running target; one that died has no result to count, and that is a failure too.
    pub(crate) fn end_target(&mut self, success: bool) {
        let ended = std::mem::take(&mut self.target);
        if !ended.closed {
            self.fail(&format!("{}: ended without a result", ended.label));
        } else if !success && ended.failures == 0 {
            self.fail(&format!("{}: failed after its tests", ended.label));
        }
    }

    /// Counts a failure that no test reports.
    pub(crate) fn fail(&mut self, what: &str) {
        self.failures.push(what.to_owned());
    }

    /// Counts a target that does not exist as skipped, so that CI refuses it.
    pub(crate) fn absent(&mut self, tier: &str, name: &str) {
        self.skips.push(format!("{tier}: package tests has no [[test]] {name}"));
    }

    pub(crate) fn passed(&self) -> u64 {
        self.passed
    }

    pub(crate) fn failed(&self) -> usize {
        self.failures.len()
    }

    pub(crate) fn skipped(&self) -> usize {
        self.skips.len()
    }

    /// Everything counted.
    pub(crate) fn total(&self) -> u64 {
        self.passed + self.failed() as u64 + self.skipped() as u64
    }

    pub(crate) fn skips(&self) -> &[String] {
        &self.skips
    }

    pub(crate) fn failures(&self) -> &[String] {
        &self.failures
    }

    /// The line that a CI reads.
    pub(crate) fn closing_line(&self) -> String {
        format!("{} passed, {} failed, {} skipped", self.passed, self.failed(), self.skipped())
    }

    fn read_outcome(&mut self, test: &str) {
        let Some((name, outcome)) = test.rsplit_once(" ... ") else {
            return;
        };
        if outcome == "FAILED" || outcome.starts_with("FAILED ") {
            self.target.failures += 1;
            self.failures.push(format!("{}: {name}", self.target.label));
        } else if let Some(reason) = outcome.strip_prefix("ignored") {
            self.skips.push(format!("{}: {name}: ignored{reason}", self.target.label));
        }
    }

    /// Takes a skip off the passes, once a test: its output may say the line twice.
    fn read_skip(&mut self, reason: &str) {
        if !self.target.of_passed {
            return;
        }
        if let Some(name) = self.target.section.take() {
            self.skips.push(format!("{}: {name}: {reason}", self.target.label));
            self.target.skips += 1;
        }
    }
}

/// The number in front of ` passed` in `ok. 3 passed; 0 failed; …`.
fn count(result: &str, what: &str) -> u64 {
    let before = result.split(what).next().unwrap_or_default();
    before.rsplit(' ').next().and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// The name in `---- name stdout ----`.
fn section_name(line: &str) -> Option<&str> {
    line.strip_prefix("---- ")?.strip_suffix(" stdout ----")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally_of(output: &str, success: bool) -> Tally {
        let mut tally = Tally::default();
        tally.begin_target("kernel");
        output.lines().for_each(|line| {
            tally.read(line);
        });
        tally.end_target(success);
        tally
    }

    #[test]
    fn passes_failures_and_ignored_tests_are_counted() {
        let output = "running 3 tests\ntest a ... ok\ntest b ... FAILED\ntest c ... ignored, slow\n\nfailures:\n\n\
                      ---- b stdout ----\nboom\n\nfailures:\n    b\n\n\
                      test result: FAILED. 1 passed; 1 failed; 1 ignored; 0 measured; 0 filtered out";
        let tally = tally_of(output, false);
        assert_eq!(tally.closing_line(), "1 passed, 1 failed, 1 skipped");
        assert_eq!(tally.failures(), ["kernel: b"]);
        assert_eq!(tally.skips(), ["kernel: c: ignored, slow"]);
    }

    #[test]
    fn a_skip_is_taken_off_the_passes_once() {
        let output = "test a ... ok\ntest b ... ok\n\nsuccesses:\n\n---- b stdout ----\nskipped: needs CAP_BPF\n\
                      skipped: needs CAP_BPF\n\nsuccesses:\n    a\n    b\n\n\
                      test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out";
        let tally = tally_of(output, true);
        assert_eq!(tally.closing_line(), "1 passed, 0 failed, 1 skipped");
        assert_eq!(tally.skips(), ["kernel: b: needs CAP_BPF"]);
    }

    #[test]
    fn a_failed_test_that_spoke_of_skipping_failed_all_the_same() {
        let output = "test b ... FAILED\n\nfailures:\n\n---- b stdout ----\nskipped: needs CAP_BPF\nrefused\n\n\
                      failures:\n    b\n\ntest result: FAILED. 0 passed; 1 failed; 0 ignored; 0 measured";
        assert_eq!(tally_of(output, false).closing_line(), "0 passed, 1 failed, 0 skipped");
    }

    #[test]
    fn a_target_that_dies_is_a_failure() {
        let tally = tally_of("running 2 tests\ntest a ... ok", false);
        assert_eq!(tally.failures(), ["kernel: ended without a result"]);
    }

    #[test]
    fn a_target_that_fails_after_its_tests_is_a_failure() {
        let tally = tally_of("test result: ok. 1 passed; 0 failed; 0 ignored", false);
        assert_eq!(tally.closing_line(), "1 passed, 1 failed, 0 skipped");
    }

    #[test]
    fn names_of_passed_tests_are_shown_once() {
        let output = "test a ... ok\n\nsuccesses:\n\n---- a stdout ----\ncost: 7\n\n\nsuccesses:\n    a\n\ntest result: ok. 1 passed;";
        let mut tally = Tally::default();
        let shown: Vec<&str> =
            output.lines().filter(|line| tally.read(line)).filter(|line| !line.is_empty()).collect();
        assert_eq!(shown, ["test a ... ok", "---- a stdout ----", "cost: 7", "test result: ok. 1 passed;"]);
    }

    #[test]
    fn an_absent_target_is_a_skip() {
        let mut tally = Tally::default();
        tally.absent("netns", "enforcement");
        assert_eq!(tally.skips(), ["netns: package tests has no [[test]] enforcement"]);
    }

    #[test]
    fn a_target_with_a_skip_only_has_no_pass() {
        let output = "test b ... ok\n\nsuccesses:\n\n---- b stdout ----\nskipped: no kernel\n\n\
                      successes:\n    b\n\ntest result: ok. 1 passed; 0 failed; 0 ignored";
        assert_eq!(tally_of(output, true).closing_line(), "0 passed, 0 failed, 1 skipped");
    }
}
