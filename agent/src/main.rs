//! The binary: everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    bulkhead::heap::grow_in_strides();
    bulkhead::cli::main()
}
