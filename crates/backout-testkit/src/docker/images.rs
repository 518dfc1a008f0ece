//! Small images, made without a registry.

use std::path::Path;
use std::process::{Command, Stdio};

use super::Engine;

impl Engine {
    /// Makes an image of busybox and these files that runs `command`.
    ///
    /// # Panics
    /// When busybox is missing or the import fails.
    pub fn image(&self, reference: &str, files: &[(&str, &str)], command: &[&str]) {
        let folder = tempfile::tempdir().expect("a folder");
        for name in ["bin", "tmp", "www"] {
            std::fs::create_dir(folder.path().join(name)).expect("a folder");
        }
        let busybox = ["/bin/busybox", "/usr/bin/busybox"].map(Path::new);
        let busybox = busybox.into_iter().find(|path| path.is_file());
        let busybox = busybox.expect("busybox: run `cargo xtask test` to install it");
        std::fs::copy(busybox, folder.path().join("bin/busybox")).expect("a copy");
        std::os::unix::fs::symlink("busybox", folder.path().join("bin/sh")).expect("a link");
        for (name, text) in files {
            std::fs::write(folder.path().join(name), text).expect("a file");
        }
        let mut tar = Command::new("tar");
        tar.args(["-C", &folder.path().display().to_string(), "-c", "."]).stdout(Stdio::piped());
        let mut tar = tar.spawn().expect("tar");
        let words: Vec<String> = command.iter().map(|word| format!("{word:?}")).collect();
        let mut import = Command::new("docker");
        import.args(["import", "-c", &format!("CMD [{}]", words.join(",")), "-", reference]);
        import.envs(self.env()).stdin(tar.stdout.take().expect("a pipe"));
        let output = import.output().expect("the docker command");
        assert!(tar.wait().expect("tar").success());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// An image whose web server answers `/health` and `/` with this version on port 8080.
    pub fn web(&self, reference: &str, version: &str) {
        let files = [("www/health", version), ("www/index.html", version)];
        self.image(reference, &files, &["/bin/busybox", "httpd", "-f", "-p", "8080", "-h", "/www"]);
    }
}
