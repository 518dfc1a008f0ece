//! A Docker Engine for measurements: makes the images that its arguments name (`REFERENCE=VERSION`), prints the
//! variables that lead to it, and ends with its standard input.

use std::io::Read as _;

use backout_testkit::docker::Engine;

fn main() {
    let engine = Engine::own();
    for image in std::env::args().skip(1) {
        let (reference, version) = image.split_once('=').expect("REFERENCE=VERSION");
        engine.web(reference, version);
    }
    for (name, value) in engine.env() {
        println!("{name}={value}");
    }
    println!("ready");
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
}
