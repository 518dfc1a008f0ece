//! Docker Compose v2 as a plugin of the `docker` command. Where the distribution has none, the next release of
//! Debian's runs here too: it is taken from the mirror that this machine uses, checked by Debian's own keyring,
//! and unpacked into the tools folder, so that nothing of the system is mixed.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{Outcome, run};

const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
const RELEASE: &str = "trixie";
const PACKAGE: &str = "docker-compose";
const PLUGIN: &str = "usr/libexec/docker/cli-plugins/docker-compose";

/// Folder of the plugins, as `DOCKER_CONFIG` has them.
fn plugins(tools: &Path) -> PathBuf {
    tools.join("docker/cli-plugins")
}

/// Whether some Compose v2 can be found: ours, or the system's.
pub(super) fn is_there(tools: &Path) -> bool {
    let system = ["/usr/local/lib", "/usr/local/libexec", "/usr/lib", "/usr/libexec"];
    let system = system.map(|folder| Path::new(folder).join("docker/cli-plugins"));
    let plugins = system.into_iter().chain([plugins(tools)]).map(|f| f.join("docker-compose"));
    plugins.filter(|plugin| plugin.is_file()).any(|plugin| {
        let mut command = Command::new(plugin);
        command.args(["docker-cli-plugin-metadata"]);
        run::succeeds(command)
    })
}

pub(super) fn how_to_install() -> String {
    format!(
        "{PACKAGE} 2 of Debian {RELEASE} (unpacked into the tools folder), or docker-compose-plugin of your system"
    )
}

pub(super) fn install(tools: &Path) -> Outcome<()> {
    let failed = |what: &str, e: std::io::Error| format!("failed to {what}: {e}");
    let work = tools.join("docker/unpack");
    let _ = std::fs::remove_dir_all(&work);
    for folder in ["lists/partial", "cache/archives/partial", "root"] {
        std::fs::create_dir_all(work.join(folder)).map_err(|e| failed("make a folder", e))?;
    }
    let mirror = mirror()?;
    let line = format!("deb [signed-by={KEYRING}] {mirror} {RELEASE} main\n");
    std::fs::write(work.join("sources.list"), line).map_err(|e| failed("write a file", e))?;
    apt(&work, &["update", "-qq"])?;
    apt(&work, &["download", "-qq", PACKAGE])?;
    let package = std::fs::read_dir(&work)
        .map_err(|e| failed("read a folder", e))?
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|e| e == "deb"))
        .ok_or_else(|| format!("failed to download {PACKAGE}"))?;
    let mut unpack = Command::new("dpkg");
    unpack.arg("-x").arg(package).arg(work.join("root"));
    run::run(unpack)?;
    let plugins = plugins(tools);
    std::fs::create_dir_all(&plugins).map_err(|e| failed("make a folder", e))?;
    std::fs::copy(work.join("root").join(PLUGIN), plugins.join("docker-compose"))
        .map_err(|e| failed("copy the plugin", e))?;
    std::fs::remove_dir_all(&work).map_err(|e| failed("clean up", e))
}

/// Where this machine takes its own packages from.
fn mirror() -> Outcome<String> {
    let by_hand = "install Docker Compose v2 yourself";
    if !Path::new(KEYRING).exists() {
        return Err(format!("failed to find Debian's keyring; {by_hand}"));
    }
    let mut command = Command::new("apt-get");
    command.args(["indextargets", "--format", "$(REPO_URI)"]);
    command.args(["Created-By: Packages", "Label: Debian"]);
    let said = run::output(command)?;
    let found = said.lines().next().map(|line| line.trim().trim_end_matches('/').to_owned());
    found.filter(|mirror| !mirror.is_empty()).ok_or_else(|| {
        format!("failed to find a mirror of Debian in this machine's sources; {by_hand}")
    })
}

/// With lists and sources of its own: the system's stay as they are.
fn apt(work: &Path, args: &[&str]) -> Outcome<()> {
    let option = |name: &str, place: PathBuf| format!("{name}={}", place.display());
    let options = [
        option("Dir::Etc::sourcelist", work.join("sources.list")),
        option("Dir::Etc::sourceparts", PathBuf::from("/dev/null")),
        option("Dir::State::lists", work.join("lists")),
        option("Dir::Cache", work.join("cache")),
        // The folder is this user's own, so nobody else has to write there.
        "APT::Sandbox::User=".to_owned(),
    ];
    let mut command = Command::new("apt-get");
    command.current_dir(work).args(options.iter().flat_map(|option| ["-o", option.as_str()]));
    command.args(args);
    run::run(command)
}
