//! What `hosts` and `ssh` mean.

use std::path::PathBuf;

use backout_core::ids::HostName;

use super::super::{Loaded, Wanted};
use super::loading::load_with;

fn load(more: &str) -> Loaded {
    let source = format!(
        "app: shop\ntarget: {{script: {{program: ./deploy.sh}}}}\n\
         health: {{http: {{url: 'http://127.0.0.1:8080/health'}}}}\n{more}"
    );
    load_with(&source, Wanted::default(), &[]).unwrap_or_else(|error| panic!("{error}"))
}

fn names(loaded: &Loaded) -> Vec<&str> {
    loaded.settings.hosts.iter().map(HostName::as_str).collect()
}

#[test]
fn without_hosts_it_is_this_machine() {
    for more in ["", "hosts: []\n", "hosts: [localhost]\n", "hosts: [\"::1\"]\n"] {
        assert_eq!(names(&load(more)), ["local"], "{more}");
    }
    let ssh = load("").settings.ssh;
    assert_eq!((ssh.at_once, ssh.jitter_ms, ssh.connect_timeout_ms), (10, 200, 10_000));
    assert_eq!((ssh.config, ssh.folder.as_str(), ssh.confirm_ms), (None, "", None));
    assert_eq!(ssh.docker_socket, None);
}

#[test]
fn containers_run_on_other_hosts_by_a_socket_there() {
    for (written, expected) in [
        ("/run/user/1000/docker.sock", "/run/user/1000/docker.sock"),
        ("unix:///run/docker.sock", "/run/docker.sock"),
        ("~/docker.sock", "docker.sock"),
    ] {
        let source = format!(
            "app: shop\ntarget: compose\nhosts: [web1, local]\nssh: {{docker_socket: '{written}'}}\n"
        );
        let loaded = load_with(&source, Wanted::default(), &[]).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(names(&loaded), ["web1", "local"]);
        assert_eq!(loaded.settings.ssh.docker_socket.as_deref(), Some(expected));
    }
}

#[test]
fn hosts_keep_their_order_and_names_that_ssh_knows() {
    let loaded = load(
        "hosts: [web2, local, deploy@web1.example, \"[2001:db8::1]\"]\n\
         ssh: {at_once: 3, jitter: 0, connect_timeout: 2s, config: ssh_config, folder: ~/shop/, confirm: 90s}\n\
         config: [.env]\n",
    );
    assert_eq!(names(&loaded), ["web2", "local", "deploy@web1.example", "[2001:db8::1]"]);
    let ssh = &loaded.settings.ssh;
    assert_eq!((ssh.at_once, ssh.jitter_ms, ssh.connect_timeout_ms), (3, 0, 2_000));
    assert_eq!(ssh.config, Some(PathBuf::from("ssh_config")));
    assert_eq!((ssh.folder.as_str(), ssh.confirm_ms), ("shop", Some(90_000)));
    let warnings = &loaded.settings.warnings;
    assert!(warnings.iter().any(|words| words.contains("not on `web2`")), "{warnings:?}");
}

#[test]
fn environments_have_hosts_of_their_own() {
    let source = "hosts: [local]\nssh: {at_once: 4}\n\
                  environments: {staging: {}, production: {hosts: [web1], ssh: {confirm: 30s}}}\n";
    let load = |environment| {
        let source = format!(
            "app: shop\ntarget: {{script: {{program: ./d}}}}\n\
             health: {{http: {{url: 'http://127.0.0.1:8080/'}}}}\n{source}"
        );
        let wanted = Wanted { environment: Some(environment), strategy: None };
        load_with(&source, wanted, &[]).unwrap_or_else(|error| panic!("{error}"))
    };
    assert_eq!(names(&load("staging")), ["local"]);
    let production = load("production");
    assert_eq!(names(&production), ["web1"]);
    assert_eq!(
        (production.settings.ssh.at_once, production.settings.ssh.confirm_ms),
        (4, Some(30_000))
    );
}
