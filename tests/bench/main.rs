//! `cargo xtask bench`: nanoseconds per packet, side by side in one run. See README.md beside this file.
#![expect(clippy::print_stdout, reason = "its output is the table")]

mod alone;
mod bytecode;
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
    let options = Options::parse(std::env::args().skip(1))?;
    if !privilege::granted() {
        return Ok(());
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
