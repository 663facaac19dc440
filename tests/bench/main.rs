//! `cargo xtask bench`: nanoseconds per packet, side by side in one run. See README.md beside this file.
#![expect(clippy::print_stdout, reason = "its output is the table")]

mod alone;
mod bytecode;
mod control;
mod fleet;
mod lab;
mod options;
mod path;
mod peers;
mod program;
mod table;

use anyhow::Result;
use tests::kernel::privilege;

use options::Options;
use table::Table;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let Some((control::ALONE, more)) = arguments.split_first().map(|(first, more)| (first.as_str(), more))
    {
        println!("{}", control::run(more)?);
        return Ok(());
    }
    let options = Options::parse(arguments.into_iter())?;
    if !privilege::granted() {
        return Ok(());
    }
    if options.wants(control::WORD) {
        println!("{}", control::measure(&options)?);
    }
    let mut alone = Table::new("The program alone", "bare XDP_DROP", options.only.clone());
    let mut drop = Table::new("Dropped, over veth", "bare XDP_DROP", options.only.clone());
    let mut forward = Table::new("Forwarded, over veth", "no firewall", options.only.clone());
    alone::measure(&options, &mut alone)?;
    lab::within(|lab| {
        path::dropped(lab, &options, &mut drop)?;
        path::forwarded(lab, &options, &mut forward)
    })?;
    for table in [alone, drop, forward] {
        if options.json { print!("{}", table.json()) } else { println!("{}", table.text()) }
    }
    Ok(())
}
