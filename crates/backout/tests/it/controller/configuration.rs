//! Which files a controller reads, and what it makes of them when they change.

use serde_json::Value;

use crate::support::{World, Yaml, free_port, wait_until};

#[test]
fn the_last_good_file_stays_in_force() {
    let world = World::new(&Yaml::default());
    let controller = world.controller();
    world.ordered("v1").expect(0);
    world.wait_for_rest();
    world.write("backout.yaml", "app: shop\ntarget: { no");
    wait_until("the complaint", || controller.says("what was read before stays in force"));
    std::thread::sleep(std::time::Duration::from_secs(2));
    assert_eq!(controller.lines("can't be used").len(), 1, "said once");
    // It still looks after what it knows.
    let file = world.root().join("good.yaml");
    std::fs::write(&file, Yaml::default().text(world.listen)).unwrap();
    std::fs::remove_file(world.folder().join("backout.yaml")).unwrap();
    wait_until("the other complaint", || controller.lines("can't be used").len() == 2);
    world.configure(&Yaml::default().bake("2s"));
    wait_until("the new file", || controller.says("the configuration was read again"));
    let status = world.status();
    assert_eq!(status["watched_by"], status["controller"]);
    assert_ne!(status["controller"], Value::Null);
    world.ordered("v2").expect(0);
    world.wait_for_status(2, &["stable"]);
    controller.signal(rustix::process::Signal::HUP);
    wait_until("the signal", || controller.says("the files are read again"));
}

/// One environment of a file may be good and another one not: each is told as it is.
#[test]
fn an_environment_that_never_was_good_is_told_as_such() {
    let environments = |bake: &str| {
        Yaml::default()
            .extra(&format!("environments: {{ production: {{}}, staging: {{ {bake} }} }}"))
    };
    let world = World::new(&environments("bake_time: \"${NOT_SET}\""));
    let controller = world.controller();
    wait_until("the complaint", || {
        controller.says("it never could, so that nobody looks after it")
    });
    let said = &controller.lines("can't be used")[0].to_string();
    assert!(said.contains("staging") && said.contains("NOT_SET"), "{said}");
    assert!(!said.contains("stays in force"), "{said}");
    world.configure(&environments("bake_time: 1s"));
    wait_until("staging", || controller.lines("it is looked after from now on").len() == 2);
    world.configure(&environments("bake_time: nonsense"));
    wait_until("the other complaint", || controller.lines("can't be used").len() == 2);
    let said = &controller.lines("can't be used")[1].to_string();
    assert!(said.contains("stays in force") && !said.contains("never could"), "{said}");
    assert!(!controller.says("it is looked after no more"), "{}", controller.stderr());
}

#[test]
fn a_file_that_was_never_good_ends_it_with_a_usage_error() {
    let world = World::new(&Yaml::default());
    world.write("backout.yaml", "app: shop\ntarget: { no");
    world.run(&["serve", "--headless"]).expect(2).says("backout.yaml");
    world.run(&["serve", "--headless", "-f", "none.yaml"]).expect(2).says("no such file");
    std::fs::create_dir(world.folder().join("empty")).unwrap();
    world.run(&["serve", "--headless", "-f", "empty"]).expect(2).says("there is no backout.yaml");
    world.run(&["serve", "--headless", "-e", "nowhere"]).expect(2);
    world.run(&["serve"]).expect(2).says("--headless");
    world.run(&["status", "-f", "a.yaml", "-f", "b.yaml"]).expect(2).says("only `serve`");
}

#[test]
fn a_folder_of_files_and_several_files() {
    let world = World::new(&Yaml::default());
    let blog = world.root().join("apps/blog");
    std::fs::create_dir_all(&blog).unwrap();
    std::fs::copy(world.folder().join("app"), blog.join("app")).unwrap();
    let text =
        |app: &str| Yaml::default().text(free_port()).replace("app: shop", &format!("app: {app}"));
    std::fs::write(blog.join("backout.yaml"), text("blog")).unwrap();
    let apps = world.root().join("apps");
    let args = [
        "serve",
        "--headless",
        "-f",
        "backout.yaml",
        "-f",
        apps.to_str().unwrap(),
        "--format",
        "json",
    ];
    let controller = world.spawn(&args);
    wait_until("both", || controller.lines("it is looked after from now on").len() == 2);
    let wiki = apps.join("wiki");
    std::fs::create_dir(&wiki).unwrap();
    std::fs::copy(world.folder().join("app"), wiki.join("app")).unwrap();
    std::fs::write(wiki.join("backout.yaml"), text("wiki")).unwrap();
    wait_until("a third one", || controller.lines("it is looked after from now on").len() == 3);
    let file = wiki.join("backout.yaml");
    let order = ["deploy", "--version", "w1", "--yes", "--detach", "-f", file.to_str().unwrap()];
    wait_until("its beat", || world.run(&order).code == Some(0));
    // The same app in a second file is left out, and said.
    let twice = apps.join("zzz");
    std::fs::create_dir(&twice).unwrap();
    std::fs::write(twice.join("backout.yaml"), text("blog")).unwrap();
    wait_until("the complaint", || controller.says("this one is left out"));
    let down = world.run(&["down", "--yes", "-f", file.to_str().unwrap()]);
    assert_eq!(down.code, Some(0), "{down:?}");
    std::fs::remove_dir_all(&wiki).unwrap();
    wait_until("the end of it", || controller.says("it is looked after no more"));
    assert_eq!(controller.lines("can't be used").len(), 0, "{}", controller.stderr());
}
