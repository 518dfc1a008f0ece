//! Running commands.

use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use backout_adapters::host::procfs::ProcessId;
use backout_adapters::host::{CommandLine, Ended, FileLock, Output, StartError, run, write_atomic};

use crate::world::{PATIENCE, World, pid_in, until};

fn line(world: &World, script: &str) -> CommandLine {
    CommandLine {
        program: "/bin/sh".into(),
        args: ["-c", script].map(OsString::from).to_vec(),
        env: vec![("PATH".into(), "/usr/bin:/bin".into())],
        cwd: world.folder(),
        stdin: None,
        timeout: PATIENCE,
        end_grace: Duration::from_millis(300),
        keep: 1024,
        output: Output::Pipe,
    }
}

#[tokio::test]
async fn input_output_environment_and_folder_are_as_given() {
    let world = World::new();
    let mut line = line(&world, "cat; pwd; echo err >&2; env | sort; exit 7");
    line.stdin = Some(b"input\n".to_vec());
    line.env.push(("ONLY".into(), "this".into()));
    let finished = run(line).await.unwrap();
    assert_eq!(finished.ended, Ended::Exited(7));
    let out = finished.stdout.last_text(1000);
    assert!(out.starts_with("input\n") && out.contains("ONLY=this"), "{out}");
    assert!(out.contains(&world.folder().canonicalize().unwrap().display().to_string()), "{out}");
    assert!(!out.contains("CARGO"), "nothing is inherited: {out}");
    assert_eq!(finished.stderr.last_text(100), "err");
}

/// As shells and `execvp` do it.
#[tokio::test]
async fn a_name_leads_past_what_cant_be_started() {
    let world = World::new();
    let start = async |program: &str| {
        let path = format!("{0}/bad:{0}/good:/usr/bin:/bin", world.folder().display());
        let env = vec![("PATH".into(), path.into())];
        let program = program.into();
        run(CommandLine { program, args: Vec::new(), env, ..line(&world, "") }).await
    };
    world.script("bad/tool", "exit 1");
    world.write("bad/tool", "#!/nowhere/sh\n");
    world.script("good/tool", "echo \"$0\" | tail -c 10");
    world.script("good/plain", "");
    world.write("good/plain", "echo no first line\n");
    let said = async |program| start(program).await.unwrap().stdout.last_text(100);
    assert_eq!(said("tool").await, "good/tool");
    assert_eq!(said("plain").await, "no first line");
    assert!(matches!(start("none").await, Err(StartError::Missing(_))));
}

#[tokio::test]
async fn without_input_stdin_is_closed() {
    let world = World::new();
    let finished = run(line(&world, "cat; echo done")).await.unwrap();
    assert_eq!(finished.stdout.last_text(100), "done");
}

#[tokio::test]
async fn a_flood_of_output_is_kept_at_both_ends() {
    let world = World::new();
    let finished =
        run(line(&world, "echo first; head -c 50000000 /dev/zero | tr '\\0' x; echo; echo last"))
            .await
            .unwrap();
    assert_eq!(finished.ended, Ended::Exited(0));
    let text = finished.stdout.last_text(100_000);
    assert!(
        text.starts_with("first") && text.ends_with("last") && text.len() < 5000,
        "{} bytes",
        text.len()
    );
    assert_eq!(finished.stdout.total(), 50_000_012);
}

#[tokio::test]
async fn signals_and_time_outs_are_told_apart() {
    let world = World::new();
    assert_eq!(run(line(&world, "kill -9 $$")).await.unwrap().ended, Ended::Signalled(9));
    let mut slow = line(
        &world,
        "echo $$ > pid; sleep 600 & echo $! > child; trap '' TERM; while :; do sleep 0.1; done",
    );
    slow.timeout = Duration::from_secs(1);
    let running = tokio::spawn(run(slow));
    let (parent, child) =
        (pid_in(&world.folder().join("pid")).await, pid_in(&world.folder().join("child")).await);
    assert_eq!(running.await.unwrap().unwrap().ended, Ended::TimedOut);
    until("the whole group ended", || !parent.is_alive() && !child.is_alive()).await;
}

#[tokio::test]
async fn dropping_the_future_ends_the_group() {
    let world = World::new();
    let running = tokio::spawn(run(line(
        &world,
        "echo $$ > pid; trap '' TERM; sleep 600 & echo $! > child; while :; do sleep 0.1; done",
    )));
    let (parent, child) =
        (pid_in(&world.folder().join("pid")).await, pid_in(&world.folder().join("child")).await);
    running.abort();
    until("the whole group ended", || !parent.is_alive() && !child.is_alive()).await;
}

#[tokio::test]
async fn what_a_command_leaves_running_holds_nobody_up() {
    let world = World::new();
    let finished = run(line(&world, "sleep 600 & echo $! > child; echo started")).await.unwrap();
    assert_eq!(
        (finished.ended, finished.stdout.last_text(100).as_str()),
        (Ended::Exited(0), "started")
    );
    assert!(finished.took < Duration::from_secs(60));
    let child = pid_in(&world.folder().join("child")).await;
    assert!(child.signal(rustix::process::Signal::KILL), "it was left running");
}

#[tokio::test]
async fn why_a_command_did_not_start() {
    let world = World::new();
    let start = async |program: &Path, cwd: &Path| {
        let mut line = line(&world, "");
        line.program = program.to_owned();
        line.cwd = cwd.to_owned();
        run(line).await.unwrap_err()
    };
    let folder = world.folder();
    assert!(matches!(start(&folder.join("none"), &folder).await, StartError::Missing(_)));
    assert!(matches!(
        start(&world.write("plain", "#!/bin/sh\n"), &folder).await,
        StartError::NotExecutable(_)
    ));
    let odd = world.script("odd", "");
    std::fs::write(&odd, [0_u8, 1, 2, 3]).unwrap();
    assert!(matches!(start(&odd, &folder).await, StartError::BadFormat(_)));
    let lost = world.script("lost", "");
    std::fs::write(&lost, "#!/no/such/interpreter\n").unwrap();
    assert!(matches!(start(&lost, &folder).await, StartError::NoInterpreter(_)));
    assert!(matches!(
        start(Path::new("/bin/sh"), &folder.join("gone")).await,
        StartError::NoFolder(..)
    ));
}

#[tokio::test]
async fn a_lock_has_one_holder_and_ends_with_it() {
    let world = World::new();
    let path = world.folder().join("lock");
    assert!(!FileLock::is_held(&path).unwrap());
    let lock = FileLock::try_take(&path).unwrap().unwrap();
    assert!(FileLock::is_held(&path).unwrap());
    assert!(FileLock::try_take(&path).unwrap().is_none());
    assert!(FileLock::take(&path, Duration::from_millis(30)).await.unwrap().is_none());
    drop(lock);
    assert!(!FileLock::is_held(&path).unwrap());
    FileLock::take(&path, Duration::ZERO).await.unwrap().unwrap();
}

#[test]
fn an_atomic_write_replaces_the_whole_file_and_leaves_nothing_else() {
    use std::os::unix::fs::PermissionsExt;
    let world = World::new();
    let path = world.write("file", "long old content");
    write_atomic(&path, b"new", 0o640).unwrap();
    assert_eq!(world.read("file"), "new");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
    assert_eq!(std::fs::read_dir(world.folder()).unwrap().count(), 1);
    write_atomic(&world.folder().join("no/such/folder"), b"new", 0o600).unwrap_err();
}

#[test]
fn this_process_names_itself() {
    assert_eq!(ProcessId::of(std::process::id()), Some(ProcessId::current()));
}
