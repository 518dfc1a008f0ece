//! `cargo test` over the workspace. Tests here start engines, servers and traffic on a machine that does other things,
//! too: what fails beside others is run once more by itself, and is told either way. A second failure is one.

use std::io::{BufRead as _, BufReader, Write as _};

use crate::{Outcome, run};

/// With more failures than this nothing is run again: that is no accident.
const MOST: usize = 8;

/// The tests of one binary that failed.
#[derive(Debug, Default, PartialEq, Eq)]
struct Failed {
    /// How cargo names the binary: `-p backout --test it`.
    target: Vec<String>,
    /// The tests.
    names: Vec<String>,
}

/// Reads failures from what cargo and the test binaries say, in its order.
#[derive(Debug, Default)]
struct Reader {
    /// The names of the list that is being read, or was read last.
    names: Vec<String>,
    in_list: bool,
    failed: Vec<Failed>,
}

impl Reader {
    fn line(&mut self, line: &str) {
        let rerun = line.strip_prefix("error: test failed, to rerun pass `");
        if line == "failures:" {
            (self.in_list, self.names) = (true, Vec::new());
        } else if let Some(target) = rerun.and_then(|rest| rest.strip_suffix('`')) {
            let target = target.split_whitespace().map(str::to_owned).collect();
            let names = std::mem::take(&mut self.names);
            self.failed.push(Failed { target, names });
        } else if let Some(name) = line.strip_prefix("    ").filter(|_| self.in_list) {
            self.names.push(name.to_owned());
        } else if !line.is_empty() {
            self.in_list = false;
        }
    }
}

/// Runs all tests.
pub fn test() -> Outcome<()> {
    let mut command = run::cargo(&["test", "--workspace", "--locked", "--no-fail-fast"])?;
    let words = run::words(&command);
    let broken = |error: std::io::Error| format!("failed to run `{words}`: {error}");
    let (reader, writer) = std::io::pipe().map_err(broken)?;
    command.stdout(writer.try_clone().map_err(broken)?).stderr(writer);
    let mut child = command.spawn().map_err(broken)?;
    // The command holds the other end of the pipe, which would never close.
    drop(command);
    let mut failures = Reader::default();
    for line in BufReader::new(reader).split(b'\n') {
        let line = line.map_err(broken)?;
        let line = String::from_utf8_lossy(&line);
        println!("{line}");
        let _ = std::io::stdout().flush();
        failures.line(line.trim_end());
    }
    let status = child.wait().map_err(broken)?;
    if status.success() {
        return Ok(());
    }
    again(&failures.failed).map_err(|why| format!("`{words}` ended with {status}; {why}"))
}

/// Runs what failed once more, alone.
fn again(failed: &[Failed]) -> Result<(), String> {
    let count: usize = failed.iter().map(|failed| failed.names.len()).sum();
    if count == 0 || count > MOST || failed.iter().any(|failed| failed.names.is_empty()) {
        return Err(format!("{count} tests failed, and none is run again"));
    }
    for Failed { target, names } in failed {
        println!("\nrun again, alone: {}", names.join(", "));
        let mut args = vec!["test", "--locked"];
        args.extend(target.iter().map(String::as_str));
        args.extend(["--", "--exact", "--test-threads=1"]);
        args.extend(names.iter().map(String::as_str));
        run::run(run::cargo(&args)?).map_err(|_| format!("again: {}", names.join(", ")))?;
    }
    println!("\n{count} tests failed beside others and passed alone: they wait for too little");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAID: &str = "\
     Running tests/it/main.rs (target/debug/deps/it-1)

running 3 tests
test a::one ... ok
test a::two ... FAILED
test b::three ... FAILED

failures:

---- a::two stdout ----
    four spaces in an output

failures:
    a::two
    b::three

test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.00s

error: test failed, to rerun pass `-p backout --test it`
     Running unittests src/lib.rs (target/debug/deps/x-2)

failures:

---- tests::four stdout ----
failures:
    tests::four

test result: FAILED. 0 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s

error: test failed, to rerun pass `-p backout-core --lib`
";

    #[test]
    fn failures_are_read_with_their_binaries() {
        let mut reader = Reader::default();
        SAID.lines().for_each(|line| reader.line(line));
        let failed = |target: &str, names: &[&str]| Failed {
            target: target.split(' ').map(str::to_owned).collect(),
            names: names.iter().map(|name| (*name).to_owned()).collect(),
        };
        let wanted = [
            failed("-p backout --test it", &["a::two", "b::three"]),
            failed("-p backout-core --lib", &["tests::four"]),
        ];
        assert_eq!(reader.failed, wanted);
    }

    #[test]
    fn a_binary_that_died_and_many_failures_are_not_run_again() {
        let died = Failed { target: vec!["-p".to_owned()], names: Vec::new() };
        assert!(again(&[died]).unwrap_err().contains("none is run again"));
        let many = Failed { target: Vec::new(), names: vec!["x".to_owned(); MOST + 1] };
        assert!(again(&[many]).unwrap_err().contains("9 tests failed"));
    }
}
