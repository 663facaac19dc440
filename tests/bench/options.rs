//! What to measure.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};

/// A number of devices, each with one flow: a power of two, so that numbers can be shuffled by one multiplication.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct Size {
    pub(crate) name: &'static str,
    pub(crate) bits: u32,
}

const ONE: Size = Size { name: "1", bits: 0 };
const FEW: Size = Size { name: "1k", bits: 10 };
const SOME: Size = Size { name: "16k", bits: 14 };
const MANY: Size = Size { name: "128k", bits: 17 };
const MILLION: Size = Size { name: "1M", bits: 20 };
/// From a small site to as many devices as the tables hold.
const GROWING: &[Size] = &[
    FEW,
    Size { name: "4k", bits: 12 },
    SOME,
    Size { name: "64k", bits: 16 },
    Size { name: "256k", bits: 18 },
    MILLION,
    Size { name: "4M", bits: 22 },
];

impl Size {
    pub(crate) const fn devices(self) -> u32 {
        1 << self.bits
    }
}

/// The command line, and what follows from it.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) json: bool,
    /// Rows whose name holds none of these are not measured; nothing here means all.
    pub(crate) only: Vec<String>,
    pub(crate) rounds: u32,
    /// Sizes for the program alone, for what is dropped, and for what is forwarded.
    pub(crate) alone: &'static [Size],
    pub(crate) dropped: &'static [Size],
    pub(crate) forwarded: &'static [Size],
    /// Sizes for the control plane, and how often each.
    pub(crate) control: &'static [Size],
    pub(crate) control_rounds: u32,
    /// Where a chart of growth goes, instead of tables.
    pub(crate) growth: Option<PathBuf>,
}

impl Options {
    /// Reads `--quick`, `--json`, `--growth FILE` and words; cargo adds a `--bench` of its own.
    pub(crate) fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self> {
        let mut options = Self {
            json: false,
            only: Vec::new(),
            rounds: 7,
            alone: &[ONE, MANY, MILLION],
            dropped: &[FEW, MANY, MILLION],
            // The kernel's own table of connections holds no million without being told to.
            forwarded: &[FEW, MANY],
            control: &[FEW, MANY, MILLION],
            control_rounds: 3,
            growth: None,
        };
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--bench" => {}
                "--json" => options.json = true,
                "--quick" => {
                    (options.rounds, options.alone) = (3, &[ONE, SOME]);
                    (options.dropped, options.forwarded) = (&[FEW, SOME], &[FEW, SOME]);
                    (options.control, options.control_rounds) = (&[FEW, SOME], 1);
                }
                "--growth" => {
                    options.growth = Some(arguments.next().context("--growth wants a file name")?.into());
                    (options.rounds, options.dropped, options.control) = (5, GROWING, GROWING);
                    options.forwarded = GROWING.get(..4).unwrap_or_default();
                }
                flag if flag.starts_with('-') => {
                    bail!("unknown flag {flag}: there are --quick, --json and --growth FILE")
                }
                word => options.only.push(word.to_owned()),
            }
        }
        Ok(options)
    }

    /// True if somebody wants to see what is called so.
    pub(crate) fn wants(&self, what: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|word| what.contains(word.as_str()))
    }
}
