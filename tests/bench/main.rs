//! `cargo xtask bench`: nanoseconds per packet, side by side in one run. See README.md beside this file.
#![expect(clippy::print_stdout, reason = "its output is the table")]

mod alone;
mod bytecode;
mod chart;
mod control;
mod first;
mod fleet;
mod growth;
mod lab;
mod options;
mod path;
mod peers;
mod program;
mod table;

use anyhow::Result;
use tests::kernel::privilege;

use options::Options;
use table::{A_PACKET, Table};

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
    if let Some(chart) = &options.growth {
        print(&options, growth::measure(&options, chart)?);
        return Ok(());
    }
    if options.wants(control::WORD) {
        println!("{}", control::measure(&options)?);
    }
    let mut alone = Table::new("The program alone", A_PACKET, "bare XDP_DROP", options.only.clone());
    let mut drop = Table::new("Dropped, over veth", A_PACKET, "bare XDP_DROP", options.only.clone());
    let mut forward = Table::new("Forwarded, over veth", A_PACKET, "no firewall", options.only.clone());
    alone::measure(&options, &mut alone)?;
    lab::within(|lab| {
        path::dropped(lab, &options, &mut drop)?;
        path::forwarded(lab, &options, &mut forward)
    })?;
    print(&options, [alone, drop, forward]);
    Ok(())
}

fn print(options: &Options, tables: [Table; 3]) {
    for table in tables {
        if options.json { print!("{}", table.json()) } else { println!("{}", table.text()) }
    }
}
