//! A systemd for measurements: shares the folder that its first argument names, installs the unit files that the others
//! name, prints how it is reached, and ends with its standard input.

use std::io::Read as _;
use std::path::Path;

use backout_testkit::systemd::Machine;

fn main() {
    let mut args = std::env::args().skip(1);
    let machine = Machine::sharing(&[args.next().expect("a folder").into()]);
    for path in args {
        let name = Path::new(&path).file_name().expect("a name").to_string_lossy().into_owned();
        machine.install(&name, &std::fs::read_to_string(&path).expect("a unit file"));
    }
    println!("ADDRESS={}", machine.address());
    println!("ROOT={}", machine.root().display());
    println!("LEADER={}", machine.leader());
    println!("ready");
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
}
